"""The error of T9: who waits for whom, from nothing but how far every node and link got."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from dchw.program.program import UNBOUNDED, FiringNode, IntArray, Link, Program
from dchw.quantities import SimulationError

SHOWN = 8
"""Blocked nodes that the message names; the rest is counted."""


def deadlock_error(
    program: Program,
    finished: dict[str, int],
    started: dict[str, int],
    given: Sequence[int],
    taken: Sequence[int],
) -> SimulationError:
    """The error to raise when nothing can go on.

    ``finished`` and ``started``: firings of each firing node. ``given`` and ``taken``: items of each link, initial
    ones included, in link order.
    """
    blocked = list(_blocked(program, finished, started, given, taken))
    done = sum(finished.values())
    total = sum(len(node.occupied) for node in program.nodes if isinstance(node, FiringNode))
    more = f"; and {len(blocked) - SHOWN} more" if len(blocked) > SHOWN else ""
    return SimulationError(
        f"run: deadlock after {done} of {total} firings: {'; '.join(blocked[:SHOWN])}{more}; "
        "check queue depths, credits and the order in which chunks are asked for"
    )


def _blocked(
    program: Program, finished: dict[str, int], started: dict[str, int], given: Sequence[int], taken: Sequence[int]
) -> Iterator[str]:
    for node in program.nodes:
        into, out_of = program.links_into(node.name), program.links_out_of(node.name)
        if not isinstance(node, FiringNode):
            for channel, (one, other) in enumerate(zip(into, out_of, strict=True)):
                if taken[one] == program.links[one].items:
                    continue
                if given[one] == taken[one]:
                    what = _no_item(program.links[one], taken[one], given[one], taken[one])
                elif not _room(program.links[other], given[other], taken[other]):
                    what = _no_slot(program.links[other], given[other], taken[other])
                else:
                    what = "does not go on"
                yield f"{node.name!r} channel {channel} {what}"
            continue
        firing = finished[node.name]
        if firing == len(node.occupied):
            continue
        for index in into if started[node.name] == firing else out_of:
            link = program.links[index]
            if started[node.name] == firing:
                last = taken[index] + _items(link.taken_by, firing, taken[index], 0)
                if last > given[index]:
                    yield f"{node.name!r} firing {firing} {_no_item(link, given[index], given[index], taken[index])}"
                    break
            else:
                last = given[index] + _items(link.given_by, firing, given[index], link.initial)
                if last > given[index] and not _room(link, last - 1, taken[index]):
                    yield f"{node.name!r} firing {firing} {_no_slot(link, given[index], taken[index])}"
                    break


def _items(by: IntArray | None, firing: int, at: int, offset: int) -> int:
    # items that a firing moves on a link of which ``at`` items have moved
    if by is None:
        return 1
    count = 0
    while at - offset + count < len(by) and by[at - offset + count] == firing:
        count += 1
    return count


def _held(link: Link, given: int, taken: int) -> int:
    return given - max(taken, link.initial)


def _room(link: Link, last: int, taken: int) -> bool:
    # whether item ``last`` of the link can get its slot
    return link.depth == UNBOUNDED or last - max(taken, link.initial) < link.depth


def _no_item(link: Link, item: int, given: int, taken: int) -> str:
    return f"waits for item {item} of {link.name!r} from {link.source!r} ({_fill(link, given, taken)})"


def _no_slot(link: Link, given: int, taken: int) -> str:
    return f"is held by {link.name!r} to {link.target!r} ({_fill(link, given, taken)})"


def _fill(link: Link, given: int, taken: int) -> str:
    if link.depth == UNBOUNDED:
        return f"{given - taken} items waiting"
    return f"{_held(link, given, taken)} of {link.depth} slots held"
