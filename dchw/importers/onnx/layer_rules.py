"""Rules of ONNX operators with weights: convolutions, their transposes, and products of matrices."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from dchw.graph.operations import Array, OperationKind
from dchw.importers import einsum
from dchw.importers.onnx.registry import Attributes, OnnxGraph, Shape, optional_input, rule

CONVOLUTION = {1: OperationKind.CONV1D, 2: OperationKind.CONV2D, 3: OperationKind.CONV3D}
"""Kind of a convolution over so many axes."""


def per_axis(values: Any, axes: int, default: int = 1) -> Shape:
    """A number for every axis."""
    given = tuple(int(x) for x in values) if values else (default,) * axes
    if len(given) != axes:
        raise ValueError(f"it needs {axes} numbers, one for each axis, and has {list(given)}")
    return given


def window_padding(
    a: Attributes, size: Sequence[int], kernel: Shape, stride: Shape, dilation: Shape
) -> tuple[Shape, Shape]:
    """What is put before and after each axis, from ``pads`` or ``auto_pad``."""
    axes, mode = len(kernel), a.get("auto_pad", "NOTSET")
    if mode in ("SAME_UPPER", "SAME_LOWER"):
        total = [
            max(0, (-(-size[i] // stride[i]) - 1) * stride[i] + dilation[i] * (kernel[i] - 1) + 1 - size[i])
            for i in range(axes)
        ]
        less, more = tuple(t // 2 for t in total), tuple(-(-t // 2) for t in total)
        return (less, more) if mode == "SAME_UPPER" else (more, less)
    pads = per_axis(a.get("pads") if mode != "VALID" else None, 2 * axes, 0)
    return pads[:axes], pads[axes:]


def even_padding(graph: OnnxGraph, node: Any, source: str, before: Shape, after: Shape) -> tuple[str, Shape]:
    """The source, padded with zeros where the two sides differ, and the padding left for the operation itself."""
    if min((*before, *after)) < 0:
        raise ValueError(f"it has negative padding, {list(before)} before and {list(after)} behind")
    if before == after:
        return source, before
    padding = ((0, 0), *zip(before, after, strict=True))
    padded = graph.add(node, OperationKind.PAD, [source], {"padding": padding, "value": 0.0}, suffix=".pad")
    return padded, (0,) * len(before)


def channel_bias(graph: OnnxGraph, node: Any, operation: str, bias: str | None, axes: int) -> str:
    """An operation [channels, *size] with a value added for each channel."""
    if bias is None:
        return operation
    array = graph.constant(bias)
    if array is None:
        source = graph.whole(bias)
        shaped = {"shape": (math.prod(graph.shape(bias)), *(1,) * axes)}
        other = graph.add(node, OperationKind.RESHAPE, [source], shaped, suffix=".bias")
    else:
        other = graph.stored(node, array.reshape(-1, *(1,) * axes), suffix=".bias")
    return graph.add(node, OperationKind.ADD, [operation, other])


# Convolutions -------------------------------------------------------------------------------------------------


@rule("Conv")
def _conv(graph: OnnxGraph, node: Any, a: Attributes) -> str | None:
    weight = graph.constant(node.input[1])
    if weight is None:
        return None
    return convolution(graph, node, a, node.input[0], (node.input[1], weight), optional_input(node, 2))


def convolution(
    graph: OnnxGraph, node: Any, a: Attributes, source: str, weight: tuple[str, Array], bias_name: str | None
) -> str | None:
    """A convolution with weights [out, in/groups, *kernel]. Several examples that cannot be told apart from the batch
    axis lie along an axis of their own, over which the kernel has size 1."""
    name, array = weight
    shape, axes = graph.shape(source), array.ndim - 2
    if axes not in CONVOLUTION or len(shape) != axes + 2:
        return None
    kernel, extra = array.shape[2:], shape[0] != 1
    stride, dilation = per_axis(a.get("strides"), axes), per_axis(a.get("dilations"), axes)
    before, after = window_padding(a, shape[2:], kernel, stride, dilation)
    operation = graph.operation(source)
    if extra:
        if axes == 3:
            return None
        order = (0, 2, 1, *range(3, axes + 3))
        turned = {"shape": (shape[1], shape[0], *shape[2:]), "permutation": order}
        operation = graph.add(node, OperationKind.RESHAPE, [operation], turned, suffix=".channels")
        array = array[:, :, None]
        stride, dilation, before, after = (1, *stride), (1, *dilation), (0, *before), (0, *after)
    operation, padding = even_padding(graph, node, operation, before, after)
    attributes = {"stride": stride, "padding": padding, "dilation": dilation, "groups": int(a.get("group", 1))}
    bias = graph.constant(bias_name) if bias_name else None
    bias = None if bias is None else bias.reshape(-1)
    kind = CONVOLUTION[axes + extra]
    made = graph.layer(node, kind, [operation], name, array, bias, attributes, bias_name=bias_name)
    if bias is None:
        made = channel_bias(graph, node, made, bias_name, axes + extra)
    if extra:
        channels, examples, *size = graph.builder.shape(made)
        turned = {"shape": (examples, channels, *size), "permutation": (0, 2, 1, *range(3, axes + 3))}
        made = graph.add(node, OperationKind.RESHAPE, [made], turned, suffix=".examples")
    return made


@rule("ConvTranspose")
def _conv_transpose(graph: OnnxGraph, node: Any, a: Attributes) -> str | None:
    """The product of every input pixel with all weights it meets, then what falls on one output pixel added up."""
    weight, shape = graph.constant(node.input[1]), graph.shape(node.input[0])
    if weight is None or weight.ndim - 2 not in CONVOLUTION or len(shape) != weight.ndim or shape[0] != 1:
        return None
    axes, groups = weight.ndim - 2, int(a.get("group", 1))
    inputs, per_group, *kernel = weight.shape
    stride, dilation = per_axis(a.get("strides"), axes), per_axis(a.get("dilations"), axes)
    before, more = _transposed_padding(graph, a, shape[2:], tuple(kernel), stride, dilation)
    if min(before) < 0:
        return None
    places = math.prod(kernel)
    split, order = (groups, inputs // groups, per_group, places), (0, 2, 3, 1)
    matrix = weight.reshape(split).transpose(order).reshape(-1, inputs // groups, *(1,) * axes)
    layout = {"origin": (tuple(split[i] for i in order), (0, 3, 1, 2), tuple(weight.shape))}
    source = graph.operation(node.input[0])
    plain = {"stride": (1,) * axes, "padding": (0,) * axes, "dilation": (1,) * axes, "groups": groups}
    product = graph.layer(
        node, CONVOLUTION[axes], [source], node.input[1], matrix, None, plain, layout=layout, suffix=".product"
    )
    cut = min(more) < 0  # more behind than before: everything is added up and then cut
    window = {"kernel": tuple(kernel), "stride": stride, "dilation": dilation}
    window |= {"padding": (0,) * axes if cut else before, "output_padding": (0,) * axes if cut else more}
    folded = graph.add(node, OperationKind.FOLD, [product], window, suffix=".fold")
    for axis, size in enumerate(graph.builder.shape(folded)[1:] if cut else ()):
        part = {"axis": axis + 2, "start": before[axis], "stop": size - before[axis] + more[axis], "step": 1}
        folded = graph.add(node, OperationKind.SLICE, [folded], part, suffix=".cut")
    return channel_bias(graph, node, folded, optional_input(node, 2), axes)


def _transposed_padding(
    graph: OnnxGraph, a: Attributes, size: Shape, kernel: Shape, stride: Shape, dilation: Shape
) -> tuple[Shape, Shape]:
    """What is cut before each axis, and what the far side has more than if the same were cut behind it."""
    axes = len(size)
    full = [(size[i] - 1) * stride[i] + dilation[i] * (kernel[i] - 1) + 1 for i in range(axes)]
    more, mode = per_axis(a.get("output_padding"), axes, 0), a.get("auto_pad", "NOTSET")
    wanted = a.get("output_shape") or ([s * t for s, t in zip(size, stride, strict=True)] if "SAME" in mode else None)
    if wanted:
        total = [full[i] + more[i] - int(wanted[-axes:][i]) for i in range(axes)]
        before = tuple((t + 1) // 2 if mode == "SAME_LOWER" else t // 2 for t in total)
    else:
        pads = per_axis(a.get("pads"), 2 * axes, 0)
        before, total = pads[:axes], [pads[i] + pads[i + axes] for i in range(axes)]
    return before, tuple(more[i] + 2 * before[i] - total[i] for i in range(axes))


# Products -----------------------------------------------------------------------------------------------------


@rule("Gemm")
def _gemm(graph: OnnxGraph, node: Any, a: Attributes) -> str | None:
    weight, bias_name = graph.constant(node.input[1]), optional_input(node, 2)
    alpha, beta = float(a.get("alpha", 1.0)), float(a.get("beta", 1.0))
    if weight is None or weight.ndim != 2 or len(graph.shape(node.input[0])) != 2 or graph.expected() is None:
        return None
    rows, columns = graph.expected() or (1, 1)
    source = graph.operation(node.input[0])
    if a.get("transA", 0):
        turned = {"shape": graph.shape(node.input[0])[::-1], "permutation": (0, 2, 1)}
        source = graph.add(node, OperationKind.RESHAPE, [graph.whole(node.input[0])], turned, suffix=".transposed")
        if rows == 1:
            source = graph.add(node, OperationKind.FLATTEN, [source], suffix=".row")
    matrix = weight if a.get("transB", 0) else weight.T
    layout = {} if a.get("transB", 0) else {"transposed": True}
    if alpha != 1.0:
        matrix, layout = matrix * np.float32(alpha), {"computed": True}
    added = graph.constant(bias_name) if bias_name else None
    if added is not None and beta != 1.0:
        added = added * np.float32(beta)
    if added is not None:
        np.broadcast_to(added, (rows, columns))  # raises where it does not fit
    for_all = added is not None and (rows == 1 or math.prod(added.shape[:-1]) == 1)
    bias = np.broadcast_to(added.reshape(-1), (columns,)) if for_all and added is not None else None
    name = bias_name if beta == 1.0 and added is not None and added.size == columns else None
    made = graph.layer(node, OperationKind.LINEAR, [source], node.input[1], matrix, bias, bias_name=name, layout=layout)
    if bias_name is None or bias is not None:
        return made
    if added is None:
        other = graph.operation(bias_name)
        if beta != 1.0:
            factor = graph.stored(node, beta, suffix=".beta")
            other = graph.add(node, OperationKind.MULTIPLY, [other, factor], suffix=".scaled")
    else:
        other = graph.stored(node, added, suffix=".c")
    return graph.add(node, OperationKind.ADD, [made, other], suffix=".add")


@rule("MatMul")
def _matmul(graph: OnnxGraph, node: Any, a: Attributes) -> str | None:
    right = graph.constant(node.input[1])
    left = graph.constant(node.input[0])
    if right is not None and right.ndim >= 2 and math.prod(right.shape[:-2]) == 1:
        matrix = right.reshape(right.shape[-2:])
        return dense(graph, node, node.input[0], (node.input[1], matrix.T), {"transposed": True})
    if left is not None and left.ndim == 2 and len(graph.shape(node.input[1])) >= 2:
        source = _swapped(graph, node, graph.whole(node.input[1]), ".columns")
        made = graph.layer(node, OperationKind.LINEAR, [source], node.input[0], left)
        return _swapped(graph, node, made, ".rows")
    return product(graph, node, node.input[0], node.input[1])


@rule("Einsum")
def _einsum(graph: OnnxGraph, node: Any, a: Attributes) -> str | None:
    """A product of two operands: summed with a constant a linear layer, of two values a matrix product."""
    equation, operands = einsum.equation_of(a["equation"]), list(node.input)
    if equation is None:
        return None
    if graph.constant(operands[0]) is not None:
        equation, operands = equation.turned(), operands[::-1]
    left, right, summed, size = list(equation.left), list(equation.right), equation.summed, dict[str, int]()
    if not all(einsum.agree(ours, graph.shape(x), size) for ours, x in zip((left, right), operands, strict=True)):
        return None

    def emit(kind: OperationKind, sources: Sequence[str], attributes: Attributes, suffix: str) -> str:
        return graph.add(node, kind, sources, attributes, suffix=suffix)

    weight = graph.constant(operands[1])
    if weight is None or equation.shared or not summed:
        sources = [graph.whole(operand) for operand in operands]
        return einsum.product(emit, sources, (left, right), summed, list(equation.out), size)
    order, columns = einsum.matrix_order(equation.right, summed), math.prod(size[letter] for letter in summed)
    turned = weight.transpose(order)
    layout = {"origin": (turned.shape, tuple(np.argsort(order).tolist()), weight.shape)}
    return einsum.linear(
        emit,
        lambda rows: graph.layer(
            node, OperationKind.LINEAR, [rows], operands[1], turned.reshape(-1, columns), layout=layout
        ),
        graph.whole(operands[0]),
        left,
        equation.right,
        summed,
        list(equation.out),
        size,
    )


def dense(
    graph: OnnxGraph, node: Any, source: str, weight: tuple[str, Array], layout: Attributes | None = None
) -> str | None:
    """A linear layer over the last axis of a value; the weight is [out, in]."""
    shape = graph.shape(source)
    if not shape:
        return None
    operation, _ = graph.along(source, len(shape) - 1)
    return graph.layer(node, OperationKind.LINEAR, [operation], weight[0], weight[1], layout=layout)


def product(graph: OnnxGraph, node: Any, left: str, right: str) -> str | None:
    """The matrix product of two values, of which at least one depends on the inputs."""
    rank = max(len(graph.shape(left)), len(graph.shape(right)))
    if min(len(graph.shape(left)), len(graph.shape(right))) < 2:
        return None
    made = []
    drop = rank > 2 and all(len(graph.shape(x)) < rank or graph.shape(x)[0] == 1 for x in (left, right))
    for value in (left, right):
        shape = graph.shape(value)
        full = (1,) * (rank - len(shape)) + shape
        wanted, source = full[1:] if drop else full, graph.operation(value)
        if graph.builder.shape(source) != wanted:
            source = graph.add(node, OperationKind.RESHAPE, [source], {"shape": wanted}, suffix=".operand")
        made.append(source)
    return graph.add(node, OperationKind.MATMUL, made)


def _swapped(graph: OnnxGraph, node: Any, operation: str, suffix: str) -> str:
    """The last two axes of an operation in the other order."""
    *rest, rows, columns = graph.builder.shape(operation)
    order = (*range(len(rest) + 1), len(rest) + 2, len(rest) + 1)
    return graph.add(
        node,
        OperationKind.RESHAPE,
        [operation],
        {"shape": (*rest, columns, rows), "permutation": order},
        suffix=suffix,
    )
