"""Codebook look-up: turns a code into its shared value, replicated per processing element or shared by several.

A codebook with fewer ports than elements it serves is read in fixed time slots: each element gets one look-up every
``ceil(shared_by / ports)`` cycles. One with more ports than elements gives each several look-ups a cycle, which the
array can use in lockstep. The look-up adds ``latency_cycles`` to an entry's way and never stalls. Loading a
layer's codebook writes its entries once into every copy, beside the code tables.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import ClassVar

from pydantic import Field

from dchw.config import Positive
from dchw.formats import Need
from dchw.machines.units.pe_array import PeArray
from dchw.machines.units.unit import Count, Direction, Port, Setting, Unit, UnitCosts
from dchw.program.flow import Flow
from dchw.quantities import ceil_div
from dchw.technology.building_blocks import Parts
from dchw.technology.structures import codebook_unit, merged
from dchw.vocabulary import Event, Stream


class CodebookLookup(Unit):
    """Parameters of the look-up tables."""

    label: ClassVar[str] = "codebooks"
    category: ClassVar[str] = "decode"
    resource: ClassVar[str] = "codebook"
    stage: ClassVar[str] = "decode"
    works_with: ClassVar[type[Unit]] = PeArray

    entries: Positive = Field(le=1 << 16)
    """Shared values a codebook holds, code 0 included."""
    ports: Positive = Field(default=1, le=1 << 10)
    """Look-ups of one copy in a cycle."""
    shared_by: Positive = Field(default=1, le=1 << 14)
    """Processing elements that read one copy."""
    latency_cycles: Positive = Field(default=1, le=1 << 10)
    """Cycles that a look-up adds to an entry's way."""

    @property
    def slot_cycles(self) -> int:
        """Cycles between two look-ups of one processing element."""
        return ceil_div(self.shared_by, self.ports)

    def column_cycles(self, look_ups: int) -> int:
        """Cycles in which every processing element gets so many look-ups, one behind the other."""
        return ceil_div(look_ups * self.shared_by, self.ports)

    def copies(self, elements: int) -> int:
        """Copies that serve so many processing elements."""
        return ceil_div(elements, self.shared_by)

    def links(self, setting: Setting) -> Mapping[str, Port]:
        """A code in and a shared value out, per read port of every copy."""
        copies = self.copies(setting.elements) * self.ports
        code_bits = max(1, (self.entries - 1).bit_length())
        return {
            "codes": Port(direction=Direction.IN, bits=code_bits, copies=copies),
            "values": Port(direction=Direction.OUT, bits=setting.formats.weights.bits, copies=copies),
        }

    def involved(self, setting: Setting) -> bool:
        """Formats of shared weights look them up."""
        return Need.CODEBOOK in setting.needs

    def counts(self, flow: Flow, setting: Setting) -> Iterator[Count]:
        """A look-up per entry that is multiplied; the layer's shared values written into every copy."""
        if self.involved(setting):
            loaded = flow.codebook_values * self.copies(setting.elements)
            yield Count(event=Event.CODEBOOK_LOOKUP, count=flow.entries, stream=Stream.CODES)
            yield Count(event=Event.TABLE_WRITE, count=loaded, stream=Stream.CODEBOOKS)

    def costs(self, parts: Parts, setting: Setting) -> UnitCosts:
        """One table per copy, flip-flops below 64 entries and SRAM from there on."""
        value_bits = setting.formats.weights.bits
        copy = codebook_unit(parts, entries=self.entries, value_bits=value_bits, ports=self.ports)
        whole = merged(parts, [(copy, self.copies(setting.elements))], {})
        return UnitCosts(
            energy_pj={
                Event.CODEBOOK_LOOKUP: copy.energy_pj["codebook_lookup"],
                Event.TABLE_WRITE: copy.energy_pj["codebook_load"],
            },
            leakage_mw=whole.leakage_mw,
            area_mm2=whole.area_mm2,
            clock_pj=whole.clock_pj,
            delay_ns=whole.delay_ns,
        )
