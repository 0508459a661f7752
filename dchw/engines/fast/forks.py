"""The kernels for a fork: one node that feeds many, each through a queue of the same depth.

While every target waits for the fork's next item and nothing else, the fork, its queues and what its targets do until
they need another item are one recurrence; it is that of a broadcast array, found in any program by its links alone.
It goes item by item: the fork hands one over, and each target in turn does its firings up to the one that takes the
next. What it takes besides, from one other link, its *server* gives on the way: the source of such links, whose
firings are done up to the one that gives the item, and so in an order in which all that they need is known. What a
fork or a server does besides is one firing by itself (`dchw.engines.fast.singles`). Targets and both their links are
worked on in rows of their own (`LaneRow`), which lie side by side; they are written back in the end, which may come
anywhere: where a target has something else to do, or fork or server wait for something from elsewhere. Where the
targets need nothing but the fork's items, `dchw.engines.fast.lanes` is faster still.
"""

# mypy: disable-error-code="no-any-return"
from __future__ import annotations

from dchw.compile import inlined, lean_kernel
from dchw.engines.fast.lanes import BLOCK, SLOT_OF, lanes_run
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
from dchw.engines.fast.runs import FAR_FIRING, UNSEEN, Giver, give_next, given_on, service
from dchw.engines.fast.singles import fire_once
from dchw.engines.fast.turns import defer, wake, wake_source
from dchw.engines.named_rows import Rows

OUT_OF_STEP, GOING, WAITING = range(3)
"""What became of a fork: nothing, because some target is behind; it can go on; it waits for an item or a slot."""


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
        if fork.giver < fork.quiet:
            upto, fork, fired = lanes_run(t, at, item, fork)
            t.run.done += fired
            if upto == item:
                upto, fork, smooth = _in_turn(t, begin, end, item, fork, target)
            t.run.done += fork.firing - row.next
            _hand_over(link, lane, begin, end, upto, fork.giver)
            if upto > item:
                row.next, row.finish, row.started = fork.firing, fork.free, 0
                t.span[row.span].stall += fork.stall
                continue
        if not fire_once(t, at):
            became = WAITING
            break
        if one.given > item:
            smooth, _, _ = _all_take(t, begin, end, item, one.given, -1)
            _hand_over(link, lane, begin, end, one.given, one.next_giver)
    for p in range(begin, end):
        _serve_all(t, p)
    for p in range(begin, end):
        _write_lane(t, p, one.given)
    t.run.with_forks += t.run.done - before
    return became


@inlined
def _in_turn(t: Tables, begin: int, end: int, item: int, fork: Giver, target: int) -> tuple[int, Giver, bool]:
    """The fork's items from one on, each by all targets, as long as somebody takes other items with it as well.

    Gives the next item, the fork as it is then, and whether all targets have come to that item.
    """
    lane, ring, taken = t.lane, t.ring, t.room[SLOT_OF]
    first, q = item, queue_of(t.link[lane[begin].items])
    smooth, served = True, True
    while smooth and served and t.run.done < target:
        after, slot = given_on(t.lists, fork, item), 0
        if after == fork.giver:
            break
        if 0 < q.depth <= min(item - first, BLOCK):
            slot = taken[(item - q.depth) % BLOCK]
        else:
            for p in range(begin, end):
                slot = max(slot, slot_visible(ring, in_ring(q, lane[p].ring), item))
        fork = give_next(t.lists, fork, after, slot)
        smooth, served, taken[item % BLOCK] = _all_take(t, begin, end, item, item + 1, fork.free - 1)
        item += 1
    return item, fork, smooth


@lean_kernel
def _all_take(t: Tables, begin: int, end: int, item: int, given: int, handover: int) -> tuple[bool, bool, int]:
    """Have all targets take items of the fork, up to ``given``, handed over in a cycle (-1: they are in the queues).

    Gives whether all have come to the next item, whether any took another item as well, and when the last slot of
    ``item`` is free again.
    """
    lane, ring, q = t.lane, t.ring, queue_of(t.link[t.lane[begin].items])
    behind, served, latest, fired, turn = end - begin, 0, 0, 1, 0
    while behind > 0 and fired > 0:
        # again where a server has given to one target, as far as there was room, before it could give to another
        fired = 0
        for p in range(begin, end):
            mine = in_ring(q, lane[p].ring)
            if turn == 0 and handover >= 0:
                give_item(ring, mine, item, handover)
            elif turn > 0 and lane[p].taken == given and lane[p].taker == lane[p].next:
                continue
            done, others = _lane_run(t, p, mine, given)
            fired += done
            served += others
            if lane[p].taken == given and lane[p].taker == lane[p].next:
                behind -= 1
                latest = max(latest, ring[place(mine, item)])
        turn += 1
    return behind == 0, served > 0, latest


@inlined
def _lane_run(t: Tables, p: int, q: Queue, given: int) -> tuple[int, int]:
    """What a target does with the fork's items in its queue, until it needs the next or moves a third link.

    Gives how many firings were done, the server's included, and how many of its other items the target took.
    """
    ring, lists, lane = t.ring, t.lists, t.lane[p]
    firing, finish, quiet, occupied, constant = lane.next, lane.finish, lane.quiet, lane.occupied, lane.constant
    item, taker, other_taker = lane.taken, lane.taker, lane.other_taker
    idle, others, before = 0, 0, t.run.done
    while firing < quiet:
        start, after, other_after, visible = finish, firing, firing, 0
        if taker == firing:
            if item >= given:
                break
            after = following(lists, lane.taken_by, item, firing)
            if after == firing:
                break
            visible = ring[place(q, item)]
            start = max(start, visible)
        if other_taker == firing:
            other_after = following(lists, lane.other_taken_by, lane.other_taken, firing)
            if other_after == firing or (lane.other_taken >= lane.other_given and not _serve(t, p, 1)):
                break
            other_q, other_item = other_queue(lane), lane.other_taken
            other_visible = ring[place(other_q, other_item)]
            start = max(start, other_visible)
            lane.other_peak = take_item(ring, other_q, other_item, other_visible, start, lane.other_peak)
            lane.other_taken = other_item + 1
            other_taker = other_after
            others += 1
        if taker == firing:
            lane.peak = take_item(ring, q, item, visible, start, lane.peak)
            item, taker = item + 1, after
        idle += start - finish
        finish = start + (constant if constant else lists[occupied + firing])
        firing += 1
    t.run.done += firing - lane.next
    lane.next, lane.finish, lane.taken, lane.taker, lane.other_taker = firing, finish, item, taker, other_taker
    lane.idle += idle
    return t.run.done - before, others


@inlined
def _serve(t: Tables, p: int, most: int) -> bool:
    """Have the server of a lane do its firings as far as it can, while the lane has less than ``most`` items waiting.

    Whether it has that many now. Where it has not, the server waits for an item or a slot, or there is none.
    """
    link, lane, mine = t.link, t.lane, t.lane[p]
    if mine.server < 0:
        mine.other_given = link[mine.other].given  # the fork itself may have given some
        return mine.other_given - mine.other_taken >= most
    server = t.node[mine.server]
    while mine.other_given - mine.other_taken < most:
        if server.serves == UNSEEN:
            server.serves = _moves_else(t, mine.server, mine.fork)
        # the next firing that gives, to whom, and whether to somebody else as well
        giver, whose, alone = mine.other_giver, p, True
        other = mine.beside
        while other != p:
            if lane[other].other_giver <= giver:
                alone = lane[other].other_giver < giver
                giver, whose = lane[other].other_giver, other
            other = lane[other].beside
        to = lane[whose]
        q = other_queue(to)
        after = following(t.lists, to.other_given_by, to.other_given, giver) if giver < server.serves else giver
        if not alone or after == giver:
            if not _serve_once(t, p):
                return False
            continue
        free = server.start if server.started else server.finish
        if not slot_known(q, to.other_given, to.other_taken):
            link[to.other].wanted |= SLOT
            if not server.started or giver > server.next:
                free += service(t.lists, server.occupied, server.constant, server.next, giver)
                t.run.done += giver - server.next
                server.next, server.finish, server.started, server.start = giver, free, 1, free
            return False
        g = Giver(0, server.occupied, server.constant, 0, server.next, giver, free, 0)
        g = give_next(t.lists, g, after, slot_visible(t.ring, q, to.other_given))
        give_item(t.ring, q, to.other_given, g.free - 1)
        to.other_given, to.other_giver = to.other_given + 1, after
        t.run.done += g.firing - server.next
        server.next, server.finish, server.started = g.firing, g.free, 0
        t.span[server.span].stall += g.stall
    return True


@lean_kernel
def _serve_all(t: Tables, p: int) -> None:
    """Have the server of a lane go on until it waits for an item or a slot."""
    if t.lane[p].server >= 0:
        _serve(t, p, FAR_FIRING)


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
