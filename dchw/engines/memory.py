"""The memory node (T8): takes requests in turn, splits them into bursts, offers these, answers in order.

The kernels work on one `MemoryState` and know no engine. Both engines tell it when requests become visible
(`request_visible`), let it run no further than no unknown request could reach (`step`), and read from the port rows
what was accepted and answered. What channels do with bursts is `dchw.dram`'s affair.

What follows from an answer takes time: it is visible a cycle later, and what a node makes of it another. So the memory
goes on for a while before it must be told what follows (`_unmoved`), and behind an accepted request as long as it knows
the port's next one and the engine says that the freed slot does nothing else (`PortRow.apart`).
"""

# mypy: disable-error-code="no-any-return"
from __future__ import annotations

from functools import cache
from typing import NamedTuple

import numpy as np

from dchw.compile import inlined, lean_kernel
from dchw.config import build
from dchw.dram.address import address_map, locate
from dchw.dram.controller import advance, completions, due, offer, run_idle, take_completion
from dchw.dram.options import FixedMemory
from dchw.dram.state import State, channel_state
from dchw.engines.named_rows import Ints, Rows, table, zeros
from dchw.engines.result import MemoryTimes
from dchw.machines.units.dram import Dram
from dchw.program.program import Program, Requests
from dchw.vocabulary import Event, Stream

_SLICE = 1 << 20  # work of a kernel call, so that Ctrl-C is heard
FAR = 2**62
"""A clock or cycle that never comes."""


class NodeState:
    """The node as a whole; there is one."""

    clock: int = 0
    """The next memory clock to be looked at."""
    turn: int = 0
    """The port whose request is offered, -1 between two; the one before."""
    last_port: int = 0
    burst: int = 0
    """Bursts of that request that are accepted,"""
    channel: int = 0
    """and where the next one goes."""
    bank: int = 0
    row: int = 0
    column: int = 0
    open: int = 0
    """Bursts that are accepted and not complete."""
    ratio_up: int = 0
    """Memory clocks per machine cycle are ``ratio_up / ratio_down``."""
    ratio_down: int = 0
    burst_bytes: int = 0


class PortRow:
    """A port; its requests are rows ``first .. first + count``."""

    first: int = 0
    count: int = 0
    head: int = 0
    """Requests accepted, and answered."""
    answered: int = 0
    released: int = 0
    """Of these, those that the engine has passed on."""
    delivered: int = 0
    told: int = 0
    """Requests whose clock is known from which they are offered."""
    ready: int = 0
    """That of the head; FAR while it is not known."""
    apart: int = 0
    """1 if a request accepted lets nothing happen but that the port gets another, behind those that are told."""
    last_answer: int = 0


class RequestRow:
    """A request."""

    address: int = 0
    bursts: int = 0
    is_write: int = 0
    left: int = 0
    """Bursts that are not complete, and the clock in which the latest was."""
    done: int = 0
    offered_at: int = 0
    accepted_at: int = 0
    answered_at: int = 0


class MemoryState(NamedTuple):
    """What the kernels of a memory node run on."""

    node: NodeState
    port: Rows[PortRow]
    request: Rows[RequestRow]
    bits: Ints  # address map
    taken: Ints  # [channel]: clock of the last burst it took
    channels: State


def memory_state(program: Program) -> MemoryState:
    """The idle memory of a program; one without ports, which stays idle, where the program has no memory node."""
    node = program.memory
    return _no_memory() if node is None else _state(node.memory, node.requests, program.clock_hz)


@cache
def _no_memory() -> MemoryState:
    return _state(build(Dram, {"fixed": {"clock": "1 Hz", "bytes_per_cycle": 1, "latency": 0}}, where="memory"), (), 1)


def _state(memory: Dram, asked: tuple[Requests, ...], clock_hz: int) -> MemoryState:
    counts = [len(requests.address) for requests in asked]
    node, port, request = NodeState(), zeros(PortRow, len(asked)), zeros(RequestRow, sum(counts))
    port["count"][:] = counts
    port["first"][:] = np.cumsum([0, *counts])[:-1]
    port["ready"][:] = FAR
    if asked:
        request["address"][:] = np.concatenate([requests.address for requests in asked])
        request["bursts"][:] = request["left"][:] = np.concatenate([requests.bursts for requests in asked])
        request["is_write"][:] = np.concatenate([requests.is_write for requests in asked])
    ratio = memory.clocks_per_cycle(clock_hz)
    node.ratio_up, node.ratio_down = ratio.numerator, ratio.denominator
    node.turn, node.last_port, node.burst_bytes = -1, len(asked) - 1, memory.burst_bytes
    bits = address_map(memory.part, memory.order, memory.channels)
    channels = channel_state(memory.part, memory.controller, channels=memory.channels)
    return MemoryState(table(NodeState, [node])[0], port, request, bits, np.full(memory.channels, -1), channels)


@lean_kernel
def clock_from(node: NodeState, cycle: int) -> int:
    """First memory clock in which something visible at a machine cycle is seen."""
    return -(-cycle * node.ratio_up // node.ratio_down)


@lean_kernel
def cycle_during(node: NodeState, clock: int) -> int:
    """Last machine cycle whose visible things are seen in a memory clock."""
    return clock * node.ratio_down // node.ratio_up


@lean_kernel
def cycle_of(node: NodeState, clock: int) -> int:
    """Machine cycle in which something of a memory clock happens; it is visible one cycle later."""
    return -(-clock * node.ratio_down // node.ratio_up)


@lean_kernel
def request_visible(state: MemoryState, port: int, cycle: int) -> None:
    """The first request of a port that was not told of is visible from a machine cycle on."""
    row = state.port[port]
    clock = clock_from(state.node, cycle)
    state.request[row.first + row.told].offered_at = clock
    if row.told == row.head:
        row.ready = clock
    row.told += 1


@inlined
def _unmoved(node: NodeState, clock: int) -> int:
    """First memory clock that an answer of ``clock`` can have made a request for.

    It is visible a machine cycle later at the earliest, and what a node gives for it one more.
    """
    return clock_from(node, cycle_of(node, clock) + 2)


@inlined
def next_clock(state: MemoryState) -> int:
    """Next memory clock in which something can happen, as far as is known; FAR if nothing can."""
    node = state.node
    if node.turn >= 0 or node.open > 0:
        return node.clock
    earliest = FAR
    for port in range(state.port.shape[0]):
        earliest = min(earliest, state.port[port].ready)
    return max(earliest, node.clock)


@lean_kernel
def step(state: MemoryState, limit: int) -> bool:
    """Run until what was accepted or answered could matter, but not into clock ``limit`` or beyond.

    Whether anything was accepted or answered.
    """
    node, port, happened = state.node, state.port, False
    while node.clock < limit:
        ready = node.clock if node.turn >= 0 else _take_turn(state)
        until = node.clock if ready == node.clock else min(ready, limit) - 1
        if ready > node.clock and node.open == 0:
            if until == FAR - 1:
                break
            node.clock = until + 1
            continue
        reached, answered = _run_channels(state, until)
        if answered < FAR:
            happened, limit = True, min(limit, _unmoved(node, answered))
        if ready > node.clock:
            node.clock = max(node.clock, reached + 1)
        elif reached == until and node.clock < limit:
            turn, full = node.turn, _offer(state)
            node.clock += 1
            if node.turn < 0:
                happened = True
                if port[turn].ready == FAR or not port[turn].apart:
                    break
            elif full:
                # refused until some channel has done something
                node.clock = min(max(node.clock, _soonest(state)), limit)
    return happened


@inlined
def _soonest(state: MemoryState) -> int:
    """The clock in which something happens in the first of the channels; all requests of clocks before are in them."""
    live, soonest = state.channels.live, FAR
    for ch in range(len(live)):
        soonest = min(soonest, due(state.channels, ch))
    return soonest


@inlined
def _run_channels(state: MemoryState, until: int) -> tuple[int, int]:
    """Run channels to a clock or the one in which it became known when a request is answered: that, and this or FAR.

    A channel in which nothing happens stays behind. Requests of clock ``until`` may follow, and none of those before.
    """
    live, reached = state.channels.live, state.node.clock - 1
    while reached < until:
        soonest = _soonest(state)
        if soonest > until:
            break
        reached = max(reached, soonest)
        found = False
        for ch in range(len(live)):
            if due(state.channels, ch) <= reached:
                while live[ch].clock < reached:
                    advance(state.channels, ch, reached)
                found = _collect(state, ch) or found
        if found:
            answered = _answer(state)
            if answered < FAR:
                return reached, answered
    return until, FAR


@inlined
def _collect(state: MemoryState, ch: int) -> bool:
    """Take the completions of a channel that became known; whether they complete a request."""
    node, request, found = state.node, state.request, False
    for _ in range(completions(state.channels, ch)):
        number, clock = take_completion(state.channels, ch)
        row = request[number]
        row.left -= 1
        row.done = max(row.done, clock)
        node.open -= 1
        found = found or row.left == 0
    return found


@inlined
def _answer(state: MemoryState) -> int:
    """Answer the complete requests that are first of their ports; the clock of the earliest answer, FAR if none."""
    request, earliest = state.request, FAR
    for at in range(state.port.shape[0]):
        row = state.port[at]
        while row.answered < row.head and request[row.first + row.answered].left == 0:
            number = row.first + row.answered
            row.last_answer = max(row.last_answer, request[number].done)
            request[number].answered_at = row.last_answer
            earliest = min(earliest, row.last_answer)
            row.answered += 1
    return earliest


@inlined
def _take_turn(state: MemoryState) -> int:
    # round robin over ports with a visible request; the earliest clock at which one will be
    node, port = state.node, state.port
    count = port.shape[0]
    earliest = FAR
    for step_on in range(1, count + 1):
        at = (node.last_port + step_on) % count
        if port[at].ready <= node.clock:
            node.turn, node.burst = at, 0
            _aim(state, port[at].first + port[at].head)
            return node.clock
        earliest = min(earliest, port[at].ready)
    return earliest


@inlined
def _aim(state: MemoryState, number: int) -> None:
    """Find where the next burst of a request goes."""
    node = state.node
    address = state.request[number].address + node.burst * node.burst_bytes
    node.channel, node.bank, node.row, node.column = locate(state.bits, address)


@inlined
def _offer(state: MemoryState) -> bool:
    """Offer bursts of the request in turn in this clock, to its end or as far as goes; whether a channel is full."""
    node, request, taken = state.node, state.request, state.taken
    row = state.port[node.turn]
    number = row.first + row.head
    is_write = request[number].is_write != 0
    while node.burst < request[number].bursts:
        if taken[node.channel] == node.clock:
            return False
        if not offer(state.channels, node.channel, node.clock, node.bank, node.row, node.column, is_write, number):
            return True
        taken[node.channel] = node.clock
        node.burst += 1
        node.open += 1
        _aim(state, number)
    request[number].accepted_at = node.clock
    row.head += 1
    row.ready = request[row.first + row.head].offered_at if row.told > row.head else FAR
    node.last_port, node.turn = node.turn, -1
    return False


def memory_times(program: Program, state: MemoryState, cycles: int) -> MemoryTimes | None:
    """The counters of a finished run of ``cycles`` machine cycles."""
    node = program.memory
    if node is None:
        return None
    clocks = int(clock_from(state.node, cycles))
    if int(state.channels.live.clock.min()) < clocks:  # idle channels: their refreshes and open banks count to the end
        while not run_idle(state.channels, clocks, _SLICE):
            pass
    size_bytes = np.zeros((len(Stream), 2, len(program.layers)), np.int64)
    for asked in node.requests:
        place = (asked.stream.astype(np.int64), asked.is_write.astype(np.int64), asked.layer.astype(np.int64))
        np.add.at(size_bytes, place, asked.bursts.astype(np.int64) * node.memory.burst_bytes)
    ends = zip(state.port["first"].tolist(), state.port["count"].tolist(), strict=True)
    parts = [slice(first, first + count) for first, count in ends]
    offered, accepted, answered = (state.request[name] for name in ("offered_at", "accepted_at", "answered_at"))
    return MemoryTimes(
        clocks=clocks,
        commands=_commands(node.memory, state.channels),
        size_bytes=size_bytes,
        offered=tuple(offered[part].copy() for part in parts),
        accepted=tuple(accepted[part].copy() for part in parts),
        answered=tuple(answered[part].copy() for part in parts),
        channels=state.channels,
    )


def _commands(memory: Dram, channels: State) -> dict[str, int]:
    # bursts that a waiting write answered or swallowed need no command
    live = channels.live
    found = {"forwarded": int(live.forwarded.sum()), "merged": int(live.merged.sum())}
    if isinstance(memory.part, FixedMemory):
        reads, writes = int(live.reads.sum()), int(live.writes.sum())
        return {Event.DRAM_READ.value: reads, Event.DRAM_WRITE.value: writes} | found
    names = list(memory.part.commands.clocks)
    issued = dict(zip(names, live.counts.sum(axis=(0, 1))[: len(names)].tolist(), strict=True))
    have = memory.part.commands
    roles = {
        Event.ROW_ACTIVATE: (have.activate,),
        Event.DRAM_READ: (have.read, have.read_precharge),
        Event.DRAM_WRITE: (have.write, have.write_precharge),
        Event.REFRESH_ALL_BANK: (have.refresh_all,),
        Event.REFRESH_PER_BANK: (have.refresh_bank,),
    }
    events = {event.value: sum(issued[name] for name in commands if name) for event, commands in roles.items()}
    return {**events, Event.ROW_PRECHARGE.value: int(live.precharged.sum()), **found, **issued}
