"""Rules of ATen operations that only move or pick values: reshaping, slicing, concatenating, padding."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import fx

from dchw.graph.operations import OperationKind as Kind
from dchw.importers.torch.registry import Arguments, Constant, Fixed, Result, Walk, rule


@rule("contiguous", "clone", "alias", "detach", "to", "_to_copy", "type_as", "lift_fresh_copy")
def _same(walk: Walk, node: fx.Node, a: Arguments) -> Any:
    source = next(iter(a.values()))
    before, after = source.meta["val"].dtype, node.meta["val"].dtype
    if after == torch.bool != before:
        zero, same = walk.operand(node, 0.0), {"function": "equal"}
        is_zero = walk.emit(node, Kind.ELEMENTWISE, [walk.operand(node, source), zero], same, suffix=".zero")
        return walk.emit(node, Kind.ELEMENTWISE, [is_zero, zero], same)
    if after not in (before, torch.int32, torch.int64) and not after.is_floating_point and before != torch.bool:
        return None  # of a smaller range, in which whole numbers wrap around
    if before.is_floating_point and not after.is_floating_point:
        return walk.emit(node, Kind.ACTIVATION, [walk.operand(node, source)], {"function": "trunc"})
    return walk.value(source)


@rule("dropout", "feature_dropout", "alpha_dropout")
def _identity(walk: Walk, node: fx.Node, a: Arguments) -> Any:
    source = walk.value(next(iter(a.values())))  # in place it has another name
    return walk.emit(node, Kind.IDENTITY, [source]) if isinstance(source, Result) else None


@rule("view", "_unsafe_view", "reshape", "flatten", "unflatten", "squeeze", "unsqueeze")
def _reshape(walk: Walk, node: fx.Node, a: Arguments) -> Any:
    argument = next(iter(a.values()))
    held, now = walk.batch(argument), walk.batch(node)
    if held is None or now is None:
        return None
    # reshaping must not move anything across the batch axis
    before, after = walk.shape(argument), walk.shape(node)
    if math.prod(before[: held[0]]) != math.prod(after[: now[0]]):
        return None
    source = walk.operand(node, argument)
    if before == after:
        return source
    if len(after) == 1:
        return walk.emit(node, Kind.FLATTEN, [source])
    return walk.emit(node, Kind.RESHAPE, [source], {"shape": after})


@rule("permute", "transpose", "numpy_T")
def _permute(walk: Walk, node: fx.Node, a: Arguments) -> Any:
    rank = len(node.meta["val"].shape)
    order = list(range(rank))
    if "dims" in a:
        order = [axis % rank for axis in a["dims"]]
    elif rank > 1:
        first, second = (a["dim0"] % rank, a["dim1"] % rank) if "dim0" in a else (0, 1)
        order[first], order[second] = order[second], order[first]
    held = walk.batch(a["self"])
    if held is None:
        return None
    # an axis that the batch is merged with is one of its own here
    mapped = [walk.axis(a["self"], axis) if held[1] == 1 else axis + 1 for axis in order]
    permutation = (0, *(axis for axis in mapped if axis))
    source = walk.operand(node, a["self"])
    if permutation == tuple(range(len(permutation))):
        return source  # only the batch axis moves
    attributes = {"shape": walk.shape(node), "permutation": permutation}
    return walk.emit(node, Kind.RESHAPE, [source], attributes)


@rule("expand", "expand_as", "repeat")
def _expand(walk: Walk, node: fx.Node, a: Arguments) -> Any:
    """Axes of size 1 repeated: places of them gathered as often."""
    argument = a["self"]
    value, before = walk.value(argument), tuple(argument.meta["val"].shape)
    if not isinstance(value, Result) or isinstance(value, Fixed):
        # a parameter repeated for every example
        repeated = walk.place(node) == 0 and len(before) > 1 and before == (1, *walk.shape(node))
        return walk.operand(node, argument) if repeated else None
    held, now = walk.batch(argument), walk.batch(node)
    after = node.meta["val"].shape
    if held is None or now is None or held[1] != 1 or now[1] != 1 or now[0] - held[0] != len(after) - len(before):
        return None
    source, shape = value, list(walk.shape(argument))
    missing = len(walk.shape(node)) - len(shape)
    if missing:
        shape = [1] * missing + shape
        source = walk.emit(node, Kind.RESHAPE, [source], {"shape": tuple(shape)}, suffix=".axes")
    for place, (size, wanted) in enumerate(zip(shape, walk.shape(node), strict=True)):
        if size != wanted:
            if wanted % size:
                return None
            indices = tuple(range(size)) * (wanted // size)
            source = walk.emit(node, Kind.GATHER, [source], {"axis": place + 1, "indices": indices}, suffix=".expand")
    return source


@rule("roll")
def _roll(walk: Walk, node: fx.Node, a: Arguments) -> Any:
    axes = [walk.axis(node, axis) for axis in a["dims"]]
    if not axes or not all(axes):
        return None
    source = walk.operand(node, a["self"])
    for axis, shift in zip(axes, a["shifts"], strict=True):
        assert axis is not None
        size = walk.shape(node)[axis - 1]
        indices = tuple((place - int(shift)) % size for place in range(size))
        source = walk.emit(node, Kind.GATHER, [source], {"axis": axis, "indices": indices}, suffix=".roll")
    return source


@rule("index_select")
def _index_select(walk: Walk, node: fx.Node, a: Arguments) -> Any:
    axis, index = walk.axis(a["self"], a["dim"]), walk.value(a["index"])
    if not axis or not isinstance(index, Constant):
        return None
    return _picked(walk, node, a["self"], axis, index)


@rule("index")
def _index(walk: Walk, node: fx.Node, a: Arguments) -> Any:
    """One constant list of places along one axis."""
    given = [(axis, walk.value(index)) for axis, index in enumerate(a["indices"]) if index is not None]
    if len(given) != 1 or not isinstance(given[0][1], Constant) or given[0][1].tensor.ndim != 1:
        return None
    axis = walk.axis(a["self"], given[0][0])
    if not axis or given[0][1].tensor.dtype == torch.bool:
        return None
    return _picked(walk, node, a["self"], axis, given[0][1])


def _picked(walk: Walk, node: fx.Node, source: fx.Node, axis: int, index: Constant) -> Result:
    size = walk.shape(source)[axis - 1]
    indices = tuple(int(place) % size for place in index.tensor.tolist())
    return walk.emit(node, Kind.GATHER, [walk.operand(node, source)], {"axis": axis, "indices": indices})


@rule("gather")
def _gather(walk: Walk, node: fx.Node, a: Arguments) -> Any:
    """A place along one axis for every element, constant or computed; every example picks among its own values."""
    operands = (a["self"], a["index"])
    axis, held = walk.axis(node, a["dim"]), walk.batch(node)
    if not axis or held is None or any(walk.batch(operand) != held for operand in operands):
        return None
    for value in map(walk.value, operands):
        if isinstance(value, Fixed) or (isinstance(value, Constant) and held != (0, 1)):
            return None
    return walk.emit(node, Kind.GATHER, [walk.operand(node, operand) for operand in operands], {"axis": axis})


@rule("stack")
def _stack(walk: Walk, node: fx.Node, a: Arguments) -> Any:
    """Every value with an axis of size 1, which they are concatenated along."""
    axis = walk.axis(node, a["dim"])
    if not axis or any(walk.place(item) is None for item in a["tensors"]):
        return None
    shape = walk.shape(node)
    single = {"shape": (*shape[: axis - 1], 1, *shape[axis:])}
    parts = [walk.emit(node, Kind.RESHAPE, [walk.operand(node, x)], single, suffix=".part") for x in a["tensors"]]
    return walk.emit(node, Kind.CONCAT, parts, {"axis": axis})


@rule("pixel_shuffle")
def _pixel_shuffle(walk: Walk, node: fx.Node, a: Arguments) -> Any:
    if walk.place(node) != 0 or len(walk.shape(node)) != 3:
        return None
    channels, height, width = walk.shape(a["self"])
    r = int(a["upscale_factor"])
    split = {"shape": (channels // r**2, r, r, height, width)}
    parts = walk.emit(node, Kind.RESHAPE, [walk.operand(node, a["self"])], split, suffix=".split")
    return walk.emit(node, Kind.RESHAPE, [parts], {"shape": walk.shape(node), "permutation": (0, 1, 4, 2, 5, 3)})


def _cut(walk: Walk, node: fx.Node, source: Any, axis: int, start: int, stop: int, step: int = 1) -> str:
    """Part of an axis (0 would be the batch axis) of a node's value."""
    attributes = {"axis": axis, "start": start, "stop": stop, "step": step}
    name = walk.operand(node, source)
    return walk.emit(node, Kind.SLICE, [name], attributes, suffix=".slice")


@rule("slice")
def _slice(walk: Walk, node: fx.Node, a: Arguments) -> Any:
    axis, size = walk.axis(a["self"], a["dim"]), a["self"].meta["val"].shape[a["dim"]]
    if str(node.meta["val"].shape) == str(a["self"].meta["val"].shape) and a["step"] == 1:
        return walk.value(a["self"])
    if not axis:
        return None
    start, stop, step = slice(a["start"], a["end"], a["step"]).indices(int(size))
    return _cut(walk, node, a["self"], axis, start, stop, step)


@rule("select")
def _select(walk: Walk, node: fx.Node, a: Arguments) -> Any:
    axis = walk.axis(a["self"], a["dim"])
    if not axis or not isinstance(a["index"], int):
        return None
    shape = list(walk.shape(a["self"]))
    index = a["index"] % shape.pop(axis - 1)
    part = _cut(walk, node, a["self"], axis, index, index + 1)
    kept = tuple(shape)
    return walk.emit(node, Kind.RESHAPE, [part], {"shape": kept}, suffix=".select")


@rule("split", "split_with_sizes", "chunk")
def _split(walk: Walk, node: fx.Node, a: Arguments) -> Any:
    axis = walk.axis(a["self"], a["dim"])
    if not axis:
        return None
    names, start = [], 0
    for part in node.meta["val"]:
        size = int(part.shape[a["dim"]])
        names.append(_cut(walk, node, a["self"], axis, start, start + size))
        start += size
    return names


@rule("unbind")
def _unbind(walk: Walk, node: fx.Node, a: Arguments) -> Any:
    if not walk.axis(a["self"], a["dim"]):
        return None
    return [_select(walk, node, {**a, "index": index}) for index in range(len(node.meta["val"]))]


@rule("cat", "concat")
def _concat(walk: Walk, node: fx.Node, a: Arguments) -> Any:
    axis = walk.axis(node, a["dim"])
    if not axis or not walk.aligned(node, a["tensors"]):
        return None
    inputs = [walk.operand(node, item) for item in a["tensors"]]
    return walk.emit(node, Kind.CONCAT, inputs, {"axis": axis})


@rule("pad", "constant_pad_nd")
def _pad(walk: Walk, node: fx.Node, a: Arguments) -> Any:
    mode = a.get("mode", "constant")
    rank, flat = len(node.meta["val"].shape), [int(x) for x in a["pad"]]
    pairs = [(flat[2 * i], flat[2 * i + 1]) for i in range(len(flat) // 2)]
    padding = [(0, 0)] * (rank - len(pairs)) + pairs[::-1]
    mapped = [walk.axis(node, axis) for axis in range(rank)]
    source = walk.operand(node, a["self"])
    if mode == "constant" and walk.place(node) == 0 and padding[0] == (0, 0) and min(flat) >= 0:
        attributes = {"padding": tuple(padding[1:]), "value": float(a.get("value") or 0.0)}
        return walk.emit(node, Kind.PAD, [source], attributes)
    if mode == "constant" and (max(flat) > 0 or walk.place(node) is None):
        return None
    for axis, (before, after) in zip(mapped, padding, strict=True):
        if (before, after) == (0, 0):
            continue
        if not axis:
            return None
        size = walk.shape(a["self"])[axis - 1]
        indices = tuple(_beyond(mode, place, size) for place in range(-before, size + after))
        source = walk.emit(node, Kind.GATHER, [source], {"axis": axis, "indices": indices}, suffix=".pad")
    return source


@rule("reflection_pad1d", "reflection_pad2d", "reflection_pad3d")
def _reflection_pad(walk: Walk, node: fx.Node, a: Arguments) -> Any:
    return _pad(walk, node, {"self": a["self"], "pad": a["padding"], "mode": "reflect"})


@rule("replication_pad1d", "replication_pad2d", "replication_pad3d")
def _replication_pad(walk: Walk, node: fx.Node, a: Arguments) -> Any:
    return _pad(walk, node, {"self": a["self"], "pad": a["padding"], "mode": "replicate"})


def _beyond(mode: str, place: int, size: int) -> int:
    """The place of an axis that padding shows at a place before or behind it; a negative pad only cuts."""
    if mode == "circular":
        return place % size
    if mode == "replicate":
        return min(max(place, 0), size - 1)
    if mode == "reflect":
        return size - 1 - abs(size - 1 - abs(place))
    return place
