"""Prices a run: every event count with its unit's energy, every cycle with a clock, every second with leakage."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache, partial
from types import MappingProxyType

from dchw.costs.composing import composed
from dchw.costs.cost_report import CostReport, Work
from dchw.costs.one_chip import idle_silicon
from dchw.costs.rows import CLOCK, IDLE_CLOCK, LEAKAGE, AreaRow, CostRow
from dchw.costs.sensitivity import Assumption
from dchw.dram.energy import CONTROLLER_AND_PHY, activity, energy_rows
from dchw.dram.options import FixedMemory
from dchw.engines.result import Timing
from dchw.formats import Need, storage_format
from dchw.lowering.counts import EventCount
from dchw.machines.machine import Machine
from dchw.machines.units.dram import Dram
from dchw.machines.units.unit import MEMORY, Face, UnitCosts
from dchw.program.outline import Outline
from dchw.quantities import SimulationError
from dchw.technology.figure import Confidence, Figure
from dchw.vocabulary import Event, Stream


def unit_costs(machine: Machine, storage: str) -> Mapping[str, UnitCosts]:
    """Costs of the units on the chip that a storage format involves; the others are neither active nor counted."""
    form = storage_format(storage)
    # what costs do not depend on is left out, so that machines which differ in it alone are priced once
    content = machine.working(form).model_copy(update={"name": "", "description": "", "source": ""})
    return _costs_of(content, form.needs, form.positions)


@lru_cache(maxsize=256)
def _costs_of(machine: Machine, needs: frozenset[Need], positions: bool) -> Mapping[str, UnitCosts]:
    """Composing a machine's units takes ten times what a small network's run does: once per content."""
    setting = machine.setting(needs, positions)
    priced = {name: composed(unit, machine, setting) for name, unit in machine.units.items() if unit.involved(setting)}
    return MappingProxyType({name: cost for name, cost in priced.items() if cost is not None})


def account(
    machine: Machine,
    storage: str,
    counts: Sequence[EventCount],
    program: Outline,
    timing: Timing,
    dram_rows: Iterable[CostRow],
    dram_scope: str,
    work: Work,
    costs: Mapping[str, UnitCosts] | None = None,
) -> CostReport:
    """The account of one run. Raises SimulationError for an event whose energy no unit lists and for a missing row."""
    priced = unit_costs(machine, storage) if costs is None else costs
    dram, on_chip = tuple(dram_rows), _priced(machine, counts, program, timing, priced)
    rows = (*dram, *on_chip)
    idle, idle_area = idle_silicon(machine, priced, timing.cycles)
    report = CostReport(
        rows=rows,
        area=tuple(AreaRow(unit=unit, area_mm2=cost.area_mm2) for unit, cost in priced.items()),
        scope=dram_scope,
        seconds=timing.cycles / machine.clock_hz,
        work=work,
        alternatives=partial(_choices, machine, storage, tuple(counts), program, timing, rows),
        warnings=_too_slow(machine, priced),
        idle_rows=idle,
        idle_area=idle_area,
    )
    check_complete(report, counts, priced, timing, machine.dram)
    return report


def _priced(
    machine: Machine,
    counts: Sequence[EventCount],
    program: Outline,
    timing: Timing,
    costs: Mapping[str, UnitCosts],
) -> list[CostRow]:
    """The rows of the units on the chip: events, clocks, leakage."""
    rows = []
    faces = {name: unit.face(name) for name, unit in machine.units.items()}
    for count in counts:
        each = costs[count.unit].energy_pj.get(count.event) if count.unit in costs else None
        if each is None:
            raise SimulationError(
                f"costs: expected an energy for {count.event} in {count.unit}; got none for {count.count:,} events; "
                f"add it to what the unit's costs list"
            )
        rows.append(
            CostRow(
                unit=count.unit,
                face=faces[count.unit],
                event=count.event,
                layer=count.layer,
                stream=_stream_name(count),
                count=count.count,
                each=each,
            )
        )
    for unit, cost in costs.items():
        if cost.clock_pj is not None:
            busy = _busy_cycles(program, timing, machine.worker(unit))
            rows += _clock_rows(unit, faces[unit], cost.clock_pj, busy, timing.cycles, machine)
        # 1 mW for one second is 1e9 pJ
        leakage = cost.leakage_mw.converted("pJ", 1e9)
        seconds = timing.cycles / machine.clock_hz
        rows.append(
            CostRow(unit=unit, face=faces[unit], event=LEAKAGE, layer="", stream="", count=seconds, each=leakage)
        )
    return rows


def _choices(
    machine: Machine,
    storage: str,
    counts: Sequence[EventCount],
    program: Outline,
    timing: Timing,
    rows: Sequence[CostRow],
) -> tuple[Assumption, ...]:
    """What the same run would cost on the silicon's alternatives."""
    found = []
    total = math.fsum(row.energy_pj for row in rows)
    on_chip = math.fsum(row.energy_pj for row in rows if row.face.category != MEMORY)
    for name, silicons in machine.silicon.alternatives().items():
        totals = [total]
        for silicon in silicons:
            other = machine.model_copy(update={"silicon": silicon})
            again = _priced(other, counts, program, timing, unit_costs(other, storage))
            totals.append(total - on_chip + math.fsum(row.energy_pj for row in again))
        found.append(
            Assumption(
                name=name,
                energy_pj=on_chip,
                total_low_pj=min(totals),
                total_high_pj=max(totals),
                confidence=Confidence.ASSUMED,
                sources=("the machine's silicon",),
            )
        )
    return tuple(found)


def check_complete(
    report: CostReport,
    counts: Iterable[EventCount],
    costs: Mapping[str, UnitCosts],
    timing: Timing,
    dram: Dram,
) -> None:
    """Every event, clock, leakage, area and what the memory did has its rows, with equal counts.

    Raises SimulationError for what is missing. A fixed memory has no energies, and its scope says so.
    """
    expected: dict[tuple[str, str, str, str], float] = {}
    for count in counts:
        key = (count.unit, str(count.event), count.layer, _stream_name(count))
        expected[key] = expected.get(key, 0) + count.count
    memory, part = timing.memory, dram.part
    if memory is not None and not isinstance(part, FixedMemory):
        for done in energy_rows(part, activity(part, memory.channels, memory.clocks)):
            expected[MEMORY, done.event, "", ""] = done.count
        for event in (Event.DRAM_READ, Event.DRAM_WRITE):
            if bursts := memory.commands.get(event, 0):
                expected[MEMORY, event, "", ""] = bursts
        if dram.controller_and_phy is not None:
            expected[MEMORY, CONTROLLER_AND_PHY, "", ""] = 8.0 * int(memory.size_bytes.sum())
    found: dict[tuple[str, str, str, str], list[float]] = {}
    for row in report.rows:
        # bursts of the memory are shared out over layers and streams
        memory_row = row.face.category == MEMORY
        where = (MEMORY, str(row.event), "", "") if memory_row else (row.unit, str(row.event), row.layer, row.stream)
        found.setdefault(where, []).append(row.count)
    for key, number in expected.items():
        got = math.fsum(found.get(key, ()))
        if not math.isclose(got, number, rel_tol=1e-9):
            unit, name, *place = key
            raise SimulationError(
                f"costs: expected rows for {number:,.9g} {name} of {' '.join(filter(None, (unit, *place)))}; got "
                f"{got:,.9g}; this is a fault of the simulator, please report it"
            )
    timed = {(row.unit, row.event) for row in report.rows}
    for unit, cost in costs.items():
        needed = [LEAKAGE] + [CLOCK, IDLE_CLOCK] * (cost.clock_pj is not None)
        for name in needed:
            if (unit, name) not in timed:
                raise SimulationError(
                    f"costs: expected a row for {name} of {unit}; got none; this is a fault of the simulator, please "
                    "report it"
                )
        if unit not in {row.unit for row in report.area}:
            raise SimulationError(
                f"costs: expected an area for {unit}; got none; this is a fault of the simulator, please report it"
            )


def _stream_name(count: EventCount) -> str:
    return count.stream.value if isinstance(count.stream, Stream) else ""


def _clock_rows(unit: str, face: Face, clock_pj: Figure, busy: float, cycles: int, machine: Machine) -> list[CostRow]:
    """Clock energy of the cycles a unit works, and what gating leaves of it in all others."""
    share = machine.silicon.ungated_share
    upper = min(1.0, 2 * share)
    gated = clock_pj.times(
        Figure(
            share,
            0.0,
            upper,
            "1",
            f"{share:.0%} of the clock stays on in idle cycles (0 to {upper:.0%})",
            Confidence.ASSUMED,
        ).because("clock left on in idle cycles"),
        "pJ",
    )
    return [
        CostRow(unit=unit, face=face, event=CLOCK, layer="", stream="", count=busy, each=clock_pj),
        CostRow(unit=unit, face=face, event=IDLE_CLOCK, layer="", stream="", count=cycles - busy, each=gated),
    ]


def _busy_cycles(program: Outline, timing: Timing, unit: str) -> float:
    """Cycles a unit works, as the mean over its copies."""
    names = [node.name for node in program.of_unit(unit)]
    return sum(timing.nodes[name].busy for name in names) / max(len(names), 1)


def _too_slow(machine: Machine, costs: Mapping[str, UnitCosts]) -> tuple[str, ...]:
    period_ns = 1e9 / machine.clock_hz
    return tuple(
        f"{unit}: its slowest path takes {cost.delay_ns.nominal:.2f} ns, longer than the clock's {period_ns:.2f} ns "
        "(an estimate: no synthesis was run)"
        for unit, cost in costs.items()
        if cost.delay_ns is not None and cost.delay_ns.nominal > period_ns
    )
