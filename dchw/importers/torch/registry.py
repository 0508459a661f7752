"""What a rule of an ATen operation is, what it may ask of the walk, and the table of all rules.

A rule gets the walk, the node and its arguments by name, and gives the name of the operation that holds the result (a
list for several), or None where that use of the ATen operation has no equal here (it then becomes OTHER). To add an
operation, write its rule in one of the ``rules`` modules and put ``@rule("name")`` above it, the name being ATen's
without name space, overload and in-place mark.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import fx

from dchw.graph.network import OperationKind
from dchw.importers.graph_builder import GraphBuilder
from dchw.importers.import_notes import Notes
from dchw.importers.registry import Registry

Arguments = dict[str, Any]


@dataclass(frozen=True)
class Constant:
    """A tensor that does not depend on the inputs, and the parameters it was computed from."""

    tensor: torch.Tensor
    origins: tuple[str, ...] = ()


@dataclass(frozen=True)
class Layout:
    """How a weight comes from its parameter: reshaped to ``split``, axes in ``order``, reshaped to ``shape``."""

    split: tuple[int, ...]
    order: tuple[int, ...]
    shape: tuple[int, ...]

    def of(self, parameter: torch.Tensor) -> torch.Tensor:
        """The weight."""
        return parameter.reshape(self.split).permute(self.order).reshape(self.shape)

    def back(self, parameter: torch.Tensor) -> tuple[tuple[int, ...], ...]:
        """What makes the parameter of the weight again: the attribute ``origin`` of a layer."""
        split = tuple(self.split[axis] for axis in self.order)
        order = tuple(self.order.index(axis) for axis in range(len(self.order)))
        return split, order, tuple(parameter.shape)


class Result(str):
    """The name of an operation of the graph; a plain text among an operation's arguments is none."""

    __slots__ = ()


class Fixed(Result):
    """An operation that gives the same for every example, so that torch's value has no batch axis."""

    __slots__ = ()


class Walk(Protocol):
    """The walk over an exported program, as rules see it."""

    builder: GraphBuilder
    notes: Notes

    def value(self, argument: Any) -> Any:
        """What an argument stands for: a Result, a Constant, a list of those, or a plain value."""

    def operand(self, node: fx.Node, argument: Any) -> Result:
        """The name of an operation that gives an argument's value; constants become operations of their own."""

    def shape(self, node: fx.Node | torch.Tensor) -> tuple[int, ...]:
        """Shape of a node's value without its batch axis, wherever that lies."""

    def place(self, node: fx.Node) -> int | None:
        """Which axis of torch's value is the batch axis; None where it is merged with another or gone."""

    def batch(self, node: fx.Node) -> tuple[int, int] | None:
        """(place, k) of the axis that holds the batch, with k parts of each example behind one another in it.

        Merged with another axis (k above 1), it stays an axis of size k here; None where the batch is gone.
        """

    def axis(self, node: fx.Node, axis: int) -> int | None:
        """The axis of an operation's value that is one of torch's; 0: the batch axis, None: one merged with it."""

    def aligned(self, node: fx.Node, arguments: Sequence[Any]) -> bool:
        """Whether operands can be combined element by element."""

    def emit(
        self,
        node: fx.Node,
        kind: OperationKind,
        inputs: Sequence[str],
        attributes: dict[str, Any] | None = None,
        *,
        suffix: str = "",
    ) -> Result:
        """Append an operation, named after the node's module, and give its name."""

    def layer(
        self,
        node: fx.Node,
        kind: OperationKind,
        source: str | Sequence[str],
        weight: Constant,
        bias: Constant | None,
        attributes: dict[str, Any] | None = None,
        *,
        layout: Layout | None = None,
    ) -> Result:
        """Append a layer, named after the module or parameter that owns its weight; used again, it is stored once."""

    def table(self, node: fx.Node, source: str, weight: Constant) -> Result:
        """Append an embedding, or a second use of a table or of a layer's weights."""


Rule = Callable[[Walk, fx.Node, Arguments], Any]
rule: Registry[Rule] = Registry()
"""ATen operation -> rule."""
