"""Run a trace of requests through a memory: cycles, commands, latencies, traffic, queue fill, energy.

Requests are offered in the order of the trace. ``backtoback``: the next one as soon as its channel takes it, at most
one burst per clock and channel. ``oneatatime``: only after the one before has completed. ``timed``: no earlier than
its ``cycle``, in clocks of the DRAM. A request of several bursts is offered burst by burst. Memory use does not grow
with the trace.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from dchw.compile import kernel
from dchw.dram import layout as at
from dchw.dram.address import address_map, locate
from dchw.dram.controller import accept, advance, pending, queue_of, run
from dchw.dram.energy import EnergyRow, activity, energy_rows, scope, total_pj
from dchw.dram.options import Controller, FixedMemory
from dchw.dram.standard import Standard, standard
from dchw.dram.state import State, channel_state
from dchw.quantities import ConfigError, nearest
from dchw.traces import STREAMS, chunks_of

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt
    import pandas as pd

    Ints = npt.NDArray[np.int64]

INJECTIONS = ("backtoback", "oneatatime", "timed")
Injection = Literal["backtoback", "oneatatime", "timed"]
_ONE, _TIMED = 1, 2


@kernel
def _settle(s: State, clock: int) -> int:
    """Run all channels until nothing is pending; the clock of the last completion (``clock`` if it is later)."""
    for ch in range(len(s.live)):
        m = s.live[ch]
        while pending(s, ch) > 0:
            advance(s, ch, at.FAR)
            m.out_tail = m.out_head
        clock = max(clock, m.last_completion)
    return clock


@kernel
def _inject(s: State, bits: Ints, mode: int, cycle: Ints, address: Ints, size: Ints, is_write: Any, clock: int) -> int:
    """Offer a chunk of requests from ``clock`` on; the clock of the last acceptance (or completion)."""
    f = s.fixed[0]
    burst = 1 << bits[0]
    for i in range(len(address)):
        if mode == _TIMED:
            clock = max(clock, cycle[i])
        here = address[i] >> bits[0]
        last = (address[i] + size[i] - 1) >> bits[0]
        while here <= last:
            ch, bank, row, column = locate(bits, here * burst)
            m = s.live[ch]
            if m.last_accept == clock:
                clock += 1
            while m.clock < clock:
                run(f, m, clock)
            if not accept(f, m, clock, bank, row, column, is_write[i], 0):
                queue = queue_of(f, is_write[i])
                while m.waiting[queue] >= f.room[queue]:
                    run(f, m, at.FAR)
                    m.out_tail = m.out_head
                clock = m.clock
                accept(f, m, clock, bank, row, column, is_write[i], 0)
            m.out_tail = m.out_head
            here += 1
        if mode == _ONE:
            clock = _settle(s, clock)
    return clock


def _finish(s: State) -> int:
    """Settle, then bring all channels to the last completion, which is returned."""
    clock = int(_settle(s, 0))
    for ch in range(len(s.live)):
        while s.live[ch].clock < clock:
            advance(s, ch, clock)
    return clock


@dataclass(frozen=True, kw_only=True, eq=False)
class ReplayResult:
    """What a trace did to a memory; cycles are clocks of the DRAM.

    ``traffic_bytes`` is by (stream, "read" or "write") as the trace names them. ``state`` holds the channels' records.
    """

    part: Standard | FixedMemory
    controller: Controller
    mapping: str
    inject: str
    requests: int
    traffic_bytes: dict[tuple[str, str], int]
    last_clock: int
    state: State = field(repr=False)

    @property
    def channels(self) -> int:
        """Number of channels."""
        return len(self.state.live)

    @property
    def standard(self) -> str:
        """Name of the standard, or ``fixed``."""
        return self.part.name if isinstance(self.part, Standard) else "fixed"

    def _sum(self, name: str) -> int:
        return int(self.state.live[name].sum())

    @property
    def cycles(self) -> int:
        """Clocks from the first acceptance to the last completion."""
        starts = [int(m.first_accept) for m in self.state.live if m.first_accept >= 0]
        return self.last_clock - min(starts) if starts else 0

    @property
    def seconds(self) -> float:
        """``cycles`` in seconds."""
        hz = self.part.clock_hz if isinstance(self.part, Standard) else self.part.clock
        return self.cycles / hz

    @property
    def bursts(self) -> int:
        """Bursts read and written, those served from the write queue included."""
        return self._sum("reads") + self._sum("writes")

    @property
    def size_bytes(self) -> int:
        """Bytes of all bursts."""
        burst = self.part.organisation.burst_size if isinstance(self.part, Standard) else self.part.burst_size
        return self.bursts * burst

    @property
    def achieved_gbps(self) -> float:
        """Gigabytes (10**9) of bursts per second."""
        return self.size_bytes / self.seconds / 1e9 if self.cycles else 0.0

    @property
    def peak_gbps(self) -> float:
        """Bandwidth of all channels if every clock carried data of ours."""
        if isinstance(self.part, Standard):
            return self.channels * self.part.peak_bytes_per_second / 1e9
        return self.channels * self.part.bytes_per_cycle * self.part.clock / 1e9

    @property
    def share_of_peak(self) -> float:
        """Achieved over peak bandwidth."""
        return self.achieved_gbps / self.peak_gbps

    @cached_property
    def commands(self) -> dict[str, int]:
        """Commands issued by their name in the standard; none for a fixed memory."""
        if not isinstance(self.part, Standard):
            return {}
        counts = self.state.live.counts.sum(axis=(0, 1))
        return {name: int(counts[number]) for number, name in enumerate(self.part.commands.clocks)}

    @property
    def row_hits(self) -> int:
        """Requests whose row was open when their first command issued."""
        return self._sum("hits")

    @property
    def row_misses(self) -> int:
        """Requests whose bank was closed then."""
        return self._sum("misses")

    @property
    def row_conflicts(self) -> int:
        """Requests whose bank had another row open then."""
        return self._sum("conflicts")

    @property
    def forwarded(self) -> int:
        """Reads answered from the write queue."""
        return self._sum("forwarded")

    @property
    def merged(self) -> int:
        """Writes that joined a waiting one."""
        return self._sum("merged")

    @cached_property
    def latency_histogram(self) -> Ints:
        """int64[k]: reads by latency in clocks from acceptance to last beat; the last bin takes all longer ones."""
        return np.asarray(self.state.live.latency.sum(axis=0))

    @property
    def latency_mean(self) -> float:
        """Mean read latency in clocks; 0 without reads."""
        reads = int(self.latency_histogram.sum())
        return self._sum("latency_sum") / reads if reads else 0.0

    @property
    def latency_max(self) -> int:
        """Longest read latency in clocks."""
        return int(self.state.live.latency_max.max())

    def latency_percentile(self, percent: float) -> int:
        """Read latency in clocks that ``percent`` of the n reads do not exceed (rank ceil(percent n / 100))."""
        if not 0 < percent <= 100:
            raise ConfigError(f"percent: expected more than 0 and at most 100; got {percent}")
        filled = np.cumsum(self.latency_histogram)
        rank = max(1, int(np.ceil(percent / 100 * filled[-1])))
        found = int(np.searchsorted(filled, rank)) if filled[-1] else 0
        return self.latency_max if found == at.LATENCY_BINS - 1 else found

    def queue_mean(self, queue: Literal["read", "write"]) -> float:
        """Mean number of requests in a queue of one channel."""
        clocks = self.channels * self.last_clock
        of = ("read", "write").index(queue)
        return int(self.state.live.occupancy[:, of].sum()) / clocks if clocks else 0.0

    def occupancy(self) -> pd.DataFrame:
        """Queue fill over time: channel, from_clock, to_clock, mean requests in the read and the write queue."""
        import pandas as pd

        rows = []
        for channel, m in enumerate(self.state.live):
            width = 1 << int(m.occupancy_shift)
            for b in range(-(-self.last_clock // width)):
                end = min((b + 1) * width, self.last_clock)
                reads, writes = (float(m.occupancy[q, b]) / (end - b * width) for q in range(2))
                rows.append((channel, b * width, end, reads, writes))
        names = ["channel", "from_clock", "to_clock", "read_queue_mean", "write_queue_mean"]
        return pd.DataFrame(rows, columns=names)

    def bank_commands(self) -> pd.DataFrame:
        """Commands of every bank: channel, bank, command, count; all-bank commands stand at a rank's first bank."""
        import pandas as pd

        rows = [
            (channel, bank, name, int(m.counts[bank, number]))
            for channel, m in enumerate(self.state.live)
            for bank in range(int(self.state.fixed[0].banks))
            for number, name in enumerate(self.commands)
        ]
        return pd.DataFrame(rows, columns=["channel", "bank", "command", "count"])

    def command_trace(self, channel: int = 0) -> pd.DataFrame:
        """Commands kept: clock (the first of the command), command, bank, row (-1 where none)."""
        import pandas as pd

        m = self.state.live[channel]
        frame = pd.DataFrame(np.array(m.log[: m.logged]), columns=["clock", "command", "bank", "row"])
        return frame.assign(command=frame["command"].map(dict(enumerate(self.commands))))

    @cached_property
    def energy(self) -> tuple[EnergyRow, ...]:
        """Energy rows (``dchw.dram.energy``); none for a fixed memory."""
        if not isinstance(self.part, Standard):
            return ()
        return energy_rows(self.part, activity(self.part, self.state, self.last_clock))

    @property
    def energy_pj(self) -> float:
        """Nominal sum of the energy rows; see ``scope``."""
        return total_pj(self.energy)

    @property
    def scope(self) -> str:
        """What the energy covers."""
        return scope(self.part)

    def summary(self) -> dict[str, Any]:
        """The main figures by name, units in the names."""
        return {
            "standard": self.standard,
            "channels": self.channels,
            "mapping": self.mapping,
            "refresh": self.controller.refresh,
            "inject": self.inject,
            "requests": self.requests,
            "bursts": self.bursts,
            "size_bytes": self.size_bytes,
            "cycles": self.cycles,
            "seconds": self.seconds,
            "achieved_gbps": self.achieved_gbps,
            "share_of_peak": self.share_of_peak,
            "read_latency_mean_cycles": self.latency_mean,
            "read_latency_p50_cycles": self.latency_percentile(50),
            "read_latency_p99_cycles": self.latency_percentile(99),
            "read_latency_max_cycles": self.latency_max,
            "row_hits": self.row_hits,
            "row_misses": self.row_misses,
            "row_conflicts": self.row_conflicts,
            "forwarded_reads": self.forwarded,
            "merged_writes": self.merged,
            "read_queue_mean": self.queue_mean("read"),
            "write_queue_mean": self.queue_mean("write"),
            "energy_pj": self.energy_pj,
        }

    def to_frame(self) -> pd.DataFrame:
        """Tidy rows: kind (summary, command, traffic, energy), name, value, unit."""
        import pandas as pd

        rows: list[tuple[str, str, Any]] = [
            ("summary", name, value) for name, value in self.summary().items() if not isinstance(value, str)
        ]
        rows += [("command", name, count) for name, count in self.commands.items()]
        rows += [("traffic_bytes", f"{stream} {way}", size) for (stream, way), size in self.traffic_bytes.items()]
        rows += [("energy_pj", row.event, row.energy_pj) for row in self.energy]
        frame = pd.DataFrame(rows, columns=["kind", "name", "value"])
        return frame.assign(value=frame["value"].astype(float))


def replay(
    trace: Any,
    on: str | Path | Standard | FixedMemory,
    *,
    mapping: str = "robaracoch",
    refresh: Literal["refab", "refpb", "noref"] | None = None,
    inject: Injection = "backtoback",
    channels: int = 1,
    controller: Controller | None = None,
    keep_commands: int = 0,
    on_progress: Callable[[int], None] | None = None,
) -> ReplayResult:
    """Run a trace through a memory.

    ``trace``: a path (``dchw.traces``), a pair of arrays (address, is_write), or chunks of requests. ``on``: a
    standard by name, a YAML file of one, or a ``FixedMemory``. ``refresh`` overrides the controller's. The first
    ``keep_commands`` commands of each channel are kept (``ReplayResult.command_trace``). ``on_progress`` is told
    the number of requests done after each chunk. Raises ConfigError and FileFormatError.
    """
    if inject not in INJECTIONS:
        raise ConfigError(f"inject {inject!r}: no such way; {nearest(inject, INJECTIONS)}")
    part = on if isinstance(on, FixedMemory) else standard(on)
    options = controller or Controller()
    if refresh is not None:
        options = options.replace("refresh", refresh)
    bits = address_map(part, mapping, channels)
    state = channel_state(part, options, channels=channels, trace_length=keep_commands)
    burst = part.burst_size if isinstance(part, FixedMemory) else part.organisation.burst_size
    clock = done = 0
    moved = np.zeros((len(STREAMS) + 1, 2), np.int64)
    for chunk in chunks_of(trace, burst_bytes=burst):
        clock = _inject(
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
    last = _finish(state)
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
