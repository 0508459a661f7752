"""What every hardware unit is: parameters a user writes, timing as arithmetic, and what its events cost.

Adding a unit means adding one file here and its test. Parameters are the pydantic fields; timing rules are methods
that return whole cycles and know no engine; ``costs`` composes energies and area from `dchw.technology`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from dchw.config import Config, Positive
from dchw.events import Event

if TYPE_CHECKING:
    from dchw.technology.figure import Figure
    from dchw.technology.logic import Logic
    from dchw.technology.parts import Parts


class NumberFormat(StrEnum):
    """How a number is held in hardware."""

    FLOAT32 = "float32"
    FLOAT16 = "float16"
    INT32 = "int32"
    INT16 = "int16"  # fixed point
    INT8 = "int8"

    @property
    def bits(self) -> int:
        """Width in bits."""
        return {"float32": 32, "float16": 16, "int32": 32, "int16": 16, "int8": 8}[self.value]


class NumberFormats(Config):
    """Formats of the numbers inside the machine; they set widths and energies."""

    weights: NumberFormat = NumberFormat.FLOAT16
    activations: NumberFormat = NumberFormat.FLOAT16
    accumulators: NumberFormat = NumberFormat.FLOAT32


class Silicon(Config):
    """Process and tables that energies, areas and delays come from."""

    node_nm: Positive
    """Feature size in nanometres."""
    sram_cell: str = "itrs-lop"
    """Device type of SRAM cells and periphery (``dchw.sram``)."""
    logic: Literal["aladdin-40nm"] = "aladdin-40nm"
    """The family of registers, tables, shifters and queues, for which area, leakage and delay must agree."""
    arithmetic: Literal["horowitz-45nm", "aladdin-40nm"] = "horowitz-45nm"
    """The family of multipliers and adders of the PE array."""
    scaling: Literal["inverter", "published-arithmetic"] = "inverter"
    """How arithmetic energies move to nodes their table does not hold; everything else scales as an inverter."""
    temperature_k: Positive = 330
    ungated_share: float = Field(default=0.1, ge=0, le=1)
    """Share of a unit's clock energy that an idle cycle still pays (assumed)."""

    def parts(self, clock_hz: int) -> Parts:
        """What units are composed of on this silicon, sized for a clock."""
        from dchw.technology.logic import Logic
        from dchw.technology.parts import Parts

        logic = Logic(family=self.logic, node_nm=self.node_nm, clock_period_ns=1e9 / clock_hz)
        return Parts(logic=logic, cell=self.sram_cell, temperature_k=self.temperature_k)

    def arithmetic_logic(self, clock_hz: int) -> Logic:
        """The family of multipliers and adders."""
        from dchw.technology.logic import Logic
        from dchw.technology.scaling import Scaling

        return Logic(
            family=self.arithmetic,
            node_nm=self.node_nm,
            scaling=Scaling(self.scaling),
            clock_period_ns=1e9 / clock_hz,
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class UnitCosts:
    """What one whole unit costs: all its copies together for leakage, area and clock."""

    energy_pj: Mapping[Event, Figure]
    """Energy per event."""
    leakage_mw: Figure
    area_mm2: Figure
    clock_pj: Figure | None
    """Per cycle in which all of it is clocked; None where the events hold it (SRAM macros)."""
    delay_ns: Figure | None
    """Slowest path between two registers; None where nothing is listed."""


class Unit(Config):
    """Base of all units: parameters are fields, timing rules are methods, ``costs`` gives a `UnitCosts`."""
