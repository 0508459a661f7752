"""Kernels of the fast engine: no events and no clock, only the times that each firing's neighbours imply.

Firing nodes are determinate: whatever order they run in, their times come out the same. So each runs in a burst until
an item or slot it needs is not known yet. Only when none can go on do arbiters and the memory decide, at the earliest
cycle anything is decided at: what is not known yet follows some decision, so it is visible later than that cycle.
"""

from __future__ import annotations

from dchw.compile import kernel
from dchw.simulate.fast_shared import decide, deliver, grant, next_memory_clock
from dchw.simulate.fast_tables import (
    CONSTANT,
    COUNT,
    DEPTH,
    DIRTY,
    DONE,
    FINISH,
    FREED,
    GIVEN,
    GIVEN_BY,
    HOLD,
    INITIAL,
    INTO,
    ITEM,
    MASK,
    NEXT,
    NEXT_GIVER,
    NEXT_TAKER,
    OCCUPIED,
    OUT_OF,
    PEAK,
    PENDING,
    QUEUE_COUNT,
    QUEUE_HEAD,
    QUEUED,
    RECORDING,
    RING,
    SLOT,
    SPAN,
    SPAN_END,
    SPAN_FINISH,
    SPAN_IDLE,
    SPAN_STALL,
    SPAN_START,
    START,
    STARTED,
    STOP,
    TAKEN,
    TAKEN_BY,
    UPTO,
    WAITED_FOR,
    WANTED,
    Ints,
    Ints32,
    Tables,
    record,
    wake_source,
    wake_target,
)
from dchw.simulate.memory import FAR, clock_from, cycle_during, step

PAUSED, STUCK = range(2)


@kernel
def advance(t: Tables, budget: int) -> int:
    """Run until about ``budget`` more firings are done (PAUSED) or nothing can go on (STUCK: finished or deadlock)."""
    run, arbiter = t.run, t.arbiter
    target = run[DONE] + budget
    while True:
        _fire(t, target)
        if run[QUEUE_COUNT] > 0:
            return PAUSED
        cycle = FAR
        for a in range(arbiter.shape[0]):
            if arbiter[a, DIRTY]:
                arbiter[a, DIRTY] = 0
                arbiter[a, PENDING] = decide(t, a)
            cycle = min(cycle, arbiter[a, PENDING])
        clock = next_memory_clock(t)
        if clock != FAR and cycle_during(t.memory.reg, clock) <= cycle:
            # up to the decision at ``cycle`` nothing unknown can reach the memory
            limit = FAR if cycle == FAR else clock_from(t.memory.reg, cycle + 1)
            if step(t.memory, limit):
                deliver(t)
        elif cycle == FAR:
            return STUCK
        else:
            for a in range(arbiter.shape[0]):
                while arbiter[a, PENDING] == cycle:
                    grant(t, a, cycle)
                    arbiter[a, PENDING] = decide(t, a)


@kernel
def _fire(t: Tables, target: int) -> None:
    # every queued node fires until it is done or must wait (T3, T4), or until DONE reaches the target; one function
    # almost without calls in its loop, because it is where all the time goes. Runs of firings that move items of one
    # link only, or of none, are done at once unless their times are recorded
    run, node, link, ends, ring, lists = t.run, t.node, t.link, t.ends, t.ring, t.lists
    span, service, arbiter, queue = t.span, t.occupied, t.arbiter, t.queue
    recording = run[RECORDING]
    while run[QUEUE_COUNT] > 0 and run[DONE] < target:
        at = queue[run[QUEUE_HEAD]]
        run[QUEUE_HEAD] = (run[QUEUE_HEAD] + 1) % queue.shape[0]
        run[QUEUE_COUNT] -= 1
        node[at, QUEUED] = 0
        into, out_of, stop = node[at, INTO], node[at, OUT_OF], node[at, STOP]
        firing, finish, count = node[at, NEXT], node[at, FINISH], node[at, COUNT]
        occupied, constant = node[at, OCCUPIED], node[at, CONSTANT]
        begun, started = firing, node[at, STARTED]
        start, waited_for = node[at, START], node[at, WAITED_FOR]
        here = node[at, SPAN]
        stall, idle = span[here, SPAN_STALL], span[here, SPAN_IDLE]
        span_end, fresh = span[here, SPAN_END], span[here, SPAN_START] < 0
        while firing < count:
            blocked = False
            before = firing
            if not started and not recording:
                # until ``quiet`` at most one link moves: no need to look at the others
                alone, moving, quiet = -1, 0, span_end
                for end in range(into, stop):
                    mover = link[ends[end], NEXT_TAKER if end < out_of else NEXT_GIVER]
                    if mover == firing:
                        alone, moving = end, moving + 1
                        if moving > 1:
                            break
                    else:
                        quiet = min(quiet, mover)
                if moving == 0:
                    if fresh:
                        span[here, SPAN_START] = finish
                    finish += _service(service, occupied, constant, firing, quiet)
                    firing, fresh = quiet, False
                elif moving == 1 and quiet > firing + 1 and _goes_on(link, lists, ends[alone], alone < out_of, firing):
                    x, first = ends[alone], finish
                    if alone < out_of:
                        firing, finish, waited, first, blocked = _take_run(
                            link, ring, lists, service, x, occupied, constant, firing, quiet, finish
                        )
                        idle += waited
                        if firing > before and link[x, WANTED] & SLOT:
                            wake_source(run, node, link, arbiter, queue, x)
                    else:
                        firing, finish, held, blocked = _give_run(
                            link, ring, lists, service, x, occupied, constant, firing, quiet, finish
                        )
                        stall += held
                        if firing > before and link[x, WANTED] & ITEM:
                            wake_target(run, node, link, arbiter, queue, x)
                        start, waited_for, started = finish, -1, 1 if blocked else 0
                    if fresh and (firing > before or started):
                        span[here, SPAN_START] = first
                        fresh = False
            if firing == before and not blocked:
                if not started:
                    start, waited_for = finish, -1
                    for end in range(into, out_of):
                        x = ends[end]
                        if link[x, NEXT_TAKER] != firing:
                            continue
                        upto, by = link[x, TAKEN] + 1, link[x, TAKEN_BY]
                        if by >= 0:
                            while lists[by + upto] == firing:
                                upto += 1
                        if upto > link[x, GIVEN]:
                            link[x, WANTED] |= ITEM
                            blocked = True
                            break
                        link[x, UPTO] = upto
                        visible = ring[link[x, RING] + ((upto - 1) & link[x, MASK])]
                        if visible > start:
                            start, waited_for = visible, x
                    if blocked:
                        break
                    idle += start - finish
                    for end in range(into, out_of):
                        # each place in the ring turns from the item's time into its slot's
                        x = ends[end]
                        if link[x, NEXT_TAKER] != firing:
                            continue
                        upto, by = link[x, UPTO], link[x, TAKEN_BY]
                        link[x, NEXT_TAKER] = lists[by + upto] if by >= 0 else firing + 1
                        base, mask, freed, peak = link[x, RING], link[x, MASK], link[x, FREED], link[x, PEAK]
                        for item in range(link[x, TAKEN], upto):
                            place = base + (item & mask)
                            if item >= link[x, INITIAL]:
                                held_from = ring[place] - link[x, HOLD]
                                while freed < item and ring[base + (freed & mask)] <= held_from:
                                    freed += 1
                                peak = max(peak, item + 1 - freed)
                            ring[place] = start + 1
                        link[x, FREED], link[x, PEAK], link[x, TAKEN] = freed, peak, upto
                        if link[x, WANTED] & SLOT:
                            wake_source(run, node, link, arbiter, queue, x)
                    if fresh:
                        span[here, SPAN_START] = start
                        fresh = False
                    started = 1
                busy_until = start + (constant if constant else service[occupied + firing]) - 1
                handover, stalled_by = busy_until, -1
                for end in range(out_of, stop):
                    x = ends[end]
                    if link[x, NEXT_GIVER] != firing:
                        continue
                    upto, by = link[x, GIVEN] + 1, link[x, GIVEN_BY]
                    if by >= 0:
                        while lists[by + upto] == firing:
                            upto += 1
                    link[x, UPTO] = upto
                    needs = upto - 1 - link[x, DEPTH]
                    if link[x, DEPTH] and needs >= link[x, INITIAL]:
                        if needs >= link[x, TAKEN]:
                            link[x, WANTED] |= SLOT
                            blocked = True
                            break
                        visible = ring[link[x, RING] + (needs & link[x, MASK])]
                        if visible > handover:
                            handover, stalled_by = visible, x
                if blocked:
                    break
                for end in range(out_of, stop):
                    x = ends[end]
                    if link[x, NEXT_GIVER] != firing:
                        continue
                    upto, by = link[x, UPTO], link[x, GIVEN_BY]
                    link[x, NEXT_GIVER] = lists[by + upto] if by >= 0 else firing + 1
                    for item in range(link[x, GIVEN], upto):
                        ring[link[x, RING] + (item & link[x, MASK])] = handover + link[x, HOLD]
                    link[x, GIVEN] = upto
                    if link[x, WANTED] & ITEM:
                        wake_target(run, node, link, arbiter, queue, x)
                stall += handover - busy_until
                finish = handover + 1
                if recording:
                    record(t, at, firing, start, finish, waited_for, stalled_by)
                firing += 1
                started = 0
            if firing == span_end:
                span[here, SPAN_STALL], span[here, SPAN_IDLE], span[here, SPAN_FINISH] = stall, idle, finish
                if firing < count:
                    here += 1
                    span_end, stall, idle, fresh = span[here, SPAN_END], 0, 0, True
            if blocked:
                break
        if firing < count:
            span[here, SPAN_STALL], span[here, SPAN_IDLE] = stall, idle
        node[at, NEXT], node[at, FINISH], node[at, STARTED] = firing, finish, started
        node[at, START], node[at, WAITED_FOR], node[at, SPAN] = start, waited_for, here
        run[DONE] += firing - begun


@kernel
def _service(service: Ints32, occupied: int, constant: int, firing: int, until: int) -> int:
    # cycles that firings ``firing`` .. ``until`` of a node are occupied
    if constant:
        return constant * (until - firing)
    cycles = 0
    for place in range(occupied + firing, occupied + until):
        cycles += service[place]
    return cycles


@kernel
def _goes_on(link: Ints, lists: Ints32, x: int, takes: bool, firing: int) -> bool:
    # whether the next firing moves a link's next item and this one only one
    by, item = (link[x, TAKEN_BY], link[x, TAKEN]) if takes else (link[x, GIVEN_BY], link[x, GIVEN])
    return by < 0 or bool(lists[by + item + 1] == firing + 1)


@kernel
def _take_run(
    link: Ints,
    ring: Ints,
    lists: Ints32,
    service: Ints32,
    x: int,
    occupied: int,
    constant: int,
    firing: int,
    quiet: int,
    finish: int,
) -> tuple[int, int, int, int, bool]:
    # firings that take one item of one link each and do nothing else, as far as they go: the next firing, its
    # predecessor's finish, cycles idle, the first start, and whether the next item is missing
    base, mask, initial, hold = link[x, RING], link[x, MASK], link[x, INITIAL], link[x, HOLD]
    item, given, by, freed, peak = link[x, TAKEN], link[x, GIVEN], link[x, TAKEN_BY], link[x, FREED], link[x, PEAK]
    before, idle, first, blocked = item, 0, finish, False
    while firing < quiet:
        if by >= 0 and (lists[by + item] != firing or lists[by + item + 1] == firing):
            break
        if item >= given:
            link[x, WANTED] |= ITEM
            blocked = True
            break
        place = base + (item & mask)
        start = max(finish, ring[place])
        if item == before:
            first = start
        if item >= initial:
            held_from = ring[place] - hold
            while freed < item and ring[base + (freed & mask)] <= held_from:
                freed += 1
            peak = max(peak, item + 1 - freed)
        ring[place] = start + 1
        idle += start - finish
        finish = start + (constant if constant else service[occupied + firing])
        item += 1
        firing += 1
    if item > before:
        link[x, TAKEN], link[x, FREED], link[x, PEAK] = item, freed, peak
        link[x, NEXT_TAKER] = lists[by + item] if by >= 0 else firing
    return firing, finish, idle, first, blocked


@kernel
def _give_run(
    link: Ints,
    ring: Ints,
    lists: Ints32,
    service: Ints32,
    x: int,
    occupied: int,
    constant: int,
    firing: int,
    quiet: int,
    finish: int,
) -> tuple[int, int, int, bool]:
    # firings that give one item to one link each and do nothing else, as far as they go: the next firing, its
    # predecessor's finish, cycles stalled, and whether it has started and lacks its slot
    base, mask, initial, hold = link[x, RING], link[x, MASK], link[x, INITIAL], link[x, HOLD]
    item, taken, by, depth = link[x, GIVEN], link[x, TAKEN], link[x, GIVEN_BY], link[x, DEPTH]
    before, stall, blocked = item, 0, False
    while firing < quiet:
        if by >= 0 and (lists[by + item] != firing or lists[by + item + 1] == firing):
            break
        busy_until = finish + (constant if constant else service[occupied + firing]) - 1
        handover = busy_until
        if depth and item - depth >= initial:
            if item - depth >= taken:
                link[x, WANTED] |= SLOT
                blocked = True
                break
            handover = max(handover, ring[base + ((item - depth) & mask)])
        ring[base + (item & mask)] = handover + hold
        stall += handover - busy_until
        finish = handover + 1
        item += 1
        firing += 1
    if item > before:
        link[x, GIVEN] = item
        link[x, NEXT_GIVER] = lists[by + item] if by >= 0 else firing
    return firing, finish, stall, blocked
