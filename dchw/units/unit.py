"""What every hardware unit is: parameters a user writes, timing as arithmetic, and what its events cost.

Adding a unit means adding one file here and its test. Parameters are the pydantic fields; timing rules are methods
that return whole cycles and know no engine; ``costs`` composes energies and area from `dchw.technology`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Literal

from dchw.config import Config, Positive
from dchw.events import Event

if TYPE_CHECKING:
    from dchw.technology.figure import Figure


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
    logic: Literal["horowitz-45nm", "aladdin-40nm"] = "horowitz-45nm"
    """The one family that logic energies come from."""
    scaling: Literal["inverter", "published-arithmetic"] = "inverter"
    """How logic and SRAM energies move to nodes their tables do not hold."""
    temperature_k: Positive = 330


@dataclass(frozen=True, kw_only=True, eq=False)
class UnitCosts:
    """What a unit costs on one silicon."""

    energy_pj: Mapping[Event, Figure]
    """Energy per event."""
    leakage_mw: Figure
    area_mm2: Figure
    clock_pj_per_cycle: Figure
    """Energy of the clock pins per cycle in which the unit is not gated."""
    critical_path_ns: float | None = None
    """Slowest combinational path, where its parts list delays."""
    notes: tuple[str, ...] = field(default=())


class Unit(Config):
    """Base of all units. Subclasses add parameters, timing methods and ``costs(silicon, formats)``."""
