"""Recurrent layers: the steps of an LSTM, a GRU or a plain recurrent network in one direction.

A layer of ``torch.nn.LSTM`` becomes two operations. The products with its inputs, which do not wait for each other, are
a linear layer over all steps: ``gates`` [steps, G * hidden], with the input bias. RECURRENT adds the product of the
state before each step, whose weights [G * hidden, hidden] are used again step after step, and its bias. G gates lie in
torch's order: input, forget, cell, output (``lstm``), reset, update, new (``gru``, its new gate's product times the
reset gate), one (``rnn_tanh``, ``rnn_relu``). See the equations in torch's documentation of these modules.

Attributes of RECURRENT: ``cell``, one of `GATES`; ``reverse``: from the last step to the first; ``cell_state``: the
output holds the cell states behind the hidden ones, [steps, 2 * hidden]. Its inputs: gates, and optionally the first
hidden and cell state [hidden], zero by default.

An LSTM with projections (``proj_size``; Sak, Senior and Beaufays, arXiv:1402.1128) has a third operation: the linear
layer [projected, hidden] that reads RECURRENT's output and makes the hidden states of it. Every step needs what it
makes of the step before, so RECURRENT names it in ``projection`` and its own weights are [G * hidden, projected].
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np

from dchw.graph.operations import FloatArray

GATES: Mapping[str, int] = MappingProxyType({"lstm": 4, "gru": 3, "rnn_tanh": 1, "rnn_relu": 1})
"""Cells and how many gates each has."""

Product = Callable[[FloatArray], FloatArray]
"""The state before a step, float32[n, hidden], times the recurrent weights, with their bias: float32[n, G * hidden].

Of a projection: float32[n, hidden] to float32[n, projected].
"""


def sigmoid(x: FloatArray) -> Any:
    """1 / (1 + exp(-x)), without overflow."""
    return 0.5 * (1.0 + np.tanh(0.5 * x))


def steps(
    attributes: Mapping[str, Any],
    inputs: Sequence[FloatArray],
    product: Product,
    project: Product | None = None,
) -> tuple[FloatArray, FloatArray]:
    """Outputs of all steps, float32[n, steps, hidden or twice that], and the states they read, float32[n, steps, m].

    ``project`` makes the state that the next step reads of a step's output; m is then its width, otherwise ``hidden``.
    """
    gates, kind = inputs[0], attributes["cell"]
    n, count = gates.shape[:2]
    hidden = gates.shape[2] // GATES[kind]
    zeros = np.zeros((n, hidden), np.float32)
    first = [np.broadcast_to(state, (n, state.shape[-1])) for state in inputs[1:]]
    h, c = first if len(first) == 2 else (first[0] if first else zeros if project is None else project(zeros), zeros)
    with_cell = bool(attributes.get("cell_state", False))
    out = np.empty((n, count, hidden * (1 + with_cell)), np.float32)
    read = np.empty((n, count, h.shape[1]), np.float32)
    order = range(count)
    for step in reversed(order) if attributes.get("reverse", False) else order:
        read[:, step] = h
        h, c = _step(kind, gates[:, step], product(h), h, c)
        out[:, step, :hidden] = h
        h = h if project is None else project(h)
        if with_cell:
            out[:, step, hidden:] = c
    return out, read


def _step(kind: str, x: FloatArray, product: FloatArray, h: FloatArray, c: FloatArray) -> tuple[FloatArray, FloatArray]:
    if kind == "lstm":
        enter, forget, new, leave = np.split(x + product, 4, axis=1)
        c = sigmoid(forget) * c + sigmoid(enter) * np.tanh(new)
        return sigmoid(leave) * np.tanh(c), c
    if kind == "gru":
        (reset, update, new), (reset_h, update_h, new_h) = np.split(x, 3, axis=1), np.split(product, 3, axis=1)
        z = sigmoid(update + update_h)
        n = np.tanh(new + sigmoid(reset + reset_h) * new_h)
        return (1 - z) * n + z * h, c
    total = x + product
    return (np.tanh(total) if kind == "rnn_tanh" else np.maximum(total, 0)), c
