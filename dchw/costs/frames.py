"""Energy of one frame when a network runs at a frame rate: the run itself, and the silicon and DRAM that idle after it.

Between two runs the chip's clocks are stopped and its supply stays on, so every unit in use goes on leaking; the
machine's DRAM channels keep their contents in self-refresh, or in power-down with refresh at its average interval.
Not modelled: entering and leaving those states (below a microsecond), power gating, channels and dies of the package
that the machine does not use.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dchw.costs.cost_report import CostReport
from dchw.costs.rows import LEAKAGE, CostRow
from dchw.dram.idle import IDLE_STATES, IdleState, idle_mw
from dchw.machines.machine import Machine
from dchw.machines.units.unit import MEMORY
from dchw.quantities import DchwError

if TYPE_CHECKING:
    import pandas as pd


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
                f"idle DRAM {row.event}" if row.face.category == MEMORY else f"idle {row.event}",
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


def check_frame_rate(fps: float) -> None:
    """Raise DchwError unless so many frames can come in a second."""
    if not (math.isfinite(fps) and fps > 0):
        raise DchwError(f"frame rate: expected a number above 0; got {fps}; give frames per second")


def per_frame(report: CostReport, fps: float, machine: Machine, dram_idle: IdleState = "self-refresh") -> FrameEnergy:
    """Energy per frame at ``fps`` frames per second; a DchwError where the run does not fit into its frames."""
    if dram_idle not in IDLE_STATES:
        raise DchwError(f"idle DRAM: expected {' or '.join(IDLE_STATES)}; got {dram_idle!r}; choose one")
    check_frame_rate(fps)
    period = report.work.inferences / fps
    if report.seconds > period:
        raise DchwError(
            f"frame rate {fps:g}: expected a run within {period * 1e3:.4g} ms; got {report.seconds * 1e3:.4g} ms; "
            "lower the frame rate or choose a faster machine"
        )
    idle = period - report.seconds
    rows = [
        CostRow(unit=row.unit, face=row.face, event=LEAKAGE, layer="", stream="", count=idle, each=row.each)
        for row in report.rows
        if row.event == LEAKAGE and row.face.category != MEMORY
    ]
    power = idle_mw(machine.dram.part, dram_idle) * machine.dram.channels
    # 1 mW for one second is 1e9 pJ
    unit, each = machine.name_of(machine.dram), power.converted("pJ", 1e9)
    face = machine.dram.face(unit)
    rows.append(CostRow(unit=unit, face=face, event=dram_idle, layer="", stream="", count=idle, each=each))
    return FrameEnergy(fps=fps, report=report, idle_seconds=idle, idle_rows=tuple(rows))
