"""How near is what is said before a run to the run, and which coefficients would say it best?

    python -m tests.benchmarks.bench_estimate [NETWORK ...]

Every run is one of its own process, kernels compiled: seconds are processor time of mapping, lowering, running and
pricing, memory is the most that the process held. Behind the table stand coefficients for `dchw.run.estimate`, by least
squares of the relative differences; the present ones are beside them.
"""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.connection import Connection

import numpy as np

MACHINE = "phone-lpddr5x"
SMALL = ("lenet-300-100", "lenet-5")
NETWORKS = (*SMALL, "alexnet-synthetic", "vgg16-synthetic")
FORMATS = ("dense-fp32", "dense-int8", "csr", "bitmask", "shared", "huffman", "palette-huffman")
KINDS = ("given", "entries", "columns", "steps")
LEAST_SECONDS = 0.1
"""Differences of shorter runs are taken as shares of this."""


@dataclass(frozen=True, kw_only=True)
class Run:
    """What was said, what was measured, and what the sayings are made of."""

    name: str
    storage: str
    said_s: float
    took_s: float
    mapping_s: float
    said_bytes: int
    held_bytes: int
    mapped_bytes: int
    fires: str
    firings: int
    tiles: int
    bursts: int
    window: int


def _measure(answer: Connection, name: str, storage: str) -> None:
    import dchw
    from dchw.cli.running import load_compressed
    from dchw.lowering.lower import largest_window
    from dchw.machines.machine import machine
    from dchw.mapping.workload import map_network
    from dchw.run import estimate as module
    from dchw.run.simulation import run_workload

    for one in SMALL:  # kernels are loaded, tables of units read
        dchw.simulate(load_compressed(one), MACHINE, storage)
    network, target = load_compressed(name), machine(MACHINE)
    map_network(network, target, storage)  # the first of a process is dearer: both sides take a later one
    said = dchw.estimate(network, target, storage)
    begin = time.process_time()
    workload = map_network(network, target, storage)
    mapping = time.process_time() - begin
    mapped = module.peak_memory() or 0
    begin = time.process_time()
    run = run_workload(workload, "fast", warm=False)
    _ = run.energy_pj
    took = time.process_time() - begin
    answer.send(
        Run(
            name=name,
            storage=storage,
            said_s=said.seconds,
            took_s=mapping + took,
            mapping_s=mapping,
            said_bytes=said.memory_bytes,
            held_bytes=module.peak_memory() or 0,
            mapped_bytes=mapped,
            fires=module.what_fires(workload),
            firings=said.firings,
            tiles=module.tiles_of(workload),
            bursts=(said.dram_read_bytes + said.dram_write_bytes) // target.dram.burst_bytes,
            window=largest_window(workload),
        )
    )


def measured(name: str, storage: str) -> Run:
    """One run in a process of its own."""
    context = get_context("spawn")
    parent, child = context.Pipe(duplex=False)
    process = context.Process(target=_measure, args=(child, name, storage))
    process.start()
    child.close()
    run: Run = parent.recv()
    process.join()
    return run


def fitted(runs: list[Run]) -> dict[str, float]:
    """Coefficients of time and memory, by least squares of relative differences."""
    each = [[float(run.fires == kind) for kind in KINDS] for run in runs]
    took = np.array([run.took_s - run.mapping_s for run in runs])
    rows = [
        [1.0, run.tiles, *(run.firings * here for here in of), run.bursts] for run, of in zip(runs, each, strict=True)
    ]
    seconds = _least_squares(rows, took, np.maximum(took, LEAST_SECONDS))
    held = np.array([run.held_bytes for run in runs], float)
    beyond = held - [run.mapped_bytes for run in runs]
    windows = [[1.0, *(run.window * here for here in of)] for run, of in zip(runs, each, strict=True)]
    memory = _least_squares(windows, beyond, held)
    names = (
        "s, run",
        "s, tile",
        *(f"s, {kind}" for kind in KINDS),
        "s, burst",
        "B, run",
        *(f"B, {kind}" for kind in KINDS),
    )
    return dict(zip(names, [*seconds, *memory], strict=True))


def _least_squares(rows: list[list[float]], wanted: np.ndarray, of: np.ndarray) -> list[float]:
    found: list[float] = np.linalg.lstsq(np.array(rows) / of[:, None], wanted / of)[0].tolist()
    return found


def main(names: list[str]) -> None:
    """Print the table and the coefficients."""
    from dchw.run import estimate as module

    runs = []
    print(f"{'network':>20} {'storage':>16} {'said s':>8} {'took s':>8} {'said/took':>9} {'said MB':>8} {'held MB':>8}"
          f" {'said/held':>9}")  # fmt: skip
    for name in names or NETWORKS:
        for storage in FORMATS:
            run = measured(name, storage)
            runs.append(run)
            print(
                f"{name[-20:]:>20} {storage:>16} {run.said_s:8.2f} {run.took_s:8.2f} {run.said_s / run.took_s:9.2f} "
                f"{run.said_bytes / 1e6:8.0f} {run.held_bytes / 1e6:8.0f} {run.said_bytes / run.held_bytes:9.2f}",
                flush=True,
            )
    times, sizes = module.SECONDS_A_FIRING, module.BYTES_A_FIRING
    now = [module.SECONDS_A_RUN, module.SECONDS_A_TILE, *map(times.get, KINDS), module.SECONDS_A_BURST]
    now += [module.BYTES_A_RUN, *map(sizes.get, KINDS)]
    for (what, value), before in zip(fitted(runs).items(), now, strict=True):
        print(f"{what:>12} {value:10.3g} (now {before:.3g})")


if __name__ == "__main__":
    main(sys.argv[1:])
