"""The energy parts of a standard: data-sheet currents, or energy per bit assumed where none are public; idle power."""

from __future__ import annotations

from fractions import Fraction
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, PlainSerializer, model_validator

from dchw.config import Config, NonNegative, Positive, Written
from dchw.dram.sections import Rate
from dchw.quantities import format_quantity, parse_quantity


def _quantity(dimension: str) -> Any:
    return BeforeValidator(lambda value: float(parse_quantity(value, dimension)))


def _shown(dimension: str) -> PlainSerializer:
    return PlainSerializer(lambda value: format_quantity(Fraction(repr(value)), dimension), return_type=str)


Current = Annotated[float, _quantity("current"), _shown("current"), Field(ge=0), Written("current")]
"""Milliamperes, written with the unit (``45 mA``)."""
Voltage = Annotated[float, _quantity("voltage"), _shown("voltage"), Field(gt=0), Written("voltage")]
"""Volts, written with the unit (``1.1 V``)."""


class Rail(Config):
    """Currents of one supply rail of a channel, milliamperes, in the usual IDD conditions."""

    name: str
    """Of the rail, such as ``VDD2``."""
    voltage: Voltage
    """Of the rail."""
    IDD0: Current
    """Activate and precharge of one bank, over and over."""
    IDD2N: Current
    """All banks precharged, standby."""
    IDD3N: Current
    """A bank open, standby."""
    IDD4R: Current
    """Bursts read without a gap."""
    IDD4W: Current
    """Bursts written without a gap."""
    IDD5AB: Current
    """All-bank refreshes."""
    IDD5PB: Current
    """Per-bank refreshes."""


class InputOutput(Config):
    """Currents of the interface rail while idle and while bursts are read or written."""

    voltage: Voltage
    """Of the interface rail."""
    IDD3NQ: Current
    """Idle."""
    IDD4RQ: Current
    """Bursts read without a gap."""
    IDD4WQ: Current
    """Bursts written without a gap."""


class SignalEdges(Config):
    """The interface as lines that rise and stay high, after DRAMPower 6.2, where no interface currents are known.

    A rising edge of a line costs ``pj_per_edge``; a line that is high draws ``voltage``² over ``resistance_ohm``.
    In a burst a data line changes at a share ``toggling`` of its beats and is high for a share ``high`` of them; a
    strobe or clock line rises every other beat and is high half of the time. ``beats_per_clock`` says how long a burst
    keeps the lines busy. Command and address lines are counted command by command, where the standard has ``codes``
    (`dchw.dram.codes`), and left out otherwise; chip select and WCK always are.
    """

    voltage: Voltage
    """Of the interface."""
    pj_per_edge: Annotated[float, Field(ge=0)]
    """Energy of a rising edge of one line."""
    resistance_ohm: Annotated[float, Field(gt=0)]
    """Through which a line that is high draws current."""
    data_lines: Positive
    """Data lines of a channel."""
    read_strobe_lines: NonNegative
    """Strobe lines that move while bursts are read."""
    write_strobe_lines: NonNegative
    """Strobe lines that move while bursts are written."""
    clock_lines: NonNegative
    """Lines of the command clock."""
    beats_per_clock: Positive
    """Beats of data in a clock."""
    toggling: Annotated[float, Field(ge=0, le=1)] = 0.5
    """Share of its beats at which a data line changes."""
    high: Annotated[float, Field(ge=0, le=1)] = 0.5
    """Share of its beats in which a data line is high."""


class MeasuredCurrents(Config):
    """Energy from data-sheet currents after DRAMPower's formulas (see ``dchw.dram.energy``).

    ``bank_share`` is rho: the part of the rise from precharged to active standby that is there once any bank is
    open. ``group_reads`` applies the bank-group form of the column formulas. ``measured_at`` is the data rate of the
    currents where it is not the standard's: what bursts draw above standby then has a range, up to growing with the
    rate.
    """

    kind: Literal["currents"]
    """Says that this section holds currents."""
    confidence: Literal["published", "derived", "assumed"]
    """How the currents are known."""
    bank_share: Annotated[float, Field(ge=0, le=1)]
    """Part of the rise from precharged to active standby that is there once any bank is open."""
    group_reads: bool = False
    """Whether the column formulas are those of standards with bank groups."""
    measured_at: Rate | None = None
    """Data rate of the currents where it is not the standard's."""
    rails: tuple[Rail, ...]
    """Supply rails of a channel."""
    io: InputOutput | SignalEdges | None = None
    """The interface: currents, or signal edges."""
    source: str
    """Where the currents come from."""


class Spread(Config):
    """A value with its plausible range."""

    low: Annotated[float, Field(gt=0)]
    """Least plausible value."""
    nominal: Annotated[float, Field(gt=0)]
    """Value that results use."""
    high: Annotated[float, Field(gt=0)]
    """Largest plausible value."""

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
    """Share of activations."""
    precharge: float
    """Share of precharges."""
    column: float
    """Share of column accesses."""
    io: float
    """Share of the interface."""
    background: float
    """Share of standby."""

    @model_validator(mode="after")
    def _whole(self) -> Self:
        parts = (self.activate, self.precharge, self.column, self.io, self.background)
        if min(parts) < 0 or abs(sum(parts) - 1) > 1e-9:
            raise ValueError(f"activate to background: expected parts that add up to 1; got {sum(parts):g}")
        return self


class RefreshRows(Config):
    """Activate-precharge pairs that one refresh command is charged as."""

    all_bank: Annotated[float, Field(gt=0)]
    """Pairs of one all-bank refresh."""
    per_bank: Annotated[float, Field(gt=0)]
    """Pairs of one refresh of a bank, or of two where the standard refreshes two at once."""

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
    """Says that this section holds an assumption."""
    streaming_pj_per_bit: Spread
    """Picojoules per bit of a peak-bandwidth read stream."""
    split: Split
    """How that energy divides."""
    refresh_row_cycles: RefreshRows
    """What refreshes are charged as."""
    source: str
    """What the assumption rests on."""


class IdleRail(Config):
    """Currents of one supply rail of a channel that nobody uses, milliamperes, in the usual IDD conditions."""

    voltage: Voltage
    """Of the rail."""
    IDD2N: Current
    """All banks precharged, standby."""
    IDD2P: Current
    """All banks precharged, power-down."""
    IDD5AB: Current
    """Average of all-bank refreshes at their interval, standby included."""
    IDD6: Current
    """Self-refresh."""


class IdleCurrents(Config):
    """What a channel draws in self-refresh and in power-down."""

    kind: Literal["currents"]
    """Says that this section holds currents."""
    rails: dict[str, IdleRail]
    """By name of the rail."""
    source: str
    """Where the currents come from."""


class IdleStandIn(Config):
    """Another standard's idle currents where none are published; ``low`` and ``high`` are shares of its power."""

    kind: Literal["stand-in"] = "stand-in"
    """Says that another standard stands in."""
    standard: str = "LPDDR4-3200"
    """Whose idle power is taken."""
    low: Annotated[float, Field(gt=0, le=1)] = 0.25
    """Least plausible share of it."""
    high: Annotated[float, Field(ge=1)] = 1.5
    """Largest plausible share of it."""
