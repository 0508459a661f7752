"""The values that pass through a network: computed once, and again only where decoded weights differ.

Formats that round nothing decode to equal weights, so a comparison multiplies them once. Whether they are equal is
looked at bit by bit on every run, because what a run gives is what its own packed bits say.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from dchw.graph.network import FloatArray


@dataclass(frozen=True, eq=False)
class _Known:
    inputs: tuple[FloatArray, ...]
    weights: tuple[_Weights, ...]
    out: FloatArray


class _Weights:
    """What weights there were: the bits of all that are not +0.0, and where; most of a pruned network's are."""

    def __init__(self, weights: FloatArray) -> None:
        bits = weights.reshape(-1).view(np.uint32)
        self._shape, self._at = weights.shape, np.flatnonzero(bits)
        if weights.size < 2**32:
            self._at = self._at.astype(np.uint32)
        self._bits = bits[self._at]

    def equal(self, other: FloatArray) -> bool:
        """Whether others are the same, bit by bit; -0.0 is another weight than +0.0, and no NaN gets this far."""
        bits = other.reshape(-1).view(np.uint32)
        return (
            other.shape == self._shape
            and int(np.count_nonzero(bits)) == self._bits.size
            and bool((bits[self._at] == self._bits).all())
        )


class ForwardPass:
    """What operations gave, by name, for the inputs and weights they had; the first is kept."""

    def __init__(self, *, keeps: bool = True) -> None:
        """``keeps``: whether there are other runs to keep values for."""
        self._keeps = keeps
        self._known: dict[str, _Known] = {}
        self._start: tuple[dict[str, FloatArray], str] | None = None
        self.computed = 0
        """Operations computed so far."""

    def start(self, make: Callable[[], tuple[dict[str, FloatArray], str]]) -> tuple[dict[str, FloatArray], str]:
        """The network's inputs and where they came from: the same arrays in every run that shares this pass."""
        if self._start is None:
            self._start = make()
        values, origin = self._start
        return dict(values), origin

    def value(
        self,
        name: str,
        inputs: Sequence[FloatArray],
        compute: Callable[[], FloatArray],
        weights: Sequence[FloatArray] = (),
    ) -> FloatArray:
        """What an operation gives for these very input arrays and equal weights."""
        known = self._known.get(name)
        if (
            known is not None
            and all(one is other for one, other in zip(known.inputs, inputs, strict=True))
            and len(known.weights) == len(weights)
            and all(one.equal(other) for one, other in zip(known.weights, weights, strict=True))
        ):
            return known.out
        self.computed += 1
        out = compute()
        if self._keeps and name not in self._known:
            self._known[name] = _Known(tuple(inputs), tuple(map(_Weights, weights)), out)
        return out
