"""A recorded run as a timeline that opens in Perfetto (https://ui.perfetto.dev): the protobuf, written directly.

One track per unit with one below it per node; a slice per firing, named after its layer, with a slice inside for the
cycles it was held by a full queue; one counter per link with the items in it. One nanosecond shown is one cycle.
Numbers of fields are those of Perfetto's ``trace_packet.proto``, ``track_descriptor.proto``, ``track_event.proto``.
"""

from __future__ import annotations

import gzip
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


MOST_BYTES = 20_000_000
"""Size of a timeline on disk, per million cycles or part of it."""
COMPRESSION = 5
"""What gzip makes a timeline smaller by, at least: 6.8 was measured on a network of 20 layers."""
COARSEST = 1 << 12
"""Cycles to which a timeline is thinned, at most."""
_EVENT_BYTES = 20


def layer_window(timing: Timing, layer: int) -> tuple[int, int]:
    """The cycles in which a layer's firings are, as a window to record: first cycle, end."""
    return int(timing.layer_start[layer]), int(timing.layer_finish[layer])


def write_timeline(path: str | Path, program: Program, timing: Timing) -> int:
    """Write what a run recorded, whole or not at all; gives the cycles to which it was thinned, 1 for not at all.

    A name that ends in ``.gz`` is compressed, as Perfetto opens it. A timeline that would take more than `MOST_BYTES` a
    million cycles is thinned: firings of a node for one layer with less than so many cycles between them are one slice,
    shorter holds are left out, and a counter has one value in so many cycles. Raises DchwError for a run that recorded
    nothing and, with an estimate, for one that is too large at the coarsest.
    """
    if timing.window is None:
        raise DchwError(f"timeline {path}: expected a recorded run; got one without times; run it with record=True")
    packed = Path(path).suffix == ".gz"
    most = MOST_BYTES * max(timing.cycles / 10**6, 1.0) * (COMPRESSION if packed else 1)
    step, whole = 1, _estimate(program, timing, 1)
    while (size := whole if step == 1 else _estimate(program, timing, step)) > most and step < COARSEST:
        step *= 4
    if size > most:
        raise DchwError(
            f"timeline {path}: expected at most {most / 1e6:,.0f} MB before compression; got about "
            f"{whole / 1e6:,.0f} MB, and {size / 1e6:,.0f} MB thinned to {step} cycles; bound it to layers (--layer) "
            "or to a window"
        )
    with whole_file(path) as beside, beside.open("wb") as raw:
        out = gzip.GzipFile("", "wb", 6, raw, mtime=0) if packed else raw
        for packet in _packets(program, timing, step):
            out.write(_bytes(_PACKET, packet))
        if packed:
            out.close()
    return step


def _estimate(program: Program, timing: Timing, step: int) -> int:
    """Bytes of a timeline before compression, counted in slices and samples."""
    layer = max((len(name) for name in program.layers), default=0)
    size = 0
    for node in program.nodes:
        if isinstance(node, FiringNode):
            begin, able, finish, _, _ = _stretches(timing, node, step)
            size += len(begin) * (_EVENT_BYTES * 2 + layer) + int((finish - able >= step).sum()) * _EVENT_BYTES * 3
    for index in range(len(program.links)):
        size += len(_levels(program, timing, index, step)[1]) * _EVENT_BYTES
    return size


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


def _packets(program: Program, timing: Timing, step: int) -> Iterator[bytes]:
    units = {unit: number for number, unit in enumerate(dict.fromkeys(node.unit for node in program.nodes), 1)}
    for unit, uuid in units.items():
        yield _track(uuid, unit if step == 1 else f"{unit} (gaps below {step} cycles closed)")
    uuid = len(units)
    for node in program.nodes:
        if isinstance(node, FiringNode):
            uuid += 1
            yield _track(uuid, node.name, units[node.unit])
            yield from _slices(program, timing, node, uuid, step)
    for index, link in enumerate(program.links):
        uuid += 1
        target = program.node(link.target)
        yield _track(uuid, f"items in {link.name}", units[target.unit], counter=True)
        yield from _fill(program, timing, index, uuid, step)


def _stretches(timing: Timing, node: FiringNode, step: int) -> tuple[IntArray, IntArray, IntArray, IntArray, IntArray]:
    """Begin, end of own work, finish, link that held it up and layer of every slice of a node.

    With a ``step`` above 1, firings for one layer with less than ``step`` cycles between them are one slice, held up as
    its last firing was.
    """
    times = timing.nodes[node.name]
    assert times.start is not None
    assert times.finish is not None
    assert times.stalled_by is not None
    kept = slice(times.first, times.first + len(times.start))
    layers, able = node.layer.listed()[kept], times.start + node.occupied[kept]
    held_by = times.stalled_by.astype(np.int64)
    if step == 1 or not len(times.start):
        return times.start, able, times.finish, held_by, layers
    apart = (times.start[1:] - times.finish[:-1] >= step) | (layers[1:] != layers[:-1])
    first = np.flatnonzero(np.concatenate([[True], apart]))
    last = np.append(first[1:], len(times.start)) - 1
    return times.start[first], able[last], times.finish[last], held_by[last], layers[first]


def _slices(program: Program, timing: Timing, node: FiringNode, track: int, step: int) -> Iterator[bytes]:
    rows = zip(*(column.tolist() for column in _stretches(timing, node, step)), strict=True)
    for start, able, finish, held_by, layer in rows:
        yield _event(start, _BEGIN, track, _bytes(_EVENT_NAME, program.layers[layer]))
        if finish - able >= step:
            yield _event(able, _BEGIN, track, _bytes(_EVENT_NAME, f"held by {program.links[held_by].name}"))
            yield _event(finish, _END, track)
        yield _event(finish, _END, track)


def _levels(program: Program, timing: Timing, index: int, step: int) -> tuple[int, IntArray, IntArray]:
    """Items in a link before the window, and the cycles of its changes with the items then, one in ``step`` cycles."""
    link = program.links[index]
    before_in, put = _moves(program, timing, link, index, "given_by")
    before_out, taken = _moves(program, timing, link, index, "taken_by")
    cycles = np.concatenate([put, taken + 1])
    steps = np.concatenate([np.ones(len(put), np.int64), -np.ones(len(taken), np.int64)])
    order = np.argsort(cycles, kind="stable")
    fill = link.initial + before_in - before_out
    level = fill + np.cumsum(steps[order])
    # the last change of each cycle, or of each stretch of cycles, counts
    _, last = np.unique((cycles[order] // step)[::-1], return_index=True)
    return fill, cycles[order][::-1][last], level[::-1][last]


def _fill(program: Program, timing: Timing, index: int, track: int, step: int = 1) -> Iterator[bytes]:
    assert timing.window is not None
    fill, at, level = _levels(program, timing, index, step)
    begin = max(timing.window[0], 0)
    if not len(at) or at[0] > begin:
        yield _event(begin, _SAMPLE, track, _int(_EVENT_VALUE, fill))
    for cycle, value in zip(at.tolist(), level.tolist(), strict=True):
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
    state = memory_state(program).node
    cycles = np.array([cycle_of(state, clock) for clock in clocks.tolist()], np.int64)
    inside = (cycles >= timing.window[0]) & (cycles < timing.window[1])
    return int((cycles < timing.window[0]).sum()), cycles[inside]
