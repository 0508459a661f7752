"""Rules of ONNX's recurrent operators. Their gates stand in another order than torch's, which `graph.recurrent` has."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from dchw.graph.operations import Array, OperationKind
from dchw.importers.onnx.registry import Attributes, OnnxGraph, optional_input, rule

_ORDER = {"LSTM": (0, 2, 3, 1), "GRU": (1, 0, 2), "RNN": (0,)}
"""Which of ONNX's gates (LSTM: input, output, forget, cell; GRU: update, reset, hidden) stands at each of torch's
places."""
_USUAL = {"LSTM": ["Sigmoid", "Tanh", "Tanh"], "GRU": ["Sigmoid", "Tanh"], "RNN": ["Tanh"]}


@dataclass(frozen=True, kw_only=True)
class _Layer:
    """A recurrent operator whose weights are known: arrays [directions, gates * hidden, ...] in ONNX's order."""

    kind: str
    cell: str
    weight: tuple[str, Array]
    recurrent: tuple[str, Array]
    bias: Array
    """[directions, 2 * gates * hidden], zeros where there is none."""
    states: tuple[str | None, ...]
    """Names of the first hidden (and cell) states."""
    reverse: tuple[bool, ...]


@rule("LSTM", "GRU", "RNN")
def _recurrent(graph: OnnxGraph, node: Any, a: Attributes) -> list[str] | None:
    weight, recurrent = graph.constant(node.input[1]), graph.constant(node.input[2])
    kind, bias_name = node.op_type, optional_input(node, 3)
    bias = graph.constant(bias_name) if bias_name else None
    if (
        weight is None
        or recurrent is None
        or (bias_name and bias is None)
        or (kind == "LSTM" and optional_input(node, 7))
    ):
        return None
    directions = weight.shape[0]
    if bias is None:
        bias = np.zeros((directions, 2 * weight.shape[1]), np.float32)
    functions = a.get("activations") or _USUAL[kind] * directions
    functions = [f.decode() if isinstance(f, bytes) else f for f in functions]
    cell = {"LSTM": "lstm", "GRU": "gru"}.get(kind) or {"Tanh": "rnn_tanh", "Relu": "rnn_relu"}.get(functions[0], "")
    usual = functions == _USUAL[kind] * directions or (kind == "RNN" and len(set(functions)) == 1 and cell)
    if not usual or a.get("clip") or a.get("layout", 0) or a.get("input_forget", 0):
        return None
    if kind == "GRU" and not a.get("linear_before_reset", 0):
        return None  # the reset gate before the product: another cell than torch's
    states = (optional_input(node, 5), optional_input(node, 6) if kind == "LSTM" else None)
    layer = _Layer(
        kind=kind,
        cell=cell,
        weight=(node.input[1], weight),
        recurrent=(node.input[2], recurrent),
        bias=bias,
        states=states if kind == "LSTM" else states[:1],
        reverse={"reverse": (True,), "bidirectional": (False, True)}.get(a.get("direction", "forward"), (False,)),
    )
    return _directions(graph, node, layer)


@rule("DynamicQuantizeLSTM")
def _quantised_lstm(graph: OnnxGraph, node: Any, a: Attributes) -> list[str] | None:
    """onnxruntime's LSTM with int8 weights: their real values, and activations that are not rounded."""
    arrays = [graph.constant(name) for name in (*node.input[1:3], *node.input[8:12])]
    bias_name = optional_input(node, 3)
    bias = graph.constant(bias_name) if bias_name else None
    if any(array is None for array in arrays) or (bias_name and bias is None) or optional_input(node, 7):
        return None
    weight, recurrent, *scales = (np.asarray(array, np.float32) for array in arrays)

    def real(array: Array, scale: Array, zero: Array) -> Array:
        shape = (len(array), 1, -1)
        scale, zero = (x.reshape(shape) if x.size > 1 else x for x in (scale, zero))
        return ((array - zero) * scale).transpose(0, 2, 1)

    layer = _Layer(
        kind="LSTM",
        cell="lstm",
        weight=(node.input[1], real(weight, scales[0], scales[1])),
        recurrent=(node.input[2], real(recurrent, scales[2], scales[3])),
        bias=np.zeros((len(weight), 2 * weight.shape[2]), np.float32) if bias is None else bias,
        states=(optional_input(node, 5), optional_input(node, 6)),
        reverse={"reverse": (True,), "bidirectional": (False, True)}.get(a.get("direction", "forward"), (False,)),
    )
    graph.notes.about(
        "recurrent layers whose int8 weights are taken at their real values and whose activations are not rounded",
        graph.name(node),
    )
    return _directions(graph, node, layer)


def _directions(graph: OnnxGraph, node: Any, layer: _Layer) -> list[str] | None:
    """The outputs Y, Y_h (and Y_c) of an operator."""
    shape, lengths = graph.shape(node.input[0]), optional_input(node, 4)
    if len(shape) != 3 or shape[1] != 1 or len(layer.reverse) != layer.weight[1].shape[0]:
        return None
    steps, inputs = shape[0], shape[2]
    given = graph.constant(lengths) if lengths is not None else np.asarray(steps)
    if given is None or np.any(given != steps):
        return None
    source = graph.add(
        node, OperationKind.RESHAPE, [graph.operation(node.input[0])], {"shape": (steps, inputs)}, suffix=".steps"
    )
    hidden = layer.recurrent[1].shape[2]
    with_cell = layer.kind == "LSTM" and len(node.output) > 2 and bool(node.output[2])
    made = [_direction(graph, node, layer, d, source, with_cell) for d in range(len(layer.reverse))]
    outputs = [_columns(graph, node, op, 0, hidden, with_cell) for op in made]
    both = outputs[0] if len(outputs) == 1 else graph.builder.concat(graph.name(node, ".both"), outputs, 2)
    whole = (steps, len(outputs), 1, hidden)
    results = [graph.shaped(graph.add(node, OperationKind.RESHAPE, [both], {"shape": whole}, suffix=".y"), whole)]
    for state in range(1 + with_cell):
        ends = []
        for op, reverse in zip(made, layer.reverse, strict=True):
            end = 0 if reverse else steps - 1
            picked = {"axis": 1, "start": end, "stop": end + 1, "step": 1}
            last = graph.add(node, OperationKind.SLICE, [op], picked, suffix=".last")
            ends.append(_columns(graph, node, last, state * hidden, hidden, with_cell))
        joined = ends[0] if len(ends) == 1 else graph.builder.concat(graph.name(node, ".ends"), ends, 1)
        held = (len(ends), 1, hidden)
        results.append(
            graph.shaped(graph.add(node, OperationKind.RESHAPE, [joined], {"shape": held}, suffix=".state"), held)
        )
    return results


def _columns(graph: OnnxGraph, node: Any, operation: str, start: int, size: int, cut: bool) -> str:
    """Some of the last axis of [steps, columns]."""
    if not cut:
        return operation
    picked = {"axis": 2, "start": start, "stop": start + size, "step": 1}
    return graph.add(node, OperationKind.SLICE, [operation], picked, suffix=".part")


def _direction(graph: OnnxGraph, node: Any, layer: _Layer, index: int, source: str, with_cell: bool) -> str:
    order, hidden = _ORDER[layer.kind], layer.recurrent[1].shape[2]
    places = np.concatenate([np.arange(gate * hidden, (gate + 1) * hidden) for gate in order])
    of_input, of_state = np.split(layer.bias[index], 2)
    suffix = f".{index}" if len(layer.reverse) > 1 else ""
    gates = graph.layer(
        node,
        OperationKind.LINEAR,
        [source],
        layer.weight[0],
        layer.weight[1][index][places],
        of_input[places],
        layout={"computed": True},
        suffix=f"{suffix}.gates",
    )
    first = [_first_state(graph, node, name, index) for name in layer.states]
    inputs = [gates]
    if any(state is not None for state in first):
        zeros = np.zeros(hidden, np.float32)
        inputs += [graph.stored(node, zeros, suffix=".zeros") if state is None else state for state in first]
    attributes: Attributes = {"cell": layer.cell, "reverse": layer.reverse[index], "cell_state": with_cell}
    return graph.layer(
        node,
        OperationKind.RECURRENT,
        inputs,
        layer.recurrent[0],
        layer.recurrent[1][index][places],
        of_state[places],
        attributes,
        layout={"computed": True},
        suffix=suffix,
    )


def _first_state(graph: OnnxGraph, node: Any, name: str | None, index: int) -> str | None:
    """The first state of one direction, [hidden]; None where it is zero."""
    if name is None:
        return None
    array = graph.constant(name)
    if array is not None:
        return None if not array.any() else graph.stored(node, array[index].reshape(-1), suffix=".first")
    taken = {"axis": 1, "start": index, "stop": index + 1, "step": 1}
    part = graph.add(node, OperationKind.SLICE, [graph.whole(name)], taken, suffix=".first")
    return graph.add(node, OperationKind.FLATTEN, [part], suffix=".state")
