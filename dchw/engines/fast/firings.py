"""Kernels of the fast engine: no events and no clock, only the times that each firing's neighbours imply.

Firing nodes are determinate: whatever order they run in, their times come out the same. So each runs in a burst until
an item or slot it needs is not known yet. Only when none can go on do arbiters and the memory decide, at the earliest
cycle anything is decided at: what is not known yet follows some decision, so it is visible later than that cycle.
"""

from __future__ import annotations

from dchw.compile import lean_kernel
from dchw.dram.controller import run_idle
from dchw.engines.fast.forks import fork_run, in_step
from dchw.engines.fast.runs import give_run, take_run
from dchw.engines.fast.shared import decide, deliver, grant, next_memory_clock
from dchw.engines.fast.tables import (
    CONSTANT,
    COUNT,
    DEFERRALS,
    DEFERRED,
    DEPTH,
    DIRTY,
    DONE,
    FINISH,
    FORKED,
    GIVEN,
    GIVEN_BY,
    HOLD,
    IN_RUNS,
    INITIAL,
    INTO,
    ITEM,
    LANES,
    LATEST_ANSWER,
    MAIN,
    MASK,
    NEXT,
    NEXT_GIVER,
    NEXT_TAKER,
    NOT_QUEUED,
    OCCUPIED,
    OTHER,
    OUT_OF,
    PEAK,
    PENDING,
    QUEUE_COUNT,
    QUEUE_HEAD,
    QUEUED,
    QUIET,
    RECORDING,
    RING,
    SLOT,
    SOURCE,
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
    Tables,
    defer,
    peak_at,
    queue_deferred,
    record,
    settle_peaks,
    wake,
    wake_source,
    wake_target,
)
from dchw.engines.memory import FAR, clock_from, cycle_during, step

PAUSED, STUCK = range(2)
MEMORY_WORK = 64
"""Firings that take as long as what the memory does between two answers."""


@lean_kernel
def advance(t: Tables, budget: int) -> int:
    """Run until about ``budget`` more firings are done (PAUSED) or nothing can go on (STUCK: finished or deadlock).

    Grants and what the memory does count as firings, so that a call takes some tenths of a second at most. At the end
    idle memory channels are run on, and items never taken are counted into the links' peaks.
    """
    run, arbiter = t.run, t.arbiter
    target = run[DONE] + budget
    while True:
        _fire(t, target)
        if run[QUEUE_COUNT] > 0 or run[DEFERRALS] > 0 or run[DONE] >= target:
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
            target -= MEMORY_WORK
            if step(t.memory, limit):
                deliver(t)
        elif cycle == FAR:
            return STUCK if _run_out(t, budget) else PAUSED
        else:
            for a in range(arbiter.shape[0]):
                while arbiter[a, PENDING] == cycle:
                    target -= 1
                    grant(t, a, cycle)
                    arbiter[a, PENDING] = decide(t, a)


@lean_kernel
def _run_out(t: Tables, work: int) -> bool:
    # to the end of the run idle channels refresh, and banks stay open; what was never taken still counts
    cycles = t.run[LATEST_ANSWER]
    for at in range(t.node.shape[0]):
        cycles = max(cycles, t.node[at, FINISH])
    if t.memory.port.shape[0] > 0 and not run_idle(t.memory.channels, clock_from(t.memory.reg, cycles), work):
        return False
    settle_peaks(t)
    return True


@lean_kernel
def _fire(t: Tables, target: int) -> None:
    # every queued node fires until it is done or must wait (T3, T4), or until DONE reaches the target. Runs of firings
    # that only take or only give are done at once, unless their times are recorded; what is left are single firings,
    # in one loop almost without calls
    run, node, link, ends, ring, lists = t.run, t.node, t.link, t.ends, t.ring, t.lists
    span, arbiter, queue = t.span, t.arbiter, t.queue
    recording = run[RECORDING]
    while run[DONE] < target:
        if run[QUEUE_COUNT] == 0:
            if run[DEFERRALS] == 0:
                break
            queue_deferred(run, node, queue)
        at = queue[run[QUEUE_HEAD]]
        run[QUEUE_HEAD] = (run[QUEUE_HEAD] + 1) % queue.shape[0]
        run[QUEUE_COUNT] -= 1
        node[at, QUEUED] = NOT_QUEUED
        into, out_of, stop = node[at, INTO], node[at, OUT_OF], node[at, STOP]
        main, other = node[at, MAIN], node[at, OTHER]
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
            if not recording:
                # the next firing that takes from a third link, takes at all, gives
                third, takes, gives = span_end, span_end, span_end
                for end in range(into, out_of):
                    x = ends[end]
                    if x in (main, other):
                        takes = min(takes, link[x, NEXT_TAKER])
                    else:
                        third = min(third, link[x, NEXT_TAKER])
                for end in range(out_of, stop):
                    gives = min(gives, link[ends[end], NEXT_GIVER])
                node[at, QUIET] = 0 if fresh else min(min(third, gives), span_end - 1)
                free = finish
                if not started and min(third, gives) > firing:
                    firing, finish, waited, first, blocked, pulled = take_run(
                        node, link, ends, span, ring, lists, at, firing, min(third, gives), finish
                    )
                    run[DONE] += pulled
                    run[IN_RUNS] += firing - before + pulled
                    idle += waited
                    if firing > before:
                        if fresh:
                            span[here, SPAN_START] = first
                            fresh = False
                        if main >= 0 and link[main, WANTED] & SLOT:
                            wake_source(run, node, link, arbiter, queue, main)
                        if other >= 0 and link[other, WANTED] & SLOT:
                            wake_source(run, node, link, arbiter, queue, other)
                    if blocked:
                        _hurry(run, node, link, arbiter, queue, main)
                        _hurry(run, node, link, arbiter, queue, other)
                elif (
                    gives == firing
                    and node[at, LANES] > 0
                    and not fresh
                    and min(third, takes) > firing
                    and in_step(node, link, t.lane, at)
                ):
                    others = min(min(third, takes), span_end - 1)
                    for end in range(out_of, stop):
                        if link[ends[end], FORKED] == 0:
                            others = min(others, link[ends[end], NEXT_GIVER])
                    if others > firing:
                        firing, free, held = fork_run(
                            run, node, link, ends, t.lane, span, arbiter, queue, ring, lists, t.room, at, firing,
                            others, start if started else finish,
                        )  # fmt: skip
                    if firing > before:
                        finish, started = free, 0
                        stall += held
                        defer(run, node, at)
                        break
                if firing == before and not blocked and gives == firing and min(third, takes) > firing:
                    firing, free, held, blocked = give_run(
                        node, link, ends, ring, lists, t.scratch, at, firing, min(third, takes),
                        start if started else finish,
                    )  # fmt: skip
                    if fresh and (firing > before or blocked):
                        span[here, SPAN_START] = finish
                        fresh = False
                    if firing > before:
                        finish, started = free, 0
                        stall += held
                        run[IN_RUNS] += firing - before
                        for end in range(out_of, stop):
                            x = ends[end]
                            if link[x, WANTED] & ITEM and link[x, GIVEN] > link[x, TAKEN]:
                                wake_target(run, node, link, arbiter, queue, x)
                    elif blocked and not started:
                        start, waited_for, started = finish, -1, 1
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
                        base, mask, initial, peak = link[x, RING], link[x, MASK], link[x, INITIAL], link[x, PEAK]
                        for item in range(link[x, TAKEN], upto):
                            place = base + (item & mask)
                            if item >= initial:
                                peak = peak_at(ring, base, mask, initial, item, ring[place] - link[x, HOLD], peak)
                            ring[place] = start + 1
                        link[x, PEAK], link[x, TAKEN] = peak, upto
                        if link[x, WANTED] & SLOT:
                            wake_source(run, node, link, arbiter, queue, x)
                    if fresh:
                        span[here, SPAN_START] = start
                        fresh = False
                    started = 1
                busy_until = start + (constant if constant else lists[occupied + firing]) - 1
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


@lean_kernel
def _hurry(run: Ints, node: Ints, link: Ints, arbiter: Ints, queue: Ints, x: int) -> None:
    # a target waits for an item of link ``x``: its source must not be deferred any more
    if x >= 0 and link[x, SOURCE] < node.shape[0] and node[link[x, SOURCE], QUEUED] == DEFERRED:
        wake(run, node, arbiter, queue, link[x, SOURCE])
