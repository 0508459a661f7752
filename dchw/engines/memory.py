"""The memory node (T8): takes requests in turn, splits them into bursts, offers these, answers in order.

The kernels work on one `MemoryState` and know no engine. Both engines tell it when a request becomes visible
(`request_visible`), let it run no further than no unknown request could reach (`step`), and read from the port rows
what was accepted and answered. What channels do with bursts is `dchw.dram`'s affair.
"""

# mypy: disable-error-code="no-any-return"
from __future__ import annotations

from functools import cache
from typing import NamedTuple

import numpy as np

from dchw.compile import lean_kernel
from dchw.config import build
from dchw.dram.address import address_map, locate
from dchw.dram.controller import advance, completions, offer, run_idle, take_completion
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
    """Bursts of that request that are accepted."""
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
    ready: int = 0
    """The clock from which the head is offered; FAR while there is none."""
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
    """The head request of a port is visible from a machine cycle on."""
    row = state.port[port]
    row.ready = clock_from(state.node, cycle)
    state.request[row.first + row.head].offered_at = row.ready


@lean_kernel
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
    """Run until a request was accepted or answered (True), but not into clock ``limit`` or beyond (False)."""
    node = state.node
    while node.clock < limit:
        ready = _take_turn(state) if node.turn < 0 else node.clock
        if node.turn < 0:
            # nothing to offer before ``ready``
            until = min(ready, limit)
            if node.open == 0:
                if until == FAR:
                    return False
                node.clock = until
                continue
            reached, answered = _run_channels(state, until - 1)
            node.clock = max(node.clock, reached + 1)  # channels may lag behind where all are idle
            if answered:
                return True
            continue
        _, answered = _run_channels(state, node.clock)
        if answered:
            return True  # the clock itself is still to come
        accepted = _offer(state)
        node.clock += 1
        if accepted:
            return True
    return False


@lean_kernel
def _run_channels(state: MemoryState, until: int) -> tuple[int, bool]:
    # all channels in step, up to and including a clock or the one in which some request was answered
    live = state.channels.live
    reached = until
    for ch in range(len(live)):
        reached = min(reached, live[ch].clock)
    while True:
        if len(live) == 1:
            reached = advance(state.channels, 0, until)
        else:
            soonest = until
            for ch in range(len(live)):
                m = live[ch]
                known = m.plan_stale == 0 and m.new_slot < 0
                soonest = min(soonest, max(m.clock + 1, m.plan_time if known else 0))
            reached = max(reached, soonest)
            for ch in range(len(live)):
                while live[ch].clock < reached:
                    advance(state.channels, ch, reached)
        if _collect(state):
            return reached, True
        if reached >= until:
            return reached, False


@lean_kernel
def _collect(state: MemoryState) -> bool:
    # completions that became known; whether they answer a request
    node, request = state.node, state.request
    found = False
    for ch in range(len(state.channels.live)):
        for _ in range(completions(state.channels, ch)):
            number, clock = take_completion(state.channels, ch)
            request[number].left -= 1
            request[number].done = max(request[number].done, clock)
            node.open -= 1
            found = True
    if not found:
        return False
    answered = False
    for at in range(state.port.shape[0]):
        row = state.port[at]
        while row.answered < row.head and request[row.first + row.answered].left == 0:
            number = row.first + row.answered
            row.last_answer = max(row.last_answer, request[number].done)
            request[number].answered_at = row.last_answer
            row.answered += 1
            answered = True
    return answered


@lean_kernel
def _take_turn(state: MemoryState) -> int:
    # round robin over ports with a visible request; the earliest clock at which one will be
    node, port = state.node, state.port
    count = port.shape[0]
    earliest = FAR
    for step_on in range(1, count + 1):
        at = (node.last_port + step_on) % count
        if port[at].ready <= node.clock:
            node.turn, node.burst = at, 0
            return node.clock
        earliest = min(earliest, port[at].ready)
    return earliest


@lean_kernel
def _offer(state: MemoryState) -> bool:
    # offers bursts of the request in turn in this clock; whether its last one was accepted
    node, request, taken = state.node, state.request, state.taken
    row = state.port[node.turn]
    number = row.first + row.head
    is_write = request[number].is_write != 0
    while node.burst < request[number].bursts:
        ch, bank, line, column = locate(state.bits, request[number].address + node.burst * node.burst_bytes)
        if taken[ch] == node.clock or not offer(state.channels, ch, node.clock, bank, line, column, is_write, number):
            return False
        taken[ch] = node.clock
        node.burst += 1
        node.open += 1
    request[number].accepted_at = node.clock
    row.head += 1
    row.ready = FAR
    node.last_port, node.turn = node.turn, -1
    return True


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
