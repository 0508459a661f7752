"""Kernels that let every firing node go on as far as it can, and then the nodes that choose decide.

Which short cut is taken where is told here (`_short_cut`).
"""

from __future__ import annotations

from dchw.compile import inlined, lean_kernel
from dchw.dram.controller import run_idle
from dchw.engines.fast.forks import GOING, OUT_OF_STEP, fork_run
from dchw.engines.fast.joins import join_run
from dchw.engines.fast.program_tables import (
    DEFERRED,
    ITEM,
    NOT_QUEUED,
    SLOT,
    ArbiterRow,
    LinkRow,
    NodeRow,
    RunState,
    Tables,
)
from dchw.engines.fast.queues import settle_peaks
from dchw.engines.fast.runs import give_run, take_run
from dchw.engines.fast.shared import decide, deliver, grant, next_memory_clock
from dchw.engines.fast.singles import give, take
from dchw.engines.fast.turns import defer, queue_deferred, wake, wake_source, wake_target
from dchw.engines.memory import FAR, MemoryState, clock_from, cycle_during, step
from dchw.engines.named_rows import Rows

PAUSED, STUCK, MORE = range(3)
MEMORY_WORK = 160
"""Firings that take as long as what the memory does between two answers."""


@lean_kernel
def advance(t: Tables, memory: MemoryState, budget: int) -> int:
    """Run until about ``budget`` more firings are done (PAUSED) or nothing can go on (STUCK: finished or deadlock).

    MORE: a node has come to its last known firing, and what it does next, which a later window says, could matter.
    Grants and what the memory does count as firings, so that a call takes some tenths of a second at most. At the end
    idle memory channels are run on, and items never taken are counted into the links' peaks.
    """
    run, arbiter = t.run, t.arbiter
    target = run.done + budget
    while True:
        _fire(t, target)
        if run.queue_count > 0 or run.deferrals > 0 or run.done >= target:
            return PAUSED
        if run.unfinished and _wanting(t):
            return MORE
        cycle = FAR
        for a in range(arbiter.shape[0]):
            if arbiter[a].dirty:
                arbiter[a].dirty = 0
                arbiter[a].pending = decide(t, a)
            cycle = min(cycle, arbiter[a].pending)
        clock = next_memory_clock(t, memory)
        if clock != FAR and cycle_during(memory.node, clock) <= cycle:
            # up to the decision at ``cycle`` nothing unknown can reach the memory
            limit = FAR if cycle == FAR else clock_from(memory.node, cycle + 1)
            target -= MEMORY_WORK
            if step(memory, limit):
                deliver(t, memory)
        elif cycle == FAR:
            if run.unfinished:
                return MORE
            return STUCK if _run_out(t, memory, budget) else PAUSED
        else:
            for a in range(arbiter.shape[0]):
                while arbiter[a].pending == cycle:
                    target -= 1
                    grant(t, a, cycle)
                    arbiter[a].pending = decide(t, a)


@lean_kernel
def _wanting(t: Tables) -> bool:
    # whether a node could go on if more of its firings were known
    node, link = t.node, t.link
    if t.run.exhausted == 0:
        return False
    for at in range(node.shape[0]):
        row = node[at]
        if row.coming and row.next == row.count:
            x = row.awaits
            if x < 0 or link[x].given > link[x].taken:
                return True
    return False


@lean_kernel
def _run_out(t: Tables, memory: MemoryState, work: int) -> bool:
    # to the end of the run idle channels refresh, and banks stay open; what was never taken still counts
    cycles = t.run.latest_answer
    for at in range(t.node.shape[0]):
        cycles = max(cycles, t.node[at].finish)
    if memory.port.shape[0] > 0 and not run_idle(memory.channels, clock_from(memory.node, cycles), work):
        return False
    settle_peaks(t)
    return True


@lean_kernel
def _fire(t: Tables, target: int) -> None:
    # nodes in line go on, each as far as it can, until there are none or DONE reaches the target
    run, node = t.run, t.node
    while run.done < target:
        if run.queue_count == 0:
            if run.deferrals == 0:
                break
            queue_deferred(run, node)
        at = node[run.queue_head].in_line
        run.queue_head = (run.queue_head + 1) % node.shape[0]
        run.queue_count -= 1
        node[at].queued = NOT_QUEUED
        became = OUT_OF_STEP
        if node[at].lanes > 0 and not run.recording:
            became = fork_run(t, at, target)
        if became == GOING:
            defer(run, node, at)
        elif became == OUT_OF_STEP:
            _go_on(t, at)


@inlined
def _go_on(t: Tables, at: int) -> None:
    """Let a node fire until it is done or must wait: many firings in one go where `_short_cut` can, else one by one."""
    run, node, span = t.run, t.node[at], t.span
    firing, finish, count = node.next, node.finish, node.count
    started, start, waited_for = node.started, node.start, node.waited_for
    occupied, constant, here = node.occupied, node.constant, node.span
    stall, idle = span[here].stall, span[here].idle
    span_end, fresh = span[here].end, span[here].start < 0
    begun, waits = firing, False
    while firing < count and not waits:
        before = firing
        if not run.recording:
            firing, finish, started, start, waited_for, fresh, stalled, idled, waits = _short_cut(
                t, at, firing, finish, started, start, waited_for, here, span_end, fresh
            )
            stall += stalled
            idle += idled
        if firing == before and not waits:
            if not started:
                begin, waited_for = take(t, at, firing, finish)
                if begin < 0:
                    break
                start, started = begin, 1
                idle += start - finish
                if fresh:
                    span[here].start = start
                    fresh = False
            busy_until = start + (constant if constant else t.lists[occupied + firing]) - 1
            handover, stalled_by = give(t, at, firing, busy_until)
            if handover < 0:
                break
            stall += handover - busy_until
            finish = handover + 1
            if run.recording:
                _keep(t, at, firing, start, finish, waited_for, stalled_by)
            firing += 1
            started = 0
        if firing == span_end:
            span[here].stall, span[here].idle, span[here].finish = stall, idle, finish
            if firing < count:
                here += 1
                span_end, stall, idle, fresh = span[here].end, 0, 0, True
    if firing < count:
        span[here].stall, span[here].idle = stall, idle
    node.next, node.finish, node.started = firing, finish, started
    node.start, node.waited_for, node.span = start, waited_for, here
    run.done += firing - begun
    if begun < firing == count:
        run.exhausted += 1


@inlined
def _short_cut(
    t: Tables,
    at: int,
    firing: int,
    finish: int,
    started: int,
    start: int,
    waited_for: int,
    here: int,
    span_end: int,
    fresh: bool,
) -> tuple[int, int, int, int, int, bool, int, int, bool]:
    """Many firings in one go, where nobody looks at their times: a run that only takes, or one that only gives.

    Gives its arguments from ``firing`` to ``waited_for`` and ``fresh`` as they are then, unchanged where there is no
    short cut; cycles stalled and idle; and whether the node must wait, or another should go on first.
    """
    run, node, link, ends = t.run, t.node, t.link, t.ends
    main, other = node[at].main, node[at].other
    out_of, stop = node[at].out_of, node[at].stop
    # the next firing that takes from a third link, takes at all, gives
    third, takes, gives = span_end, span_end, span_end
    for end in range(node[at].into, out_of):
        x = ends[end]
        if x in (main, other):
            takes = min(takes, link[x].next_taker)
        else:
            third = min(third, link[x].next_taker)
    for end in range(out_of, stop):
        gives = min(gives, link[ends[end]].next_giver)
    node[at].quiet = 0 if fresh else min(min(third, gives), span_end - 1)
    before = firing
    joined = node[at].joins > 0 and third == firing
    if not started and (min(third, gives) > firing or (joined and gives > firing)):
        if joined:
            firing, finish, waited, first, waits, pulled = join_run(t, at, firing, gives, finish)
        else:
            firing, finish, waited, first, waits, pulled = take_run(
                t, at, at, main, other, firing, min(third, gives), finish
            )
        run.done += pulled
        run.in_runs += firing - before + pulled
        if firing > before:
            if fresh:
                t.span[here].start = first
                fresh = False
            if main >= 0 and link[main].wanted & SLOT:
                wake_source(run, node, link, t.arbiter, main)
            if other >= 0 and link[other].wanted & SLOT:
                wake_source(run, node, link, t.arbiter, other)
        if waits:
            _hurry(run, node, link, t.arbiter, main)
            _hurry(run, node, link, t.arbiter, other)
        return firing, finish, started, start, waited_for, fresh, 0, waited, waits
    quiet = min(third, takes)
    if gives != firing or quiet <= firing:
        return firing, finish, started, start, waited_for, fresh, 0, 0, False
    free = start if started else finish
    firing, freed, held, waits = give_run(t, at, firing, quiet, free)
    if fresh and (firing > before or waits):
        t.span[here].start = free  # one that has begun may be the first of these tables
        fresh = False
    if firing > before:
        run.in_runs += firing - before
        for end in range(out_of, stop):
            x = ends[end]
            if link[x].wanted & ITEM and link[x].given > link[x].taken:
                wake_target(run, node, link, t.arbiter, x)
        return firing, freed, 0, start, waited_for, fresh, held, 0, waits
    if waits and not started:
        return firing, finish, 1, finish, -1, fresh, 0, 0, True
    return firing, finish, started, start, waited_for, fresh, 0, 0, waits


@lean_kernel
def _hurry(run: RunState, node: Rows[NodeRow], link: Rows[LinkRow], arbiter: Rows[ArbiterRow], x: int) -> None:
    # a target waits for an item of link ``x``: its source must not be deferred any more
    if x >= 0 and link[x].source < node.shape[0] and node[link[x].source].queued == DEFERRED:
        wake(run, node, arbiter, link[x].source)


@lean_kernel
def _keep(t: Tables, at: int, firing: int, start: int, finish: int, waited_for: int, stalled_by: int) -> None:
    node = t.node[at]
    if finish <= t.run.window_from:
        node.first_recorded = firing + 1
    if finish <= t.run.window_from or start >= t.run.window_to:
        return
    row = t.recorded[node.record + node.recorded]
    row[0], row[1], row[2], row[3] = start, finish, waited_for, stalled_by
    node.recorded += 1
