"""Do whole programs take what arithmetic says? The known-good recurrence, bandwidth, latency, arbitration, crossing."""

from __future__ import annotations

import re

import numpy as np
import pytest

from dchw.config import build
from dchw.engines import reference
from dchw.engines.difference import first_difference
from dchw.engines.fast import engine as fast_engine
from dchw.machines.units.dram import Dram
from dchw.program.check import check
from dchw.program.layer_runs import LayerRuns
from dchw.program.program import Arbiter, FiringNode, Link, MemoryNode, Policy, Program, Requests
from dchw.quantities import SimulationError
from tests.parity.broadcast import broadcast_program, random_work, recurrence


def node(name: str, firings: int, occupied: int = 1) -> FiringNode:
    return FiringNode(
        name=name, unit=name, occupied=np.full(firings, occupied, np.int32), layer=LayerRuns(((0, firings),))
    )


def program_of(*parts: FiringNode | Arbiter | MemoryNode | Link, clock_hz: int = 800_000_000) -> Program:
    nodes = tuple(part for part in parts if not isinstance(part, Link))
    links = tuple(part for part in parts if isinstance(part, Link))
    return Program(clock_hz=clock_hz, layers=("all",), nodes=nodes, links=links)


def both(program: Program):
    one, other = reference.run(program, record=True), fast_engine.run(program, record=True)
    assert first_difference(one, other, program) is None
    return other


@pytest.mark.parametrize("depth", [1, 2, 3, 8, 64])
def test_broadcast_equals_the_known_good_recurrence(depth):
    rng = np.random.default_rng(depth)
    for elements in (1, 2, 5, 8):
        work = random_work(rng, 40, 16 * elements, elements, 0.15)
        assert both(broadcast_program(work, depth=depth)).cycles == recurrence(work, depth)


def test_one_decoder_per_element_costs_nothing_once_it_runs_ahead():
    work = random_work(np.random.default_rng(7), 30, 256, 8, 0.1) + 1
    # an entry takes a cycle to decode and one to be seen: the first column starts no later than its activation
    assert both(broadcast_program(work, depth=8, decoders=8)).cycles == recurrence(work, 8)


def test_one_decoder_for_all_elements_is_decode_bound():
    work = random_work(np.random.default_rng(8), 30, 64, 4, 0.3) + 1
    result = both(broadcast_program(work, depth=8, decoders=1))
    assert int(work.sum()) < result.cycles <= int(work.sum()) + work.max() + 8
    assert result.nodes["decoder0"].busy == work.sum()


def test_pipeline_fill_and_rate():
    # stage i takes i + 1 cycles; the slowest sets the rate: fill 1 + 2 + 3 + 2 and then 3 cycles per item
    stages = [node(f"s{i}", 20, cycles) for i, cycles in enumerate((1, 2, 3, 2))]
    links = [Link(name=f"q{i}", source=f"s{i}", target=f"s{i + 1}", items=20, depth=2) for i in range(3)]
    result = both(program_of(*stages, *links))
    assert result.cycles == (1 + 2 + 3 + 2) + 19 * 3
    assert result.nodes["s3"].idle == 6 + 19  # three stages to fill, one cycle lost per further item
    assert result.links["q0"].peak == 2


def test_a_depth_of_one_halves_the_rate():
    # the slot of an item taken at s is free at s + 1, the next item visible at s + 2
    parts = [node("a", 30), node("b", 30), Link(name="q", source="a", target="b", items=30, depth=1)]
    assert both(program_of(*parts)).cycles == 1 + 2 * 29 + 1


def test_round_robin_shares_a_port_evenly():
    parts = [node("a", 20), node("b", 20), node("x", 20), node("y", 20)]
    links = [
        Link(name=f"{one}-{way}", source=source, target=target, items=20)
        for one, other in (("a", "x"), ("b", "y"))
        for way, source, target in (("in", one, "port"), ("out", "port", other))
    ]
    result = both(program_of(*parts, Arbiter(name="port", unit="port", policy=Policy.ROUND_ROBIN), *links))
    # first items visible at 1; then a and b take turns, one grant a cycle
    assert result.arbiters["port"].grant[0].tolist() == list(range(1, 41, 2))
    assert result.arbiters["port"].grant[1].tolist() == list(range(2, 42, 2))
    assert result.cycles == 40 + 1 + 1  # the last grant at 40, seen at 41, done at 42
    assert result.arbiters["port"].waited == sum(range(20)) + sum(range(1, 21))


def memory_program(bursts: list[int], *, outstanding: int = 64, **fixed: object) -> Program:
    outstanding = min(outstanding, len(bursts))
    channels = fixed.pop("channels", 1)
    pipe = {"burst_size": "32 B", "clock": "800 MHz", "latency": 0, **fixed}
    memory = build(Dram, {"fixed": pipe, "channels": channels}, where="dram")
    count = len(bursts)
    asked = Requests(
        address=32 * (np.cumsum(bursts) - bursts).astype(np.int64),
        bursts=np.array(bursts, np.int32),
        is_write=np.arange(count) % 2 == 1,
        stream=np.zeros(count, np.uint8),
        layer=np.zeros(count, np.int32),
    )
    return program_of(
        node("ask", count), node("use", count),
        MemoryNode(name="memory", unit="dram", memory=memory, requests=(asked,)),
        Link(name="request", source="ask", target="memory", items=count),
        Link(name="answer", source="memory", target="use", items=count),
        Link(name="credit", source="use", target="ask", items=count + outstanding, initial=outstanding),
    )  # fmt: skip


def test_a_fixed_memory_is_bandwidth_bound():
    # seen and accepted at 1; 100 bursts of 32 B at 16 B per clock hold the bus 200 clocks from 2 on; 7 clocks latency
    result = both(memory_program([4] * 25, bytes_per_cycle=16, latency=7))
    assert result.cycles == 2 + 200 + 7 + 1 + 1
    assert result.memory.size_bytes.sum() == 3200
    assert dict(result.memory.commands) == {"dram_read": 52, "dram_write": 48, "forwarded": 0, "merged": 0}


def test_channels_and_share_scale_the_bandwidth():
    whole = both(memory_program([8] * 20, bytes_per_cycle=8)).cycles
    split = both(memory_program([8] * 20, bytes_per_cycle=8, channels=4)).cycles
    shared = both(memory_program([8] * 20, bytes_per_cycle=8, rest_of_chip=0.5)).cycles
    assert whole == 2 + 160 * 4 + 2
    assert split == 2 + 40 * 4 + 2
    assert shared == 2 + 160 * 8 + 2


def test_latency_bound_with_one_request_outstanding():
    # a read: asked at 0, accepted at 1, on the bus at 2, complete at 3 + 9, seen and used at 13, credit seen at 14;
    # a write is complete when it left the bus, 9 clocks earlier
    result = both(memory_program([1] * 10, bytes_per_cycle=32, latency=9, outstanding=1))
    assert result.cycles == 5 * (14 + 5)
    assert result.memory.latency_percentile(50) == 2
    assert result.memory.latency_percentile(99) == 11


def test_clock_crossing_rounds_up_both_ways():
    # memory at 300 MHz, machine at 800 MHz: a request seen at cycle 1 is offered at clock ceil(3/8) = 1, on the bus at
    # 2; with latency 2 it is complete at clock 5, which is cycle ceil(5 x 8/3) = 14, seen at 15
    result = both(memory_program([1], bytes_per_cycle=32, latency=2, clock="300 MHz"))
    assert result.memory.offered[0].tolist() == [1]
    assert result.memory.answered[0].tolist() == [5]
    assert result.nodes["use"].start.tolist() == [15]
    faster = both(memory_program([1], bytes_per_cycle=32, latency=2, clock="1066 MHz"))
    assert faster.memory.offered[0].tolist() == [2]  # ceil(1.3325)
    assert faster.nodes["use"].start.tolist() == [6]  # ceil((2 + 2 + 2) / 1.3325) + 1


def test_the_next_request_has_its_turn_a_clock_after_the_last_burst():
    memory = both(memory_program([2, 1, 3], bytes_per_cycle=32)).memory
    assert memory.offered[0].tolist() == [1, 2, 3]
    assert memory.accepted[0].tolist() == [2, 3, 6]


def test_layers_have_starts_and_finishes():
    one = FiringNode(name="a", unit="a", occupied=np.array([2, 3, 4]), layer=LayerRuns(((0, 2), (2, 1))))
    program = Program(clock_hz=1, layers=("x", "y", "z"), nodes=(one,), links=())
    result = both(program)
    assert result.layer_start.tolist() == [0, -1, 5]
    assert result.layer_finish.tolist() == [5, -1, 9]
    assert result.nodes["a"].by_layer.tolist() == [[5, 0, 0], [0, 0, 0], [4, 0, 0]]


def test_an_empty_program_takes_no_time():
    assert both(Program(clock_hz=1, layers=(), nodes=(), links=())).cycles == 0


A, B = node("a", 4), node("b", 4)
BAD = {
    "link 'q': expected two existing nodes as its ends; got 'c'": [Link(name="q", source="a", target="c", items=4)],
    "link 'q': expected 5 items given by 'a'; got 4": [Link(name="q", source="a", target="b", items=5)],
    "link 'q': expected items taken in order; got a decreasing list": [
        Link(name="q", source="a", target="b", items=4, taken_by=np.array([0, 2, 1, 3], np.int32))
    ],
    "link 'q': expected a depth of at least the items taken at once; got 4 items for depth 3": [
        Link(name="q", source="a", target="b", items=4, depth=3, taken_by=np.zeros(4, np.int32))
    ],
    "link 'q': expected items given by firings below 4 of 'a'; got 0 to 9": [
        Link(name="q", source="a", target="b", items=4, given_by=np.array([0, 1, 2, 9], np.int32))
    ],
    "link 'q': expected 4 to 4 items taken by 'b'; got 3": [
        Link(name="q", source="a", target="b", items=4, taken_by=np.arange(3, dtype=np.int32))
    ],
    "links: expected different names; got 1 repeated": [Link(name="q", source="a", target="b", items=4)] * 2,
    "arbiter 'x': expected as many in-links as out-links; got 1 and 0": [
        Arbiter(name="x", unit="x"), Link(name="q", source="a", target="x", items=4)
    ],
    "node 'z': expected at least one cycle per firing; got 0": [node("z", 2, 0)],
}  # fmt: skip


@pytest.mark.parametrize("fault", BAD)
def test_malformed_programs_are_refused_with_the_reason(fault):
    expected = f"program: {fault}; correct how the program is built"
    with pytest.raises(SimulationError, match=f"^{re.escape(expected)}$"):
        check(program_of(A, B, *BAD[fault]))


def test_times_that_could_overflow_are_refused():
    far = Link(name="far", source="a", target="b", items=4, latency=2**60)
    with pytest.raises(SimulationError, match=r"program: times: expected at most 2\*\*61 cycles if all its work"):
        fast_engine.run(program_of(A, B, far))
