"""Codebook look-up: turns a code into its shared value, replicated per processing element or shared by several.

A codebook with fewer ports than elements it serves is read in fixed time slots: each element gets one look-up every
``ceil(shared_by / ports)`` cycles. One with more ports than elements gives each several look-ups a cycle, which the
array can use in lockstep. The look-up adds ``latency_cycles`` to an entry's way and never stalls. Loading a
layer's codebook writes its entries once into every copy, beside the code tables.
"""

from __future__ import annotations

from dchw.config import Positive
from dchw.machines.units.unit import Unit, UnitCosts
from dchw.quantities import ceil_div
from dchw.technology.parts import Parts
from dchw.technology.structures import codebook_unit, merged
from dchw.vocabulary import Event


class CodebookLookup(Unit):
    """Parameters of the look-up tables."""

    entries: Positive
    """Shared values a codebook holds, code 0 included."""
    ports: Positive = 1
    shared_by: Positive = 1
    """Processing elements that read one copy."""
    latency_cycles: Positive = 1

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

    def costs(self, parts: Parts, *, elements: int, value_bits: int) -> UnitCosts:
        """One table per copy, flip-flops below 64 entries and SRAM from there on."""
        copy = codebook_unit(parts, entries=self.entries, value_bits=value_bits, ports=self.ports)
        whole = merged(parts, [(copy, self.copies(elements))], {})
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
