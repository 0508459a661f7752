"""What a machine is made of, whatever its units: process, tables, and the formats of the numbers inside it."""

from __future__ import annotations

import re
from collections.abc import Iterable
from enum import StrEnum
from typing import TYPE_CHECKING, Literal

from pydantic import ConfigDict, Field, model_validator

from dchw.config import Config, Positive
from dchw.technology.scaling import MAX_NODE_NM, MIN_NODE_NM
from dchw.technology.sram import MAX_TEMPERATURE_K, MIN_TEMPERATURE_K

if TYPE_CHECKING:
    from dchw.technology.building_blocks import Parts


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


_SHORT = {"float32": "fp32", "float16": "fp16"}
_LONG = {short: long for long, short in _SHORT.items()}


_AS_TEXT = r"(\w+?)\s*x\s*(\w+)\s*->\s*(\w+)"


class NumberFormats(Config):
    """What is multiplied with what and added up in what; they set widths and energies.

    Written field by field, or as one text: ``fp16xfp16->fp32``, ``int8xint8->int32``.
    """

    model_config = ConfigDict(json_schema_extra={"type": ["object", "string"], "pattern": f"^{_AS_TEXT}$"})

    weights: NumberFormat = NumberFormat.FLOAT16
    """Of weights and shared values as they are multiplied."""
    activations: NumberFormat = NumberFormat.FLOAT16
    """Of activations in SRAM, in queues and at the multipliers."""
    accumulators: NumberFormat = NumberFormat.FLOAT32
    """Of sums."""

    @model_validator(mode="before")
    @classmethod
    def _from_text(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        match = re.fullmatch(_AS_TEXT, value.strip())
        if match is None:
            raise ValueError(f"expected WEIGHTSxACTIVATIONS->SUMS, such as int8xint8->int32; got {value!r}")
        return dict(zip(cls.model_fields, (_LONG.get(word, word) for word in match.groups()), strict=True))

    def __str__(self) -> str:
        weights, activations, sums = (
            _SHORT.get(form.value, form.value) for form in (self.weights, self.activations, self.accumulators)
        )
        return f"{weights}x{activations}->{sums}"

    @property
    def bits(self) -> int:
        """Widths of all three together, to tell the wider arithmetic from the narrower."""
        return self.weights.bits + self.activations.bits + self.accumulators.bits

    @property
    def is_int8(self) -> bool:
        """Whether bytes are multiplied with bytes."""
        return self.weights is self.activations is NumberFormat.INT8


class Silicon(Config):
    """Process and tables that energies, areas and delays come from."""

    node_nm: Positive = Field(ge=MIN_NODE_NM, le=MAX_NODE_NM)
    """Feature size in nanometres."""
    sram_cell: str = "itrs-lop"
    """Device type of SRAM cells and periphery (``dchw.sram``)."""
    logic: Literal["horowitz-45nm", "aladdin-40nm"] = "horowitz-45nm"
    """The family of all logic (`dchw.technology.logic`): headline energies, or energies that go with area and clock."""
    scaling: Literal["inverter", "published"] = "inverter"
    """How energies of arithmetic and SRAM reach nodes their table does not hold; all else scales as an inverter."""
    temperature_k: Positive = Field(default=330, ge=MIN_TEMPERATURE_K, le=MAX_TEMPERATURE_K)
    """Junction temperature in kelvin, at which leakage is taken."""
    ungated_share: float = Field(default=0.1, ge=0, le=1)
    """Share of a unit's clock energy that an idle cycle still pays (assumed)."""
    gated_share: float = Field(default=1.0, ge=0, le=1)
    """Share of register bits whose clock stops in cycles that do not write them (assumed; ranges reach 20 % lower)."""

    def parts(self, clock_hz: int) -> Parts:
        """What units are composed of on this silicon, sized for a clock."""
        from dchw.technology.building_blocks import Parts
        from dchw.technology.logic import Logic
        from dchw.technology.scaling import Scaling

        logic = Logic(
            family=self.logic,
            node_nm=self.node_nm,
            scaling=Scaling(self.scaling),
            clock_period_ns=1e9 / clock_hz,
        )
        return Parts(logic=logic, cell=self.sram_cell, temperature_k=self.temperature_k, gated_share=self.gated_share)

    def alternatives(self) -> dict[str, tuple[Silicon, ...]]:
        """Silicon of the same node with one choice made otherwise, by what is chosen.

        SRAM of the device types that leak little enough for a mobile part; the other logic family; the ends of the
        temperatures that CACTI's leakage can be trusted at.
        """
        from dchw.technology.logic import FAMILIES
        from dchw.technology.sram_table import LOW_LEAKAGE_CELLS

        def others(field: str, values: Iterable[str | float]) -> tuple[Silicon, ...]:
            mine = getattr(self, field)
            return tuple(self.model_copy(update={field: value}) for value in values if value != mine)

        return {
            f"choice of SRAM device type ({', '.join(LOW_LEAKAGE_CELLS)})": others("sram_cell", LOW_LEAKAGE_CELLS),
            f"choice of logic family ({', '.join(FAMILIES)})": others("logic", FAMILIES),
            f"temperature, {MIN_TEMPERATURE_K} to {MAX_TEMPERATURE_K} K": others(
                "temperature_k", (MIN_TEMPERATURE_K, MAX_TEMPERATURE_K)
            ),
        }
