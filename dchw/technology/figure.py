"""A number that says where it comes from: nominal value, range, unit, source and confidence.

Ranges follow interval arithmetic: the low end of a sum is the sum of the low ends. That is the widest reading, the
right one where the causes of the ranges are shared (one table, one process) and nothing is known of their correlation.

A range has named causes (`Figure.because`), and sums and products keep them apart: `Figure.moves` says what the nominal
value becomes when one cause alone goes to an end of its range. That is what one-at-a-time sensitivity needs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Literal, NamedTuple

from dchw.quantities import DchwError

SOURCE_JOINT = "; "


class Confidence(StrEnum):
    """How a figure was obtained, from the strongest to the weakest."""

    MEASURED = "measured"
    PUBLISHED = "published"
    FROM_TABLE = "from table"
    INTERPOLATED = "interpolated"
    DERIVED = "derived"
    ASSUMED = "assumed"

    @property
    def rank(self) -> int:
        """0 for the strongest; a combination is as weak as its weakest part."""
        return _RANKS[self]


_RANKS = {confidence: rank for rank, confidence in enumerate(Confidence)}


class Move(NamedTuple):
    """A figure's nominal value when one cause alone is at the low, or at the high, end of its range."""

    cause: str
    low: float
    high: float


@dataclass(frozen=True)
class Figure:
    """``nominal`` with ``low <= nominal <= high``, all finite, in ``unit``; ``source`` is never empty."""

    nominal: float
    low: float
    high: float
    unit: str
    source: str
    confidence: Confidence
    moves: tuple[Move, ...] = ()
    """One per cause of the range, each cause once."""

    def __post_init__(self) -> None:
        if not all(math.isfinite(value) for value in (self.low, self.nominal, self.high)):
            raise DchwError(
                f"figure of {self.source or 'no source'}: expected finite numbers; got {self.low}, {self.nominal}, "
                f"{self.high} {self.unit}; give a value that was measured, published or assumed"
            )
        if not self.low <= self.nominal <= self.high:
            raise DchwError(
                f"figure of {self.source or 'no source'}: expected low <= nominal <= high; got {self.low}, "
                f"{self.nominal}, {self.high} {self.unit}; order the range"
            )
        if not self.source.strip():
            raise DchwError(
                f"figure of {self.nominal} {self.unit}: expected a source; got none; say where the number comes from"
            )

    @property
    def sources(self) -> tuple[str, ...]:
        """The single sources that ``source`` joins."""
        return tuple(self.source.split(SOURCE_JOINT))

    def because(self, cause: str) -> Figure:
        """The same figure, its whole range put down to one cause; a figure without a range has none."""
        return replace(self, moves=(Move(cause, self.low, self.high),) if self.low < self.high else ())

    def __add__(self, other: Figure) -> Figure:
        return combine((self, other))

    def __radd__(self, other: int) -> Figure:
        """Lets ``sum`` start at its 0."""
        if other != 0:
            return NotImplemented
        return self

    def __mul__(self, factor: float) -> Figure:
        """Scaling by an exact, non-negative factor (a count, a width ratio): the range scales with the value."""
        if not factor >= 0 or math.isinf(factor):
            raise DchwError(
                f"figure of {self.source}: expected a finite factor of at least 0; got {factor}; a count cannot be "
                "negative"
            )
        return replace(
            self,
            nominal=self.nominal * factor,
            low=self.low * factor,
            high=self.high * factor,
            moves=tuple(Move(cause, low * factor, high * factor) for cause, low, high in self.moves),
        )

    __rmul__ = __mul__

    def times(self, other: Figure, unit: str) -> Figure:
        """The product of two non-negative figures, in ``unit``; the ends of the range multiply."""
        if self.low < 0 or other.low < 0:
            raise DchwError(
                f"figure of {self.source}: expected non-negative ranges to multiply; got {self.low} and {other.low}; "
                "only sums of figures may be negative"
            )
        return Figure(
            self.nominal * other.nominal,
            self.low * other.low,
            self.high * other.high,
            unit,
            _join((self, other)),
            max(self.confidence, other.confidence, key=lambda c: c.rank),
            _moved((self, other), math.prod),
        )

    def converted(self, unit: str, factor: float) -> Figure:
        """The same figure in another unit, ``factor`` of them to one of this (pJ per cycle times GHz is mW)."""
        return replace(self * factor, unit=unit)

    def noted(self, note: str, confidence: Confidence | None = None) -> Figure:
        """The same value with one more source; the confidence can only get weaker."""
        weaker = self.confidence if confidence is None else max(self.confidence, confidence, key=lambda c: c.rank)
        extra = Figure(0.0, 0.0, 0.0, self.unit, note, weaker)
        return replace(self, source=_join((self, extra)), confidence=weaker)

    def widened(self, low: float, high: float, cause: str) -> Figure:
        """The range stretched to ``low`` and ``high`` times the nominal where wider, put down to ``cause``."""
        return replace(self, low=min(self.low, self.nominal * low), high=max(self.high, self.nominal * high)).because(
            cause
        )


def exact(value: float, unit: str, source: str, confidence: Confidence = Confidence.PUBLISHED) -> Figure:
    """A figure whose source gives no range."""
    return Figure(value, value, value, unit, source, confidence)


def spread(nominal: float, low: float, high: float, unit: str, source: str, confidence: Confidence) -> Figure:
    """A figure from a nominal value and relative ends: ``spread(10, 0.8, 1.3, ...)`` is 10 in 8 .. 13."""
    return Figure(nominal, nominal * low, nominal * high, unit, source, confidence)


def combine(figures: Iterable[Figure]) -> Figure:
    """The sum of components of one unit: ranges add, every source is named once, the weakest confidence holds."""
    parts = tuple(figures)
    if not parts:
        raise DchwError("sum of figures: expected at least one figure; got none; leave the component out instead")
    if len({part.unit for part in parts}) > 1:
        units = ", ".join(sorted({part.unit for part in parts}))
        raise DchwError(f"sum of figures: expected one unit; got {units}; convert before adding")
    return Figure(
        math.fsum(part.nominal for part in parts),
        math.fsum(part.low for part in parts),
        math.fsum(part.high for part in parts),
        parts[0].unit,
        _join(parts),
        max((part.confidence for part in parts), key=lambda c: c.rank),
        _moved(parts, math.fsum),
    )


def slowest(figures: Iterable[Figure]) -> Figure:
    """The longest of parallel delays: every end of the range is the maximum of that end; all sources are kept."""
    parts = tuple(figures)
    total = combine(parts)
    return replace(
        total,
        nominal=max(part.nominal for part in parts),
        low=max(part.low for part in parts),
        high=max(part.high for part in parts),
        moves=_moved(parts, max),
    )


def _moved(parts: tuple[Figure, ...], together: Callable[[Iterable[float]], float]) -> tuple[Move, ...]:
    """One move per cause of any part: the parts it moves at their ends, the others nominal."""
    causes = dict.fromkeys(move.cause for part in parts for move in part.moves)
    ends = [{move.cause: move for move in part.moves} for part in parts]

    def at(cause: str, end: Literal["low", "high"]) -> float:
        return together(
            getattr(moves[cause], end) if cause in moves else part.nominal
            for part, moves in zip(parts, ends, strict=True)
        )

    return tuple(Move(cause, at(cause, "low"), at(cause, "high")) for cause in causes)


def _join(figures: Iterable[Figure]) -> str:
    return SOURCE_JOINT.join(dict.fromkeys(source for figure in figures for source in figure.sources))
