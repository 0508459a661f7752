"""What a run will take before it is run: DRAM bytes, firings, seconds and memory, from the mapping alone.

DRAM bytes follow from what mapping has settled: which weights stay, in how many passes the others are read, which
tensors cross, and where partial sums wait. Seconds and memory are the counts that cost grows with, times coefficients
measured on one machine and scaled by a short timing of a fixed kernel on this one.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import numpy as np

from dchw import showing
from dchw.arguments import MOST_BATCH, check_range, checked
from dchw.compression.compressed import CompressedLayer, CompressedNetwork
from dchw.formats import DEFAULT_FORMAT, Need, storage_format
from dchw.graph.network import Layer
from dchw.lowering.lower import expected_firings, largest_window
from dchw.machines.machine import Machine, machine_of
from dchw.mapping.resident_weights import chunk_rounds, residents, tenants
from dchw.mapping.tiling import Sums
from dchw.mapping.workload import Workload, map_network
from dchw.quantities import ceil_div

SECONDS_A_RUN, SECONDS_A_TILE, SECONDS_A_BURST = 0.022, 6.7e-5, 2.1e-7
"""Of lowering, running and pricing, measured on one core of a server, kernels compiled (``python -m
tests.benchmarks.bench_estimate`` measures these and the following)."""
SECONDS_A_FIRING = MappingProxyType({"given": 3.25e-8, "entries": 1.6e-8, "columns": 2e-9, "steps": 2.4e-8})
"""By what a firing is: an entry that a decode unit gives to an element, or one that an element reads by itself; a
column of dense weights, whose cost is that of its bursts; or, where decode units feed a lockstep array, a step of it or
what is given to one."""
BYTES_A_RUN = 3 << 20
BYTES_A_FIRING = MappingProxyType({"given": 20.0, "entries": 14.0, "columns": 5.0, "steps": 18.0})
"""Memory beyond that of the mapping: of the largest window (`dchw.lowering.lower.largest_window`), likewise."""
KERNEL_SECONDS = 1.3e-4
"""Of the kernel of `machine_scale` on that machine."""
FIRINGS_A_REQUEST = 3
"""Of the DMA, the fill and the release or the like, for each request to DRAM."""
LEFT_OUT = (
    "not included: reading and compressing the network, compiling kernels (once, after an installation), other "
    "programs on this machine",
    "seconds and memory are orders of magnitude, of coefficients measured on one machine and scaled by a kernel timed "
    "here; DRAM bytes and firings follow from the mapping, whose time is among the seconds",
)
WEIGHTS_OF_A_UNIT, MACS_OF_A_UNIT = 1e6, 1e8
"""Relative cost of a run is 1 + weights / 1e6 + MACs / 1e8: about 0.03 s each on the machine it was fitted on
(LeNet-300-100 0.27 M weights, SqueezeNet 1.2 M weights and 350 M MACs). Only ratios matter."""


def relative_cost(layers: Sequence[Layer] | Sequence[CompressedLayer], batch: int) -> float:
    """Cost of a run in units of a small network's, from shapes alone, for what only compares runs."""
    shapes = [layer.geometry for layer in layers if layer.geometry is not None]
    weights, macs = sum(shape.weights for shape in shapes), sum(shape.macs for shape in shapes) * batch
    return 1.0 + weights / WEIGHTS_OF_A_UNIT + macs / MACS_OF_A_UNIT


def dram_traffic(workload: Workload, *, warm: bool = False) -> tuple[int, int]:
    """DRAM bytes (read, written) of a run in whole bursts, from what mapping settled; nothing is lowered."""
    target, at_load = workload.machine, workload.decodes_at_load
    burst = target.dram.burst_bytes
    kept, held = frozenset[int](), 0
    if warm:
        parts = tenants([stage.layer for stage in workload.stages], target, at_load=at_load)
        kept = residents(parts, target.weight_sram.size_bytes)
        held = sum(part.size_bytes for part in parts if part.key in kept)

    def whole(size: int) -> int:
        return ceil_div(size, burst) * burst

    read = written = 0
    for stage in workload.stages:
        work, packed = stage.layer, stage.layer.packed
        if id(packed) not in kept:
            chunks = sum(whole(packed.packed_bytes[stream]) for stream in packed.chunk_bytes)
            read += whole(packed.table_bytes)
            read += chunks * chunk_rounds(work, target, at_load=at_load, held_bytes=held)
        read += sum(map(whole, stage.loads.values()))
        written += sum(map(whole, stage.stores.values()))
        if work.tiling.sums is Sums.DRAM:
            bits, tiles = target.formats.accumulators.bits, range(work.tiling.tiles)
            sums = work.partial_turns * sum(whole(work.sum_bytes(tile, bits)) for tile in tiles)
            read, written = read + sums, written + sums
    return read, written


def expected_total(workload: Workload, moved_bytes: int) -> int:
    """Firings of a run, about: those that compute, and those that move ``moved_bytes`` to and from DRAM."""
    requests = ceil_div(moved_bytes, workload.machine.dma.request_bytes)
    return expected_firings(workload) + FIRINGS_A_REQUEST * requests


def what_fires(workload: Workload) -> str:
    """What most firings of a run are: a key of `SECONDS_A_FIRING`."""
    form = storage_format(workload.storage)
    decoded = Need.DECODER in form.needs and not workload.decodes_at_load
    if form.positions:
        return "given" if decoded else "entries"
    return "steps" if decoded else "columns"


def tiles_of(workload: Workload) -> int:
    """Tiles of pixels of all layers."""
    return sum(stage.layer.tiling.tiles for stage in workload.stages)


def peak_memory() -> int | None:
    """Most bytes of memory that this process has held; None where the system does not say."""
    try:
        import resource
    except ImportError:  # Windows
        return None
    import sys

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def machine_scale() -> float:
    """How many times slower than the machine of the coefficients this one is: the best of several timings."""
    values = np.random.default_rng(0).integers(0, 1 << 16, 1 << 16)
    out, spent = np.empty_like(values), []
    for _ in range(8):
        start = time.perf_counter()
        np.take(values, values, out=out)
        np.cumsum(out, out=out)
        spent.append(time.perf_counter() - start)
    return min(spent) / KERNEL_SECONDS


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """What a run will take; DRAM bytes in whole bursts, and what the figures leave out."""

    network: str
    machine: str
    storage: str
    dram_read_bytes: int
    dram_write_bytes: int
    firings: int
    seconds: float
    """Of this computer, mapping included; not of the machine that is simulated."""
    memory_bytes: int
    """Most that this process will hold."""
    left_out: tuple[str, ...] = LEFT_OUT

    def __repr__(self) -> str:
        return showing.line(
            "Estimate",
            f"{self.network} / {self.storage} on {self.machine}",
            f"about {self.seconds:.2g} s",
            f"{showing.in_bytes(self.memory_bytes)} of memory",
            f"{showing.in_bytes(self.dram_read_bytes)} read",
        )


@checked
def estimate(
    network: CompressedNetwork,
    on: Machine | str | Path,
    storage: str = DEFAULT_FORMAT,
    *,
    batch: int = 1,
    warm: bool = False,
) -> Estimate:
    """Say what `simulate` will take before it runs: the network is mapped, nothing is lowered or run.

    Parameters
    ----------
    network
        What `compress`, `load` or `dchw train` gave.
    on
        A `Machine`, the name of a preset, or the path of a machine's YAML file.
    storage
        Name of the storage format in which weights lie in DRAM.
    batch
        Inputs worked at once; at least 1.
    warm
        Weights that fit are in the weight SRAM from the run before.

    Returns
    -------
    Estimate
        DRAM bytes, firings, seconds and bytes of memory; ``left_out`` says what they do not cover.

    Raises
    ------
    DchwError
        For a name, file or value that is none, and for a layer the machine cannot work.

    Examples
    --------
    >>> import dchw
    >>> dchw.estimate(dchw.load_network("lenet-300-100"), "phone-lpddr5x", "dense-int8").dram_write_bytes >= 0
    True
    """
    check_range("batch", batch, 1, MOST_BATCH)
    target = machine_of(on)
    start = time.perf_counter()
    workload = map_network(network, target, storage, batch=batch)
    mapping = time.perf_counter() - start
    read, written = dram_traffic(workload, warm=warm)
    firings, bursts = expected_total(workload, read + written), (read + written) // target.dram.burst_bytes
    fires = what_fires(workload)
    running = SECONDS_A_RUN + SECONDS_A_TILE * tiles_of(workload)
    running += SECONDS_A_FIRING[fires] * firings + SECONDS_A_BURST * bursts
    return Estimate(
        network=network.name,
        machine=target.name,
        storage=storage,
        dram_read_bytes=read,
        dram_write_bytes=written,
        firings=firings,
        seconds=mapping + running * machine_scale(),
        memory_bytes=(peak_memory() or 0) + BYTES_A_RUN + round(BYTES_A_FIRING[fires] * largest_window(workload)),
    )
