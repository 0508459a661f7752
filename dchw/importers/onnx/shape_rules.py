"""Rules of ONNX operators that only move or pick values: reshaping, splitting, concatenating, padding."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from dchw.graph.network import OperationKind
from dchw.importers.onnx.registry import Attributes, OnnxGraph, add, optional_input, rule


@rule("Identity", "Dropout")
def _identity(graph: OnnxGraph, node: Any, a: Attributes) -> str:
    return graph.builder.identity(graph.name(node), graph.operation(node.input[0]))


@rule("Flatten")
def _flatten(graph: OnnxGraph, node: Any, a: Attributes) -> str | None:
    if a.get("axis", 1) != 1:
        return None
    return graph.builder.flatten(graph.name(node), graph.operation(node.input[0]))


@rule("Reshape")
def _reshape(graph: OnnxGraph, node: Any, a: Attributes) -> str | None:
    target, before = graph.constant(node.input[1]), graph.shape(node.input[0])
    if target is None or a.get("allowzero", 0) or target.size < 2:
        return None
    sizes = [before[i] if size == 0 and i < len(before) else int(size) for i, size in enumerate(target[1:])]
    total = math.prod(before)
    if -1 in sizes:
        rest = math.prod(size for size in sizes if size != -1)
        sizes[sizes.index(-1)] = total // rest if rest else 0
    if math.prod(sizes) != total:
        return None  # the batch axis is merged with another
    return _reshaped(graph, node, tuple(sizes))


def _reshaped(graph: OnnxGraph, node: Any, shape: tuple[int, ...]) -> str:
    if len(shape) == 1:
        return graph.builder.flatten(graph.name(node), graph.operation(node.input[0]))
    return add(graph, node, OperationKind.RESHAPE, {"shape": shape})


def _axes(graph: OnnxGraph, node: Any, a: Attributes, rank: int) -> list[int] | None:
    given = optional_input(node, 1)
    listed = graph.constant(given) if given else a.get("axes")
    return None if listed is None else sorted(int(axis) % rank for axis in np.asarray(listed).reshape(-1))


@rule("Squeeze")
def _squeeze(graph: OnnxGraph, node: Any, a: Attributes) -> str | None:
    shape = graph.shape(node.input[0])
    axes = _axes(graph, node, a, len(shape) + 1)
    if axes is None or 0 in axes:
        return None
    return _reshaped(graph, node, tuple(size for i, size in enumerate(shape) if i + 1 not in axes))


@rule("Unsqueeze")
def _unsqueeze(graph: OnnxGraph, node: Any, a: Attributes) -> str | None:
    shape, given = list(graph.shape(node.input[0])), optional_input(node, 1)
    listed = graph.constant(given) if given else np.asarray(a["axes"])
    if listed is None:
        return None
    axes = sorted(int(axis) % (len(shape) + 1 + listed.size) for axis in listed.reshape(-1))
    if 0 in axes:
        return None
    for axis in axes:
        shape.insert(axis - 1, 1)
    return _reshaped(graph, node, tuple(shape))


@rule("Transpose")
def _transpose(graph: OnnxGraph, node: Any, a: Attributes) -> str | None:
    shape, order = graph.shape(node.input[0]), a.get("perm")
    if not order or order[0] != 0:
        return None
    permuted = tuple(shape[axis - 1] for axis in order[1:])
    return add(graph, node, OperationKind.RESHAPE, {"shape": permuted, "permutation": tuple(order)})


@rule("Concat")
def _concat(graph: OnnxGraph, node: Any, a: Attributes) -> str | None:
    axis = a["axis"] % (len(graph.shape(node.input[0])) + 1)
    if axis == 0:
        return None
    return graph.builder.concat(graph.name(node), [graph.operation(value) for value in node.input], axis)


@rule("Split")
def _split(graph: OnnxGraph, node: Any, a: Attributes) -> list[str] | None:
    shape, given = graph.shape(node.input[0]), optional_input(node, 1)
    axis = a.get("axis", 0) % (len(shape) + 1)
    listed = graph.constant(given) if given else a.get("split")
    if axis == 0 or (given and listed is None):
        return None
    count = len(node.output)
    equal = -(-shape[axis - 1] // count)
    sizes = [equal] * (count - 1) + [shape[axis - 1] - equal * (count - 1)] if listed is None else list(listed)
    names, start, source = [], 0, graph.operation(node.input[0])
    for index, size in enumerate(sizes):
        attributes = {"axis": axis, "start": start, "stop": start + int(size), "step": 1}
        name = f"{graph.name(node)}.{index}"
        names.append(graph.builder.add(OperationKind.SLICE, name, [source], attributes))
        start += int(size)
    return names


@rule("Pad")
def _pad(graph: OnnxGraph, node: Any, a: Attributes) -> str | None:
    shape, given, filled = graph.shape(node.input[0]), optional_input(node, 1), optional_input(node, 2)
    listed = graph.constant(given) if given else a.get("pads")
    value = graph.constant(filled) if filled else a.get("value", 0.0)
    if a.get("mode", "constant") != "constant" or listed is None or value is None or optional_input(node, 3):
        return None
    pads = [int(size) for size in listed]
    rank = len(shape) + 1
    padding = tuple((pads[i], pads[i + rank]) for i in range(rank))
    if len(pads) != 2 * rank or padding[0] != (0, 0) or min(pads) < 0:
        return None
    attributes = {"padding": padding[1:], "value": float(np.asarray(value))}
    return add(graph, node, OperationKind.PAD, attributes)
