"""Run a trace of requests through a memory: cycles, commands, latencies, traffic, queue fill, energy.

Requests are offered in the order of the trace. ``backtoback``: the next one as soon as its channel takes it, at most
one burst per clock and channel. ``oneatatime``: only after the one before has completed. ``timed``: no earlier than
its ``cycle``, in clocks of the DRAM. A request of several bursts is offered burst by burst. Memory use does not grow
with the trace.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from dchw.dram.address import address_map
from dchw.dram.injection import finish, offer_all
from dchw.dram.options import Controller, FixedMemory, Refresh
from dchw.dram.results import MemoryRun
from dchw.dram.sections import Defaults
from dchw.dram.standard import Standard, standard
from dchw.dram.state import channel_state
from dchw.quantities import ConfigError, nearest
from dchw.traces import STREAMS, chunks_of

if TYPE_CHECKING:
    from collections.abc import Callable

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
    traffic_bytes: dict[tuple[str, str], int]

    def summary(self) -> dict[str, Any]:
        """The main figures by name, units in the names."""
        return {
            "standard": self.standard,
            "channels": self.channels,
            "mapping": self.mapping,
            "refresh": self.controller.refresh,
            "inject": self.inject,
            "requests": self.requests,
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
    on_progress: Callable[[int], None] | None = None,
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
    on_progress
        Told the number of requests done after each chunk.

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
    for chunk in chunks_of(trace, burst_bytes=burst):
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
        if on_progress is not None:
            on_progress(done)
    last = finish(state)
    names = (*STREAMS, "unknown")
    return ReplayResult(
        part=part,
        controller=options,
        mapping=mapping,
        inject=inject,
        requests=done,
        traffic_bytes={
            (names[number], way): int(moved[number, column])
            for number in range(len(names))
            for column, way in enumerate(("read", "write"))
            if moved[number, column]
        },
        last_clock=last,
        state=state,
    )
