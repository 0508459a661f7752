"""Do TFLite networks, float and quantised, compute here what their definition says, and survive damage?"""

from __future__ import annotations

import sys

import numpy as np
import pytest

import dchw
from dchw.graph.forward import forward
from dchw.importers.tflite import sparsity
from dchw.importers.tflite.file import network_from_tflite
from dchw.quantities import DchwError, FileFormatError
from tests.importers.tflite_models import Op, Tensor, model_bytes

RNG = np.random.default_rng(5)
CONV = {"StrideH": 2, "StrideW": 1, "DilationHFactor": 1, "DilationWFactor": 1, "Padding": 0}
DEPTHWISE = {**CONV, "StrideH": 1, "DepthMultiplier": 1, "FusedActivationFunction": 3}
POOL = {"FilterHeight": 2, "FilterWidth": 2, "StrideH": 2, "StrideW": 2, "Padding": 1}


def array(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape).astype(np.float32)


def constant(name: str, data: np.ndarray, **fields) -> Tensor:
    return Tensor(name, data.shape, data, str(data.dtype), **fields)


def float_network() -> tuple[list[Tensor], list[Op]]:
    """Convolution, depthwise, pooling, a residual, and a linear layer over all of it."""
    tensors = [
        Tensor("image", (1, 7, 6, 3)),
        constant("conv/w", array(4, 3, 3, 3)),
        constant("conv/b", array(4)),
        Tensor("conv", (1, 4, 6, 4)),
        constant("depth/w", array(1, 3, 3, 4)),
        constant("depth/b", array(4)),
        Tensor("depth", (1, 4, 6, 4)),
        Tensor("sum", (1, 4, 6, 4)),
        Tensor("pool", (1, 2, 3, 4)),
        constant("shape", np.array([1, 24], np.int32)),
        Tensor("flat", (1, 24)),
        constant("fc/w", array(5, 24).astype(np.float16)),
        Tensor("fc/w32", (5, 24)),
        Tensor("fc", (1, 5)),
        Tensor("out", (1, 5)),
    ]
    operators = [
        Op("CONV_2D", [0, 1, 2], [3], "Conv2DOptions", {**CONV, "FusedActivationFunction": 1}),
        Op("DEPTHWISE_CONV_2D", [3, 4, 5], [6], "DepthwiseConv2DOptions", DEPTHWISE),
        Op("ADD", [3, 6], [7], "AddOptions"),
        Op("MAX_POOL_2D", [7], [8], "Pool2DOptions", POOL),
        Op("RESHAPE", [8, 9], [10], "ReshapeOptions"),
        Op("DEQUANTIZE", [11], [12], "DequantizeOptions"),
        Op("FULLY_CONNECTED", [10, 12, -1], [13], "FullyConnectedOptions"),
        Op("SOFTMAX", [13], [14], "SoftmaxOptions", {"Beta": 1.0}),
    ]
    return tensors, operators


def convolution(x, w, b, stride, group=False):
    """SAME convolution of [h, w, c], every value by itself; weights [out, kh, kw, in], depthwise [1, kh, kw, out]."""
    height, width = -(-x.shape[0] // stride[0]), -(-x.shape[1] // stride[1])
    kh, kw = w.shape[1:3]
    top = max(0, (height - 1) * stride[0] + kh - x.shape[0]) // 2
    left = max(0, (width - 1) * stride[1] + kw - x.shape[1]) // 2
    out = np.zeros((height, width, w.shape[3] if group else w.shape[0]))
    for i, j, c in np.ndindex(*out.shape):
        total = float(b[c])
        for p, q in np.ndindex(kh, kw):
            y, z = i * stride[0] + p - top, j * stride[1] + q - left
            if 0 <= y < x.shape[0] and 0 <= z < x.shape[1]:
                total += float(x[y, z, c] * w[0, p, q, c]) if group else float(x[y, z] @ w[c, p, q])
        out[i, j, c] = total
    return out


def by_hand(tensors, x, rounded=lambda name, values: values):
    """What the network above gives for x [7, 6, 3]; ``rounded``: what happens to each result."""
    held = {tensor.name: tensor.data for tensor in tensors if tensor.data is not None}
    real = {
        tensor.name: (held[tensor.name].astype(float) - np.array(tensor.zero).reshape(along))
        * np.array(tensor.scale).reshape(along)
        for tensor in tensors
        if tensor.data is not None and len(tensor.scale)
        for along in [[-1 if i == tensor.axis else 1 for i in range(len(tensor.shape))]]
    }
    held |= real
    x = rounded("image", x)
    conv = rounded("conv", np.maximum(convolution(x, held["conv/w"], held["conv/b"], (2, 1)), 0))
    depth = rounded("depth", np.clip(convolution(conv, held["depth/w"], held["depth/b"], (1, 1), True), 0, 6))
    total = rounded("sum", conv + depth)
    pool = total[:4, :6].reshape(2, 2, 3, 2, 4).max(axis=(1, 3))
    fc = rounded("fc", held["fc/w"].astype(float) @ pool.reshape(-1))
    exponential = np.exp(fc - fc.max())
    return rounded("out", exponential / exponential.sum())


def read(tmp_path, tensors, operators):
    path = tmp_path / "net.tflite"
    path.write_bytes(model_bytes(tensors, operators, [0], [len(tensors) - 1]))
    return path, dchw.load_network(path)


def run(network, image):
    return forward(network, {"image": image[None]})[network.operations[-1].name][0]


def test_a_float_network(tmp_path):
    tensors, operators = float_network()
    _, network = read(tmp_path, tensors, operators)
    x = array(7, 6, 3)
    np.testing.assert_allclose(run(network, x), by_hand(tensors, x), rtol=2e-4, atol=1e-6)
    assert [layer.parameter for layer in network.layers] == ["conv/w", "depth/w", "fc/w32"]
    assert [layer.geometry.groups for layer in network.layers] == [1, 4, 1]
    assert network.coverage.share == 1.0
    assert not any(op.kind.value == "other" for op in network.operations)
    compressed = dchw.compress(network, dchw.Recipe(density=0.5))
    assert dchw.simulate(compressed, "phone-lpddr5x").cycles > 0


def quantised_network() -> tuple[list[Tensor], list[Op]]:
    """The same in int8: weights along their output channels, activations with one scale."""
    scales = {"image": 0.03, "conv": 0.05, "depth": 0.03, "sum": 0.07, "pool": 0.07, "flat": 0.07, "fc": 0.1}
    zeros = {"image": 3, "conv": -128, "depth": -128, "sum": -128, "pool": -128, "flat": -128, "fc": 10}
    tensors, operators = float_network()
    for index, tensor in enumerate(tensors):
        if tensor.name in scales or tensor.name == "out":
            scale, zero = scales.get(tensor.name, 1 / 256), zeros.get(tensor.name, -128)
            tensors[index] = Tensor(tensor.name, tensor.shape, None, "int8", [scale], [zero])
        elif tensor.name.endswith("/w"):
            axis = 3 if tensor.name == "depth/w" else 0
            axes = tuple(i for i in range(len(tensor.shape)) if i != axis)
            scale = np.abs(tensor.data.astype(np.float32)).max(axis=axes) / 127
            along = [-1 if i == axis else 1 for i in range(len(tensor.shape))]
            data = np.rint(tensor.data / scale.reshape(along)).astype(np.int8)
            tensors[index] = constant(tensor.name, data, scale=scale, zero=[0] * len(scale), axis=axis)
    for name, source in (("conv", "image"), ("depth", "conv")):
        at = next(i for i, tensor in enumerate(tensors) if tensor.name == f"{name}/b")
        weight = next(tensor for tensor in tensors if tensor.name == f"{name}/w")
        scale = np.asarray(weight.scale, np.float32) * np.float32(scales[source])
        data = np.rint(tensors[at].data / scale).astype(np.int32)
        tensors[at] = constant(f"{name}/b", data, scale=scale, zero=[0] * len(scale))
    operators = [op for op in operators if op.kind != "DEQUANTIZE"]
    next(op for op in operators if op.kind == "FULLY_CONNECTED").inputs = [10, 11, -1]
    return tensors, operators


def steps(tensors):
    """Rounding to the int8 values of a tensor."""
    by_name = {tensor.name: tensor for tensor in tensors}

    def rounded(name, values):
        scale, zero = by_name[name].scale[0], by_name[name].zero[0]
        return (np.clip(np.rint(np.asarray(values, np.float32) / np.float32(scale)) + zero, -128, 127) - zero) * scale

    return rounded


def test_an_int8_network_dequantised_by_hand(tmp_path):
    tensors, operators = quantised_network()
    _, network = read(tmp_path, tensors, operators)
    x = array(7, 6, 3)
    np.testing.assert_allclose(run(network, x), by_hand(tensors, x, steps(tensors)), atol=2.1 / 256)
    weight = next(tensor for tensor in tensors if tensor.name == "depth/w")
    real = weight.data.astype(np.float32) * np.asarray(weight.scale)
    np.testing.assert_allclose(network.layer("depth").weight[:, 0], real[0].transpose(2, 0, 1), rtol=1e-6)
    assert "quantised weights are dequantised" in network.notes
    assert "inputs are real values, which the file's scales round" in network.notes


@pytest.mark.peers
@pytest.mark.parametrize("make", [float_network, quantised_network])
def test_an_interpreter_agrees(tmp_path, make):
    interpreter = pytest.importorskip("ai_edge_litert.interpreter", reason="needs the package ai-edge-litert")
    tensors, operators = make()
    path, network = read(tmp_path, tensors, operators)
    runner = interpreter.Interpreter(str(path))
    runner.allocate_tensors()
    (source,), (result,) = runner.get_input_details(), runner.get_output_details()
    x = array(7, 6, 3)
    scale, zero = source["quantization"]
    given = np.clip(np.rint(x / scale) + zero, -128, 127).astype(np.int8) if scale else x
    runner.set_tensor(source["index"], given[None])
    runner.invoke()
    values = runner.get_tensor(result["index"])[0].astype(np.float32)
    scale, zero = result["quantization"]
    expected = (values - zero) * scale if scale else values
    np.testing.assert_allclose(run(network, x), expected, atol=2.1 / 256 if scale else 1e-5)


def test_what_has_no_rule_keeps_the_files_shape(tmp_path):
    tensors = [Tensor("image", (1, 4, 4, 2)), Tensor("l2", (1, 4, 4, 2))]
    path, network = read(tmp_path, tensors, [Op("L2_NORMALIZATION", [0], [1], "L2NormOptions")])
    assert network.operations[-1].attributes["target"] == "tflite.L2_NORMALIZATION"
    assert network.operations[-1].output_shape == (4, 4, 2)
    assert network_from_tflite(path, name="mine").name == "mine"


def test_damage_gives_a_network_or_one_sentence(tmp_path):
    path, _ = read(tmp_path, *float_network())
    data = path.read_bytes()
    rng, refusals = np.random.default_rng(3), []
    changed = [data[:stop] for stop in (1, 8, 40, len(data) // 2, len(data) - 9)]
    for place in rng.integers(8 * 8, 8 * len(data), 300):
        damaged = bytearray(data)
        damaged[place // 8] ^= 1 << (place % 8)
        changed.append(bytes(damaged))
    for content in changed:
        path.write_bytes(content)
        try:
            network_from_tflite(path)
        except DchwError as error:
            refusals.append(str(error))
    assert len(refusals) > 20
    assert not any("\n" in refusal for refusal in refusals)
    path.write_bytes(b"no flatbuffer at all")
    with pytest.raises(FileFormatError, match="which has TFL3 in its bytes 4 to 7; it is none"):
        network_from_tflite(path)
    with pytest.raises(DchwError, match="it cannot be read"):
        network_from_tflite(tmp_path / "none.tflite")


def test_the_missing_package_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tflite", None)
    with pytest.raises(DchwError, match=r"expected tflite, which is not installed; pip install 'dchw\[tflite\]'"):
        network_from_tflite(tmp_path / "net.tflite")


# What runtimes make of constants and state ---------------------------------------------------------------------


class Level:
    """One axis of a sparse tensor as the schema's reader shows it."""

    def __init__(self, size=0, segments=None, indices=None):
        self.size, self.vectors = size, {"ArraySegments": segments, "ArrayIndices": indices}

    def Format(self):  # noqa: N802
        return 0 if self.vectors["ArraySegments"] is None else 1

    def DenseSize(self):  # noqa: N802
        return self.size


class Sparse:
    """Sparsity parameters as the schema's reader shows them."""

    def __init__(self, order, blocks, levels):
        self.order, self.blocks, self.levels = order, blocks, levels
        self.TraversalOrderLength, self.BlockMapLength = order.__len__, blocks.__len__
        self.TraversalOrder, self.BlockMap = order.__getitem__, blocks.__getitem__
        self.DimMetadataLength, self.DimMetadata = levels.__len__, levels.__getitem__


def rows_of(dense):
    """Dense rows, sparse columns: segments, indices and values, column by column of a row."""
    segments, indices, values = [0], [], []
    for row in dense:
        found = [place for place, block in enumerate(row) if np.any(block)]
        indices += found
        values += [row[place] for place in found]
        segments.append(len(indices))
    return segments, indices, np.asarray(values, np.float32).reshape(-1)


@pytest.mark.parametrize("seed", range(5))
def test_sparse_tensors_are_made_whole(seed, monkeypatch):
    monkeypatch.setattr(sparsity, "_vector", lambda level, name: np.asarray(level.vectors[name], np.int64))
    rng = np.random.default_rng(seed)
    dense = rng.standard_normal((5, 7)).astype(np.float32) * (rng.random((5, 7)) < 0.4)
    segments, indices, values = rows_of(dense)
    plain = Sparse([0, 1], [], [Level(5), Level(0, segments, indices)])
    np.testing.assert_array_equal(sparsity.densified(values, (5, 7), plain), dense)
    # columns first: the same file order reads as the transposed array
    turned = Sparse([1, 0], [], [Level(5), Level(0, segments, indices)])
    np.testing.assert_array_equal(sparsity.densified(values, (7, 5), turned), dense.T)
    # blocks of two rows and three columns
    blocks = rng.standard_normal((4, 3, 2, 3)).astype(np.float32) * (rng.random((4, 3, 1, 1)) < 0.5)
    segments, indices, values = rows_of(blocks)
    levels = [Level(4), Level(0, segments, indices), Level(2), Level(3)]
    cut = Sparse([0, 1, 2, 3], [0, 1], levels)
    whole = blocks.transpose(0, 2, 1, 3).reshape(8, 9)
    np.testing.assert_array_equal(sparsity.densified(values, (8, 9), cut), whole)
    for order, wrong in (([0, 0, 2, 3], levels), ([0, 1, 2, 3], [Level(400), *levels[1:]])):
        with pytest.raises((ValueError, IndexError)):
            sparsity.densified(values, (8, 9), Sparse(order, [0, 1], wrong))


@pytest.mark.parametrize(("mode", "name"), [(0, "reflect"), (1, "symmetric")])
def test_padding_that_mirrors(tmp_path, mode, name):
    pads = np.array([[0, 0], [2, 1], [0, 2], [0, 0]], np.int32)
    tensors = [
        Tensor("image", (1, 3, 4, 2)),
        Tensor("pads", pads.shape, data=pads, kind="int32"),
        Tensor("out", (1, 6, 6, 2)),
    ]
    _, network = read(tmp_path, tensors, [Op("MIRROR_PAD", [0, 1], [2], "MirrorPadOptions", {"Mode": mode})])
    x = array(3, 4, 2)
    np.testing.assert_array_equal(run(network, x), np.pad(x, pads[1:], mode=name))


def test_variables_become_inputs_and_outputs(tmp_path):
    tensors = [
        Tensor("image", (1, 4)),
        Tensor("handle", (), kind="int32"),
        Tensor("before", (1, 4)),
        Tensor("after", (1, 4)),
        Tensor("again", (1, 4)),
        Tensor("out", (1, 4)),
    ]
    operators = [
        Op("VAR_HANDLE", [], [1]),
        Op("READ_VARIABLE", [1], [2]),
        Op("ADD", [0, 2], [3], "AddOptions"),
        Op("ASSIGN_VARIABLE", [1, 3], []),
        Op("READ_VARIABLE", [1], [4]),
        Op("MUL", [0, 4], [5], "MulOptions"),
    ]
    _, network = read(tmp_path, tensors, operators)
    assert [op.name for op in network.operations if op.kind == "input"] == ["image", "before"]
    assert "1 variables, which it keeps from one inference to the next, are inputs and outputs" in network.notes
    x, state = array(4), array(4)
    values = forward(network, {"image": x[None], "before": state[None]})
    np.testing.assert_allclose(values[network.operations[-1].name][0], x * (x + state), rtol=1e-6)
