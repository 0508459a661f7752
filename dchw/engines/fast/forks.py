"""The kernels for a fork: one node that feeds many, each through a queue of the same depth.

While every target waits for the fork's next item and nothing else, the fork, its queues and what its targets do until
they need another item are one recurrence; it is that of a broadcast array, found in any program by its links alone.
Where the targets need nothing but the fork's items they are done side by side, a block of items at a time
(`dchw.engines.fast.lanes`). Otherwise whoever serves them goes on with them: where queues hold many items, target by
target through all of these, in long runs of firings (`dchw.engines.fast.runs`); where they hold few, or the fork moves
something else, item by item (`dchw.engines.fast.served`). A target that has something else to do ends it.
"""

# mypy: disable-error-code="no-any-return"
from __future__ import annotations

from dchw.compile import inlined, lean_kernel
from dchw.engines.fast.lanes import BLOCK, HANDED, lanes_run
from dchw.engines.fast.program_tables import ITEM, SLOT, LaneRow, LinkRow, NodeRow, Tables
from dchw.engines.fast.queues import give_item, queue_of, slot_visible
from dchw.engines.fast.runs import Giver, give_next, given_on, take_run
from dchw.engines.fast.served import fork_of, put_fork, serve
from dchw.engines.fast.singles import fire_once
from dchw.engines.fast.turns import defer, wake, wake_source
from dchw.engines.named_rows import Rows

FEW = 16
"""Items done one by one before the next block side by side is tried; twice as many whenever that was in vain."""
MANY = 8
"""Items that queues hold from which on target by target is faster than item by item."""
MOST = 1 << 20
"""Firings of targets and their sources, about, that are done in one go."""


@lean_kernel
def in_step(node: Rows[NodeRow], link: Rows[LinkRow], lane: Rows[LaneRow], at: int) -> bool:
    """Whether every target of a fork waits for its next item, with nothing to do before."""
    p, end = node[at].lane, node[at].lane + node[at].lanes
    while p < end and _waits(node, link, lane, p):
        p += 1
    return p == end


@lean_kernel
def lead(t: Tables, at: int) -> bool:
    """Let a fork and its targets go on together while they are `in_step`; whether the fork did anything.

    Stops behind the first item that some target cannot deal with here, where something is not known yet, and after
    a bounded amount of work.
    """
    node, link, lane = t.node[at], t.link, t.lane
    begin, end, begun = node.lane, node.lane + node.lanes, node.next
    if not in_step(t.node, link, lane, at):
        return False
    for p in range(begin, end):
        link[lane[p].items].wanted &= ~ITEM
    depth = link[lane[begin].items].depth
    ahead = min(depth, BLOCK) if depth > 0 else BLOCK
    done, smooth, most = 0, True, FEW
    while smooth and node.next < node.count and done < MOST:
        before, fork, fired = node.next, fork_of(t, at), 0
        if fork.giver < fork.quiet:
            _, fork, fired = lanes_run(t, at, link[lane[begin].items].given, fork)
        if fork.firing > before:
            put_fork(t, at, fork)
            most = FEW
        elif ahead >= MANY:
            fired, smooth = _by_target(t, at, ahead)
        else:
            fired, smooth = serve(t, at, most)
            most *= 2
        done += fired
        if node.next == before:
            break
    for p in range(begin, end):
        if _waits(t.node, link, lane, p):
            link[lane[p].items].wanted |= ITEM
        else:
            wake(t.run, t.node, t.arbiter, lane[p].node)
    t.run.done += done
    t.run.with_forks += done
    return node.next > begun


@lean_kernel
def _by_target(t: Tables, at: int, most: int) -> tuple[int, bool]:
    """The fork's items in blocks of ``most``, and each target through a whole block by itself.

    Where the fork moves something else, that is a single firing, and the last one here. Gives the firings of targets
    and their sources, and whether all targets wait for the next item.
    """
    node, link, lane = t.node, t.link, t.lane
    begin, end = node[at].lane, node[at].lane + node[at].lanes
    fork, done, count, smooth = fork_of(t, at), 0, most, True
    while smooth and count > 0 and done < MOST:
        fork, count = _hand_over(t, begin, end, most, fork)
        if count == 0:
            put_fork(t, at, fork)
            if not fire_once(t, at):
                return done, True
        fired = 1
        while fired > 0:
            # in turns: a source of several targets' other items serves them one after another
            fired = 0
            for p in range(begin, end):
                if not _waits(node, link, lane, p):
                    fired += _lane_run(t, at, p)
            done += fired
        smooth = in_step(node, link, lane, at)
    if count > 0:
        put_fork(t, at, fork)
    return done, smooth


@lean_kernel
def _hand_over(t: Tables, begin: int, end: int, most: int, fork: Giver) -> tuple[Giver, int]:
    """Give the fork's next items to all lanes, at most ``most`` and what a queue holds; how many there were."""
    link, lane, ring, room = t.link, t.lane, t.ring, t.room
    item, count = link[lane[begin].items].given, 0
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
