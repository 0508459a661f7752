"""The kernels for a fork: one node that feeds many, each through a queue of the same depth.

While every target waits for the fork's next item and nothing else, the fork, its queues and what its targets do until
they need another item are one recurrence; queues between a target and the source of its other items are part of it, as
in `dchw.engines.fast.runs`. It is the known-good recurrence of a broadcast array, found in any program by its links
alone. Items go in blocks of at most a queue's depth: when the fork hands them over is known before any target takes
one, and a target's state is looked up once for all of them. A target that has something else to do ends it: the items
are left in its queue. Where the targets need nothing but the fork's items, `dchw.engines.fast.lanes` is faster still.
"""

# mypy: disable-error-code="no-any-return"
from __future__ import annotations

from dchw.compile import inlined, lean_kernel
from dchw.engines.fast.lanes import BLOCK, DEALT, HANDED, lanes_run
from dchw.engines.fast.runs import FAR_FIRING, UNSEEN, free_until, service
from dchw.engines.fast.tables import (
    ITEM,
    SLOT,
    LaneRow,
    LinkRow,
    NodeRow,
    Rows,
    Tables,
    defer,
    risen,
    wake,
    wake_source,
)

SETTLED = -1
"""In ``upto``: a target that stays behind, whose ``taken`` and ``next_taker`` are right already."""


@lean_kernel
def in_step(node: Rows[NodeRow], link: Rows[LinkRow], lane: Rows[LaneRow], at: int) -> bool:
    """Whether every target of a fork waits for its next item, with nothing to do before."""
    for p in range(node[at].lane, node[at].lane + node[at].lanes):
        x, target = lane[p].items, lane[p].node
        if link[x].taken != link[x].given or link[x].next_taker != node[target].next or node[target].started:
            return False
    return True


@lean_kernel
def fork_run(t: Tables, at: int, firing: int, quiet: int, free: int) -> tuple[int, int, int]:
    """Firings before ``quiet`` of a fork that is `in_step`, and what its targets do with the items.

    ``free`` is the finish before ``firing``, or its start if it has one. Gives the next firing, its predecessor's
    finish, and cycles stalled. Stops behind the first block of items that some target cannot deal with here.
    """
    node, link, lane, room = t.node, t.link, t.lane, t.room
    begin, end = node[at].lane, node[at].lane + node[at].lanes
    item, giver = link[lane[begin].items].given, link[lane[begin].items].next_giver
    stalled, done, smooth, begun_at = 0, 0, True, firing
    while smooth and giver < quiet:
        block = item
        item, giver, firing, free, stall, fired = lanes_run(t, at, item, giver, quiet, firing, free)
        stalled += stall
        done += fired
        if item > block:
            continue
        giver, firing, free, stall, count = _hand_over(t, at, item, giver, quiet, firing, free)
        stalled += stall
        if count == 0:
            break
        for p in range(begin, end):
            room[DEALT, p - begin] = 0
        going = True
        while going:
            going = False
            # in turns: a source of several targets' other items serves them one after another
            for p in range(begin, end):
                dealt = room[DEALT, p - begin]
                if 0 <= dealt < count:
                    more, partly, fired = _lane_run(t, at, p, item, dealt, count)
                    done += fired
                    going |= more > dealt
                    room[DEALT, p - begin] = ~more if partly else more
        for p in range(begin, end):
            dealt = room[DEALT, p - begin]
            if dealt < count:
                smooth = False
                _leave(t, p, item, dealt, count)
        item += count
    for p in range(begin, end):
        x = lane[p].items
        link[x].given, link[x].next_giver = item, giver
        if link[x].upto != SETTLED:
            link[x].taken, link[x].next_taker = item, node[lane[p].node].next
            link[x].wanted |= ITEM  # it may have waited for something else before
        link[x].upto = 0
    t.run.done += done
    t.run.with_forks += done + firing - begun_at
    return firing, free, stalled


@lean_kernel
def _hand_over(
    t: Tables, at: int, item: int, giver: int, quiet: int, firing: int, free: int
) -> tuple[int, int, int, int, int]:
    """Finish of the fork's firings that give the next items, in HANDED, as far as all slots are known.

    Gives the next giver, the fork's next firing, its predecessor's finish, cycles stalled, and the number of items.
    """
    node, link, lane, ring, lists, room = t.node, t.link, t.lane, t.ring, t.lists, t.room
    begin, end = node[at].lane, node[at].lane + node[at].lanes
    first = lane[begin].items
    mask, depth, by = link[first].mask, link[first].depth, link[first].given_by
    occupied, constant = node[at].occupied, node[at].constant
    most, count, stall = min(BLOCK, depth) if depth > 0 else BLOCK, 0, 0
    while count < most and giver < quiet:
        after = lists[by + item + count + 1] if by >= 0 else giver + 1
        if after == giver:
            break
        free += service(lists, occupied, constant, firing, giver + 1)
        firing, giver = giver + 1, after
        if item + count >= depth > 0:
            behind, slot = (item + count - depth) & mask, 0
            for p in range(begin, end):
                slot = max(slot, ring[lane[p].ring + behind])
            if slot >= free:
                stall += slot + 1 - free
                free = slot + 1
        room[HANDED, count] = free
        count += 1
    return giver, firing, free, stall, count


@lean_kernel
def _leave(t: Tables, p: int, item: int, dealt: int, count: int) -> None:
    """Leave the items of a block that a target did not deal with in its queue, and let it go on by itself.

    ``dealt`` items are taken; ~``dealt``, where it has begun with another and not finished.
    """
    node, link, lane, ring = t.node, t.link, t.lane, t.ring
    x, base, target = lane[p].items, lane[p].ring, lane[p].node
    mask, hold, by = link[x].mask, link[x].hold, link[x].taken_by
    taken = ~dealt + 1 if dealt < 0 else dealt
    for k in range(taken, count):
        ring[base + ((item + k) & mask)] = t.room[HANDED, k] - 1 + hold
    link[x].taken = item + taken
    link[x].next_taker = t.lists[by + item + taken] if by >= 0 else node[target].next
    link[x].upto = SETTLED
    wake(t.run, node, t.arbiter, t.queue, target)


@inlined
def _lane_run(t: Tables, at: int, p: int, first: int, dealt: int, count: int) -> tuple[int, bool, int]:
    """What a target does with items ``first + dealt`` .. ``first + count`` of a block whose hand-over is known.

    Gives the items dealt with, whether another is begun, and firings done: the target's, and those of the source of
    its other items, which are done on the way where it has nothing else to do.
    """
    node, link, lane, span, ring, lists, room = t.node, t.link, t.lane, t.span, t.ring, t.lists, t.room
    column, rings, target, x = lane[p].items, lane[p].ring, lane[p].node, lane[p].other
    mask, hold, depth = link[column].mask, link[column].hold, link[column].depth
    column_by, fill = link[column].taken_by, link[column].peak
    occupied, constant, quiet = node[target].occupied, node[target].constant, node[target].quiet
    reached, finish, idle, partly = node[target].next, node[target].finish, 0, False
    begun_at = reached
    base = mask_other = initial = hold_other = by = depth_other = item = given = peak = 0
    taker, source, next_giver, source_by = FAR_FIRING, -1, 0, -1
    if x >= 0:
        base, mask_other, initial, hold_other = link[x].ring, link[x].mask, link[x].initial, link[x].hold
        by, depth_other, item, given = link[x].taken_by, link[x].depth, link[x].taken, link[x].given
        peak, taker = max(link[x].peak, 1), link[x].next_taker
        source, next_giver, source_by = link[x].source, link[x].next_giver, link[x].given_by
    taken_before, given_before = item, given
    source_quiet, source_firing, source_free, source_stall = UNSEEN, 0, 0, 0
    source_occupied = source_constant = 0
    while dealt < count:
        begun = reached
        until = begun + 1 if column_by < 0 else lists[column_by + first + dealt + 1]
        if not begun < until <= quiet:
            break
        start = max(finish, room[HANDED, dealt] - 1 + hold)
        waited, first_start = start - finish, start
        if taker >= until:
            start += service(lists, occupied, constant, begun, until)
            reached = until
        while reached < until:
            if taker == reached:
                after = lists[by + item + 1] if by >= 0 else reached + 1
                if after == reached:
                    break
                place = base + (item & mask_other)
                if item < given:
                    seen = ring[place]
                else:
                    if source_quiet == UNSEEN:
                        source_quiet = -1
                        if source not in (at, target):
                            source_quiet = free_until(t, source, x)
                        if source_quiet >= 0:
                            source_firing = node[source].next
                            source_free = node[source].start if node[source].started else node[source].finish
                            source_occupied, source_constant = node[source].occupied, node[source].constant
                    if next_giver >= source_quiet:
                        break
                    giver_after = lists[source_by + item + 1] if source_by >= 0 else next_giver + 1
                    if giver_after == next_giver:
                        break
                    source_free += service(lists, source_occupied, source_constant, source_firing, next_giver + 1)
                    if item - depth_other >= initial and depth_other > 0:
                        slot = ring[base + ((item - depth_other) & mask_other)]
                        if slot >= source_free:
                            source_stall += slot + 1 - source_free
                            source_free = slot + 1
                    source_firing, next_giver = next_giver + 1, giver_after
                    given += 1
                    seen = source_free - 1 + hold_other
                if seen > start:
                    waited += seen - start
                    start = seen
                if peak != depth_other and item >= initial:
                    peak = risen(ring, base, mask_other, initial, item, seen - hold_other, peak)
                ring[place] = start + 1
                item += 1
                taker = after
            if reached == begun:
                first_start = start
            start += constant if constant else lists[occupied + reached]
            reached += 1
        if reached == begun:
            break
        finish = start
        idle += waited
        ring[rings + ((first + dealt) & mask)] = first_start + 1
        if fill != depth or depth == 0:
            fill = max(fill, 1)
            while first + dealt >= fill and ring[rings + ((first + dealt - fill) & mask)] >= room[HANDED, dealt]:
                fill += 1
        if reached < until:
            partly = True
            break
        dealt += 1
        if given > given_before and next_giver >= source_quiet:
            break  # the source serves another target first; to find that out at the next entry would take longer
    done = reached - begun_at
    if done > 0:
        node[target].next, node[target].finish, link[column].peak = reached, finish, fill
        if idle:
            span[node[target].span].idle += idle
    if item > taken_before:
        link[x].taken, link[x].next_taker = item, taker
        if item > initial:
            link[x].peak = peak
        if given > given_before:
            done += source_firing - node[source].next
            node[source].next, node[source].finish, node[source].started = source_firing, source_free, 0
            span[node[source].span].stall += source_stall
            link[x].given, link[x].next_giver = given, next_giver
        if link[x].wanted & SLOT:
            if source < node.shape[0]:
                link[x].wanted &= ~SLOT
                defer(t.run, node, source)
            else:
                wake_source(t.run, node, link, t.arbiter, t.queue, x)
    return dealt, partly, done
