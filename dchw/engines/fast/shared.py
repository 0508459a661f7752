"""Kernels of the nodes that choose: arbiters (T6, T7), and the fast engine's side of the memory node (T8)."""

# mypy: disable-error-code="no-any-return"
from __future__ import annotations

from dchw.compile import lean_kernel
from dchw.engines.fast.tables import (
    CHANNEL_COUNT,
    CHANNELS,
    DARK,
    DARK_LENGTH,
    DEPTH,
    GIVEN,
    GRANTS,
    HELD,
    HOLD,
    LAST,
    LATEST_ANSWER,
    MASK,
    MEMORY_LINKS,
    OLDEST,
    PERIOD,
    POLICY,
    PORTS,
    PORTS_END,
    RECORDING,
    RING,
    ROUND_ROBIN,
    TAKEN,
    WAITED,
    WINDOW_FROM,
    WINDOW_TO,
    Tables,
    give,
    take,
)
from dchw.engines.memory import (
    ACCEPTED_AT,
    ANSWERED,
    ANSWERED_AT,
    DELIVERED,
    FAR,
    FIRST,
    HEAD,
    READY,
    RELEASED,
    cycle_of,
    next_clock,
    request_visible,
)


@lean_kernel
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
    return cycle


@lean_kernel
def decide(t: Tables, a: int) -> int:
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
    return cycle


@lean_kernel
def grant(t: Tables, a: int, cycle: int) -> None:
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
    take(t, one, cycle)
    give(t, other, cycle)
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


@lean_kernel
def next_memory_clock(t: Tables) -> int:
    # tells the memory the heads that became visible; its next clock in which something can happen
    state, link = t.memory, t.link
    for port in range(state.port.shape[0]):
        x = t.ends[t.run[MEMORY_LINKS] + 2 * port]
        if state.port[port, READY] == FAR and link[x, GIVEN] > link[x, TAKEN]:
            request_visible(state, port, t.ring[link[x, RING] + (link[x, TAKEN] & link[x, MASK])])
    return next_clock(state) if state.port.shape[0] else FAR


@lean_kernel
def deliver(t: Tables) -> None:
    # passes on what the memory accepted and answered
    state, link = t.memory, t.link
    for port in range(state.port.shape[0]):
        row = state.port[port]
        one, other = t.ends[t.run[MEMORY_LINKS] + 2 * port], t.ends[t.run[MEMORY_LINKS] + 2 * port + 1]
        while row[RELEASED] < row[HEAD]:
            clock = state.request[row[FIRST] + row[RELEASED], ACCEPTED_AT]
            take(t, one, cycle_of(state.reg, clock))
            row[RELEASED] += 1
        while row[DELIVERED] < row[ANSWERED]:
            cycle = cycle_of(state.reg, state.request[row[FIRST] + row[DELIVERED], ANSWERED_AT])
            give(t, other, cycle)
            t.run[LATEST_ANSWER] = max(t.run[LATEST_ANSWER], cycle + link[other, HOLD])
            row[DELIVERED] += 1
