"""The kernel for a fork whose targets wait for nothing but its items: lanes side by side.

A block of items is done at once. First what each target does with each of them is laid out by item and lane. Then the
recurrence of T3 and T4 runs over it, all lanes of an item in one loop that a processor does several at a time. At last
the lanes' rows are brought up to date. It does what `dchw.engines.fast.forks` does item by item.
"""

# mypy: disable-error-code="no-any-return"
from __future__ import annotations

from dchw.compile import inlined, lean_kernel
from dchw.engines.fast.program_tables import Ints32, LaneRow, Tables
from dchw.engines.fast.queues import Queue, following, in_ring, place, queue_of, slot_visible, take_item
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
from dchw.engines.fast.runs import Giver, give_next, given_on, service
from dchw.engines.named_rows import Ints, Rows


@lean_kernel
def _lay_out(lane: Rows[LaneRow], lists: Ints32, room: Ints, begin: int, end: int, item: int, most: int) -> int:
    """Write WORK for the next ``most`` items; how many of them each target takes with nothing else to do."""
    count = most
    for p in range(begin, end):
        count = min(count, _limit(lane[p]) - lane[p].next)
        if count < FEWEST:
            return 0
    for p in range(begin, end):
        count = _lay_out_lane(lane[p], lists, room, p - begin, item, count)
    return count if count >= FEWEST else 0


@inlined
def _lay_out_lane(lane: LaneRow, lists: Ints32, room: Ints, column: int, item: int, count: int) -> int:
    """Write a lane's column of WORK; how many of ``count`` items it takes with nothing else to do."""
    by, begun, limit, occupied, constant = lane.taken_by, lane.next, _limit(lane), lane.occupied, lane.constant
    read_ahead(lists, occupied + begun, count)
    read_ahead(lists, by + item, count)
    if one_each(lists, by, item, begun, count):
        write_work(lists, room, column, occupied, constant, begun, count)
        return count
    for k in range(count):
        until = following(lists, by, item + k, begun)
        if not begun < until <= limit:
            return k
        room[WORK + k, column] = service(lists, occupied, constant, begun, until)
        begun = until
    return count


@inlined
def _limit(lane: LaneRow) -> int:
    """The firing of a lane's target before which it moves items of the fork only."""
    return min(lane.quiet, lane.other_taker)


@lean_kernel
def lanes_run(t: Tables, at: int, item: int, given: int, fork: Giver) -> tuple[int, Giver, int]:
    """The next items of fork ``at``, up to a block, as far as no target needs anything else for them.

    ``room`` int64[ROOM, lanes and BLOCK at least] is overwritten. ``item`` is the next one that all targets take, and
    those before ``given`` are there. Gives the next one and the fork as they are behind the block, unchanged where
    there is none; firings of all targets.
    """
    lane, ring, lists, room = t.lane, t.ring, t.lists, t.room
    begin, end = t.node[at].lane, t.node[at].lane + t.node[at].lanes
    most = min(BLOCK, given - item + max(fork.quiet - fork.giver, 0))
    count = _lay_out(lane, lists, room, begin, end, item, most)
    if count == 0:
        return item, fork, 0
    lanes, slot, q = end - begin, room[SLOT_OF], queue_of(t.link[lane[begin].items])
    depth = q.depth
    for k in range(count):
        slot[k] = 0
        if k < depth:
            for p in range(begin, end):
                slot[k] = max(slot[k], slot_visible(ring, in_ring(q, lane[p].ring), item + k))
    finish, idle = room[FREE], room[IDLE]
    for p in range(lanes):
        finish[p], idle[p] = lane[begin + p].finish, 0
    done = 0
    while done < count:
        if item + done < given:
            visible, latest = ring[place(in_ring(q, lane[begin].ring), item + done)], 0
        else:
            after = given_on(lists, fork, item + done)
            if after == fork.giver:
                break
            fork = give_next(lists, fork, after, slot[done])
            visible, latest = fork.free - 1 + q.hold, 0
        room[HANDED, done] = visible - q.hold
        cycles, starts = room[WORK + done], room[BEGIN + done]
        for p in range(lanes):
            start = max(finish[p], visible)
            starts[p] = start
            idle[p] += start - finish[p]
            latest = max(latest, start)
            finish[p] = start + cycles[p]
        if 0 < depth < count - done:
            slot[done + depth] = latest + 1
        done += 1
    firings = 0
    if done > 0:
        for p in range(begin, end):
            firings += _settle(t, p, p - begin, in_ring(q, lane[p].ring), item, done)
    return item + done, fork, firings


@inlined
def _settle(t: Tables, p: int, column: int, q: Queue, item: int, count: int) -> int:
    """Bring a lane up to date with ``count`` items from ``item`` on; firings of its target."""
    lane, room, begun = t.lane[p], t.room, t.lane[p].next
    # a queue that was full keeps the last slots' times only
    for k in range(max(count - q.mask - 1, 0) if lane.peak == q.depth else 0, count):
        lane.peak = take_item(t.ring, q, item + k, room[HANDED, k] + q.hold, room[BEGIN + k, column], lane.peak)
    lane.next = following(t.lists, lane.taken_by, item + count - 1, begun + count - 1)
    lane.finish, lane.idle = room[FREE, column], lane.idle + room[IDLE, column]
    lane.taken, lane.taker = item + count, lane.next
    return lane.next - begun
