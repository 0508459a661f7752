"""The energy parts of a standard: data-sheet currents, or energy per bit assumed where none are public; idle power."""

from __future__ import annotations

from fractions import Fraction
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, PlainSerializer, model_validator

from dchw.config import Config, NonNegative, Positive
from dchw.dram.sections import Rate
from dchw.quantities import format_quantity, parse_quantity


def _quantity(dimension: str) -> Any:
    return BeforeValidator(lambda value: float(parse_quantity(value, dimension)))


def _shown(dimension: str) -> PlainSerializer:
    return PlainSerializer(lambda value: format_quantity(Fraction(repr(value)), dimension), return_type=str)


Current = Annotated[float, _quantity("current"), _shown("current"), Field(ge=0)]
"""Milliamperes, written with the unit (``45 mA``)."""
Voltage = Annotated[float, _quantity("voltage"), _shown("voltage"), Field(gt=0)]
"""Volts, written with the unit (``1.1 V``)."""


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


class SignalEdges(Config):
    """The interface as lines that rise and stay high, after DRAMPower 6.2, where no interface currents are known.

    A rising edge of a line costs ``pj_per_edge``; a line that is high draws ``voltage``² over ``resistance_ohm``.
    In a burst a data line changes at a share ``toggling`` of its beats and is high for a share ``high`` of them; a
    strobe or clock line rises every other beat and is high half of the time. ``beats_per_clock`` says how long a burst
    keeps the lines busy. Command and address lines are counted command by command, where the standard has ``codes``
    (`dchw.dram.codes`), and left out otherwise; chip select and WCK always are.
    """

    voltage: Voltage
    pj_per_edge: Annotated[float, Field(ge=0)]
    resistance_ohm: Annotated[float, Field(gt=0)]
    data_lines: Positive
    read_strobe_lines: NonNegative
    write_strobe_lines: NonNegative
    clock_lines: NonNegative
    beats_per_clock: Positive
    toggling: Annotated[float, Field(ge=0, le=1)] = 0.5
    high: Annotated[float, Field(ge=0, le=1)] = 0.5


class MeasuredCurrents(Config):
    """Energy from data-sheet currents after DRAMPower's formulas (see ``dchw.dram.energy``).

    ``bank_share`` is rho: the part of the rise from precharged to active standby that is there once any bank is
    open. ``group_reads`` applies the bank-group form of the column formulas. ``measured_at`` is the data rate of the
    currents where it is not the standard's: what bursts draw above standby then has a range, up to growing with the
    rate.
    """

    kind: Literal["currents"]
    confidence: Literal["published", "derived", "assumed"]
    bank_share: Annotated[float, Field(ge=0, le=1)]
    group_reads: bool = False
    measured_at: Rate | None = None
    rails: tuple[Rail, ...]
    io: InputOutput | SignalEdges | None = None
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


class IdleRail(Config):
    """Currents of one supply rail of a channel that nobody uses, milliamperes, in the usual IDD conditions."""

    voltage: Voltage
    IDD2N: Current
    IDD2P: Current
    IDD5AB: Current
    """Average of all-bank refreshes at their interval, standby included."""
    IDD6: Current


class IdleCurrents(Config):
    """What a channel draws in self-refresh and in power-down."""

    kind: Literal["currents"]
    rails: dict[str, IdleRail]
    source: str


class IdleStandIn(Config):
    """Another standard's idle currents where none are published; ``low`` and ``high`` are shares of its power."""

    kind: Literal["stand-in"] = "stand-in"
    standard: str = "LPDDR4-3200"
    low: Annotated[float, Field(gt=0, le=1)] = 0.25
    high: Annotated[float, Field(ge=1)] = 1.5
