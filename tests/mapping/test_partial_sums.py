"""Do sums wait between blocks of columns where the order says, are they counted, and do both engines agree?"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import dchw
from dchw.engines import reference
from dchw.engines.difference import first_difference
from dchw.engines.fast import engine as fast
from dchw.graph.geometry import Geometry
from dchw.lowering import broadcast, lower, tensors
from dchw.mapping.layer import Layers
from dchw.mapping.rooms import behind_blocks, input_blocks
from dchw.mapping.search import LoopSearch
from dchw.mapping.stages import LayerWork
from dchw.mapping.tiling import Sums
from dchw.mapping.workload import map_network
from dchw.quantities import SimulationError, ceil_div
from dchw.vocabulary import Event, Stream
from tests.formulas.layers import convolution, machine_with, product, random_codes, timed
from tests.mapping.test_search import SMALL, demand
from tests.oracles.mapping import whole

LAYER = Geometry(in_channels=16, out_channels=24, kernel=(3, 3), padding=(1, 1), in_size=(9, 9))
STORAGES = ["dense-int8", "dense-fp32", "shared", "csr", "palette", "huffman", "huffman-int8", "palette-huffman"]


def cut(sums: str, **order: Any) -> Any:
    """A small machine that works layers in three blocks of columns and tiles of 8 pixels."""
    given = {"layers": "*", "tile_pixels": 8, "column_blocks": 3, "partial_sums": sums, **order}
    return machine_with(weight_sram__size_bytes="16 KiB", activation_sram__size_bytes="8 KiB", **SMALL).replace(
        "mapping", [given]
    )


AT_LOAD = [(storage, "load") for storage in STORAGES if "huffman" in storage]
"""Weights that decode units decode on their way into the weight SRAM."""


ORDERS = [({"band_pixels": 40}, "sram"), ({"band_pixels": 81, "part_rows": 12}, "dram")]
CROSSED = [(order, sums) for (order, _), (_, sums) in zip(ORDERS, ORDERS[::-1], strict=True)]
"""The other two, for one format of entries and a dense one."""


@pytest.mark.parametrize(
    ("storage", "placement", "order", "sums"),
    [
        *((*form, *case) for form in [*((storage, "use") for storage in STORAGES), *AT_LOAD] for case in ORDERS),
        *(("huffman", placement, *case) for placement in ("use", "load") for case in CROSSED),
        *(("dense-int8", "use", *case) for case in CROSSED),
    ],
)
def test_both_engines_agree_and_outputs_are_those_of_a_layer_worked_whole(
    storage: str, placement: str, order: dict[str, int], sums: str
) -> None:
    network, target = convolution(LAYER), cut(sums, **order).replace("huffman.placement", placement)
    timing, program, workload = timed(network, target, storage)
    assert {stage.layer.tiling.sums for stage in workload.stages} == {Sums(sums)}
    assert first_difference(timing, reference.run(program, record=True), program) is None
    run = dchw.simulate(network, target, storage)  # every count and every byte is compared with the workload
    plain = dchw.simulate(network, target.replace("mapping", []), storage)
    np.testing.assert_array_equal(run.outputs["c"], plain.outputs["c"])
    assert run.cycles == timing.cycles


@pytest.mark.parametrize("sums", ["sram", "dram"])
def test_sums_are_counted_word_by_word_and_burst_by_burst(sums: str) -> None:
    target = cut(sums, band_pixels=40)
    run = dchw.simulate(convolution(LAYER), target, "dense-int8")
    bits = target.working(dchw.formats.storage_format("dense-int8")).formats.accumulators.bits
    tiles = 2 * (5 * [8]) + [1]  # bands of 40, 40 and 1 pixels
    sizes = [24 * pixels * bits // 8 for pixels in tiles]
    frame = run.streams_frame().set_index("stream")
    once = sum(whole(size, target.dram.burst_bytes) for size in sizes) if sums == "dram" else 0
    moved = frame.loc["partial_sums"] if once else None
    assert once == 0 or (moved["dram_read_bytes"], moved["dram_write_bytes"]) == (2 * once, 2 * once)
    assert sums == "dram" or "partial_sums" not in frame.index
    words = 2 * sum(ceil_div(8 * size, target.activation_sram.word_bits) for size in sizes)
    counted = {
        count.event: count.count
        for count in run.counts
        if count.unit == "activation_sram" and count.stream is Stream.PARTIAL_SUMS
    }
    assert counted == dict.fromkeys((Event.SRAM_READ, Event.SRAM_WRITE), words * (2 if once else 1))
    vector = sum(count.count for count in run.counts if count.event is Event.VECTOR_OPERATION)
    assert vector == 24 * 81 * (3 + 2)  # handed over in each block, and added to in all but the first


def test_a_layer_keeps_sums_in_the_activation_sram_where_that_spares_inputs() -> None:
    # 512 x 512 x 3 x 3 as fp32 on 28 x 28 pixels: accumulators hold the sums of 64 rows, the SRAM beside them of 128
    weight = np.random.default_rng(0).standard_normal((512, 512, 3, 3), dtype=np.float32)
    geometry = Geometry(in_channels=512, out_channels=512, kernel=(3, 3), padding=(1, 1), in_size=(28, 28))
    network = dchw.compress(dchw.Network.from_arrays("n", {"c": weight}, geometry={"c": geometry}))
    run = dchw.simulate(network, "phone-lpddr5x", "dense-fp32", arithmetic="none")
    row = run.mapping_frame().iloc[0]
    assert (row["partial_sums"], row["part_rows"]) == ("sram", 128)
    assert row["weight_bytes"] + row["input_bytes"] == pytest.approx(run.dram_read_bytes, rel=0.01)
    assert run.dram_read_bytes < 13.0e6  # 15.9 MB with sums in accumulators only


def test_sums_cross_the_dram_only_where_that_moves_less() -> None:
    # four rows of 32 KiB in five blocks, 400 pixels: the SRAM holds the sums of a quarter of them, accumulators of less
    geometry = Geometry(in_channels=512, out_channels=4, in_size=(20, 20))
    asked = demand(geometry, 8192)
    sizes = {"weight_sram__size_bytes": "16 KiB", "activation_sram__size_bytes": "2 KiB"}
    few = {**SMALL, **sizes, "pe_array__accumulators": 16, "pe_array__tile": 16}
    search = LoopSearch(asked, machine_with(**few))
    best = search.explain()
    assert best.choice.sums is Sums.DRAM
    assert best.cost.sum_bytes == 2 * 4 * 4 * 400 * 4  # written and read between five blocks, 4 rows of 4 bytes
    others = [search.cost(one).dram_bytes for one in search.choices() if one.sums is not Sums.DRAM]
    assert best.cost.dram_bytes < min(others)
    # with accumulators for all of them nothing is written
    enough = LoopSearch(asked, machine_with(**{**few, "pe_array__accumulators": 400})).explain()
    assert (enough.choice.sums, enough.cost.sum_bytes) == (Sums.ACCUMULATORS, 0)


def test_rooms_of_the_activation_sram_are_booked_once() -> None:
    rng = np.random.default_rng(0)
    sizes = [(8, 3, 30), (16, 8, 30), (16, 16, 30), (8, 16, 30), (4, 8, 30)]
    weight = {
        f"c{i}": rng.standard_normal((out, into, 3, 3), dtype=np.float32) for i, (out, into, _) in enumerate(sizes)
    }
    geometry = {
        f"c{i}": Geometry(in_channels=into, out_channels=out, kernel=(3, 3), padding=(1, 1), in_size=(side, side))
        for i, (out, into, side) in enumerate(sizes)
    }
    network = dchw.compress(dchw.Network.from_arrays("n", weight, geometry=geometry))
    whole_room = 0
    for sram in ("8 KiB", "16 KiB", "32 KiB", "64 KiB", "128 KiB"):
        for storage in ("dense-fp32", "dense-int8", "huffman"):
            target = machine_with(weight_sram__size_bytes="4 KiB", activation_sram__size_bytes=sram, **SMALL)
            target = target.replace("pe_array.accumulators", 32)
            workload = map_network(network, target, storage)
            request, size = target.dma.request_bytes, target.activation_sram.size_bytes
            bits = workload.machine.formats.accumulators.bits
            for stage in workload.stages:
                work = stage.layer
                sums = 0
                if work.tiling.sums is Sums.SRAM:
                    sums = sum(work.sum_bytes(tile, bits) for tile in range(work.tiling.tiles))
                streams = (work.input_blocks if stage.layer_input in stage.loads else 0) + 2 * behind_blocks(target)
                taken = sum(stage.held.values()) + sums + streams * request
                assert taken <= size, (sram, storage, work.name)
                whole_room = max(whole_room, taken)
            dchw.simulate(network, target, storage)
    assert whole_room > 0
    assert input_blocks(target) * target.dma.request_bytes < size


@pytest.mark.parametrize(
    ("module", "name", "wrong", "message"),
    [
        (tensors, "sum_bytes", lambda at, index: at.work.sum_bytes(index, 16), "partial.sums"),
        (broadcast, "sum_bytes", lambda at, index: at.work.sum_bytes(index, 16), "sram_write of partial_sums"),
    ],
)
def test_sums_of_half_their_width_are_caught(
    monkeypatch: pytest.MonkeyPatch, module: Any, name: str, wrong: Any, message: str
) -> None:
    monkeypatch.setattr(module, name, wrong)
    with pytest.raises(SimulationError, match=message):
        dchw.simulate(convolution(LAYER), cut("dram", band_pixels=40), "dense-int8")


def test_a_room_that_is_booked_twice_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """An input that believes in more room than its credits stands still: the program cannot end."""
    target = machine_with(weight_sram__size_bytes="4 KiB", activation_sram__size_bytes="8 KiB", **SMALL)
    workload = map_network(convolution(LAYER), target, "dense-fp32")
    kept = [stage for stage in workload.stages if stage.layer.input_stays]
    assert kept, "a stage keeps its input"
    less = [replace(stage, layer=replace(stage.layer, input_blocks=2)) for stage in workload.stages]
    with pytest.raises(dchw.DchwError, match="deadlock"):
        fast.run(lower.lower(replace(workload, stages=tuple(less))))


def test_work_is_none_the_less_for_sums_that_wait() -> None:
    work: LayerWork = map_network(convolution(LAYER), cut("sram"), "dense-int8").stages[0].layer
    assert work.handed_sums == 3 * work.output_values
    assert work.partial_turns == 2


def scarce(density: float = 0.3) -> dchw.CompressedNetwork:
    """A convolution of 256 rows of which the phones' weight SRAM holds a few elements' worth."""
    weight = np.random.default_rng(0).standard_normal((256, 512, 3, 3), dtype=np.float32)
    geometry = Geometry(in_channels=512, out_channels=256, kernel=(3, 3), padding=(1, 1), in_size=(14, 14))
    net = dchw.Network.from_arrays("n", {"c": weight}, geometry={"c": geometry})
    return dchw.compress(net, dchw.Recipe(density=density, codebook_bits=4))


@pytest.mark.parametrize(("placement", "size"), [("use", "64 KiB"), ("load", "128 KiB")])
@pytest.mark.parametrize("storage", ["huffman", "palette-huffman"])
def test_coded_weights_are_cut_where_that_moves_less_and_packed_in_bands_of_columns(
    storage: str, placement: str, size: str
) -> None:
    target = dchw.machine("phone-lpddr5x").replace("weight_sram.size_bytes", size)
    network, target = scarce(), target.replace("huffman.placement", placement)
    run = dchw.simulate(network, target, storage, arithmetic="none")
    row = run.mapping_frame().iloc[0]
    assert row["column_blocks"] > 1
    moved = row["weight_bytes"] + row["input_bytes"] + row["partial_sum_bytes"]
    assert moved == pytest.approx(run.dram_read_bytes, rel=0.01)
    whole_columns = target.replace("mapping", [{"layers": "*", "column_blocks": 1}])
    uncut = dchw.simulate(network, whole_columns, storage, arithmetic="none")
    assert run.dram_read_bytes < 0.8 * uncut.dram_read_bytes
    works = [stage.layer for stage in run.workload.stages]
    for work in works:
        first, last = work.blocks_of_chunks
        np.testing.assert_array_equal(first, last)  # a block is decoded from its own chunks
    # at use the units go through a block's chunks for every tile, at load once, whatever the blocks
    symbols = {count.stream: count.count for count in run.counts if count.event is Event.SYMBOL_DECODE}
    for stream, decoded in symbols.items():
        asked = sum(work.coded.symbols * (work.tiling.tiles if placement == "use" else 1) for work in works)
        assert decoded == asked, stream


def test_a_cut_that_only_adds_chunks_is_not_made() -> None:
    """Weights that fit are worked whole, and so is a layer of one tile, whose weights cross once in any order."""
    network, phone = scarce(0.02), dchw.machine("phone-lpddr5x")
    assert dchw.simulate(network, phone, "huffman", arithmetic="none").mapping_frame()["column_blocks"].max() == 1
    flat = product(random_codes(256, 900, 0.5))
    few = machine_with(weight_sram__size_bytes="16 KiB", **{**SMALL, "pe_array__accumulators": 256})
    assert dchw.simulate(flat, few, "huffman").mapping_frame()["column_blocks"].max() == 1


@pytest.mark.parametrize(
    ("storage", "placement"), [("shared", "use"), ("bitmask", "use"), ("huffman", "use"), ("huffman", "load")]
)
def test_a_layer_of_which_a_few_columns_hold_all_weights_is_not_cut_into_even_blocks(
    storage: str, placement: str
) -> None:
    """Blocks have equal numbers of columns; where one holds nearly all weights, it would not fit."""
    rng = np.random.default_rng(0)
    geometry = Geometry(in_channels=64, out_channels=24, kernel=(3, 3), padding=(1, 1), in_size=(9, 9))
    weight = rng.standard_normal((24, 64, 3, 3)).astype(np.float32)
    weight[:, 8:] = 0
    net = dchw.Network.from_arrays("n", {"c": weight}, geometry={"c": geometry})
    network = dchw.compress(net, dchw.Recipe(codebook_bits=8))
    sizes = {"weight_sram__size_bytes": "4 KiB" if placement == "load" else "2 KiB", "huffman__chunk_entries": 16}
    target = machine_with(**sizes, activation_sram__size_bytes="2 KiB", huffman__placement=placement, **SMALL)
    run = dchw.simulate(network, target, storage)
    roomy = dchw.simulate(network, machine_with(**SMALL), storage)
    np.testing.assert_array_equal(run.outputs["c"], roomy.outputs["c"])
    if placement == "load":
        order = {"layers": "*", "column_blocks": 12, "tile_pixels": 8, "band_pixels": 40, "part_rows": 24}
        with pytest.raises(dchw.DchwError, match=r"a decode unit has \d+ chunks of one block of its columns, and room"):
            dchw.simulate(network, target.replace("mapping", [order]), storage)


def test_coded_weights_cut_across_their_chunks_are_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """Packed whole and worked in blocks: a chunk that reaches over a bound is decoded with the first block alone."""
    packed_whole = Layers._laid_out
    monkeypatch.setattr(Layers, "_laid_out", lambda self, layer, column_bands=1: packed_whole(self, layer))
    with pytest.raises(AssertionError, match="not packed in bands"):
        dchw.simulate(convolution(LAYER), cut("sram").replace("huffman.chunk_entries", 1024), "huffman")
