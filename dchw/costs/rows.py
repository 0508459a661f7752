"""The lines of an account: one cause of energy, or the silicon of one unit, with the figure it was priced at."""

from __future__ import annotations

from dataclasses import dataclass

from dchw.machines.units.unit import MEMORY, Face
from dchw.technology.figure import Figure

CLOCK, IDLE_CLOCK, LEAKAGE = "clock", "idle_clock", "leakage"
"""Rows that no event causes: cycles a unit is clocked, cycles gating stops all but a share of it, seconds."""

_CATEGORY_OF_EVENT = {CLOCK: "clock", IDLE_CLOCK: "clock", LEAKAGE: "leakage"}


@dataclass(frozen=True, kw_only=True, slots=True)
class CostRow:
    """One line of the energy account: ``count`` times ``each``."""

    unit: str
    face: Face
    """How reports show the unit."""
    event: str
    """An `Event`, ``clock`` and ``idle_clock`` (cycles), ``leakage`` (seconds) or a DRAM row that is not a command."""
    layer: str
    """Empty where a cost belongs to the whole run."""
    stream: str
    """Empty where no stream of bytes causes the event."""
    count: float
    each: Figure
    """In pJ per count."""

    @property
    def category(self) -> str:
        """DRAM, SRAM, decode, compute, clock or leakage."""
        return _CATEGORY_OF_EVENT.get(self.event, self.face.category)

    @property
    def on_memory(self) -> bool:
        """Whether it is a cost of what is not on the chip."""
        return self.face.category == MEMORY

    @property
    def stage(self) -> str:
        """fetch, buffer, decode, multiply or output."""
        return self.face.stage

    @property
    def energy_pj(self) -> float:
        """Nominal energy of the row."""
        return self.count * self.each.nominal

    @property
    def low_pj(self) -> float:
        """Energy at the low end of the figure."""
        return self.count * self.each.low

    @property
    def high_pj(self) -> float:
        """Energy at the high end of the figure."""
        return self.count * self.each.high


@dataclass(frozen=True, kw_only=True)
class AreaRow:
    """Silicon of one unit that is in use."""

    unit: str
    area_mm2: Figure
