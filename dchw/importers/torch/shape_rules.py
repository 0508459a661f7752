"""Rules of ATen operations that only move or pick values: reshaping, slicing, concatenating, padding."""

from __future__ import annotations

import math
from typing import Any

from torch import fx

from dchw.graph.network import OperationKind as Kind
from dchw.importers.torch.registry import Arguments, Result, Walk, rule


@rule("contiguous", "clone", "alias", "detach")
def _same(walk: Walk, node: fx.Node, a: Arguments) -> Any:
    return walk.value(next(iter(a.values())))


@rule("dropout", "feature_dropout", "alpha_dropout")
def _identity(walk: Walk, node: fx.Node, a: Arguments) -> Any:
    source = walk.value(a["input"])
    return walk.emit(node, Kind.IDENTITY, [source]) if isinstance(source, Result) else None


@rule("view", "_unsafe_view", "reshape", "flatten", "unflatten", "squeeze", "unsqueeze")
def _reshape(walk: Walk, node: fx.Node, a: Arguments) -> Any:
    argument = next(iter(a.values()))
    places = (walk.place(argument), walk.place(node))
    if None in places:
        return None
    # reshaping must not move anything across the batch axis
    before, after = walk.shape(argument), walk.shape(node)
    if math.prod(before[: places[0]]) != math.prod(after[: places[1]]):
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
    mapped = [walk.axis(a["self"], axis) for axis in order]
    if None in mapped:
        return None
    permutation = (0, *(axis for axis in mapped if axis))
    source = walk.operand(node, a["self"])
    if permutation == tuple(range(rank)):
        return source  # only the batch axis moves
    attributes = {"shape": walk.shape(node), "permutation": permutation}
    return walk.emit(node, Kind.RESHAPE, [source], attributes)


@rule("expand")
def _expand(walk: Walk, node: fx.Node, a: Arguments) -> Any:
    value, before = walk.value(a["self"]), tuple(a["self"].meta["val"].shape)
    if isinstance(value, Result):
        unchanged = walk.shape(a["self"]) == walk.shape(node) and walk.place(a["self"]) == walk.place(node)
        return value if unchanged else None
    # a parameter repeated for every example
    repeated = walk.place(node) == 0 and len(before) > 1 and before == (1, *walk.shape(node))
    return walk.operand(node, a["self"]) if repeated else None


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
    if a.get("mode", "constant") != "constant" or walk.place(node) != 0:
        return None
    rank, flat = len(node.meta["val"].shape), [int(x) for x in a["pad"]]
    pairs = [(flat[2 * i], flat[2 * i + 1]) for i in range(len(flat) // 2)]
    padding = [(0, 0)] * (rank - len(pairs)) + pairs[::-1]
    if padding[0] != (0, 0) or min(flat) < 0:
        return None
    attributes = {"padding": tuple(padding[1:]), "value": float(a.get("value") or 0.0)}
    return walk.emit(node, Kind.PAD, [walk.operand(node, a["self"])], attributes)
