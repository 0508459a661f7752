"""Do ONNX files compute here what onnx's own reference implementation says?"""

from __future__ import annotations

import sys

import numpy as np
import pytest
import torch
from torch.nn import functional

import dchw
from dchw.container.saving import parse, to_bytes
from dchw.graph.forward import forward
from dchw.graph.geometry import Geometry
from dchw.graph.network import OperationKind
from dchw.importers.onnx.file import network_from_onnx
from dchw.quantities import DchwError, FileFormatError

onnx = pytest.importorskip("onnx", reason="needs the extra 'onnx'")

from tests.importers.onnx_models import agree, array, helper, node, saved  # noqa: E402


def test_a_convolutional_network(tmp_path):
    nodes = [
        node("Conv", "x conv1.weight conv1.bias", "c1", strides=[2, 1], pads=[1, 2, 1, 2], dilations=[1, 2]),
        node("BatchNormalization", "c1 gamma beta mean variance", "b1"),
        node("Relu", "b1", "r1"),
        node("MaxPool", "r1", "p1", kernel_shape=[3, 2], strides=[2, 2], ceil_mode=1),
        node("Conv", "p1 onnx::Conv_7", "c2", group=4, auto_pad="SAME_UPPER", strides=[1, 2]),
        node("Clip", "c2 zero six", "r2"),
        node("AveragePool", "r2", "p2", kernel_shape=[3, 3], pads=[1, 1, 1, 1], count_include_pad=1),
        node("Concat", "p2 r2", "cat", axis=1),
        node("GlobalAveragePool", "cat", "g"),
        node("Mul", "cat g", "gated"),
        node("Sub", "gated six", "shifted"),
        node("Div", "shifted six", "scaled"),
        node("Flatten", "scaled", "flat"),
        node("Gemm", "flat fc.weight fc.bias", "logits", transB=1),
        node("Softmax", "logits", "prob", axis=1),
    ]
    constants = {
        "conv1.weight": array(4, 3, 3, 3),
        "conv1.bias": array(4),
        **{name: array(4) for name in ("gamma", "beta", "mean")},
        "variance": np.abs(array(4)) + 0.5,
        "onnx::Conv_7": array(8, 1, 2, 3),
        "zero": np.float32(0),
        "six": np.float32(6),
        "fc.weight": array(5, 16 * 2 * 3) * 0.1,
        "fc.bias": array(5),
    }
    path = saved(tmp_path, nodes, constants, (3, 9, 10))
    network = network_from_onnx(path, fold_normalisation=False)
    agree(path, array(2, 3, 9, 10), network)
    assert network.name == "net"
    assert {layer.name: layer.parameter for layer in network.layers} == {
        "conv1": "conv1.weight",
        "c2": "onnx::Conv_7",
        "fc": "fc.weight",
    }
    assert network.layer("conv1").geometry == Geometry(
        in_channels=3, out_channels=4, kernel=(3, 3), stride=(2, 1), padding=(1, 2), dilation=(1, 2), in_size=(9, 10)
    )
    assert network.layer("c2").geometry.groups == 4
    assert set(network.state_dict()) == {"conv1.weight", "conv1.bias", "onnx::Conv_7", "fc.weight", "fc.bias"}
    folded = network_from_onnx(path, fold_normalisation=True)
    assert folded.notes == ("1 batch normalisations are folded into the layers before them",)
    agree(path, array(2, 3, 9, 10), folded)


def test_a_transformer_like_network(tmp_path):
    nodes = [
        node("Constant", "", "heads", value=onnx.numpy_helper.from_array(np.array([0, 0, 2, 4]))),
        node("Constant", "", "tokens", value=onnx.numpy_helper.from_array(np.array([0, 5, -1]))),
        node("LayerNormalization", "x scale shift", "n", axis=-1, epsilon=1e-4),
        node("Transpose", "w", "wt", perm=[1, 0]),
        node("MatMul", "n wt", "q"),
        node("Add", "q bq", "qb"),
        node("MatMul", "n k.weight", "k"),
        node("Split", "n parts", "v1 v2", axis=2),
        node("Concat", "v2 v1", "v", axis=-1),
        node("Reshape", "qb heads", "qr"),
        node("Reshape", "k heads", "kr"),
        node("Reshape", "v heads", "vr"),
        node("Transpose", "qr", "qh", perm=[0, 2, 1, 3]),
        node("Transpose", "kr", "kh", perm=[0, 2, 3, 1]),
        node("Transpose", "vr", "vh", perm=[0, 2, 1, 3]),
        node("MatMul", "qh kh", "s"),
        node("Softmax", "s", "a", axis=-1),
        node("MatMul", "a vh", "m"),
        node("Transpose", "m", "mt", perm=[0, 2, 1, 3]),
        node("Reshape", "mt tokens", "o"),
        node("Add", "o x", "res"),
        node("Add", "res positions", "pos"),
        node("Sigmoid", "pos", "gate"),
        node("Mul", "pos gate", "silu"),
        node("Unsqueeze", "silu one", "u"),
        node("Pad", "u pads", "padded"),
        node("Squeeze", "padded one", "sq"),
        node("ReduceMean", "sq", "mean", axes=[1], keepdims=0),
        node("Tanh", "mean", "t"),
        node("LeakyRelu", "t", "l", alpha=0.3),
        node("HardSigmoid", "l", "h", alpha=1 / 6),
        node("HardSwish", "h", "hs"),
        node("Dropout", "hs", "d"),
        node("LogSoftmax", "d", "out"),
    ]
    constants = {
        "scale": array(8),
        "shift": array(8),
        "w": array(8, 8),
        "bq": array(8),
        "k.weight": array(8, 8),
        "positions": array(1, 5, 8),
        "one": np.array([1]),
        "pads": np.array([0, 0, 0, 1, 0, 0, 2, 0]),
        "parts": np.array([3, 5]),
    }
    path = saved(tmp_path, nodes, constants, (5, 8))
    network = network_from_onnx(path)
    agree(path, array(3, 5, 8), network)
    assert [layer.name for layer in network.layers] == ["q", "k"]
    assert network.layer("q").bias is not None  # the addition behind the product
    np.testing.assert_array_equal(network.state_dict()["k.weight"].numpy(), constants["k.weight"])
    assert network.layer("q").geometry.output_pixels == 5
    assert ("positions", "used directly, not as the weights of a layer") in network.coverage.reasons.items()


@pytest.mark.parametrize("mode", ["SAME_UPPER", "SAME_LOWER", "VALID"])
@pytest.mark.parametrize("kernel", [(2, 3), (3, 4)])
def test_automatic_padding(tmp_path, mode, kernel):
    """Against torch, padded by hand: before onnx 1.20 the reference implementation pads VALID and strides otherwise,
    and pools neither with strides that are left out nor with one side padded."""
    nodes = [
        node("Conv", "x w", "c", auto_pad=mode, strides=[2, 1]),
        node("MaxPool", "c", "p", kernel_shape=[2, 2], pads=[0, 1, 1, 0]),
    ]
    weight, x, pads = array(3, 2, *kernel), array(2, 2, 7, 8), []
    for size, taps, stride in zip((7, 8), kernel, (2, 1), strict=True):
        missing = 0 if mode == "VALID" else max((-(-size // stride) - 1) * stride + taps - size, 0)
        before = missing // 2 if mode == "SAME_UPPER" else missing - missing // 2
        pads = [before, missing - before, *pads]  # torch pads the last axis first
    conv = functional.conv2d(functional.pad(torch.from_numpy(x), pads), torch.from_numpy(weight), stride=(2, 1))
    expected = functional.max_pool2d(functional.pad(conv, (1, 0, 0, 1), value=-torch.inf), 2, 1)
    agree(saved(tmp_path, nodes, {"w": weight}, (2, 7, 8)), x, expected=expected.numpy())


def test_local_response_normalisation(tmp_path):
    """By the definition in ONNX's operator list: its reference implementation runs over the batch instead."""
    path = saved(tmp_path, [node("LRN", "x", "y", size=3, alpha=0.3, beta=0.7, bias=1.5)], {}, (5, 2, 2))
    x = array(2, 5, 2, 2)
    expected = np.empty_like(x)
    for channel in range(5):
        window = x[:, max(0, channel - 1) : min(5, channel + 2)]
        expected[:, channel] = x[:, channel] / (1.5 + 0.3 / 3 * np.square(window).sum(axis=1)) ** 0.7
    np.testing.assert_allclose(forward(network_from_onnx(path), {"x": x})["y"], expected, rtol=1e-5)


def test_shared_weights_are_stored_once(tmp_path):
    nodes = [node("Gemm", "x a.weight", "one"), node("Gemm", "one a.weight b", "two"), node("Gemm", "two w", "three")]
    weight = array(4, 4)
    path = saved(tmp_path, nodes, {"a.weight": weight, "b": array(4), "w": weight.copy()}, (4,))
    network = network_from_onnx(path)
    agree(path, array(3, 4), network)
    assert [layer.name for layer in network.layers] == ["a", "a_1", "three"]  # another bias, another array: own layers
    nodes = [
        node("Gemm", "x a.weight b", "one"),
        node("Gemm", "one a.weight b", "two"),
        node("Gemm", "two a.weight", "y"),
    ]
    path = saved(tmp_path, nodes, {"a.weight": weight, "b": array(4)}, (4,))
    network = network_from_onnx(path)
    agree(path, array(3, 4), network)
    assert [layer.name for layer in network.layers] == ["a"]
    assert [use.holder for use in network.uses] == ["a", "a", "a"]
    assert network.notes == ("stored once and used several times: a (3 times)",)
    assert network.coverage.parameters == 20


@pytest.mark.parametrize(("axis", "shape"), [(1, (1, 5, 2)), (-1, (1, 2, 7)), (2, (1, 3, 1))])
def test_elements_gathered_by_fixed_places(tmp_path, axis, shape):
    """From either end of an axis; fewer than the values are read as torch and onnxruntime do, onnx's reference not."""
    places, w, x = np.random.default_rng(1).integers(-3, 3, shape), array(4, 4), array(1, 3, 4)
    nodes = [node("MatMul", "x w", "y"), node("GatherElements", "y places", "z", axis=axis)]
    network = network_from_onnx(saved(tmp_path, nodes, {"w": w, "places": places}, (3, 4)))
    values = x @ w
    expected = torch.gather(torch.from_numpy(values), axis, torch.from_numpy(places % values.shape[axis])).numpy()
    again = parse(to_bytes(dchw.compress(network))).graph
    assert [dict(op.attributes) for op in again.operations if op.kind == "gather"] == [{"axis": axis % 3}]
    assert [op.output_shape for op in again.operations] == [op.output_shape for op in network.operations]
    agree(None, x, network, expected=expected)


def test_elements_gathered_by_computed_places(tmp_path):
    """Examples keep to themselves; a table of other sizes, of which the first rows would be read, is not computed."""
    nodes = [
        node("Abs", "x", "a"),
        node("Floor", "a", "f"),
        node("Clip", "f low high", "c"),
        node("Cast", "c", "places", to=7),
        node("MatMul", "x w", "y"),
    ]
    constants = {"w": array(4, 4), "low": np.float32(0), "high": np.float32(2), "table": array(5, 3, 4)}
    path = saved(tmp_path, [*nodes, node("GatherElements", "y places", "z", axis=1)], constants, (3, 4))
    agree(path, 2 * array(3, 3, 4))
    path = saved(tmp_path, [*nodes, node("GatherElements", "table places", "z", axis=1)], constants, (3, 4))
    assert network_from_onnx(path).operations[-1].attributes["target"] == "GatherElements"


def test_what_has_no_rule_becomes_other_and_is_named(tmp_path):
    nodes = [
        node("Einsum", "x up.weight", "up", equation="nc...,cd->nd..."),
        node("LRN", "up", "lrn", size=2),
        node("Conv", "lrn w", "c"),
    ]
    network = network_from_onnx(saved(tmp_path, nodes, {"up.weight": array(2, 3), "w": array(4, 3, 1, 1)}, (2, 4, 4)))
    assert [op.kind for op in network.operations[1:3]] == [OperationKind.OTHER] * 2
    assert network.layers[0].geometry.in_size == (4, 4)
    reason = "belongs to 'Einsum', which is not computed here"
    assert list(network.coverage.reasons.items()) == [("up.weight", reason)]


def test_damaged_and_missing_files(tmp_path):
    path = saved(tmp_path, [node("Gemm", "x a.weight", "one")], {"a.weight": array(40, 40)}, (40,))
    data = path.read_bytes()
    for stop in (1, 50, len(data) // 2, len(data) - 1):
        path.write_bytes(data[:stop])
        with pytest.raises(FileFormatError) as caught:
            network_from_onnx(path)
        assert str(caught.value).startswith(f"{path}: expected an ONNX model; it is damaged (")
        assert "\n" not in str(caught.value)
    with pytest.raises(DchwError, match=r"it cannot be read \(No such file or directory\); check the path"):
        network_from_onnx(tmp_path / "none.onnx")


def test_flipped_bits_give_a_network_or_one_sentence(tmp_path):
    nodes = [
        node("Conv", "x w", "c", pads=[1, 1, 1, 1], strides=[2, 2]),
        node("Transpose", "c", "t", perm=[0, 2, 3, 1]),
        node("Split", "t parts", "a b", axis=3),
        node("Mul", "a b", "m"),
        node("Reshape", "m shape", "r"),
        node("Gemm", "r fc.weight", "y", transB=1),
    ]
    constants = {"w": array(4, 2, 3, 3), "parts": np.array([2, 2]), "shape": np.array([0, -1])}
    path = saved(tmp_path, nodes, {**constants, "fc.weight": array(3, 18)}, (2, 6, 6))
    data = path.read_bytes()
    rng, refusals = np.random.default_rng(2), []
    for place in rng.integers(0, 8 * len(data), 300):
        damaged = bytearray(data)
        damaged[place // 8] ^= 1 << (place % 8)
        path.write_bytes(damaged)
        try:
            network_from_onnx(path)
        except DchwError as error:
            refusals.append(str(error))
    assert not any("\n" in refusal for refusal in refusals)
    assert any("does not hold together" in refusal for refusal in refusals)


def test_the_missing_package_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(DchwError) as caught:
        network_from_onnx(tmp_path / "net.onnx")
    assert str(caught.value) == (
        f"{tmp_path / 'net.onnx'}: expected onnx, which is not installed; pip install 'dchw[onnx]'"
    )


def test_outputs_that_the_graph_reads_itself_are_outputs(tmp_path):
    path = saved(tmp_path, [node("Relu", "x", "h"), node("MatMul", "h w", "y")], {"w": array(4, 3)}, [4])
    model = onnx.load(path)
    model.graph.output.insert(0, helper.make_tensor_value_info("h", onnx.TensorProto.FLOAT, None))
    onnx.save(onnx.shape_inference.infer_shapes(model), path)
    network = network_from_onnx(path)
    assert network.outputs == (*network.inner_outputs, network.operations[-1].name)
    assert [network.operation(name).kind for name in network.inner_outputs] == ["activation"]


def test_what_no_output_depends_on_is_left_out_and_counted(tmp_path):
    """A runtime computes no idle node either: its layer is none of the network's, and no output of it is stored."""
    nodes = [
        node("Relu", "x", "h"),
        node("MatMul", "h idle", "z"),
        node("Add", "z bias", "zz"),
        node("MatMul", "h w", "y"),
    ]
    constants = {"w": array(4, 3), "idle": array(4, 9), "bias": array(9), "spare": array(5, 2), "sizes": np.array([3])}
    network = network_from_onnx(saved(tmp_path, nodes, constants, [4]))
    assert [layer.weight.shape for layer in network.layers] == [(3, 4)]
    assert network.outputs == (network.layers[0].name,)
    assert {one.name: one.parameters for one in network.left_out} == {"idle": 36, "bias": 9, "spare": 10}
    assert network.coverage.share == pytest.approx(12 / 67)
    assert "55 are left out (55: no output of the graph depends on it)" in network.coverage.sentence()


def test_a_body_keeps_what_it_reads_from_around_it(tmp_path):
    one = helper.make_tensor_value_info("t", onnx.TensorProto.FLOAT, None)
    other = helper.make_tensor_value_info("e", onnx.TensorProto.FLOAT, None)
    taken = helper.make_graph([node("MatMul", "h w", "t"), node("MatMul", "h v", "idle")], "then", [], [one])
    left = helper.make_graph([node("Identity", "h", "e")], "else", [], [other])
    nodes = [node("Relu", "x", "h"), node("If", "yes", "y", then_branch=taken, else_branch=left)]
    constants = {"w": array(4, 3), "v": array(4, 2), "yes": np.array(True)}
    network = network_from_onnx(saved(tmp_path, nodes, constants, [4]))
    assert [layer.weight.shape for layer in network.layers] == [(3, 4)]
    assert network.outputs == (network.operations[-1].name,)
    assert [(one.name, one.parameters) for one in network.left_out] == [("v", 8)]
