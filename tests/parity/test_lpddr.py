"""Do the engines agree when the memory is an LPDDR controller, and does a node in front of it cost nothing?"""

from __future__ import annotations

from dataclasses import replace
from random import Random

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dchw.config import build
from dchw.engines import reference
from dchw.engines.fast import engine as fast_engine
from dchw.machines.units.dram import Dram
from dchw.program.layer_runs import LayerRuns
from dchw.program.program import FiringNode, Link, MemoryNode, Program, Requests
from dchw.quantities import ConfigError
from tests.dram.driving import MemorySystem
from tests.parity.machines import Scale, random_program
from tests.parity.test_engines import assert_equal, outcome

STANDARDS = ("LPDDR4-3200", "LPDDR4X-4266", "LPDDR5-6400", "LPDDR5X-8533")


def lpddr(rng: Random) -> Dram:
    controller = {
        "read_queue": rng.choice([1, 4, 32]),
        "write_queue": rng.choice([2, 8, 32]),
        "refresh": rng.choice(["refab", "refpb", "noref"]),
        "rest_of_chip": rng.choice([0.0, 0.0, 0.2]),
    }
    data = {"standard": rng.choice(STANDARDS), "channels": rng.choice([1, 2, 4]), "controller": controller}
    return build(Dram, {**data, "mapping": rng.choice(["robaracoch", "mop4clxor"])}, where="dram")


def random_lpddr_program(rng: Random) -> Program:
    program = random_program(rng, Scale(nodes=6, firings=12, links=10))
    memory = program.memory
    if memory is None:
        return program
    dram = lpddr(rng)
    # spread over rows and banks, with some addresses near one another
    grain = dram.burst_bytes * rng.choice([1, 16, 64, 4096])
    requests = tuple(replace(asked, address=(asked.address // 32) * grain) for asked in memory.requests)
    nodes = [replace(node, memory=dram, requests=requests) if node is memory else node for node in program.nodes]
    return replace(program, nodes=tuple(nodes))


@given(st.randoms(use_true_random=False).map(random_lpddr_program))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_engines_agree(program):
    assert_equal(outcome(reference, program), outcome(fast_engine, program), program)


def stream(memory: Dram, count: int, bursts: int, *, writes: bool = False, ports: int = 1) -> Program:
    """``ports`` readers or writers that each move ``count`` requests in address order, as many at once as they like."""
    layer = np.zeros(count, np.int32)
    nodes: list[FiringNode | MemoryNode] = []
    links, asked = [], []
    for port in range(ports):
        nodes += [
            FiringNode(name=name, unit=name, occupied=np.ones(count, np.int32), layer=LayerRuns(((0, count),)))
            for name in (f"ask{port}", f"use{port}")
        ]
        links += [
            Link(name=f"request{port}", source=f"ask{port}", target="memory", items=count, depth=4),
            Link(name=f"answer{port}", source="memory", target=f"use{port}", items=count),
        ]
        first = port * count * bursts
        asked.append(
            Requests(
                address=(first + np.arange(count, dtype=np.int64) * bursts) * memory.burst_bytes,
                bursts=np.full(count, bursts, np.int32),
                is_write=np.full(count, writes),
                stream=np.zeros(count, np.uint8),
                layer=layer,
            )
        )
    nodes.append(MemoryNode(name="memory", unit="dram", memory=memory, requests=tuple(asked)))
    return Program(clock_hz=800_000_000, layers=("all",), nodes=tuple(nodes), links=tuple(links))


@pytest.mark.parametrize("channels", [1, 2, 4])
def test_a_stream_takes_the_clocks_that_the_controller_alone_takes(channels):
    """The same bursts, offered clock by clock to the controller itself, are complete at the same clocks."""
    memory = build(Dram, {"standard": "LPDDR5X-8533", "channels": channels}, where="dram")
    result = fast_engine.run(stream(memory, 100, 8))
    system = MemorySystem("LPDDR5X-8533", memory.controller, mapping=memory.order, channels=channels)
    first = int(result.memory.offered[0][0])
    clock, burst, done = first, 0, {}
    while len(done) < 800:
        used = set()
        while burst < 800:
            channel = system.locate(burst * 32)[0]
            # a new request has its turn in the clock after the last burst of the one before
            fresh = burst % 8 == 0 and bool(used)
            if fresh or channel in used or not system.offer(clock, burst * 32, False, burst):
                break
            used.add(channel)
            burst += 1
        for channel in range(channels):
            while system.advance(channel, clock) < clock:
                pass
            done.update(system.completions(channel))
        clock += 1
    last = np.maximum.accumulate([max(done[8 * i + k] for k in range(8)) for i in range(100)])
    np.testing.assert_array_equal(result.memory.answered[0], last)


def test_commands_are_counted_by_event_and_by_name():
    plain = {"standard": "LPDDR4-3200", "mapping": "robaracoch", "controller": {"refresh": "noref"}}
    memory = build(Dram, plain, where="dram")
    commands = fast_engine.run(stream(memory, 16, 4)).memory.commands
    assert commands["dram_read"] == commands["RD"] == 64  # one row of 2 KiB
    assert commands["row_activate"] == commands["ACT"] == 1
    assert commands["row_precharge"] == commands["refresh_all_bank"] == commands["forwarded"] == 0


def test_refresh_runs_to_the_end_even_where_the_memory_is_idle():
    memory = build(Dram, {"standard": "LPDDR4-3200", "controller": {"refresh": "refab"}}, where="dram")
    program = stream(memory, 1, 1)
    slow = np.array([100_000], np.int32)
    nodes = [replace(node, occupied=slow) if node.name == "use0" else node for node in program.nodes]
    result = fast_engine.run(replace(program, nodes=tuple(nodes)))
    # 100,000 cycles at 800 MHz are 200,000 clocks of 625 ps; one refresh each 6,246 clocks
    assert result.memory.clocks // 6246 == 32
    assert result.memory.commands["refresh_all_bank"] == 32


def test_two_ports_take_turns():
    memory = build(Dram, {"standard": "LPDDR5-6400"}, where="dram")
    result = fast_engine.run(stream(memory, 30, 2, ports=2))
    order = np.argsort(np.concatenate(result.memory.accepted), kind="stable")
    assert (order < 30).tolist()[4:50] == [True, False] * 23


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({}, "x: (top): expected either 'standard' or 'fixed'; got neither; write one of the two"),
        (
            {"standard": "LPDDR5"},
            "x: (top): standard 'LPDDR5': not known and not a YAML file; did you mean 'LPDDR5-6400'?",
        ),
        ({"standrd": "LPDDR5"}, "x: standrd: unknown key; did you mean 'standard'?"),
        (
            {"standard": "LPDDR5-6400", "channels": 3},
            "x: (top): channels: expected a power of two, because addresses are split by bits; got 3",
        ),
        (
            {"standard": "LPDDR5-6400", "controller": {"refresh": "never"}},
            "x: controller.refresh: input should be 'refab', 'refpb' or 'noref'; got 'never'",
        ),
    ],
)  # fmt: skip
def test_faults_of_a_configuration_are_named(data, message):
    with pytest.raises(ConfigError) as caught:
        build(Dram, data, where="x")
    assert str(caught.value) == message


def test_a_configuration_survives_dump_and_load():
    for seed in range(20):
        dram = lpddr(Random(seed))
        assert build(Dram, dram.dump(), where="x") == dram


def echoes(memory: Dram, count: int) -> Program:
    """Each address is written through one port and at once read through another; then comes the next address."""
    nodes: list[FiringNode | MemoryNode] = [
        FiringNode(name=name, unit=name, occupied=np.ones(count, np.int32), layer=LayerRuns(((0, count),)))
        for name in ("write", "written", "read", "use")
    ]
    asked = Requests(
        address=np.arange(count, dtype=np.int64) * 4096,
        bursts=np.ones(count, np.int32),
        is_write=np.zeros(count, np.bool_),
        stream=np.zeros(count, np.uint8),
        layer=np.zeros(count, np.int32),
    )
    requests = (replace(asked, is_write=np.ones(count, np.bool_)), asked)
    nodes.append(MemoryNode(name="memory", unit="dram", memory=memory, requests=requests))
    links = (
        Link(name="writes", source="write", target="memory", items=count, depth=4),
        Link(name="reads", source="read", target="memory", items=count, depth=4),
        Link(name="acks", source="memory", target="written", items=count),
        Link(name="answers", source="memory", target="use", items=count),
        Link(name="to write", source="use", target="write", items=count + 1, initial=1),
        Link(name="to read", source="use", target="read", items=count + 1, initial=1),
    )
    return Program(clock_hz=800_000_000, layers=("all",), nodes=tuple(nodes), links=links)


@pytest.mark.parametrize("channels", [1, 2])
def test_what_is_asked_because_of_an_answer_from_a_waiting_write_does_not_wait_for_that(channels):
    """Such a read needs no command and is answered in the next clock."""
    program = echoes(build(Dram, {"standard": "LPDDR5X-8533", "channels": channels}, where="dram"), 40)
    expected = reference.run(program, record=True)
    assert expected.memory.commands["forwarded"] > 0
    assert_equal(expected, fast_engine.run(program, record=True), program)
