"""Coverage: where every parameter of a network went, and what share of them results account for.

A parameter is in a layer (compressed, multiplied), stored as it is (a normalisation, an embedding, an operation that is
not computed: 4 bytes a value in every file and in the DRAM traffic of every storage format), or left out.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from dchw import showing
from dchw.graph.operations import Operation, OperationKind

STORED_BYTES = 4
"""Bytes of a value that is stored as it is: float32, in every storage format."""


class Place(StrEnum):
    """Where parameters went."""

    LAYER = "layer"
    STORED = "stored"
    LEFT_OUT = "left out"


@dataclass(frozen=True, kw_only=True)
class LeftOut:
    """Parameters of the source that are in no operation of the graph."""

    name: str
    parameters: int
    reason: str


@dataclass(frozen=True, kw_only=True)
class ParameterGroup:
    """Parameters that went the same way."""

    name: str
    """Of the layer, of the stored array, or of what is left out."""
    operation: str | None
    """The operation that holds them; None where they are left out."""
    parameters: int
    place: Place
    reason: str = ""
    """Why they are stored as they are, or left out."""
    read: int = 0
    """Of stored ones, how many values one inference reads: the rows that are looked up, otherwise all."""


@dataclass(frozen=True, kw_only=True)
class Coverage:
    """What a network's parameters are, and which of them sizes, traffic and energy account for."""

    rows: tuple[ParameterGroup, ...]

    @property
    def parameters(self) -> int:
        """All parameters, those left out included."""
        return sum(row.parameters for row in self.rows)

    @property
    def share(self) -> float:
        """Share of the parameters that is accounted for, 0 to 1."""
        left = self._sum(Place.LEFT_OUT)
        return 1.0 if left == 0 else 1.0 - left / self.parameters

    def _sum(self, place: Place) -> int:
        return sum(row.parameters for row in self.rows if row.place is place)

    def at(self, place: Place) -> tuple[ParameterGroup, ...]:
        """The rows of one place, in order."""
        return tuple(row for row in self.rows if row.place is place)

    @property
    def stored_bytes(self) -> int:
        """Bytes of what is stored as it is."""
        return STORED_BYTES * self._sum(Place.STORED)

    @property
    def reasons(self) -> dict[str, str]:
        """Why what is in no layer is in none, by name."""
        return {row.name: row.reason for row in self.rows if row.place is not Place.LAYER}

    def sentence(self) -> str:
        """What a result says about it in one line."""
        layers, stored, left = (self._sum(place) for place in Place)
        text = f"{_percent(self.share)} of {self.parameters:,} parameters are accounted for: {layers:,} in layers"
        if stored:
            text += f", {stored:,} stored as they are ({_reasons(self.at(Place.STORED))})"
        if left:
            text += f"; {left:,} are left out ({_reasons(self.at(Place.LEFT_OUT))})"
        return text

    def __str__(self) -> str:
        return _percent(self.share)

    def __repr__(self) -> str:
        return showing.line("Coverage", f"{self.share:.1%} of all parameters", f"{len(self.rows)} entries")


def coverage(operations: Sequence[Operation], left_out: Iterable[LeftOut] = ()) -> Coverage:
    """Where the parameters of a graph's operations went; a weight that several operations share counts once."""
    shapes = {op.name: op.output_shape for op in operations}
    rows: list[ParameterGroup] = []
    for op in operations:
        if op.weight is not None:
            size = op.weight.size + (0 if op.bias is None else op.bias.size)
            rows.append(ParameterGroup(name=op.name, operation=op.name, parameters=size, place=Place.LAYER))
        for name, size, reason in stored_arrays(op):
            ids = shapes.get(op.inputs[0]) if op.kind is OperationKind.EMBEDDING else None
            looked_up = size if ids is None else min(size, math.prod(ids) * (op.output_shape or (1,))[-1])
            place = Place.STORED if size else Place.LEFT_OUT  # a name without values, of a graph made by hand
            rows.append(
                ParameterGroup(
                    name=name, operation=op.name, parameters=size, place=place, reason=reason, read=looked_up
                )
            )
    rows += [
        ParameterGroup(
            name=one.name, operation=None, parameters=one.parameters, place=Place.LEFT_OUT, reason=one.reason
        )
        for one in left_out
    ]
    return Coverage(rows=tuple(rows))


def stored_arrays(op: Operation) -> Iterator[tuple[str, int, str]]:
    """(name, values, reason) of every array of parameters that an operation holds beside the weights of a layer."""
    arrays = {key: value for key, value in op.attributes.items() if isinstance(value, np.ndarray)}
    if op.kind is OperationKind.CONSTANT:
        yield op.name, op.attributes["value"].size, op.attributes.get("reason", USED_DIRECTLY)
    elif op.kind is OperationKind.NORMALISATION and "scale" in arrays:
        reason = "a scale and a shift per channel, too few values to share"
        yield op.name, arrays["scale"].size + arrays["shift"].size, reason
    elif op.kind is OperationKind.EMBEDDING and "table" in arrays:
        yield op.name, arrays["table"].size, "an embedding table, which is looked up, not multiplied"
    elif op.kind is OperationKind.OTHER:
        target = op.attributes.get("target", "an unknown operation")
        for index, name in enumerate(op.attributes.get("parameters", ())):
            values = arrays.get(f"parameter_{index}")
            reason = f"belongs to {target!r}, which is not computed here"
            yield name, 0 if values is None else values.size, reason


USED_DIRECTLY = "used directly, not as the weights of a layer"


def _reasons(rows: Sequence[ParameterGroup]) -> str:
    sums: dict[str, int] = {}
    for row in rows:
        sums[row.reason] = sums.get(row.reason, 0) + row.parameters
    most = sorted(sums.items(), key=lambda item: -item[1])
    shown = [f"{count:,}: {reason}" for reason, count in most[:3]]
    return "; ".join([*shown, f"{len(most) - 3} more reasons"] if len(most) > 3 else shown)


def _percent(share: float) -> str:
    """A share in percent, never rounded up to 100."""
    return "100 %" if share == 1.0 else f"{min(99.99, math.floor(share * 10_000) / 100):g} %"
