"""What a unit costs, composed once for one content: machines of a study differ in a unit or two."""

from __future__ import annotations

from functools import lru_cache

from dchw.machines.machine import Machine
from dchw.machines.silicon import Silicon
from dchw.machines.units.unit import Setting, Unit, UnitCosts


def composed(unit: Unit, machine: Machine, setting: Setting) -> UnitCosts | None:
    """`Unit.costs` of a machine's unit; None for one that is not on the chip."""
    return _composed(unit, machine.silicon, machine.clock_hz, setting)


@lru_cache(maxsize=4096)
def _composed(unit: Unit, silicon: Silicon, clock_hz: int, setting: Setting) -> UnitCosts | None:
    return unit.costs(silicon.parts(clock_hz), setting)
