"""A machine's costs as Accelergy-style energy and area reference tables (ERT, ART), for users of that ecosystem.

Format as Accelergy 0.4 writes it: components by dotted name with an instance range, energy in pJ per action of one
instance, area in um^2 of one instance. A unit here is one instance, all its copies together, so that energies are per
event as in this package's own account; ``leak`` is the unit's leakage in one clock cycle, ``clock`` its clock energy
in a cycle in which all of it works. Ranges and sources have no place in the format: `dchw.costs` gives them. DRAM is
left out, because its energy is composed from commands and time, not per action.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from dchw.costs import unit_costs
from dchw.files import whole_file
from dchw.formats import DEFAULT_FORMAT
from dchw.machines.machine import Machine
from dchw.machines.units.unit import UnitCosts
from dchw.technology.figure import Figure

VERSION = "0.4"
ROOT = "chip"


def energy_table(machine: Machine, storage: str = DEFAULT_FORMAT) -> dict[str, Any]:
    """The energy reference table of the units that a storage format needs."""
    tables = []
    for unit, cost in unit_costs(machine, storage).items():
        actions = [_action(str(event), figure, {}) for event, figure in sorted(cost.energy_pj.items())]
        cycle = {"global_cycle_seconds": 1 / machine.clock_hz}
        if cost.clock_pj is not None:
            actions.append(_action("clock", cost.clock_pj, cycle))
        # 1 mW for one second is 1e9 pJ
        leak = cost.leakage_mw.converted("pJ", 1e9 / machine.clock_hz)
        actions.append(_action("leak", leak, cycle))
        tables.append({"name": _name(unit), "actions": actions})
    return {"ERT": {"version": VERSION, "tables": tables}}


def area_table(machine: Machine, storage: str = DEFAULT_FORMAT) -> dict[str, Any]:
    """The area reference table of the units that a storage format needs, in um^2."""
    tables = [{"name": _name(unit), "area": _area(cost)} for unit, cost in unit_costs(machine, storage).items()]
    return {"ART": {"version": VERSION, "tables": tables}}


def write_table(table: dict[str, Any], path: str | Path) -> None:
    """Write one of the tables as YAML."""
    from ruamel.yaml import YAML

    writer = YAML()
    writer.default_flow_style = False
    writer.width = 4096
    with whole_file(path) as beside, beside.open("w", encoding="utf-8") as out:
        writer.dump(table, out)


def _name(unit: str) -> str:
    return f"{ROOT}.{unit}[1..1]"


def _action(name: str, figure: Figure, arguments: dict[str, Any]) -> dict[str, Any]:
    return {"name": name, "arguments": arguments, "energy": float(f"{figure.nominal:.9g}")}


def _area(cost: UnitCosts) -> float:
    return float(f"{cost.area_mm2.nominal * 1e6:.9g}")
