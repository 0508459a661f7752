"""The parts of a standard but its energy: organisation, clock, commands, timings, rules between commands, behaviour."""

from __future__ import annotations

from fractions import Fraction
from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Field, PlainSerializer, model_validator

from dchw.config import Config, NonNegative, Positive, Size
from dchw.dram import layout
from dchw.dram.options import Refresh
from dchw.quantities import format_quantity, nearest, parse_quantity


def _femtoseconds(value: object) -> object:
    exact = Fraction(value, 1000) if isinstance(value, int) else parse_quantity(value, "time")
    if (exact * 1000).denominator != 1:
        raise ValueError(f"expected a whole number of femtoseconds; got {value!r}")
    return int(exact * 1000)


Period = Annotated[
    int,
    BeforeValidator(_femtoseconds),
    PlainSerializer(lambda fs: f"{fs / 1000:g} ps", return_type=str),
    Field(gt=0),
]
"""Femtoseconds of one clock, written with a unit (``937.5 ps``)."""
Rate = Annotated[
    int,
    BeforeValidator(lambda value: int(parse_quantity(value, "transfer rate"))),
    PlainSerializer(lambda value: format_quantity(value, "transfer rate"), return_type=str),
    Field(gt=0),
]
"""Transfers per second and pin, written with the unit (``6400 MT/s``)."""
Level = Literal["channel", "rank", "bank_group", "bank"]
LEVELS: tuple[Level, ...] = ("channel", "rank", "bank_group", "bank")


class Organisation(Config):
    """What one channel consists of; ``burst_size`` is the payload of one column command."""

    channel_bits: Positive
    ranks: Positive
    bank_groups: Positive
    banks_per_group: Positive
    rows: Positive
    row_size: Size
    burst_size: Size
    burst_beats: Positive
    source: str

    @property
    def banks(self) -> int:
        """Banks of one rank."""
        return self.bank_groups * self.banks_per_group

    @property
    def columns(self) -> int:
        """Bursts in one row."""
        return self.row_size // self.burst_size

    @property
    def capacity_bytes(self) -> int:
        """Bytes of one channel."""
        return self.ranks * self.banks * self.rows * self.row_size

    @model_validator(mode="after")
    def _powers_of_two(self) -> Self:
        for name in ("ranks", "bank_groups", "banks_per_group", "rows", "row_size", "burst_size"):
            value = getattr(self, name)
            if value & (value - 1):
                raise ValueError(f"{name}: expected a power of two, because addresses are split by bits; got {value}")
        if self.burst_size > self.row_size:
            raise ValueError(
                f"burst_size and row_size: a burst of {self.burst_size} bytes does not fit a row of {self.row_size}"
            )
        if self.ranks * self.banks > layout.BANKS_MAX:
            raise ValueError(
                f"ranks and banks: expected at most {layout.BANKS_MAX} banks per channel in all; "
                f"got {self.ranks} x {self.banks}"
            )
        return self


class Clock(Config):
    """The command clock CK; all cycles of a standard are its periods."""

    period: Period
    data_rate: Rate
    beats_per_clock: Positive
    source: str

    @model_validator(mode="after")
    def _rate_fits_period(self) -> Self:
        implied = Fraction(self.beats_per_clock * 10**15, self.period)
        if abs(implied - self.data_rate) > Fraction(self.data_rate, 100):
            raise ValueError(
                f"data_rate and period: {self.beats_per_clock} beats per {self.period / 1000:g} ps are "
                f"{float(implied) / 1e6:.0f} MT/s, not {self.data_rate / 1e6:.0f} MT/s"
            )
        return self


class Commands(Config):
    """Command names, the clocks each holds the command bus, and which command plays which role."""

    clocks: dict[str, Positive]
    activate: str
    activate_second: str | None = None
    precharge: str
    precharge_all: str
    read: str
    write: str
    read_precharge: str | None = None
    write_precharge: str | None = None
    refresh_all: str
    refresh_bank: str | None = None
    sync_read: str | None = None
    sync_write: str | None = None
    source: str

    @model_validator(mode="after")
    def _known_and_paired(self) -> Self:
        for role in ROLES:
            name = getattr(self, role)
            if name is not None and name not in self.clocks:
                raise ValueError(f"{role}: no such command; {nearest(name, self.clocks)}; got {name!r}")
        for one, other in (("sync_read", "sync_write"), ("read_precharge", "write_precharge")):
            if (getattr(self, one) is None) != (getattr(self, other) is None):
                raise ValueError(f"{one} and {other}: expected both or neither")
        return self


ROLES = (
    "activate",
    "activate_second",
    "precharge",
    "precharge_all",
    "read",
    "write",
    "read_precharge",
    "write_precharge",
    "refresh_all",
    "refresh_bank",
    "sync_read",
    "sync_write",
)


class TimingParameter(Config):
    """A timing parameter in clocks; ``verified: false`` marks a value not compared with its standard."""

    cycles: NonNegative
    source: str
    verified: bool = True


class Rule(Config):
    """``following`` may come no earlier than ``latency`` clocks after ``preceding`` in the same node of ``level``.

    With ``window`` n it is the n-th last ``preceding`` that counts; with ``sibling`` the rule binds the other nodes
    of the level instead. Clocks are counted between the last clocks of the two commands. ``verified: false`` marks a
    rule that stands in no table of the standard.
    """

    level: Level
    preceding: tuple[str, ...]
    following: tuple[str, ...]
    latency: str
    window: Positive = 1
    sibling: bool = False
    source: str | None = None
    verified: bool = True


class Alternative(Config):
    """Other values, in clocks, that unverified timings may have; results say what they would change."""

    timings: dict[str, NonNegative]
    source: str


class Defaults(Config):
    """What a run does where nothing else is asked for: the order of address bits, and the refresh."""

    mapping: str = "robaracoch"
    refresh: Refresh = "refab"
    source: str | None = None


class Constraints(Config):
    """All rules of a standard; ``source`` is that of rules without one of their own."""

    source: str
    rules: tuple[Rule, ...]


class Behaviour(Config):
    """Expressions over timings for what is not a command-to-command rule.

    ``read_latency``: clocks from the first clock of a read command to its last data beat. ``write_latency``: the
    same for writes (used for the clock sync only). ``burst``: clocks of data per column command.
    ``activate_window``: clocks within which the second part of an activation must follow. ``sync_postamble``:
    clocks the data clock runs on after the last beat.
    """

    read_latency: str
    write_latency: str
    burst: str
    activate_window: str | None = None
    sync_postamble: str | None = None
    row_active: str
    row_precharge: str
    refresh_interval: str
    refresh_cycle: str
    bank_refresh_interval: str | None = None
    bank_refresh_cycle: str | None = None
