"""Pipeline fill by hand, and the known-good recurrence against whole runs."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dchw.engines import reference
from dchw.engines.difference import first_difference
from dchw.engines.fast import engine as fast_engine
from dchw.validate.eie import broadcast_cycles
from tests.formulas.layers import machine_with, product, random_codes, timed
from tests.formulas.test_work_bound import per_element
from tests.oracles import units as oracle


def test_one_weight_through_an_empty_machine() -> None:
    # memory: 8 B a clock, latency 20, bursts of 32 B; 4 elements; weights are in the SRAM
    timing, _, _ = timed(product([[3]]), machine_with(), "shared", warm=True)
    finish = {name: times.finish[-1] for name, times in timing.nodes.items() if times.finish is not None}
    asked = 1
    answered = asked + 1 + 32 // 8 + 20  # looked at a clock after it was accepted, 4 clocks on the bus, latency
    filled = answered + 1 + 2  # seen a cycle later; a block of 64 B over 4 words of 64 bits takes 2 cycles
    broadcast = filled + 1 + 1  # a firing opens the pass, one is the column
    multiplied = broadcast + 1 + 1  # seen in the cycle after, and the hand-over of one row
    written = multiplied + 1 + 1  # vector unit, request
    assert finish["dma.activations"] == asked
    assert finish["activation_sram.fill"] == filled
    assert finish["activation_sram.broadcast"] == broadcast
    assert finish["pe[0]"] == multiplied
    assert finish["dma.outputs"] == written
    acknowledged = written + 1 + 32 // 8 + 1 + 1  # accepted, on the bus, seen, noted
    assert timing.cycles == acknowledged == 42


def test_every_further_column_costs_a_cycle() -> None:
    cycles = [timed(product([[3] * n]), machine_with(), "shared", warm=True)[0].cycles for n in (10, 11, 16)]
    assert cycles[1] - cycles[0] == 1
    assert cycles[2] - cycles[0] == 6  # 16 float16 inputs are still one burst of 32 B


@settings(max_examples=25)
@given(
    rows=st.integers(1, 40),
    columns=st.integers(1, 60),
    density=st.floats(0.02, 0.9),
    active=st.floats(0.1, 1.0),
    depth=st.integers(1, 9),
    seed=st.integers(0, 1000),
)
def test_whole_runs_equal_the_recurrence_and_a_loop_over_cycles(
    rows: int, columns: int, density: float, active: float, depth: int, seed: int
) -> None:
    x = np.random.default_rng(seed).random(columns) < active
    x[0] = True
    codes = random_codes(rows, columns, density, seed)
    codes[0, 0] = 1
    # all inputs in one block, so that no column waits for a later one
    target = machine_with(pe_array__queue_depth=depth, weight_sram__size_bytes="64 KiB", dma__request_bytes="128 B")
    timing, _, workload = timed(product(codes, x), target, "shared", warm=True)
    work = per_element(workload)[x]
    pushes, free = oracle.broadcast(work.tolist(), depth)
    broadcast = timing.nodes["activation_sram.broadcast"]
    assert broadcast.start is not None
    assert broadcast.finish is not None
    begin = int(broadcast.finish[0])  # the firing that opens the pass
    # a column is pushed when its firing hands over, in the cycle before it finishes
    assert (broadcast.finish[1:] - 1 - begin).tolist() == pushes
    # an element's last firing but one ends its last column; the last one hands its sums over
    elements = [timing.nodes[f"pe[{p}]"].finish for p in range(4) if f"pe[{p}]" in timing.nodes]
    assert [int(finish[-2]) - begin for finish in elements if finish is not None] == free
    assert int(broadcast_cycles(work, depth)) == max(free)


@pytest.mark.parametrize("storage", ["shared", "huffman"])
def test_formulas_hold_in_the_reference_engine_too(storage: str) -> None:
    _, program, _ = timed(product(random_codes(20, 40, 0.3)), machine_with(), storage, warm=True)
    one, other = fast_engine.run(program, record=True), reference.run(program, record=True)
    assert first_difference(one, other, program) is None


def test_deeper_queues_never_cost_time() -> None:
    network = product(random_codes(40, 80, 0.2))
    cycles = [
        timed(network, machine_with(pe_array__queue_depth=depth), "shared", warm=True)[0].cycles
        for depth in (1, 2, 4, 8, 16)
    ]
    assert cycles == sorted(cycles, reverse=True)
    assert cycles[0] > cycles[-1]
