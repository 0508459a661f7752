"""Is the order of a layer's loops the best that its machine allows, and does the run move what it promised?"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

import dchw
from dchw.engines import reference
from dchw.engines.difference import first_difference
from dchw.formats import PackShape, pack, storage_format
from dchw.formats.packing.run_layout import Pointers
from dchw.graph.geometry import Geometry
from dchw.machines.machine import Machine
from dchw.mapping.crossing_tensors import InputSource
from dchw.mapping.demand import demand_of
from dchw.mapping.orders import Demand, LoopChoice
from dchw.mapping.parts import as_worked
from dchw.mapping.search import LoopSearch
from dchw.quantities import ceil_div
from tests.formulas.layers import convolution, machine_with, product, random_codes, timed
from tests.oracles.mapping import Buffers, Order, best_of_all, walk

SHAPE = PackShape(elements=64, decoders=32, chunk_entries=256, pointers=Pointers.MADE)
SMALL = {"pe_array__tile": 16, "pe_array__accumulators": 64, "pe_array__lanes": 4}


def demand(
    geometry: Geometry, row_bytes: int, *, input_bytes: int | None = None, cuttable: bool = True, cut_bytes: int = 0
) -> Demand:
    values = geometry.in_channels * geometry.in_size[0] * geometry.in_size[1]
    return Demand(
        name="c",
        geometry=geometry,
        batch=1,
        weight_bytes=row_bytes * geometry.out_channels,
        table_bytes=0,
        resident_bytes=row_bytes * geometry.out_channels,
        decoded=False,
        input_bytes=2 * values if input_bytes is None else input_bytes,
        cuttable=cuttable,
        cut_bytes=cut_bytes,
        cycles=lambda rows, pixels: float(geometry.columns * ceil_div(rows, 4) * ceil_div(pixels, 4)),
    )


def buffers(target: Machine, cut_bytes: int = 0) -> Buffers:
    """By hand: sevenths and sixteenths of the SRAMs, as `dchw.mapping.rooms` says in words."""
    weights, activations = target.weight_sram.size_bytes, target.activation_sram.size_bytes
    piece = max(activations // 16 // target.dma.request_bytes, 2) * target.dma.request_bytes
    return Buffers(
        weight_room=weights // 8 * 7,
        block_room=weights // 16 * 7,
        activation_room=max(activations - 2 * piece, piece),
        least_input_room=piece,
        elements=target.pe_array.elements,
        accumulators=target.pe_array.accumulators,
        sum_bytes=target.formats.accumulators.bits // 8,
        burst=target.dram.burst_bytes,
        cut_bytes=cut_bytes,
    )


def order_of(choice: LoopChoice) -> Order:
    return Order(
        part=choice.part_rows,
        tile=choice.tile,
        band=choice.tile * choice.band_tiles,
        blocks=choice.blocks,
        sums=str(choice.sums),
        bands_outermost=choice.bands_outermost,
    )


@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(
    out=st.integers(1, 40),
    channels=st.integers(1, 12),
    side=st.integers(1, 140),
    row_bytes=st.integers(1, 600),
    weight_sram=st.sampled_from(["1 KiB", "4 KiB", "16 KiB"]),
    input_sram=st.sampled_from(["2 KiB", "8 KiB"]),
    accumulators=st.sampled_from([8, 64]),
    cuttable=st.booleans(),
    cut_bytes=st.sampled_from([0, 0, 7, 150]),
)
@example(  # more than the room by a little, and no second column to cut at
    out=2, channels=1, side=9, row_bytes=449, weight_sram="1 KiB", input_sram="2 KiB", accumulators=8, cuttable=True,
    cut_bytes=0,
)  # fmt: skip
def test_costs_are_those_of_a_literal_walk_and_the_best_is_the_least(
    out: int,
    channels: int,
    side: int,
    row_bytes: int,
    weight_sram: str,
    input_sram: str,
    accumulators: int,
    cuttable: bool,
    cut_bytes: int,
) -> None:
    geometry = Geometry(in_channels=channels, out_channels=out, in_size=(side, 1))
    sizes = {"weight_sram__size_bytes": weight_sram, "activation_sram__size_bytes": input_sram}
    target = machine_with(**{**SMALL, **sizes, "pe_array__accumulators": accumulators})
    search = LoopSearch(demand(geometry, row_bytes, cuttable=cuttable, cut_bytes=cut_bytes), target)
    found, has = [], buffers(target, cut_bytes)
    for choice in search.choices():
        cost = search.cost(choice)
        fetched, moved = walk(out, geometry.output_pixels, row_bytes, 2 * channels, order_of(choice), has)
        # a last, smaller part or band may stay where the others do not: the search does not count on that; and the
        # ends of parts and bands lie in bursts of their own, which it counts as if all were alike
        pieces = 2 * ceil_div(out, choice.part_rows) * ceil_div(side, choice.tile * choice.band_tiles)
        uneven = out % choice.part_rows or side % (choice.tile * choice.band_tiles)
        total = cost.weight_bytes + cost.input_bytes
        assert abs(total - fetched) <= pieces * has.burst or (uneven and total > fetched), choice
        assert cost.sum_bytes == moved, choice
        found.append(cost.dram_bytes)
    best = search.explain()
    assert best.cost.dram_bytes == min(found)
    assert best.least_bytes <= min(found)
    assert best.cost.key[0] <= best.simple.key[0]
    tiles = sorted({choice.tile for choice in search.choices()})
    brute = best_of_all(geometry, row_bytes * out, 2 * channels * side, target.pe_array.elements, tiles, has, cuttable)
    pieces = 2 * ceil_div(out, best.choice.part_rows) * ceil_div(side, best.choice.tile * best.choice.band_tiles)
    assert best.cost.dram_bytes <= brute + (pieces + 4) * has.burst


def test_bands_of_a_convolution_overlap() -> None:
    # 8 x 8 pixels, 3 x 3 kernel, 2 channels of 2 bytes: an input row is 32 bytes; bands of two output rows reach over
    # 3, 4, 4 and 3 input rows
    geometry = Geometry(in_channels=2, out_channels=8, kernel=(3, 3), padding=(1, 1), in_size=(8, 8))
    search = LoopSearch(demand(geometry, 18), machine_with(**SMALL))
    assert [search.band_bytes(at, at + 16) for at in range(0, 64, 16)] == [96, 128, 128, 96]
    assert search.band_bytes(4, 12) == 32 * 3  # from the middle of a row to the middle of the next
    assert search.band_bytes(0, 64) == 2 * 2 * 64


def test_a_layer_whose_part_does_not_fit_is_worked_in_blocks_of_columns() -> None:
    geometry = Geometry(in_channels=64, out_channels=8, in_size=(4, 8))
    target = machine_with(weight_sram__size_bytes="1 KiB", activation_sram__size_bytes="2 KiB", **SMALL)
    choice = LoopSearch(demand(geometry, 256), target).best()
    assert choice.blocks > 1
    whole = LoopSearch(demand(geometry, 256, cuttable=False), target)
    assert whole.best().blocks == 1
    assert whole.cost(whole.best()).key[0] > LoopSearch(demand(geometry, 256), target).cost(choice).key[0]


@pytest.mark.parametrize("storage", ["dense-int8", "shared", "csr", "palette"])
def test_both_engines_agree_on_blocks_bands_and_parts(storage: str) -> None:
    network = convolution(Geometry(in_channels=16, out_channels=24, kernel=(3, 3), padding=(1, 1), in_size=(9, 9)))
    size = {"csr": "16 KiB", "shared": "4 KiB", "palette": "1 KiB"}.get(storage, "2 KiB")
    target = machine_with(weight_sram__size_bytes=size, activation_sram__size_bytes="2 KiB", **SMALL)
    timing, program, workload = timed(network, target, storage)
    assert len(workload.stages) > 1
    assert first_difference(timing, reference.run(program, record=True), program) is None


@settings(max_examples=12, suppress_health_check=[HealthCheck.too_slow])
@given(
    out=st.integers(1, 24),
    channels=st.integers(1, 24),
    side=st.integers(1, 9),
    kernel=st.sampled_from([1, 3]),
    storage=st.sampled_from(["dense-int8", "dense-fp32", "shared", "huffman"]),
)
@example(out=21, channels=1, side=4, kernel=1, storage="dense-fp32")  # two parts' ends in bursts of their own
def test_never_worse_than_a_smaller_tile(out: int, channels: int, side: int, kernel: int, storage: str) -> None:
    geometry = Geometry(
        in_channels=channels,
        out_channels=out,
        kernel=(kernel, kernel),
        padding=(kernel // 2, kernel // 2),
        in_size=(side, side),
    )
    network = convolution(geometry)
    sizes = {**SMALL, "weight_sram__size_bytes": "4 KiB", "activation_sram__size_bytes": "4 KiB"}
    best, _, _ = timed(network, machine_with(**sizes), storage)
    assert best.memory is not None
    read = int(best.memory.size_bytes[:, 0].sum())
    for tile in (8, 4):
        other, _, _ = timed(network, machine_with(**{**sizes, "pe_array__tile": tile}), storage)
        assert other.memory is not None
        most = int(other.memory.size_bytes[:, 0].sum())
        # a wide tile may be worth more than blocks of columns that narrow ones are decoded in (`LoopSearch`)
        assert read <= most or (storage == "huffman" and best.cycles * read <= other.cycles * most)


def test_blocks_that_are_decoded_tile_by_tile_must_be_worth_their_time() -> None:
    """ViT-B/16's last linear layer of a block: accumulators hold all its rows for 16 pixels, parts of a third for 64.

    In blocks, a few percent fewer bytes would be read, and every weight decoded thirteen times instead of four.
    """
    rng = np.random.default_rng(0)
    weight = rng.standard_normal((768, 3072, 1, 1), dtype=np.float32)
    geometry = Geometry(in_channels=3072, out_channels=768, in_size=(197, 1))
    net = dchw.Network.from_arrays("n", {"c": weight}, geometry={"c": geometry})
    network = dchw.compress(net, dchw.Recipe(density=0.25, codebook_bits=5))
    packed = pack(as_worked(network.layers[0], 64), "huffman-int8", SHAPE)
    phone = dchw.machine("phone-lpddr4x").working(storage_format("huffman-int8"))
    asked = demand_of(network.layers[0], packed, phone, 1, InputSource(fetched_bytes=3072 * 197))
    chosen, fewest = (LoopSearch(replace(asked, coded=coded), phone).explain() for coded in (True, False))
    assert fewest.choice.blocks > 1
    assert fewest.cost.dram_bytes < chosen.cost.dram_bytes < 1.06 * fewest.cost.dram_bytes
    assert chosen.cost.cycles < 0.6 * fewest.cost.cycles


def test_a_wide_layer_reads_what_was_promised() -> None:
    # VGG-16's conv4_2 as int8 moved 37.1 MB for 2.4 MB of weights with one fixed loop order
    weight = np.random.default_rng(0).standard_normal((512, 512, 3, 3), dtype=np.float32)
    geometry = Geometry(in_channels=512, out_channels=512, kernel=(3, 3), padding=(1, 1), in_size=(28, 28))
    network = dchw.compress(dchw.Network.from_arrays("n", {"c": weight}, geometry={"c": geometry}))
    result = dchw.simulate(network, "phone-lpddr5x", "dense-int8", arithmetic="none")
    row = result.mapping_frame().iloc[0]
    assert row["weight_bytes"] + row["input_bytes"] == pytest.approx(result.dram_read_bytes, rel=0.01)
    assert result.dram_read_bytes < 8.0e6
    assert row["simple_bytes"] > 30.0e6
    assert row["least_bytes"] == pytest.approx(2.36e6 + 512 * 784, rel=0.01)


def test_more_rows_than_accumulators_are_worked_in_parts() -> None:
    network = product(random_codes(300, 40, 0.5))
    timing, _, workload = timed(network, machine_with(**SMALL), "shared")
    assert timing.cycles > 0
    assert sum(stage.layer.geometry.out_channels for stage in workload.stages) == 300
    assert max(stage.layer.tiling.rows for stage in workload.stages) <= 64


def test_a_part_may_fill_the_weight_sram_and_decoding_at_load_fetches_it_once() -> None:
    # VGG-16's conv3_2 at 30 % is 164 KB coded and 332 KB decoded: at use it stays whole, at load in two parts, or whole
    # where half of the weight SRAM holds what was decoded
    geometry = Geometry(in_channels=256, out_channels=256, kernel=(3, 3), padding=(1, 1), in_size=(28, 28))
    weight = np.random.default_rng(0).standard_normal((256, 256, 3, 3), dtype=np.float32)
    net = dchw.Network.from_arrays("n", {"c": weight}, geometry={"c": geometry})
    network = dchw.compress(net, dchw.Recipe(density=0.3, codebook_bits=5))
    phone = dchw.machine("phone-lpddr5x")
    tight = phone.replace("weight_sram.size_bytes", "256 KiB")  # more than half of it is taken
    at_load = phone.replace("huffman.placement", "load")
    for target, parts in (
        (phone, 1),
        (tight, 1),
        (at_load, 2),
        (at_load.replace("weight_sram.size_bytes", "1 MiB"), 1),
    ):
        result = dchw.simulate(network, target, "huffman", arithmetic="none")
        row = result.mapping_frame().iloc[0]
        assert ceil_div(256, row["part_rows"]) == parts
        assert row["weight_bytes"] + row["input_bytes"] == pytest.approx(result.dram_read_bytes, rel=0.01)


def test_an_order_may_be_given_by_layer_and_is_shown_as_given() -> None:
    geometry = Geometry(in_channels=16, out_channels=24, kernel=(3, 3), padding=(1, 1), in_size=(9, 9))
    network, target = convolution(geometry), machine_with(weight_sram__size_bytes="4 KiB", **SMALL)
    order = {"part_rows": 8, "tile_pixels": 9, "band_pixels": 27, "column_blocks": 1, "outermost": "bands"}
    result = dchw.simulate(network, target.replace("mapping", [{"layers": "*", **order}]), "dense-int8")
    row = result.mapping_frame().iloc[0]
    assert {key: row[key] for key in order} == order
    assert row["given"] == "part_rows, tile_pixels, band_pixels, column_blocks, outermost"
    assert [stage.layer.tiling.pixels for stage in result.workload.stages] == [27] * 9
    assert row["weight_bytes"] + row["input_bytes"] == pytest.approx(result.dram_read_bytes, rel=0.1)
    searched = dchw.simulate(network, target, "dense-int8")
    assert searched.mapping_frame().iloc[0]["given"] == ""
    assert searched.dram_read_bytes < result.dram_read_bytes
    partly = dchw.simulate(network, target.replace("mapping", [{"layers": "c", "tile_pixels": 3}]), "dense-int8")
    assert {stage.layer.tiling.tile for stage in partly.workload.stages} == {3}
    np.testing.assert_array_equal(partly.outputs["c"], searched.outputs["c"])


@pytest.mark.parametrize(
    ("order", "message"),
    [
        ({"layers": "c", "part_rows": 5}, r"layer 'c'.*got part_rows 5 from the machine's mapping"),
        ({"layers": "c", "tile_pixels": 17}, r"got tile_pixels 17"),
        ({"layers": "c", "tile_pixels": 4, "band_pixels": 6}, r"bands of whole tiles"),
        ({"layers": "d*", "tile_pixels": 4}, r"mapping of 'd\*': expected the name or a pattern of layers"),
        ({"layers": "c", "tile_pixel": 4}, r"tile_pixels"),
        ({"layers": "c", "outermost": "rows"}, r"parts"),
    ],
)
def test_an_order_that_is_none_is_answered_in_one_sentence(order: dict[str, object], message: str) -> None:
    network = convolution(Geometry(in_channels=4, out_channels=24, in_size=(9, 9)))
    with pytest.raises(dchw.DchwError, match=message):
        dchw.simulate(network, machine_with(**SMALL).replace("mapping", [order]), "dense-int8")
