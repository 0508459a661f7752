"""Does a timeline hold what was recorded? Read back with a reader of protobuf wire format written for this test."""

from __future__ import annotations

from collections import defaultdict
from random import Random

import numpy as np
import pytest

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
    from dchw.engines import timeline

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
