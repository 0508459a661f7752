"""What a rule of an ONNX operator is, what it may ask of the graph it adds to, and the table of all rules.

A rule gets the graph, the node and its attributes, and gives the name of the operation that holds the result (a list
for several outputs), or None where that use of the operator has no equal here (it then becomes OTHER). The result may
lie in any shape of the right number of values: the walk puts it into the one that belongs to ONNX's shape. To add an
operator, write its rule in one of the ``*_rules`` modules and put ``@rule("Name")`` above it. Defaults are those of the
operator's definition in ONNX.

Shapes. A graph is read for one example, so ONNX's shapes are plain numbers. An operation here holds ONNX's array
without its leading axis where that has size 1, as the batch axis does, and the whole array otherwise; both behind the
batch axis that every operation has. So examples never mix, and their number stays free.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from dchw.graph.operations import Array, OperationKind
from dchw.importers.graph_builder import GraphBuilder
from dchw.importers.import_notes import Notes
from dchw.importers.registry import Registry

Attributes = dict[str, Any]
Shape = tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class Quantised:
    """How the whole numbers of a quantised value stand for real ones: (number - zero) * scale."""

    scale: float
    zero: int
    low: int
    high: int


@dataclass(frozen=True, kw_only=True, eq=False)
class Value:
    """A value of the ONNX graph: a constant, or what an operation gives (in real numbers where it is quantised)."""

    shape: Shape
    """ONNX's shape, the batch axis (of size 1) included."""
    dtype: int
    """ONNX's element type."""
    constant: Array | None = None
    operation: str | None = None
    parameter: str | None = None
    """The initialiser that a constant is, as it is."""
    quantised: Quantised | None = None
    stands_in: bool = False
    """Whether it follows from a step that stands in for one which the file computes from its input."""


class OnnxGraph(Protocol):
    """The walk over an ONNX graph, as rules see it."""

    builder: GraphBuilder
    notes: Notes
    version: int
    """Version of the operator set."""
    batch: int | None
    """The number of examples that the file fixes, where one of them is read; None otherwise."""

    def value(self, name: str) -> Value:
        """What stands under a name in the graph."""

    def constant(self, name: str) -> Array | None:
        """The array of a value that does not depend on the inputs."""

    def shape(self, name: str) -> Shape:
        """ONNX's shape of a value, the batch axis included."""

    def operation(self, name: str) -> str:
        """The operation that gives a value, in the shape described above; a constant becomes one."""

    def whole(self, name: str) -> str:
        """An operation that gives a value in ONNX's shape, behind a batch axis of its own."""

    def along(self, name: str, *axes: int) -> tuple[str, int]:
        """An operation that gives a value, and what to add to ONNX's axes to get those of the operation.

        ``axes``: the (non-negative) axes that are going to be touched.
        """

    def expected(self, index: int = 0) -> Shape | None:
        """ONNX's shape of an output of the present node; None where it cannot be inferred."""

    def quantises(self, how: Quantised) -> None:
        """Record how the present node's first output is quantised."""

    def shaped(self, operation: str, shape: Shape, dtype: int | None = None) -> str:
        """Record ONNX's shape of an operation, for operators whose definition does not tell."""

    def read_once(self, name: str) -> bool:
        """Whether a value has one reader and is no output."""

    def add(
        self,
        node: Any,
        kind: OperationKind,
        sources: Sequence[str],
        attributes: Attributes | None = None,
        *,
        suffix: str = "",
    ) -> str:
        """Append an operation named after a node."""

    def name(self, node: Any, suffix: str = "") -> str:
        """A free name for a node's operation."""

    def amend_layer(self, operation: str, *, factor: Array | None = None, bias: Array | None = None) -> bool:
        """Multiply what a layer gives by ``factor`` [out], or add ``bias`` [out]; False where that is not possible."""

    def stored(self, node: Any, array: Array | float, *, suffix: str = ".constant") -> str:
        """Append a constant that the importer made, in just this shape behind a batch axis."""

    def layer(
        self,
        node: Any,
        kind: OperationKind,
        sources: Sequence[str],
        weight: str,
        array: Array,
        bias: Array | None = None,
        attributes: Attributes | None = None,
        *,
        bias_name: str | None = None,
        layout: Attributes | None = None,
        suffix: str = "",
    ) -> str:
        """Append a layer whose weight is ``array``, made of the value ``weight``; used again, it is stored once.

        ``layout``: attributes that say how the weight lies in its parameter (``transposed``, ``origin``).
        """


Rule = Callable[[OnnxGraph, Any, Attributes], Any]
rule: Registry[Rule] = Registry()
"""ONNX operator -> rule."""


def optional_input(node: Any, index: int) -> str | None:
    """The name of an input that may be absent."""
    return node.input[index] if len(node.input) > index and node.input[index] else None


def listed(graph: OnnxGraph, node: Any, a: Attributes, index: int, name: str) -> list[int] | None:
    """Whole numbers that older operator sets have as an attribute and newer ones as an input; None where open."""
    given = optional_input(node, index)
    if given is None:
        return [int(x) for x in a[name]] if name in a else None
    array = graph.constant(given)
    return None if array is None else [int(x) for x in array.reshape(-1)]


def without_batch(shape: Shape) -> Shape:
    """The shape of the operation that holds a value of ONNX's shape."""
    return shape[1:] if shape[:1] == (1,) else shape
