"""Kernels for runs of firings of one node, taken in one go: nothing but few links move, and nobody looks at times.

They do what single firings do (`dchw.engines.fast.firings`), by the same recurrences of T3 and T4, with the state of
the links that move in local variables.
"""

# mypy: disable-error-code="no-any-return"
from __future__ import annotations

from dchw.compile import inlined
from dchw.engines.fast.tables import (
    ITEM,
    SLOT,
    Ints32,
    Tables,
    peak_at,
)

FAR_FIRING = 2**62
UNSEEN = -2


@inlined
def service(lists: Ints32, occupied: int, constant: int, firing: int, until: int) -> int:
    """Cycles that firings ``firing`` .. ``until`` of a node are occupied."""
    if constant:
        return constant * (until - firing)
    cycles = 0
    for place in range(occupied + firing, occupied + until):
        cycles += lists[place]
    return cycles


@inlined
def take_run(t: Tables, at: int, firing: int, quiet: int, finish: int) -> tuple[int, int, int, int, bool, int]:
    """Firings before ``quiet`` that give nothing and take from ``main`` and ``other`` only, an item each at most.

    Where an item of ``main`` is not there yet and its source has nothing to do but to give it, the source's firing is
    done on the way: the two nodes and the queue between them are one recurrence then.

    Gives the next firing, its predecessor's finish, cycles idle, the first start (-1: no firing), whether an item is
    missing, and how many firings of the source were done.
    """
    node, link, span, ring, lists = t.node, t.link, t.span, t.ring, t.lists
    occupied, constant, main, other = node[at].occupied, node[at].constant, node[at].main, node[at].other
    base = mask = initial = hold = by = item = given = peak = 0
    other_base = other_mask = other_initial = other_hold = other_by = other_item = other_given = other_peak = 0
    next_main = next_other = FAR_FIRING
    if main >= 0:
        base, mask, initial, hold, by = (
            link[main].ring, link[main].mask, link[main].initial, link[main].hold, link[main].taken_by
        )  # fmt: skip
        item, given, peak, next_main = link[main].taken, link[main].given, link[main].peak, link[main].next_taker
    if other >= 0:
        other_base, other_mask, other_initial, other_hold, other_by = (
            link[other].ring, link[other].mask, link[other].initial, link[other].hold, link[other].taken_by
        )  # fmt: skip
        other_item, other_given, other_peak, next_other = (
            link[other].taken, link[other].given, link[other].peak, link[other].next_taker
        )  # fmt: skip
    # the source of ``main``, looked at when an item is missing for the first time
    source, source_firing, source_quiet, source_free, source_stall, pulled = UNSEEN, 0, 0, 0, 0, 0
    source_occupied = source_constant = source_by = next_giver = depth = 0
    idle, first, blocked = 0, -1, False
    while firing < quiet:
        if next_main > firing and next_other > firing:
            until = min(quiet, min(next_main, next_other))
            if first < 0:
                first = finish
            finish += service(lists, occupied, constant, firing, until)
            firing = until
            continue
        start, after, other_after, place, other_place, visible, other_visible = finish, 0, 0, 0, 0, 0, 0
        if next_other == firing:
            other_after = lists[other_by + other_item + 1] if other_by >= 0 else firing + 1
            if other_after == firing:
                break
            if other_item >= other_given:
                link[other].wanted |= ITEM
                blocked = True
                break
            other_place = other_base + (other_item & other_mask)
            other_visible = ring[other_place]
            start = max(start, other_visible)
        if next_main == firing:
            after = lists[by + item + 1] if by >= 0 else firing + 1
            if after == firing:
                break
            place = base + (item & mask)
            if item < given:
                visible = ring[place]
            else:
                if source == UNSEEN:
                    source = link[main].source
                    source_quiet = free_until(t, source, main) if source != at else -1
                    if source_quiet >= 0:
                        source_firing = node[source].next
                        source_free = node[source].start if node[source].started else node[source].finish
                        source_occupied, source_constant = node[source].occupied, node[source].constant
                        source_by, next_giver, depth = link[main].given_by, link[main].next_giver, link[main].depth
                given_after = next_giver + 1
                if next_giver < source_quiet and source_by >= 0:
                    given_after = lists[source_by + item + 1]
                if next_giver >= source_quiet or given_after == next_giver:
                    link[main].wanted |= ITEM
                    blocked = True
                    break
                cycles = source_constant
                if next_giver > source_firing or cycles == 0:
                    cycles = service(lists, source_occupied, source_constant, source_firing, next_giver + 1)
                visible = source_free + cycles - 1
                if depth and item - depth >= initial:
                    slot = ring[base + ((item - depth) & mask)]
                    if slot > visible:
                        source_stall += slot - visible
                        visible = slot
                source_free = visible + 1
                visible += hold
                pulled += next_giver + 1 - source_firing
                source_firing, next_giver = next_giver + 1, given_after
                given += 1
            start = max(start, visible)
            if item >= initial:
                peak = peak_at(ring, base, mask, initial, item, visible - hold, peak)
            ring[place] = start + 1
            item += 1
            next_main = after
        if next_other == firing:
            if other_item >= other_initial:
                other_peak = peak_at(
                    ring, other_base, other_mask, other_initial, other_item, other_visible - other_hold, other_peak
                )
            ring[other_place] = start + 1
            other_item += 1
            next_other = other_after
        if first < 0:
            first = start
        idle += start - finish
        finish = start + (constant if constant else lists[occupied + firing])
        firing += 1
    if main >= 0:
        link[main].taken, link[main].peak, link[main].next_taker = item, peak, next_main
    if other >= 0:
        link[other].taken, link[other].peak, link[other].next_taker = other_item, other_peak, next_other
    if pulled:
        link[main].given, link[main].next_giver = given, next_giver
        node[source].next, node[source].finish, node[source].started = source_firing, source_free, 0
        span[node[source].span].stall += source_stall
    return firing, finish, idle, first, blocked, pulled


@inlined
def free_until(t: Tables, at: int, x: int) -> int:
    """The firing before which a node moves items of link ``x`` only; -1 if it must do something else first."""
    node, link, ends, span = t.node, t.link, t.ends, t.span
    if at >= node.shape[0] or node[at].span >= span.shape[0]:
        return -1
    here = node[at].span
    if span[here].start < 0:
        return -1
    until = span[here].end - 1  # the last firing of a layer is for `dchw.engines.fast.firings`
    for end in range(node[at].into, node[at].out_of):
        until = min(until, link[ends[end]].next_taker)
    for end in range(node[at].out_of, node[at].stop):
        if until <= node[at].next:
            break
        if ends[end] != x:
            until = min(until, link[ends[end]].next_giver)
    return until if until > node[at].next else -1


@inlined
def give_run(t: Tables, at: int, firing: int, quiet: int, free: int) -> tuple[int, int, int, bool]:
    """Firings before ``quiet`` that take nothing and give one item each to the same links, as far as slots are known.

    ``free`` is the finish before ``firing``, or its start if it has one. Gives the next firing, its predecessor's
    finish, cycles stalled, and whether a slot is missing for the very first.
    """
    node, link, ends, ring, lists, need = t.node, t.link, t.ends, t.ring, t.lists, t.scratch
    occupied, constant, out_of, stop = node[at].occupied, node[at].constant, node[at].out_of, node[at].stop
    count = min(quiet - firing, need.shape[0])
    seen = -1  # the list looked at last: links of a fork often share one
    for end in range(out_of, stop):
        x = ends[end]
        if link[x].next_giver != firing:
            count = min(count, link[x].next_giver - firing)
            continue
        item, by = link[x].given, link[x].given_by
        if by >= 0 and by + item != seen:
            seen = by + item
            single = 1
            while single < count and lists[seen + single] == firing + single:
                single += 1
            count = single if lists[seen + single] != firing + single - 1 else single - 1
            if count == 0:
                return firing, free, 0, False
    for end in range(out_of, stop):
        x = ends[end]
        if link[x].next_giver == firing and link[x].depth:
            room = max(link[x].taken, link[x].initial) + link[x].depth - link[x].given
            if room <= 0:
                link[x].wanted |= SLOT
                return firing, free, 0, True
            count = min(count, room)
    for turn in range(count):
        need[turn] = 0
    for end in range(out_of, stop):
        x = ends[end]
        depth = link[x].depth
        if link[x].next_giver != firing or depth == 0:
            continue
        base, mask, behind = link[x].ring, link[x].mask, link[x].given - depth
        for turn in range(max(link[x].initial - behind, 0), count):
            need[turn] = max(need[turn], ring[base + ((behind + turn) & mask)])
    stall = 0
    for turn in range(count):
        busy_until = free + (constant if constant else lists[occupied + firing + turn]) - 1
        handover = max(busy_until, need[turn])
        stall += handover - busy_until
        need[turn] = handover
        free = handover + 1
    for end in range(out_of, stop):
        x = ends[end]
        if link[x].next_giver != firing:
            continue
        base, mask, item, hold, by = link[x].ring, link[x].mask, link[x].given, link[x].hold, link[x].given_by
        for turn in range(count):
            ring[base + ((item + turn) & mask)] = need[turn] + hold
        link[x].given = item + count
        link[x].next_giver = lists[by + item + count] if by >= 0 else firing + count
    return firing + count, free, stall, False
