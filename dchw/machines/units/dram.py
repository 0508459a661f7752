"""Main memory as a user configures it: LPDDR channels under command-level timing, or a fixed-rate memory.

    read / write DMA -> [one burst per channel and clock] -> channel 0 .. channels - 1

``standard`` names the LPDDR part whose controller (`dchw.dram`) accepts, delays and refuses bursts; ``fixed`` is a
queue in front of a pipe of constant bandwidth and latency, for closed forms and for set-ups of tools that know
nothing else. Energy is composed in `dchw.dram`, not here. Not modelled: the address streams of the rest of the chip,
only the share of the bandwidth it takes (``controller.rest_of_chip``, ``fixed.rest_of_chip``).
"""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from typing import ClassVar

from pydantic import Field, model_validator

from dchw.config import Positive
from dchw.dram.address import address_map
from dchw.dram.currents import Spread
from dchw.dram.options import Controller, FixedMemory
from dchw.dram.sections import Defaults
from dchw.dram.standard import Standard
from dchw.dram.standard import standard as load_standard
from dchw.machines.units.dma import ADDRESS_BITS
from dchw.machines.units.dma import CHANNELS as DMA_CHANNELS
from dchw.machines.units.unit import MEMORY, Direction, Port, Setting, Unit
from dchw.quantities import ConfigError


class Dram(Unit):
    """Parameters of the main memory; exactly one of ``standard`` and ``fixed``."""

    label: ClassVar[str] = "DRAM"
    category: ClassVar[str] = MEMORY
    stage: ClassVar[str] = "fetch"
    resource: ClassVar[str] = "dram"
    resource_title: ClassVar[str] = "DRAM"
    resource_allows: ClassVar[str] = "the DRAM"

    standard: str | None = None
    """Name of a shipped standard (``LPDDR5X-8533``) or path of a YAML file of the same form."""
    fixed: FixedMemory | None = None
    """Instead of a standard: a memory of constant bandwidth and latency."""
    channels: Positive = Field(default=1, le=1 << 10)
    """A power of two."""
    mapping: str | None = None
    """How address bits select channel, rank, bank, row and column: a name or an order (`dchw.dram.address`).

    Default: what the standard's file says."""
    controller: Controller = Controller()
    """How the memory controller of every channel works."""
    controller_and_phy: Spread | None = None
    """Energy of the controller and PHY on the chip in pJ per bit moved: ``low``, ``nominal`` and ``high``.

    Left out by default, and every result says so: no figure of a phone's chip is public. 1, 2 and 3 are plausible."""

    @model_validator(mode="after")
    def _one_kind(self) -> Dram:
        if (self.standard is None) == (self.fixed is None):
            given = "neither" if self.standard is None else "both"
            raise ValueError(f"expected either 'standard' or 'fixed'; got {given}; write one of the two")
        try:
            part = self.part
            address_map(part, self.order, self.channels)
        except ConfigError as error:
            raise ValueError(str(error)) from None
        per_bank = isinstance(part, Standard) and part.commands.refresh_bank is None
        if per_bank and self.controller.refresh == "refpb":
            raise ValueError(f"controller.refresh: {self.standard} has no per-bank refresh; use 'refab' or 'noref'")
        return self

    def links(self, setting: Setting) -> Mapping[str, Port]:
        """Requests in; bursts of weights and of activations out, on every channel."""
        burst = Port(direction=Direction.OUT, bits=8 * self.burst_bytes, copies=self.channels)
        requests = Port(direction=Direction.IN, bits=ADDRESS_BITS, copies=DMA_CHANNELS)
        return {"requests": requests, "weights": burst, "activations": burst}

    @property
    def part(self) -> Standard | FixedMemory:
        """What the channels consist of."""
        if self.fixed is not None:
            return self.fixed
        assert self.standard is not None
        return load_standard(self.standard)

    @property
    def order(self) -> str:
        """The mapping in use: the one asked for, or the standard's default."""
        part = self.part
        return self.mapping or (part.defaults.mapping if isinstance(part, Standard) else Defaults().mapping)

    @property
    def settled_controller(self) -> Controller:
        """The controller with the refresh in use."""
        part = self.part
        return part.settled(self.controller) if isinstance(part, Standard) else self.controller

    @property
    def burst_bytes(self) -> int:
        """Bytes of one burst on one channel: the grain of addresses and of requests."""
        part = self.part
        return part.burst_size if isinstance(part, FixedMemory) else part.organisation.burst_size

    def clocks_per_cycle(self, clock_hz: int) -> Fraction:
        """Memory clocks in one cycle of a machine at ``clock_hz``, exactly (rule T8)."""
        part = self.part
        if isinstance(part, FixedMemory):
            return Fraction(part.clock, clock_hz)
        return Fraction(10**15, clock_hz * part.clock.period)

    def peak_bytes_per_cycle(self, clock_hz: int) -> float:
        """Payload bandwidth of all channels per machine cycle that is left for this machine."""
        part = self.part
        if isinstance(part, FixedMemory):
            per_clock = part.bytes_per_cycle * (1 - part.rest_of_chip)
        else:
            per_clock = self.burst_bytes / part.cycles(part.behaviour.burst) * (1 - self.controller.rest_of_chip)
        return per_clock * self.channels * float(self.clocks_per_cycle(clock_hz))

    def clocks_bound(self, bursts: int) -> int:
        """Memory clocks that this many bursts cannot exceed, even one at a time and each behind refreshes."""
        part = self.part
        if isinstance(part, FixedMemory):
            alone = self.burst_bytes / (part.bytes_per_cycle * (1 - part.rest_of_chip)) + part.latency + 3
        else:
            alone = 4 * part.role_cycles("refresh_interval") / (1 - self.controller.rest_of_chip)
        return bursts * (int(alone) + 1)
