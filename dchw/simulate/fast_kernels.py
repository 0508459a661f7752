"""Kernels of the fast engine: no events and no clock, only the times that each firing's neighbours imply.

Firing nodes are determinate: whatever order they run in, their times come out the same. So each runs in a burst until
an item or slot it needs is not known yet. Only when none can go on do arbiters and the memory decide, at the earliest
cycle anything is decided at: what is not known yet follows some decision, so it is visible later than that cycle.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from dchw.compile import kernel
from dchw.simulate.memory import (
    ACCEPTED_AT,
    ANSWERED,
    ANSWERED_AT,
    DELIVERED,
    FAR,
    FIRST,
    HEAD,
    READY,
    RELEASED,
    MemoryState,
    clock_from,
    cycle_during,
    cycle_of,
    next_clock,
    request_visible,
    step,
)

Ints = npt.NDArray[np.int64]
Ints32 = npt.NDArray[np.int32]

# Columns of ``node``: a firing node. ``ends`` of links INTO .. OUT_OF take, OUT_OF .. STOP give. CONSTANT is the
# occupied time of all firings, or 0: see OCCUPIED. NEXT is the firing in hand, since START if STARTED.
INTO, OUT_OF, STOP, COUNT, OCCUPIED, CONSTANT, NEXT, FINISH, STARTED, START, WAITED_FOR, SPAN, QUEUED = range(13)
SPAN_FIRST, RECORD, RECORDED, FIRST_RECORDED, NODE_SIZE = range(13, 18)
# Columns of ``link``. A place in ``ring`` holds an item's visible time, and once it is taken its slot's; there are
# twice as many as slots, so that both are at hand when a peak is looked at. HOLD is from the cycle a slot is held to
# the item's visible time. NEXT_GIVER and NEXT_TAKER are the firings that move the next item. FREED slots were free
# when the last peak was looked at. SOURCE and TARGET are firing nodes, or arbiters counted on behind them, or (last)
# the memory.
RING, MASK, DEPTH, INITIAL, HOLD, GIVEN_BY, TAKEN_BY, SOURCE, TARGET = range(9)
GIVEN, TAKEN, NEXT_GIVER, NEXT_TAKER, UPTO, FREED, PEAK, WANTED, LINK_SIZE = range(9, 18)
ITEM, SLOT = 1, 2  # bits of WANTED: whose end waits for it
# Columns of ``span``: firings of one node that belong to one layer.
SPAN_END, SPAN_START, SPAN_FINISH, SPAN_STALL, SPAN_IDLE, SPAN_SIZE = range(6)
# Columns of ``arbiter``: channel c is ends[CHANNELS + 2 c] -> ends[CHANNELS + 2 c + 1]; its ports are
# port_free[PORTS .. PORTS_END]. PENDING is the cycle of the next grant as far as known.
CHANNELS, CHANNEL_COUNT, PORTS, PORTS_END, HELD, POLICY, PERIOD, DARK, DARK_LENGTH = range(9)
LAST, PENDING, DIRTY, GRANTS, WAITED, ARBITER_SIZE = range(9, 15)
FIXED, ROUND_ROBIN, OLDEST = range(3)
# Places of ``run``.
QUEUE_HEAD, QUEUE_COUNT, DONE, RECORDING, WINDOW_FROM, WINDOW_TO, LATEST_ANSWER, MEMORY_LINKS, RUN_SIZE = range(9)
PAUSED, STUCK = range(2)
NEVER_FIRES = np.int32(2**31 - 1)
"""Ends every list of firings."""


class Tables(NamedTuple):
    """The program and its state as flat arrays; see the column names of this module."""

    run: Ints
    node: Ints
    link: Ints
    ends: Ints
    span: Ints
    arbiter: Ints
    port_free: Ints
    queue: Ints
    ring: Ints
    lists: Ints32
    occupied: Ints32
    recorded: Ints  # [firings, 4]: start, finish, waited for, stalled by
    granted: Ints  # grants of one link: granted[granted_place[link, 0] .. granted_place[link, 1]]
    granted_place: Ints  # [link, 4]: next, end, first; grants before the window
    memory: MemoryState


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
                arbiter[a, PENDING] = _decide(t, a)
            cycle = min(cycle, arbiter[a, PENDING])
        clock = _next_memory_clock(t)
        if clock != FAR and cycle_during(t.memory.reg, clock) <= cycle:
            # up to the decision at ``cycle`` nothing unknown can reach the memory
            limit = FAR if cycle == FAR else clock_from(t.memory.reg, cycle + 1)
            if step(t.memory, limit):
                _deliver(t)
        elif cycle == FAR:
            return STUCK
        else:
            for a in range(arbiter.shape[0]):
                while arbiter[a, PENDING] == cycle:
                    _grant(t, a, cycle)
                    arbiter[a, PENDING] = _decide(t, a)


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
                            _wake_source(run, node, link, arbiter, queue, x)
                    else:
                        firing, finish, held, blocked = _give_run(
                            link, ring, lists, service, x, occupied, constant, firing, quiet, finish
                        )
                        stall += held
                        if firing > before and link[x, WANTED] & ITEM:
                            _wake_target(run, node, link, arbiter, queue, x)
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
                            _wake_source(run, node, link, arbiter, queue, x)
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
                        _wake_target(run, node, link, arbiter, queue, x)
                stall += handover - busy_until
                finish = handover + 1
                if recording:
                    _record(t, at, firing, start, finish, waited_for, stalled_by)
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


@kernel
def _take(t: Tables, x: int, cycle: int) -> None:
    # a shared node takes a link's head at a cycle, as firing nodes do above
    link, ring = t.link, t.ring
    base, mask, item = link[x, RING], link[x, MASK], link[x, TAKEN]
    if item >= link[x, INITIAL]:
        held_from = ring[base + (item & mask)] - link[x, HOLD]
        while link[x, FREED] < item and ring[base + (link[x, FREED] & mask)] <= held_from:
            link[x, FREED] += 1
        link[x, PEAK] = max(link[x, PEAK], item + 1 - link[x, FREED])
    ring[base + (item & mask)] = cycle + 1
    link[x, TAKEN] += 1
    if link[x, WANTED] & SLOT:
        _wake_source(t.run, t.node, link, t.arbiter, t.queue, x)


@kernel
def _give(t: Tables, x: int, cycle: int) -> None:
    # a shared node hands an item over at a cycle
    link = t.link
    t.ring[link[x, RING] + (link[x, GIVEN] & link[x, MASK])] = cycle + link[x, HOLD]
    link[x, GIVEN] += 1
    if link[x, WANTED] & ITEM:
        _wake_target(t.run, t.node, link, t.arbiter, t.queue, x)


@kernel
def _wake_source(run: Ints, node: Ints, link: Ints, arbiter: Ints, queue: Ints, x: int) -> None:
    if link[x, SOURCE] < node.shape[0]:
        link[x, WANTED] &= ~SLOT
    _wake(run, node, arbiter, queue, link[x, SOURCE])


@kernel
def _wake_target(run: Ints, node: Ints, link: Ints, arbiter: Ints, queue: Ints, x: int) -> None:
    if link[x, TARGET] < node.shape[0]:
        link[x, WANTED] &= ~ITEM
    _wake(run, node, arbiter, queue, link[x, TARGET])


@kernel
def _wake(run: Ints, node: Ints, arbiter: Ints, queue: Ints, at: int) -> None:
    # a firing node gets in line; an arbiter, which asks for everything always, decides anew; the memory looks itself
    nodes = node.shape[0]
    if at >= nodes:
        if at - nodes < arbiter.shape[0]:
            arbiter[at - nodes, DIRTY] = 1
    elif node[at, QUEUED] == 0:
        node[at, QUEUED] = 1
        queue[(run[QUEUE_HEAD] + run[QUEUE_COUNT]) % queue.shape[0]] = at
        run[QUEUE_COUNT] += 1


@kernel
def _record(t: Tables, at: int, firing: int, start: int, finish: int, waited_for: int, stalled_by: int) -> None:
    node = t.node
    if finish <= t.run[WINDOW_FROM]:
        node[at, FIRST_RECORDED] = firing + 1
    if finish <= t.run[WINDOW_FROM] or start >= t.run[WINDOW_TO]:
        return
    row = t.recorded[node[at, RECORD] + node[at, RECORDED]]
    row[0], row[1], row[2], row[3] = start, finish, waited_for, stalled_by
    node[at, RECORDED] += 1


@kernel
def _eligible_from(t: Tables, one: int, other: int) -> int:
    # cycle from which a channel can be granted, or FAR while its head or slot is not known
    link, ring = t.link, t.ring
    head = link[one, TAKEN]
    if head >= link[one, GIVEN]:
        return FAR
    cycle = ring[link[one, RING] + (head & link[one, MASK])]
    needs = link[other, GIVEN] - link[other, DEPTH]
    if link[other, DEPTH] and needs >= 0:
        if needs >= link[other, TAKEN]:
            return FAR
        cycle = max(cycle, ring[link[other, RING] + (needs & link[other, MASK])])
    return cycle  # type: ignore[no-any-return]


@kernel
def _decide(t: Tables, a: int) -> int:
    # the cycle of an arbiter's next grant as far as heads and slots are known (T6, T7); FAR if none is
    row, ends = t.arbiter[a], t.ends
    cycle = FAR
    for channel in range(row[CHANNEL_COUNT]):
        place = row[CHANNELS] + 2 * channel
        cycle = min(cycle, _eligible_from(t, ends[place], ends[place + 1]))
    if cycle == FAR:
        return FAR
    free_from = t.port_free[row[PORTS]]
    for port in range(row[PORTS] + 1, row[PORTS_END]):
        free_from = min(free_from, t.port_free[port])
    cycle = max(cycle, free_from)
    if row[PERIOD]:
        inside = cycle % row[PERIOD] - row[DARK]
        if 0 <= inside < row[DARK_LENGTH]:
            cycle += row[DARK_LENGTH] - inside
    return cycle  # type: ignore[no-any-return]


@kernel
def _grant(t: Tables, a: int, cycle: int) -> None:
    # one grant to the policy's choice among the channels eligible in a cycle
    row, ends, link = t.arbiter[a], t.ends, t.link
    channels = row[CHANNEL_COUNT]
    winner, oldest = -1, FAR
    first = row[LAST] + 1 if row[POLICY] == ROUND_ROBIN else 0
    for turn in range(channels):
        channel = (first + turn) % channels
        one, other = ends[row[CHANNELS] + 2 * channel], ends[row[CHANNELS] + 2 * channel + 1]
        if _eligible_from(t, one, other) > cycle:
            continue
        visible = t.ring[link[one, RING] + (link[one, TAKEN] & link[one, MASK])]
        if visible < oldest:
            winner, oldest = channel, visible
        if row[POLICY] != OLDEST:
            break
    one, other = ends[row[CHANNELS] + 2 * winner], ends[row[CHANNELS] + 2 * winner + 1]
    row[GRANTS] += 1
    row[WAITED] += cycle - oldest
    _take(t, one, cycle)
    _give(t, other, cycle)
    row[LAST] = winner
    port = row[PORTS]
    for candidate in range(row[PORTS], row[PORTS_END]):
        if t.port_free[candidate] < t.port_free[port]:
            port = candidate
    t.port_free[port] = cycle + row[HELD]
    if not t.run[RECORDING]:
        return
    if cycle < t.run[WINDOW_FROM]:
        t.granted_place[one, 3] += 1
    elif cycle < t.run[WINDOW_TO]:
        t.granted[t.granted_place[one, 0]] = cycle
        t.granted_place[one, 0] += 1


@kernel
def _next_memory_clock(t: Tables) -> int:
    # tells the memory the heads that became visible; its next clock in which something can happen
    state, link = t.memory, t.link
    for port in range(state.port.shape[0]):
        x = t.ends[t.run[MEMORY_LINKS] + 2 * port]
        if state.port[port, READY] == FAR and link[x, GIVEN] > link[x, TAKEN]:
            request_visible(state, port, t.ring[link[x, RING] + (link[x, TAKEN] & link[x, MASK])])
    return next_clock(state) if state.port.shape[0] else FAR


@kernel
def _deliver(t: Tables) -> None:
    # passes on what the memory accepted and answered
    state, link = t.memory, t.link
    for port in range(state.port.shape[0]):
        row = state.port[port]
        one, other = t.ends[t.run[MEMORY_LINKS] + 2 * port], t.ends[t.run[MEMORY_LINKS] + 2 * port + 1]
        while row[RELEASED] < row[HEAD]:
            clock = state.request[row[FIRST] + row[RELEASED], ACCEPTED_AT]
            _take(t, one, cycle_of(state.reg, clock))
            row[RELEASED] += 1
        while row[DELIVERED] < row[ANSWERED]:
            cycle = cycle_of(state.reg, state.request[row[FIRST] + row[DELIVERED], ANSWERED_AT])
            _give(t, other, cycle)
            t.run[LATEST_ANSWER] = max(t.run[LATEST_ANSWER], cycle + link[other, HOLD])
            row[DELIVERED] += 1


@kernel
def settle_peaks(t: Tables) -> None:
    """Count items that were given and never taken into the links' peaks."""
    link, ring = t.link, t.ring
    for x in range(link.shape[0]):
        base, mask, freed = link[x, RING], link[x, MASK], link[x, FREED]
        for item in range(max(link[x, TAKEN], link[x, INITIAL]), link[x, GIVEN]):
            held_from = ring[base + (item & mask)] - link[x, HOLD]
            while freed < link[x, TAKEN] and ring[base + (freed & mask)] <= held_from:
                freed += 1
            link[x, PEAK] = max(link[x, PEAK], item + 1 - freed)
