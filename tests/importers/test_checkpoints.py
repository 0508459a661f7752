"""Are checkpoints read as they are found: pruned, normed, sparse, quantised, narrow, partial, and none of it lost?"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import nn
from torch.nn.utils import parametrizations, prune

import dchw
from dchw.container.saving import to_bytes
from dchw.importers.safetensors_file import read_tensors
from dchw.quantities import DchwError, FileFormatError


def saved(folder: Path, state: Mapping[str, Any], suffix: str = ".pt") -> Path:
    path = folder / f"net{suffix}"
    if suffix == ".pt":
        torch.save(state, path)
    else:
        safetensors.torch.save_file({key: value.contiguous() for key, value in state.items()}, path)
    return path


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_a_pruned_layer_is_one_layer_with_its_zeros_and_its_bias(tmp_path: Path, suffix: str) -> None:
    module = nn.Sequential(nn.Linear(20, 10))
    prune.l1_unstructured(module[0], "weight", 0.9)
    network = dchw.load_network(saved(tmp_path, module.state_dict(), suffix))
    (layer,) = network.layers
    np.testing.assert_array_equal(layer.weight, module[0].weight.detach().numpy())
    np.testing.assert_array_equal(layer.bias, module[0].bias.detach().numpy())
    assert (layer.name, layer.parameter) == ("0", "0.weight")
    assert network.notes[-1] == "masks multiplied in: 1 weights"


@pytest.mark.parametrize("normed", [parametrizations.weight_norm, nn.utils.weight_norm], ids=["new", "old"])
@pytest.mark.filterwarnings("ignore:.*weight_norm.*")
def test_weight_norm_in_both_spellings(tmp_path: Path, normed) -> None:
    torch.manual_seed(0)
    module = nn.Sequential(normed(nn.Linear(5, 4)), nn.ReLU(), normed(nn.Linear(4, 3), dim=1))
    network = dchw.load_network(saved(tmp_path, module.state_dict()))
    for layer, part in zip(network.layers, (module[0], module[2]), strict=True):
        np.testing.assert_allclose(layer.weight, part.weight.detach().numpy(), rtol=1e-6)
        assert layer.bias is not None
    assert "weight norm worked out: 2 weights" in network.notes


@pytest.mark.parametrize("how", ["to_sparse", "to_sparse_csr", "to_sparse_csc"])
@pytest.mark.filterwarnings("ignore:Sparse")
def test_sparse_tensors_are_filled_with_zeros(tmp_path: Path, how: str) -> None:
    weight = torch.randn(6, 5).relu()
    network = dchw.load_network(saved(tmp_path, {"fc.weight": getattr(weight, how)()}))
    np.testing.assert_array_equal(network.layers[0].weight, weight.numpy())


@pytest.mark.filterwarnings("ignore")
def test_quantised_tensors_are_dequantised_and_noted(tmp_path: Path) -> None:
    weight = torch.quantize_per_tensor(torch.randn(4, 3), 0.1, 0, torch.qint8)
    network = dchw.load_network(saved(tmp_path, {"fc.weight": weight}))
    np.testing.assert_array_equal(network.layers[0].weight, weight.dequantize().numpy())
    assert network.notes[-1] == "1 quantised tensors are dequantised"


@pytest.mark.parametrize(
    ("tensor", "why"),
    [(torch.empty(4, 3, device="meta"), "a meta tensor"), (torch.ones(4, 3, dtype=torch.complex64), "complex numbers")],
)
def test_tensors_without_real_values_are_refused_by_name(tmp_path: Path, tensor: torch.Tensor, why: str) -> None:
    path = saved(tmp_path, {"fc.weight": tensor, "ok.weight": torch.ones(2, 2)})
    with pytest.raises(DchwError, match=rf"1 of 2 tensors would not be computed.*fc\.weight \({why}"):
        dchw.load_network(path)
    network = dchw.load_network(path, partial=True)
    assert [layer.name for layer in network.layers] == ["ok"]
    assert why in network.coverage.reasons["fc.weight"]


def test_every_byte_of_the_two_8_bit_floats(tmp_path: Path) -> None:
    every = torch.arange(256, dtype=torch.uint8)
    state = {str(kind): every.clone().view(kind) for kind in (torch.float8_e4m3fn, torch.float8_e5m2)}
    found, _, unreadable = read_tensors(saved(tmp_path, state, ".safetensors"))
    assert not unreadable
    for name, tensor in state.items():
        np.testing.assert_array_equal(found[name], tensor.float().numpy())


def test_a_bare_linear_layer_keeps_its_bias(tmp_path: Path) -> None:
    module = nn.Linear(4, 3)
    (layer,) = dchw.load_network(saved(tmp_path, module.state_dict())).layers
    np.testing.assert_array_equal(layer.bias, module.bias.detach().numpy())


def test_lost_convolutions_are_refused_with_the_ways_out(tmp_path: Path) -> None:
    module = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Conv1d(4, 4, 3), nn.Linear(8, 2))
    path = saved(tmp_path, module.state_dict())
    with pytest.raises(DchwError) as caught:
        dchw.load_network(path)
    text = str(caught.value)
    for part in (
        "2 of 6 tensors",
        "0.weight (216)",
        "1.weight (48)",
        "--onnx",
        "--geometry",
        "from_module",
        "--partial",
    ):
        assert part in text
    network = dchw.load_network(path, partial=True)
    assert network.coverage.share == 1.0
    assert "geometry is not known" in network.coverage.reasons["0.weight"]
    compressed = dchw.compress(network)
    total = sum(p.numel() for p in module.parameters())
    assert network.coverage.parameters == total
    run = dchw.simulate(compressed, "phone-lpddr5x", "dense-fp32")
    assert run.dram_read_bytes >= 4 * total
    assert len(to_bytes(compressed)) >= 4 * (216 + 48)
    given = {"0": {"in_size": [9, 9]}}
    with pytest.raises(DchwError, match=r"1 of 6 tensors.*1\.weight \(48\)"):
        dchw.load_network(path, geometry=given)


def test_the_command_line_takes_geometry_from_json(tmp_path: Path) -> None:
    from click.testing import CliRunner

    from dchw.cli import group

    source = saved(tmp_path, nn.Sequential(nn.Conv2d(3, 8, 3), nn.Linear(8, 2)).state_dict())
    geometry = tmp_path / "geometry.json"
    geometry.write_text(json.dumps({"0": {"in_size": [9, 9], "stride": [2, 2]}}), encoding="utf-8")
    target = tmp_path / "net.dchw"
    runner = CliRunner()
    assert runner.invoke(group, ["compress", str(source), str(target)]).exit_code != 0
    done = runner.invoke(group, ["compress", str(source), str(target), "--geometry", str(geometry), "--json"])
    assert done.exit_code == 0, done.output
    assert json.loads(done.output)["coverage"] == 1.0
    assert dchw.load(target).layer("0").geometry.out_size == (4, 4)
    run = runner.invoke(group, ["simulate", str(target), "--storage", "huffman", "--json"], catch_exceptions=False)
    assert json.loads(run.stdout)["coverage"] == 1.0


@pytest.mark.filterwarnings("ignore")
def test_programs_say_how_they_come_in(tmp_path: Path) -> None:
    traced = torch.jit.trace(nn.Linear(4, 3), torch.ones(1, 4))
    traced.save(tmp_path / "net.pt")
    with pytest.raises(FileFormatError, match=r"a TorchScript archive, which holds code.*state_dict"):
        dchw.load_network(tmp_path / "net.pt")
    with pytest.raises(DchwError, match="a ScriptModule holds compiled code"):
        dchw.Network.from_module(traced, torch.ones(1, 4))
    with pytest.raises(DchwError, match=r"torch\.export\.load\(path\)\.module\(\)"):
        dchw.load_network(tmp_path / "net.pt2")


@pytest.mark.filterwarnings("ignore")  # torch's own, about its trees
def test_an_exported_program_is_told_how_it_comes_in() -> None:
    module, example = nn.Linear(4, 3).eval(), torch.ones(1, 4)
    program = torch.export.export(module, (example,))
    with pytest.raises(DchwError, match=r"got an exported program; give program\.module\(\)"):
        dchw.Network.from_module(program, example)
    assert dchw.Network.from_module(program.module(), example).coverage.share == 1.0


@pytest.mark.parametrize("key", ["state_dict", "model", "myself"])
def test_a_checkpoint_that_contains_itself_is_refused_by_name(tmp_path: Path, key: str) -> None:
    held: dict[str, object] = {"fc.weight": torch.ones(3, 4)}
    held[key] = held
    with pytest.raises(FileFormatError, match=rf"net\.pt: its entry '{key}' is the checkpoint itself"):
        dchw.load_network(saved(tmp_path, held))


def test_a_state_dict_under_any_name_is_found_and_of_several_none_is_guessed(tmp_path: Path) -> None:
    state = {"fc.weight": torch.ones(3, 4)}
    assert [layer.name for layer in dchw.load_network(saved(tmp_path, {"params": state, "epoch": 3})).layers] == ["fc"]
    with pytest.raises(FileFormatError, match=r"expected one state dict; got 2: encoder, decoder"):
        dchw.load_network(saved(tmp_path, {"encoder": state, "decoder": state}))


def test_layers_left_out_and_patterns_of_a_recipe() -> None:
    rng = np.random.default_rng(0)
    weights = {name: rng.standard_normal((32, 16), dtype=np.float32) for name in ("block.0.a", "block.1.a", "head")}
    network = dchw.Network.from_arrays("n", weights)
    recipe = dchw.Recipe(density={"block.*": 0.25, "block.1.a": 0.5}, codebook_bits=3, skip=("head",))
    compressed = dchw.compress(network, recipe)
    assert [round(layer.density, 2) for layer in compressed.layers] == [0.25, 0.5, 1.0]
    np.testing.assert_array_equal(compressed.layer("head").weight, weights["head"].astype(np.float16))
    assert compressed.graph.notes == ("left out of compression, kept as float16: head",)
    with pytest.raises(dchw.ConfigError, match=r"recipe: skip\.haed: no such layer; did you mean 'head'"):
        dchw.compress(network, dchw.Recipe(skip=("haed",)))
    with pytest.raises(dchw.ConfigError, match=r"recipe: density\.conv\*: no such layer"):
        dchw.compress(network, dchw.Recipe(density={"conv*": 0.5}))


@pytest.mark.parametrize("storage", ["dense-fp32", "csr", "relative", "shared", "huffman", "bitmask", "palette"])
def test_an_empty_layer_stays_and_gives_its_biases(storage: str) -> None:
    rng = np.random.default_rng(0)
    weights = {"a": rng.standard_normal((32, 16), dtype=np.float32), "z": np.zeros((8, 4), np.float32)}
    bias = rng.standard_normal(8).astype(np.float32)
    compressed = dchw.compress(dchw.Network.from_arrays("n", weights, biases={"z": bias}))
    assert compressed.graph.notes == ("no weight is left in z: kept as empty layers",)
    run = dchw.simulate(compressed, "phone-lpddr5x", storage)
    np.testing.assert_array_equal(run.outputs["z"][0], bias)


def test_a_table_is_compressed_where_the_recipe_names_it() -> None:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Embedding(200, 16), nn.Linear(16, 4)).eval()
    network = dchw.Network.from_module(module, torch.tensor([[3, 199, 3]]))
    plain, shared = (dchw.compress(network, dchw.Recipe(density=0.5, tables=names)) for names in ((), ("0",)))
    assert [layer.name for layer in shared.layers] == ["0", "1"]
    assert (shared.layer("0").density, shared.layer("1").density) == (1.0, 0.5)
    assert len(to_bytes(shared)) < 0.3 * len(to_bytes(plain))
    run = dchw.simulate(shared, "phone-lpddr5x", "palette")
    state = shared.decompress()
    table = next(op for op in state.operations if op.name == "0").weight
    module[0].weight.data = torch.from_numpy(np.array(table))
    module[1].weight.data = torch.from_numpy(np.array(state.layer("1").weight))
    expected = module(torch.tensor([[3, 199, 3]])).detach().numpy()
    np.testing.assert_allclose(next(iter(run.outputs.values())), expected, rtol=1e-5, atol=1e-6)
    with pytest.raises(dchw.ConfigError, match=r"recipe: tables\.1: no such table"):
        dchw.compress(network, dchw.Recipe(tables=("1",)))


def test_the_command_line_takes_geometry_from_onnx(tmp_path: Path) -> None:
    """Convolutions over one, two and three axes, and sizes that the ONNX file leaves open."""
    pytest.importorskip("onnx", reason="needs the extra 'onnx'")
    from click.testing import CliRunner

    from dchw.cli import group
    from tests.importers.onnx_models import node
    from tests.importers.onnx_models import saved as saved_onnx

    torch.manual_seed(0)
    state = {
        "one.weight": torch.randn(6, 4, 3),
        "one.bias": torch.randn(6),
        "two.weight": torch.randn(5, 1, 3, 3),
        "three.weight": torch.randn(2, 5, 1, 2, 2),
    }
    nodes = [
        node("Conv", "x one.weight one.bias", "a", strides=[2]),
        node("Unsqueeze", "a axis", "b"),
        node("Conv", "b two.weight", "c", pads=[1, 1, 1, 1]),
        node("Unsqueeze", "c last", "d"),
        node("Conv", "d three.weight", "y", pads=[0, 0, 0, 0, 0, 1]),
    ]
    held = {key: value.numpy() for key, value in state.items()}
    held |= {"axis": np.array([1]), "last": np.array([4])}
    geometry, source, target = (
        saved_onnx(tmp_path, nodes, held, (4, "t")),
        saved(tmp_path, state),
        tmp_path / "n.dchw",
    )
    words = ["compress", str(source), str(target), "--onnx", str(geometry), "--json"]
    refused = CliRunner().invoke(group, words)
    assert refused.exit_code != 0
    assert "--input x=1x4x" in str(refused.exception)
    done = CliRunner().invoke(group, [*words, "--input", "x=1x4x19"])
    assert done.exit_code == 0, done.output
    assert json.loads(done.output)["coverage"] == 1.0
    found = dchw.load(target)
    assert [(layer.name, layer.kind.value) for layer in found.layers] == [
        ("one", "conv1d"),
        ("two", "conv2d"),
        ("three", "conv3d"),
    ]
    assert found.layer("one").geometry.output_pixels == 9
    assert found.layer("two").geometry.out_size == (6, 9)
    assert dchw.simulate(found, "phone-lpddr5x", "huffman").coverage.share == 1.0
