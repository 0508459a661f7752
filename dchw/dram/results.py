"""What a memory did in a run, read from its channels: bandwidth, rows, latencies, banks, queues, commands, energy."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from dchw import showing
from dchw.dram import records as at
from dchw.dram.energy import EnergyRow, activity, energy_rows, scope, total_pj
from dchw.dram.notes import memory_notes, unverified_timings
from dchw.dram.options import Controller, FixedMemory
from dchw.dram.standard import Standard
from dchw.dram.state import State
from dchw.quantities import ConfigError

if TYPE_CHECKING:
    import numpy.typing as npt
    import pandas as pd

    Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True, eq=False)
class MemoryRun:
    """The channels of a memory after a run up to ``last_clock``; all cycles are clocks of the DRAM."""

    part: Standard | FixedMemory
    controller: Controller
    """With the refresh in use."""
    mapping: str
    """The order of address bits in use."""
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

    def latencies(self) -> list[tuple[int, int]]:
        """The histogram where it is not empty: latency in clocks, reads."""
        return [(int(k), int(self.latency_histogram[k])) for k in np.flatnonzero(self.latency_histogram)]

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

    def occupancy(self, most: int = at.OCCUPANCY_BINS) -> pd.DataFrame:
        """Queue fill over time in at most ``most`` intervals a channel.

        Columns: channel, from_clock, to_clock, mean requests in the read and the write queue.
        """
        import pandas as pd

        rows = []
        for channel, m in enumerate(self.state.live):
            width = 1 << int(m.occupancy_shift)
            joined = 1
            while -(-self.last_clock // (width * joined)) > most:
                joined *= 2
            for b in range(-(-self.last_clock // (width * joined))):
                start, end = b * width * joined, min((b + 1) * width * joined, self.last_clock)
                fill = m.occupancy[:, b * joined : (b + 1) * joined].sum(axis=1) / (end - start)
                rows.append((channel, start, end, *fill.tolist()))
        names = ["channel", "from_clock", "to_clock", "read_queue_mean", "write_queue_mean"]
        return pd.DataFrame(rows, columns=names)

    def banks(self) -> pd.DataFrame:
        """How much each bank had to do: channel, bank, activates, reads, writes, share_of_accesses."""
        import pandas as pd

        names = ["channel", "bank", "activates", "reads", "writes"]
        if not isinstance(self.part, Standard):
            return pd.DataFrame(columns=[*names, "share_of_accesses"])
        have, order = self.part.commands, list(self.commands)
        sorts = ((have.activate,), (have.read, have.read_precharge), (have.write, have.write_precharge))
        rows = [
            (channel, bank, *(sum(int(m.counts[bank, order.index(name)]) for name in sort if name) for sort in sorts))
            for channel, m in enumerate(self.state.live)
            for bank in range(int(self.state.fixed[0].banks))
        ]
        frame = pd.DataFrame(rows, columns=names)
        accesses = frame["reads"] + frame["writes"]
        return frame.assign(share_of_accesses=accesses / max(1, int(accesses.sum())))

    def command_trace(self, channel: int = 0) -> pd.DataFrame:
        """Commands kept: clock (the first of the command), command, bank, row, column (-1 where none)."""
        import pandas as pd

        m = self.state.live[channel]
        frame = pd.DataFrame(np.array(m.log[: m.logged]), columns=["clock", "command", "bank", "row", "column"])
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

    @property
    def notes(self) -> tuple[str, ...]:
        """What the numbers rest on: unverified timings and rules, order of addresses, refresh, each with its effect."""
        return (*self.brief_notes, *unverified_timings(self.part))

    @property
    def brief_notes(self) -> tuple[str, ...]:
        """The notes without the names of unverified timings, of which they say the number and the effect."""
        return memory_notes(self.part, self.mapping, self.controller.refresh or "noref")

    def figures(self) -> dict[str, Any]:
        """The main figures by name, units in the names."""
        return {
            "bursts": self.bursts,
            "size_bytes": self.size_bytes,
            "cycles": self.cycles,
            "seconds": self.seconds,
            "achieved_gbps": self.achieved_gbps,
            "share_of_peak": self.share_of_peak,
            "read_latency_mean_cycles": self.latency_mean,
            **{f"read_latency_p{p}_cycles": self.latency_percentile(p) for p in (50, 90, 99)},
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

    def details(self) -> dict[str, Any]:
        """Read latencies, banks and queue fill over time as plain rows."""
        return {
            "reads_by_latency": [{"cycles": cycles, "reads": reads} for cycles, reads in self.latencies()],
            "banks": self.banks().to_dict("records"),
            "queues": self.occupancy().to_dict("records"),
        }

    def __repr__(self) -> str:
        return showing.line(
            type(self).__name__,
            f"{self.standard} x{self.channels}",
            f"{self.bursts:,} bursts in {self.cycles:,} clocks",
            f"{self.achieved_gbps:.3g} GB/s",
        )

    def _repr_html_(self) -> str:
        rows = [
            ("bursts", f"{self.bursts:,}"),
            ("clocks", f"{self.cycles:,}"),
            ("bandwidth", f"{self.achieved_gbps:.3g} GB/s, {self.share_of_peak:.1%} of peak"),
            ("row hits, misses, conflicts", f"{self.row_hits:,}, {self.row_misses:,}, {self.row_conflicts:,}"),
            ("mean read latency", f"{self.latency_mean:.1f} clocks"),
        ]
        return showing.table(f"{self.standard}, {self.channels} channels", ("figure", "value"), rows)
