"""Do the right weights stay, does no layer stream worse for it, and where is the cliff?"""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

import dchw
from dchw.cli import group
from dchw.engines.fast import engine
from dchw.graph.geometry import Geometry
from dchw.graph.network import Network, Operation, OperationKind
from dchw.lowering.lower import lower
from dchw.mapping.resident_weights import RESERVE, Tenant, residents, tenants
from dchw.mapping.workload import map_network
from dchw.quantities import DchwError
from dchw.run.cliff import over_frames
from tests.mapping.layers import convolution, fully_connected, small_machine


def _part(key: int, size: int, passes: int) -> Tenant:
    return Tenant(key=key, layer=f"l{key}", size_bytes=size, passes=(passes,))


def _traffic(parts: list[Tenant], kept: frozenset[int], size: int) -> int:
    room = size - sum(part.size_bytes for part in parts if part.key in kept)
    return sum(part.size_bytes * part.fetches(room) for part in parts if part.key not in kept)


@given(st.lists(st.tuples(st.integers(1, 12), st.sampled_from([1, 1, 4, 9])), min_size=1, max_size=6))
def test_what_stays_is_close_to_the_best_of_all_subsets_and_never_worse_than_nothing(
    shapes: list[tuple[int, int]],
) -> None:
    size = 16
    parts = [_part(key, *shape) for key, shape in enumerate(shapes)]
    kept = residents(parts, size)
    room = size - sum(part.size_bytes for part in parts if part.key in kept)
    assert room >= (0 if len(kept) == len(parts) else size // RESERVE)
    legal = (
        frozenset(some)
        for count in range(len(parts) + 1)
        for some in itertools.combinations(range(len(parts)), count)
        if sum(parts[key].size_bytes for key in some) <= (size if count == len(parts) else size - size // RESERVE)
    )
    best = min(_traffic(parts, some, size) for some in legal)
    got = _traffic(parts, kept, size)
    assert got <= _traffic(parts, frozenset(), size)
    largest = max(part.size_bytes * part.fetches(0) for part in parts)
    assert got <= best + largest  # greedy: off by no more than one part


def test_a_layer_of_many_passes_keeps_its_room() -> None:
    # the second part would be fetched nine times beside the first
    parts = [_part(0, 10, 1), _part(1, 8, 9), _part(2, 3, 1)]
    assert residents(parts, 16) in (frozenset({1, 2}), frozenset({1}), frozenset({2}))
    assert _traffic(parts, residents(parts, 16), 16) == 10


def test_warm_runs_read_what_the_plan_says() -> None:
    network = convolution(channels=16, rows=32, size=12, density=0.6)
    for size in ("2 KiB", "8 KiB", "64 KiB"):
        target = small_machine(weight_sram__size_bytes=size, huffman__chunk_entries=8)
        cold, warm = (dchw.simulate(network, target, "huffman", warm=warm) for warm in (False, True))
        assert warm.dram_read_bytes <= cold.dram_read_bytes
        row = warm.residency_frame().query("kind == 'weights'").iloc[0]
        saved = row["bytes"] * row["stays"]
        assert cold.dram_read_bytes - warm.dram_read_bytes >= 0.8 * saved


def test_the_cliff_lies_where_the_weights_fit_and_compression_moves_it() -> None:
    network = fully_connected(96, 200, density=0.1)
    target = small_machine()
    found = dchw.cliff(network, target, weight_sram_bytes=[4096, 8192, 16384, 32768])
    frame = found.frame
    assert found.edges == {"dense-int8": 32768, "huffman": 4096}
    assert found.refused == {}
    warm = {storage: rows.set_index("weight_sram_bytes") for storage, rows in frame.groupby("storage")}
    for rows in warm.values():
        fits = rows.index >= rows["weight_bytes"]
        assert (rows["resident_bytes"] == rows["weight_bytes"]).tolist() == fits.tolist()
        assert (rows["warm_dram_bytes"] <= rows["cold_dram_bytes"]).all()
        assert rows["warm_dram_bytes"].is_monotonic_decreasing
    assert warm["huffman"].loc[8192, "warm_dram_bytes"] < 0.1 * warm["dense-int8"].loc[8192, "warm_dram_bytes"]
    run = dchw.simulate(network, target, "huffman", warm=True)
    assert run.dram_bytes == warm["huffman"].loc[8192, "warm_dram_bytes"]
    row = run.residency_frame().query("kind == 'weights'").iloc[0]
    assert (row["stays"], row["only_compressed"]) == (1.0, True)
    assert (
        "the weights of all 1 layers stay in the weight SRAM of 8 KiB; as dense int8 those of 0 would" in run.residency
    )
    assert f"(only compressed: {row['name']})" in run.residency


def test_every_size_of_a_cliff_is_a_run_and_a_refused_one_is_refused() -> None:
    network = dchw.load_network("lenet-300-100")
    found = dchw.cliff(network, "phone-lpddr5x", weight_sram_bytes=[16 << 10, 64 << 10])
    phone = dchw.machine("phone-lpddr5x")
    for row in found.frame.to_dict("records"):
        small = phone.replace("weight_sram.size_bytes", f"{row['weight_sram_bytes']} B")
        for warm, column in ((False, "cold_dram_bytes"), (True, "warm_dram_bytes")):
            run = dchw.simulate(network, small, row["storage"], warm=warm, arithmetic="none")
            assert run.dram_bytes == row[column]
    assert list(found.refused) == [("huffman", 16 << 10)]
    with pytest.raises(DchwError, match="its chunks need 58 blocks"):
        dchw.simulate(network, phone.replace("weight_sram.size_bytes", "16 KiB"), warm=True)
    assert any(sentence.startswith("huffman is refused with 16 KiB: layer 'ip1'") for sentence in found.sentences)


def test_the_sizes_of_a_cliff_end_on_the_plateau() -> None:
    found = dchw.cliff(dchw.load_network("lenet-5"), "phone-lpddr5x")
    sizes = sorted(set(found.frame["weight_sram_bytes"]))
    assert found.size_bytes in sizes
    for storage, rows in found.frame.groupby("storage"):
        edge = found.edges[str(storage)]
        assert edge is not None
        assert edge < sizes[-1]
        assert rows["warm_dram_bytes"].nunique() > 1
    assert len(repr(found)) < 300


@pytest.mark.parametrize("suffix", [".svg", ".png", ".csv"])
def test_a_cliff_is_written_and_drawn(tmp_path: Path, suffix: str) -> None:
    pytest.importorskip("matplotlib")
    found = dchw.cliff(dchw.load_network("lenet-300-100"), "phone-lpddr5x", weight_sram_bytes=[32 << 10, 512 << 10])
    path = found.write(tmp_path / f"cliff{suffix}")
    assert path.read_bytes() == found.write(tmp_path / f"again{suffix}").read_bytes()
    pytest.importorskip("plotly")
    assert len(found.plot().data) == 4
    with pytest.raises(DchwError, match=r"expected a name that ends in \.svg, \.pdf, \.png, \.csv; got '\.doc'"):
        found.write(tmp_path / "cliff.doc")


def test_the_command_draws_it_and_says_what_a_frame_moves(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    arguments = ["estimate", "lenet-300-100", "--cliff", str(tmp_path / "cliff.pdf"), "--frames", "10", "--json"]
    said = CliRunner().invoke(group, arguments)
    content = json.loads(said.stdout)
    assert (tmp_path / "cliff.pdf").stat().st_size > 1000
    assert {row["storage"] for row in content["cliff"]["rows"]} == {"dense-int8", "huffman"}
    (coded,) = [row for row in content["frames"] if row["storage"] == "huffman"]
    assert coded["frame_dram_bytes"] == pytest.approx((coded["cold_dram_bytes"] + 9 * coded["warm_dram_bytes"]) / 10)
    two = CliRunner().invoke(group, ["estimate", "lenet-5", "lenet-300-100", "--cliff", str(tmp_path / "two.svg")])
    assert two.exit_code == 2
    assert "--cliff draws one network on one machine" in two.stderr


def test_a_sentence_names_the_layers_that_stay_and_only_compressed() -> None:
    run = dchw.simulate(
        dchw.load_network("lenet-300-100"), dchw.machine("phone-lpddr5x").replace("weight_sram.size_bytes", "64 KiB")
    )
    assert (
        "all 3 layers stay in the weight SRAM of 64 KiB; as dense int8 those of 2 would (only compressed: ip1)."
        in run.residency
    )


def test_tensors_are_named_as_they_stay_or_cross() -> None:
    rng = np.random.default_rng(0)
    weight = {"c": rng.standard_normal((4, 3, 3, 3), dtype=np.float32)}
    geometry = {"c": Geometry(in_channels=3, out_channels=4, kernel=(3, 3), in_size=(8, 8))}
    run = dchw.simulate(dchw.compress(dchw.Network.from_arrays("n", weight, geometry=geometry)), small_machine())
    tensors = run.residency_frame().query("kind == 'tensor'").set_index("name")
    assert tensors.loc["c", "bytes"] == 2 * 4 * 36
    assert tensors["stays"].tolist() == pytest.approx([0.0] * len(tensors))


def _chain() -> dchw.compression.compressed.CompressedNetwork:
    rng = np.random.default_rng(0)
    shapes = {"a": (8, 4, 3, 3), "b": (32, 8, 3, 3), "c": (8, 32, 3, 3)}
    weight = {name: rng.standard_normal(shape, dtype=np.float32) for name, shape in shapes.items()}
    geometry = {
        name: Geometry(in_channels=into, out_channels=out, kernel=(3, 3), padding=(1, 1), in_size=(9, 9))
        for name, (out, into, _, _) in shapes.items()
    }
    return dchw.compress(dchw.Network.from_arrays("n", weight, geometry=geometry))


@pytest.mark.parametrize("placement", ["use", "load"])
@pytest.mark.parametrize("size", ["2 KiB", "4 KiB", "8 KiB"])
def test_what_stays_and_what_streams_by_are_not_booked_in_the_same_room(size: str, placement: str) -> None:
    network = _chain()
    changes = {"activation_sram__size_bytes": "8 KiB", "huffman__placement": placement, "huffman__chunk_entries": 8}
    target = small_machine(weight_sram__size_bytes=size, **changes).replace("pe_array.accumulators", 64)
    kept_some = False
    for storage in ("dense-int8", "dense-fp32", "shared", "huffman"):
        # a layer in blocks of columns, or decoded at load, stopped here for want of room, or was counted as decoded
        warm, cold = (dchw.simulate(network, target, storage, warm=one) for one in (True, False))
        assert warm.dram_read_bytes <= cold.dram_read_bytes
        works = [stage.layer for stage in warm.workload.stages]
        parts = tenants(works, target, at_load=warm.workload.decodes_at_load)
        kept = residents(parts, target.weight_sram.size_bytes)
        taken = sum(part.size_bytes for part in parts if part.key in kept)
        streaming = max((part.streaming_bytes for part in parts if part.key not in kept), default=0)
        assert taken + streaming <= target.weight_sram.size_bytes
        kept_some = kept_some or bool(kept)
    assert kept_some or size == "2 KiB"


def test_frames_share_one_cold_start() -> None:
    network, target = fully_connected(96, 200, density=0.1), small_machine()
    table = over_frames(network, target, frames=[1, 4]).set_index(["storage", "frames"])
    cold, warm = (dchw.simulate(network, target, "huffman", warm=one).dram_bytes for one in (False, True))
    assert table.loc[("huffman", 1), "frame_dram_bytes"] == cold
    assert table.loc[("huffman", 4), "frame_dram_bytes"] == (cold + 3 * warm) / 4
    assert warm < cold
    with pytest.raises(dchw.DchwError, match="at least 1"):
        over_frames(network, target, frames=[0])


def test_a_key_value_cache_crosses_the_dram_and_its_products_count() -> None:
    """One step of attention: a query of 16 values against 50 cached keys; the cache is an input that DRAM holds."""
    rng = np.random.default_rng(0)
    kinds = OperationKind
    graph = Network(
        name="step",
        operations=(
            Operation(name="x", kind=kinds.INPUT, output_shape=(1, 16)),
            Operation(name="keys", kind=kinds.INPUT, output_shape=(50, 16)),
            Operation(
                name="q",
                kind=kinds.LINEAR,
                inputs=("x",),
                weight=rng.standard_normal((16, 16), dtype=np.float32),
                output_shape=(1, 16),
            ),
            Operation(
                name="scores",
                kind=kinds.MATMUL,
                inputs=("q", "keys"),
                attributes={"transpose": True},
                output_shape=(1, 50),
            ),
        ),
    )
    run = dchw.simulate(dchw.compress(graph), small_machine(), "dense-int8")
    table = run.residency_frame().set_index("name")
    value = run.workload.machine.formats.activations.bits // 8
    assert (table.loc["keys", "bytes"], table.loc["keys", "stays"]) == (50 * 16 * value, 0.0)
    assert run.streams_frame().set_index("stream").loc["activations", "dram_read_bytes"] >= (50 + 1) * 16 * value
    macs = sum(count.count for count in run.counts if count.event == "mac")
    assert macs == 16 * 16 + 50 * 16


def test_weights_of_the_next_layer_come_while_a_layer_is_worked_where_there_is_room_for_both() -> None:
    network = _chain()
    for size, ahead in (("64 KiB", True), ("2 KiB", False)):
        target = small_machine(weight_sram__size_bytes=size)
        workload = map_network(network, target, "dense-fp32")
        program = lower(workload)
        timing = engine.run(program, record=True)
        index = program.layers.index("c")
        node = next(node for node in program.nodes if node.name.startswith("weight_sram.deliver"))
        mine = np.flatnonzero(node.layer.listed() == index)
        last = timing.nodes[node.name].start[mine[-1]]
        assert (last < timing.layer_finish[index - 1]) == ahead
