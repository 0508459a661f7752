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
import numpy.typing as npt

from dchw.compile import kernel
from dchw.config import build
from dchw.dram.address import address_map, locate
from dchw.dram.controller import advance, completions, offer, run_idle, take_completion
from dchw.dram.options import FixedMemory
from dchw.dram.state import State, channel_state
from dchw.engines.result import MemoryTimes
from dchw.machines.units.dram import Dram
from dchw.program.program import Program, Requests
from dchw.vocabulary import Event, Stream

Ints = npt.NDArray[np.int64]
_SLICE = 1 << 20  # work of a kernel call, so that Ctrl-C is heard
FAR = 2**62
"""A clock or cycle that never comes."""

# Columns of ``reg``: the node as a whole. CLOCK is the next clock to be looked at, TURN the port in turn or -1, BURST
# its bursts accepted, OPEN the bursts accepted and not complete. RATIO is memory clocks per machine cycle, up / down.
CLOCK, TURN, LAST_PORT, BURST, OPEN, RATIO_UP, RATIO_DOWN, BURST_BYTES, REG_SIZE = range(9)
# Columns of ``port``: its requests are rows FIRST .. FIRST + COUNT; HEAD of them are accepted, ANSWERED answered.
# RELEASED and DELIVERED count what the engine has passed on; READY is the clock the head is offered from.
FIRST, COUNT, HEAD, READY, ANSWERED, RELEASED, DELIVERED, LAST_ANSWER, PORT_SIZE = range(9)
# Columns of ``request``: LEFT bursts are not complete, DONE is when the latest was.
ADDRESS, BURSTS, IS_WRITE, LEFT, DONE, OFFERED_AT, ACCEPTED_AT, ANSWERED_AT, REQUEST_SIZE = range(9)


class MemoryState(NamedTuple):
    """Arrays of a memory node; see the column names of this module."""

    reg: Ints
    port: Ints
    request: Ints
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
    reg = np.zeros(REG_SIZE, np.int64)
    port = np.zeros((len(asked), PORT_SIZE), np.int64)
    request = np.zeros((sum(counts), REQUEST_SIZE), np.int64)
    port[:, COUNT] = counts
    port[:, FIRST] = np.cumsum([0, *counts])[:-1]
    port[:, READY] = FAR
    if asked:
        request[:, ADDRESS] = np.concatenate([requests.address for requests in asked])
        request[:, BURSTS] = request[:, LEFT] = np.concatenate([requests.bursts for requests in asked])
        request[:, IS_WRITE] = np.concatenate([requests.is_write for requests in asked])
    ratio = memory.clocks_per_cycle(clock_hz)
    reg[RATIO_UP], reg[RATIO_DOWN] = ratio.numerator, ratio.denominator
    reg[TURN], reg[LAST_PORT], reg[BURST_BYTES] = -1, len(asked) - 1, memory.burst_bytes
    bits = address_map(memory.part, memory.order, memory.channels)
    channels = channel_state(memory.part, memory.controller, channels=memory.channels)
    return MemoryState(reg, port, request, bits, np.full(memory.channels, -1), channels)


@kernel
def clock_from(reg: Ints, cycle: int) -> int:
    """First memory clock in which something visible at a machine cycle is seen."""
    return -(-cycle * reg[RATIO_UP] // reg[RATIO_DOWN])


@kernel
def cycle_during(reg: Ints, clock: int) -> int:
    """Last machine cycle whose visible things are seen in a memory clock."""
    return clock * reg[RATIO_DOWN] // reg[RATIO_UP]


@kernel
def cycle_of(reg: Ints, clock: int) -> int:
    """Machine cycle in which something of a memory clock happens; it is visible one cycle later."""
    return -(-clock * reg[RATIO_DOWN] // reg[RATIO_UP])


@kernel
def request_visible(state: MemoryState, port: int, cycle: int) -> None:
    """The head request of a port is visible from a machine cycle on."""
    row = state.port[port]
    row[READY] = clock_from(state.reg, cycle)
    state.request[row[FIRST] + row[HEAD], OFFERED_AT] = row[READY]


@kernel
def next_clock(state: MemoryState) -> int:
    """Next memory clock in which something can happen, as far as is known; FAR if nothing can."""
    reg = state.reg
    if reg[TURN] >= 0 or reg[OPEN] > 0:
        return reg[CLOCK]
    earliest = FAR
    for port in range(state.port.shape[0]):
        earliest = min(earliest, state.port[port, READY])
    return max(earliest, reg[CLOCK])


@kernel
def step(state: MemoryState, limit: int) -> bool:
    """Run until a request was accepted or answered (True), but not into clock ``limit`` or beyond (False)."""
    reg = state.reg
    while reg[CLOCK] < limit:
        ready = _take_turn(state) if reg[TURN] < 0 else reg[CLOCK]
        if reg[TURN] < 0:
            # nothing to offer before ``ready``
            until = min(ready, limit)
            if reg[OPEN] == 0:
                if until == FAR:
                    return False
                reg[CLOCK] = until
                continue
            reached, answered = _run_channels(state, until - 1)
            reg[CLOCK] = max(reg[CLOCK], reached + 1)  # channels may lag behind where all are idle
            if answered:
                return True
            continue
        _, answered = _run_channels(state, reg[CLOCK])
        if answered:
            return True  # the clock itself is still to come
        accepted = _offer(state)
        reg[CLOCK] += 1
        if accepted:
            return True
    return False


@kernel
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


@kernel
def _collect(state: MemoryState) -> bool:
    # completions that became known; whether they answer a request
    reg, request = state.reg, state.request
    found = False
    for ch in range(len(state.channels.live)):
        for _ in range(completions(state.channels, ch)):
            number, clock = take_completion(state.channels, ch)
            request[number, LEFT] -= 1
            request[number, DONE] = max(request[number, DONE], clock)
            reg[OPEN] -= 1
            found = True
    if not found:
        return False
    answered = False
    for at in range(state.port.shape[0]):
        row = state.port[at]
        while row[ANSWERED] < row[HEAD] and request[row[FIRST] + row[ANSWERED], LEFT] == 0:
            number = row[FIRST] + row[ANSWERED]
            row[LAST_ANSWER] = max(row[LAST_ANSWER], request[number, DONE])
            request[number, ANSWERED_AT] = row[LAST_ANSWER]
            row[ANSWERED] += 1
            answered = True
    return answered


@kernel
def _take_turn(state: MemoryState) -> int:
    # round robin over ports with a visible request; the earliest clock at which one will be
    reg, port = state.reg, state.port
    count = port.shape[0]
    earliest = FAR
    for step_on in range(1, count + 1):
        at = (reg[LAST_PORT] + step_on) % count
        if port[at, READY] <= reg[CLOCK]:
            reg[TURN], reg[BURST] = at, 0
            return reg[CLOCK]
        earliest = min(earliest, port[at, READY])
    return earliest


@kernel
def _offer(state: MemoryState) -> bool:
    # offers bursts of the request in turn in this clock; whether its last one was accepted
    reg, request, taken = state.reg, state.request, state.taken
    row = state.port[reg[TURN]]
    number = row[FIRST] + row[HEAD]
    is_write = request[number, IS_WRITE] != 0
    while reg[BURST] < request[number, BURSTS]:
        ch, bank, line, column = locate(state.bits, request[number, ADDRESS] + reg[BURST] * reg[BURST_BYTES])
        if taken[ch] == reg[CLOCK] or not offer(state.channels, ch, reg[CLOCK], bank, line, column, is_write, number):
            return False
        taken[ch] = reg[CLOCK]
        reg[BURST] += 1
        reg[OPEN] += 1
    request[number, ACCEPTED_AT] = reg[CLOCK]
    row[HEAD] += 1
    row[READY] = FAR
    reg[LAST_PORT], reg[TURN] = reg[TURN], -1
    return True


def memory_times(program: Program, state: MemoryState, cycles: int) -> MemoryTimes | None:
    """The counters of a finished run of ``cycles`` machine cycles."""
    node = program.memory
    if node is None:
        return None
    clocks = int(clock_from(state.reg, cycles))
    if int(state.channels.live.clock.min()) < clocks:  # idle channels: their refreshes and open banks count to the end
        while not run_idle(state.channels, clocks, _SLICE):
            pass
    size_bytes = np.zeros((len(Stream), 2, len(program.layers)), np.int64)
    for asked in node.requests:
        place = (asked.stream.astype(np.int64), asked.is_write.astype(np.int64), asked.layer.astype(np.int64))
        np.add.at(size_bytes, place, asked.bursts.astype(np.int64) * node.memory.burst_bytes)
    rows = [state.request[port[FIRST] : port[FIRST] + port[COUNT]] for port in state.port]
    return MemoryTimes(
        clocks=clocks,
        commands=_commands(node.memory, state.channels),
        size_bytes=size_bytes,
        offered=tuple(row[:, OFFERED_AT].copy() for row in rows),
        accepted=tuple(row[:, ACCEPTED_AT].copy() for row in rows),
        answered=tuple(row[:, ANSWERED_AT].copy() for row in rows),
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
