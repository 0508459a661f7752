"""What a run gives: cycles, seconds, bytes and joules, and tables of all of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from dchw import costs, showing
from dchw.compression.compressed import CompressedNetwork
from dchw.dram.results import MemoryRun
from dchw.engines.result import Timing
from dchw.formats import storage_format
from dchw.graph.coverage import Coverage
from dchw.graph.network import FloatArray
from dchw.late import maker
from dchw.lowering.counts import EventCount
from dchw.mapping.workload import Workload
from dchw.program.outline import Outline, Outlined
from dchw.program.program import Program
from dchw.quantities import seconds_of
from dchw.run import run_frames
from dchw.run.bounds import Bound, run_bound
from dchw.run.residency import residency_frame, residency_sentence
from dchw.vocabulary import Stream

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, kw_only=True, eq=False)
class SimResult:
    """What a run gives. Times are machine cycles from the first request to the last result."""

    workload: Workload
    lowered: Program | Outlined
    """What was run: in one piece, or in windows."""
    outline: Outline
    """Who was in it, and how often who did what."""
    timing: Timing
    counts: tuple[EventCount, ...]
    costs: costs.CostReport
    engine: str
    warm: bool
    network: CompressedNetwork | None = field(default=None, repr=False)
    """What was simulated, for reports; None where a run came from a program or a study."""

    @cached_property
    def program(self) -> Program:
        """The program that was run, in one piece: lowered again, and held, where it was run in windows."""
        return self.lowered if isinstance(self.lowered, Program) else self.lowered.whole()

    @property
    def cycles(self) -> int:
        """Machine cycles of the run."""
        return self.timing.cycles

    @property
    def coverage(self) -> Coverage:
        """Which of the network's parameters bytes, traffic and energy account for: `Network.coverage`."""
        return self.workload.coverage

    @property
    def seconds(self) -> float:
        """Duration of the run."""
        return seconds_of(self.timing.cycles, self.outline.clock_hz)

    @property
    def energy_pj(self) -> float:
        """Total energy, the sum of its rows."""
        return self.costs.energy_pj

    @property
    def inferences_per_s(self) -> float:
        """Inferences in a second, one run behind the other."""
        return self.workload.batch / self.seconds

    @property
    def inferences_per_j(self) -> float:
        """Inferences for a joule; infinite where nothing is priced."""
        return 1e12 / self.costs.energy_per_inference_pj if self.energy_pj else float("inf")

    @property
    def outputs(self) -> Mapping[str, FloatArray]:
        """What the simulated hardware computed, batch axis first."""
        return self.workload.outputs

    @property
    def dram_bytes(self) -> int:
        """Bytes moved by the DRAM commands that were issued, both ways."""
        return self.dram_read_bytes + self.dram_write_bytes

    @property
    def dram_read_bytes(self) -> int:
        """Bytes of all read bursts."""
        return self._moved(0)

    @property
    def dram_write_bytes(self) -> int:
        """Bytes of all write bursts."""
        return self._moved(1)

    @property
    def bandwidth_gbps(self) -> float:
        """Bytes moved over the whole run's time, in 1e9 bytes per second."""
        return self.dram_bytes / self.seconds / 1e9

    @property
    def memory(self) -> MemoryRun | None:
        """What the DRAM did: rows, read latencies, banks, queues; None where nothing was asked of it."""
        memory, node = self.timing.memory, self.outline.memory
        if memory is None or node is None:
            return None
        dram = node.memory
        return MemoryRun(
            part=dram.part,
            controller=dram.settled_controller,
            mapping=dram.order,
            last_clock=memory.clocks,
            state=memory.channels,
        )

    @property
    def notes(self) -> tuple[str, ...]:
        """What was dropped, assumed or left unverified in this run."""
        return (*self.workload.notes, *(() if self.memory is None else self.memory.notes))

    @property
    def brief_notes(self) -> tuple[str, ...]:
        """The notes as a terminal has room for them: without the names of unverified timings."""
        return (*self.workload.notes, *(() if self.memory is None else self.memory.brief_notes))

    @cached_property
    def bound(self) -> Bound:
        """What bounds the whole run; ``layers_frame()`` says it of every layer."""
        return run_bound(self.workload, self.outline, self.timing)

    @property
    def plot(self) -> Any:
        """Figures of this run: ``plot.energy()``, ``traffic()``, ``roofline()``, ``timeline()`` (needs plotly);
        a `dchw.reports.plots.RunPlots`."""
        return maker("SimResult.plot")(self)

    def stream_bytes(self) -> dict[Stream, int]:
        """DRAM bytes per stream, whole bursts, both ways."""
        memory = self.timing.memory
        if memory is None:
            return {}
        sums = memory.size_bytes.sum(axis=(1, 2))
        return {stream: int(size) for stream, size in zip(Stream, sums, strict=True) if size}

    def streams_frame(self) -> pd.DataFrame:
        """One row per stream: bytes as packed, and as they crossed the DRAM.

        ``packed_bytes`` are whole regions of weights, once; ``dram_read_bytes`` and ``dram_write_bytes`` are whole
        bursts, and one that two tables share is the first one's; ``again_bytes`` are what reading exceeds packing by:
        ends of bursts, and weights read in several passes.
        """
        return run_frames.streams_frame(self.workload, self.timing)

    def to_frame(self) -> pd.DataFrame:
        """One row per layer, unit and event: counts and energies with their sources."""
        return self.costs.to_frame()

    def units_frame(self) -> pd.DataFrame:
        """Busy, stall and idle cycles of every node of the machine; they add up to the total."""
        return run_frames.units_frame(self.outline, self.timing)

    def layers_frame(self) -> pd.DataFrame:
        """Per layer: first start, last finish, DRAM bytes, entries, fillers, products, and what bounds it."""
        return run_frames.layers_frame(self.workload, self.outline, self.timing)

    def bounds_frame(self) -> pd.DataFrame:
        """What bounds each layer, with its rate, what the next resource would allow, and both in words
        (`dchw.run.bound_words`)."""
        frame: pd.DataFrame = maker("SimResult.bounds_frame")(self)
        return frame

    def residency_frame(self) -> pd.DataFrame:
        """Which weights stay on the chip from run to run, which only because they are compressed, and which tensors
        stay from layer to layer (`dchw.run.residency`)."""
        return residency_frame(self.workload)

    @property
    def residency(self) -> str:
        """Which layers' weights stay from one inference to the next, and which only because they are compressed."""
        workload = self.workload
        dense = storage_format(workload.storage).dense
        return residency_sentence(self.residency_frame(), workload.machine.weight_sram.size_bytes, dense=dense)

    def mapping_frame(self) -> pd.DataFrame:
        """Per layer: the order of loops that was chosen and the DRAM reads it expects, beside those of the simple
        order (`dchw.mapping.search`) and the least there can be: everything once."""
        return run_frames.mapping_frame(self.workload)

    def _moved(self, way: int) -> int:
        memory = self.timing.memory
        return 0 if memory is None else int(memory.size_bytes[:, way].sum())

    def __repr__(self) -> str:
        return showing.line(
            "SimResult",
            f"{self.workload.network} / {self.workload.storage} on {self.workload.machine.name}",
            f"{self.cycles:,} cycles",
            f"{showing.in_bytes(self.dram_read_bytes)} read",
            showing.in_joules(self.energy_pj),
            f"bound by {self.bound.bound_by}",
        )

    def _repr_html_(self) -> str:
        rows = [
            ("cycles", f"{self.cycles:,}"),
            ("time", f"{self.seconds * 1e6:.4g} us"),
            ("DRAM read", f"{self.dram_read_bytes:,} B"),
            ("DRAM written", f"{self.dram_write_bytes:,} B"),
            ("bandwidth", f"{self.bandwidth_gbps:.3g} GB/s"),
            ("energy", showing.in_joules(self.energy_pj)),
            ("bound by", str(self.bound)),
        ]
        where = f"{self.workload.network} / {self.workload.storage} on {self.workload.machine.name}"
        return showing.table(where, ("figure", "value"), rows)
