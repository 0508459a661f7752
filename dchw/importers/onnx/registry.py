"""What a rule of an ONNX operator is, what it may ask of the graph it adds to, and the table of all rules.

A rule gets the graph, the node and its attributes, and gives the name of the operation that holds the result (a list
for several outputs), or None where that use of the operator has no equal here (it then becomes OTHER). To add an
operator, write its rule in one of the ``rules`` modules and put ``@rule("Name")`` above it. Defaults are those of the
operator's definition in ONNX.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from dchw.graph.network import Array, OperationKind
from dchw.importers.builder import GraphBuilder
from dchw.importers.registry import Registry

Attributes = dict[str, Any]


class OnnxGraph(Protocol):
    """The walk over an ONNX graph, as rules see it."""

    builder: GraphBuilder
    notes: list[str]
    constants: dict[str, Array]
    """Values that do not depend on the inputs."""
    readers: dict[str, int]
    """How many nodes read a value."""
    version: int
    """Version of the operator set."""

    def constant(self, value: str) -> Array | None:
        """The array of a value that does not depend on the inputs."""

    def operation(self, value: str) -> str:
        """The operation that gives a value; a constant becomes one."""

    def shape(self, value: str) -> tuple[int, ...]:
        """Shape of a value without its batch axis."""

    def name(self, node: Any) -> str:
        """A free name for a node's operation."""

    def layer_name(self, node: Any, weight: str) -> str:
        """A free name for a layer: its weight's, if that says whose it is."""

    def own(self, layer: str, weight: str, bias: str | None, **attributes: Any) -> None:
        """Record which initialisers a layer's arrays came from."""


Rule = Callable[[OnnxGraph, Any, Attributes], Any]
rule: Registry[Rule] = Registry()
"""ONNX operator -> rule."""


def optional_input(node: Any, index: int) -> str | None:
    """The name of an input that may be absent."""
    return node.input[index] if len(node.input) > index and node.input[index] else None


def add(graph: OnnxGraph, node: Any, kind: OperationKind, attributes: Attributes) -> str:
    """Append an operation that reads the node's first input."""
    return graph.builder.add(kind, graph.name(node), [graph.operation(node.input[0])], attributes)
