"""Kernels of the nodes that choose: arbiters (T6, T7), and the fast engine's side of the memory node (T8)."""

# mypy: disable-error-code="no-any-return"
from __future__ import annotations

from dchw.compile import inlined, lean_kernel
from dchw.engines.fast.program_tables import ITEM, OLDEST, ROUND_ROBIN, SLOT, Tables
from dchw.engines.fast.queues import give_item, place, queue_of, slot_known, slot_visible, take_item
from dchw.engines.fast.turns import wake_source, wake_target
from dchw.engines.memory import FAR, MemoryState, cycle_of, next_clock, request_visible


@inlined
def _take(t: Tables, x: int, cycle: int) -> None:
    # a shared node takes a link's head at a cycle
    row = t.link[x]
    q = queue_of(row)
    row.peak = take_item(t.ring, q, row.taken, t.ring[place(q, row.taken)], cycle, row.peak)
    row.taken += 1
    if row.wanted & SLOT:
        wake_source(t.run, t.node, t.link, t.arbiter, x)


@inlined
def _give(t: Tables, x: int, cycle: int) -> None:
    # a shared node hands an item over at a cycle
    row = t.link[x]
    give_item(t.ring, queue_of(row), row.given, cycle)
    row.given += 1
    if row.wanted & ITEM:
        wake_target(t.run, t.node, t.link, t.arbiter, x)


@inlined
def _eligible_from(t: Tables, one: int, other: int) -> int:
    # cycle from which a channel can be granted, or FAR while its head or slot is not known
    head, out = t.link[one], t.link[other]
    q = queue_of(out)
    if head.taken >= head.given or not slot_known(q, out.given, out.taken):
        return FAR
    return max(t.ring[place(queue_of(head), head.taken)], slot_visible(t.ring, q, out.given))


@lean_kernel
def decide(t: Tables, a: int) -> int:
    # the cycle of an arbiter's next grant as far as heads and slots are known (T6, T7); FAR if none is
    row, ends = t.arbiter[a], t.ends
    cycle = FAR
    for channel in range(row.channel_count):
        place = row.channels + 2 * channel
        cycle = min(cycle, _eligible_from(t, ends[place], ends[place + 1]))
    if cycle == FAR:
        return FAR
    free_from = t.port_free[row.ports]
    for port in range(row.ports + 1, row.ports_end):
        free_from = min(free_from, t.port_free[port])
    cycle = max(cycle, free_from)
    if row.period:
        inside = cycle % row.period - row.dark
        if 0 <= inside < row.dark_length:
            cycle += row.dark_length - inside
    return cycle


@lean_kernel
def grant(t: Tables, a: int, cycle: int) -> None:
    # one grant to the policy's choice among the channels eligible in a cycle
    row, ends, link = t.arbiter[a], t.ends, t.link
    channels = row.channel_count
    winner, oldest = -1, FAR
    first = row.last + 1 if row.policy == ROUND_ROBIN else 0
    for turn in range(channels):
        channel = (first + turn) % channels
        one, other = ends[row.channels + 2 * channel], ends[row.channels + 2 * channel + 1]
        if _eligible_from(t, one, other) > cycle:
            continue
        visible = t.ring[place(queue_of(link[one]), link[one].taken)]
        if visible < oldest:
            winner, oldest = channel, visible
        if row.policy != OLDEST:
            break
    one, other = ends[row.channels + 2 * winner], ends[row.channels + 2 * winner + 1]
    row.grants += 1
    row.waited += cycle - oldest
    _take(t, one, cycle)
    _give(t, other, cycle)
    row.last = winner
    port = row.ports
    for candidate in range(row.ports, row.ports_end):
        if t.port_free[candidate] < t.port_free[port]:
            port = candidate
    t.port_free[port] = cycle + row.held
    if not t.run.recording:
        return
    if cycle < t.run.window_from:
        link[one].granted_before += 1
    elif cycle < t.run.window_to:
        t.granted[link[one].granted] = cycle
        link[one].granted += 1


@inlined
def next_memory_clock(t: Tables, memory: MemoryState) -> int:
    # tells the memory the requests that became visible; its next clock in which something can happen
    link = t.link
    for port in range(memory.port.shape[0]):
        row, asked = memory.port[port], link[t.ends[t.run.memory_links + 2 * port]]
        row.apart = asked.apart
        for item in range(asked.taken + row.told - row.released, asked.given):
            request_visible(memory, port, t.ring[place(queue_of(asked), item)])
    return next_clock(memory) if memory.port.shape[0] else FAR


@inlined
def deliver(t: Tables, memory: MemoryState) -> None:
    # passes on what the memory accepted and answered
    link = t.link
    for port in range(memory.port.shape[0]):
        row = memory.port[port]
        one, other = t.ends[t.run.memory_links + 2 * port], t.ends[t.run.memory_links + 2 * port + 1]
        while row.released < row.head:
            clock = memory.request[row.first + row.released].accepted_at
            _take(t, one, cycle_of(memory.node, clock))
            row.released += 1
        while row.delivered < row.answered:
            cycle = cycle_of(memory.node, memory.request[row.first + row.delivered].answered_at)
            _give(t, other, cycle)
            t.run.latest_answer = max(t.run.latest_answer, cycle + link[other].hold)
            row.delivered += 1
