"""A recorded run as a timeline that opens in Perfetto (https://ui.perfetto.dev): the protobuf, written directly.

One track per unit with one below it per node; a slice per firing, named after its layer, with a slice inside for the
cycles it was held by a full queue; one counter per link with the items in it. One nanosecond shown is one cycle.
Numbers of fields are those of Perfetto's ``trace_packet.proto``, ``track_descriptor.proto``, ``track_event.proto``.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from dchw.engines.memory import cycle_of, memory_state
from dchw.engines.result import IntArray, Timing
from dchw.files import whole_file
from dchw.program.program import Arbiter, FiringNode, Link, Program
from dchw.quantities import DchwError

_PACKET = 1
_TIMESTAMP, _SEQUENCE, _TRACK_EVENT, _TRACK_DESCRIPTOR = 8, 10, 11, 60
_UUID, _NAME, _PARENT, _COUNTER = 1, 2, 5, 8
_EVENT_TYPE, _EVENT_TRACK, _EVENT_NAME, _EVENT_VALUE = 9, 11, 23, 30
_BEGIN, _END, _SAMPLE = 1, 2, 4


def layer_window(timing: Timing, layer: int) -> tuple[int, int]:
    """The cycles in which a layer's firings are, as a window to record: first cycle, end."""
    return int(timing.layer_start[layer]), int(timing.layer_finish[layer])


def write_timeline(path: str | Path, program: Program, timing: Timing) -> None:
    """Write what a run recorded; replaces the file as a whole. Raises DchwError for a run that recorded nothing."""
    if timing.window is None:
        raise DchwError(f"timeline {path}: expected a recorded run; got one without times; run it with record=True")
    with whole_file(path) as beside, beside.open("wb") as out:
        for packet in _packets(program, timing):
            out.write(_bytes(_PACKET, packet))


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)


def _int(field: int, value: int) -> bytes:
    return _varint(field << 3) + _varint(value)


def _bytes(field: int, value: bytes | str) -> bytes:
    raw = value.encode() if isinstance(value, str) else value
    return _varint(field << 3 | 2) + _varint(len(raw)) + raw


def _track(uuid: int, name: str, parent: int = 0, *, counter: bool = False) -> bytes:
    body = _int(_UUID, uuid) + _bytes(_NAME, name)
    body += _int(_PARENT, parent) if parent else b""
    body += _bytes(_COUNTER, b"") if counter else b""
    return _bytes(_TRACK_DESCRIPTOR, body)


def _event(cycle: int, kind: int, track: int, rest: bytes = b"") -> bytes:
    body = _int(_EVENT_TYPE, kind) + _int(_EVENT_TRACK, track) + rest
    return _int(_TIMESTAMP, cycle) + _int(_SEQUENCE, 1) + _bytes(_TRACK_EVENT, body)


def _packets(program: Program, timing: Timing) -> Iterator[bytes]:
    units = {unit: number for number, unit in enumerate(dict.fromkeys(node.unit for node in program.nodes), 1)}
    for unit, uuid in units.items():
        yield _track(uuid, unit)
    uuid = len(units)
    for node in program.nodes:
        if isinstance(node, FiringNode):
            uuid += 1
            yield _track(uuid, node.name, units[node.unit])
            yield from _slices(program, timing, node, uuid)
    for index, link in enumerate(program.links):
        uuid += 1
        target = program.node(link.target)
        yield _track(uuid, f"items in {link.name}", units[target.unit], counter=True)
        yield from _fill(program, timing, index, uuid)


def _slices(program: Program, timing: Timing, node: FiringNode, track: int) -> Iterator[bytes]:
    times = timing.nodes[node.name]
    assert times.start is not None
    assert times.finish is not None
    assert times.stalled_by is not None
    kept = slice(times.first, times.first + len(times.start))
    layers = node.layer[kept].tolist()
    ready = (times.start + node.occupied[kept]).tolist()
    rows = zip(times.start.tolist(), ready, times.finish.tolist(), times.stalled_by.tolist(), layers, strict=True)
    for start, able, finish, held_by, layer in rows:
        yield _event(start, _BEGIN, track, _bytes(_EVENT_NAME, program.layers[layer]))
        if finish > able:
            yield _event(able, _BEGIN, track, _bytes(_EVENT_NAME, f"held by {program.links[held_by].name}"))
            yield _event(finish, _END, track)
        yield _event(finish, _END, track)


def _fill(program: Program, timing: Timing, index: int, track: int) -> Iterator[bytes]:
    link = program.links[index]
    before_in, put = _moves(program, timing, link, index, "given_by")
    before_out, taken = _moves(program, timing, link, index, "taken_by")
    assert timing.window is not None
    cycles = np.concatenate([put, taken + 1])
    steps = np.concatenate([np.ones(len(put), np.int64), -np.ones(len(taken), np.int64)])
    order = np.argsort(cycles, kind="stable")
    fill = link.initial + before_in - before_out
    level = fill + np.cumsum(steps[order])
    at, last = np.unique(cycles[order][::-1], return_index=True)  # the last change of each cycle counts
    begin = max(timing.window[0], 0)
    if not len(at) or at[0] > begin:
        yield _event(begin, _SAMPLE, track, _int(_EVENT_VALUE, fill))
    for cycle, value in zip(at.tolist(), level[::-1][last].tolist(), strict=True):
        yield _event(cycle, _SAMPLE, track, _int(_EVENT_VALUE, value))


def _moves(program: Program, timing: Timing, link: Link, index: int, side: str) -> tuple[int, IntArray]:
    # items a link's end moved before the window, and the cycles in which it moved others inside
    assert timing.window is not None
    node = program.node(link.source if side == "given_by" else link.target)
    if isinstance(node, FiringNode):
        times = timing.nodes[node.name]
        assert times.start is not None
        assert times.finish is not None
        by = getattr(link, side)
        first, end = times.first, times.first + len(times.start)
        cycles = times.finish - 1 if side == "given_by" else times.start
        if by is None:
            return first, cycles
        low, high = np.searchsorted(by, [first, end])
        return int(low), cycles[by[low:high] - first]
    into = program.links_out_of(node.name) if side == "given_by" else program.links_into(node.name)
    port = into.index(index)
    if isinstance(node, Arbiter):
        grants = timing.arbiters[node.name]
        assert grants.grant is not None
        assert grants.before is not None
        return grants.before[port], grants.grant[port]
    assert timing.memory is not None
    clocks = (timing.memory.answered if side == "given_by" else timing.memory.accepted)[port]
    reg = memory_state(program).reg
    cycles = np.array([cycle_of(reg, clock) for clock in clocks.tolist()], np.int64)
    inside = (cycles >= timing.window[0]) & (cycles < timing.window[1])
    return int((cycles < timing.window[0]).sum()), cycles[inside]
