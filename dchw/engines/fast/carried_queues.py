"""Queues of a run in windows, between one set of tables and the next.

Numbers of items are those of the tables. An unbounded queue keeps them from window to window, because how full it was
may be looked back at for long; those of a queue with a limit begin anew a few queue lengths before the next item, so
that its ring stays small.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from dchw.compile import kernel
from dchw.engines.fast.flat_lists import Pieces, Row
from dchw.engines.fast.program_tables import NEVER_FIRES, LinkRow, Tables
from dchw.engines.named_rows import Ints, Rows, zeros
from dchw.engines.result import LinkFill
from dchw.program.check import counted, plain
from dchw.program.program import UNBOUNDED, Link

Wanted = tuple[Pieces, int, int]
"""What `FlatLists.joined` makes a list of."""


class QueueRow:
    """A queue; its ring is part of that of the tables before, as `LinkRow` says, with a mask of -1 before there are
    any."""

    initial: int = 0
    given: int = 0
    taken: int = 0
    peak: int = 0
    shift: int = 0
    """What numbers of items in the tables are behind those of the whole program,"""
    shifted: int = 0
    """and what they are behind those of the tables before."""
    ring: int = 0
    mask: int = 0


class CarriedQueues:
    """All queues of a run, by link."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}
        self._rows: Rows[QueueRow] = zeros(QueueRow, 0)
        # items that are left to give, and to take
        self._given_by: list[Pieces] = []
        self._taken_by: list[Pieces] = []
        self._ring: Ints = np.zeros(0, np.int64)

    def append(self, links: Sequence[Link]) -> None:
        """Take a window's items in."""
        new = [link for link in links if link.name not in self._numbers]
        known = len(self._numbers)
        rows = zeros(QueueRow, known + len(new))
        rows[:known] = self._rows  # type: ignore[index]
        for number, link in enumerate(new, known):
            self._numbers[link.name] = number
            rows[number].initial = rows[number].given = link.initial
            rows[number].mask = -1
            self._given_by.append(Pieces())
            self._taken_by.append(Pieces())
        self._rows = rows
        read: dict[int, Row | range] = {}  # many links share a list
        for link in links:
            number = self._numbers[link.name]
            for by, mine in ((link.given_by, self._given_by), (link.taken_by, self._taken_by)):
                if by is not None and len(by):
                    if id(by) not in read:
                        read[id(by)] = counted(plain(by, f"link {link.name!r}", "items moved"))
                    mine[number].append(read[id(by)])

    def waits(self, name: str) -> bool:
        """Whether an item of a link was given that no firing takes as far as is known."""
        number = self._numbers.get(name)
        if number is None:
            return False
        return bool(self._rows[number].given > self._rows[number].taken + self._taken_by[number].size)

    def wanted(self, links: Sequence[Link], firing: Mapping[str, tuple[int, int]]) -> Iterator[Wanted]:
        """Lists of what is left, link by link; ``firing``: by node firings done, and those that are left."""
        for link in links:
            number = self._numbers[link.name]
            if link.source in firing:
                yield self._given_by[number], *firing[link.source]
            if link.target in firing:
                yield self._taken_by[number], *firing[link.target]

    def left(
        self, links: Sequence[Link], firing: Mapping[str, tuple[int, int]], rows: Iterator[Row | None]
    ) -> tuple[Link, ...]:
        """What is left of the links, with ``rows`` made of what is `wanted`. Items that were given count as initial
        ones, so that lists begin behind them."""
        items = self._items(links, firing)
        return tuple(
            Link(
                name=link.name,
                source=link.source,
                target=link.target,
                items=count,
                depth=link.depth,
                latency=link.latency,
                initial=given,
                given_by=self._joined(self._given_by, link, firing.get(link.source), rows),
                taken_by=self._joined(self._taken_by, link, firing.get(link.target), rows),
            )
            for link, count, given in zip(links, items, self._of(links)["given"].tolist(), strict=True)
        )

    def _joined(
        self, mine: list[Pieces], link: Link, firing: tuple[int, int] | None, rows: Iterator[Row | None]
    ) -> Row | None:
        if firing is None:
            return None
        row, number = next(rows), self._numbers[link.name]
        mine[number] = mine[number].at(row, firing[0])
        return row

    def _items(self, links: Sequence[Link], firing: Mapping[str, tuple[int, int]]) -> list[int]:
        numbers, rows = [self._numbers[link.name] for link in links], self._of(links)
        given, taken = rows["given"].tolist(), rows["taken"].tolist()
        items = []
        for link, number, gone, come in zip(links, numbers, given, taken, strict=True):
            to_give, to_take = self._given_by[number].size, self._taken_by[number].size
            count = max(gone + to_give, come + to_take)
            if link.depth != UNBOUNDED:
                count = max(2 * link.depth, to_take)
            elif link.source not in firing:  # as many as the channel has been asked for
                channel = [x.name for x in links if x.source == link.source].index(link.name)
                asked = self._numbers[[x.name for x in links if x.target == link.source][channel]]
                row = self._rows[asked]
                count = max(count, int(row.given + row.shift) + self._given_by[asked].size)
            items.append(count)
        return items

    def most_given(self, links: Sequence[Link]) -> int:
        """Items given of the link that was given most."""
        return int(self._of(links)["given"].max(initial=0))

    def without_slot(self, links: Sequence[Link]) -> list[int]:
        """Initial items, which hold no slot, of each link."""
        initial: list[int] = self._of(links)["initial"].tolist()
        return initial

    def set(self, links: Sequence[Link], tables: Tables, surplus: Mapping[str, int]) -> None:
        """Set tables of what is left, in their initial state, to where the queues were."""
        carried, rows = self._of(links), tables.link
        for name in ("taken", "peak"):
            rows[name][:] = carried[name]
        rows["surplus"][:] = [surplus.get(link.name, 0) for link in links]
        rows["taken_by"][:] -= np.where(rows["taken_by"] >= 0, carried["taken"], 0)
        for by, mover in (("given_by", "next_giver"), ("taken_by", "next_taker")):
            nothing = [(listed := getattr(link, by)) is not None and not listed.size for link in links]
            rows[mover][nothing] = int(NEVER_FIRES)
        carry_rings(carried, self._ring, rows, tables.ring)

    def settle(self, links: Sequence[Link], tables: Tables, copies: dict[tuple[int, int], Row]) -> None:
        """Carry over what the tables came to; ``copies``: those made of what is left of lists."""
        carried, rows = self._of(links), tables.link
        given, taken, depth = rows["given"], rows["taken"], rows["depth"]
        numbers = [self._numbers[link.name] for link in links]
        for mine, moved in ((self._given_by, given - carried["given"]), (self._taken_by, taken - carried["taken"])):
            for number, count in zip(numbers, moved.tolist(), strict=True):
                if mine[number].parts:
                    mine[number] = mine[number].behind(count, copies)
        # two queue lengths before the next item taken are looked back at; the queues of a fork stay alike
        unmoved = (depth == UNBOUNDED) | (taken < carried["initial"])
        back = np.where(unmoved, 0, np.maximum(given - 3 * depth - 1, 0))
        for name, values in (
            ("given", given - back),
            ("taken", taken - back),
            ("initial", np.maximum(carried["initial"] - back, 0)),
            ("shift", carried["shift"] + back),
            ("shifted", back),
            *((name, rows[name]) for name in ("peak", "ring", "mask")),
        ):
            self._rows[name][numbers] = values
        self._ring = tables.ring

    def _of(self, links: Sequence[Link]) -> Rows[QueueRow]:
        return self._rows[[self._numbers[link.name] for link in links]]  # type: ignore[call-overload, no-any-return]

    def passed(self, links: Sequence[Link]) -> bool:
        """Whether what was given to these links was taken."""
        rows = self._of(links)
        return bool((rows["given"] == rows["taken"]).all())

    def fills(self, links: Sequence[Link], surplus: Mapping[str, int]) -> dict[str, LinkFill]:
        """How full links were, and what passed, by name."""
        rows = self._of(links)
        items = (rows["given"] + rows["shift"]).tolist()
        found = {
            link.name: LinkFill(peak=peak, items=count - surplus.get(link.name, 0))
            for link, peak, count in zip(links, rows["peak"].tolist(), items, strict=True)
        }
        return {name: fill for name, fill in found.items() if fill.items}


@kernel
def carry_rings(carried: Rows[QueueRow], old: Ints, link: Rows[LinkRow], new: Ints) -> None:
    """Bring the latest items of every queue from the ring before to the one now, as far as there is room."""
    for number in range(carried.shape[0]):
        row, to = carried[number], link[number]
        for item in range(max(row.given - min(row.mask, to.mask) - 1, 0), row.given):
            new[to.ring + (item & to.mask)] = old[row.ring + ((item + row.shifted) & row.mask)]
