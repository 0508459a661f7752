"""What a user may choose about a memory besides its standard: the controller's ways, or a memory without banks."""

from __future__ import annotations

from fractions import Fraction
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from dchw.config import Config, Frequency, NonNegative, Positive, Size
from dchw.dram.records import QUEUE_MAX

Queue = Annotated[int, Field(gt=0, le=QUEUE_MAX, strict=True)]
Refresh = Literal["refab", "refpb", "noref"]
Share = Annotated[float, Field(ge=0, le=0.999)]  # counted in thousandths: more would be all


class Controller(Config):
    """How a memory controller runs a channel; queues count requests of one burst.

    Writes are drained when more than ``write_high`` of the write queue is filled or no read waits, until less than
    ``write_low`` is filled (at 0: until it is empty) and a read waits.
    ``row_policy``: ``open`` keeps a row until it is in the way; ``closed``
    lets the last waiting access to a row close it; ``timeout`` closes rows unused for ``row_timeout`` clocks.
    ``refresh``: one all-bank refresh per interval and rank, banks in turn (one or two at a time), or none; without a
    word what the standard's file says.
    ``rest_of_chip`` is the share of the data bus that others hold: time is cut into slots of one burst, an evenly
    spread share of the slots (to the nearest thousandth) starts no burst of ours.
    """

    read_queue: Queue = 32
    """Reads of one burst that may wait in a channel."""
    write_queue: Queue = 32
    """Writes of one burst that may wait in a channel."""
    write_high: Annotated[float, Field(gt=0, le=1)] = 0.8
    """Share of the write queue above which writes are drained."""
    write_low: Annotated[float, Field(ge=0, le=1)] = 0.2
    """Share of the write queue below which draining stops when a read waits."""
    row_policy: Literal["open", "closed", "timeout"] = "open"
    """When an open row is closed: when it is in the way, after its last waiting access, or unused for a time."""
    row_timeout: Positive = Field(default=200, le=1 << 24)
    """Clocks after which ``timeout`` closes an unused row."""
    refresh: Refresh | None = None
    """``refab``: all banks of a rank at once; ``refpb``: bank by bank (LPDDR6: two by two); ``noref``: none. Default:
    what the standard's file says."""
    rest_of_chip: Share = 0.0
    """Share of the data bus that the rest of the chip holds."""

    @property
    def others_share(self) -> Fraction:
        """``rest_of_chip`` as the fraction of slots that are counted."""
        return Fraction(self.rest_of_chip).limit_denominator(1000)

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.write_low >= self.write_high:
            raise ValueError(
                f"write_low and write_high: draining must stop below where it starts; "
                f"got {self.write_low} and {self.write_high}"
            )
        return self


class FixedMemory(Config):
    """Memory without banks: ``bytes_per_cycle`` and ``latency`` in its own clocks, one queue, first come first served.

    A read completes ``latency`` clocks after its last byte was served, a write when it was served.
    ``rest_of_chip`` is the share of the bandwidth that others take; ``burst_size`` is the size of one request.
    """

    clock: Frequency
    """Clock of the memory, written with its unit."""
    bytes_per_cycle: Annotated[float, Field(gt=0)]
    """Bytes served in each of its clocks."""
    latency: NonNegative = Field(le=1 << 24)
    """Clocks from a read's last byte served to its completion."""
    burst_size: Size = Field(default=32, le=1 << 16)
    """Bytes of one request."""
    capacity: Size = Field(default=1 << 34, le=1 << 48)
    """Bytes it holds."""
    queue: Queue = 32
    """Requests that may wait."""
    rest_of_chip: Share = 0.0
    """Share of the bandwidth that the rest of the chip takes."""
