"""Nodes with bodies: `If`, `Loop` and functions of the file are followed until only plain nodes are left.

The branch that is taken, every step of a loop and the nodes of a function are read as if they stood where they are
used. That takes conditions and counts that do not depend on the inputs, and a bound on how many nodes come of it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np

from dchw.graph.operations import OperationKind
from dchw.importers.onnx.constants import held, parameters_in, with_attributes
from dchw.importers.onnx.folding import Folding
from dchw.importers.onnx.registry import OnnxGraph, Shape, Value
from dchw.importers.onnx.scopes import Scopes
from dchw.quantities import DchwError

MOST_NODES = 20_000
"""Nodes that one file may come to beyond its own, with the bodies of loops and functions as often as they run."""


class BodyReader(OnnxGraph, Protocol):
    """Who reads the nodes of a body."""

    scopes: Scopes
    folding: Folding

    def read_graph(self, graph: Any) -> None:
        """Read the initialisers and nodes of a graph into the present scope."""

    def read_node(self, node: Any) -> None:
        """Read one node into the present scope."""

    def settled(self, operation: str, shape: Shape | None, dtype: int | None) -> Value:
        """The value an operation gives, in the shape that belongs to ONNX's."""


class ControlFlow:
    """Follows nodes with bodies. ``own_nodes``: how many nodes the file has itself; ``scalars``: its scalar inputs."""

    def __init__(
        self, reader: BodyReader, functions: Mapping[tuple[str, str], Any], own_nodes: int, scalars: list[str]
    ) -> None:
        self.skipped: Counter[str] = Counter()
        """Parameters of branches that are never taken, by the node that has them."""
        self._reader = reader
        self._functions = functions
        self._nodes = -own_nodes
        self._scalars = scalars

    def count(self, node: Any) -> None:
        """Count a node that is read; raises DchwError where there are more than `MOST_NODES` too many."""
        self._nodes += 1
        if self._nodes > MOST_NODES:
            raise DchwError(
                f"{self._where}: it comes to over {MOST_NODES:,} nodes more when its loops and functions are "
                f"unrolled, the last of them {node.name or node.op_type!r}; give smaller input sizes"
            )

    def outputs(self, node: Any) -> list[Value] | None:
        """The outputs of a node with a body, which is read; None for a node without one."""
        if node.op_type in ("If", "Loop") and node.domain in ("", "ai.onnx"):
            bodies = {a.name: a.g for a in node.attribute if a.HasField("g")}
            results = self._branch(node, bodies) if node.op_type == "If" else self._loop(node, bodies["body"])
            if len(results) != len(node.output):
                raise ValueError(f"its body gives {len(results)} values for {len(node.output)} outputs")
            return results
        function = self._functions.get((node.domain, node.op_type))
        return None if function is None else self._call(node, function)

    @property
    def _where(self) -> str:
        return self._reader.builder.where

    def _body(self, graph: Any, values: dict[str, Value]) -> list[Value]:
        with self._reader.scopes.inside(values):
            self._reader.read_graph(graph)
            return [self._reader.value(one.name) for one in graph.output]

    def _branch(self, node: Any, bodies: Mapping[str, Any]) -> list[Value]:
        condition = self._decided(node, node.input[0], "condition")
        taken, left = ("then_branch", "else_branch") if condition else ("else_branch", "then_branch")
        parameters = parameters_in(bodies[left])
        if parameters:
            self.skipped[node.name or node.output[0]] += parameters
        return self._body(bodies[taken], {})

    def _loop(self, node: Any, body: Any) -> list[Value]:
        count = int(self._decided(node, node.input[0], "count")) if node.input[0] else None
        going = bool(self._decided(node, node.input[1], "condition")) if node.input[1] else True
        if count is None and not node.input[1]:
            raise ValueError("it has neither a count nor a condition, so it never ends")
        state = [self._reader.value(name) for name in node.input[2:]]
        names = [one.name for one in body.input]
        if len(names) != len(state) + 2:
            raise ValueError(f"its body has {len(names)} inputs for {len(state)} states")
        rows: list[list[Value]] = [[] for _ in body.output[1 + len(state) :]]
        step = 0
        while going and (count is None or step < count):
            self._nodes += 1  # an empty body too must come to an end
            values = dict(zip(names, [held(np.asarray(step)), held(np.asarray(going)), *state], strict=True))
            went_on, *results = self._body(body, values)
            if went_on.constant is None:
                raise ValueError("whether it goes on depends on the input; only loops that do not are unrolled")
            going, state = bool(went_on.constant), results[: len(state)]
            for row, result in zip(rows, results[len(state) :], strict=True):
                row.append(result)
            step += 1
            if self._nodes > MOST_NODES:
                raise DchwError(
                    f"{self._where}: loop {node.name or node.output[0]!r} runs for more than {step:,} steps, "
                    f"which come to over {MOST_NODES:,} nodes; give smaller input sizes"
                )
        return [*state, *(self._stacked(node, row) for row in rows)]

    def _stacked(self, node: Any, row: list[Value]) -> Value:
        """The outputs of all steps of a loop along a new first axis."""
        if not row:
            raise ValueError("it runs for no step, so an output is empty")
        reader, shape = self._reader, (len(row), *row[0].shape)
        if all(value.constant is not None for value in row):
            reader.folding.admit(f"loop {node.name!r}", [shape])
            return held(np.stack([value.constant for value in row if value.constant is not None]))
        parts = []
        with reader.scopes.inside({str(i): value for i, value in enumerate(row)}):
            for i in range(len(row)):
                made = reader.operation(str(i))
                parts.append(reader.add(node, OperationKind.RESHAPE, [made], {"shape": (1, *row[0].shape)}))
        made = parts[0] if len(parts) == 1 else reader.add(node, OperationKind.CONCAT, parts, {"axis": 1})
        return reader.settled(made, shape, row[0].dtype)

    def _call(self, node: Any, function: Any) -> list[Value]:
        given = {a.name: a for a in node.attribute}
        defaults = {a.name: a for a in function.attribute_proto}
        named = zip(function.input, node.input, strict=False)
        with self._reader.scopes.inside({name: self._reader.value(source) for name, source in named if source}):
            for inner in function.node:
                self._reader.read_node(with_attributes(inner, {**defaults, **given}))
            return [self._reader.value(name) for name in function.output]

    def _decided(self, node: Any, name: str, what: str) -> Any:
        array = self._reader.constant(name)
        if array is None:
            hint = f"give the value of a scalar input, --input {self._scalars[0]}=NUMBER" if self._scalars else ""
            raise DchwError(
                f"{self._where}: node {node.name or node.output[0]!r} ({node.op_type}): its {what} depends on "
                f"the inputs, and only one that does not can be followed; "
                + (hint or "cut the graph in front of it with onnx.utils.extract_model")
            )
        return array.reshape(-1)[0]
