"""Rules of ATen operations with weights: linear layers, convolutions and their transposes, recurrent layers, tables."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import fx

from dchw.graph.operations import OperationKind as Kind
from dchw.graph.recurrent import GATES
from dchw.importers import einsum
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
    equation, operands = einsum.equation_of(a["equation"]), list(a["tensors"])
    if equation is None:
        return None
    if isinstance(walk.value(operands[0]), Constant):
        equation, operands = equation.turned(), operands[::-1]
    x, y = (walk.value(operand) for operand in operands)
    if isinstance(x, Result) and isinstance(y, Constant) and equation.summed and not equation.shared:
        return _einsum_layer(walk, node, operands[0], y, equation)
    if not (isinstance(x, Result) and isinstance(y, Result)):
        return None
    return _einsum_product(walk, node, operands, equation)


def _einsum_layer(
    walk: Walk, node: fx.Node, x: fx.Node, constant: Constant, equation: einsum.Equation
) -> Result | None:
    place, summed = walk.place(x), equation.summed
    if place is None or equation.left[place] in summed:
        return None
    batch, shape = equation.left[place], tuple(constant.tensor.shape)
    ours, size = [letter for letter in equation.left if letter != batch], dict[str, int]()
    if not einsum.agree(equation.right, shape, size) or not einsum.agree(ours, walk.shape(x), size):
        return None
    order, columns = einsum.matrix_order(equation.right, summed), math.prod(size[letter] for letter in summed)
    layout = Layout(shape, order, (math.prod(shape) // columns, columns))
    wanted = [letter for letter in equation.out if letter != batch]
    return einsum.linear(
        _emitter(walk, node),
        lambda rows: walk.layer(node, Kind.LINEAR, rows, constant, None, layout=layout),
        walk.operand(node, x),
        ours,
        equation.right,
        summed,
        wanted,
        size,
    )


def _einsum_product(walk: Walk, node: fx.Node, operands: Sequence[fx.Node], equation: einsum.Equation) -> Result | None:
    places = [walk.place(operand) for operand in operands]
    if None in places or equation.left[places[0] or 0] != equation.right[places[1] or 0]:
        return None
    batch, summed = equation.left[places[0] or 0], equation.summed
    axes = [[letter for letter in names if letter != batch] for names in (equation.left, equation.right)]
    size: dict[str, int] = {}
    if batch in summed or not all(
        einsum.agree(ours, walk.shape(x), size) for ours, x in zip(axes, operands, strict=True)
    ):
        return None
    sources = [walk.operand(node, operand) for operand in operands]
    wanted = [letter for letter in equation.out if letter != batch]
    return einsum.product(_emitter(walk, node), sources, axes, summed, wanted, size)


def _emitter(walk: Walk, node: fx.Node) -> einsum.Emit[Result]:
    def emit(kind: Kind, sources: Sequence[Result], attributes: dict[str, Any], suffix: str) -> Result:
        return walk.emit(node, kind, sources, attributes, suffix=suffix)

    return emit


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
