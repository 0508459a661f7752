"""Does a whole run compute the right thing, move the right bytes, and say so where it cannot?"""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import dchw
from dchw.compression.compressed import CompressedNetwork
from dchw.engines import reference
from dchw.engines.difference import first_difference
from dchw.engines.fast import engine as fast_engine
from dchw.formats import STORAGE_FORMATS, Need, unpack, weight_matrix, written
from dchw.graph import forward
from dchw.graph.geometry import Geometry
from dchw.lowering.lower import lower
from dchw.mapping import parts
from dchw.mapping.workload import map_network
from dchw.quantities import DchwError, FileFormatError, SimulationError
from dchw.run.conservation import check_conservation
from dchw.vocabulary import Event
from tests.mapping.layers import convolution, fully_connected, small_machine

NETWORKS = {
    "fc": fully_connected(37, 50),
    "fc batch": fully_connected(16, 30, batch=3),
    "conv": convolution(),
    "grouped": convolution(channels=4, rows=8, groups=2),
    "depthwise": convolution(channels=6, rows=6, groups=6),
}
CODED = [name for name, form in STORAGE_FORMATS.items() if Need.DECODER in form.needs]
STYLES = ("bit_serial", "table", "multi_symbol", "rate")
RATE = {"rate_low": 2, "rate_high": 8, "zeros_low": 0.5, "zeros_high": 0.9}


def batch_of(network: CompressedNetwork) -> int:
    return len(next(iter(network.graph.example_inputs.values())))


@pytest.mark.parametrize("storage", STORAGE_FORMATS)
@pytest.mark.parametrize("name", NETWORKS)
def test_outputs_equal_the_decompressed_network(name: str, storage: str) -> None:
    network = NETWORKS[name]
    result = dchw.simulate(network, small_machine(), storage, batch=batch_of(network))
    expected = forward.forward(network.decompress())
    tolerance = {"dense-int8": 2e-2, "huffman-int8": 3e-2, "dense-fp16": 2e-3}.get(storage, 1e-5)
    for output, values in result.outputs.items():
        np.testing.assert_allclose(values, expected[output], atol=tolerance * np.abs(expected[output]).max())


@pytest.mark.parametrize("storage", CODED)
@pytest.mark.parametrize("placement", ["use", "load"])
@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("name", ["fc", "conv", "grouped"])
def test_engines_agree_on_whole_layers(name: str, style: str, placement: str, storage: str) -> None:
    data = small_machine().dump()
    data["huffman"] |= {"style": style, "placement": placement}
    if style == "rate":
        data["huffman"]["rate"] = RATE
    target = type(small_machine()).model_validate(data)
    program = lower(map_network(NETWORKS[name], target, storage))
    one, other = fast_engine.run(program, record=True), reference.run(program, record=True)
    assert first_difference(one, other, program) is None


@pytest.mark.parametrize("storage", sorted(STORAGE_FORMATS.keys() - set(CODED)))
@pytest.mark.parametrize("warm", [False, True])
def test_engines_agree_without_decoding(storage: str, warm: bool) -> None:
    program = lower(map_network(NETWORKS["conv"], small_machine(), storage), warm=warm)
    one, other = fast_engine.run(program, record=True), reference.run(program, record=True)
    assert first_difference(one, other, program) is None


@settings(max_examples=25)
@given(
    st.sampled_from(sorted(NETWORKS)),
    st.sampled_from(sorted(STORAGE_FORMATS)),
    st.sampled_from([1, 2, 4, 8]),
    st.sampled_from([1, 2, 4, 8]),
    st.sampled_from(["use", "load"]),
    st.integers(1, 5),
    st.integers(1, 60),
    st.booleans(),
)
def test_any_machine_runs_without_deadlock(
    name: str, storage: str, units: int, elements: int, placement: str, depth: int, chunk: int, warm: bool
) -> None:
    data = small_machine().dump()
    data["huffman"] |= {"units": units, "placement": placement, "output_queue": depth, "chunk_entries": chunk}
    data["pe_array"] |= {"elements": elements, "queue_depth": depth}
    data["weight_sram"]["size_bytes"] = "4 KiB"
    target = type(small_machine()).model_validate(data)
    try:
        program = lower(map_network(NETWORKS[name], target, storage), warm=warm)
    except DchwError as error:
        assert "raise weight_sram.size_bytes" in str(error) or "raise dma.staging_bytes" in str(error)  # noqa: PT017
        return
    timing = fast_engine.run(program)
    for times in timing.nodes.values():
        assert times.busy + times.stall + times.idle == timing.cycles


def test_a_flipped_packed_bit_never_passes_unnoticed(monkeypatch: pytest.MonkeyPatch) -> None:
    network, target = NETWORKS["fc"], small_machine()
    clean = dchw.simulate(network, target).outputs["fc"]
    packed_layer = map_network(network, target).stages[0].layer.packed
    rng = np.random.default_rng(0)
    for stream, region in packed_layer.regions.items():
        for bit in rng.choice(region.size * 8, size=min(12, region.size * 8), replace=False):
            packed = written(packed_layer)
            damaged = packed.regions[stream].copy()
            damaged[bit // 8] ^= 1 << bit % 8
            packed = dataclasses.replace(packed, regions={**packed.regions, stream: damaged})
            monkeypatch.setattr(parts, "written", lambda _, packed=packed: packed)
            try:
                noisy = dchw.simulate(network, target).outputs["fc"]
            except FileFormatError:
                continue
            # a weight that changed shows unless its activation is zero; then the decoded weights tell
            same = np.array_equal(noisy, clean) and np.array_equal(
                weight_matrix(unpack(packed)), network.layers[0].weight
            )
            assert not same, f"bit {bit} of {stream}"


def test_weights_of_which_only_the_places_were_kept_make_no_matrix() -> None:
    placed = map_network(NETWORKS["fc"], small_machine()).stages[0].layer.weights
    with pytest.raises(ValueError, match="values"):
        weight_matrix(placed)


def test_streamed_bytes_are_exact_for_a_layer_of_one_pass() -> None:
    network = NETWORKS["fc"]
    for storage in STORAGE_FORMATS:
        result = dchw.simulate(network, small_machine(), storage)
        packed = result.workload.stages[0].layer.packed
        moved = result.stream_bytes()
        for stream in packed.chunk_bytes:
            assert moved[stream] == -(-packed.regions[stream].size // 32) * 32
        # tables share bursts
        assert sum(moved.get(stream, 0) for stream in packed.tables) == -(-packed.table_bytes // 32) * 32


def test_a_burst_too_few_is_caught() -> None:
    workload = map_network(NETWORKS["fc"], small_machine())
    program = lower(workload)
    memory = program.memory
    assert memory is not None
    weights = memory.requests[0]
    fewer = weights.bursts.copy()
    fewer[np.flatnonzero(fewer > 1)[0]] -= 1
    cut = dataclasses.replace(memory, requests=(dataclasses.replace(weights, bursts=fewer), *memory.requests[1:]))
    nodes = tuple(cut if node is memory else node for node in program.nodes)
    planted = dataclasses.replace(program, nodes=nodes)
    with pytest.raises(SimulationError, match="expected exactly"):
        check_conservation(workload, planted, fast_engine.run(planted), warm=False)


def test_a_cycle_too_many_is_caught() -> None:
    workload = map_network(NETWORKS["fc"], small_machine())
    program = lower(workload)
    timing = fast_engine.run(program)
    name, times = next(iter(timing.nodes.items()))
    planted = dataclasses.replace(timing, nodes={**timing.nodes, name: dataclasses.replace(times, busy=times.busy + 1)})
    with pytest.raises(SimulationError, match=r"expected busy \+ stall \+ idle"):
        check_conservation(workload, program, planted, warm=False)


def test_warm_weights_do_not_cross_the_dram() -> None:
    cold = dchw.simulate(NETWORKS["fc"], small_machine())
    warm = dchw.simulate(NETWORKS["fc"], small_machine(), warm=True)
    assert warm.dram_read_bytes == -(-50 * 2 // 32) * 32  # only the 50 float16 inputs
    assert warm.cycles < cold.cycles
    assert warm.energy_pj < cold.energy_pj


def test_layers_cut_into_rows_move_their_weights_once() -> None:
    network = convolution(rows=64, channels=16, size=12, density=0.9)
    result = dchw.simulate(network, small_machine(weight_sram__size_bytes="4 KiB"), "dense-int8")
    assert len(result.workload.stages) > 1
    expected = forward.forward(network.decompress())["conv"]
    np.testing.assert_allclose(result.outputs["conv"], expected, atol=2e-2 * np.abs(expected).max())
    weights = {stream.value: size for stream, size in result.stream_bytes().items()}["weights"]
    assert weights <= 64 * 16 * 9 + 32 * len(result.workload.stages)


def test_more_work_is_counted_where_it_is_done() -> None:
    result = dchw.simulate(NETWORKS["fc"], small_machine())
    entries = result.workload.stages[0].layer.weights
    counted = {(count.unit, count.event): 0 for count in result.counts}
    for count in result.counts:
        counted[count.unit, count.event] += count.count
    active = result.workload.stages[0].layer.activity[0] > 0
    used = int(active[entries.job].sum())  # type: ignore[union-attr]
    assert counted["huffman", Event.SYMBOL_DECODE] == 2 * entries.job.size  # type: ignore[union-attr]
    assert counted["codebook", Event.CODEBOOK_LOOKUP] == used
    assert counted["pe_array", Event.MAC] == used
    firings = sum(times.firings for name, times in result.timing.nodes.items() if name.startswith("pe["))
    empty = sum(
        int((np.bincount(entries.job[entries.element == p], minlength=50)[active] == 0).sum()) for p in range(4)
    )  # type: ignore[union-attr]
    assert firings == used + empty + 4  # entries, empty columns, one hand-over each


def test_too_small_a_buffer_is_one_clear_sentence() -> None:
    target = small_machine(weight_sram__size_bytes="1 KiB", huffman__chunk_entries=4000)
    with pytest.raises(
        DchwError, match=r"blocks of 64 B at once, but the buffer holds 16; raise weight_sram.size_bytes"
    ):
        dchw.simulate(fully_connected(200, 300, density=0.5), target)


def test_unknown_storage_names_the_nearest() -> None:
    with pytest.raises(DchwError, match="did you mean 'huffman'"):
        dchw.simulate(NETWORKS["fc"], small_machine(), "hufman")


@pytest.mark.parametrize("storage", STORAGE_FORMATS)
@pytest.mark.parametrize("groups", [12, 6, 3])
def test_groups_side_by_side_are_one_product_in_both_engines(groups: int, storage: str) -> None:
    # three, two and one rows an element, each with the activations of its own group; a queue holds 8 pixels in all
    network = convolution(channels=12, rows=12, groups=groups, density=0.6)
    target = small_machine(weight_sram__size_bytes="4 KiB", huffman__chunk_entries=8)
    workload = map_network(network, target, storage)
    side = groups if 12 // groups < 4 else 1
    assert sum(work.side_by_side for work in workload.works("conv")) == (side if side > 1 else len(workload.stages))
    assert all(work.tiling.rows * work.tiling.tile <= 8 for work in workload.works("conv") if side > 1)
    program = lower(workload)
    one, other = fast_engine.run(program, record=True), reference.run(program, record=True)
    assert first_difference(one, other, program) is None
    check_conservation(workload, program, one, warm=False)


def test_a_depthwise_layer_is_as_fast_as_the_activation_sram_feeds_it() -> None:
    # MobileNetV2's 144 channels of 56 x 56: 9 columns x 56 x 56 pixels x 144 channels, at 64 values of 16 bits a cycle,
    # or 128 where bytes are multiplied
    geometry = Geometry(in_channels=144, out_channels=144, kernel=(3, 3), padding=(1, 1), groups=144, in_size=(56, 56))
    weight = {"c": np.random.default_rng(0).standard_normal((144, 1, 3, 3), dtype=np.float32)}
    x = {"c": np.random.default_rng(1).standard_normal((1, 144, 56, 56))}
    network = dchw.compress(dchw.Network.from_arrays("n", weight, inputs=x, geometry={"c": geometry}))
    for storage, value_bytes in (("dense-int8", 1), ("huffman", 2)):
        least = 144 * 9 * 56 * 56 * value_bytes // 128
        result = dchw.simulate(network, "phone-lpddr5x", storage)
        assert least <= result.cycles + 500 <= 1.04 * least
        assert result.bound.bound_by == "activation SRAM"
        assert result.dram_read_bytes == pytest.approx(value_bytes * 144 * 56 * 56, rel=0.02)
        expected = forward.forward(network.decompress())["c"]
        np.testing.assert_allclose(result.outputs["c"], expected, atol=2e-2 * np.abs(expected).max())
