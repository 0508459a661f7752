"""Rules of ONNX operators that slide windows or change the size of an image: pooling, resizing."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import numpy as np

from dchw.graph.operations import Array, OperationKind
from dchw.graph.shapes import pooled_size
from dchw.importers.onnx.layer_rules import per_axis, window_padding
from dchw.importers.onnx.registry import Attributes, OnnxGraph, Rule, Shape, optional_input, rule


def _pool(kind: OperationKind) -> Rule:
    """Pooling over one axis or two. The kinds of this package pad both sides alike and as far as less than a window;
    anything else is padded before, and an average then multiplied by what it was divided by too much."""

    def pool(graph: OnnxGraph, node: Any, a: Attributes) -> str | None:
        shape = graph.shape(node.input[0])
        axes = len(shape) - 2
        if axes not in (1, 2) or len([name for name in node.output if name]) > 1:
            return None
        kernel, stride = per_axis(a["kernel_shape"], axes), per_axis(a.get("strides"), axes)
        dilation = per_axis(a.get("dilations"), axes)
        if min(*kernel, *stride, *dilation) < 1:
            raise ValueError(f"kernel {kernel}, strides {stride} and dilations {dilation} must be at least 1")
        size, (before, after) = shape[2:], window_padding(a, shape[2:], kernel, stride, dilation)
        if axes == 1:
            size, kernel, stride, dilation = (1, *size), (1, *kernel), (1, *stride), (1, *dilation)
            before, after = (0, *before), (0, *after)
        image = (shape[0] * shape[1], *size)  # examples beside channels: a pool does not mix either
        source = graph.operation(node.input[0])
        if graph.builder.shape(source) != image:
            source = graph.add(node, OperationKind.RESHAPE, [source], {"shape": image}, suffix=".image")
        window = (kernel, stride, dilation)
        out = _out_size(size, window, before, after, bool(a.get("ceil_mode", 0)))
        count = kind is OperationKind.AVERAGE_POOL2D and bool(a.get("count_include_pad", 0))
        made = _pooled(graph, node, kind, source, window, (before, after), out, count)
        return graph.shaped(made, (*shape[:2], *out[2 - axes :]))  # rounded up, onnx's inference may say one more

    return pool


Window = tuple[Shape, Shape, Shape]


def _out_size(size: Shape, window: Window, before: Shape, after: Shape, ceil_mode: bool) -> Shape:
    """Places of a window: rounded up, the last may reach over the far padding but not start in it."""
    out = []
    for i, (kernel, stride, dilation) in enumerate(zip(*window, strict=True)):
        span = size[i] + before[i] + after[i] - dilation * (kernel - 1) - 1
        count = (-(-span // stride) if ceil_mode else span // stride) + 1
        if ceil_mode and (count - 1) * stride >= size[i] + before[i]:
            count -= 1
        if count < 1:
            raise ValueError(f"a window of {kernel} does not fit an axis of {size[i]} with its padding")
        out.append(count)
    return tuple(out)


def _pooled(
    graph: OnnxGraph,
    node: Any,
    kind: OperationKind,
    source: str,
    window: Window,
    pads: tuple[Shape, Shape],
    out: Shape,
    count_padding: bool,
) -> str:
    kernel, stride, dilation = window
    before, after = pads
    _, *size = graph.builder.shape(source)
    attributes: Attributes = {"kernel": kernel, "stride": stride, "padding": before, "ceil_mode": False}
    average = kind is OperationKind.AVERAGE_POOL2D
    if average:
        attributes["count_include_pad"] = count_padding
    else:
        attributes["dilation"] = dilation
    plain = before == after and all(p < k for p, k in zip(before, kernel, strict=True)) and dilation == (1, 1)
    for ceil_mode in (False, True):
        fits = plain and pooled_size((size[0], size[1]), kernel, stride, before, ceil_mode=ceil_mode) == out  # type: ignore[arg-type]
        if fits:
            return graph.add(node, kind, [source], {**attributes, "ceil_mode": ceil_mode})
    reach = [(out[i] - 1) * stride[i] + dilation[i] * (kernel[i] - 1) + 1 - size[i] - before[i] for i in (0, 1)]
    padding = ((0, 0), *((before[i], max(0, reach[i])) for i in (0, 1)))
    fill = 0.0 if average else -math.inf
    if any(any(sides) for sides in padding):
        source = graph.add(node, OperationKind.PAD, [source], {"padding": padding, "value": fill}, suffix=".pad")
    if average and dilation != (1, 1):
        raise ValueError("an average over a window with gaps")
    attributes["padding"] = (0, 0)
    made = graph.add(node, kind, [source], attributes)
    if not average:
        return made
    counts = [_counts(size[i], kernel[i], stride[i], before[i], after[i], out[i], count_padding) for i in (0, 1)]
    factor = math.prod(kernel) / np.maximum(np.outer(*counts), 1)
    if (factor == 1).all():
        return made
    return graph.add(node, OperationKind.MULTIPLY, [made, graph.stored(node, factor[None])], suffix=".counted")


def _counts(size: int, kernel: int, stride: int, before: int, after: int, out: int, padding: bool) -> Array:
    """How many values of an axis each window averages; with its padding, if that counts."""
    low, high = (-before, size + after) if padding else (0, size)
    start = np.arange(out) * stride - before
    return np.minimum(start + kernel, high) - np.maximum(start, low)


rule("MaxPool")(_pool(OperationKind.MAX_POOL2D))
rule("AveragePool")(_pool(OperationKind.AVERAGE_POOL2D))


@rule("GlobalAveragePool", "GlobalMaxPool")
def _global_pool(graph: OnnxGraph, node: Any, a: Attributes) -> str:
    shape = graph.shape(node.input[0])
    average = node.op_type == "GlobalAveragePool"
    if average and len(shape) == 4 and shape[0] == 1:
        return graph.builder.global_average_pool(graph.name(node), graph.operation(node.input[0]))
    source, shift = graph.along(node.input[0], *range(2, len(shape)))
    attributes: Attributes = {"axes": tuple(axis + shift for axis in range(2, len(shape))), "keep": True}
    if average:
        return graph.add(node, OperationKind.MEAN, [source], attributes)
    return graph.add(node, OperationKind.REDUCE, [source], {"function": "maximum", **attributes})


_ROUNDING: Mapping[str, Callable[[Array], Array]] = MappingProxyType(
    {
        "floor": np.floor,
        "ceil": np.ceil,
        "round_prefer_floor": lambda x: np.ceil(x - 0.5),
        "round_prefer_ceil": lambda x: np.floor(x + 0.5),
    }
)


@rule("Resize", "Upsample")
def _resize(graph: OnnxGraph, node: Any, a: Attributes) -> str | None:
    """By nearest places along any axes, or linearly over the last one or two axes of an image."""
    shape, out = graph.shape(node.input[0]), graph.expected()
    if out is None or len(out) != len(shape):
        return None
    scales = _scales(graph, node, a, shape, out)
    older = node.op_type == "Upsample" or graph.version < 11
    places = "asymmetric" if older else a.get("coordinate_transformation_mode", "half_pixel")
    mode = a.get("mode", "nearest")
    if scales is None or places == "tf_crop_and_resize" or a.get("antialias", 0) or a.get("exclude_outside", 0):
        return None
    if mode == "nearest":
        rounding = "floor" if older else a.get("nearest_mode", "round_prefer_floor")
        return _nearest(graph, node, shape, out, scales, places, rounding)
    if mode not in ("linear", "bilinear") or len(shape) not in (3, 4) or shape[0] != 1 or out[:2] != shape[:2]:
        return None
    if places not in ("half_pixel", "align_corners", "pytorch_half_pixel"):
        return None
    if places == "pytorch_half_pixel" and any(new == 1 for new in out[2:]):
        return None
    corners = places == "align_corners"
    step = tuple(
        ((old - 1) / (new - 1) if new > 1 else 0.0) if corners else 1 / scale
        for old, new, scale in zip(shape[2:], out[2:], scales[2:], strict=True)
    )
    attributes = {"output": out[2:], "mode": "linear", "align_corners": corners, "step": step}
    return graph.add(node, OperationKind.RESIZE, [graph.operation(node.input[0])], attributes)


def _scales(graph: OnnxGraph, node: Any, a: Attributes, shape: Shape, out: Shape) -> list[float] | None:
    """How many outputs there are for an input, for every axis."""
    place = 1 if node.op_type == "Upsample" or graph.version < 11 else 2
    given = optional_input(node, place)
    array = graph.constant(given) if given else None
    if given and array is None:
        return None
    listed_scales = [float(x) for x in array.reshape(-1)] if array is not None else list(a.get("scales", []))
    if "axes" in a and listed_scales:
        by_axis = dict(zip((axis % len(shape) for axis in a["axes"]), listed_scales, strict=True))
        listed_scales = [by_axis.get(axis, 1.0) for axis in range(len(shape))]
    return listed_scales or [new / old for old, new in zip(shape, out, strict=True)]


def _nearest(
    graph: OnnxGraph, node: Any, shape: Shape, out: Shape, scales: list[float], places: str, rounding: str
) -> str | None:
    taken = []
    for axis, (old, new, scale) in enumerate(zip(shape, out, scales, strict=True)):
        at = np.arange(new, dtype=np.float64)
        if places == "align_corners":
            at = at * ((old - 1) / (new - 1) if new > 1 else 0.0)
        elif places == "asymmetric":
            at = at / scale
        elif places == "half_pixel" or (places == "pytorch_half_pixel" and new > 1):
            at = (at + 0.5) / scale - 0.5
        elif places == "half_pixel_symmetric":
            at = old / 2 * (1 - new / (scale * old)) + (at + 0.5) / scale - 0.5
        elif places == "pytorch_half_pixel":
            at = at * 0
        else:
            return None
        taken.append((axis, np.clip(_ROUNDING[rounding](at), 0, old - 1).astype(int)))
    source, shift = graph.along(node.input[0], *(axis for axis, _ in taken if out[axis] != shape[axis]))
    spatial = [at for axis, at in taken if axis >= 2]
    if len(shape) == 4 and shape[0] == 1 and out[1] == shape[1]:
        step = [old / new for old, new in zip(shape[2:], out[2:], strict=True)]
        usual = [
            np.minimum(np.floor(np.arange(new) * np.float32(move)).astype(int), old - 1)
            for old, new, move in zip(shape[2:], out[2:], step, strict=True)
        ]
        if all(np.array_equal(x, y) for x, y in zip(spatial, usual, strict=True)):
            attributes = {"output": out[2:], "mode": "nearest", "align_corners": False, "step": tuple(step)}
            return graph.add(node, OperationKind.RESIZE, [graph.operation(node.input[0])], attributes)
    for axis, indices in taken:
        if not np.array_equal(indices, np.arange(shape[axis])):
            attributes = {"axis": axis + shift, "indices": tuple(int(i) for i in indices)}
            source = graph.add(node, OperationKind.GATHER, [source], attributes)
    return source


@rule("LRN")
def _local_response(graph: OnnxGraph, node: Any, a: Attributes) -> str | None:
    if a["size"] % 2 == 0 or graph.shape(node.input[0])[0] != 1:
        return None  # onnx centres an even window elsewhere than torch and Caffe
    alpha, beta, k = float(a.get("alpha", 1e-4)), float(a.get("beta", 0.75)), float(a.get("bias", 1.0))
    source = graph.operation(node.input[0])
    return graph.builder.local_response(graph.name(node), source, int(a["size"]), alpha, beta, k)
