"""The account of one run: its rows, the sums they add up to, and which assumptions move the total."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from dchw import showing
from dchw.costs.rows import LEAKAGE, AreaRow, CostRow
from dchw.costs.sensitivity import Assumption, by_cause, widest_first
from dchw.quantities import SimulationError

if TYPE_CHECKING:
    import pandas as pd

KEYS = ("category", "stage", "unit", "layer", "stream", "event")
"""What the rows can be summed by."""


@dataclass(frozen=True, kw_only=True)
class Work:
    """What one run did, for energies per piece of it."""

    inferences: int
    macs: int
    """Multiply-accumulates of the uncompressed network, over all inferences."""
    weights: int
    """Weights of the uncompressed network, zeros included."""


@dataclass(frozen=True, kw_only=True, eq=False)
class CostReport:
    """The energy and area account of one run."""

    rows: tuple[CostRow, ...]
    area: tuple[AreaRow, ...]
    scope: str
    """What the DRAM rows cover."""
    seconds: float
    """Duration of the run."""
    work: Work
    alternatives: Callable[[], tuple[Assumption, ...]] = tuple
    """Prices the run on other silicon of the same kind (`dchw.machines.silicon.Silicon.alternatives`)."""
    warnings: tuple[str, ...] = ()
    idle_rows: tuple[CostRow, ...] = ()
    """What a chip that works every storage format adds: silicon this one leaves idle (`dchw.costs.one_chip`)."""
    idle_area: tuple[AreaRow, ...] = ()

    @cached_property
    def choices(self) -> tuple[Assumption, ...]:
        """What the total would be on other silicon, worked out when first asked for."""
        return self.alternatives()

    @property
    def energy_pj(self) -> float:
        """Sum of all rows."""
        return math.fsum(row.energy_pj for row in self.rows)

    @property
    def energy_range_pj(self) -> tuple[float, float]:
        """Sum of the low ends and of the high ends."""
        return math.fsum(row.low_pj for row in self.rows), math.fsum(row.high_pj for row in self.rows)

    @property
    def area_mm2(self) -> float:
        """Sum over the units in use; DRAM is not on the chip."""
        return math.fsum(row.area_mm2.nominal for row in self.area)

    @property
    def one_chip_energy_pj(self) -> float:
        """Total on a chip that works every storage format; ``energy_pj`` is of one that holds what this one needs."""
        return self.energy_pj + math.fsum(row.energy_pj for row in self.idle_rows)

    @property
    def one_chip_area_mm2(self) -> float:
        """Area of that chip."""
        return self.area_mm2 + math.fsum(row.area_mm2.nominal for row in self.idle_area)

    @property
    def leakage_mw(self) -> float:
        """Power of the units in use while nothing is clocked: 1 mW for one second is 1e9 pJ."""
        return math.fsum(row.each.nominal for row in self.rows if row.event == LEAKAGE and not row.on_memory) * 1e-9

    @property
    def power_mw(self) -> float:
        """Average over the run: 1 pJ/s is 1e-9 mW."""
        return self.energy_pj / self.seconds * 1e-9 if self.seconds else 0.0

    @property
    def energy_per_inference_pj(self) -> float:
        """Total over the inferences of the batch."""
        return self.energy_pj / self.work.inferences

    @property
    def energy_per_mac_pj(self) -> float:
        """Total per multiply-accumulate of the uncompressed network."""
        return self.energy_pj / self.work.macs

    @property
    def energy_per_weight_pj(self) -> float:
        """Energy of one inference per weight of the uncompressed network."""
        return self.energy_per_inference_pj / self.work.weights

    @property
    def energy_delay_js(self) -> float:
        """Energy of the run times its duration, in joule seconds."""
        return self.energy_pj * 1e-12 * self.seconds

    def by(self, key: str) -> dict[str, float]:
        """Energy in pJ summed by one of ``KEYS``; the total is the same (checked, SimulationError)."""
        sums: dict[str, list[float]] = {}
        for row in self.rows:
            sums.setdefault(getattr(row, key), []).append(row.energy_pj)
        out = {name: math.fsum(values) for name, values in sums.items()}
        total, again = self.energy_pj, math.fsum(out.values())
        if not math.isclose(total, again, rel_tol=1e-12, abs_tol=1e-12):
            raise SimulationError(
                f"costs: expected the sums by {key} to add up to {total} pJ; got {again} pJ; this is a fault of the "
                "simulator, please report it"
            )
        return out

    def sensitivity(self) -> tuple[Assumption, ...]:
        """One assumption at a time, all others nominal, the widest swing first.

        The causes of the figures' ranges, and the `choices` of silicon. Figures whose source gives no range move
        nothing.
        """
        return widest_first((*by_cause(self.rows), *self.choices))

    def to_frame(self) -> pd.DataFrame:
        """One line per row: layer, unit, event, stream, category, stage, count, energies in pJ, source, confidence."""
        import pandas as pd

        return pd.DataFrame(
            [
                {
                    "layer": row.layer,
                    "unit": row.unit,
                    "event": row.event,
                    "stream": row.stream,
                    "category": row.category,
                    "stage": row.stage,
                    "count": float(row.count),
                    "energy_each_pj": row.each.nominal,
                    "energy_pj": row.energy_pj,
                    "energy_low_pj": row.low_pj,
                    "energy_high_pj": row.high_pj,
                    "source": row.each.source,
                    "confidence": str(row.each.confidence),
                }
                for row in self.rows
            ]
        )

    def area_frame(self) -> pd.DataFrame:
        """One line per unit in use: area with its range and source."""
        import pandas as pd

        return pd.DataFrame(
            [
                {
                    "unit": row.unit,
                    "area_mm2": row.area_mm2.nominal,
                    "area_low_mm2": row.area_mm2.low,
                    "area_high_mm2": row.area_mm2.high,
                    "source": row.area_mm2.source,
                    "confidence": str(row.area_mm2.confidence),
                }
                for row in self.area
            ]
        )

    def __repr__(self) -> str:
        low, high = self.energy_range_pj
        span = f"{showing.in_joules(self.energy_pj)} ({showing.in_joules(low)} to {showing.in_joules(high)})"
        return showing.line("CostReport", f"{len(self.rows)} rows", span, f"{self.area_mm2:.3g} mm2")
