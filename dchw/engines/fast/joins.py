"""The kernel for a join: one node that waits for many at each firing, as a lockstep array does for its decode units.

It is a run (`dchw.engines.fast.runs`) that takes from any number of links. An item that is not there yet has its source
give it on the way, where the source has nothing else to do; so the node, all its sources and the queues between them
are one recurrence until some source must do something else, or the node gives something.
"""

# mypy: disable-error-code="no-any-return"
from __future__ import annotations

from dchw.compile import inlined, lean_kernel
from dchw.engines.fast.program_tables import ITEM, SLOT, JoinRow, Tables
from dchw.engines.fast.queues import following, place, queue_of, slot_visible, take_item
from dchw.engines.fast.runs import Giver, free_until, give_next, given_on, settle_source, source_of
from dchw.engines.fast.turns import wake_source

_NOT_THERE, _SEVERAL = -1, -2


@lean_kernel
def join_run(t: Tables, at: int, firing: int, quiet: int, finish: int) -> tuple[int, int, int, int, bool, int]:
    """Firings before ``quiet`` that give nothing and take at most one item from each of node ``at``'s in-links.

    Gives what `dchw.engines.fast.runs.take_run` gives; sources that wait for a slot are woken here.
    """
    node, link, join = t.node, t.link, t.join
    begin, end = node[at].join, node[at].join + node[at].joins
    missing = _missing(t, begin, end, at, firing)
    if missing >= 0:
        link[missing].wanted |= ITEM
        return firing, finish, 0, -1, True, 0
    for p in range(begin, end):
        _load(t, join[p], at)
    occupied, constant, begun = node[at].occupied, node[at].constant, firing
    idle, first = 0, -1
    while firing < quiet:
        start = _start(t, begin, end, firing, finish)
        if start < 0:
            break
        first = start if first < 0 else first
        idle += start - finish
        for p in range(begin, end):
            row = join[p]
            if row.next_taker == firing:
                q = queue_of(row)
                row.peak = take_item(t.ring, q, row.taken, t.ring[place(q, row.taken)], start, row.peak)
                row.next_taker = following(t.lists, row.taken_by, row.taken, firing)
                row.taken += 1
        finish = start + (constant if constant else t.lists[occupied + firing])
        firing += 1
    pulled = 0
    for p in range(begin, end):
        pulled += _write_back(t, join[p], firing > begun)
    return firing, finish, idle, first, False, pulled


@inlined
def _missing(t: Tables, begin: int, end: int, at: int, firing: int) -> int:
    """A link whose item a firing needs, that is not there and cannot be given on the way; -1: none."""
    for p in range(begin, end):
        x = t.join[p].link
        row = t.link[x]
        if row.next_taker == firing and row.taken == row.given:
            quiet = -1 if row.source == at else free_until(t, row.source, x)
            if row.next_giver >= quiet:
                return x
    return -1


@inlined
def _load(t: Tables, row: JoinRow, at: int) -> None:
    """The state of a link and its source."""
    link = t.link[row.link]
    row.ring, row.mask, row.depth, row.initial, row.hold = link.ring, link.mask, link.depth, link.initial, link.hold
    row.taken_by, row.taken, row.given, row.next_taker, row.peak = (
        link.taken_by, link.taken, link.given, link.next_taker, link.peak
    )  # fmt: skip
    source = source_of(t, row.link, at, at)
    _set_giver(row, source)


@inlined
def _set_giver(row: JoinRow, g: Giver) -> None:
    row.quiet, row.occupied, row.constant, row.by = g.quiet, g.occupied, g.constant, g.by
    row.firing, row.giver, row.free, row.stall = g.firing, g.giver, g.free, g.stall


@inlined
def _giver(row: JoinRow) -> Giver:
    return Giver(row.quiet, row.occupied, row.constant, row.by, row.firing, row.giver, row.free, row.stall)


@inlined
def _start(t: Tables, begin: int, end: int, firing: int, finish: int) -> int:
    """When a firing starts, its items given where they are not there yet; negative where one cannot be."""
    start = finish
    for p in range(begin, end):
        row = t.join[p]
        if row.next_taker != firing:
            continue
        if following(t.lists, row.taken_by, row.taken, firing) == firing:
            return _SEVERAL
        q = queue_of(row)
        if row.taken == row.given:
            source = _giver(row)
            after = given_on(t.lists, source, row.given)
            if after == source.giver:
                return _NOT_THERE
            source = give_next(t.lists, source, after, slot_visible(t.ring, q, row.given))
            t.ring[place(q, row.given)] = source.free - 1 + q.hold
            row.given += 1
            _set_giver(row, source)
        start = max(start, t.ring[place(q, row.taken)])
    return start


@inlined
def _write_back(t: Tables, row: JoinRow, fired: bool) -> int:
    """Bring a link and its source up to date; firings of the source that were done."""
    x = row.link
    link = t.link[x]
    link.taken, link.next_taker, link.peak = row.taken, row.next_taker, row.peak
    pulled = 0
    if row.given > link.given:
        pulled = settle_source(t, x, row.given, _giver(row))
    if fired and link.wanted & SLOT:
        wake_source(t.run, t.node, t.link, t.arbiter, x)
    return pulled
