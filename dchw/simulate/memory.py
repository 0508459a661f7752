"""The memory node (T8): takes requests in turn, splits them into bursts, offers these, answers in order.

The kernels work on one `MemoryState` and know no engine. Both engines tell it when a request becomes visible
(`request_visible`), let it run no further than no unknown request could reach (`step`), and read from the port rows
what was accepted and answered.
"""

from __future__ import annotations

from fractions import Fraction
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from dchw.compile import kernel
from dchw.events import Event, Stream
from dchw.simulate.program import MemoryNode, Program
from dchw.simulate.result import MemoryTimes
from dchw.units.dram import Dram

Ints = npt.NDArray[np.int64]
FAR = 2**62
"""A clock or cycle that never comes."""

# Columns of ``reg``: the node as a whole. RATIO is memory clocks per machine cycle, up / down.
CLOCK, TURN, LAST_PORT, BURST, OPEN, RATIO_UP, RATIO_DOWN, LATENCY, CLOCK_UNITS, BURST_UNITS, REG_SIZE = range(11)
# Columns of ``port``: its requests are rows FIRST .. FIRST + COUNT; HEAD of them are accepted, ANSWERED answered.
# RELEASED and DELIVERED count what the engine has passed on; READY is the clock the head is offered from.
FIRST, COUNT, HEAD, READY, ANSWERED, RELEASED, DELIVERED, LAST_ANSWER, PORT_SIZE = range(9)
# Columns of ``request``.
ADDRESS, BURSTS, IS_WRITE, LEFT, DONE, OFFERED_AT, ACCEPTED_AT, ANSWERED_AT, REQUEST_SIZE = range(9)
# Columns of ``channel``: the clock of the last burst taken, and the end of the bus's work in 1/CLOCK_UNITS clocks.
LAST_TAKEN, BUS_FREE, CHANNEL_SIZE = range(3)


class MemoryState(NamedTuple):
    """Arrays of a memory node; see the column names of this module. Request addresses are counted in bursts."""

    reg: Ints
    port: Ints
    request: Ints
    channel: Ints


def memory_state(program: Program) -> MemoryState:
    """The idle memory of a program; one without ports where the program has no memory node."""
    node = program.memory
    asked = node.requests if node is not None else ()
    reg = np.zeros(REG_SIZE, np.int64)
    port = np.zeros((len(asked), PORT_SIZE), np.int64)
    counts = [len(requests.address) for requests in asked]
    request = np.zeros((sum(counts), REQUEST_SIZE), np.int64)
    port[:, COUNT] = counts
    port[:, FIRST] = np.cumsum([0, *counts])[:-1]
    port[:, READY] = FAR
    reg[TURN], reg[LAST_PORT] = -1, len(asked) - 1
    reg[RATIO_UP] = reg[RATIO_DOWN] = 1
    if node is None:
        return MemoryState(reg, port, request, np.zeros((1, CHANNEL_SIZE), np.int64))
    memory: Dram = node.memory
    request[:, ADDRESS] = np.concatenate([requests.address for requests in asked]) // memory.burst_bytes
    request[:, BURSTS] = request[:, LEFT] = np.concatenate([requests.bursts for requests in asked])
    request[:, IS_WRITE] = np.concatenate([requests.is_write for requests in asked])
    ratio = memory.clocks_per_cycle(program.clock_hz)
    reg[RATIO_UP], reg[RATIO_DOWN] = ratio.numerator, ratio.denominator
    assert memory.fixed is not None
    rate = Fraction(memory.fixed.bandwidth_bytes_per_cycle, memory.burst_bytes) * (1 - memory.share)
    reg[LATENCY] = memory.fixed.latency_cycles
    reg[CLOCK_UNITS], reg[BURST_UNITS] = rate.numerator, rate.denominator
    channel = np.zeros((memory.channels, CHANNEL_SIZE), np.int64)
    channel[:, LAST_TAKEN] = -1
    return MemoryState(reg, port, request, channel)


@kernel
def clock_from(reg: Ints, cycle: int) -> int:
    """First memory clock in which something visible at a machine cycle is seen."""
    return -(-cycle * reg[RATIO_UP] // reg[RATIO_DOWN])  # type: ignore[no-any-return]


@kernel
def cycle_during(reg: Ints, clock: int) -> int:
    """Last machine cycle whose visible things are seen in a memory clock."""
    return clock * reg[RATIO_DOWN] // reg[RATIO_UP]  # type: ignore[no-any-return]


@kernel
def cycle_of(reg: Ints, clock: int) -> int:
    """Machine cycle in which something of a memory clock happens; it is visible one cycle later."""
    return -(-clock * reg[RATIO_DOWN] // reg[RATIO_UP])  # type: ignore[no-any-return]


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
        return reg[CLOCK]  # type: ignore[no-any-return]
    earliest = FAR
    for port in range(state.port.shape[0]):
        earliest = min(earliest, state.port[port, READY])
    return max(earliest, reg[CLOCK])  # type: ignore[no-any-return]


@kernel
def step(state: MemoryState, limit: int) -> bool:
    """Run until a request was accepted or answered (True), but not into clock ``limit`` or beyond (False)."""
    reg = state.reg
    while reg[CLOCK] < limit:
        if reg[TURN] < 0:
            ready = _take_turn(state)
            if reg[TURN] < 0:
                if min(ready, limit) == FAR:
                    return False
                reg[CLOCK] = min(ready, limit)
                continue
        accepted = _offer(state)
        reg[CLOCK] += 1
        if accepted:
            return True
    return False


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
            return reg[CLOCK]  # type: ignore[no-any-return]
        earliest = min(earliest, port[at, READY])
    return earliest


@kernel
def _offer(state: MemoryState) -> bool:
    # offers bursts of the request in turn in this clock; whether its last one was accepted
    reg, request, channel = state.reg, state.request, state.channel
    row = state.port[reg[TURN]]
    number = row[FIRST] + row[HEAD]
    while reg[BURST] < request[number, BURSTS]:
        lane = (request[number, ADDRESS] + reg[BURST]) % channel.shape[0]
        if channel[lane, LAST_TAKEN] == reg[CLOCK] or not _accept(state, lane, number):
            return False
        channel[lane, LAST_TAKEN] = reg[CLOCK]
        reg[BURST] += 1
    request[number, ACCEPTED_AT] = reg[CLOCK]
    row[HEAD] += 1
    row[READY] = FAR
    reg[LAST_PORT], reg[TURN] = reg[TURN], -1
    _answer(state, row)
    return True


@kernel
def _accept(state: MemoryState, lane: int, number: int) -> bool:
    # fixed memory: a burst is taken in the clock in which its bus time begins
    reg, channel = state.reg, state.channel
    if channel[lane, BUS_FREE] >= (reg[CLOCK] + 1) * reg[CLOCK_UNITS]:
        return False
    begin = max(channel[lane, BUS_FREE], reg[CLOCK] * reg[CLOCK_UNITS])
    channel[lane, BUS_FREE] = begin + reg[BURST_UNITS]
    last = -(-channel[lane, BUS_FREE] // reg[CLOCK_UNITS]) - 1
    _complete(state, number, last + reg[LATENCY])
    return True


@kernel
def _complete(state: MemoryState, number: int, clock: int) -> None:
    request = state.request
    request[number, LEFT] -= 1
    request[number, DONE] = max(request[number, DONE], clock)


@kernel
def _answer(state: MemoryState, row: Ints) -> None:
    # answers of a port, in order, as far as requests are complete
    request = state.request
    while row[ANSWERED] < row[HEAD] and request[row[FIRST] + row[ANSWERED], LEFT] == 0:
        number = row[FIRST] + row[ANSWERED]
        row[LAST_ANSWER] = max(row[LAST_ANSWER], request[number, DONE])
        request[number, ANSWERED_AT] = row[LAST_ANSWER]
        row[ANSWERED] += 1


def memory_times(program: Program, state: MemoryState, cycles: int) -> MemoryTimes | None:
    """The counters of a finished run of ``cycles`` machine cycles."""
    node = program.memory
    if node is None:
        return None
    size_bytes = np.zeros((len(Stream), 2, len(program.layers)), np.int64)
    for asked in node.requests:
        place = (asked.stream.astype(np.int64), asked.is_write.astype(np.int64), asked.layer.astype(np.int64))
        np.add.at(size_bytes, place, asked.bursts.astype(np.int64) * node.memory.burst_bytes)
    moved = size_bytes.sum(axis=(0, 2)) // node.memory.burst_bytes
    rows = [state.request[port[FIRST] : port[FIRST] + port[COUNT]] for port in state.port]
    return MemoryTimes(
        clocks=int(clock_from(state.reg, cycles)),
        commands={Event.DRAM_READ.value: int(moved[0]), Event.DRAM_WRITE.value: int(moved[1])},
        size_bytes=size_bytes,
        offered=tuple(row[:, OFFERED_AT].copy() for row in rows),
        accepted=tuple(row[:, ACCEPTED_AT].copy() for row in rows),
        answered=tuple(row[:, ANSWERED_AT].copy() for row in rows),
    )


def request_trace(node: MemoryNode, times: MemoryTimes) -> dict[str, npt.NDArray[np.generic]]:
    """All requests in the order of their acceptance: memory clock, address, bytes, is_write, stream, layer, port."""
    ports = [np.full(len(asked.address), index) for index, asked in enumerate(node.requests)]
    columns: dict[str, npt.NDArray[np.generic]] = {"clock": np.concatenate(times.accepted)}
    columns["address"] = np.concatenate([asked.address for asked in node.requests])
    bursts = np.concatenate([asked.bursts for asked in node.requests]).astype(np.int64)
    columns["size_bytes"] = bursts * node.memory.burst_bytes
    for name in ("is_write", "stream", "layer"):
        columns[name] = np.concatenate([getattr(asked, name) for asked in node.requests])
    columns["port"] = np.concatenate(ports)
    order = np.argsort(columns["clock"], kind="stable")
    return {name: column[order] for name, column in columns.items()}
