"""Do the small tables of a layer share bursts, and does a layer's traffic stay what packing promises?"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import dchw
from dchw.lowering import weights
from dchw.quantities import SimulationError, ceil_div
from dchw.vocabulary import STREAMS
from tests.formulas.layers import machine_with, product, random_codes, timed

GOALS = {"lenet_300_100": 28_000, "lenet_5": 46_000, "lenet_300_100_frontier": 9_500, "lenet_5_frontier": 14_500}


@pytest.mark.parametrize(("name", "most"), GOALS.items())
def test_lenets_read_no_more_than_their_goals(name: str, most: int) -> None:
    run = dchw.simulate(dchw.load(f"models/{name}.dchw"), "phone-lpddr5x", "huffman", arithmetic="none")
    assert run.dram_read_bytes <= most


@pytest.mark.parametrize("storage", ["huffman", "dense-int8", "palette-huffman"])
def test_tables_lie_one_behind_another_and_are_read_in_whole_bursts_once(storage: str) -> None:
    target = machine_with()
    timing, program, workload = timed(product(random_codes(40, 50, 0.3)), target, storage)
    packed, burst = workload.stages[0].layer.packed, target.dram.burst_bytes
    assert program.memory is not None
    assert timing.memory is not None
    asked = program.memory.requests[0]
    table = np.isin(asked.stream, [STREAMS.index(stream) for stream in packed.tables])
    begin, end = asked.address[table], asked.address[table] + asked.bursts[table] * burst
    assert begin[0] == 0
    np.testing.assert_array_equal(begin[1:], end[:-1])
    assert end[-1] == ceil_div(packed.table_bytes, burst) * burst
    assert (begin // target.dma.request_bytes == (end - 1) // target.dma.request_bytes).all()
    # a burst counts as the table's that begins or goes on at its first byte
    starts = np.cumsum([0, *(packed.regions[stream].size for stream in packed.tables)])
    for index, stream in enumerate(packed.tables):
        mine = ceil_div(int(starts[index + 1]), burst) - ceil_div(int(starts[index]), burst)
        assert timing.memory.size_bytes[STREAMS.index(stream), 0].sum() == mine * burst
    if len(packed.tables) > 1:
        assert end[-1] < sum(ceil_div(packed.regions[stream].size, burst) * burst for stream in packed.tables)


def test_a_burst_of_tables_too_many_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    blocks_of = weights._table_blocks

    def one_more(work: Any, machine: Any) -> Any:
        blocks = blocks_of(work, machine)
        return replace(blocks, bursts=np.append(blocks.bursts[:-1], blocks.bursts[-1] + 1).astype(np.int32))

    network = product(random_codes(120, 90, 0.3))
    dchw.simulate(network, machine_with(), "huffman")
    monkeypatch.setattr(weights, "_table_blocks", one_more)
    with pytest.raises(SimulationError, match=r"code_tables.*expected exactly"):
        dchw.simulate(network, machine_with(), "huffman")


@pytest.mark.parametrize("size", ["1 KiB", "2 KiB"])
def test_a_layer_whose_tables_fill_the_sram_is_worked_in_parts(size: str) -> None:
    # a chunk a column and decode unit: VGG-16's fc6 as palette-huffman has 800 KB of chunk table for 512 KiB of SRAM
    target = machine_with(weight_sram__size_bytes=size, huffman__chunk_entries=16)
    run = dchw.simulate(product(random_codes(32, 700, 0.3)), target, "palette-huffman")
    tables = [stage.layer.packed.table_bytes for stage in run.workload.stages]
    assert len(tables) > 1
    assert max(tables) <= target.weight_sram.size_bytes
    row = run.mapping_frame().iloc[0]
    assert row["weight_bytes"] + row["input_bytes"] == pytest.approx(run.dram_read_bytes, rel=0.02)
