"""The values that pass through a network: computed once, and again only where decoded weights differ.

Formats that round nothing decode to equal weights, so a comparison multiplies them once. Whether they are equal is
looked at bit by bit on every run, because what a run gives is what its own packed bits say.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from dchw.compression.compressed import CodeArray
from dchw.formats import WeightRows
from dchw.formats.packing.decoded import same_bits
from dchw.graph.network import FloatArray

_ROWS = 64
"""Rows of a matrix that are looked at together."""


@dataclass(frozen=True, eq=False)
class KnownWeights:
    """What weights there were: the bits of all that are not +0.0, and where; most of a pruned network's are."""

    shape: tuple[int, ...]
    at: npt.NDArray[np.uint32] | npt.NDArray[np.int64]
    bits: npt.NDArray[np.uint32]

    @classmethod
    def of(cls, weights: FloatArray | WeightRows) -> KnownWeights:
        """Those of a matrix or an array."""
        at, bits = [np.zeros(0, np.int64)], [np.zeros(0, np.uint32)]
        for start, block in _blocks(weights):
            there = np.flatnonzero(block != 0)  # of bools zeros are found many at a time
            at.append(there + start)
            bits.append(block[there])
        places = np.concatenate(at)
        return cls(
            weights.shape,
            places.astype(np.uint32) if math.prod(weights.shape) < 2**32 else places,
            np.concatenate(bits),
        )

    def equal(self, other: FloatArray | WeightRows) -> bool:
        """Whether others are the same, bit by bit; -0.0 is another weight than +0.0, and no NaN gets this far."""
        return other.shape == self.shape and all(self._equal_at(start, block) for start, block in _blocks(other))

    def _equal_at(self, start: int, block: npt.NDArray[np.uint32]) -> bool:
        first, end = np.searchsorted(self.at, np.array([start, start + block.size], self.at.dtype))
        return int(np.count_nonzero(block)) == end - first and bool(
            (block[self.at[first:end] - start] == self.bits[first:end]).all()
        )


def _blocks(weights: FloatArray | WeightRows) -> Iterator[tuple[int, npt.NDArray[np.uint32]]]:
    """(first place, bits) of a few rows of a matrix at a time, of anything else at once."""
    step = _ROWS if len(weights.shape) == 2 else max(weights.shape[0], 1)
    for first in range(0, weights.shape[0], step):
        rows = weights[first : first + step]
        yield first * math.prod(weights.shape[1:]), np.ascontiguousarray(rows).reshape(-1).view(np.uint32)


class Weights(Protocol):
    """What an operation multiplies its inputs with."""

    @property
    def coded(self) -> CodedWeights | None:
        """The codes of a layer and what they stand for, where they are that, bit by bit."""

    @property
    def arrays(self) -> tuple[FloatArray | WeightRows, ...]:
        """The weights themselves."""


@dataclass(frozen=True, eq=False)
class CodedWeights:
    """Weights that are the codes of a compressed layer, not copied, and a value for each of them."""

    codes: CodeArray
    """[out_channels, columns]"""
    values: FloatArray
    """float32[codes]"""
    bias: FloatArray | None

    def equal(self, weights: Weights) -> bool:
        """Whether others are the same, bit by bit."""
        other = weights.coded
        return other is not None and all(
            same_bits(one, another)
            for one, another in (
                (self.codes, other.codes),
                (self.values, other.values),
                (self.bias, other.bias),
            )
        )

    def __reduce__(self) -> tuple[Any, ...]:
        # what is put away is what there is to compare with, whoever holds it then
        matrix = self.values[self.codes]
        known = KnownArrays.of((matrix,) if self.bias is None else (matrix, self.bias))
        return KnownArrays, (known.known,)  # by its class: readers of what others wrote call nothing but frozen values


@dataclass(frozen=True, eq=False)
class KnownArrays:
    """Weights that are no layer's own, as they were."""

    known: tuple[KnownWeights, ...]

    @classmethod
    def of(cls, arrays: Sequence[FloatArray | WeightRows]) -> KnownArrays:
        """Those of arrays."""
        return cls(tuple(map(KnownWeights.of, arrays)))

    def equal(self, weights: Weights) -> bool:
        """Whether others are the same, bit by bit."""
        arrays = weights.arrays
        return len(arrays) == len(self.known) and all(
            one.equal(other) for one, other in zip(self.known, arrays, strict=True)
        )


@dataclass(frozen=True, eq=False)
class KnownValue:
    """What an operation gave for these very inputs and these weights; None: it has none."""

    inputs: tuple[FloatArray, ...]
    weights: CodedWeights | KnownArrays | None
    out: FloatArray


@dataclass(frozen=True, kw_only=True, eq=False)
class KnownPass:
    """A forward pass to be kept: where it began, and what operations gave. Arrays are one and the same where a value
    is another's input."""

    start: tuple[dict[str, FloatArray], str]
    values: dict[str, KnownValue]


class ForwardPass:
    """What operations gave, by name, for the inputs and weights they had; the first is kept."""

    def __init__(self, *, keeps: bool = True, known: KnownPass | None = None) -> None:
        """``keeps``: whether there are other runs to keep values for; ``known``: what `known` gave before."""
        self.keeps = keeps
        """Whether there are other runs."""
        self._known: dict[str, KnownValue] = {} if known is None else dict(known.values)
        self._start = None if known is None else known.start
        self.computed = 0
        """Operations computed so far."""
        self.seconds = 0.0
        """Processor time that took."""

    @property
    def known(self) -> KnownPass | None:
        """What is kept, for a pass that goes on from it; None before there is anything."""
        return None if self._start is None else KnownPass(start=self._start, values=dict(self._known))

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
        weights: Weights | None = None,
    ) -> FloatArray:
        """What an operation gives for these very input arrays and equal weights."""
        known = self._known.get(name)
        if (
            known is not None
            and all(one is other for one, other in zip(known.inputs, inputs, strict=True))
            and _equal(known.weights, weights)
        ):
            return known.out
        self.computed += 1
        start = time.process_time()
        out = compute()
        self.seconds += time.process_time() - start
        if self.keeps and name not in self._known:
            kept = None if weights is None else weights.coded or KnownArrays.of(weights.arrays)
            self._known[name] = KnownValue(tuple(inputs), kept, out)
        return out


def _equal(known: CodedWeights | KnownArrays | None, weights: Weights | None) -> bool:
    if known is None:
        return weights is None
    return weights is not None and known.equal(weights)
