"""Rules of ATen's recurrent cells: one step of a recurrent layer in a loop of the module's own.

A step is two linear layers, of its input and of the state, and the functions of their sums, as `torch.nn.LSTMCell`,
`torch.nn.GRUCell` and `torch.nn.RNNCell` define them. Steps of one cell share its weights, which are stored once.
"""

from __future__ import annotations

from typing import Any

from torch import fx

from dchw.graph.operations import OperationKind as Kind
from dchw.importers.torch.registry import Arguments, Constant, Fixed, Result, Rule, Walk, rule


class _Step:
    """Operations of one step of a cell."""

    def __init__(self, walk: Walk, node: fx.Node) -> None:
        self._walk, self._node = walk, node

    def state(self, given: fx.Node, source: Result) -> Result:
        """A state; a constant one, as a loop begins with, is repeated for every example that ``source`` has."""
        state = self._walk.operand(self._node, given)
        if self._walk.builder.operation(state).kind is not Kind.CONSTANT:
            return state
        beside = self._walk.emit(self._node, Kind.CONCAT, [state, source], {"axis": 1}, suffix=".state")
        return self.part(beside, 0, 1, self._walk.shape(given)[0])

    def product(self, source: Result, weight: Constant, bias: Constant | None) -> Result:
        return self._walk.layer(self._node, Kind.LINEAR, source, weight, bias)

    def apply(self, function: str, x: Result) -> Result:
        return self._walk.emit(self._node, Kind.ACTIVATION, [x], {"function": function}, suffix=f".{function}")

    def part(self, x: Result, first: int, end: int, size: int) -> Result:
        """Parts ``first`` up to ``end`` of so many values each."""
        attributes = {"axis": 1, "start": first * size, "stop": end * size, "step": 1}
        return self._walk.emit(self._node, Kind.SLICE, [x], attributes, suffix=".gate")

    def add(self, *terms: Result) -> Result:
        return self._walk.emit(self._node, Kind.ADD, list(terms), suffix=".add")

    def multiply(self, *factors: Result) -> Result:
        return self._walk.emit(self._node, Kind.MULTIPLY, list(factors), suffix=".multiply")

    def subtract(self, x: Result, y: Result) -> Result:
        return self._walk.emit(self._node, Kind.ELEMENTWISE, [x, y], {"function": "subtract"}, suffix=".subtract")


def _lstm(step: _Step, ours: Result, states: Result, state: list[Result], size: int) -> list[Result]:
    gates = step.add(ours, states)
    keep = step.apply("sigmoid", step.part(gates, 0, 2, size))  # of the input and of the cell's state
    new = step.apply("tanh", step.part(gates, 2, 3, size))
    shown = step.apply("sigmoid", step.part(gates, 3, 4, size))
    taken, held = step.part(keep, 0, 1, size), step.part(keep, 1, 2, size)
    cell = step.add(step.multiply(held, state[1]), step.multiply(taken, new))
    return [step.multiply(shown, step.apply("tanh", cell)), cell]


def _gru(step: _Step, ours: Result, states: Result, state: list[Result], size: int) -> Result:
    gates = step.apply("sigmoid", step.add(step.part(ours, 0, 2, size), step.part(states, 0, 2, size)))
    reset, keep = step.part(gates, 0, 1, size), step.part(gates, 1, 2, size)
    seen = step.multiply(reset, step.part(states, 2, 3, size))
    new = step.apply("tanh", step.add(step.part(ours, 2, 3, size), seen))
    return step.add(new, step.multiply(keep, step.subtract(state[0], new)))  # (1 - keep) * new + keep * state


def _plain(function: str) -> Any:
    def cell(step: _Step, ours: Result, states: Result, state: list[Result], size: int) -> Result:
        return step.apply(function, step.add(ours, states))

    return cell


def _cell(made_of: Any) -> Rule:
    def cell(walk: Walk, node: fx.Node, a: Arguments) -> Any:
        given = a["hx"] if isinstance(a["hx"], list | tuple) else [a["hx"]]
        weights, biases = [walk.value(a[k]) for k in ("w_ih", "w_hh")], [walk.value(a[k]) for k in ("b_ih", "b_hh")]
        source = walk.value(a["input"])
        if not isinstance(source, Result) or any(isinstance(walk.value(x), Fixed) for x in (a["input"], *given)):
            return None
        if any(walk.batch(x) != (0, 1) or len(walk.shape(x)) != 1 for x in (a["input"], *given)):
            return None
        if not all(isinstance(x, Constant) for x in weights + [bias for bias in biases if bias is not None]):
            return None
        step = _Step(walk, node)
        state = [step.state(x, source) for x in given]
        ours = step.product(source, weights[0], biases[0])
        return made_of(step, ours, step.product(state[0], weights[1], biases[1]), state, walk.shape(given[0])[0])

    return cell


rule("lstm_cell")(_cell(_lstm))
rule("gru_cell")(_cell(_gru))
rule("rnn_tanh_cell")(_cell(_plain("tanh")))
rule("rnn_relu_cell")(_cell(_plain("relu")))
