"""Do recurrent and quantised ONNX operators compute here what their definition says?"""

from __future__ import annotations

import numpy as np
import pytest

from dchw.graph.forward import forward
from dchw.importers.onnx.file import network_from_onnx
from tests.importers.onnx_models import agree, array, node, saved
from tests.oracles.onnx_operators import qlinear_conv, recurrent

GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}


@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
@pytest.mark.parametrize("kind", list(GATES))
@pytest.mark.parametrize("first", [False, True])
def test_recurrent_operators(tmp_path, kind, direction, first):
    """Sequences [examples, steps, inputs], turned time first as ONNX wants it, one example at a time."""
    reverse = {"forward": (False,), "reverse": (True,), "bidirectional": (False, True)}[direction]
    hidden, inputs, steps, d = 3, 4, 5, len(reverse)
    w, r = array(d, GATES[kind] * hidden, inputs), array(d, GATES[kind] * hidden, hidden)
    b, zeros = array(d, 2 * GATES[kind] * hidden), np.zeros((d, 1, hidden), np.float32)
    h, c = (array(d, 1, hidden), array(d, 1, hidden)) if first else (zeros, zeros)
    states = "h c" if kind == "LSTM" else "h"
    outputs = "y yh yc" if kind == "LSTM" else "y yh"
    form = {"linear_before_reset": 1} if kind == "GRU" else {}
    layer = node(kind, f"xt w r b none {states}" if first else "xt w r b", outputs, direction=direction, **form)
    layer.attribute.append(node(kind, "", "z", hidden_size=hidden).attribute[0])
    if first:
        layer.input[4] = ""
    flat = [node("Reshape", f"{name} minus", f"flat_{name}") for name in outputs.split()]
    names = " ".join(f"flat_{name}" for name in outputs.split())
    nodes = [node("Transpose", "x", "xt", perm=[1, 0, 2]), layer, *flat, node("Concat", names, "all", axis=0)]
    constants = {"w": w, "r": r, "b": b, "minus": np.array([-1])}
    constants |= {name: {"h": h, "c": c}[name] for name in states.split() if first}
    path = saved(tmp_path, nodes, constants, (steps, inputs), batch=1)
    network = network_from_onnx(path)
    examples = array(2, steps, inputs)
    got = forward(network, {"x": examples})[network.operations[-1].name]
    for x, values in zip(examples, got, strict=True):
        y, yh, yc = recurrent(kind, x[:, None], w, r, b, h, c, reverse)
        parts = [y, yh, yc] if kind == "LSTM" else [y, yh]
        expected = np.concatenate([part.reshape(-1) for part in parts])
        np.testing.assert_allclose(values, expected, rtol=1e-4, atol=1e-5)
    # the weights of one direction each, and with them every parameter
    assert len(network.layers) == 2 * d
    assert network.coverage.share == 1.0
    assert sum(layer.weight.size for layer in network.layers) == w.size + r.size


def quantised(name, scale, zero, kind=np.uint8):
    return {f"{name}_scale": np.float32(scale), f"{name}_zero": np.array(zero, kind)}


def test_qlinear_conv_in_whole_numbers(tmp_path):
    rng = np.random.default_rng(1)
    w, w_zero = rng.integers(0, 255, (3, 2, 3, 3)).astype(np.uint8), np.array([120, 128, 130], np.uint8)
    bias, w_scale = rng.integers(-500, 500, 3).astype(np.int32), np.float32([0.01, 0.02, 0.005])
    nodes = [
        node("QuantizeLinear", "x x_scale x_zero", "q"),
        node("QLinearConv", "q x_scale x_zero w w_scale w_zero y_scale y_zero bias", "c", pads=[1] * 4),
        node("DequantizeLinear", "c y_scale y_zero", "y"),
    ]
    constants = {"w": w, "w_zero": w_zero, "w_scale": w_scale, "bias": bias}
    constants |= quantised("x", 0.05, 100) | quantised("y", 0.1, 90)
    network = network_from_onnx(saved(tmp_path, nodes, constants, (2, 5, 5)))
    x = array(2, 2, 5, 5) * 3
    numbers = np.clip(np.rint(x / np.float32(0.05)) + 100, 0, 255).astype(int)
    scale = 0.05 * w_scale.astype(float) / 0.1
    expected = (qlinear_conv(numbers, 100, w, w_zero, bias, scale, 90, 1) - 90) * 0.1
    got = forward(network, {"x": x})[network.operations[-1].name]
    assert np.abs(got - expected).max() <= 0.1001  # one step, where a half is rounded
    assert (np.abs(got - expected) > 1e-3).mean() < 0.02
    real = (w.astype(float) - w_zero[:, None, None, None]) * w_scale[:, None, None, None]
    np.testing.assert_allclose(network.layers[0].weight, real, rtol=1e-6)
    assert "quantised weights are dequantised" in network.notes


def test_weights_of_integer_products_are_dequantised(tmp_path):
    """DynamicQuantizeLinear, ConvInteger and MatMulInteger with the scales and bias multiplied in afterwards."""
    rng = np.random.default_rng(2)
    w, m = rng.integers(-127, 127, (3, 2, 3, 3)).astype(np.int8), rng.integers(-127, 127, (12, 4)).astype(np.int8)
    nodes = [
        node("DynamicQuantizeLinear", "x", "q scale zero"),
        node("ConvInteger", "q w zero w_zero", "i"),
        node("Cast", "i", "f", to=1),
        node("Mul", "scale w_scale", "both"),
        node("Mul", "f both", "c"),
        node("Add", "c bias", "b"),
        node("Flatten", "b", "flat"),
        node("DynamicQuantizeLinear", "flat", "q2 scale2 zero2"),
        node("MatMulInteger", "q2 m zero2 w_zero", "i2"),
        node("Cast", "i2", "f2", to=1),
        node("Mul", "scale2 w_scale", "both2"),
        node("Mul", "f2 both2", "y"),
    ]
    constants = {"w": w, "m": m, "w_zero": np.array(0, np.int8), "w_scale": np.float32(0.02), "bias": array(3, 1, 1)}
    path = saved(tmp_path, nodes, constants, (2, 4, 4), batch=1)
    network = network_from_onnx(path)
    conv, product = network.layers
    np.testing.assert_allclose(conv.weight, w * np.float32(0.02), rtol=1e-6)
    np.testing.assert_allclose(product.weight, m.T * np.float32(0.02), rtol=1e-6)
    np.testing.assert_array_equal(conv.bias, constants["bias"].reshape(-1))
    agree(path, array(1, 2, 4, 4), network)


@pytest.mark.parametrize("rounding", ["Floor", "Round", None])
def test_a_bias_rounded_to_a_step_of_the_input_is_noted(tmp_path, rounding):
    """A converter adds a bias to the whole numbers, in steps of the input's scale: here it stays as it is."""
    rng = np.random.default_rng(2)
    rounded = [node(rounding, "steps", "whole")] if rounding else []
    nodes = [
        node("DynamicQuantizeLinear", "x", "q scale zero"),
        node("ConvInteger", "q w zero w_zero", "i"),
        node("Mul", "scale w_scale", "both"),
        node("Div", "bias both", "steps"),
        *rounded,
        node("Cast", "i", "f", to=1),
        node("Add", f"f {'whole' if rounding else 'steps'}", "b"),
        node("Mul", "b both", "y"),
    ]
    w = rng.integers(-127, 127, (3, 2, 3, 3)).astype(np.int8)
    constants = {"w": w, "w_zero": np.array(0, np.int8), "w_scale": np.float32(0.02), "bias": array(3, 1, 1)}
    path = saved(tmp_path, nodes, constants, (2, 4, 4), batch=1)
    network, x = network_from_onnx(path), array(1, 2, 4, 4)
    about = [note for note in network.notes if "rounds to whole multiples of a step" in note]
    if rounding is None:
        assert not about
        agree(path, x, network)
        return
    assert len(about) == 1
    assert about[0].endswith("differ by such steps (1): whole")
    out = forward(network, {"x": x})[network.operations[-1].name]
    step = (max(x.max(), 0) - min(x.min(), 0)) / 255 * 0.02
    from onnx.reference import ReferenceEvaluator

    difference = np.abs(out - ReferenceEvaluator(str(path)).run(None, {"x": x})[0])
    assert 0 < difference.max() < 1.001 * step


@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")  # of onnx's reference MaxPool on uint8
def test_a_quantised_graph_of_pairs(tmp_path):
    """QuantizeLinear and DequantizeLinear around a layer, with int8 weights along their output channels."""
    rng = np.random.default_rng(3)
    nodes = [
        node("QuantizeLinear", "x x_scale x_zero", "q"),
        node("DequantizeLinear", "q x_scale x_zero", "d"),
        node("DequantizeLinear", "w w_scale w_zero", "wd", axis=0),
        node("Conv", "d wd", "c"),
        node("Relu", "c", "r"),
        node("QuantizeLinear", "r y_scale y_zero", "qr"),
        node("MaxPool", "qr", "p", kernel_shape=[2, 2]),
        node("DequantizeLinear", "p y_scale y_zero", "y"),
    ]
    constants = {"w": rng.integers(-127, 127, (3, 2, 3, 3)).astype(np.int8), "w_zero": np.zeros(3, np.int8)}
    constants |= {"w_scale": np.float32([0.01, 0.02, 0.03])} | quantised("x", 0.05, 128) | quantised("y", 0.2, 0)
    path = saved(tmp_path, nodes, constants, (2, 5, 5), version=19)
    network = network_from_onnx(path)
    agree(path, array(2, 2, 5, 5), network)
    path = saved(tmp_path, nodes, constants, (2, 5, 5), version=13)
    np.testing.assert_array_equal(network_from_onnx(path).layers[0].weight, network.layers[0].weight)
    assert [op.kind.value for op in network.operations].count("other") == 0
