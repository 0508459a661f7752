"""Rules of ATen operations with weights: linear layers, convolutions and their transposes, recurrent layers, tables."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import fx

from dchw.graph.operations import OperationKind as Kind
from dchw.graph.recurrent import GATES
from dchw.importers.torch.registry import Arguments, Constant, Fixed, Layout, Result, Rule, Walk, rule

CONVOLUTION = {1: Kind.CONV1D, 2: Kind.CONV2D, 3: Kind.CONV3D}
"""Kind of a convolution over so many axes."""


def sizes(value: Any, axes: int) -> tuple[int, ...]:
    """A number for every axis, of a list or of one number for all."""
    items = list(value) if isinstance(value, list | tuple) else [value]
    return tuple(int(x) for x in (items * axes if len(items) == 1 else items))


def channels_first(walk: Walk, node: fx.Node, axes: int) -> bool:
    """Whether a value is [batch, channels, *size] with so many axes of size."""
    return len(node.meta["val"].shape) == axes + 2 and walk.place(node) == 0


# Linear layers ------------------------------------------------------------------------------------------------


def _dense(
    walk: Walk, node: fx.Node, x: Any, weight: Constant, bias: Any, layout: Layout | None = None
) -> Result | None:
    """A linear layer over the last axis of x; ``weight`` is [out, in], after ``layout``."""
    held = walk.batch(node)
    if not (isinstance(x, Result) and isinstance(weight, Constant) and weight.tensor.ndim == 2):
        return None
    if not (bias is None or isinstance(bias, Constant)) or isinstance(x, Fixed):
        return None
    if held is None or held[0] == len(node.meta["val"].shape) - 1:
        return None
    return walk.layer(node, Kind.LINEAR, x, weight, bias)


def _transposed(constant: Constant) -> Constant:
    return Constant(constant.tensor.T, constant.origins)


@rule("linear")
def _linear(walk: Walk, node: fx.Node, a: Arguments) -> Result | None:
    return _dense(walk, node, walk.value(a["input"]), walk.value(a["weight"]), walk.value(a["bias"]))


@rule("addmm")
def _addmm(walk: Walk, node: fx.Node, a: Arguments) -> Result | None:
    weight = walk.value(a["mat2"])
    if a["beta"] != 1 or a["alpha"] != 1 or not isinstance(weight, Constant):
        return None
    return _dense(walk, node, walk.value(a["mat1"]), _transposed(weight), walk.value(a["self"]))


@rule("matmul", "mm", "bmm")
def _matmul(walk: Walk, node: fx.Node, a: Arguments) -> Result | None:
    left, right = a["self"], a["other"] if "other" in a else a["mat2"]
    x, weight = walk.value(left), walk.value(right)
    if isinstance(x, Result) and isinstance(weight, Constant) and weight.tensor.ndim == 2:
        return _dense(walk, node, x, _transposed(weight), None)
    if not (isinstance(weight, Result) or isinstance(x, Result)) or not batched_matrices(walk, node, (left, right)):
        return None
    return walk.emit(node, Kind.MATMUL, [walk.operand(node, left), walk.operand(node, right)])


def batched_matrices(walk: Walk, node: fx.Node, arguments: Sequence[fx.Node]) -> bool:
    """Whether all operands keep the batch axis at one place before their last two axes."""
    held, rank = walk.batch(node), len(node.meta["val"].shape)
    return held is not None and held[0] < rank - 2 and walk.aligned(node, arguments)


@rule("einsum")
def _einsum(walk: Walk, node: fx.Node, a: Arguments) -> Result | None:
    """A product of two operands: summed with a parameter a linear layer, of two activations a matrix product."""
    equation, operands = a["equation"].replace(" ", ""), a["tensors"]
    if "." in equation or "->" not in equation or len(operands) != 2:
        return None
    (left, right), out = equation.split("->")[0].split(","), equation.split("->")[1]
    x, y = (walk.value(operand) for operand in operands)
    if any(len(set(letters)) < len(letters) for letters in (left, right, out)):
        return None
    summed = [letter for letter in left if letter in right and letter not in out]
    if set(left + right) - set(out) != set(summed):
        return None
    if isinstance(x, Result) and isinstance(y, Constant) and not set(left) & set(right) - set(summed):
        return _einsum_layer(walk, node, operands[0], left, (y, right), out, summed) if summed else None
    if not (isinstance(x, Result) and isinstance(y, Result)):
        return None
    return _einsum_product(walk, node, operands, left, right, out, summed)


def _einsum_layer(
    walk: Walk, node: fx.Node, x: fx.Node, letters: str, weight: tuple[Constant, str], out: str, summed: list[str]
) -> Result | None:
    constant, names = weight
    place = walk.place(x)
    if place is None or letters[place] in summed:
        return None
    new = [letter for letter in names if letter not in summed]
    order = tuple(names.index(letter) for letter in (*new, *summed))
    shape = constant.tensor.shape
    ours = [letter for i, letter in enumerate(letters) if i != place]
    size = dict(zip(names, shape, strict=True))
    if not _agree(ours, walk.shape(x), size):
        return None
    rest = [letter for letter in ours if letter not in summed]
    columns = _count(size, summed)
    layout = Layout(tuple(shape), order, (_count(size, new), columns))
    rows = (*(size[letter] for letter in rest), columns)
    source = _rearranged(walk, node, walk.operand(node, x), ours, [*rest, *summed], size, ".rows", shape=rows)
    made = walk.layer(node, Kind.LINEAR, source, constant, None, layout=layout)
    held = [*rest, *new]
    if len(new) != 1:
        split = tuple(size[letter] for letter in held)
        made = walk.emit(node, Kind.RESHAPE, [made], {"shape": split}, suffix=".split")
    wanted = [letter for letter in out if letter != letters[place]]
    return _rearranged(walk, node, made, held, wanted, size, ".out")


def _einsum_product(
    walk: Walk, node: fx.Node, operands: Sequence[fx.Node], left: str, right: str, out: str, summed: list[str]
) -> Result | None:
    places = [walk.place(operand) for operand in operands]
    if None in places or left[places[0] or 0] != right[places[1] or 0] or left[places[0] or 0] in summed:
        return None
    batch = left[places[0] or 0]
    axes = [[letter for letter in names if letter != batch] for names in (left, right)]
    size: dict[str, int] = {}
    if not all(_agree(ours, walk.shape(x), size) for ours, x in zip(axes, operands, strict=True)):
        return None
    shared = [letter for letter in axes[0] if letter in right and letter not in summed]
    alone = [[letter for letter in ours if letter not in (*shared, *summed)] for ours in axes]
    made = []
    for operand, ours, mine in zip(operands, axes, alone, strict=True):
        matrix = (*(size[letter] for letter in shared), _count(size, mine), _count(size, summed))
        order, source = [*shared, *mine, *summed], walk.operand(node, operand)
        made.append(_rearranged(walk, node, source, ours, order, size, ".operand", shape=matrix))
    product = walk.emit(node, Kind.MATMUL, made, {"transpose": True}, suffix=".product")
    held = [*shared, *alone[0], *alone[1]]
    if any(len(mine) != 1 for mine in alone):
        full = tuple(size[letter] for letter in held)
        product = walk.emit(node, Kind.RESHAPE, [product], {"shape": full}, suffix=".split")
    return _rearranged(walk, node, product, held, [letter for letter in out if letter != batch], size, ".out")


def _agree(letters: Sequence[str], shape: Sequence[int], size: dict[str, int]) -> bool:
    """Note the sizes of axes; False where one is another already (of size 1, it would be repeated)."""
    return all(size.setdefault(letter, int(n)) == n for letter, n in zip(letters, shape, strict=True))


def _count(size: dict[str, int], letters: Sequence[str]) -> int:
    """Values that axes hold together."""
    return math.prod(size[letter] for letter in letters)


def _rearranged(
    walk: Walk,
    node: fx.Node,
    source: Result,
    held: list[str],
    wanted: list[str],
    size: dict[str, int],
    suffix: str,
    shape: tuple[int, ...] | None = None,
) -> Result:
    """Axes in another order, merged into ``shape`` where that is given."""
    plain = tuple(size[letter] for letter in wanted)
    shape = plain if shape is None else shape
    if held == wanted and shape == plain:
        return source
    permutation = (0, *(held.index(letter) + 1 for letter in wanted))
    return walk.emit(node, Kind.RESHAPE, [source], {"shape": shape, "permutation": permutation}, suffix=suffix)


# Convolutions -------------------------------------------------------------------------------------------------


@rule("conv1d", "conv2d", "conv3d", "convolution")
def _convolution(walk: Walk, node: fx.Node, a: Arguments) -> Any:
    source, weight, bias = walk.value(a["input"]), walk.value(a["weight"]), walk.value(a["bias"])
    if a.get("transposed", False):
        return _transposed_convolution(walk, node, a)
    if not (
        isinstance(source, Result) and isinstance(weight, Constant) and (bias is None or isinstance(bias, Constant))
    ):
        return None
    axes = weight.tensor.ndim - 2
    if not channels_first(walk, a["input"], axes):
        return None
    kernel, dilation, padding = weight.tensor.shape[2:], sizes(a["dilation"], axes), a["padding"]
    if isinstance(padding, str):
        total = [dilation[i] * (kernel[i] - 1) if padding == "same" else 0 for i in range(axes)]
        if any(t % 2 for t in total):  # torch puts the odd row or column at the far side
            sides = ((0, 0), *((0, t % 2) for t in total))
            source = walk.emit(node, Kind.PAD, [source], {"padding": sides, "value": 0.0}, suffix=".pad")
        padding = [t // 2 for t in total]
    attributes = {
        "stride": sizes(a["stride"], axes),
        "padding": sizes(padding, axes),
        "dilation": dilation,
        "groups": int(a["groups"]),
    }
    return walk.layer(node, CONVOLUTION[axes], source, weight, bias, attributes)


@rule("conv_transpose1d", "conv_transpose2d", "conv_transpose3d")
def _transposed_convolution(walk: Walk, node: fx.Node, a: Arguments) -> Any:
    """The product of every input pixel with all weights it meets, then what falls on one output pixel added up."""
    source, weight, bias = walk.value(a["input"]), walk.value(a["weight"]), walk.value(a["bias"])
    if not (
        isinstance(source, Result) and isinstance(weight, Constant) and (bias is None or isinstance(bias, Constant))
    ):
        return None
    axes, groups = weight.tensor.ndim - 2, int(a["groups"])
    if not channels_first(walk, a["input"], axes):
        return None
    inputs, per_group, *kernel = weight.tensor.shape
    places = math.prod(kernel)
    layout = Layout(
        (groups, inputs // groups, per_group, places),
        (0, 2, 3, 1),
        (groups * per_group * places, inputs // groups, *(1,) * axes),
    )
    product = walk.layer(node, CONVOLUTION[axes], source, weight, None, {"groups": groups}, layout=layout)
    attributes = {
        "kernel": tuple(kernel),
        "stride": sizes(a["stride"], axes),
        "padding": sizes(a["padding"], axes),
        "dilation": sizes(a["dilation"], axes),
        "output_padding": sizes(a["output_padding"], axes),
    }
    folded = walk.emit(node, Kind.FOLD, [product], attributes, suffix=".fold")
    if bias is None:
        return folded
    values = Constant(bias.tensor.reshape(-1, *(1,) * axes), bias.origins)
    return walk.emit(node, Kind.ADD, [folded, walk.operand(node, values)], suffix=".add")


# Tables -------------------------------------------------------------------------------------------------------


@rule("embedding")
def _embedding(walk: Walk, node: fx.Node, a: Arguments) -> Result | None:
    weight, rows = walk.value(a["weight"]), walk.value(a["indices"])
    if not isinstance(weight, Constant) or weight.tensor.ndim != 2:
        return None
    if isinstance(rows, Constant):
        return Fixed(walk.table(node, walk.operand(node, a["indices"]), weight))
    held = walk.batch(a["indices"])
    return walk.table(node, rows, weight) if isinstance(rows, Result) and held is not None else None


# Recurrent layers ---------------------------------------------------------------------------------------------


def _recurrent(cell: str) -> Rule:
    def recurrent(walk: Walk, node: fx.Node, a: Arguments) -> Any:
        states = a["hx"] if isinstance(a["hx"], list | tuple) else [a["hx"]]
        parameters, layers = walk.value(a["params"]), int(a["num_layers"])
        directions = 2 if a["bidirectional"] else 1
        each = 4 if a["has_biases"] else 2
        each += isinstance(parameters, list) and len(parameters) == layers * directions * (each + 1)  # a projection
        constant = isinstance(parameters, list) and all(isinstance(x, Constant) for x in parameters)
        if not constant or len(parameters) != layers * directions * each or (a["train"] and a["dropout"]):
            return None
        if len(walk.shape(a["input"])) != 2 or walk.place(a["input"]) != (0 if a["batch_first"] else 1):
            return None
        source, last = walk.operand(node, a["input"]), []
        for layer in range(layers):
            outputs = []
            for direction in range(directions):
                index = layer * directions + direction
                held = parameters[index * each : (index + 1) * each]
                first = [_first_state(walk, node, state, index) for state in states]
                out, ends = _direction(walk, node, cell, source, held, first, reverse=direction == 1)
                outputs.append(out)
                last.append(ends)
            both = outputs[0]
            if directions == 2:
                both = walk.emit(node, Kind.CONCAT, outputs, {"axis": 2}, suffix=".both")
            source = both
        return [source, *_last_states(walk, node, last, len(states))]

    return recurrent


for _name in ("lstm", "gru", "rnn_tanh", "rnn_relu"):
    rule(_name)(_recurrent(_name))


def _direction(
    walk: Walk,
    node: fx.Node,
    cell: str,
    source: Result,
    held: Sequence[Constant],
    first: Sequence[Result | None],
    *,
    reverse: bool,
) -> tuple[Result, list[tuple[Result, int, int, int]]]:
    """One layer in one direction: its outputs, and (operation, step, first, end) of each of its last states."""
    weight, recurrent, *rest = held
    projection = rest.pop() if len(rest) % 2 else None
    bias_in, bias_state = rest if rest else (None, None)
    gates = walk.layer(node, Kind.LINEAR, source, weight, bias_in)
    hidden = recurrent.tensor.shape[0] // GATES[cell]
    with_cell = cell == "lstm" and any(user.args[1] == 2 and user.users for user in node.users)
    inputs: list[Any] = [gates]
    if any(state is not None for state in first):
        zeros = (Constant(torch.zeros(width)) for width in (recurrent.tensor.shape[1], hidden))
        given = zip(zeros, first, strict=False)
        inputs += [walk.operand(node, zero) if state is None else state for zero, state in given]
    attributes = {"cell": cell, "reverse": reverse, "cell_state": with_cell}
    if projection is not None:
        attributes["projection"] = ""  # the layer that comes next
    states = out = walk.layer(node, Kind.RECURRENT, inputs, recurrent, bias_state, attributes)
    if with_cell:
        picked = {"axis": 2, "start": 0, "stop": hidden, "step": 1}
        out = walk.emit(node, Kind.SLICE, [states], picked, suffix=".hidden")
    if projection is not None:
        out = walk.layer(node, Kind.LINEAR, out, projection, None)
        walk.builder.amend(states, attributes={**walk.builder.operation(states).attributes, "projection": str(out)})
    steps = walk.shape(node.args[0])[0] if isinstance(node.args[0], fx.Node) else 1
    end = 0 if reverse else steps - 1
    ends = [(out, end, 0, recurrent.tensor.shape[1])]
    return out, [*ends, (states, end, hidden, 2 * hidden)] if with_cell else ends


def _first_state(walk: Walk, node: fx.Node, state: fx.Node, index: int) -> Result | None:
    """The first state of one layer and direction; None where it is zero."""
    value = walk.value(state)
    if isinstance(value, Constant) and not value.tensor.any():
        return None
    if isinstance(value, Constant):
        row = value.tensor[index].reshape(-1, value.tensor.shape[-1])[0]
        return walk.operand(node, Constant(row, value.origins))
    taken = {"axis": 1, "start": index, "stop": index + 1, "step": 1}
    part = walk.emit(node, Kind.SLICE, [walk.operand(node, state)], taken, suffix=".first")
    return walk.emit(node, Kind.FLATTEN, [part], suffix=".state")


def _last_states(
    walk: Walk, node: fx.Node, last: list[list[tuple[Result, int, int, int]]], states: int
) -> list[Result | None]:
    """h_n and c_n [layers * directions, hidden], where something reads them."""
    made: list[Result | None] = []
    for which in range(states):
        if not any(user.args[1] == which + 1 and user.users for user in node.users):
            made.append(None)
            continue
        rows = []
        for ends in last:
            source, step, start, stop = ends[which]
            at = {"axis": 1, "start": step, "stop": step + 1, "step": 1}
            row = walk.emit(node, Kind.SLICE, [source], at, suffix=".last")
            part = {"axis": 2, "start": start, "stop": stop, "step": 1}
            rows.append(walk.emit(node, Kind.SLICE, [row], part, suffix=".state"))
        made.append(rows[0] if len(rows) == 1 else walk.emit(node, Kind.CONCAT, rows, {"axis": 1}, suffix=".states"))
    return made
