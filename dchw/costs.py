"""From event counts and cycles to joules and square millimetres, each row with its source.

Energy = sum of count x energy per event + clock + leakage x time + DRAM. Rows are the truth: every total is a sum of
rows, and a count without an energy is an error, never zero.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dchw.events import Event, Stream
from dchw.hardware.machine import Machine
from dchw.mapping.counts import EventCount
from dchw.quantities import SimulationError
from dchw.simulate.program import FiringNode, Program
from dchw.simulate.result import Timing
from dchw.storage import Need, storage_format
from dchw.technology.figure import Figure
from dchw.units.huffman_decoder import Placement
from dchw.units.unit import UnitCosts

if TYPE_CHECKING:
    import pandas as pd

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


@dataclass(frozen=True, kw_only=True)
class CostRow:
    """One line of the energy account: ``count`` times ``each``."""

    unit: str
    event: str
    """An `Event`, ``clock`` (cycles), ``leakage`` (seconds) or a DRAM row that is not a command."""
    layer: str
    """Empty where a cost belongs to the whole run."""
    stream: str
    count: float
    each: Figure
    """In pJ per count."""

    @property
    def category(self) -> str:
        """DRAM, SRAM, decode, compute, clock or leakage."""
        return self.event if self.event in ("clock", "leakage") else CATEGORIES[self.unit]

    @property
    def energy_pj(self) -> float:
        """Nominal energy of the row."""
        return self.count * self.each.nominal


@dataclass(frozen=True, kw_only=True)
class AreaRow:
    """Silicon of one unit that is in use."""

    unit: str
    area_mm2: Figure


@dataclass(frozen=True, kw_only=True, eq=False)
class CostReport:
    """The energy and area account of one run."""

    rows: tuple[CostRow, ...]
    area: tuple[AreaRow, ...]
    scope: str
    """What the DRAM rows cover."""
    warnings: tuple[str, ...] = ()

    @property
    def energy_pj(self) -> float:
        """Sum of all rows."""
        return math.fsum(row.energy_pj for row in self.rows)

    @property
    def energy_range_pj(self) -> tuple[float, float]:
        """Sum of the low ends and of the high ends."""
        return (
            math.fsum(row.count * row.each.low for row in self.rows),
            math.fsum(row.count * row.each.high for row in self.rows),
        )

    @property
    def area_mm2(self) -> float:
        """Sum over the units in use; DRAM is not on the chip."""
        return math.fsum(row.area_mm2.nominal for row in self.area)

    def by(self, key: str) -> dict[str, float]:
        """Energy in pJ summed by ``category``, ``unit``, ``layer``, ``stream`` or ``event``; the total is the same."""
        sums: dict[str, list[float]] = {}
        for row in self.rows:
            sums.setdefault(getattr(row, key), []).append(row.energy_pj)
        return {name: math.fsum(values) for name, values in sums.items()}

    def to_frame(self) -> pd.DataFrame:
        """One line per row: unit, event, layer, stream, count, energy_each_pj, energy_pj, low, high, source."""
        import pandas as pd

        return pd.DataFrame(
            [
                {
                    "layer": row.layer,
                    "unit": row.unit,
                    "event": row.event,
                    "stream": row.stream,
                    "category": row.category,
                    "count": float(row.count),
                    "energy_each_pj": row.each.nominal,
                    "energy_pj": row.energy_pj,
                    "energy_low_pj": row.count * row.each.low,
                    "energy_high_pj": row.count * row.each.high,
                    "source": row.each.source,
                    "confidence": str(row.each.confidence),
                }
                for row in self.rows
            ]
        )


def unit_costs(machine: Machine, storage: str) -> dict[str, UnitCosts]:
    """Costs of the units on the chip that a storage format involves; the others are neither active nor counted."""
    needs = storage_format(storage).needs
    parts = machine.silicon.parts(machine.clock_hz)
    elements, formats = machine.pe_array.elements, machine.formats
    decoding = Need.DECODER in needs
    at_use = machine.huffman.placement is Placement.USE
    sparse = not storage.startswith("dense")
    readers = machine.huffman.units if decoding and at_use else elements if sparse else machine.weight_sram.banks
    costs = {
        "dma": machine.dma.costs(parts, word_bits=machine.weight_sram.word_bits, staged=decoding and not at_use),
        "weight_sram": machine.weight_sram.costs(parts, readers=readers),
        "activation_sram": machine.activation_sram.costs(parts, readers=1),
        "pe_array": machine.pe_array.costs(
            parts,
            machine.silicon.arithmetic_logic(machine.clock_hz),
            formats,
            indexed=Need.INDEX in needs,
            lockstep=not sparse,
        ),
        "vector": machine.vector.costs(parts, formats),
    }
    if Need.CODEBOOK in needs:
        costs["codebook"] = machine.codebook.costs(parts, elements=elements, value_bits=formats.weights.bits)
    if decoding:
        costs["huffman"] = machine.huffman.costs(parts, elements=elements, entry_bits=ENTRY_BITS)
    return costs


ENTRY_BITS = 16
"""Width of a decoded entry between a decode unit and a processing element: a gap and a code of up to 8 bits."""


def account(
    machine: Machine,
    storage: str,
    counts: Iterable[EventCount],
    program: Program,
    timing: Timing,
    dram_rows: Iterable[CostRow],
    dram_scope: str,
    costs: Mapping[str, UnitCosts] | None = None,
) -> CostReport:
    """The account of one run. Raises SimulationError for an event whose energy no unit lists."""
    priced = unit_costs(machine, storage) if costs is None else costs
    rows = list(dram_rows)
    for count in counts:
        each = priced[count.unit].energy_pj.get(Event(count.event)) if count.unit in priced else None
        if each is None:
            raise SimulationError(
                f"costs: expected an energy for {count.event} in {count.unit}; got none for {count.count:,} events; "
                f"add it to what the unit's costs list"
            )
        stream = count.stream.value if isinstance(count.stream, Stream) else ""
        rows.append(
            CostRow(unit=count.unit, event=count.event, layer=count.layer, stream=stream, count=count.count, each=each)
        )
    for unit, cost in priced.items():
        if cost.clock_pj is not None:
            active = _clocked_cycles(program, timing, unit, machine.silicon.ungated_share)
            rows.append(CostRow(unit=unit, event="clock", layer="", stream="", count=active, each=cost.clock_pj))
        # 1 mW for one second is 1e9 pJ
        leakage = Figure(
            cost.leakage_mw.nominal * 1e9,
            cost.leakage_mw.low * 1e9,
            cost.leakage_mw.high * 1e9,
            "pJ",
            cost.leakage_mw.source,
            cost.leakage_mw.confidence,
        )
        seconds = timing.cycles / machine.clock_hz
        rows.append(CostRow(unit=unit, event="leakage", layer="", stream="", count=seconds, each=leakage))
    area = tuple(AreaRow(unit=unit, area_mm2=cost.area_mm2) for unit, cost in priced.items())
    return CostReport(rows=tuple(rows), area=area, scope=dram_scope, warnings=_too_slow(machine, priced))


def _clocked_cycles(program: Program, timing: Timing, unit: str, ungated_share: float) -> float:
    """Cycles' worth of clock energy: the share of the unit's copies that is busy, and what gating leaves ungated."""
    stands_for = {"codebook": "pe_array"}.get(unit, unit)
    names = [node.name for node in program.nodes if isinstance(node, FiringNode) and node.unit == stands_for]
    busy = sum(timing.nodes[name].busy for name in names) / max(len(names), 1)
    return busy + ungated_share * (timing.cycles - busy)


def _too_slow(machine: Machine, costs: Mapping[str, UnitCosts]) -> tuple[str, ...]:
    period_ns = 1e9 / machine.clock_hz
    return tuple(
        f"{unit}: its slowest path takes {cost.delay_ns.nominal:.2f} ns, longer than the clock's {period_ns:.2f} ns "
        "(an estimate: no synthesis was run)"
        for unit, cost in costs.items()
        if cost.delay_ns is not None and cost.delay_ns.nominal > period_ns
    )
