"""Rules of ONNX operators that compute element by element or along axes: arithmetic, activations, normalisation."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from dchw.graph.operations import Array, OperationKind
from dchw.importers.onnx.registry import (
    Attributes,
    OnnxGraph,
    Rule,
    Shape,
    listed,
    optional_input,
    rule,
    without_batch,
)

_SHORT = {2: (0, 255), 3: (-128, 127), 4: (0, 65535), 5: (-32768, 32767)}
"""ONNX's types of whole numbers that a value may well exceed, with their ranges."""
_UNDEFINED = (
    "real values cast to 8- or 16-bit whole numbers are cut; beyond the range of the type ONNX defines no value"
)
_INTEGERS = frozenset({2, 3, 4, 5, 6, 7, 9, 12, 13})
"""ONNX's element types of whole numbers and of truth."""


def function(graph: OnnxGraph, node: Any, source: str, name: str, *, suffix: str = "", **attributes: Any) -> str:
    """An activation function of an operation."""
    return graph.add(node, OperationKind.ACTIVATION, [source], {"function": name, **attributes}, suffix=suffix)


# Element by element -------------------------------------------------------------------------------------------


def operands(graph: OnnxGraph, node: Any, names: Sequence[str]) -> list[str]:
    """Operations for values that broadcast with each other, brought to the same number of axes."""
    shapes = [graph.shape(name) for name in names]
    rank = max(len(shape) for shape in shapes)
    full = [(1,) * (rank - len(shape)) + shape for shape in shapes]
    drop = rank > 0 and all(shape[0] == 1 for shape in full)
    made = []
    for name, shape in zip(names, full, strict=True):
        source, wanted = graph.operation(name), shape[1:] if drop else shape
        if graph.constant(name) is None and graph.builder.shape(source) != wanted:
            source = graph.add(node, OperationKind.RESHAPE, [source], {"shape": wanted}, suffix=".operand")
        made.append(source)
    return made


def _combine(kind: OperationKind, name: str | None = None) -> Rule:
    def combine(graph: OnnxGraph, node: Any, a: Attributes) -> str:
        sources = operands(graph, node, node.input)
        if len(sources) == 1:
            return graph.add(node, OperationKind.IDENTITY, sources)
        if kind is not OperationKind.ELEMENTWISE:
            return graph.add(node, kind, sources)
        made = sources[0]
        for index, other in enumerate(sources[1:], 1):
            suffix = "" if index == len(sources) - 1 else f".{index}"
            made = graph.add(node, kind, [made, other], {"function": name}, suffix=suffix)
        return made

    return combine


for _op, _function in (
    *(("Sub", "subtract"), ("Max", "maximum"), ("Min", "minimum"), ("Pow", "power"), ("Equal", "equal")),
    *(("Less", "less"), ("LessOrEqual", "less_equal"), ("Greater", "greater"), ("GreaterOrEqual", "greater_equal")),
    *(("And", "and"), ("Or", "or")),
):
    rule(_op)(_combine(OperationKind.ELEMENTWISE, _function))


@rule("Mul")
def _multiply(graph: OnnxGraph, node: Any, a: Attributes) -> str:
    return _into_layer(graph, node, "factor") or str(_combine(OperationKind.MULTIPLY)(graph, node, a))


@rule("Add", "Sum")
def _add(graph: OnnxGraph, node: Any, a: Attributes) -> str:
    return _into_layer(graph, node, "bias") or str(_combine(OperationKind.ADD)(graph, node, a))


def _into_layer(graph: OnnxGraph, node: Any, what: str) -> str | None:
    """The layer before the addition of one constant for each of its outputs, the constant made its bias.

    A factor is multiplied into the weights only of layers of whole numbers, which are no weights without it.
    """
    if len(node.input) != 2:
        return None
    for name, other in (tuple(node.input), tuple(node.input)[::-1]):
        array, shape = graph.constant(name), graph.shape(other)
        if array is None or graph.constant(other) is not None or not graph.read_once(other):
            continue
        layer = graph.operation(other)
        op = graph.builder.operation(layer)
        if op.weight is None or (what == "factor" and not op.attributes.get("whole_numbers", False)):
            continue
        channel = len(shape) - 1 if op.kind is OperationKind.LINEAR else 1
        values = _per_channel(array, shape, channel)
        if values is None or without_batch(shape) != op.output_shape:
            continue
        if graph.amend_layer(layer, **{what: np.broadcast_to(values, (shape[channel],))}):
            return layer
    return None


def _per_channel(array: Array, shape: Shape, channel: int) -> Array | None:
    """The values of a constant that varies at most along one axis of what it is combined with."""
    if array.ndim > len(shape):
        return None
    full = (1,) * (len(shape) - array.ndim) + array.shape
    if any(size != 1 for axis, size in enumerate(full) if axis != channel) or full[channel] not in (1, shape[channel]):
        return None
    return array.reshape(-1)


@rule("Div")
def _divide(graph: OnnxGraph, node: Any, a: Attributes) -> str:
    made = str(_combine(OperationKind.ELEMENTWISE, "divide")(graph, node, a))
    whole = graph.value(node.input[0]).dtype in _INTEGERS
    return function(graph, node, made, "trunc", suffix=".trunc") if whole else made


@rule("Mod")
def _modulo(graph: OnnxGraph, node: Any, a: Attributes) -> str | None:
    return None if a.get("fmod", 0) else str(_combine(OperationKind.ELEMENTWISE, "remainder")(graph, node, a))


@rule("Where")
def _where(graph: OnnxGraph, node: Any, a: Attributes) -> str:
    return graph.add(node, OperationKind.ELEMENTWISE, operands(graph, node, node.input), {"function": "where"})


@rule("PRelu")
def _parametric_relu(graph: OnnxGraph, node: Any, a: Attributes) -> str:
    x, slope = operands(graph, node, node.input)
    below = function(graph, node, x, "clip", low=None, high=0.0, suffix=".below")
    scaled = graph.add(node, OperationKind.MULTIPLY, [below, slope], suffix=".scaled")
    return graph.add(node, OperationKind.ADD, [function(graph, node, x, "relu", suffix=".above"), scaled])


@rule("Not")
def _not(graph: OnnxGraph, node: Any, a: Attributes) -> str:
    sources = [graph.operation(node.input[0]), graph.stored(node, 0)]
    return graph.add(node, OperationKind.ELEMENTWISE, sources, {"function": "equal"})


@rule("Cast", "CastLike")
def _cast(graph: OnnxGraph, node: Any, a: Attributes) -> str | None:
    """Values stay float32 here: to whole numbers they are cut, to truth compared, whole numbers beyond the range of a
    shorter type wrap around, anything else changes nothing."""
    source, before = graph.operation(node.input[0]), graph.value(node.input[0])
    after = graph.value(node.input[1]).dtype if node.op_type == "CastLike" else int(a["to"])
    if before.quantised is not None:
        graph.quantises(before.quantised)
    if after == 9 and before.dtype != 9:
        same = graph.add(
            node,
            OperationKind.ELEMENTWISE,
            [source, graph.stored(node, 0)],
            {"function": "equal"},
            suffix=".zero",
        )
        return graph.add(
            node,
            OperationKind.ELEMENTWISE,
            [same, graph.stored(node, 0)],
            {"function": "equal"},
        )
    if after in _INTEGERS and before.dtype not in _INTEGERS:
        if after in _SHORT:
            graph.notes.about(_UNDEFINED, node.name or node.output[0])
        return function(graph, node, source, "trunc")
    if after in _SHORT and before.dtype not in (after, 9):
        return _wrapped(graph, node, source, *_SHORT[after])
    return source  # the same values, under the same name


def _wrapped(graph: OnnxGraph, node: Any, source: str, low: int, high: int) -> str:
    """Whole numbers modulo the count of a type's values, as two's complement has them."""
    kind = OperationKind.ADD
    if low:
        source = graph.add(node, kind, [source, graph.stored(node, -low, suffix=".least")], suffix=".above")
    span, divide = graph.stored(node, high - low + 1, suffix=".span"), {"function": "remainder"}
    source = graph.add(node, OperationKind.ELEMENTWISE, [source, span], divide, suffix=".wrapped")
    return graph.add(node, kind, [source, graph.stored(node, low, suffix=".low")]) if low else source


# Activations --------------------------------------------------------------------------------------------------


def _activate(name: str) -> Rule:
    def activate(graph: OnnxGraph, node: Any, a: Attributes) -> str:
        return function(graph, node, graph.operation(node.input[0]), name)

    return activate


for _op, _function in (
    *(("Relu", "relu"), ("Sigmoid", "sigmoid"), ("Tanh", "tanh"), ("HardSwish", "hardswish"), ("Exp", "exp")),
    *(("Log", "log"), ("Sqrt", "sqrt"), ("Reciprocal", "reciprocal"), ("Abs", "abs"), ("Neg", "neg")),
    *(("Floor", "floor"), ("Ceil", "ceil"), ("Round", "round"), ("Sign", "sign"), ("Sin", "sin"), ("Cos", "cos")),
    *(("Erf", "erf"), ("Softplus", "softplus"), ("Softsign", "softsign"), ("Mish", "mish")),
):
    rule(_op)(_activate(_function))


@rule("LeakyRelu")
def _leaky_relu(graph: OnnxGraph, node: Any, a: Attributes) -> str:
    slope = float(a.get("alpha", 0.01))
    return function(graph, node, graph.operation(node.input[0]), "leaky_relu", slope=slope)


@rule("Elu")
def _elu(graph: OnnxGraph, node: Any, a: Attributes) -> str:
    return function(graph, node, graph.operation(node.input[0]), "elu", alpha=float(a.get("alpha", 1.0)))


@rule("Selu")
def _selu(graph: OnnxGraph, node: Any, a: Attributes) -> str | None:
    usual = math.isclose(a.get("alpha", 1.6732632), 1.6732632, rel_tol=1e-6)
    usual = usual and math.isclose(a.get("gamma", 1.0507009), 1.0507009, rel_tol=1e-6)
    return function(graph, node, graph.operation(node.input[0]), "selu") if usual else None


@rule("HardSigmoid")
def _hard_sigmoid(graph: OnnxGraph, node: Any, a: Attributes) -> str:
    alpha, beta = float(a.get("alpha", 0.2)), float(a.get("beta", 0.5))
    source = graph.operation(node.input[0])
    if math.isclose(alpha, 1 / 6, rel_tol=1e-6) and beta == 0.5:
        return function(graph, node, source, "hardsigmoid")
    factor = graph.stored(node, alpha, suffix=".alpha")
    scaled = graph.add(node, OperationKind.MULTIPLY, [source, factor], suffix=".scaled")
    shift = graph.stored(node, beta, suffix=".beta")
    moved = graph.add(node, OperationKind.ADD, [scaled, shift], suffix=".moved")
    return function(graph, node, moved, "clip", low=0.0, high=1.0)


@rule("Gelu")
def _gelu(graph: OnnxGraph, node: Any, a: Attributes) -> str:
    name = "gelu_tanh" if a.get("approximate", "none") == "tanh" else "gelu"
    return function(graph, node, graph.operation(node.input[0]), name)


@rule("Clip")
def _clip(graph: OnnxGraph, node: Any, a: Attributes) -> str | None:
    limits: list[float | None] = []
    for index, name in ((1, "min"), (2, "max")):
        given = optional_input(node, index)
        value = graph.constant(given) if given else a.get(name)
        if given and value is None:
            return None
        number = None if value is None else float(np.asarray(value).reshape(()))
        limits.append(None if number is None or abs(number) > 3e38 else number)
    source, (low, high) = graph.operation(node.input[0]), limits
    if low == 0.0 and high in (None, 6.0):
        return function(graph, node, source, "relu" if high is None else "relu6")
    return function(graph, node, source, "clip", low=low, high=high)


def _softmax(name: str) -> Rule:
    def softmax(graph: OnnxGraph, node: Any, a: Attributes) -> str:
        shape = graph.shape(node.input[0])
        if graph.version >= 13:
            axis = int(a.get("axis", -1)) % len(shape)
            source, shift = graph.along(node.input[0], axis)
            return function(graph, node, source, name, axis=axis + shift)
        axis = int(a.get("axis", 1)) % len(shape)  # before version 13 over all axes from this one on
        if axis == len(shape) - 1:
            source, shift = graph.along(node.input[0], axis)
            return function(graph, node, source, name, axis=axis + shift)
        rows = {"shape": (math.prod(shape[:axis]), math.prod(shape[axis:]))}
        flat = graph.add(node, OperationKind.RESHAPE, [graph.operation(node.input[0])], rows, suffix=".rows")
        return function(graph, node, flat, name, axis=2)

    return softmax


rule("Softmax")(_softmax("softmax"))
rule("LogSoftmax")(_softmax("log_softmax"))


# Along axes ---------------------------------------------------------------------------------------------------


def _reduce(name: str, before: str | None = None, after: str | None = None) -> Rule:
    """A reduction of a function of the values, and a function of the result."""

    def reduce(graph: OnnxGraph, node: Any, a: Attributes) -> str | None:
        shape, keep = graph.shape(node.input[0]), bool(a.get("keepdims", 1))
        axes = listed(graph, node, a, 1, "axes")
        if axes is None and optional_input(node, 1):
            return None
        if not axes:
            if a.get("noop_with_empty_axes", 0):
                return graph.operation(node.input[0])
            axes = list(range(len(shape)))
        axes = sorted({axis % len(shape) for axis in axes})
        source, shift = graph.along(node.input[0], *axes)
        if before is not None:
            source = function(graph, node, source, before, suffix=f".{before}")
        attributes: Attributes = {"axes": tuple(axis + shift for axis in axes), "keep": keep}
        suffix = "" if after is None else ".reduced"
        if name == "mean":
            made = graph.add(node, OperationKind.MEAN, [source], attributes, suffix=suffix)
        else:
            made = graph.add(node, OperationKind.REDUCE, [source], {"function": name, **attributes}, suffix=suffix)
        return made if after is None else function(graph, node, made, after)

    return reduce


rule("ReduceMean")(_reduce("mean"))
rule("ReduceSum")(_reduce("sum"))
rule("ReduceMax")(_reduce("maximum"))
rule("ReduceMin")(_reduce("minimum"))
rule("ReduceProd")(_reduce("product"))
rule("ReduceL1")(_reduce("sum", "abs"))
rule("ReduceL2")(_reduce("sum", "square", "sqrt"))
rule("ReduceSumSquare")(_reduce("sum", "square"))
rule("ReduceLogSum")(_reduce("sum", None, "log"))
rule("ReduceLogSumExp")(_reduce("sum", "exp", "log"))


@rule("ArgMax", "ArgMin")
def _place(graph: OnnxGraph, node: Any, a: Attributes) -> str | None:
    if a.get("select_last_index", 0):
        return None
    axis = int(a.get("axis", 0)) % len(graph.shape(node.input[0]))
    source, shift = graph.along(node.input[0], axis)
    attributes = {"function": node.op_type.lower(), "axes": (axis + shift,), "keep": bool(a.get("keepdims", 1))}
    return graph.add(node, OperationKind.REDUCE, [source], attributes)


# Normalisation ------------------------------------------------------------------------------------------------


@rule("BatchNormalization")
def _batch_normalisation(graph: OnnxGraph, node: Any, a: Attributes) -> str | None:
    arrays = [graph.constant(value) for value in node.input[1:5]]
    if a.get("training_mode", 0) or any(array is None for array in arrays):
        return None
    gamma, beta, mean, variance = (np.asarray(array, np.float64) for array in arrays)
    scale = gamma / np.sqrt(variance + a.get("epsilon", 1e-5))
    shift, shape = beta - mean * scale, graph.shape(node.input[0])
    if shape[0] != 1:
        each = (-1, *(1,) * (len(shape) - 2))
        scaled = graph.add(
            node,
            OperationKind.MULTIPLY,
            [graph.operation(node.input[0]), graph.stored(node, scale.reshape(each), suffix=".scale")],
            suffix=".scaled",
        )
        return graph.add(node, OperationKind.ADD, [scaled, graph.stored(node, shift.reshape(each), suffix=".shift")])
    attributes = {"form": "batch", "scale": scale.astype(np.float32), "shift": shift.astype(np.float32)}
    return graph.add(node, OperationKind.NORMALISATION, [graph.operation(node.input[0])], attributes)


@rule("LayerNormalization")
def _layer_normalisation(graph: OnnxGraph, node: Any, a: Attributes) -> str | None:
    shape = graph.shape(node.input[0])
    axis = int(a.get("axis", -1)) % len(shape)
    scale, bias_name = graph.constant(node.input[1]), optional_input(node, 2)
    shift = graph.constant(bias_name) if bias_name else np.zeros(shape[axis:], np.float32)
    if scale is None or shift is None or any(node.output[1:]):
        return None
    source, _ = graph.along(node.input[0], axis)
    attributes = {"form": "layer", "axes": tuple(range(axis - len(shape), 0)), "epsilon": float(a.get("epsilon", 1e-5))}
    sides = {"scale": np.broadcast_to(scale, shape[axis:]), "shift": np.broadcast_to(shift, shape[axis:])}
    return graph.add(node, OperationKind.NORMALISATION, [source], {**attributes, **sides})


@rule("InstanceNormalization", "GroupNormalization")
def _group_normalisation(graph: OnnxGraph, node: Any, a: Attributes) -> str | None:
    """Every group of channels normalised over its channels and places; then a scale and a shift for each channel."""
    shape, scale, shift = graph.shape(node.input[0]), graph.constant(node.input[1]), graph.constant(node.input[2])
    if scale is None or shift is None or shape[0] != 1 or len(shape) < 3:
        return None
    groups = int(a["num_groups"]) if node.op_type == "GroupNormalization" else shape[1]
    if scale.size != shape[1]:  # before version 21 one number for each group
        scale, shift = (np.repeat(array.reshape(-1), shape[1] // groups) for array in (scale, shift))
    rows = (groups, math.prod(shape[1:]) // groups)
    flat = graph.add(node, OperationKind.RESHAPE, [graph.operation(node.input[0])], {"shape": rows}, suffix=".groups")
    plain = {"scale": np.ones(rows[1:], np.float32), "shift": np.zeros(rows[1:], np.float32)}
    attributes = {"form": "layer", "axes": (-1,), "epsilon": float(a.get("epsilon", 1e-5)), **plain}
    normal = graph.add(node, OperationKind.NORMALISATION, [flat], attributes, suffix=".normal")
    back = graph.add(node, OperationKind.RESHAPE, [normal], {"shape": shape[1:]}, suffix=".back")
    sides = {"form": "batch", "scale": scale.astype(np.float32), "shift": shift.astype(np.float32)}
    return graph.add(node, OperationKind.NORMALISATION, [back], sides)
