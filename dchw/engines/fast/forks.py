"""The kernels for a fork: one node that feeds many, each through a queue of the same depth.

While every target waits for the fork's next item and nothing else, the fork, its queues and what its targets do until
they need another item are one recurrence; it is that of a broadcast array, found in any program by its links alone.
Items go in blocks of at most a queue's depth: the fork hands a block over, and each target is a run of firings
(`dchw.engines.fast.runs`) that takes them, and has what it takes besides given on the way. A target that has something
else to do ends it: the items are left in its queue. Where the targets need nothing but the fork's items,
`dchw.engines.fast.lanes` is faster still.
"""

# mypy: disable-error-code="no-any-return"
from __future__ import annotations

from dchw.compile import inlined, lean_kernel
from dchw.engines.fast.lanes import BLOCK, HANDED, lanes_run
from dchw.engines.fast.program_tables import ITEM, SLOT, LaneRow, LinkRow, NodeRow, Tables
from dchw.engines.fast.queues import give_item, queue_of, slot_visible
from dchw.engines.fast.runs import Giver, give_next, given_on, take_run
from dchw.engines.fast.turns import defer, wake, wake_source
from dchw.engines.named_rows import Rows


@lean_kernel
def in_step(node: Rows[NodeRow], link: Rows[LinkRow], lane: Rows[LaneRow], at: int) -> bool:
    """Whether every target of a fork waits for its next item, with nothing to do before."""
    p, end = node[at].lane, node[at].lane + node[at].lanes
    while p < end and _waits(node, link, lane, p):
        p += 1
    return p == end


@lean_kernel
def fork_run(t: Tables, at: int, firing: int, quiet: int, free: int) -> tuple[int, int, int]:
    """Firings before ``quiet`` of a fork that is `in_step`, and what its targets do with the items.

    ``free`` is the finish before ``firing``, or its start if it has one. Gives the next firing, its predecessor's
    finish, and cycles stalled. Stops behind the first block of items that some target cannot deal with here.
    """
    node, link, lane = t.node, t.link, t.lane
    begin, end = node[at].lane, node[at].lane + node[at].lanes
    one = link[lane[begin].items]
    fork = Giver(quiet, node[at].occupied, node[at].constant, one.given_by, firing, one.next_giver, free, 0)
    item, done, smooth = one.given, 0, True
    while smooth and fork.giver < quiet:
        block = item
        item, fork, fired = lanes_run(t, at, item, fork)
        done += fired
        if item > block:
            continue
        fork, count = _hand_over(t, begin, end, item, fork)
        if count == 0:
            break
        item += count
        fired = 1
        while fired > 0:
            # in turns: a source of several targets' other items serves them one after another
            fired = 0
            for p in range(begin, end):
                if not _waits(node, link, lane, p):
                    fired += _lane_run(t, at, p)
            done += fired
        for p in range(begin, end):
            if not _waits(node, link, lane, p):
                smooth = False
                wake(t.run, node, t.arbiter, lane[p].node)
    for p in range(begin, end):
        if _waits(node, link, lane, p):
            link[lane[p].items].wanted |= ITEM  # it may have waited for something else before
    t.run.done += done
    t.run.with_forks += done + fork.firing - firing
    return fork.firing, fork.free, fork.stall


@lean_kernel
def _hand_over(t: Tables, begin: int, end: int, item: int, fork: Giver) -> tuple[Giver, int]:
    """Give the fork's next items to all its lanes, as far as all slots are known; the fork then, and how many."""
    link, lane, ring, room = t.link, t.lane, t.ring, t.room
    depth = link[lane[begin].items].depth
    most, count = min(BLOCK, depth) if depth > 0 else BLOCK, 0
    while count < most:
        after, slot = given_on(t.lists, fork, item + count), 0
        if after == fork.giver:
            break
        for p in range(begin, end):
            slot = max(slot, slot_visible(ring, queue_of(link[lane[p].items]), item + count))
        fork = give_next(t.lists, fork, after, slot)
        room[HANDED, count] = fork.free - 1
        count += 1
    for p in range(begin, end):
        row = link[lane[p].items]
        q = queue_of(row)
        for k in range(count):
            give_item(ring, q, item + k, room[HANDED, k])
        row.given, row.next_giver = item + count, fork.giver
    return fork, count


@inlined
def _waits(node: Rows[NodeRow], link: Rows[LinkRow], lane: Rows[LaneRow], p: int) -> bool:
    """Whether a lane's target waits for the fork's next item, with nothing to do before."""
    row, target = link[lane[p].items], node[lane[p].node]
    return row.taken == row.given and row.next_taker == target.next and not target.started


@inlined
def _lane_run(t: Tables, at: int, p: int) -> int:
    """What a target does with items in its queue, its links moving nothing else; firings, its own and of a source."""
    node, link, target = t.node, t.link, t.node[t.lane[p].node]
    x, firing = t.lane[p].other, target.next
    reached, target.finish, idle, _, _, pulled = take_run(
        t, t.lane[p].node, at, x, t.lane[p].items, firing, target.quiet, target.finish
    )
    target.next = reached
    t.span[target.span].idle += idle
    if x >= 0 and reached > firing and link[x].wanted & SLOT:
        if link[x].source < node.shape[0]:
            link[x].wanted &= ~SLOT
            defer(t.run, node, link[x].source)
        else:
            wake_source(t.run, node, link, t.arbiter, x)
    return reached - firing + pulled
