"""Do files of weights give layers, name what they cannot give, and never run code?"""

from __future__ import annotations

import json
import pickle

import numpy as np
import pytest
import safetensors
import torch
from safetensors.numpy import save_file
from safetensors.torch import save_file as save_torch_file
from torch import nn

from dchw.architectures import build
from dchw.graph.forward import forward
from dchw.graph.geometry import Geometry
from dchw.importers.safetensors_file import network_from_safetensors, read_tensors, save_checkpoint
from dchw.importers.torch.checkpoint import network_from_torch_file
from dchw.quantities import DchwError, FileFormatError

RNG = np.random.default_rng(0)
TENSORS = {
    "h.0.fc.weight": RNG.standard_normal((6, 4)).astype(np.float32),
    "h.0.fc.bias": RNG.standard_normal(6).astype(np.float32),
    "wte.weight": np.ones((10, 4), np.float32),
    "model.embed_tokens.weight": np.ones((10, 4), np.float32),
    "ln.weight": np.ones(4, np.float32),
    "ln.bias": np.ones(4, np.float32),
    "conv.weight": RNG.standard_normal((3, 2, 3, 3)).astype(np.float32),
    "rel.weight": np.ones((2, 3, 4), np.float32),
    "proj": np.ones((2, 4), np.float32),
}


@pytest.fixture
def path(tmp_path):
    save_file(TENSORS, tmp_path / "net.safetensors")
    return tmp_path / "net.safetensors"


def test_two_axes_are_layers_and_the_rest_is_named(path):
    with pytest.raises(DchwError, match=r"^net: 1 of 9 tensors, .* not be computed, .*: conv.weight \(54\); give"):
        network_from_safetensors(path)
    network = network_from_safetensors(path, partial=True)
    assert network.name == "net"
    assert network.notes == ("weights from net.safetensors without a graph: layers are independent of each other",)
    assert {layer.name: layer.parameter for layer in network.layers} == {"h.0.fc": "h.0.fc.weight", "proj": "proj"}
    np.testing.assert_array_equal(network.layer("h.0.fc").bias, TENSORS["h.0.fc.bias"])
    assert network.coverage.reasons == {
        "wte.weight": "an embedding table, which is looked up, not multiplied",
        "model.embed_tokens.weight": "an embedding table, which is looked up, not multiplied",
        "ln.weight": "a vector (bias, scale or shift), too few values to share",
        "ln.bias": "a vector (bias, scale or shift), too few values to share",
        "conv.weight": "a convolution whose geometry is not known; give at least its in_size",
        "rel.weight": "has 3 axes, and nothing says that it is a convolution",
    }


@pytest.mark.parametrize("where", ["argument", "mapping", "metadata", "beside", "name"])
def test_geometry_from_everywhere(path, where):
    partial = {"conv": {"in_size": [8, 9], "padding": 1, "stride": [2, 1]}}
    expected = Geometry(in_channels=2, out_channels=3, kernel=(3, 3), stride=(2, 1), padding=(1, 1), in_size=(8, 9))
    options = {}
    if where == "argument":
        options["geometry"] = {"conv": expected}
    if where == "mapping":
        options["geometry"] = partial
    if where == "metadata":
        save_file(TENSORS, path, {"geometry": json.dumps(partial)})
    if where == "beside":
        path.with_suffix(".json").write_text(json.dumps(partial))
    if where == "name":
        options = {"geometry": {"conv": {**partial["conv"], "groups": 1, "dilation": 1}}, "name": "mine"}
    network = network_from_safetensors(path, **options)
    assert network.layer("conv").geometry == expected
    np.testing.assert_array_equal(network.layer("conv").weight, TENSORS["conv.weight"])


def test_float32_is_not_copied(path):
    tensors, _, _ = read_tensors(path)
    weight = network_from_safetensors(path, partial=True).layer("h.0.fc").weight
    assert not weight.flags.owndata
    assert not weight.flags.writeable
    np.testing.assert_array_equal(tensors["h.0.fc.weight"], TENSORS["h.0.fc.weight"])


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16, torch.int8, torch.int64])
def test_other_types_become_float32(tmp_path, dtype):
    tensor = (torch.randn(5, 3) * 50).to(dtype)
    save_torch_file({"a.weight": tensor, "b": torch.zeros(3, dtype=torch.uint8)}, tmp_path / "n.safetensors")
    weight = network_from_safetensors(tmp_path / "n.safetensors").layer("a").weight
    assert weight.dtype == np.float32
    np.testing.assert_array_equal(weight, tensor.float().numpy())


def test_types_that_are_not_read_are_named(tmp_path):
    tensors = {"a.weight": torch.ones(2, 2), "b.weight": torch.ones(2, 2).to(torch.float8_e8m0fnu)}
    save_torch_file(tensors, tmp_path / "n.safetensors")
    with pytest.raises(DchwError, match=r"b\.weight \(values of type F8_E8M0 are not read\)"):
        network_from_safetensors(tmp_path / "n.safetensors")
    network = network_from_safetensors(tmp_path / "n.safetensors", partial=True)
    assert list(network.coverage.reasons.items()) == [("b.weight", "values of type F8_E8M0 are not read")]


@pytest.mark.parametrize("architecture", ["lenet-300-100", "lenet-5"])
def test_a_checkpoint_becomes_its_architecture(tmp_path, architecture):
    torch.manual_seed(0)
    module, path = build(architecture), tmp_path / "trained.safetensors"
    save_checkpoint(module, path, architecture, {"seed": "0"})
    assert list(tmp_path.iterdir()) == [path]
    assert read_tensors(path)[1] == {"architecture": architecture, "seed": "0"}
    network = network_from_safetensors(path)
    assert network.name == architecture
    x = torch.randn(2, 1, 28, 28)
    outputs = forward(network, {network.operations[0].name: x.numpy()})
    got = outputs[network.operations[-1].name]
    np.testing.assert_allclose(got, module(x).detach().numpy(), rtol=1e-5, atol=1e-6)
    save_checkpoint(network.state_dict(), path, architecture)
    np.testing.assert_array_equal(network_from_safetensors(path).layers[0].weight, network.layers[0].weight)


def test_faults_of_checkpoints(tmp_path):
    path = tmp_path / "c.safetensors"
    with pytest.raises(DchwError) as caught:
        save_checkpoint(nn.Linear(2, 2), path, "lenet5")
    assert str(caught.value) == f"{path}: architecture 'lenet5' is unknown; did you mean 'lenet-5'?"
    save_checkpoint(nn.Linear(2, 2), path, "lenet-5")
    with pytest.raises(FileFormatError) as caught:
        network_from_safetensors(path)
    assert str(caught.value) == (
        f"{path}: lenet-5 needs 'conv1.weight' of shape (20, 1, 5, 5); got None; train it again"
    )
    save_file({"a.weight": np.ones((2, 2), np.float32)}, path, {"architecture": "lenet-6"})
    with pytest.raises(FileFormatError, match="architecture 'lenet-6' is unknown; did you mean 'lenet-5'"):
        network_from_safetensors(path)
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(DchwError, match=r"cannot be written \(.*\); free space or choose another place"):
        save_checkpoint(nn.Linear(2, 2), tmp_path / "file" / "c.safetensors", "lenet-5")


def test_every_damaged_file_gives_one_sentence(path):
    data = path.read_bytes()
    rng = np.random.default_rng(1)
    cut = [data[: int(n)] for n in rng.integers(0, len(data), 60)]
    flipped = []
    for place in rng.integers(0, 8 * 700, 200):
        changed = bytearray(data)
        changed[place // 8] ^= 1 << (place % 8)
        flipped.append(bytes(changed))
    refusals = []
    for damaged in (*cut, *flipped):
        path.write_bytes(damaged)
        try:
            network_from_safetensors(path)
        except DchwError as error:
            refusals.append(str(error))
    assert not any("\n" in refusal for refusal in refusals)
    assert len(refusals) > 150  # flips in a tensor's name or values leave a legal file


def test_faults_are_one_sentence(tmp_path, path):
    with pytest.raises(DchwError, match=r"it cannot be read \(.*\); check the path"):
        network_from_safetensors(tmp_path / "none.safetensors")
    cases = {
        "net: geometry for 'cnov', which is no layer here; did you mean 'conv'?": {
            "cnov": {"in_size": 5},
            "conv": {"in_size": 5},
        },
        "net, layer 'conv': unknown geometry field 'pad'; did you mean 'padding'?": {"conv": {"pad": 5}},
        "net, layer 'conv': expected whole numbers (height, width) for stride; got 'x'; correct it": {
            "conv": {"in_size": 5, "stride": "x"}
        },
        "net, layer 'conv': its geometry needs in_size, height and width of the input; add it": {"conv": {"stride": 1}},
        "net, layer 'conv': geometry: the kernel (3, 3) does not fit the padded input (2, 2); enlarge the input": {
            "conv": {"in_size": 2}
        },
    }
    for message, geometry in cases.items():
        with pytest.raises(DchwError) as caught:
            network_from_safetensors(path, geometry=geometry)
        assert str(caught.value) == message
    path.with_suffix(".json").write_text("{")
    with pytest.raises(FileFormatError, match=r"net\.json: expected JSON; .*; correct it"):
        network_from_safetensors(path)
    path.with_suffix(".json").write_text("[]")
    with pytest.raises(FileFormatError, match="got other JSON; correct it"):
        network_from_safetensors(path)
    save_file({"ln.weight": np.ones(3, np.float32)}, path)
    with pytest.raises(DchwError, match="expected at least one 2-D weight, or a 4-D one with its geometry; got none"):
        network_from_safetensors(path, geometry={})


@pytest.mark.parametrize("wrap", ["plain", "state_dict", "model"])
def test_torch_checkpoints(tmp_path, wrap):
    module = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3))
    state = module.state_dict()
    torch.save(state if wrap == "plain" else {"epoch": 3, wrap: state}, tmp_path / "c.pt")
    network = network_from_torch_file(tmp_path / "c.pt", name="mine")
    assert (network.name, [layer.name for layer in network.layers]) == ("mine", ["0"])
    np.testing.assert_array_equal(network.layers[0].bias, module[0].bias.detach().numpy())
    assert {name for name, _ in network.coverage.reasons.items()} == {name for name in state if name.startswith("1.")}


class Harmful:
    """An object that would run code when unpickled."""

    def __reduce__(self):
        return (print, ("executed",))


def test_torch_files_never_run_code(tmp_path, capsys):
    path = tmp_path / "c.pt"
    refusal = (
        f"{path}: expected tensors only; it holds other objects, which are not loaded because they could run code; "
        "save module.state_dict() instead"
    )
    for harmful in (Harmful(), nn.Linear(2, 2)):
        torch.save(harmful, path)
        with pytest.raises(FileFormatError) as caught:
            network_from_torch_file(path)
        assert str(caught.value) == refusal
    path.write_bytes(pickle.dumps(Harmful()))
    with pytest.raises(FileFormatError):
        network_from_torch_file(path)
    assert capsys.readouterr().out == ""


def test_damaged_torch_files(tmp_path):
    path = tmp_path / "c.pt"
    torch.save(nn.Linear(4, 3).state_dict(), path)
    data = path.read_bytes()
    for stop in (0, 1, 10, len(data) // 2, len(data) - 1):
        path.write_bytes(data[:stop])
        with pytest.raises(FileFormatError) as caught:
            network_from_torch_file(path)
        assert "\n" not in str(caught.value)
    torch.save([1, 2], path)
    with pytest.raises(FileFormatError, match="expected a state dict of tensors; got none"):
        network_from_torch_file(path)
    with pytest.raises(DchwError, match=r"it cannot be read \(No such file or directory\); check the path"):
        network_from_torch_file(tmp_path / "none.pt")


def test_a_geometry_file_that_is_no_text_is_one_sentence(tmp_path):
    save_file({"a.weight": np.ones((1, 1, 2, 2), np.float32)}, tmp_path / "b.safetensors")
    (tmp_path / "b.json").write_bytes(b"\xff\xfe{}")
    with pytest.raises(FileFormatError, match=r"b\.json: expected JSON; .*; correct it"):
        network_from_safetensors(tmp_path / "b.safetensors")


def test_equal_weights_and_words_give_equal_bytes(tmp_path):
    state = {"b": np.ones((2, 3), np.float32), "a": np.zeros(5, np.float32)}
    words = {f"key {i}": f"value {i}" for i in range(40)}
    contents = set()
    for order in (1, -1, 1):
        path = tmp_path / "w.safetensors"
        save_checkpoint(state, path, None, dict([*words.items()][::order]))
        contents.add(path.read_bytes())
    assert len(contents) == 1
    with safetensors.safe_open(path, "np") as held:
        assert held.metadata() == words
        for name, value in state.items():
            np.testing.assert_array_equal(held.get_tensor(name), value)
