"""Energy of one frame when a network runs at a frame rate: the run itself, and the silicon and DRAM that idle after it.

Between two runs the chip's clocks are stopped and its supply stays on, so every unit in use goes on leaking; the
machine's DRAM channels keep their contents in self-refresh, or in power-down with refresh at its average interval.
Not modelled: entering and leaving those states (below a microsecond), power gating, channels and dies of the package
that the machine does not use.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from dchw.costs.report import CostReport
from dchw.costs.rows import LEAKAGE, CostRow
from dchw.machines.machine import Machine
from dchw.quantities import DchwError
from dchw.tables import read_table
from dchw.technology.figure import Confidence, Figure, combine, spread

if TYPE_CHECKING:
    import pandas as pd

DramIdle = Literal["self-refresh", "power-down"]
_STATES = ("self-refresh", "power-down")
IDLE_DRAM = "power of idle DRAM"
"""The cause of its range."""


@dataclass(frozen=True, kw_only=True, eq=False)
class FrameEnergy:
    """What one frame costs. A batch of b inferences serves b frames, so its period is b frames long."""

    fps: float
    report: CostReport
    """The run."""
    idle_seconds: float
    """Between the end of a run and the start of the next."""
    idle_rows: tuple[CostRow, ...]
    """Per run: ``leakage`` of units (seconds), and the state the DRAM is in (seconds, all channels)."""

    @property
    def run_pj(self) -> float:
        """Energy of the run per frame."""
        return self.report.energy_per_inference_pj

    @property
    def idle_pj(self) -> float:
        """Energy between runs per frame."""
        return math.fsum(row.energy_pj for row in self.idle_rows) / self.report.work.inferences

    @property
    def energy_pj(self) -> float:
        """Energy of one frame."""
        return self.run_pj + self.idle_pj

    @property
    def energy_range_pj(self) -> tuple[float, float]:
        """All figures at their low ends, and at their high ends."""
        low, high = self.report.energy_range_pj
        frames = self.report.work.inferences
        return (
            (low + math.fsum(row.low_pj for row in self.idle_rows)) / frames,
            (high + math.fsum(row.high_pj for row in self.idle_rows)) / frames,
        )

    @property
    def power_mw(self) -> float:
        """Average over the period: 1 pJ/s is 1e-9 mW."""
        return self.energy_pj * self.fps * 1e-9

    def to_frame(self) -> pd.DataFrame:
        """One line per part of a frame, in pJ per frame with range, source and confidence."""
        import pandas as pd

        frames = self.report.work.inferences
        low, high = self.report.energy_range_pj
        rows = [
            ("run", "", self.run_pj, low / frames, high / frames, self.report.seconds, "the account of the run", "")
        ]
        rows += [
            (
                f"idle DRAM {row.event}" if row.unit == "dram" else f"idle {row.event}",
                row.unit,
                row.energy_pj / frames,
                row.low_pj / frames,
                row.high_pj / frames,
                row.count,
                row.each.source,
                str(row.each.confidence),
            )
            for row in self.idle_rows
        ]
        names = ["part", "unit", "energy_pj", "energy_low_pj", "energy_high_pj", "seconds", "source", "confidence"]
        return pd.DataFrame(rows, columns=names)


def per_frame(report: CostReport, fps: float, machine: Machine, dram_idle: DramIdle = "self-refresh") -> FrameEnergy:
    """Energy per frame at ``fps`` frames per second; a DchwError where the run does not fit into its frames."""
    if dram_idle not in _STATES:
        raise DchwError(f"idle DRAM: expected {' or '.join(_STATES)}; got {dram_idle!r}; choose one")
    if not (math.isfinite(fps) and fps > 0):
        raise DchwError(f"frame rate: expected a number above 0; got {fps}; give frames per second")
    period = report.work.inferences / fps
    if report.seconds > period:
        raise DchwError(
            f"frame rate {fps:g}: expected a run within {period * 1e3:.4g} ms; got {report.seconds * 1e3:.4g} ms; "
            "lower the frame rate or choose a faster machine"
        )
    idle = period - report.seconds
    rows = [
        CostRow(unit=row.unit, event=LEAKAGE, layer="", stream="", count=idle, each=row.each)
        for row in report.rows
        if row.event == LEAKAGE and row.unit != "dram"
    ]
    power = dram_idle_mw(dram_idle, machine.dram.standard) * machine.dram.channels
    # 1 mW for one second is 1e9 pJ
    rows.append(CostRow(unit="dram", event=dram_idle, layer="", stream="", count=idle, each=power.converted("pJ", 1e9)))
    return FrameEnergy(fps=fps, report=report, idle_seconds=idle, idle_rows=tuple(rows))


def dram_idle_mw(state: DramIdle, standard: str | None) -> Figure:
    """Power of one idle 16-bit channel of 8 Gbit.

    Listed currents are a data sheet's maxima, so half of them is the low end. No list of LPDDR4X, LPDDR5 or LPDDR5X
    currents can be cited: LPDDR4's stand in, with a wider range.
    """
    parts = [_rail_mw(row, state) for row in read_table("lpddr4_idle_currents.csv")]
    power = combine(parts)
    if standard is not None and standard.startswith("LPDDR4-"):
        return power
    name = standard or "a fixed-rate memory"
    return power.widened(0.25, 1.5, IDLE_DRAM).noted(
        f"in place of {name}, for which none are published", Confidence.ASSUMED
    )


def _rail_mw(row: Mapping[str, str], state: DramIdle) -> Figure:
    """One supply rail: IDD6 in self-refresh; IDD2P and what refresh adds to IDD2N, averaged over its interval."""
    if state == "self-refresh":
        milliamperes = float(row["idd6_ma"])
    else:
        milliamperes = float(row["idd2p_ma"]) + float(row["idd5ab_ma"]) - float(row["idd2n_ma"])
    source = f"LPDDR4-3200 currents, 8 Gbit x16 ({row['source']})"
    return spread(milliamperes * float(row["volts"]), 0.5, 1.0, "mW", source, Confidence.DERIVED).because(IDLE_DRAM)
