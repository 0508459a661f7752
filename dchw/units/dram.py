"""Main memory as a user configures it: LPDDR channels under command-level timing, or a fixed-rate memory.

    read / write DMA -> [one burst per channel and clock] -> channel 0 .. channels - 1

Addresses are interleaved over the channels burst by burst. ``standard`` names the LPDDR part whose controller
(`dchw.dram`) accepts, delays and refuses bursts; ``fixed`` is a pipe of constant bandwidth and latency, for closed
forms and for set-ups of tools that know nothing else. Energy is composed in `dchw.dram`, not here. Not modelled: the
address streams of the rest of the chip, only the bandwidth it takes.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Annotated, Literal

from pydantic import Field, model_validator

from dchw.config import Config, Frequency, NonNegative, Positive, Size
from dchw.dram.standard import Standard
from dchw.dram.standard import standard as load_standard
from dchw.quantities import ConfigError
from dchw.units.unit import Unit

MAX_SHARE_DENOMINATOR = 1000


class FixedMemory(Config):
    """A channel of constant bandwidth and latency."""

    bandwidth_bytes_per_cycle: Positive
    """Bytes one channel moves per memory clock."""
    latency_cycles: NonNegative = 0
    """Memory clocks between the last byte of a burst and its completion."""
    clock_hz: Frequency | None = Field(default=None, alias="clock")
    """The memory's clock; left out: the machine's own."""
    burst_bytes: Size = 64
    """Bytes of one burst; at least what a channel moves in a clock."""

    @model_validator(mode="after")
    def _one_burst_per_clock(self) -> FixedMemory:
        if self.bandwidth_bytes_per_cycle > self.burst_bytes:
            raise ValueError(
                f"expected burst_bytes of at least {self.bandwidth_bytes_per_cycle} B, because a channel takes one "
                f"burst per clock; got {self.burst_bytes} B; make bursts longer or add channels"
            )
        return self


class Dram(Unit):
    """Parameters of the main memory; exactly one of ``standard`` and ``fixed``."""

    standard: str | None = None
    """Name of a shipped standard (``LPDDR5X-8533``) or path of a YAML file of the same form."""
    fixed: FixedMemory | None = None
    channels: Positive = 1
    mapping: Literal["robaracoch", "mop4clxor"] = "robaracoch"
    """How address bits select column, rank, bank and row inside a channel."""
    refresh: Literal["refab", "refpb", "noref"] = "refab"
    """All banks at once, bank by bank, or none."""
    read_queue: Positive = 32
    """Bursts that wait in the read queue of a channel."""
    write_queue: Positive = 32
    bandwidth_share: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Part of every channel's bandwidth that the rest of the chip takes."""

    @model_validator(mode="after")
    def _one_kind(self) -> Dram:
        if (self.standard is None) == (self.fixed is None):
            given = "neither" if self.standard is None else "both"
            raise ValueError(f"expected either 'standard' or 'fixed'; got {given}; write one of the two")
        if self.standard is not None:
            try:
                load_standard(self.standard)
            except ConfigError as error:
                raise ValueError(str(error)) from None
        return self

    @property
    def part(self) -> Standard | None:
        """The LPDDR standard, or None for a fixed memory."""
        return None if self.standard is None else load_standard(self.standard)

    @property
    def burst_bytes(self) -> int:
        """Bytes of one burst on one channel: the grain of addresses and of requests."""
        if self.fixed is not None:
            return self.fixed.burst_bytes
        assert self.part is not None
        return self.part.organisation.burst_size

    def clocks_per_cycle(self, clock_hz: int) -> Fraction:
        """Memory clocks in one cycle of a machine at ``clock_hz``, exactly (rule T8)."""
        if self.fixed is not None:
            return Fraction(self.fixed.clock_hz or clock_hz, clock_hz)
        assert self.part is not None
        return Fraction(10**15, clock_hz * self.part.clock.period)

    @property
    def share(self) -> Fraction:
        """``bandwidth_share`` as the exact fraction that the memory counts with."""
        return Fraction(self.bandwidth_share).limit_denominator(MAX_SHARE_DENOMINATOR)

    def peak_bytes_per_cycle(self, clock_hz: int) -> Fraction:
        """Payload bandwidth of all channels per machine cycle that is left for this machine."""
        if self.fixed is not None:
            per_clock = Fraction(self.fixed.bandwidth_bytes_per_cycle)
        else:
            assert self.part is not None
            per_clock = Fraction(self.burst_bytes, self.part.cycles(self.part.behaviour.burst))
        return per_clock * self.channels * (1 - self.share) * self.clocks_per_cycle(clock_hz)

    def clocks_bound(self, bursts: int) -> int:
        """Memory clocks that this many bursts cannot exceed, even one at a time and each behind refreshes."""
        if self.fixed is not None:
            alone = Fraction(self.fixed.burst_bytes, self.fixed.bandwidth_bytes_per_cycle) + self.fixed.latency_cycles
        else:
            assert self.part is not None
            alone = Fraction(4 * self.part.role_cycles("refresh_interval"))
        return int(bursts * (alone + 2) / (1 - self.share))
