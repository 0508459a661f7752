"""What a chip that works every storage format costs beyond the one that a single format needs.

The account of a run counts the silicon its storage format needs: for a dense row *a dense chip*, on which index and
decode hardware, codebooks and multipliers of other arithmetic are not built. On *one chip* for all formats they are
there, idle: they leak all the time, and what gating leaves of their clock goes on.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from types import MappingProxyType

from dchw.costs.composing import composed
from dchw.costs.rows import IDLE_CLOCK, LEAKAGE, AreaRow, CostRow
from dchw.formats import Need
from dchw.machines.machine import Machine
from dchw.machines.units.unit import UnitCosts
from dchw.technology.figure import Confidence, Figure


@lru_cache(maxsize=64)
def whole_costs(machine: Machine) -> Mapping[str, UnitCosts]:
    """Costs of the units of a machine of which everything is built: per unit the larger of what elements that are fed
    by decode units, and ones that fetch entries themselves, have."""
    whole = machine.whole_setting()
    settings = whole, replace(whole, needs=whole.needs - {Need.DECODER})
    found = {}
    for name, unit in machine.units.items():
        priced = [composed(unit, machine, one) for one in settings if unit.involved(one)]
        built = [cost for cost in priced if cost is not None]
        if built:
            found[name] = max(built, key=lambda cost: cost.leakage_mw.nominal)
    return MappingProxyType(found)


def idle_silicon(
    machine: Machine, own: Mapping[str, UnitCosts], cycles: int
) -> tuple[tuple[CostRow, ...], tuple[AreaRow, ...]]:
    """Rows and areas of what one chip holds beyond ``own``, the costs of what a storage format needs, over a run."""
    content = machine.model_copy(update={"name": "", "description": "", "source": ""})
    faces = {name: unit.face(name) for name, unit in machine.units.items()}
    rows, areas = [], []
    for name, whole in whole_costs(content).items():
        mine = own.get(name)
        leakage = _beyond(whole.leakage_mw, None if mine is None else mine.leakage_mw)
        area = _beyond(whole.area_mm2, None if mine is None else mine.area_mm2)
        seconds = cycles / machine.clock_hz
        if leakage is not None:  # 1 mW for one second is 1e9 pJ
            each = leakage.converted("pJ", 1e9)
            rows.append(
                CostRow(unit=name, face=faces[name], event=LEAKAGE, layer="", stream="", count=seconds, each=each)
            )
        if whole.clock_pj is not None:
            clock = _beyond(whole.clock_pj, None if mine is None else mine.clock_pj)
            if clock is not None:
                each = clock * machine.silicon.ungated_share
                rows.append(
                    CostRow(unit=name, face=faces[name], event=IDLE_CLOCK, layer="", stream="", count=cycles, each=each)
                )
        if area is not None:
            areas.append(AreaRow(unit=name, area_mm2=area))
    return tuple(rows), tuple(areas)


def _beyond(whole: Figure, own: Figure | None) -> Figure | None:
    """What a figure exceeds another by, end by end; None for nothing."""
    if own is None:
        return whole
    low, nominal, high = (
        max(0.0, a - b) for a, b in ((whole.low, own.low), (whole.nominal, own.nominal), (whole.high, own.high))
    )
    if nominal <= 1e-12 * max(whole.nominal, 1e-30):
        return None
    source = f"{whole.source}, less what the storage format itself needs"
    return Figure(nominal, min(low, nominal), max(high, nominal), whole.unit, source, Confidence.DERIVED)
