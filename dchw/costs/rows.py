"""The lines of an account: one cause of energy, or the silicon of one unit, with the figure it was priced at."""

from __future__ import annotations

from dataclasses import dataclass

from dchw.technology.figure import Figure

CATEGORIES = {
    "dram": "DRAM",
    "dma": "SRAM",
    "weight_sram": "SRAM",
    "activation_sram": "SRAM",
    "huffman": "decode",
    "codebook": "decode",
    "pe_array": "compute",
    "vector": "compute",
}
"""What a unit's events are summed under in short tables; clock and leakage are categories of their own."""

STAGES = {
    "dram": "fetch",
    "dma": "fetch",
    "weight_sram": "buffer",
    "activation_sram": "buffer",
    "huffman": "decode",
    "codebook": "decode",
    "pe_array": "multiply",
    "vector": "output",
}
"""The step of the data path a unit belongs to, its clock and leakage included."""

CLOCK, IDLE_CLOCK, LEAKAGE = "clock", "idle_clock", "leakage"
"""Rows that no event causes: cycles a unit is clocked, cycles gating stops all but a share of it, seconds."""

_CATEGORY_OF_EVENT = {CLOCK: "clock", IDLE_CLOCK: "clock", LEAKAGE: "leakage"}


@dataclass(frozen=True, kw_only=True)
class CostRow:
    """One line of the energy account: ``count`` times ``each``."""

    unit: str
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
        return _CATEGORY_OF_EVENT.get(self.event, CATEGORIES[self.unit])

    @property
    def stage(self) -> str:
        """fetch, buffer, decode, multiply or output."""
        return STAGES[self.unit]

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
