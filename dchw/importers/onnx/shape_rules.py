"""Rules of ONNX operators that only move or pick values: reshaping, splitting, concatenating, padding, gathering."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from dchw.graph.operations import Array, OperationKind
from dchw.importers.onnx.registry import Attributes, OnnxGraph, Shape, listed, optional_input, rule, without_batch

_MOST_PLACES = 1 << 20
"""Places that are picked one by one along an axis, at most: they stand in the network's file."""


@rule("Identity", "Dropout")
def _identity(graph: OnnxGraph, node: Any, a: Attributes) -> str:
    return graph.add(node, OperationKind.IDENTITY, [graph.operation(node.input[0])])


@rule("Reshape", "Flatten", "Squeeze", "Unsqueeze")
def _reshape(graph: OnnxGraph, node: Any, a: Attributes) -> str | None:
    """The same values in another shape, which onnx's inference knows."""
    source, shape, before = graph.operation(node.input[0]), graph.expected(), graph.shape(node.input[0])
    if shape is None or (graph.batch and math.prod(shape) != math.prod(before)):
        shape = _without_fixed_batch(graph, node, before)
    if shape is None:
        return None
    graph.shaped(source, shape)
    wanted = without_batch(shape)
    if len(wanted) == 1:
        return graph.shaped(graph.builder.flatten(graph.name(node), source), shape)
    return graph.shaped(graph.add(node, OperationKind.RESHAPE, [source], {"shape": wanted}), shape)


def _without_fixed_batch(graph: OnnxGraph, node: Any, before: Shape) -> Shape | None:
    """The shape a reshaping means for one example, where the file says how many it has."""
    target = graph.constant(node.input[1]) if node.op_type == "Reshape" else None
    if target is None or not target.size or int(target[0]) != graph.batch:
        return None
    sizes = [1, *(before[i] if size == 0 else int(size) for i, size in enumerate(target[1:], 1))]
    if -1 in sizes:
        rest = math.prod(size for size in sizes if size != -1)
        sizes[sizes.index(-1)] = math.prod(before) // rest if rest else 0
    return tuple(sizes) if math.prod(sizes) == math.prod(before) else None


@rule("Transpose")
def _transpose(graph: OnnxGraph, node: Any, a: Attributes) -> str:
    shape = graph.shape(node.input[0])
    order = tuple(a.get("perm") or range(len(shape))[::-1])
    if shape[:1] == (1,) and order[0] == 0:
        source, permutation = graph.operation(node.input[0]), order
        permuted = tuple(shape[axis] for axis in order[1:])
    else:
        source, permutation = graph.whole(node.input[0]), (0, *(axis + 1 for axis in order))
        permuted = tuple(shape[axis] for axis in order)
    return graph.add(node, OperationKind.RESHAPE, [source], {"shape": permuted, "permutation": permutation})


@rule("Concat")
def _concat(graph: OnnxGraph, node: Any, a: Attributes) -> str:
    axis = a["axis"] % len(graph.shape(node.input[0]))
    parts = [name for name in node.input if math.prod(graph.shape(name))] or list(node.input[:1])
    alike = axis != 0 and all(graph.shape(name)[:1] == (1,) for name in parts)
    sources = [graph.operation(name) if alike else graph.whole(name) for name in parts]
    if len(sources) == 1:
        return graph.add(node, OperationKind.IDENTITY, sources)
    return graph.builder.concat(graph.name(node), sources, axis if alike else axis + 1)


def picked(graph: OnnxGraph, node: Any, source: str, axis: int, places: Array, suffix: str = "") -> str:
    """Some places of an operation's axis: a slice where they are evenly spaced and rise, a list otherwise."""
    size = graph.builder.shape(source)[axis - 1]
    if places.size and (places.min() < 0 or places.max() >= size):
        raise IndexError(f"it picks place {int(places.max())} of an axis of {size}")
    steps = np.unique(np.diff(places))
    if places.size and len(steps) <= 1 and (not len(steps) or steps[0] > 0):
        step = int(steps[0]) if len(steps) else 1
        attributes: Attributes = {"axis": axis, "start": int(places[0]), "stop": int(places[-1]) + 1, "step": step}
        return graph.add(node, OperationKind.SLICE, [source], attributes, suffix=suffix)
    if not 0 < places.size <= _MOST_PLACES:
        raise ValueError(f"it picks {places.size:,} places of an axis; from 1 to {_MOST_PLACES:,} are read here")
    attributes = {"axis": axis, "indices": tuple(int(place) for place in places)}
    return graph.add(node, OperationKind.GATHER, [source], attributes, suffix=suffix)


@rule("Split")
def _split(graph: OnnxGraph, node: Any, a: Attributes) -> list[str] | None:
    shape = graph.shape(node.input[0])
    axis = a.get("axis", 0) % len(shape)
    parts = listed(graph, node, a, 1, "split")
    if parts is None and optional_input(node, 1):
        return None
    if parts is None:
        count = len(node.output)
        equal = -(-shape[axis] // count)
        parts = [equal] * (count - 1) + [shape[axis] - equal * (count - 1)]
    source, shift = graph.along(node.input[0], axis)
    names, start = [], 0
    for index, size in enumerate(parts):
        places = np.arange(start, start + size)
        names.append(picked(graph, node, source, axis + shift, places, f".{index}"))
        start += size
    return names


@rule("Slice")
def _slice(graph: OnnxGraph, node: Any, a: Attributes) -> str | None:
    shape = graph.shape(node.input[0])
    starts, ends = listed(graph, node, a, 1, "starts"), listed(graph, node, a, 2, "ends")
    if starts is None or ends is None:
        return None
    axes = listed(graph, node, a, 3, "axes") or list(range(len(starts)))
    steps = listed(graph, node, a, 4, "steps") or [1] * len(starts)
    taken: dict[int, range] = {}
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        taken[axis % len(shape)] = range(*slice(start, end, step).indices(shape[axis % len(shape)]))
    if any(len(places) == 0 for places in taken.values()):
        return None
    moved = {axis: places for axis, places in taken.items() if places != range(shape[axis])}
    source, shift = graph.along(node.input[0], *moved)
    if not moved:
        return graph.add(node, OperationKind.IDENTITY, [source])
    for axis, places in moved.items():
        source = picked(graph, node, source, axis + shift, np.asarray(places))
    return source


@rule("Gather")
def _gather(graph: OnnxGraph, node: Any, a: Attributes) -> str | None:
    data, indices = node.input
    shape, places = graph.shape(data), graph.constant(indices)
    axis = int(a.get("axis", 0)) % len(shape)
    if places is None:
        return _lookup(graph, node, data, indices, axis)
    flat = np.where(places < 0, places + shape[axis], places).reshape(-1).astype(np.int64)
    source, shift = graph.along(data, axis)
    return picked(graph, node, source, axis + shift, flat)


@rule("GatherElements")
def _gather_elements(graph: OnnxGraph, node: Any, a: Attributes) -> str | None:
    """A place along one axis for every element."""
    shapes = [graph.shape(name) for name in node.input]
    axis = int(a.get("axis", 0)) % len(shapes[0])
    alike = axis != 0 and all(shape[:1] == (1,) for shape in shapes)
    if not alike and axis != 0 and shapes[0][0] != shapes[1][0]:
        return None  # how many of the first axis are read would follow from the number of examples
    sources = [graph.operation(name) if alike else graph.whole(name) for name in node.input]
    return graph.add(node, OperationKind.GATHER, sources, {"axis": axis if alike else axis + 1})


def _lookup(graph: OnnxGraph, node: Any, data: str, indices: str, axis: int) -> str | None:
    """Rows of a constant table by numbers that depend on the inputs."""
    table = graph.constant(data)
    if table is None or axis != 0 or not table.size:
        return None
    rows = table.reshape(table.shape[0], -1).astype(np.float32)
    attributes = {"table": rows}
    source = graph.operation(indices)
    return graph.builder.add(OperationKind.EMBEDDING, graph.name(node), [source], attributes, parameter=data)


@rule("Expand", "Tile")
def _expand(graph: OnnxGraph, node: Any, a: Attributes) -> str | None:
    """Places repeated along axes."""
    shape, out = graph.shape(node.input[0]), graph.expected()
    if out is None:
        return None
    full = (1,) * (len(out) - len(shape)) + shape
    if len(full) > len(shape) and any(size != 1 for size in out[: len(out) - len(shape)]):
        lead = graph.add(node, OperationKind.RESHAPE, [graph.operation(node.input[0])], {"shape": full}, suffix=".axes")
        source, shift = lead, 1
    else:
        full, out = full[len(out) - len(shape) :], out[len(out) - len(shape) :]
        source, shift = graph.along(node.input[0], *(i for i in range(len(out)) if out[i] != full[i]))
    for axis, (old, new) in enumerate(zip(full, out, strict=True)):
        if old != new:
            if not 0 < new <= _MOST_PLACES:
                raise ValueError(f"it repeats an axis to {new:,} places; from 1 to {_MOST_PLACES:,} are read here")
            source = picked(graph, node, source, axis + shift, np.arange(new) % old)
    return source


@rule("Pad")
def _pad(graph: OnnxGraph, node: Any, a: Attributes) -> str | None:
    shape, filled = graph.shape(node.input[0]), optional_input(node, 2)
    pads = listed(graph, node, a, 1, "pads")
    value = graph.constant(filled) if filled else a.get("value", 0.0)
    if pads is None or value is None:
        return None
    axes = listed(graph, node, {}, 3, "axes") or list(range(len(shape)))
    if len(pads) != 2 * len(axes):
        raise ValueError(f"it has {len(pads)} pads for {len(axes)} axes")
    sides = {axis % len(shape): (pads[i], pads[i + len(axes)]) for i, axis in enumerate(axes)}
    sides = {axis: pair for axis, pair in sides.items() if any(pair)}
    source, shift = graph.along(node.input[0], *sides)
    for axis, (before, after) in list(sides.items()):  # a negative pad cuts
        if min(before, after) < 0:
            places = np.arange(max(0, -before), shape[axis] + min(0, after))
            source = picked(graph, node, source, axis + shift, places, ".cut")
            sides[axis] = (max(0, before), max(0, after))
    return _padded(graph, node, source, shift, sides, a.get("mode", "constant"), value)


def _padded(
    graph: OnnxGraph, node: Any, source: str, shift: int, sides: dict[int, tuple[int, int]], mode: str, value: Any
) -> str | None:
    if mode == "constant":
        shape = graph.builder.shape(source)
        padding = tuple(sides.get(axis - shift, (0, 0)) for axis in range(1, len(shape) + 1))
        filler = float(np.asarray(value).reshape(-1)[0]) if np.asarray(value).size else 0.0
        return graph.add(node, OperationKind.PAD, [source], {"padding": padding, "value": filler})
    if mode not in ("reflect", "edge", "wrap"):
        return None
    for axis, pair in sides.items():
        size = graph.builder.shape(source)[axis + shift - 1]
        if sum(pair) + size > _MOST_PLACES:
            raise ValueError(f"it pads an axis of {size} by {pair}")
        places = np.pad(np.arange(size), pair, mode=mode)  # type: ignore[call-overload]
        source = picked(graph, node, source, axis + shift, places)
    return source if sides else graph.add(node, OperationKind.IDENTITY, [source])


@rule("DepthToSpace", "SpaceToDepth")
def _depth_and_space(graph: OnnxGraph, node: Any, a: Attributes) -> str | None:
    shape, b = graph.shape(node.input[0]), int(a["blocksize"])
    if len(shape) != 4 or b < 1:
        return None
    n, c, h, w = shape
    if node.op_type == "SpaceToDepth":
        return _turned(graph, node, (n, c, h // b, b, w // b, b), (0, 3, 5, 1, 2, 4))
    if a.get("mode", "DCR") == "DCR":
        return _turned(graph, node, (n, b, b, c // b**2, h, w), (0, 3, 4, 1, 5, 2))
    return _turned(graph, node, (n, c // b**2, b, b, h, w), (0, 1, 4, 2, 5, 3))


def _turned(graph: OnnxGraph, node: Any, split: Shape, order: Sequence[int]) -> str:
    """The first input with its axes split up and then put in another order."""
    source = graph.operation(node.input[0])
    source = graph.add(node, OperationKind.RESHAPE, [source], {"shape": split}, suffix=".parts")
    turned = {"shape": tuple(split[i] for i in order), "permutation": (0, *(i + 1 for i in order))}
    return graph.add(node, OperationKind.RESHAPE, [source], turned)
