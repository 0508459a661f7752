"""The kernels for a fork: one node that feeds many, each through a queue of the same depth.

While every target waits for the fork's next item and nothing else, the fork, its queues and what its targets do until
they need another item are one recurrence; it is that of a broadcast array, found in any program by its links alone. It
goes a queue's length of items at a time: the fork hands them over, and each target does its firings up to the one that
takes the next. What it takes besides, from one other link, its *server* gives: the source of such links. A server and
those it serves take turns. It gives until a slot is not known, they take until an item is not there, and the next turn
is due; so turns are as long as the queues allow, and in each all that is needed is known. What a fork or a server does
besides is one firing by itself (`dchw.engines.fast.singles`); items given on the way are taken with the next. Targets
and both their links are worked on in rows of their own (`LaneRow`), which lie side by side; they are written back in
the end, which may come anywhere: where a target has something else to do, or fork or server wait for something from
elsewhere. Where the targets need nothing but the fork's items, `dchw.engines.fast.lanes` is faster still.
"""

# mypy: disable-error-code="no-any-return"
from __future__ import annotations

import numpy as np

from dchw.compile import inlined, lean_kernel
from dchw.engines.fast.ahead import fetch
from dchw.engines.fast.lanes import lanes_run
from dchw.engines.fast.program_tables import ITEM, SLOT, LaneRow, LinkRow, NodeRow, Tables
from dchw.engines.fast.queues import (
    Queue,
    following,
    give_item,
    in_ring,
    other_queue,
    place,
    queue_of,
    slot_known,
    slot_visible,
    take_item,
)
from dchw.engines.fast.room import BLOCK, HANDED
from dchw.engines.fast.runs import FAR_FIRING, UNSEEN, Giver, give_next, given_on, service
from dchw.engines.fast.singles import fire_once
from dchw.engines.fast.turns import defer, wake, wake_source
from dchw.engines.named_rows import Rows

OUT_OF_STEP, GOING, WAITING = range(3)
"""What became of a fork: nothing, because some target is behind; it can go on; it waits for an item or a slot."""
AHEAD = 24
"""Numbers of a list: more than are read before the fork's next few items, and within the next cache line."""
GIVEN, NO_SLOT, ELSE = range(3)
"""Why a server gives a lane no more: another is next, a slot is not known, it moves other links or items as well."""


@lean_kernel
def _in_step(node: Rows[NodeRow], link: Rows[LinkRow], lane: Rows[LaneRow], at: int) -> bool:
    """Whether every target of a fork waits for its next item, with nothing to do before."""
    for p in range(node[at].lane, node[at].lane + node[at].lanes):
        row, target = link[lane[p].items], node[lane[p].node]
        if row.taken != row.given or row.next_taker != target.next or target.started:
            return False
    return True


@lean_kernel
def fork_run(t: Tables, at: int, target: int) -> int:
    """Let a fork go on with its targets as far as it can, and all of them are in step; what became of it.

    It stops behind the first item that some target cannot deal with here, and where so many firings are done in all.
    """
    node, link, lane = t.node, t.link, t.lane
    row, begin, end = node[at], node[at].lane, node[at].lane + node[at].lanes
    if not _in_step(node, link, lane, at):
        return OUT_OF_STEP
    for p in range(begin, end):
        _load_lane(t, p)
    one, before, smooth, became = link[lane[begin].items], t.run.done, True, GOING
    while smooth and t.run.done < target:
        item, free, quiet = one.given, row.start if row.started else row.finish, _moves_else(t, at, at)
        fork = Giver(quiet, row.occupied, row.constant, one.given_by, row.next, one.next_giver, free, 0)
        upto, fork, went_on, smooth = _items(t, at, item, fork, target)
        if went_on:
            t.run.done += fork.firing - row.next
            _hand_over(link, lane, begin, end, upto, fork.giver)
        if upto > item:
            row.next, row.finish, row.started = fork.firing, fork.free, 0
            t.span[row.span].stall += fork.stall
        elif not went_on:
            if not fire_once(t, at):
                became = WAITING
                break
            for p in range(begin, end):
                if lane[p].server < 0 <= lane[p].other:
                    lane[p].other_given = link[lane[p].other].given  # the fork itself may have given some
    for p in range(begin, end):
        _write_lane(t, p, one.given)
    t.run.with_forks += t.run.done - before
    return became


@inlined
def _items(t: Tables, at: int, given: int, fork: Giver, target: int) -> tuple[int, Giver, bool, bool]:
    """What fork ``at`` gave before and nobody has taken yet, and its next items from ``given`` on, given and taken.

    Gives the first item that is not given and the fork as it is then, whether anything was taken or given, and whether
    all targets have come to the same item.
    """
    begin, end = t.node[at].lane, t.node[at].lane + t.node[at].lanes
    taken, smooth = t.lane[begin].taken, True
    if fork.giver >= fork.quiet and taken == given:
        return given, fork, False, True
    upto, fork, fired = lanes_run(t, at, taken, given, fork)
    t.run.done += fired
    if fired > 0:
        return max(upto, given), fork, True, True
    upto = given
    if taken < given:
        smooth, _ = _all_take(t, begin, end, given)
    if smooth:
        upto, fork, smooth = _in_turn(t, begin, end, given, fork, target)
    return upto, fork, upto > taken, smooth


@inlined
def _in_turn(t: Tables, begin: int, end: int, item: int, fork: Giver, target: int) -> tuple[int, Giver, bool]:
    """The fork's items from one on, a queue's length at a time, as long as somebody takes other items with them.

    Gives the next item, the fork as it is then, and whether all targets have come to that item.
    """
    lane, ring, handed = t.lane, t.ring, t.room[HANDED]
    q = queue_of(t.link[lane[begin].items])
    most, smooth, served = min(BLOCK, q.depth) if q.depth > 0 else BLOCK, True, True
    while smooth and served and t.run.done < target:
        count = 0
        while count < most:
            after, slot = given_on(t.lists, fork, item + count), 0
            if after == fork.giver:
                break
            for p in range(begin, end):
                slot = max(slot, slot_visible(ring, in_ring(q, lane[p].ring), item + count))
            fork = give_next(t.lists, fork, after, slot)
            handed[count] = fork.free - 1
            count += 1
        if count == 0:
            break
        for p in range(begin, end):
            for k in range(count):
                give_item(ring, in_ring(q, lane[p].ring), item + k, handed[k])
        item += count
        smooth, served = _all_take(t, begin, end, item)
    return item, fork, smooth


@lean_kernel
def _all_take(t: Tables, begin: int, end: int, given: int) -> tuple[bool, bool]:
    """Have all targets take the items of the fork that are in their queues, those before ``given``.

    Gives whether all have come to the next item, and whether any took another item as well.
    """
    lane, q = t.lane, queue_of(t.link[t.lane[begin].items])
    behind, served = 0, 0
    for first in range(begin, end):
        if lane[first].first != first:
            continue
        # lanes with one server in turns: it gives as far as there is room, they take what there is
        going = True
        while going:
            before, late, p = t.run.done, 0, first
            while True:
                if lane[p].taken < given or lane[p].taker > lane[p].next:
                    served += _lane_run(t, p, in_ring(q, lane[p].ring), given)
                    late += lane[p].taken < given or lane[p].taker > lane[p].next
                p = lane[p].beside
                if p == first:
                    break
            _serve(t, first)
            going = late > 0 and t.run.done > before
        behind += late
    return behind == 0, served > 0


@inlined
def _lane_run(t: Tables, p: int, q: Queue, given: int) -> int:
    """What a target does with items that are in its queues, until it needs another or moves a third link.

    Gives how many of its other items it took.
    """
    ring, lists, lane = t.ring, t.lists, t.lane[p]
    firing, finish, quiet, occupied, constant = lane.next, lane.finish, lane.quiet, lane.occupied, lane.constant
    item, taker, by, peak = lane.taken, lane.taker, lane.taken_by, lane.peak
    other_q, other, other_taker, other_by = other_queue(lane), lane.other_taken, lane.other_taker, lane.other_taken_by
    other_given, other_peak, visible, other_visible, idle = lane.other_given, lane.other_peak, 0, 0, 0
    fetch(lists, occupied + firing + AHEAD)
    fetch(lists, by + item + AHEAD)
    fetch(lists, other_by + other + AHEAD)
    fetch(lists, lane.other_given_by + other_given + AHEAD)
    while firing < quiet:
        start, after, other_after = finish, taker, other_taker
        if taker == firing:
            if item == given:
                break
            after = following(lists, by, item, firing)
            visible = ring[place(q, item)]
            start = max(start, visible)
        if other_taker == firing:
            if other == other_given:
                break
            other_after = following(lists, other_by, other, firing)
            other_visible = ring[place(other_q, other)]
            start = max(start, other_visible)
        if after == firing or other_after == firing:
            break  # several items of a link at once
        if taker == firing:
            peak = take_item(ring, q, item, visible, start, peak)
            item, taker = item + 1, after
        if other_taker == firing:
            other_peak = take_item(ring, other_q, other, other_visible, start, other_peak)
            other, other_taker = other + 1, other_after
        idle += start - finish
        finish = start + (constant if constant else lists[np.uint64(occupied + firing)])
        firing += 1
    others = other - lane.other_taken
    t.run.done += firing - lane.next
    lane.next, lane.finish, lane.taken, lane.taker, lane.peak = firing, finish, item, taker, peak
    lane.other_taken, lane.other_taker, lane.other_peak = other, other_taker, other_peak
    lane.idle += idle
    return others


@inlined
def _serve(t: Tables, p: int) -> None:
    """Have the server of a lane go on until it waits for an item or a slot."""
    mine = t.lane[p]
    if mine.server < 0:
        return
    server, going = t.node[mine.server], True
    fetch(t.lists, server.occupied + server.next + AHEAD)
    while going:
        if server.serves == UNSEEN:
            server.serves = _moves_else(t, mine.server, mine.fork)
        whose, until = _next_served(t.lane, p, server.serves)
        left = _give_served(t, server, t.lane[whose], until)
        if left == NO_SLOT:
            _hold(t, server, t.lane[whose])
            going = False
        elif left == ELSE:
            going = _serve_once(t, p)


@inlined
def _next_served(lane: Rows[LaneRow], p: int, quiet: int) -> tuple[int, int]:
    """Which of the lanes beside one is given an item next, and the firing that gives one to another, or ``quiet``."""
    whose, giver, until, other = p, lane[p].other_giver, quiet, lane[p].beside
    while other != p:
        others = lane[other].other_giver
        if others < giver:
            whose, giver, others = other, others, giver
        until, other = min(until, others), lane[other].beside
    return whose, until


@inlined
def _give_served(t: Tables, server: NodeRow, to: LaneRow, until: int) -> int:
    """A server's firings before ``until``, which give an item each to one lane; why there are no more of them."""
    ring, lists, q = t.ring, t.lists, other_queue(to)
    item, by, left = to.other_given, to.other_given_by, GIVEN
    known = max(to.other_taken, q.initial) + q.depth if q.depth > 0 else FAR_FIRING
    free = server.start if server.started else server.finish
    g = Giver(until, server.occupied, server.constant, by, server.next, to.other_giver, free, 0)
    if g.giver >= until:
        return ELSE
    while g.giver < until:
        after = following(lists, by, item, g.giver)
        if item >= known or after == g.giver:
            left = NO_SLOT if item >= known else ELSE
            break
        g = give_next(lists, g, after, slot_visible(ring, q, item))
        give_item(ring, q, item, g.free - 1)
        item += 1
    if item > to.other_given:
        to.other_given, to.other_giver = item, g.giver
        t.run.done += g.firing - server.next
        server.next, server.finish, server.started = g.firing, g.free, 0
        t.span[server.span].stall += g.stall
    return left


@inlined
def _hold(t: Tables, server: NodeRow, to: LaneRow) -> None:
    """A server has begun its next firing that gives and waits for a lane's slot."""
    giver, free = to.other_giver, server.start if server.started else server.finish
    t.link[to.other].wanted |= SLOT
    if not server.started or giver > server.next:
        free += service(t.lists, server.occupied, server.constant, server.next, giver)
        t.run.done += giver - server.next
        server.next, server.finish, server.started, server.start = giver, free, 1, free


@lean_kernel
def _serve_once(t: Tables, p: int) -> bool:
    """One firing of a lane's server by itself, whatever it moves; whether it could be done."""
    lane, link, other = t.lane, t.link, p
    while True:
        row = link[lane[other].other]
        row.given, row.taken, row.next_giver = lane[other].other_given, lane[other].other_taken, lane[other].other_giver
        other = lane[other].beside
        if other == p:
            break
    done = fire_once(t, lane[p].server)
    t.node[lane[p].server].serves = UNSEEN
    while True:
        row = link[lane[other].other]
        lane[other].other_given, lane[other].other_giver = row.given, row.next_giver
        other = lane[other].beside
        if other == p:
            return done


@lean_kernel
def _moves_else(t: Tables, at: int, fork: int) -> int:
    """The firing of a fork, or of a server, before which it moves nothing but items for the fork's targets.

    The first and the last firing of a layer count among what is done one by one.
    """
    link, ends, row = t.link, t.ends, t.node[at]
    if row.next == row.count or t.span[row.span].start < 0:
        return row.next
    until = t.span[row.span].end - 1
    for end in range(row.into, row.out_of):
        until = min(until, link[ends[end]].next_taker)
    for end in range(row.out_of, row.stop):
        served, x = link[ends[end]].served, ends[end]
        if not (link[x].forked if at == fork else served >= 0 and t.lane[served].fork == fork):
            until = min(until, link[x].next_giver)
    return until


@inlined
def _hand_over(link: Rows[LinkRow], lane: Rows[LaneRow], begin: int, end: int, given: int, giver: int) -> None:
    """Bring the links of a fork's items up to date."""
    for p in range(begin, end):
        row = link[lane[p].items]
        row.given, row.taken, row.next_giver = given, lane[p].taken, giver


@inlined
def _load_lane(t: Tables, p: int) -> None:
    """Make a lane's row that of its target and links."""
    link, lane = t.link, t.lane[p]
    row, node = link[lane.items], t.node[lane.node]
    row.wanted &= ~ITEM  # it needs no waking meanwhile
    lane.ring, lane.taken_by, lane.taken, lane.taker, lane.peak = (
        row.ring, row.taken_by, row.taken, row.next_taker, row.peak
    )  # fmt: skip
    lane.next, lane.finish, lane.quiet, lane.idle = node.next, node.finish, node.quiet, 0
    lane.occupied, lane.constant, lane.other_taker = node.occupied, node.constant, FAR_FIRING
    if lane.other < 0:
        return
    row = link[lane.other]
    lane.other_ring, lane.other_mask, lane.other_depth = row.ring, row.mask, row.depth
    lane.other_initial, lane.other_hold, lane.other_peak = row.initial, row.hold, row.peak
    lane.other_given_by, lane.other_given, lane.other_giver = row.given_by, row.given, row.next_giver
    lane.other_taken_by, lane.other_taken, lane.other_taker = row.taken_by, row.taken, row.next_taker
    if lane.server >= 0:
        t.node[lane.server].serves = UNSEEN


@inlined
def _write_lane(t: Tables, p: int, given: int) -> None:
    """Write a lane's row back; its target, and who gives it other items, wait for what they need or get in line."""
    node, link, lane, x = t.node, t.link, t.lane[p], t.lane[p].other
    row, target = link[lane.items], node[lane.node]
    row.taken, row.next_taker, row.peak = lane.taken, lane.taker, lane.peak
    target.next, target.finish = lane.next, lane.finish
    t.span[target.span].idle += lane.idle
    if lane.taken == given and lane.taker == lane.next:
        row.wanted |= ITEM
    else:
        wake(t.run, node, t.arbiter, lane.node)
    if x < 0:
        return
    row = link[x]
    row.taken, row.next_taker, row.peak = lane.other_taken, lane.other_taker, lane.other_peak
    if lane.server >= 0:
        row.given, row.next_giver = lane.other_given, lane.other_giver
    elif row.wanted & SLOT and slot_known(queue_of(row), row.given, row.taken):
        if row.source < node.shape[0]:
            row.wanted &= ~SLOT
            defer(t.run, node, row.source)
        else:
            wake_source(t.run, node, link, t.arbiter, x)
