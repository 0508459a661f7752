"""Vector unit on the output path: adds biases, applies activations, pools and adds, writes results to the SRAM.

Every operation that is not a layer passes here: ``ceil(values read / values_per_cycle)`` cycles each. A layer's own
outputs pass once (bias and the activation that follows are applied on the way).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import ClassVar

from pydantic import Field

from dchw.config import Positive
from dchw.machines.units.unit import Count, Direction, Port, Setting, Unit, UnitCosts
from dchw.program.flow import Flow
from dchw.quantities import ceil_div
from dchw.technology.building_blocks import Parts
from dchw.technology.figure import slowest
from dchw.vocabulary import Event


class Vector(Unit):
    """Parameters of the output path."""

    label: ClassVar[str] = "vector unit"
    stage: ClassVar[str] = "output"
    resource: ClassVar[str] = "vector"
    resource_allows: ClassVar[str] = "the vector unit"

    values_per_cycle: Positive = Field(le=1 << 16)
    """Values through the output path in a cycle."""

    def cycles(self, values: int) -> int:
        """Cycles to move so many values through."""
        return max(1, ceil_div(values, self.values_per_cycle))

    def links(self, setting: Setting) -> Mapping[str, Port]:
        """Sums in from every element, and blocks that are read behind a layer; results out."""
        formats = setting.formats
        sums = Port(direction=Direction.IN, bits=setting.lanes * formats.accumulators.bits, copies=setting.elements)
        bits = self.values_per_cycle * formats.activations.bits
        blocks = Port(direction=Direction.IN, bits=setting.activation_word_bits)
        return {"sums": sums, "blocks": blocks, "results": Port(direction=Direction.OUT, bits=bits)}

    def counts(self, flow: Flow, setting: Setting) -> Iterator[Count]:
        """One operation per value through the output path."""
        yield Count(event=Event.VECTOR_OPERATION, count=flow.vector_values)

    def costs(self, parts: Parts, setting: Setting) -> UnitCosts:
        """Per value two pipeline stages of the accumulators' width: an adder (bias), then a comparator (rectifier,
        maximum), each with a register behind it.
        """
        bits = setting.formats.accumulators.bits
        adder, comparator = parts.logic.add(bits), parts.logic.compare(bits)
        register = parts.logic.register(bits)
        n = self.values_per_cycle
        path = parts.structure(
            {"value": adder.energy_pj + comparator.energy_pj + register.energy_pj * 2},
            blocks=(adder.times(n), comparator.times(n), register.times(2 * n)),
            path=(slowest((adder.delay_ns, comparator.delay_ns)),),
            register_bits=2 * bits * n,
        )
        return UnitCosts(
            energy_pj={Event.VECTOR_OPERATION: path.energy_pj["value"]},
            leakage_mw=path.leakage_mw,
            area_mm2=path.area_mm2,
            clock_pj=path.clock_pj,
            delay_ns=path.delay_ns,
        )
