"""The kernel for a fork: one node that feeds many, each through a queue of the same depth, item by item.

While every target waits for the fork's next item and nothing else, the fork, its queues and what its targets do until
they need another item are one recurrence, item by item and target by target; queues between a target and the source of
its other items are part of it, as in `dchw.simulate.fast_runs`. It is the known-good recurrence of a broadcast array,
found in any program by its links alone. A target that has something else to do ends it: the item is left in its queue.
"""

# mypy: disable-error-code="no-any-return"
from __future__ import annotations

from dchw.compile import kernel
from dchw.simulate.fast_lanes import lanes_run
from dchw.simulate.fast_tables import (
    CONSTANT,
    DEPTH,
    DONE,
    FINISH,
    GIVEN,
    GIVEN_BY,
    HOLD,
    INITIAL,
    INTO,
    LANE,
    LANE_ITEMS,
    LANE_NODE,
    LANE_OTHER,
    LANE_RING,
    LANES,
    MASK,
    NEXT,
    NEXT_GIVER,
    NEXT_TAKER,
    OCCUPIED,
    OUT_OF,
    PEAK,
    QUIET,
    RING,
    SLOT,
    SOURCE,
    SPAN,
    SPAN_END,
    SPAN_IDLE,
    SPAN_STALL,
    SPAN_START,
    START,
    STARTED,
    STOP,
    TAKEN,
    TAKEN_BY,
    UPTO,
    WANTED,
    WITH_FORKS,
    Ints,
    Ints32,
    defer,
    wake,
    wake_source,
)

SETTLED = -1
"""In UPTO: a target that stays behind, whose TAKEN and NEXT_TAKER are right already."""


@kernel
def in_step(node: Ints, link: Ints, lane: Ints, at: int) -> bool:
    """Whether every target of a fork waits for its next item, with nothing to do before."""
    for p in range(node[at, LANE], node[at, LANE] + node[at, LANES]):
        x, target = lane[p, LANE_ITEMS], lane[p, LANE_NODE]
        if link[x, TAKEN] != link[x, GIVEN] or link[x, NEXT_TAKER] != node[target, NEXT] or node[target, STARTED]:
            return False
    return True


@kernel
def fork_run(
    run: Ints,
    node: Ints,
    link: Ints,
    ends: Ints,
    lane: Ints,
    span: Ints,
    arbiter: Ints,
    queue: Ints,
    ring: Ints,
    lists: Ints32,
    room: Ints,
    at: int,
    firing: int,
    quiet: int,
    free: int,
) -> tuple[int, int, int]:
    """Firings before ``quiet`` of a fork that is `in_step`, and what its targets do with the items.

    ``free`` is the finish before ``firing``, or its start if it has one. Gives the next firing, its predecessor's
    finish, and cycles stalled. Stops behind the first item that some target cannot deal with here. One function
    without calls where it matters: each would take as long as two of its turns.
    """
    begin, end = node[at, LANE], node[at, LANE] + node[at, LANES]
    fork_occupied, fork_constant = node[at, OCCUPIED], node[at, CONSTANT]
    first = lane[begin, LANE_ITEMS]
    fork_mask, fork_depth = link[first, MASK], link[first, DEPTH]
    fork_hold, fork_by = link[first, HOLD], link[first, GIVEN_BY]
    fork_item, fork_giver = link[first, GIVEN], link[first, NEXT_GIVER]
    fork_stall, done, smooth, begun_at = 0, 0, True, firing
    while smooth and fork_giver < quiet:
        block_from = fork_item
        fork_item, fork_giver, firing, free, held, fired = lanes_run(
            node, link, lane, span, ring, lists, room, at, fork_item, fork_giver, quiet, firing, free
        )
        if fork_item > block_from:
            fork_stall += held
            done += fired
            continue
        fork_after = lists[fork_by + fork_item + 1] if fork_by >= 0 else fork_giver + 1
        if fork_after == fork_giver:
            break
        if fork_constant:
            free += fork_constant * (fork_giver + 1 - firing)
        else:
            for place in range(fork_occupied + firing, fork_occupied + fork_giver + 1):
                free += lists[place]
        firing = fork_giver + 1
        fork_place = fork_item & fork_mask
        if fork_item >= fork_depth > 0:
            behind = (fork_item - fork_depth) & fork_mask
            slot = 0
            for p in range(begin, end):
                slot = max(slot, ring[lane[p, LANE_RING] + behind])
            if slot >= free:
                fork_stall += slot + 1 - free
                free = slot + 1
        visible = free - 1 + fork_hold
        for p in range(begin, end):
            column, target, x = lane[p, LANE_ITEMS], lane[p, LANE_NODE], lane[p, LANE_OTHER]
            column_place, begun = lane[p, LANE_RING] + fork_place, node[target, NEXT]
            until = begun + 1
            if link[column, TAKEN_BY] >= 0:
                until = lists[link[column, TAKEN_BY] + fork_item + 1]
            reached, first_start = begun, 0
            if begun < until <= node[target, QUIET]:
                occupied, constant, finish = node[target, OCCUPIED], node[target, CONSTANT], node[target, FINISH]
                start = max(finish, visible)
                first_start, idle = start, start - finish
                if x < 0 or link[x, NEXT_TAKER] >= until:
                    if constant:
                        start += constant * (until - begun)
                    else:
                        for place in range(occupied + begun, occupied + until):
                            start += lists[place]
                    reached = until
                else:
                    base, mask, initial, hold = link[x, RING], link[x, MASK], link[x, INITIAL], link[x, HOLD]
                    by, item, given, peak = link[x, TAKEN_BY], link[x, TAKEN], link[x, GIVEN], max(link[x, PEAK], 1)
                    taker, depth, before, source = link[x, NEXT_TAKER], link[x, DEPTH], item, link[x, SOURCE]
                    source_quiet, source_firing, source_free, source_stall, source_by = -2, 0, 0, 0, 0
                    giver, given_before, source_occupied, source_constant = 0, given, 0, 0
                    while reached < until:
                        if taker == reached:
                            after = lists[by + item + 1] if by >= 0 else reached + 1
                            if after == reached:
                                break
                            place = base + (item & mask)
                            if item < given:
                                seen = ring[place]
                            else:
                                if source_quiet == -2:
                                    # as `fast_runs.free_until`
                                    source_quiet = -1
                                    if source < node.shape[0] and source not in (at, target):
                                        source_firing, here = node[source, NEXT], node[source, SPAN]
                                        if span[here, SPAN_START] >= 0:
                                            source_quiet = span[here, SPAN_END] - 1
                                        for place_in in range(node[source, INTO], node[source, OUT_OF]):
                                            source_quiet = min(source_quiet, link[ends[place_in], NEXT_TAKER])
                                        for place_in in range(node[source, OUT_OF], node[source, STOP]):
                                            if source_quiet <= source_firing:
                                                break
                                            if ends[place_in] != x:
                                                source_quiet = min(source_quiet, link[ends[place_in], NEXT_GIVER])
                                    giver, source_by = link[x, NEXT_GIVER], link[x, GIVEN_BY]
                                    if giver < source_quiet:
                                        source_free = node[source, FINISH]
                                        if node[source, STARTED]:
                                            source_free = node[source, START]
                                        source_occupied = node[source, OCCUPIED]
                                        source_constant = node[source, CONSTANT]
                                if giver >= source_quiet:
                                    break
                                giver_after = lists[source_by + item + 1] if source_by >= 0 else giver + 1
                                if giver_after == giver:
                                    break
                                if source_constant:
                                    source_free += source_constant * (giver + 1 - source_firing)
                                else:
                                    for turn in range(source_occupied + source_firing, source_occupied + giver + 1):
                                        source_free += lists[turn]
                                if item - depth >= initial and depth > 0:
                                    slot = ring[base + ((item - depth) & mask)]
                                    if slot >= source_free:
                                        source_stall += slot + 1 - source_free
                                        source_free = slot + 1
                                source_firing, giver = giver + 1, giver_after
                                given += 1
                                seen = source_free - 1 + hold
                            if seen > start:
                                idle += seen - start
                                start = seen
                            if peak != depth and item >= initial:
                                while item - peak >= initial and ring[base + ((item - peak) & mask)] > seen - hold:
                                    peak += 1
                            ring[place] = start + 1
                            item += 1
                            taker = after
                        if reached == begun:
                            first_start = start
                        start += constant if constant else lists[occupied + reached]
                        reached += 1
                    if reached > begun:
                        link[x, TAKEN], link[x, NEXT_TAKER] = item, taker
                        if item > initial:
                            link[x, PEAK] = peak
                        if given > given_before:
                            done += source_firing - node[source, NEXT]
                            node[source, NEXT], node[source, FINISH] = source_firing, source_free
                            node[source, STARTED] = 0
                            span[node[source, SPAN], SPAN_STALL] += source_stall
                            link[x, GIVEN], link[x, NEXT_GIVER] = given, giver
                        if item > before and link[x, WANTED] & SLOT:
                            if source < node.shape[0]:
                                link[x, WANTED] &= ~SLOT
                                defer(run, node, source)
                            else:
                                wake_source(run, node, link, arbiter, queue, x)
                if reached > begun:
                    node[target, NEXT], node[target, FINISH] = reached, start
                    if idle:
                        span[node[target, SPAN], SPAN_IDLE] += idle
                    done += reached - begun
            if reached > begun:
                ring[column_place] = first_start + 1
                if link[column, PEAK] != fork_depth or fork_depth == 0:
                    most = max(link[column, PEAK], 1)
                    while fork_item >= most and (ring[lane[p, LANE_RING] + ((fork_item - most) & fork_mask)] >= free):
                        most += 1
                    link[column, PEAK] = most
            else:
                ring[column_place] = visible
            if reached == begun or reached < until:
                smooth = False
                link[column, TAKEN] = fork_item if reached == begun else fork_item + 1
                link[column, NEXT_TAKER], link[column, UPTO] = until if reached > begun else begun, SETTLED
                wake(run, node, arbiter, queue, target)
        fork_item += 1
        fork_giver = fork_after
    for p in range(begin, end):
        column = lane[p, LANE_ITEMS]
        link[column, GIVEN], link[column, NEXT_GIVER] = fork_item, fork_giver
        if link[column, UPTO] != SETTLED:
            link[column, TAKEN], link[column, NEXT_TAKER] = fork_item, node[lane[p, LANE_NODE], NEXT]
        link[column, UPTO] = 0
    run[DONE] += done
    run[WITH_FORKS] += done + firing - begun_at
    return firing, free, fork_stall
