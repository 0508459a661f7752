"""Power of a DRAM channel that nobody uses, from the idle currents its standard's file gives or names."""

from __future__ import annotations

from typing import Literal

from dchw.dram.currents import IdleCurrents, IdleRail, IdleStandIn
from dchw.dram.options import FixedMemory
from dchw.dram.standard import Standard, standard
from dchw.quantities import ConfigError
from dchw.technology.figure import Confidence, Figure, combine, spread

IdleState = Literal["self-refresh", "power-down"]
IDLE_STATES: tuple[IdleState, ...] = ("self-refresh", "power-down")
IDLE_DRAM = "power of idle DRAM"
"""The cause of its range."""


def idle_mw(part: Standard | FixedMemory, state: IdleState) -> Figure:
    """Power of one idle channel in milliwatts.

    Listed currents are a data sheet's maxima, so half of them is the low end. Where a standard has none of its own,
    those of the standard it names stand in, with a wider range; a fixed-rate memory idles like a standard without.
    Raises ConfigError where the named standard has none either.
    """
    idle = part.idle if isinstance(part, Standard) else IdleStandIn()
    if isinstance(idle, IdleCurrents):
        assert isinstance(part, Standard)
        return _from_currents(idle, state, f"{part.name} idle currents ({part.sources[idle.source]})")
    named = standard(idle.standard)
    if not isinstance(named.idle, IdleCurrents):
        raise ConfigError(f"idle.standard: expected a standard with idle currents; got {idle.standard}, which has none")
    name = part.name if isinstance(part, Standard) else "a fixed-rate memory"
    return (
        idle_mw(named, state)
        .widened(idle.low, idle.high, IDLE_DRAM)
        .noted(f"in place of {name}, for which none are published", Confidence.ASSUMED)
    )


def _from_currents(idle: IdleCurrents, state: IdleState, source: str) -> Figure:
    powers = [_milliamperes(rail, state) * rail.voltage for rail in idle.rails.values()]
    return combine([spread(power, 0.5, 1.0, "mW", source, Confidence.DERIVED).because(IDLE_DRAM) for power in powers])


def _milliamperes(rail: IdleRail, state: IdleState) -> float:
    """IDD6 in self-refresh; IDD2P and what refresh adds to IDD2N, averaged over its interval."""
    return rail.IDD6 if state == "self-refresh" else rail.IDD2P + rail.IDD5AB - rail.IDD2N
