"""The parts of a standard but its energy: organisation, clock, commands, timings, rules between commands, behaviour."""

from __future__ import annotations

from fractions import Fraction
from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Field, PlainSerializer, model_validator

from dchw.config import Config, NonNegative, Positive, Size, Written
from dchw.dram import records
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
    Written("time"),
]
"""Femtoseconds of one clock, written with a unit (``937.5 ps``)."""
Rate = Annotated[
    int,
    BeforeValidator(lambda value: int(parse_quantity(value, "transfer rate"))),
    PlainSerializer(lambda value: format_quantity(value, "transfer rate"), return_type=str),
    Field(gt=0),
    Written("transfer rate"),
]
"""Transfers per second and pin, written with the unit (``6400 MT/s``)."""
Level = Literal["channel", "rank", "bank_group", "bank"]
LEVELS: tuple[Level, ...] = ("channel", "rank", "bank_group", "bank")


class Organisation(Config):
    """What one channel consists of; ``burst_size`` is the payload of one column command."""

    channel_bits: Positive
    """Data lines of a channel."""
    ranks: Positive
    """Ranks of a channel."""
    bank_groups: Positive
    """Bank groups of a rank."""
    banks_per_group: Positive
    """Banks of a group."""
    rows: Positive
    """Rows of a bank."""
    row_size: Size
    """Bytes of a row."""
    burst_size: Size
    """Bytes that one column command moves."""
    burst_beats: Positive
    """Beats of one column command."""
    source: str
    """Where these come from."""

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
        if self.ranks * self.banks > records.BANKS_MAX:
            raise ValueError(
                f"ranks and banks: expected at most {records.BANKS_MAX} banks per channel in all; "
                f"got {self.ranks} x {self.banks}"
            )
        return self


class Clock(Config):
    """The command clock CK; all cycles of a standard are its periods."""

    period: Period
    """Of CK, written with its unit."""
    data_rate: Rate
    """Transfers a second on every data line."""
    beats_per_clock: Positive
    """Transfers in one period of CK."""
    source: str
    """Where these come from."""

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
    """Clocks for which each command holds the command bus."""
    activate: str
    """Opens a row (its first part, where there are two)."""
    activate_second: str | None = None
    """Second part of an activation."""
    precharge: str
    """Closes the row of a bank."""
    precharge_all: str
    """Closes all rows of a rank."""
    read: str
    """Reads a burst."""
    write: str
    """Writes a burst."""
    read_precharge: str | None = None
    """Reads and closes the row."""
    write_precharge: str | None = None
    """Writes and closes the row."""
    refresh_all: str
    """Refreshes all banks of a rank."""
    refresh_bank: str | None = None
    """Refreshes one bank, or two."""
    refreshed_banks: Literal[1, 2] = 1
    """Banks that ``refresh_bank`` refreshes at once; the second of two is the one half a rank's banks further on."""
    sync_read: str | None = None
    """Starts the data clock for reads."""
    sync_write: str | None = None
    """Starts the data clock for writes."""
    source: str
    """Where these come from."""

    @model_validator(mode="after")
    def _known_and_paired(self) -> Self:
        for role in ROLES:
            name = getattr(self, role)
            if name is not None and name not in self.clocks:
                raise ValueError(f"{role}: no such command; {nearest(name, self.clocks)}; got {name!r}")
        if self.refreshed_banks > 1 and self.refresh_bank is None:
            raise ValueError("refreshed_banks and refresh_bank: no command refreshes single banks")
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
    """A timing parameter in clocks.

    ``verified: false`` marks a value that was not compared with its standard, not even with its text at second hand
    (a simulator or a document that cites the table; ``source`` says which), or of which such sources disagree.
    """

    cycles: NonNegative
    """Clocks."""
    source: str
    """Where the value comes from."""
    verified: bool = True
    """Whether the value was compared with its standard, at second hand at least."""


class Rule(Config):
    """``following`` may come no earlier than ``latency`` clocks after ``preceding`` in the same node of ``level``.

    With ``window`` n it is the n-th last ``preceding`` that counts; with ``sibling`` the rule binds the other nodes
    of the level instead. Clocks are counted between the last clocks of the two commands. ``verified: false`` marks a
    rule that stands in no table of the standard.
    """

    level: Level
    """Within which part of a channel the rule holds."""
    preceding: tuple[str, ...]
    """Commands that come first."""
    following: tuple[str, ...]
    """Commands that have to wait."""
    latency: str
    """Clocks, as an expression over timings."""
    window: Positive = 1
    """Which of the last ``preceding`` commands counts."""
    sibling: bool = False
    """Whether the rule binds the other nodes of the level instead."""
    source: str | None = None
    """Where the rule comes from."""
    verified: bool = True
    """Whether it stands in a table of the standard."""


class AlternativeTimings(Config):
    """Other values, in clocks, that unverified timings may have; results say what they would change."""

    timings: dict[str, NonNegative]
    """Clocks by name of a timing."""
    source: str
    """Where they come from."""


class Defaults(Config):
    """What a run does where nothing else is asked for: the order of address bits, and the refresh."""

    mapping: str = "robaracoch"
    """Order of address bits."""
    refresh: Refresh = "refab"
    """``refab``, ``refpb`` (one bank at a time, or two where that is the standard's command) or ``noref``."""
    source: str | None = None
    """Why these."""


class Constraints(Config):
    """All rules of a standard; ``source`` is that of rules without one of their own."""

    source: str
    """Of rules that name none of their own."""
    rules: tuple[Rule, ...]
    """All rules."""


class Behaviour(Config):
    """Expressions over timings for what is not a command-to-command rule.

    ``read_latency``: clocks from the first clock of a read command to its last data beat. ``write_latency``: the
    same for writes (used for the clock sync only). ``burst``: clocks of data per column command.
    ``activate_window``: clocks within which the second part of an activation must follow. ``sync_postamble``:
    clocks the data clock runs on after the last beat.
    """

    read_latency: str
    """Clocks from the first clock of a read to its last beat."""
    write_latency: str
    """Clocks from the first clock of a write to its last beat."""
    burst: str
    """Clocks of data of one column command."""
    activate_window: str | None = None
    """Clocks within which the second part of an activation must follow."""
    sync_postamble: str | None = None
    """Clocks for which the data clock runs on after the last beat."""
    row_active: str
    """Clocks a row stays open at least (energy)."""
    row_precharge: str
    """Clocks of a precharge (energy)."""
    refresh_interval: str
    """Clocks between two all-bank refreshes."""
    refresh_cycle: str
    """Clocks of an all-bank refresh."""
    bank_refresh_interval: str | None = None
    """Clocks between two refreshes of banks of a rank, one at a time or two."""
    bank_refresh_cycle: str | None = None
    """Clocks of a per-bank refresh."""
