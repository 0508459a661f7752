"""Does a timeline hold what was recorded? Read back with a reader of protobuf wire format written for this test."""

from __future__ import annotations

import gzip
import itertools
from collections import defaultdict
from random import Random

import numpy as np
import pytest

from dchw.engines import timeline
from dchw.engines.fast import engine as fast_engine
from dchw.engines.timeline import layer_window, write_timeline
from dchw.quantities import DchwError, SimulationError
from tests.parity.machines import Scale, random_program
from tests.parity.test_planted_faults import congested


def fields(raw: bytes):
    """(number, value) of each field: ints for varints, bytes for the rest."""
    at = 0

    def varint():
        nonlocal at
        value = shift = 0
        while True:
            byte = raw[at]
            at += 1
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value

    while at < len(raw):
        tag = varint()
        if tag & 7 == 0:
            yield tag >> 3, varint()
        else:
            assert tag & 7 == 2
            size = varint()
            yield tag >> 3, raw[at : at + size]
            at += size


def read(path):
    """Names and parents of tracks; slices (begin, end, name) and samples (time, value) by track name."""
    names, parents, slices, samples = {}, {}, defaultdict(list), defaultdict(list)
    open_slices = defaultdict(list)
    for number, packet in fields(path.read_bytes()):
        assert number == 1
        parts = dict(fields(packet))
        if 60 in parts:
            track = dict(fields(parts[60]))
            names[track[1]] = track[2].decode()
            parents[track[1]] = names.get(track.get(5))
            continue
        event = dict(fields(parts[11]))
        where = names[event[11]]
        if event[9] == 1:
            open_slices[where].append((parts[8], event[23].decode()))
        elif event[9] == 2:
            begin, name = open_slices[where].pop()
            slices[where].append((begin, parts[8], name))
        else:
            samples[where].append((parts[8], event[30]))
    assert not any(open_slices.values())
    return dict(zip(names.values(), parents.values(), strict=True)), slices, samples


def test_every_firing_is_a_slice_and_every_queue_a_counter(tmp_path):
    program = congested()
    result = fast_engine.run(program, record=True)
    write_timeline(tmp_path / "run.pftrace", program, result)
    parents, slices, samples = read(tmp_path / "run.pftrace")
    for name, times in result.nodes.items():
        whole = [(begin, end) for begin, end, label in slices[name] if label == "all"]
        assert whole == list(zip(times.start.tolist(), times.finish.tolist(), strict=True))
        held = sum(end - begin for begin, end, label in slices[name] if label.startswith("held by "))
        assert held == times.stall
        assert name in parents
    for link in program.links:
        values = samples[f"items in {link.name}"]
        assert min(value for _, value in values) >= 0
        assert values[-1][1] == link.initial  # all taken, credits given back
        if link.depth:
            assert max(value for _, value in values) == result.links[link.name].peak


def test_a_window_shows_the_fill_that_was_there_before():
    for seed in range(60):
        program = random_program(Random(seed), Scale(nodes=6, firings=20, links=8))
        try:
            whole = fast_engine.run(program, record=True)
        except SimulationError:
            continue
        begin = whole.cycles // 3
        window = (begin, begin + whole.cycles // 3 + 1)
        part = fast_engine.run(program, record=True, window=window)
        complete = {link.name: samples_of(program, whole, link.name) for link in program.links}
        for link in program.links:
            shown = samples_of(program, part, link.name)
            for cycle in range(window[0] + 1, window[1]):
                assert level(shown, cycle) == level(complete[link.name], cycle), (seed, link.name, cycle)


def samples_of(program, result, name):

    index = [link.name for link in program.links].index(name)
    packets = [dict(fields(packet)) for packet in timeline._fill(program, result, index, 1)]
    return [(packet[8], dict(fields(packet[11]))[30]) for packet in packets]


def level(samples, cycle):
    return [value for at, value in samples if at <= cycle][-1]


def test_a_layer_can_be_chosen():
    for seed in range(20):
        program = random_program(Random(seed))
        try:
            plain = fast_engine.run(program)
        except SimulationError:
            continue
        layer = int(np.argmax(plain.layer_finish))
        begin, end = layer_window(plain, layer)
        part = fast_engine.run(program, record=True, window=(begin, end))
        assert all((times.finish > begin).all() and (times.start < end).all() for times in part.nodes.values())


def test_a_run_without_times_is_refused(tmp_path):
    program = congested()
    message = r"run.pftrace: expected a recorded run; got one without times; run it with record=True"
    with pytest.raises(DchwError, match=message):
        write_timeline(tmp_path / "run.pftrace", program, fast_engine.run(program))
    with pytest.raises(DchwError, match="cannot be written"):
        write_timeline(tmp_path, program, fast_engine.run(program, record=True))


def test_a_compressed_timeline_holds_the_same(tmp_path):
    program = congested()
    result = fast_engine.run(program, record=True)
    assert write_timeline(tmp_path / "run.pftrace", program, result) == 1
    write_timeline(tmp_path / "run.pftrace.gz", program, result)
    packed = (tmp_path / "run.pftrace.gz").read_bytes()
    assert gzip.decompress(packed) == (tmp_path / "run.pftrace").read_bytes()
    write_timeline(tmp_path / "again.pftrace.gz", program, result)
    assert (tmp_path / "again.pftrace.gz").read_bytes() == packed


@pytest.mark.parametrize("step", [4, 64])
def test_a_thinned_timeline_covers_the_same_work(tmp_path, monkeypatch, step):
    program = congested()
    result = fast_engine.run(program, record=True)
    sizes = {n: timeline._estimate(program, result, n) for n in (1, 4, 16, 64)}
    assert sorted(sizes.values(), reverse=True) == list(sizes.values())
    monkeypatch.setattr(timeline, "MOST_BYTES", sizes[step])
    assert write_timeline(tmp_path / "run.pftrace", program, result) <= step
    _, slices, samples = read(tmp_path / "run.pftrace")
    for name, times in result.nodes.items():
        whole = sorted((begin, end) for begin, end, label in slices[name] if label in program.layers)
        assert all(one[1] <= other[0] for one, other in itertools.pairwise(whole))
        for begin, end in zip(times.start.tolist(), times.finish.tolist(), strict=True):
            assert any(first <= begin and end <= last for first, last in whole)
    for rows in samples.values():
        cycles = [cycle for cycle, _ in rows[1:]]
        assert cycles == sorted(cycles)


def test_one_that_is_too_large_is_refused_with_an_estimate(tmp_path, monkeypatch):
    program = congested()
    monkeypatch.setattr(timeline, "MOST_BYTES", 10)
    with pytest.raises(DchwError, match=r"got about .* MB, and .* MB thinned to 4096 cycles; bound it to layers"):
        write_timeline(tmp_path / "run.pftrace", program, fast_engine.run(program, record=True))
    assert list(tmp_path.iterdir()) == []


def test_perfettos_own_classes_read_it(tmp_path):
    messages = pytest.importorskip("perfetto.protos.perfetto.trace.perfetto_trace_pb2", reason="needs 'perfetto'")
    program = congested()
    result = fast_engine.run(program, record=True)
    write_timeline(tmp_path / "run.pftrace", program, result)
    trace = messages.Trace()
    trace.ParseFromString((tmp_path / "run.pftrace").read_bytes())
    declared = {packet.track_descriptor.uuid for packet in trace.packet if packet.HasField("track_descriptor")}
    events = [packet.track_event for packet in trace.packet if packet.HasField("track_event")]
    assert {event.track_uuid for event in events} <= declared
    kinds = messages.TrackEvent
    begins = sum(event.type == kinds.TYPE_SLICE_BEGIN for event in events)
    assert begins == sum(event.type == kinds.TYPE_SLICE_END for event in events)
    firings = sum(len(times.start) for times in result.nodes.values())
    assert begins >= firings > 0
    assert sum(event.type == kinds.TYPE_COUNTER for event in events) > 0
