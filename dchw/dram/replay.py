"""Run a trace of requests through a memory: cycles, commands, latencies, traffic, queue fill, energy.

Requests are offered in the order of the trace. ``backtoback``: the next one as soon as its channel takes it, at most
one burst per clock and channel. ``oneatatime``: only after the one before has completed. ``timed``: no earlier than
its ``cycle``, in clocks of the DRAM. A request of several bursts is offered burst by burst. Memory use does not grow
with the trace.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from dchw.arguments import checked
from dchw.dram.address import address_map
from dchw.dram.injection import finish, offer_all
from dchw.dram.options import Controller, FixedMemory, Refresh
from dchw.dram.results import MemoryRun
from dchw.dram.sections import Defaults
from dchw.dram.standard import Standard, standard
from dchw.dram.state import channel_state
from dchw.quantities import ConfigError, nearest
from dchw.traces import STREAMS, Format, TraceChunk, chunks_of

if TYPE_CHECKING:
    import numpy.typing as npt
    import pandas as pd

    Ints = npt.NDArray[np.int64]

INJECTIONS = ("backtoback", "oneatatime", "timed")
Injection = Literal["backtoback", "oneatatime", "timed"]


@dataclass(frozen=True, kw_only=True, eq=False)
class ReplayResult(MemoryRun):
    """What a trace did to a memory; ``traffic_bytes`` is by (stream, "read" or "write") as the trace names them."""

    inject: str
    requests: int
    beyond_capacity: int
    """Requests that reach beyond the memory's last byte; their addresses wrap around."""
    first_beyond: str
    """The first of them in words."""
    traffic_bytes: dict[tuple[str, str], int]

    @property
    def notes(self) -> tuple[str, ...]:
        """What the numbers rest on, and what of the trace was taken otherwise than written."""
        if not self.beyond_capacity:
            return super().notes
        return (
            f"{self.beyond_capacity:,} of {self.requests:,} requests reach beyond the memory and wrap around; "
            f"the first is {self.first_beyond}.",
            *super().notes,
        )

    def summary(self) -> dict[str, Any]:
        """The main figures by name, units in the names."""
        return {
            "standard": self.standard,
            "channels": self.channels,
            "mapping": self.mapping,
            "refresh": self.controller.refresh,
            "inject": self.inject,
            "requests": self.requests,
            "requests_beyond_capacity": self.beyond_capacity,
            **self.figures(),
        }

    def to_frame(self) -> pd.DataFrame:
        """Tidy rows: kind, name, value; one row per figure, command, stream, energy row, unverified timing,
        bank, latency and interval."""
        import pandas as pd

        rows: list[tuple[str, str, Any]] = [
            ("summary", name, value) for name, value in self.summary().items() if not isinstance(value, str)
        ]
        rows += [("command", name, count) for name, count in self.commands.items()]
        rows += [("traffic_bytes", f"{stream} {way}", size) for (stream, way), size in self.traffic_bytes.items()]
        rows += [("energy_pj", row.event, row.energy_pj) for row in self.energy]
        if isinstance(self.part, Standard):
            timings = self.part.timings
            rows += [("unverified_timing_cycles", name, timings[name].cycles) for name in self.part.unverified]
        rows += [
            (f"bank_{figure}", f"channel {bank['channel']} bank {bank['bank']}", bank[figure])
            for bank in self.banks().to_dict("records")
            for figure in ("activates", "reads", "writes")
        ]
        rows += [("reads_by_latency_cycles", str(latency), count) for latency, count in self.latencies()]
        rows += [
            (
                f"{queue}_queue_mean",
                f"channel {part['channel']} from clock {part['from_clock']}",
                part[f"{queue}_queue_mean"],
            )
            for part in self.occupancy().to_dict("records")
            for queue in ("read", "write")
        ]
        frame = pd.DataFrame(rows, columns=["kind", "name", "value"])
        return frame.assign(value=frame["value"].astype(float))


class _Beyond:
    """Requests of a trace that reach beyond the capacity of a memory: how many, and the first in words."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.count = 0
        self.first = ""

    def look_at(self, chunk: TraceChunk, done: int) -> None:
        """Count those of a chunk that comes after ``done`` requests."""
        over = np.flatnonzero(chunk.address > self.capacity - chunk.size_bytes)
        if over.size and not self.count:
            place = f"request {done + int(over[0]) + 1} at 0x{int(chunk.address[over[0]]):x}"
            self.first = f"{place}, beyond the {self.capacity / 2**30:,.4g} GiB of the memory"
        self.count += int(over.size)


@checked
def replay(
    trace: Any,
    on: str | Path | Standard | FixedMemory,
    *,
    mapping: str | None = None,
    refresh: Refresh | None = None,
    inject: Injection = "backtoback",
    channels: int = 1,
    controller: Controller | None = None,
    keep_commands: int = 0,
    trace_format: Format | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> ReplayResult:
    """Run a trace of requests through a memory, command by command.

    Parameters
    ----------
    trace
        A path (`dchw.traces`), a pair of arrays (address int64[n] in bytes, is_write bool[n]), or chunks of requests.
    on
        A standard by name, the YAML file of one, or a `FixedMemory`.
    mapping
        How address bits select channel, rank, bank, row and column: a name or an order (`dchw.dram.address`). Default:
        what the standard's file says.
    refresh
        ``"refab"``, ``"refpb"`` or ``"noref"``. Default: what ``controller`` says, then what the standard's file says.
    inject
        ``"backtoback"``: as fast as the queue takes them; ``"oneatatime"``: each after the answer to the one before;
        ``"timed"``: at the trace's own cycles.
    channels
        A power of two.
    controller
        Queues, write draining, row policy and the share that others take. Default: ``Controller()``.
    keep_commands
        The first so many commands of each channel are kept (``ReplayResult.command_trace``).
    trace_format
        ``"parquet"``, ``"ramulator"``, ``"ramulator1"`` or ``"dramsim3"``. Default: the content tells.
    on_progress
        Told before the first chunk and after each how much of the trace is done and how much there is: bytes of a text
        file, requests of others. Chunks of unknown number tell nothing.

    Returns
    -------
    ReplayResult
        Cycles, commands, read latencies, energy in pJ, banks and queues over time.

    Raises
    ------
    ConfigError
        For an option or a standard that is none.
    FileFormatError
        For a trace that cannot be read.

    Examples
    --------
    >>> import dchw, numpy as np
    >>> run = dchw.replay((np.arange(1000) * 32, np.zeros(1000, bool)), "LPDDR5-6400", refresh="noref")
    >>> run.commands["RD"]
    1000
    """
    if inject not in INJECTIONS:
        raise ConfigError(f"inject {inject!r}: no such way; {nearest(inject, INJECTIONS)}")
    part = on if isinstance(on, FixedMemory) else standard(on)
    options = controller or Controller()
    if refresh is not None:
        options = options.replace("refresh", refresh)
    if isinstance(part, Standard):
        options, mapping = part.settled(options), mapping or part.defaults.mapping
    mapping = mapping or Defaults().mapping
    bits = address_map(part, mapping, channels)
    state = channel_state(part, options, channels=channels, trace_length=keep_commands)
    burst = part.burst_size if isinstance(part, FixedMemory) else part.organisation.burst_size
    clock = done = 0
    moved = np.zeros((len(STREAMS) + 1, 2), np.int64)
    capacity = channels * (part.capacity if isinstance(part, FixedMemory) else part.organisation.capacity_bytes)
    beyond = _Beyond(capacity)
    position: tuple[int, int] | None = None

    def read(now: int, whole: int) -> None:
        nonlocal position
        if position is None and on_progress is not None:
            on_progress(0, whole)
        position = now, whole

    for chunk in chunks_of(trace, burst_bytes=burst, kind=trace_format, on_read=read):
        beyond.look_at(chunk, done)
        clock = offer_all(
            state,
            bits,
            INJECTIONS.index(inject),
            chunk.cycle,
            chunk.address,
            chunk.size_bytes,
            chunk.is_write,
            clock,
        )
        place = chunk.stream.astype(np.int64) % len(moved) * 2 + chunk.is_write
        moved += (
            np.bincount(place, weights=chunk.size_bytes, minlength=moved.size).astype(np.int64).reshape(moved.shape)
        )
        done += len(chunk)
        if on_progress is not None and position is not None:
            on_progress(*position)
    last = finish(state)
    names = (*STREAMS, "unknown")
    return ReplayResult(
        part=part,
        controller=options,
        mapping=mapping,
        inject=inject,
        requests=done,
        beyond_capacity=beyond.count,
        first_beyond=beyond.first,
        traffic_bytes={
            (names[number], way): int(moved[number, column])
            for number in range(len(names))
            for column, way in enumerate(("read", "write"))
            if moved[number, column]
        },
        last_clock=last,
        state=state,
    )
