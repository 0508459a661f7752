"""DRAM standards as data: organisation, clock, timings, command-to-command constraints, energy; every value sourced.

The shipped standards are ``dchw/dram/standards/*.yaml``; a user names one of them or hands over a YAML file of the
same form. Nothing in the controller knows a standard by name: it sees commands, roles and numbers of clocks.
"""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, PlainSerializer, model_validator

from dchw.config import Config, NonNegative, Positive, Size, load_yaml
from dchw.dram import layout
from dchw.dram.expression import evaluate, names_in
from dchw.quantities import ConfigError, format_quantity, nearest, parse_quantity


def _femtoseconds(value: object) -> object:
    exact = Fraction(value, 1000) if isinstance(value, int) else parse_quantity(value, "time")
    if (exact * 1000).denominator != 1:
        raise ValueError(f"expected a whole number of femtoseconds; got {value!r}")
    return int(exact * 1000)


def _quantity(dimension: str) -> Any:
    return BeforeValidator(lambda value: float(parse_quantity(value, dimension)))


def _shown(dimension: str) -> PlainSerializer:
    return PlainSerializer(lambda value: format_quantity(Fraction(repr(value)), dimension), return_type=str)


Period = Annotated[
    int,
    BeforeValidator(_femtoseconds),
    PlainSerializer(lambda fs: f"{fs / 1000:g} ps", return_type=str),
    Field(gt=0),
]
"""Femtoseconds of one clock, written with a unit (``937.5 ps``)."""
Current = Annotated[float, _quantity("current"), _shown("current"), Field(ge=0)]
"""Milliamperes, written with the unit (``45 mA``)."""
Voltage = Annotated[float, _quantity("voltage"), _shown("voltage"), Field(gt=0)]
"""Volts, written with the unit (``1.1 V``)."""
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


class Timing(Config):
    """A timing parameter in clocks; ``verified: false`` marks a value not compared with its standard."""

    cycles: NonNegative
    source: str
    verified: bool = True


class Rule(Config):
    """``following`` may come no earlier than ``latency`` clocks after ``preceding`` in the same node of ``level``.

    With ``window`` n it is the n-th last ``preceding`` that counts; with ``sibling`` the rule binds the other nodes
    of the level instead. Clocks are counted between the last clocks of the two commands.
    """

    level: Level
    preceding: tuple[str, ...]
    following: tuple[str, ...]
    latency: str
    window: Positive = 1
    sibling: bool = False
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


class Rail(Config):
    """Currents of one supply rail of a channel, milliamperes, in the usual IDD conditions."""

    name: str
    voltage: Voltage
    IDD0: Current
    IDD2N: Current
    IDD3N: Current
    IDD4R: Current
    IDD4W: Current
    IDD5AB: Current
    IDD5PB: Current


class InputOutput(Config):
    """Currents of the interface rail while idle and while bursts are read or written."""

    voltage: Voltage
    IDD3NQ: Current
    IDD4RQ: Current
    IDD4WQ: Current


class MeasuredCurrents(Config):
    """Energy from data-sheet currents after DRAMPower's formulas (see ``dchw.dram.energy``).

    ``bank_share`` is rho: the part of the rise from precharged to active standby that is there once any bank is
    open. ``group_reads`` applies the bank-group form of the column formulas.
    """

    kind: Literal["currents"]
    confidence: Literal["published", "derived", "assumed"]
    bank_share: Annotated[float, Field(ge=0, le=1)]
    group_reads: bool = False
    rails: tuple[Rail, ...]
    io: InputOutput | None = None
    source: str


class Spread(Config):
    """A value with its plausible range."""

    low: Annotated[float, Field(gt=0)]
    nominal: Annotated[float, Field(gt=0)]
    high: Annotated[float, Field(gt=0)]

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if not self.low <= self.nominal <= self.high:
            raise ValueError(
                f"low, nominal and high: expected rising values; got {self.low}, {self.nominal}, {self.high}"
            )
        return self


class Split(Config):
    """How assumed energy per streamed bit divides; the parts add up to one."""

    activate: float
    precharge: float
    column: float
    io: float
    background: float

    @model_validator(mode="after")
    def _whole(self) -> Self:
        parts = (self.activate, self.precharge, self.column, self.io, self.background)
        if min(parts) < 0 or abs(sum(parts) - 1) > 1e-9:
            raise ValueError(f"activate to background: expected parts that add up to 1; got {sum(parts):g}")
        return self


class RefreshRows(Config):
    """Activate-precharge pairs that one refresh command is charged as."""

    all_bank: Annotated[float, Field(gt=0)]
    per_bank: Annotated[float, Field(gt=0)]

    @model_validator(mode="after")
    def _bank_below_all(self) -> Self:
        if self.per_bank >= self.all_bank:
            raise ValueError(
                f"per_bank and all_bank: one bank costs less than all; got {self.per_bank}, {self.all_bank}"
            )
        return self


class AssumedEnergy(Config):
    """Energy assumed because no currents are public: per bit of a peak-bandwidth read stream, and how it divides."""

    kind: Literal["assumed"]
    streaming_pj_per_bit: Spread
    split: Split
    refresh_row_cycles: RefreshRows
    source: str


class Standard(Config):
    """One DRAM standard at one speed, as a file has it."""

    name: str
    sources: dict[str, str]
    organisation: Organisation
    clock: Clock
    commands: Commands
    timings: dict[str, Timing]
    behaviour: Behaviour
    constraints: Constraints
    energy: Annotated[MeasuredCurrents | AssumedEnergy, Field(discriminator="kind")]

    @property
    def clock_hz(self) -> float:
        """Clocks per second."""
        return 1e15 / self.clock.period

    @property
    def period_ns(self) -> float:
        """Nanoseconds of one clock."""
        return self.clock.period / 1e6

    @property
    def peak_bytes_per_second(self) -> float:
        """Payload bandwidth of one channel: one burst per ``burst`` clocks."""
        return self.organisation.burst_size / self.cycles(self.behaviour.burst) * self.clock_hz

    @property
    def unverified(self) -> tuple[str, ...]:
        """Timings that were not compared with the standard's text."""
        return tuple(name for name, timing in self.timings.items() if not timing.verified)

    def cycles(self, expression: str) -> int:
        """The value of an expression over this standard's timings."""
        wanted = names_in(expression) & self.timings.keys()
        return evaluate(expression, {name: self.timings[name].cycles for name in wanted})

    def role_cycles(self, role: str) -> int:
        """The value of a ``behaviour`` expression; 0 where the standard has none."""
        text = getattr(self.behaviour, role)
        return 0 if text is None else self.cycles(text)

    def adjusted_latency(self, rule: Rule, preceding: str, following: str) -> int:
        """Clocks between the first clocks of two commands that a rule asks for."""
        return self.cycles(rule.latency) + self.commands.clocks[preceding] - self.commands.clocks[following]

    @model_validator(mode="after")
    def _holds_together(self) -> Self:
        self._check_names()
        self._check_pairs()
        return self

    def _check_names(self) -> None:
        for number, rule in enumerate(self.constraints.rules):
            for name in (*rule.preceding, *rule.following):
                if name not in self.commands.clocks:
                    raise ValueError(
                        f"constraints.rules.{number}: no command {name!r}; {nearest(name, self.commands.clocks)}"
                    )
            self._check_expression(f"constraints.rules.{number}.latency", rule.latency)
        for role, text in self.behaviour.dump().items():
            if text is not None:
                self._check_expression(f"behaviour.{role}", text)
        used = {
            self.organisation.source,
            self.clock.source,
            self.commands.source,
            self.constraints.source,
            self.energy.source,
        }
        used |= {timing.source for timing in self.timings.values()}
        used |= {rule.source for rule in self.constraints.rules if rule.source is not None}
        for name in sorted(used - set(self.sources)):
            raise ValueError(f"sources: no entry {name!r}, which a value cites; {nearest(name, self.sources)}")

    def _check_expression(self, where: str, text: str) -> None:
        for name in sorted(names_in(text) - set(self.timings)):
            raise ValueError(f"{where}: no timing {name!r}; {nearest(name, self.timings)}")
        try:
            self.cycles(text)
        except ValueError as error:
            raise ValueError(f"{where}: {error}") from None

    def _check_pairs(self) -> None:
        have, behave = self.commands, self.behaviour
        together = (
            ("commands.activate_second", have.activate_second, "behaviour.activate_window", behave.activate_window),
            ("commands.sync_read", have.sync_read, "behaviour.sync_postamble", behave.sync_postamble),
            (
                "commands.refresh_bank",
                have.refresh_bank,
                "behaviour.bank_refresh_interval",
                behave.bank_refresh_interval,
            ),
            ("commands.refresh_bank", have.refresh_bank, "behaviour.bank_refresh_cycle", behave.bank_refresh_cycle),
        )
        for one, first, other, second in together:
            if (first is None) != (second is None):
                raise ValueError(f"{one} and {other}: expected both or neither")
        pairs = (("refresh_cycle", "refresh_interval"), ("bank_refresh_cycle", "bank_refresh_interval"))
        for short, long in pairs:
            if getattr(behave, short) is not None and self.role_cycles(short) >= self.role_cycles(long):
                raise ValueError(
                    f"behaviour.{short} and behaviour.{long}: a refresh of {self.role_cycles(short)} clocks every "
                    f"{self.role_cycles(long)} leaves no time for data"
                )
        burst = self.cycles(behave.burst)
        if burst * self.clock.beats_per_clock != self.organisation.burst_beats:
            raise ValueError(
                f"behaviour.burst and organisation.burst_beats: {burst} clocks of {self.clock.beats_per_clock} beats "
                f"are not {self.organisation.burst_beats} beats"
            )
        if burst > self.cycles(behave.read_latency):
            raise ValueError(
                f"behaviour.burst and behaviour.read_latency: the last beat cannot come "
                f"{self.cycles(behave.read_latency)} clocks after the command when the burst lasts {burst}"
            )
        if behave.activate_window is not None and self.role_cycles("activate_window") < have.clocks[have.activate]:
            raise ValueError(
                "behaviour.activate_window and commands.clocks: the second part of an activation cannot follow in time"
            )


@cache
def _shipped() -> Mapping[str, Path]:
    folder = files("dchw.dram").joinpath("standards")
    return {
        entry.name.removesuffix(".yaml").upper(): Path(str(entry))
        for entry in folder.iterdir()
        if entry.name.endswith(".yaml")
    }


def standard_names() -> tuple[str, ...]:
    """The standards that ship with the package."""
    return tuple(sorted(_shipped()))


@cache
def _load(path: Path) -> Standard:
    return load_yaml(Standard, path)


def standard(source: str | Path | Standard) -> Standard:
    """A standard by its name, or from a YAML file (a path with a suffix), or as given.

    Raises ConfigError naming the nearest shipped standard, or the fields of the file that do not fit.
    """
    if isinstance(source, Standard):
        return source
    shipped = _shipped()
    if str(source).upper() in shipped:
        return _load(shipped[str(source).upper()])
    path = Path(source)
    if path.suffix in (".yaml", ".yml"):
        return load_yaml(Standard, path)
    raise ConfigError(f"standard {str(source)!r}: not known and not a YAML file; {nearest(str(source), shipped)}")
