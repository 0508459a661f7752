"""The kernel for a join: one node that waits for many at each firing, as a lockstep array does for its decode units.

It is a run (`dchw.engines.fast.runs`) that takes from any number of links. An item that is not there yet has its source
give it on the way, where the source has nothing else to do; so the node, all its sources and the queues between them
are one recurrence until some source must do something else, or the node gives something.

Where nearly all links are *even* (an item a firing, given by one firing of the source each, through full queues of one
depth), a block of firings is done at once, these links side by side (`_block`).
"""

# mypy: disable-error-code="no-any-return"
from __future__ import annotations

from dchw.compile import inlined, lean_kernel
from dchw.engines.fast.program_tables import ITEM, SLOT, Ints32, JoinRow, Tables
from dchw.engines.fast.queues import following, place, queue_of, slot_visible, take_item
from dchw.engines.fast.room import (
    BEGIN,
    BLOCK,
    FEWEST,
    FREE,
    HANDED,
    IDLE,
    SLOT_OF,
    WORK,
    one_each,
    read_ahead,
    write_work,
)
from dchw.engines.fast.runs import Giver, free_until, give_next, given_on, settle_source, source_of
from dchw.engines.fast.turns import wake_source
from dchw.engines.named_rows import Ints

_NOT_THERE, _SEVERAL = -1, -2
_MOST_ODD, _TRIES = 4, 4
"""Links that are not even, of a block at most; blocks that come to nothing, after which no more are tried in a run."""
_SLOT, _STALL, _START, _LINK = BEGIN, IDLE, SLOT_OF, HANDED
"""Rows of `dchw.engines.fast.room` that hold something else here. A column per even link: when slots are visible to its
source, and cycles that this stalled. A column per firing: its start. Even links from the first column on, others from
the last back: where they are in ``join``."""


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
    begun, idle, first, failed = firing, 0, -1, 0
    while firing < quiet:
        count, even, odd = _lay_out_even(t, begin, end, firing, quiet) if failed < _TRIES else (0, 0, 0)
        if count > 0:
            done, start, finish, waited = _block(t, at, firing, count, even, odd, finish)
        else:
            done, start, finish, waited = _one(t, at, firing, finish)
            failed += 1
        if done == 0:
            break
        first = start if first < 0 else first
        firing, idle = firing + done, idle + waited
    pulled = 0
    for p in range(begin, end):
        pulled += _write_back(t, join[p], firing > begun)
    return firing, finish, idle, first, False, pulled


@inlined
def _one(t: Tables, at: int, firing: int, finish: int) -> tuple[int, int, int, int]:
    """One firing, if all it needs can be had: 1 or 0, its start and finish, and how long it waited."""
    node, join = t.node[at], t.join
    begin, end = node.join, node.join + node.joins
    start = finish
    for p in range(begin, end):
        visible = _visible(t.lists, t.ring, join[p], firing)
        if visible < 0:
            return 0, -1, finish, 0
        start = max(start, visible)
    for p in range(begin, end):
        _take(t.lists, t.ring, join[p], firing, start)
    return 1, start, start + (node.constant if node.constant else t.lists[node.occupied + firing]), start - finish


@inlined
def _lay_out_even(t: Tables, begin: int, end: int, firing: int, quiet: int) -> tuple[int, int, int]:
    """Lay out even links side by side: firings of a block from one on (0: none), even links, and others."""
    join, room, lists = t.join, t.room, t.lists
    columns, kind = room.shape[1], queue_of(join[begin])
    even, odd, count = 0, 0, min(BLOCK, quiet - firing)
    for p in range(begin, end):
        row = join[p]
        if even == 0:
            kind = queue_of(row)
        most = min(count, row.quiet - row.giver)
        if most < FEWEST or not _even(lists, row, kind.depth, kind.hold, firing, most):
            odd += 1
            if odd > _MOST_ODD or count < FEWEST:
                return 0, 0, 0
            room[_LINK, columns - odd] = p
            count = min(count, _known_until(lists, row, firing + count) - firing)
            continue
        count = most
        write_work(lists, room, even, row.occupied, row.constant, row.giver, count)
        for k in range(min(kind.depth, count)):
            room[_SLOT + k, even] = slot_visible(t.ring, queue_of(row), row.given + k)
        room[FREE, even], room[_STALL, even], room[_LINK, even] = row.free, 0, p
        even += 1
    return count if even > odd else 0, even, odd


@inlined
def _known_until(lists: Ints32, row: JoinRow, limit: int) -> int:
    """The firing, up to a limit, that takes the first item which is not there and cannot be given on the way."""
    items, taker, taken = row.given - row.taken + max(row.quiet - row.giver, 0), row.next_taker, 0
    while taken < items and taker < limit:
        taker = following(lists, row.taken_by, row.taken + taken, taker)
        taken += 1
    return min(taker, limit)


@inlined
def _even(lists: Ints32, row: JoinRow, depth: int, hold: int, firing: int, count: int) -> bool:
    """Whether ``count`` firings take one item of a link each, given by one firing each, through such a queue, full."""
    if row.next_taker != firing or row.taken != row.given or row.giver != row.firing:
        return False
    if row.peak != row.depth or row.depth != depth or row.hold != hold or depth == 0:
        return False
    read_ahead(lists, row.occupied + row.giver, count)
    read_ahead(lists, row.taken_by + row.taken, count)
    read_ahead(lists, row.by + row.given, count)
    return one_each(lists, row.taken_by, row.taken, firing, count - 1) and one_each(
        lists, row.by, row.given, row.giver, count - 1
    )


@inlined
def _block(t: Tables, at: int, firing: int, count: int, even: int, odd: int, finish: int) -> tuple[int, int, int, int]:
    """Firings of a block, as far as what they need of links that are not even can be had.

    How many, the first start (-1: none), the last finish, and how long they waited.
    """
    node, join, room, columns = t.node[at], t.join, t.room, t.room.shape[1]
    depth, hold, waited, done = join[room[_LINK, 0]].depth, join[room[_LINK, 0]].hold, 0, 0
    free, stall = room[FREE], room[_STALL]
    while done < count:
        start = finish
        for i in range(1, odd + 1):
            visible = _visible(t.lists, t.ring, join[room[_LINK, columns - i]], firing + done)
            start = max(start, visible) if visible >= 0 and start >= 0 else -1
        if start < 0:
            break
        cycles, slots, latest = room[WORK + done], room[_SLOT + done], 0
        for j in range(even):
            busy_until = free[j] + cycles[j] - 1
            handover = max(busy_until, slots[j])
            stall[j] += handover - busy_until
            free[j] = handover + 1
            latest = max(latest, handover)
        start = max(start, latest + hold)
        room[_START, done] = start
        if done + depth < count:
            room[_SLOT + done + depth, :even] = start + 1
        for i in range(1, odd + 1):
            _take(t.lists, t.ring, join[room[_LINK, columns - i]], firing + done, start)
        waited += start - finish
        finish = start + (node.constant if node.constant else t.lists[node.occupied + firing + done])
        done += 1
    for j in range(even):
        _settle_even(t, join[room[_LINK, j]], j, firing, done)
    return done, room[_START, 0] if done else -1, finish, waited


@inlined
def _settle_even(t: Tables, row: JoinRow, column: int, firing: int, count: int) -> None:
    """Bring an even link and its source up to date with so many firings from one on."""
    if count == 0:
        return
    room, q = t.room, queue_of(row)
    for k in range(max(count - q.mask - 1, 0), count):
        t.ring[place(q, row.taken + k)] = room[_START, k] + 1
    row.next_taker = following(t.lists, row.taken_by, row.taken + count - 1, firing + count - 1)
    row.giver = following(t.lists, row.by, row.given + count - 1, row.giver + count - 1)
    row.taken, row.given, row.firing = row.taken + count, row.given + count, row.firing + count
    row.free, row.stall = room[FREE, column], row.stall + room[_STALL, column]


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


@lean_kernel
def _visible(lists: Ints32, ring: Ints, row: JoinRow, firing: int) -> int:
    """When the item is visible that a firing takes of a link, given if it is not there yet; 0 if it takes none.

    Negative where that cannot be.
    """
    if row.next_taker != firing:
        return 0
    if following(lists, row.taken_by, row.taken, firing) == firing:
        return _SEVERAL
    q = queue_of(row)
    if row.taken == row.given:
        source = _giver(row)
        after = given_on(lists, source, row.given)
        if after == source.giver:
            return _NOT_THERE
        source = give_next(lists, source, after, slot_visible(ring, q, row.given))
        ring[place(q, row.given)] = source.free - 1 + q.hold
        row.given += 1
        _set_giver(row, source)
    return ring[place(q, row.taken)]


@lean_kernel
def _take(lists: Ints32, ring: Ints, row: JoinRow, firing: int, start: int) -> None:
    """Take the item of a link that a firing takes, if it takes one."""
    if row.next_taker == firing:
        q = queue_of(row)
        row.peak = take_item(ring, q, row.taken, ring[place(q, row.taken)], start, row.peak)
        row.next_taker = following(lists, row.taken_by, row.taken, firing)
        row.taken += 1


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
