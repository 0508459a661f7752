"""Rules of ONNX operators that compute: layers, normalisation, pooling, arithmetic and activations."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from dchw.graph.network import Array, OperationKind
from dchw.importers.onnx.registry import Attributes, OnnxGraph, Rule, add, optional_input, rule

Pair = tuple[int, int]


def _pair(values: Any, default: int) -> Pair:
    return (default, default) if not values else (int(values[0]), int(values[-1]))


def _padding(
    graph: OnnxGraph, node: Any, a: Attributes, kernel: Pair, stride: Pair, dilation: Pair
) -> tuple[Pair, Pair]:
    """Rows and columns before and after, from ``pads`` or ``auto_pad``."""
    mode = a.get("auto_pad", "NOTSET")
    if mode in ("SAME_UPPER", "SAME_LOWER"):
        size = graph.shape(node.input[0])[-2:]
        total = [
            max(0, (-(-size[i] // stride[i]) - 1) * stride[i] + dilation[i] * (kernel[i] - 1) + 1 - size[i])
            for i in (0, 1)
        ]
        less, more = (total[0] // 2, total[1] // 2), (-(-total[0] // 2), -(-total[1] // 2))
        return (less, more) if mode == "SAME_UPPER" else (more, less)
    pads = a.get("pads") or [0, 0, 0, 0]
    return ((0, 0), (0, 0)) if mode == "VALID" else ((pads[0], pads[1]), (pads[2], pads[3]))


def _even(graph: OnnxGraph, node: Any, before: Pair, after: Pair, value: float) -> tuple[str, Pair]:
    """The source, padded where the two sides differ, and the padding that is left for the operation itself."""
    source = graph.operation(node.input[0])
    if before == after:
        return source, before
    padding = ((0, 0), (before[0], after[0]), (before[1], after[1]))
    attributes = {"padding": padding, "value": value}
    return graph.builder.add(OperationKind.PAD, f"{graph.name(node)}.pad", [source], attributes), (0, 0)


# Layers -------------------------------------------------------------------------------------------------------


@rule("Conv")
def _conv(graph: OnnxGraph, node: Any, a: Attributes) -> str | None:
    weight = graph.constant(node.input[1])
    bias_name = optional_input(node, 2)
    bias = graph.constant(bias_name) if bias_name else None
    if weight is None or weight.ndim != 4 or len(graph.shape(node.input[0])) != 3 or (bias_name and bias is None):
        return None
    kernel: Pair = (weight.shape[2], weight.shape[3])
    stride, dilation = _pair(a.get("strides"), 1), _pair(a.get("dilations"), 1)
    before, after = _padding(graph, node, a, kernel, stride, dilation)
    source, padding = _even(graph, node, before, after, 0.0)
    name = graph.builder.conv(
        graph.layer_name(node, node.input[1]),
        source,
        weight.shape[0],
        kernel,
        stride=stride,
        padding=padding,
        dilation=dilation,
        groups=int(a.get("group", 1)),
        weight=weight,
        bias=bias,
    )
    graph.own(name, node.input[1], bias_name)
    return name


@rule("Gemm")
def _gemm(graph: OnnxGraph, node: Any, a: Attributes) -> str | None:
    weight = graph.constant(node.input[1])
    bias_name = optional_input(node, 2)
    bias = graph.constant(bias_name) if bias_name else None
    plain = a.get("transA", 0) == 0 and a.get("alpha", 1.0) == a.get("beta", 1.0) == 1.0
    if weight is None or not plain or (bias_name and bias is None) or len(graph.shape(node.input[0])) != 1:
        return None
    return _dense(graph, node, weight, bool(a.get("transB", 0)), bias_name, bias)


def _dense(
    graph: OnnxGraph, node: Any, weight: Array, outputs_first: bool, bias_name: str | None, bias: Array | None
) -> str:
    matrix = weight if outputs_first else weight.T
    values = None if bias is None else np.broadcast_to(bias.reshape(-1), (matrix.shape[0],))
    name = graph.builder.linear(
        graph.layer_name(node, node.input[1]),
        graph.operation(node.input[0]),
        matrix.shape[0],
        weight=matrix,
        bias=values,
        flatten=False,
    )
    graph.own(name, node.input[1], bias_name, **({} if outputs_first else {"transposed": True}))
    return name


@rule("MatMul")
def _matmul(graph: OnnxGraph, node: Any, a: Attributes) -> str | None:
    weight = graph.constant(node.input[1])
    if weight is not None:
        return _dense(graph, node, weight, False, None, None) if weight.ndim == 2 else None
    if graph.constant(node.input[0]) is not None:
        return None
    left, right = (graph.shape(value) for value in node.input)
    if len(left) < 2 or len(left) != len(right):
        return None
    sources = [graph.operation(value) for value in node.input]
    return graph.builder.add(OperationKind.MATMUL, graph.name(node), sources)


# Normalisation and pooling ------------------------------------------------------------------------------------


@rule("BatchNormalization")
def _batch_normalisation(graph: OnnxGraph, node: Any, a: Attributes) -> str | None:
    arrays = [graph.constant(value) for value in node.input[1:5]]
    if a.get("training_mode", 0) or any(array is None for array in arrays):
        return None
    gamma, beta, mean, variance = (np.asarray(array, np.float64) for array in arrays)
    scale = gamma / np.sqrt(variance + a.get("epsilon", 1e-5))
    attributes = {"form": "batch", "scale": scale.astype(np.float32)}
    attributes["shift"] = (beta - mean * scale).astype(np.float32)
    return add(graph, node, OperationKind.NORMALISATION, attributes)


@rule("LayerNormalization")
def _layer_normalisation(graph: OnnxGraph, node: Any, a: Attributes) -> str | None:
    shape = graph.shape(node.input[0])
    axis = a.get("axis", -1)
    axis = axis - len(shape) - 1 if axis > 0 else axis
    scale, bias_name = graph.constant(node.input[1]), optional_input(node, 2)
    shift = graph.constant(bias_name) if bias_name else np.zeros(shape[axis:], np.float32)
    if scale is None or shift is None or not -len(shape) <= axis < 0:
        return None
    attributes = {"form": "layer", "axes": tuple(range(axis, 0)), "epsilon": float(a.get("epsilon", 1e-5))}
    return add(graph, node, OperationKind.NORMALISATION, {**attributes, "scale": scale, "shift": shift})


@rule("LRN")
def _local_response(graph: OnnxGraph, node: Any, a: Attributes) -> str | None:
    if a["size"] % 2 == 0:
        return None  # onnx centres an even window elsewhere than torch and Caffe
    alpha, beta, k = float(a.get("alpha", 1e-4)), float(a.get("beta", 0.75)), float(a.get("bias", 1.0))
    source = graph.operation(node.input[0])
    return graph.builder.local_response(graph.name(node), source, int(a["size"]), alpha, beta, k)


def _pool(kind: OperationKind) -> Rule:
    def pool(graph: OnnxGraph, node: Any, a: Attributes) -> str | None:
        if len(graph.shape(node.input[0])) != 3 or _pair(a.get("dilations"), 1) != (1, 1) or len(node.output) > 1:
            return None
        kernel, stride = _pair(a["kernel_shape"], 1), _pair(a.get("strides"), 1)
        before, after = _padding(graph, node, a, kernel, stride, (1, 1))
        if kind is OperationKind.AVERAGE_POOL2D and before != after:
            return None
        source, padding = _even(graph, node, before, after, -math.inf)
        ceil, counted = bool(a.get("ceil_mode", 0)), bool(a.get("count_include_pad", 0))
        return graph.builder.pool(
            graph.name(node), source, kind, kernel, stride, padding, ceil_mode=ceil, count_include_pad=counted
        )

    return pool


rule("MaxPool")(_pool(OperationKind.MAX_POOL2D))
rule("AveragePool")(_pool(OperationKind.AVERAGE_POOL2D))


@rule("GlobalAveragePool")
def _global_average(graph: OnnxGraph, node: Any, a: Attributes) -> str:
    return graph.builder.global_average_pool(graph.name(node), graph.operation(node.input[0]))


@rule("ReduceMean")
def _reduce_mean(graph: OnnxGraph, node: Any, a: Attributes) -> str | None:
    shape, given = graph.shape(node.input[0]), optional_input(node, 1)
    listed = graph.constant(given) if given else a.get("axes")
    if listed is None:
        return None
    axes = tuple(sorted(int(axis) % (len(shape) + 1) for axis in listed))
    if not axes or axes[0] == 0:
        return None
    return add(graph, node, OperationKind.MEAN, {"axes": axes, "keep": bool(a.get("keepdims", 1))})


# Element-wise -------------------------------------------------------------------------------------------------


def _activation(function: str) -> Rule:
    def activate(graph: OnnxGraph, node: Any, a: Attributes) -> str:
        return graph.builder.activation(graph.name(node), graph.operation(node.input[0]), function)

    return activate


for _name in ("Relu", "Sigmoid", "Tanh", "HardSwish"):
    rule(_name)(_activation(_name.lower()))


@rule("LeakyRelu")
def _leaky_relu(graph: OnnxGraph, node: Any, a: Attributes) -> str:
    source = graph.operation(node.input[0])
    return graph.builder.activation(graph.name(node), source, "leaky_relu", slope=float(a.get("alpha", 0.01)))


@rule("HardSigmoid")
def _hard_sigmoid(graph: OnnxGraph, node: Any, a: Attributes) -> str | None:
    usual = math.isclose(a.get("alpha", 0.2), 1 / 6, rel_tol=1e-4) and a.get("beta", 0.5) == 0.5
    return str(_activation("hardsigmoid")(graph, node, a)) if usual else None


@rule("Gelu")
def _gelu(graph: OnnxGraph, node: Any, a: Attributes) -> str:
    return str(_activation("gelu_tanh" if a.get("approximate", "none") == "tanh" else "gelu")(graph, node, a))


@rule("Clip")
def _clip(graph: OnnxGraph, node: Any, a: Attributes) -> str | None:
    limits = []
    for index, name, default in ((1, "min", -math.inf), (2, "max", math.inf)):
        given = optional_input(node, index)
        value = graph.constant(given) if given else a.get(name, default)
        limits.append(None if value is None else float(np.asarray(value)))
    function = {(0.0, 6.0): "relu6", (0.0, math.inf): "relu"}.get((limits[0], limits[1]))  # type: ignore[arg-type]
    return None if function is None else str(_activation(function)(graph, node, a))


def _softmax(function: str) -> Rule:
    def softmax(graph: OnnxGraph, node: Any, a: Attributes) -> str | None:
        rank = len(graph.shape(node.input[0])) + 1
        axis = int(a.get("axis", -1 if graph.version >= 13 else 1)) % rank
        if axis == 0 or (graph.version < 13 and axis != rank - 1):  # before version 13 it went over all axes behind
            return None
        return graph.builder.activation(graph.name(node), graph.operation(node.input[0]), function, axis=axis)

    return softmax


rule("Softmax")(_softmax("softmax"))
rule("LogSoftmax")(_softmax("log_softmax"))


def _combine(kind: OperationKind, inverse: Callable[[Array], Array] | None = None) -> Rule:
    """Addition and multiplication, or subtraction and division of a constant, whose inverse is then combined."""

    def combine(graph: OnnxGraph, node: Any, a: Attributes) -> str | None:
        constant = graph.constant(node.input[-1])
        if inverse is not None:
            if constant is None:
                return None
            derived = f"{graph.name(node)}.constant"
            graph.constants[derived] = inverse(constant.astype(np.float32))
            sources = [graph.operation(node.input[0]), graph.operation(derived)]
            return graph.builder.elementwise(kind, graph.name(node), sources)
        bias = _as_bias(graph, node) if kind is OperationKind.ADD else None
        if bias is not None:
            return bias
        sources = [graph.operation(value) for value in node.input]
        return graph.builder.elementwise(kind, graph.name(node), sources)

    return combine


rule("Add")(_combine(OperationKind.ADD))
rule("Mul")(_combine(OperationKind.MULTIPLY))
rule("Sub")(_combine(OperationKind.ADD, lambda array: -array))
rule("Div")(_combine(OperationKind.MULTIPLY, lambda array: 1.0 / array))


def _as_bias(graph: OnnxGraph, node: Any) -> str | None:
    """The layer before an addition of one constant per output, the constant made its bias."""
    for value, other in (tuple(node.input), tuple(node.input)[::-1]):
        array = graph.constant(value)
        last = graph.builder.operations[-1]
        if array is None or array.ndim != 1 or graph.readers.get(other, 0) != 1 or graph.constant(other) is not None:
            continue
        if graph.operation(other) == last.name and last.kind is OperationKind.LINEAR and last.bias is None:
            assert last.weight is not None
            if array.shape == last.weight.shape[:1]:
                graph.builder.amend(last.name, bias=array, attributes={**last.attributes, "bias_parameter": value})
                return last.name
    return None
