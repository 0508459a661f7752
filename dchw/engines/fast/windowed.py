"""A run in windows: tables of a few pieces of a program at a time, and what is carried from one set to the next.

A piece is laid out as if it were a program (`dchw.engines.fast.flatten`), with the firings and items that are left of
the pieces before; then clocks, queues, arbiters and the memory are set to where they were. Nothing of that can show,
because the order in which nodes are evaluated does not (`dchw.engines.fast`), and because the kernels stop (``MORE``)
before anything is decided while a node has come to its last known firing and `Window.coming` has more of it to come:
what it would do is not known, and a decision could depend on it.

Firings of a set of tables count from the first that is left, items of a queue with a limit from a few queue lengths
before the next; unbounded queues keep their numbers, because how full they were may be looked back at for long.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from dchw.engines.fast import firings
from dchw.engines.fast.flatten import flatten, kinds
from dchw.engines.fast.program_tables import NEVER_FIRES, Tables
from dchw.engines.memory import MemoryState, memory_state, memory_times
from dchw.engines.result import ArbiterTimes, IntArray, LinkFill, NodeTimes, Timing
from dchw.program.check import Facts, check_piece
from dchw.program.program import UNBOUNDED, FiringNode, Link, Program
from dchw.program.windows import Window, Windowed
from dchw.quantities import SimulationError

Row = npt.NDArray[np.int32]
_NONE = np.empty(0, np.int32)


def run_windows(
    program: Windowed, *, calls: int, on_progress: Callable[[int, int], None] | None = None
) -> Timing | None:
    """Run a program window by window; None where it came to a standstill with firings left.

    ``calls``: firings between two calls of ``on_progress``, which is told firings done and, about, in all.
    """
    run = _CarriedRun(program)
    windows = program.windows()
    run.append(next(windows))
    while True:
        tables = run.tables()
        while (state := firings.advance(tables, run.memory, calls)) == firings.PAUSED:
            if on_progress is not None:
                on_progress(int(tables.run.done), max(run.known, program.expected))
        run.settle(tables)
        if state != firings.MORE:
            break
        run.append_until_wanted(windows)
    if not run.finished():
        return None
    timing = run.timing()
    if on_progress is not None:
        on_progress(run.known, run.known)
    return timing


@dataclass(eq=False)
class _Node:
    """A firing node so far; counters of `dchw.engines.fast.program_tables.NodeRow` that are carried."""

    occupied: Row = field(default_factory=lambda: _NONE)
    """Of the firings that are left, from number ``begun`` on."""
    layer: Row = field(default_factory=lambda: _NONE)
    begun: int = 0
    finish: int = 0
    started: int = 0
    start: int = 0
    waited_for: int = -1
    by_layer: IntArray = field(default_factory=lambda: np.zeros((0, 3), np.int64))

    @property
    def known(self) -> int:
        """Firings of the pieces so far."""
        return self.begun + self.occupied.size


@dataclass(eq=False)
class _CarriedLink:
    """A link so far. Lists are of the items that are left to give or take; numbers of items are those of the tables."""

    given_by: Row = field(default_factory=lambda: _NONE)
    taken_by: Row = field(default_factory=lambda: _NONE)
    initial: int = 0
    given: int = 0
    taken: int = 0
    peak: int = 0
    shift: int = 0
    """What numbers of items in the tables are behind those of the whole program."""
    ring: IntArray = field(default_factory=lambda: np.zeros(1, np.int64))


class _Parts:
    """Slices and sums of lists, the same object for the same ones: queues of a fork share their lists."""

    def __init__(self) -> None:
        self._made: dict[tuple[Any, ...], tuple[Any, Row]] = {}

    def _once(self, key: tuple[Any, ...], keep: Any, make: Callable[[], Row]) -> Row:
        if key not in self._made:
            self._made[key] = keep, make()  # with what it was made of, so that nothing else gets its id
        return self._made[key][1]

    def behind(self, row: Row, count: int) -> Row:
        """All but the first ``count``."""
        return row if count == 0 else self._once((id(row), count, "behind"), row, lambda: row[count:].copy())

    def joined(self, one: Row, other: Row) -> Row:
        """One behind the other."""
        if not one.size or not other.size:
            return other if not one.size else one
        return self._once((id(one), id(other), "joined"), (one, other), lambda: np.concatenate([one, other]))

    def less(self, row: Row, amount: int) -> Row:
        """A number subtracted from each."""
        return row if amount == 0 else self._once((id(row), amount, "less"), row, lambda: row - np.int32(amount))


class _CarriedRun:
    """A run between two sets of tables."""

    def __init__(self, program: Windowed) -> None:
        self._program = program
        self._layers = len(program.layers)
        self._nodes: dict[str, _Node] = {}
        self._queues: dict[str, _CarriedLink] = {}
        self._arbiters: dict[str, Any] = {}
        self._ports: IntArray | None = None
        self._memory: MemoryState | None = None
        self._carried: dict[str, int] = {}
        self._room: Row | None = None
        self._first = np.full(self._layers, 2**62)
        self._last = np.full(self._layers, -1)
        self.known = 0
        """Firings of all pieces so far."""

    @property
    def memory(self) -> MemoryState:
        """The memory of the run, which the pieces share."""
        return memory_state(self._piece) if self._memory is None else self._memory

    def append(self, window: Window) -> None:
        """Take a window in."""
        piece, parts = window.piece, _Parts()
        for node in piece.nodes:
            if isinstance(node, FiringNode):
                self._append_firings(node, parts)
        for link in piece.links:
            queue = self._queues.get(link.name)
            if queue is None:
                queue = self._queues[link.name] = _CarriedLink(initial=link.initial, given=link.initial)
                queue.ring = np.zeros(1 << max(link.initial - 1, 0).bit_length(), np.int64)
            if link.given_by is not None:
                queue.given_by = parts.joined(queue.given_by, link.given_by)
            if link.taken_by is not None:
                queue.taken_by = parts.joined(queue.taken_by, link.taken_by)
        if self._memory is None and piece.memory is not None:
            self._memory = memory_state(piece)
        # the lists are held here from now on
        nodes = tuple(
            replace(node, occupied=_NONE, layer=_NONE) if isinstance(node, FiringNode) else node for node in piece.nodes
        )
        links = tuple(replace(link, given_by=None, taken_by=None) for link in piece.links)
        self._piece = replace(piece, nodes=nodes, links=links)
        self._coming, self._surplus = window.coming, window.surplus

    def append_until_wanted(self, windows: Iterator[Window]) -> None:
        """Take windows in until no node that can go on has come to its last known firing, or none is left."""
        while self._coming:
            said = {
                name: (link, self._nodes[name].known if name in self._nodes else 0)
                for name, link in self._coming.items()
                if link is not None
            }
            window = next(windows)
            _check_promises(said, window)
            self.append(window)
            if not self._wanted():
                return

    def _wanted(self) -> bool:
        for name, link in self._coming.items():
            node = self._nodes.get(name)
            if node is None or node.occupied.size == 0:
                if link is None:
                    return True
                queue = self._queues.get(link)
                if queue is not None and queue.given > queue.taken + queue.taken_by.size:
                    return True
        return False

    def _append_firings(self, node: FiringNode, parts: _Parts) -> None:
        mine = self._nodes.get(node.name)
        if mine is None:
            mine = self._nodes[node.name] = _Node(by_layer=np.zeros((self._layers, 3), np.int64))
        begin = 0
        while begin < node.layer.size:
            here = int(node.layer[begin])
            end = int(np.searchsorted(node.layer, here, side="right")) if here != node.layer[-1] else node.layer.size
            mine.by_layer[here, 0] += node.occupied[begin:end].sum(dtype=np.int64)
            begin = end
        mine.occupied = parts.joined(mine.occupied, node.occupied)
        mine.layer = parts.joined(mine.layer, node.layer)
        self.known += node.occupied.size

    def tables(self) -> Tables:
        """What is left of the pieces so far as tables, in the state of the run."""
        piece, parts = self._piece, _Parts()
        nodes = tuple(
            replace(node, occupied=self._nodes[node.name].occupied, layer=self._nodes[node.name].layer)
            if isinstance(node, FiringNode)
            else node
            for node in piece.nodes
        )
        firing = {node.name for node in nodes if isinstance(node, FiringNode)}
        links = tuple(self._link(link, firing, parts) for link in piece.links)
        left = replace(piece, nodes=nodes, links=links)
        self._facts: Facts = check_piece(left)
        without_slot = [self._queues[link.name].initial for link in piece.links]
        tables = flatten(left, self._facts, room=self._room, without_slot=without_slot)
        if self._room is None or tables.lists.size > self._room.size:
            self._room = tables.lists
        self._set(left, tables)
        return tables

    def _link(self, link: Link, firing: set[str], parts: _Parts) -> Link:
        """What is left of a link; items that were given count as initial ones, so that lists begin behind them."""
        queue = self._queues[link.name]
        items = max(queue.given + queue.given_by.size, queue.taken + queue.taken_by.size)
        if link.source not in firing:  # as many as the channel has been asked for
            channel = [x.name for x in self._piece.links if x.source == link.source].index(link.name)
            asked = self._queues[[x.name for x in self._piece.links if x.target == link.source][channel]]
            items = max(items, asked.given + asked.shift + asked.given_by.size)
        if link.depth != UNBOUNDED:
            items = max(2 * link.depth, queue.taken_by.size)
        given_by = taken_by = None
        if link.source in firing:
            given_by = parts.less(queue.given_by, self._nodes[link.source].begun)
        if link.target in firing:
            taken_by = parts.less(queue.taken_by, self._nodes[link.target].begun)
        return replace(link, items=items, initial=queue.given, given_by=given_by, taken_by=taken_by)

    def _set(self, left: Program, tables: Tables) -> None:
        """Set tables in their initial state to the state of the run."""
        firing, arbiters = kinds(left)
        numbers = {link.name: number for number, link in enumerate(left.links)}
        for number, item in enumerate(firing):
            node, row = self._nodes[item.name], tables.node[number]
            row.finish, row.started, row.start, row.waited_for = node.finish, node.started, node.start, node.waited_for
            awaits = self._coming.get(item.name)
            row.coming = item.name in self._coming and (awaits is None or awaits in numbers)
            row.awaits = -1 if awaits is None or awaits not in numbers else numbers[awaits]
        self._set_queues(left.links, tables)
        for number, arbiter in enumerate(arbiters):
            for name, value in self._arbiters.get(arbiter.name, {}).items():
                setattr(tables.arbiter[number], name, value)
        if self._ports is not None:
            tables.port_free[:] = self._ports
        for name, value in self._carried.items():
            setattr(tables.run, name, value)
        tables.run.unfinished = bool(self._coming)
        tables.run.exhausted = int((tables.node["count"] == 0).sum())

    def _set_queues(self, links: tuple[Link, ...], tables: Tables) -> None:
        queues, rows = [self._queues[link.name] for link in links], tables.link
        taken = np.array([queue.taken for queue in queues], np.int64)
        rows["taken"][:] = taken
        rows["peak"][:] = [queue.peak for queue in queues]
        rows["surplus"][:] = [self._surplus.get(link.name, 0) for link in links]
        rows["taken_by"][:] -= np.where(rows["taken_by"] >= 0, taken, 0)
        for by, mover in (("given_by", "next_giver"), ("taken_by", "next_taker")):
            nothing = [(listed := getattr(link, by)) is not None and not listed.size for link in links]
            rows[mover][nothing] = int(NEVER_FIRES)
        for queue, place, mask in zip(queues, rows["ring"].tolist(), rows["mask"].tolist(), strict=True):
            items = np.arange(max(queue.given - min(queue.ring.size, mask + 1), 0), queue.given)
            tables.ring[place + (items & mask)] = queue.ring[items & (queue.ring.size - 1)]

    def settle(self, tables: Tables) -> None:
        """Carry over what the tables came to."""
        firing, arbiters = kinds(self._piece)
        parts, at = _Parts(), 0
        for number, item in enumerate(firing):
            node, row = self._nodes[item.name], tables.node[number]
            spans = self._facts.nodes[item.name].spans
            self._settle_spans(node, [layer for _, layer, _ in spans], tables, slice(at, at + len(spans)))
            at += len(spans)
            done = int(row.next)
            node.occupied, node.layer = parts.behind(node.occupied, done), parts.behind(node.layer, done)
            node.begun += done
            node.finish, node.started, node.start, node.waited_for = (
                int(row.finish), int(row.started), int(row.start), int(row.waited_for)
            )  # fmt: skip
        figures = [tables.link[name].tolist() for name in ("given", "taken", "peak", "ring", "mask")]
        for link, given, taken, peak, place, mask in zip(self._piece.links, *figures, strict=True):
            queue = self._queues[link.name]
            queue.peak, ring = peak, tables.ring[place : place + mask + 1]
            self._settle_queue(queue, link, given, taken, ring, parts)
        for number, arbiter in enumerate(arbiters):
            chosen = tables.arbiter[number]
            self._arbiters[arbiter.name] = {name: int(getattr(chosen, name)) for name in ("last", "grants", "waited")}
        self._ports = tables.port_free
        names = ("done", "latest_answer", "in_runs", "with_forks")
        self._carried = {name: int(getattr(tables.run, name)) for name in names}

    def _settle_spans(self, node: _Node, layer: list[int], tables: Tables, at: slice) -> None:
        start, finish = tables.span["start"][at], tables.span["finish"][at]
        begun = start >= 0
        np.minimum.at(self._first, np.array(layer, np.int64)[begun], start[begun])
        np.maximum.at(self._last, np.array(layer, np.int64)[finish > 0], finish[finish > 0])
        np.add.at(node.by_layer[:, 1], layer, tables.span["stall"][at])
        np.add.at(node.by_layer[:, 2], layer, tables.span["idle"][at])

    @staticmethod
    def _settle_queue(queue: _CarriedLink, link: Link, given: int, taken: int, ring: IntArray, parts: _Parts) -> None:
        queue.given_by = parts.behind(queue.given_by, given - queue.given if queue.given_by.size else 0)
        queue.taken_by = parts.behind(queue.taken_by, taken - queue.taken if queue.taken_by.size else 0)
        queue.ring = ring.copy()
        # two queue lengths before the next item taken are looked back at; the queues of a fork stay alike
        back = 0 if link.depth == UNBOUNDED or taken < queue.initial else max(given - 3 * link.depth - 1, 0)
        if back:
            kept = np.arange(max(given - queue.ring.size, back), given)
            moved = np.zeros_like(queue.ring)
            moved[(kept - back) & (queue.ring.size - 1)] = queue.ring[kept & (queue.ring.size - 1)]
            queue.ring = moved
        queue.given, queue.taken, queue.shift = given - back, taken - back, queue.shift + back
        queue.initial = max(queue.initial - back, 0)

    def finished(self) -> bool:
        """Whether every firing is done and every item is where it belongs."""
        memory = self._memory
        answered = memory is None or bool((memory.port["answered"] == memory.port["count"]).all())
        passed = [self._queues[link.name] for link in self._piece.links if self._shared(link.target)]
        return (
            answered
            and all(node.occupied.size == 0 for node in self._nodes.values())
            and all(queue.given == queue.taken for queue in passed)
        )

    def _shared(self, name: str) -> bool:
        return not isinstance(self._piece.node(name), FiringNode)

    def timing(self) -> Timing:
        """The outcome of the whole run."""
        piece = self._piece
        firing, arbiters = kinds(piece)
        cycles = max(self._carried["latest_answer"], *(node.finish for node in self._nodes.values()))
        nodes = {}
        for item in firing:
            node = self._nodes[item.name]
            if node.known:
                busy, stall, idle = (int(total) for total in node.by_layer.sum(axis=0))
                nodes[item.name] = NodeTimes(
                    busy=busy,
                    stall=stall,
                    idle=idle + cycles - node.finish,
                    firings=node.known,
                    by_layer=node.by_layer,
                )
        links = {}
        for link in piece.links:
            queue = self._queues[link.name]
            if items := queue.given + queue.shift - self._surplus.get(link.name, 0):
                links[link.name] = LinkFill(peak=queue.peak, items=items)
        return Timing(
            cycles=cycles,
            nodes=nodes,
            links=links,
            layer_start=np.where(self._last < 0, -1, self._first),
            layer_finish=self._last,
            arbiters={
                item.name: ArbiterTimes(
                    grants=self._arbiters[item.name]["grants"], waited=self._arbiters[item.name]["waited"]
                )
                for item in arbiters
            },
            memory=None if self._memory is None else memory_times(piece, self._memory, cycles),
            program=self._program,
        )


def _check_promises(said: dict[str, tuple[str, int]], window: Window) -> None:
    """Check that what fires again takes an item of the link that was named for it; ``said`` gives that link and the
    number of the firing by node."""
    links = {link.name: link for link in window.piece.links}
    for node in window.piece.nodes:
        if isinstance(node, FiringNode) and node.occupied.size and node.name in said:
            name, firing = said[node.name]
            taken_by = links[name].taken_by if name in links else None
            if taken_by is None or not taken_by.size or int(taken_by[0]) != firing:
                raise SimulationError(
                    f"window: expected firing {firing} of node {node.name!r} to take an item of link {name!r}, as was "
                    "said before; got none; this is a fault of the simulator, please report it"
                )
