"""The kernel for a fork whose targets wait for nothing but its items: lanes side by side.

A block of items is done at once. First what each target does with each of them is laid out by item and lane. Then the
recurrence of T3 and T4 runs over it, all lanes of an item in one loop that a processor does several at a time. At last
queues, peaks and nodes are brought up to date, lane by lane. It does what `dchw.engines.fast.forks` does item by item.
"""

# mypy: disable-error-code="no-any-return"
from __future__ import annotations

from dchw.compile import inlined, lean_kernel
from dchw.engines.fast.runs import service
from dchw.engines.fast.tables import (
    Ints,
    Ints32,
    LaneRow,
    LinkRow,
    NodeRow,
    Rows,
    Tables,
)

BLOCK = 64
"""Most items of a block: with 64 lanes its times take 67 KB, which a second-level cache holds."""
FEWEST = 4
"""Items below which laying out a block does not pay."""
WORK, BEGIN, FREE, IDLE = 0, BLOCK, 2 * BLOCK, 2 * BLOCK + 1
"""Rows of ``room``, a column per lane: an item's cycles there, its start, when the lane is free, how long it waited."""
DEALT = IDLE
"""Row of ``room``, a column per lane: items of a block that are dealt with, by `dchw.engines.fast.forks`."""
SLOT, HANDED, ROOM = 2 * BLOCK + 2, 2 * BLOCK + 3, 2 * BLOCK + 4
"""Rows of ``room``, a column per item: when the slot it needs is visible, and the finish of the firing that gives it.
The last: rows in all."""


@lean_kernel
def _lay_out(
    node: Rows[NodeRow],
    link: Rows[LinkRow],
    lane: Rows[LaneRow],
    lists: Ints32,
    room: Ints,
    begin: int,
    end: int,
    item: int,
) -> int:
    """Write WORK for the next items; how many of them each target takes with nothing else to do."""
    count = BLOCK
    for p in range(begin, end):
        count = min(count, _limit(node, link, lane, p) - node[lane[p].node].next)
    if count < FEWEST:
        return 0
    for p in range(begin, end):
        target, by, limit = lane[p].node, link[lane[p].items].taken_by, _limit(node, link, lane, p)
        occupied, constant, begun = node[target].occupied, node[target].constant, node[target].next
        for k in range(count):
            until = lists[by + item + k + 1] if by >= 0 else begun + 1
            if not begun < until <= limit:
                count = k
                break
            room[WORK + k, p - begin] = service(lists, occupied, constant, begun, until)
            begun = until
    return count if count >= FEWEST else 0


@lean_kernel
def _limit(node: Rows[NodeRow], link: Rows[LinkRow], lane: Rows[LaneRow], p: int) -> int:
    # the firing of a lane's target before which it moves items of the fork only
    quiet, x = node[lane[p].node].quiet, lane[p].other
    return quiet if x < 0 else min(quiet, link[x].next_taker)


@lean_kernel
def lanes_run(
    t: Tables, at: int, item: int, giver: int, quiet: int, firing: int, free: int
) -> tuple[int, int, int, int, int, int]:
    """The next items of a fork, up to a block, as far as no target needs anything else for them.

    ``room`` int64[ROOM, lanes and BLOCK at least] is overwritten. ``item`` is the next one and ``giver`` the firing
    that gives it; ``free`` is the finish before ``firing`` (its start if it has one). Gives these four as they are
    behind the block, unchanged where there is none; cycles stalled; firings of all targets.
    """
    node, link, lane, ring, lists, room = t.node, t.link, t.lane, t.ring, t.lists, t.room
    begin, end = node[at].lane, node[at].lane + node[at].lanes
    count = _lay_out(node, link, lane, lists, room, begin, end, item)
    if count == 0:
        return item, giver, firing, free, 0, 0
    first, lanes = lane[begin].items, end - begin
    mask, depth, hold, by = link[first].mask, link[first].depth, link[first].hold, link[first].given_by
    occupied, constant = node[at].occupied, node[at].constant
    slot, handed = room[SLOT], room[HANDED]
    for k in range(count):
        slot[k] = 0
        if k < depth <= item + k:
            for p in range(begin, end):
                slot[k] = max(slot[k], ring[lane[p].ring + ((item + k - depth) & mask)])
    finish, idle = room[FREE], room[IDLE]
    for p in range(lanes):
        finish[p], idle[p] = node[lane[begin + p].node].finish, 0
    done = stall = 0
    while done < count and giver < quiet:
        after = lists[by + item + done + 1] if by >= 0 else giver + 1
        if after == giver:
            break
        free += service(lists, occupied, constant, firing, giver + 1)
        firing, giver = giver + 1, after
        if slot[done] >= free:
            stall += slot[done] + 1 - free
            free = slot[done] + 1
        handed[done] = free
        visible, latest = free - 1 + hold, 0
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
            firings += _settle(t, p, p - begin, item, done)
    return item + done, giver, firing, free, stall, firings


@inlined
def _settle(t: Tables, p: int, column: int, item: int, count: int) -> int:
    """Bring queue and target of a lane up to date with ``count`` items from ``item`` on; firings of the target."""
    node, link, lane, ring, room = t.node, t.link, t.lane, t.ring, t.room
    x, base, target = lane[p].items, lane[p].ring, lane[p].node
    mask, depth, most, by = link[x].mask, link[x].depth, max(link[x].peak, 1), link[x].taken_by
    if link[x].peak != depth or depth == 0:  # as `tables.peak_at`
        for k in range(count):
            while item + k >= most:
                freed = room[BEGIN + k - most, column] + 1 if k >= most else ring[base + ((item + k - most) & mask)]
                if freed < room[HANDED, k]:
                    break
                most += 1
        link[x].peak = most
    for k in range(max(count - mask - 1, 0), count):
        ring[base + ((item + k) & mask)] = room[BEGIN + k, column] + 1
    begun = node[target].next
    node[target].next = t.lists[by + item + count] if by >= 0 else begun + count
    t.span[node[target].span].idle += room[IDLE, column]
    node[target].finish = room[FREE, column]
    return node[target].next - begun
