"""One run from a compressed network to its account, and the comparison of storage formats: the library's main calls."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from dchw import costs, showing
from dchw.arguments import MOST_BATCH, check_range, checked
from dchw.compression.compressed import CompressedNetwork
from dchw.costs.memory_rows import dram_account
from dchw.dram.results import MemoryRun
from dchw.engines.result import Timing
from dchw.formats import DEFAULT_FORMAT
from dchw.graph.coverage import Coverage
from dchw.graph.network import Array, FloatArray
from dchw.late import maker
from dchw.lowering.counts import EventCount, count_events
from dchw.lowering.lower import LoweredWindows, fits_one_window, lower
from dchw.machines.machine import Machine, machine
from dchw.mapping.arithmetic import Arithmetic
from dchw.mapping.stages import distinct_parts
from dchw.mapping.workload import Workload, map_network
from dchw.program.outline import Outline, Outlined, outline_of
from dchw.program.program import Program
from dchw.program.windows import Windowed
from dchw.quantities import DchwError, nearest, seconds_of
from dchw.run.bounds import Bound, layer_bounds, run_bound
from dchw.run.conservation import check_conservation
from dchw.run.implied import check_counts
from dchw.run.residency import residency_frame
from dchw.vocabulary import Stream

if TYPE_CHECKING:
    import pandas as pd

Engine = Literal["fast", "reference"]
_ENGINES = ("fast", "reference")


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
        memory = self.memory
        return (*self.workload.notes, *(memory.notes if memory is not None else ()))

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
        import pandas as pd

        packed: dict[Stream, int] = {}
        for stage in self.workload.stages:
            for stream, size in stage.layer.packed.packed_bytes.items():
                packed[stream] = packed.get(stream, 0) + size
        memory = self.timing.memory
        moved = np.zeros((len(Stream), 2), np.int64) if memory is None else memory.size_bytes.sum(axis=2)
        rows = [
            {
                "stream": stream.value,
                "packed_bytes": packed.get(stream, 0),
                "dram_read_bytes": int(read),
                "dram_write_bytes": int(write),
                "again_bytes": max(int(read) - packed[stream], 0) if stream in packed else 0,
            }
            for stream, (read, write) in zip(Stream, moved, strict=True)
            if stream in packed or read or write
        ]
        return pd.DataFrame(rows)

    def to_frame(self) -> pd.DataFrame:
        """One row per layer, unit and event: counts and energies with their sources."""
        return self.costs.to_frame()

    def units_frame(self) -> pd.DataFrame:
        """Busy, stall and idle cycles of every node of the machine; they add up to the total."""
        import pandas as pd

        rows = []
        for node in self.outline.firing:
            times = self.timing.nodes[node.name]
            rows.append(
                {
                    "unit": node.unit,
                    "node": node.name,
                    "firings": times.firings,
                    "busy_cycles": times.busy,
                    "stall_cycles": times.stall,
                    "idle_cycles": times.idle,
                }
            )
        return pd.DataFrame(rows)

    def layers_frame(self) -> pd.DataFrame:
        """Per layer: first start, last finish, DRAM bytes, entries, fillers, products, and what bounds it."""
        import pandas as pd

        bounds = layer_bounds(self.workload, self.outline, self.timing)
        memory = self.timing.memory
        rows = []
        for index, name in enumerate(self.outline.layers):
            works = [stage.layer for stage in self.workload.stages if stage.layer.name == name]
            parts = distinct_parts(works)
            moved = memory.size_bytes[:, :, index] if memory is not None else np.zeros((1, 2), np.int64)
            rows.append(
                {
                    "layer": name,
                    "start_cycle": int(self.timing.layer_start[index]),
                    "finish_cycle": int(self.timing.layer_finish[index]),
                    "packed_bytes": sum(work.packed.total_bytes for work in parts),
                    "dram_read_bytes": int(moved[:, 0].sum()),
                    "dram_write_bytes": int(moved[:, 1].sum()),
                    "entries": sum(work.packed.entries for work in parts),
                    "fillers": sum(work.packed.fillers for work in parts),
                    "dense_macs": sum(work.geometry.weights * work.tiling.pixels for work in works),
                    "useful_macs": sum(work.multiplications for work in works),
                    "passes": sum(work.tiling.passes for work in works),
                    "own_cycles": bounds[index].own_cycles,
                    "bound_by": bounds[index].bound_by,
                    "bound_share": bounds[index].share,
                    "next_bound": bounds[index].next_resource,
                    "headroom": bounds[index].headroom,
                }
            )
        return pd.DataFrame(rows)

    def bounds_frame(self) -> pd.DataFrame:
        """What bounds each layer, with its rate, what the next resource would allow, and both in words
        (`dchw.run.bound_words`)."""
        frame: pd.DataFrame = maker("SimResult.bounds_frame")(self)
        return frame

    def residency_frame(self) -> pd.DataFrame:
        """Which weights stay on the chip from run to run, which only because they are compressed, and which tensors
        stay from layer to layer (`dchw.run.residency`)."""
        return residency_frame(self.workload)

    def mapping_frame(self) -> pd.DataFrame:
        """Per layer: the order of loops that was chosen and the DRAM reads it expects, beside those of the simple
        order (`dchw.mapping.search`) and the least there can be: everything once."""
        import pandas as pd

        return pd.DataFrame(
            [
                {
                    "layer": one.layer,
                    "outermost": "bands" if one.choice.bands_outermost else "parts",
                    "part_rows": one.choice.part_rows,
                    "tile_pixels": one.choice.tile,
                    "band_pixels": one.choice.tile * one.choice.band_tiles,
                    "column_blocks": one.choice.blocks,
                    "partial_sums": str(one.choice.sums) if one.choice.blocks > 1 else "",
                    "weight_bytes": one.cost.weight_bytes,
                    "input_bytes": one.cost.input_bytes,
                    "partial_sum_bytes": one.cost.sum_bytes,
                    "simple_bytes": one.simple.dram_bytes,
                    "least_bytes": one.least_bytes,
                    "orders": one.considered,
                    "given": ", ".join(one.given),
                }
                for one in self.workload.mapping
            ]
        )

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


@checked
def simulate(
    network: CompressedNetwork,
    on: Machine | str | Path,
    storage: str = DEFAULT_FORMAT,
    engine: Engine = "fast",
    *,
    inputs: Mapping[str, Array] | None = None,
    batch: int = 1,
    warm: bool = False,
    seed: int = 0,
    arithmetic: str = "float32",
    record: bool = False,
    window: tuple[int, int] | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> SimResult:
    """Run a compressed network on a machine: real bits, cycle by cycle, priced row by row.

    Parameters
    ----------
    network
        What `compress`, `load` or `dchw train` gave.
    on
        A `Machine`, the name of a preset, or the path of a machine's YAML file.
    storage
        Name of the storage format in which weights lie in DRAM; `dchw.formats` lists them.
    engine
        ``"fast"``, or ``"reference"``: equal results, slow and written to be read.
    inputs
        Float arrays by name of the INPUT operation, each with a batch axis first. Default: the recorded example input;
        where there is none, seeded values, half of them zero, that are labelled synthetic.
    batch
        Inputs worked at once; at least 1.
    warm
        Weights that fit stay in the weight SRAM from the run before; otherwise everything comes from DRAM.
    seed
        Seed of synthetic activations, where there are any.
    arithmetic
        ``"float32"``, ``"fixed16"`` (`dchw.mapping.arithmetic`), or ``"none"`` for timing only.
    record
        Keep start and finish of every firing.
    window
        (first cycle, end) to which ``record`` keeps itself. Default: the whole run.
    on_progress
        Called now and then with the firings done and the firings in all.

    Returns
    -------
    SimResult
        Cycles, seconds, DRAM bytes, energy in pJ, outputs, and frames of rows with their sources.

    Raises
    ------
    DchwError
        For a name, file or value that is none, and for a layer the machine cannot work.
    SimulationError
        Where what must hold of every run does not: a fault of the simulator.

    Examples
    --------
    >>> import dchw, numpy as np
    >>> weight = np.random.default_rng(0).standard_normal((64, 128), dtype=np.float32)
    >>> network = dchw.Network.from_arrays("fc", weights={"fc": weight})
    >>> run = dchw.simulate(dchw.compress(network, dchw.Recipe(density=0.1)), "phone-lpddr5x")
    >>> run.cycles > 0 and run.energy_pj > 0
    True
    """
    check_engine(engine)
    check_range("batch", batch, 1, MOST_BATCH)
    check_range("seed", seed, 0)
    if arithmetic not in list(Arithmetic):
        raise DchwError(f"arithmetic {arithmetic!r}: no such arithmetic; {nearest(arithmetic, list(Arithmetic))}")
    workload = map_network(
        network,
        on if isinstance(on, Machine) else machine(on),
        storage,
        inputs=inputs,
        batch=batch,
        seed=seed,
        arithmetic=Arithmetic(arithmetic),
    )
    result = run_workload(workload, engine, warm=warm, record=record, window=window, on_progress=on_progress)
    return replace(result, network=network)


def check_engine(name: str) -> None:
    """Raise DchwError unless an engine has that name."""
    if name not in _ENGINES:
        raise DchwError(f"engine {name!r}: no such engine; {nearest(name, _ENGINES)}")


def run_workload(
    workload: Workload,
    engine: Engine,
    *,
    warm: bool,
    record: bool = False,
    window: tuple[int, int] | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> SimResult:
    """Lower, run, count, check and price what was mapped; parameters and errors as for `simulate`.

    Lowering goes along with the run, window by window; a recorded run, and one that fits a window, is lowered in one
    piece.
    """
    whole = record or fits_one_window(workload)
    program = lower(workload, warm=warm) if whole else Outlined(LoweredWindows(workload, warm=warm))
    timing = run_program(program, engine, record=record, window=window, on_progress=on_progress)
    return priced(workload, program, timing, engine=engine, warm=warm)


def priced(workload: Workload, lowered: Program | Outlined, timing: Timing, *, engine: Engine, warm: bool) -> SimResult:
    """The account of a run whose time is known, checked for what must hold of every run."""
    target, program = workload.machine, outline_of(lowered)
    counts = count_events(target, workload.storage, program.layers, program.flows)
    check_counts(workload, program, counts)
    rows, scope = dram_account(target, timing.memory, program)
    report = costs.account(target, workload.storage, counts, program, timing, rows, scope, _work(workload))
    check_conservation(workload, program, timing, warm=warm)
    return SimResult(
        workload=workload,
        lowered=lowered,
        outline=program,
        timing=timing,
        counts=counts,
        costs=report,
        engine=engine,
        warm=warm,
    )


def _work(workload: Workload) -> costs.Work:
    works = [stage.layer for stage in workload.stages]
    return costs.Work(
        inferences=workload.batch,
        macs=sum(work.geometry.weights * work.tiling.pixels for work in works),
        weights=sum(work.geometry.weights for work in distinct_parts(works)),
    )


def run_program(
    program: Program | Windowed,
    engine: str,
    *,
    record: bool = False,
    window: tuple[int, int] | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> Timing:
    """Run a program on one of the two engines, which give equal results."""
    if engine == "fast":
        from dchw.engines.fast import engine as chosen
    else:
        from dchw.engines import reference as chosen  # type: ignore[no-redef]
    return chosen.run(program, record=record, window=window, on_progress=on_progress)
