"""One run from a compressed network to its account: the library's main call, and the steps of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Literal

from dchw import costs
from dchw.arguments import MOST_BATCH, check_range, checked
from dchw.compression.compressed import CompressedNetwork
from dchw.costs.memory_rows import dram_account
from dchw.engines.result import Timing
from dchw.formats import DEFAULT_FORMAT
from dchw.graph.network import Array
from dchw.lowering.counts import EventCount, count_events
from dchw.lowering.lower import LoweredWindows, fits_one_window, lower
from dchw.machines.machine import Machine, machine_of
from dchw.mapping.arithmetic import Arithmetic
from dchw.mapping.stages import distinct_parts
from dchw.mapping.workload import Workload, map_network
from dchw.program.outline import Outline, Outlined, outline_of
from dchw.program.program import FiringNode, Program
from dchw.program.windows import Windowed
from dchw.quantities import DchwError, nearest
from dchw.run.conservation import check_conservation
from dchw.run.estimate import dram_traffic, expected_total
from dchw.run.implied import check_counts
from dchw.run.sim_result import SimResult

Engine = Literal["fast", "reference"]
_ENGINES = ("fast", "reference")


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
    on_mapping: Callable[[int, int], None] | None = None,
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
        Float arrays by name of the INPUT operation, each with a batch axis first. Default: the recorded example input,
        of which further ones are made for a larger batch, moved along its axes, as the result notes; where there is
        none, seeded values, half of them zero, that are labelled synthetic.
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
    on_mapping
        Called before the first layer is packed and mapped, and after each, with layers done and layers in all.
    on_progress
        Called before the first firing and now and then, with the firings done and the firings in all. Of a big run,
        which is lowered as it goes on, these are an estimate until its end (`expected_total`).

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
        machine_of(on),
        storage,
        inputs=inputs,
        batch=batch,
        seed=seed,
        arithmetic=Arithmetic(arithmetic),
        on_layer=on_mapping,
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
    program: Program | Outlined
    if record or fits_one_window(workload):
        program = lower(workload, warm=warm)
    else:
        program = Outlined(LoweredWindows(workload, warm=warm))
    if on_progress is not None:
        on_progress = _told_from_the_start(on_progress, _firings(workload, program, warm))
    timing = run_program(program, engine, record=record, window=window, on_progress=on_progress)
    return priced(workload, program, timing, engine=engine, warm=warm)


def _firings(workload: Workload, program: Program | Outlined, warm: bool) -> int:
    """Firings to come: counted where they lie before us, expected where they are lowered as the run goes on."""
    if isinstance(program, Program):
        return sum(len(node.occupied) for node in program.nodes if isinstance(node, FiringNode))
    return expected_total(workload, sum(dram_traffic(workload, warm=warm)))


def _told_from_the_start(told: Callable[[int, int], None], about: int) -> Callable[[int, int], None]:
    """Tell now what there is to do, about; an engine knows of the windows it has seen, and at its end of all."""
    told(0, about)
    return lambda done, known: told(done, known if done == known else max(known, about))


def counted(workload: Workload, program: Outline) -> tuple[EventCount, ...]:
    """What the units did in a run of the program, checked against what the workload asks for."""
    counts = count_events(workload.machine, workload.storage, program.layers, program.flows)
    check_counts(workload, program, counts)
    return counts


def priced(
    workload: Workload,
    lowered: Program | Outlined,
    timing: Timing,
    *,
    engine: Engine,
    warm: bool,
    counts: tuple[EventCount, ...] | None = None,
) -> SimResult:
    """The account of a run whose time is known, checked for what must hold of every run; ``counts`` as `counted`
    gave them, where they are at hand."""
    target, program = workload.machine, outline_of(lowered)
    counts = counted(workload, program) if counts is None else counts
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
