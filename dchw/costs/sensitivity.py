"""Which assumptions move a total: one cause of ranges, or one choice of silicon, at a time, all others nominal."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from dchw.costs.rows import CostRow
from dchw.technology.figure import Confidence


@dataclass(frozen=True, kw_only=True)
class Assumption:
    """What the total becomes when one assumption moves to the ends of its range."""

    name: str
    energy_pj: float
    """What the rows that rest on it add to the nominal total; a row may rest on several assumptions."""
    total_low_pj: float
    total_high_pj: float
    confidence: Confidence
    """The weakest among the figures of its rows."""
    sources: tuple[str, ...]

    @property
    def swing_pj(self) -> float:
        """Width of the total's range."""
        return self.total_high_pj - self.total_low_pj


def by_cause(rows: Iterable[CostRow]) -> tuple[Assumption, ...]:
    """One assumption per cause named in the figures (`dchw.technology.figure.Move`), the widest swing first."""
    rows = tuple(rows)
    total = math.fsum(row.energy_pj for row in rows)
    resting: dict[str, list[tuple[CostRow, float, float]]] = {}
    for row in rows:
        for cause, low, high in row.each.moves:
            ends = (row.count * (low - row.each.nominal), row.count * (high - row.each.nominal))
            resting.setdefault(cause, []).append((row, *ends))
    return widest_first(
        Assumption(
            name=cause,
            energy_pj=math.fsum(row.energy_pj for row, _, _ in moved),
            total_low_pj=total + math.fsum(low for _, low, _ in moved),
            total_high_pj=total + math.fsum(high for _, _, high in moved),
            confidence=max((row.each.confidence for row, _, _ in moved), key=lambda c: c.rank),
            sources=tuple(dict.fromkeys(source for row, _, _ in moved for source in row.each.sources)),
        )
        for cause, moved in resting.items()
    )


def widest_first(assumptions: Iterable[Assumption]) -> tuple[Assumption, ...]:
    """By swing, then by name."""
    return tuple(sorted(assumptions, key=lambda a: (-a.swing_pj, a.name)))
