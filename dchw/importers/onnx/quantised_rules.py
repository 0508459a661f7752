"""Rules of ONNX operators on quantised values. Here such values are the real ones that their whole numbers stand for.

Weights come in dequantised. Rounding of activations is computed as it is: QuantizeLinear, DynamicQuantizeLinear and the
outputs of QLinear operators are ACTIVATIONs that round to the steps of the scale. The scale of DynamicQuantizeLinear
depends on the values, so that whole numbers behind it have no fixed step; they are read at a step of `_STEP` instead,
with which every later multiplication by the scale gives the real values. What the file rounds to a whole multiple of
such a scale, as converters do with biases, is rounded to that finer step: the walk notes it.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from dchw.graph.operations import Array, OperationKind
from dchw.importers.onnx.arithmetic_rules import function, operands
from dchw.importers.onnx.layer_rules import convolution, dense, product
from dchw.importers.onnx.registry import Attributes, OnnxGraph, Quantised, Value, optional_input, rule

_STEP = 2.0**-12
_RANGE = {2: (0, 255), 3: (-128, 127), 4: (0, 65535), 5: (-32768, 32767), 21: (0, 15), 22: (-8, 7)}
"""ONNX's element types that are quantised to, with their ranges."""


def _scheme(graph: OnnxGraph, scale: str, zero: str | None, dtype: int = 2) -> Quantised | None:
    """One step and zero for a whole array; None for several, or ones that are not constant."""
    step, place = graph.constant(scale), graph.constant(zero) if zero else np.zeros((), np.uint8)
    if step is None or place is None or step.size != 1 or place.size != 1:
        return None
    low, high = _RANGE.get(graph.value(zero).dtype if zero else dtype, (0, 255))
    return Quantised(scale=float(step.reshape(())), zero=int(place.reshape(())), low=low, high=high)


def _rounded(graph: OnnxGraph, node: Any, source: str, how: Quantised) -> str:
    graph.quantises(how)
    return function(
        graph,
        node,
        source,
        "quantise",
        step=how.scale,
        low=float(how.low - how.zero),
        high=float(how.high - how.zero),
        suffix=".rounded",
    )


@rule("QuantizeLinear")
def _quantise(graph: OnnxGraph, node: Any, a: Attributes) -> str | None:
    how = _scheme(graph, node.input[1], optional_input(node, 2))
    return None if how is None else _rounded(graph, node, graph.operation(node.input[0]), how)


@rule("DequantizeLinear")
def _dequantise(graph: OnnxGraph, node: Any, a: Attributes) -> str | None:
    value, how = graph.value(node.input[0]), _scheme(graph, node.input[1], optional_input(node, 2))
    if how is None:
        return None
    source, held = graph.operation(node.input[0]), value.quantised
    if held is not None and (held.scale, held.zero) == (how.scale, how.zero):
        return graph.add(node, OperationKind.IDENTITY, [source])
    if held is not None:
        return None
    return _real(graph, node, source, how)


def _real(graph: OnnxGraph, node: Any, source: str, how: Quantised) -> str:
    """The real values of an operation that gives whole numbers."""
    if how.zero:
        source = graph.add(
            node,
            OperationKind.ELEMENTWISE,
            [source, graph.stored(node, how.zero, suffix=".zero")],
            {"function": "subtract"},
            suffix=".offset",
        )
    return graph.add(node, OperationKind.MULTIPLY, [source, graph.stored(node, how.scale, suffix=".scale")])


@rule("DynamicQuantizeLinear")
def _quantise_dynamically(graph: OnnxGraph, node: Any, a: Attributes) -> list[str | Value]:
    graph.notes.say("activations rounded to a step of their own range are read at a fixed step, which cancels out")
    graph.quantises(Quantised(scale=_STEP, zero=0, low=0, high=255))
    rounded = function(graph, node, graph.operation(node.input[0]), "quantise_dynamic", suffix=".rounded")
    scale = Value(shape=(), dtype=1, constant=np.asarray(_STEP, np.float32), stands_in=True)
    return [rounded, scale, Value(shape=(), dtype=2, constant=np.zeros((), np.uint8))]


# Products -----------------------------------------------------------------------------------------------------


def _weights(graph: OnnxGraph, name: str, scale: Array, zero: str | None, axis: int) -> Array | None:
    """Real weights: (whole numbers - zero) * scale, both one for all or one along an axis."""
    array = graph.constant(name)
    place = graph.constant(zero) if zero else np.zeros((), np.int32)
    if array is None or place is None:
        return None
    along = [1] * array.ndim
    along[axis] = -1
    scale, place = (x.reshape(along) if x.size > 1 else x.reshape(()) for x in (scale, place))
    return ((array.astype(np.float32) - place.astype(np.float32)) * scale).astype(np.float32)


def _note(graph: OnnxGraph) -> None:
    graph.notes.say("quantised weights are dequantised")


@rule("QLinearConv")
def _quantised_conv(graph: OnnxGraph, node: Any, a: Attributes) -> str | None:
    x, x_scale, x_zero, w, w_scale, w_zero, y_scale, y_zero, *rest = node.input
    before, after = _scheme(graph, x_scale, x_zero), _scheme(graph, y_scale, y_zero)
    scale = graph.constant(w_scale)
    weight = None if scale is None else _weights(graph, w, scale, w_zero, 0)
    if before is None or after is None or scale is None or weight is None or not _holds(graph, x, before):
        return None
    made = convolution(graph, node, a, x, (w, weight), None)
    if made is None:
        return None
    bias = graph.constant(rest[0]) if rest and rest[0] else None
    if bias is not None:
        values = (bias.astype(np.float64) * before.scale * scale.reshape(-1)).astype(np.float32)
        if not graph.amend_layer(made, bias=values):
            return None
    _note(graph)
    return _rounded(graph, node, made, after)


@rule("QLinearMatMul")
def _quantised_matmul(graph: OnnxGraph, node: Any, a: Attributes) -> str | None:
    x, x_scale, x_zero, w, w_scale, w_zero, y_scale, y_zero = node.input
    before, after = _scheme(graph, x_scale, x_zero), _scheme(graph, y_scale, y_zero)
    scale = graph.constant(w_scale)
    if before is None or after is None or scale is None or not _holds(graph, x, before):
        return None
    weight = _weights(graph, w, scale, w_zero, -1)
    if weight is None:
        inner = _scheme(graph, w_scale, w_zero)
        if inner is None or not _holds(graph, w, inner):
            return None
        made = product(graph, node, x, w)
    else:
        made = dense(graph, node, x, (w, weight.T)) if weight.ndim == 2 else None
        _note(graph)
    return None if made is None else _rounded(graph, node, made, after)


def _holds(graph: OnnxGraph, name: str, how: Quantised) -> bool:
    """Whether an operation gives the real values of a scheme."""
    held = graph.value(name).quantised
    return held is not None and (held.scale, held.zero) == (how.scale, how.zero)


@rule("ConvInteger", "MatMulInteger")
def _whole_numbers(graph: OnnxGraph, node: Any, a: Attributes) -> str | None:
    """Products of whole numbers: of real activations with weights that a later multiplication scales."""
    x, w, x_zero, w_zero = (*node.input, "", "")[:4]
    held = graph.value(x).quantised
    zero = graph.constant(x_zero) if x_zero else np.zeros((), np.uint8)
    if held is None or zero is None or zero.size != 1 or int(zero.reshape(())) != held.zero:
        return None
    conv = node.op_type == "ConvInteger"
    weight = _weights(graph, w, np.asarray(1 / held.scale, np.float32), w_zero or None, 0 if conv else -1)
    if weight is None or (not conv and weight.ndim != 2):
        return None
    made = convolution(graph, node, a, x, (w, weight), None) if conv else dense(graph, node, x, (w, weight.T))
    if made is not None:
        _note(graph)
        op = graph.builder.operation(made)
        if op.weight is not None:
            graph.builder.amend(made, attributes={**op.attributes, "whole_numbers": True})
    return made


# onnxruntime's own --------------------------------------------------------------------------------------------


@rule("QLinearAdd", "QLinearMul")
def _quantised_pair(graph: OnnxGraph, node: Any, a: Attributes) -> str | None:
    x, x_scale, x_zero, y, y_scale, y_zero, scale, zero = node.input
    schemes = [_scheme(graph, x_scale, x_zero), _scheme(graph, y_scale, y_zero), _scheme(graph, scale, zero)]
    if any(how is None for how in schemes) or graph.constant(x) is not None or graph.constant(y) is not None:
        return None
    if not all(how is not None and _holds(graph, name, how) for name, how in zip((x, y), schemes, strict=False)):
        return None
    kind = OperationKind.ADD if node.op_type == "QLinearAdd" else OperationKind.MULTIPLY
    made = graph.add(node, kind, operands(graph, node, [x, y]))
    assert schemes[2] is not None
    shape = np.broadcast_shapes(graph.shape(x), graph.shape(y))
    return graph.shaped(_rounded(graph, node, made, schemes[2]), shape, graph.value(x).dtype)
