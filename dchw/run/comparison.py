"""Storage formats side by side: what a network costs on a machine before and after compression."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from dchw.arguments import MOST_BATCH, check_range, checked
from dchw.compression.compressed import CompressedNetwork
from dchw.formats import STORAGE_FORMATS, storage_format
from dchw.graph.network import Array
from dchw.machines.machine import Machine, machine
from dchw.mapping.passing import ForwardPass
from dchw.mapping.workload import map_network
from dchw.run.simulation import Engine, SimResult, check_engine, run_workload

if TYPE_CHECKING:
    from dchw.run.table import Comparison


@checked
def compare(
    network: CompressedNetwork,
    on: Machine | str | Path,
    *,
    storages: Sequence[str] | None = None,
    engine: Engine = "fast",
    inputs: Mapping[str, Array] | None = None,
    batch: int = 1,
    warm: bool = False,
    on_result: Callable[[str, SimResult], None] | None = None,
) -> Comparison:
    """One row per storage format: what a network costs on a machine before and after compression.

    Parameters
    ----------
    network
        What `compress`, `load` or `dchw train` gave.
    on
        A `Machine`, the name of a preset, or the path of a machine's YAML file.
    storages
        Names of storage formats, in the order of the rows. Default: all that are known.
    engine, inputs, batch, warm
        As for `simulate`.
    on_result
        Called with the format's name and its `SimResult` after each run.

    Returns
    -------
    Comparison
        A `pandas.DataFrame` that draws itself: ``plot.energy()``, ``plot.traffic()``, ``plot.latency()``. Bytes of the
        file, of the packed weights and of DRAM traffic, GB/s, cycles, latency in us, energies in nJ by category with
        the range of their total, area in mm2.

    Raises
    ------
    DchwError
        As `simulate`.

    Examples
    --------
    >>> import dchw, numpy as np
    >>> weight = np.random.default_rng(0).standard_normal((64, 128), dtype=np.float32)
    >>> network = dchw.compress(dchw.Network.from_arrays("fc", weights={"fc": weight}), dchw.Recipe(density=0.1))
    >>> table = dchw.compare(network, "phone-lpddr5x", storages=["dense-int8", "shared"])
    >>> list(table["storage"])
    ['dense-int8', 'shared']
    """
    from dchw.run.table import Comparison

    check_engine(engine)
    check_range("batch", batch, 1, MOST_BATCH)
    target = on if isinstance(on, Machine) else machine(on)
    passing = ForwardPass()
    rows = []
    for storage in STORAGE_FORMATS if storages is None else storages:
        workload = map_network(network, target, storage, inputs=inputs, batch=batch, passing=passing)
        result = replace(run_workload(workload, engine, warm=warm), network=network)
        if on_result is not None:
            on_result(storage, result)
        rows.append(comparison_row(network, result))
    return Comparison(rows)


def comparison_row(network: CompressedNetwork, result: SimResult) -> dict[str, object]:
    """The line of one storage format in a comparison."""
    storage = result.workload.storage
    return {"storage": storage, "file_bytes": storage_format(storage).file_bytes(network), **measures(result)}


def measures(result: SimResult) -> dict[str, object]:
    """What a line of a comparison says about a run itself."""
    energy = result.costs.by("category")
    low, high = result.costs.energy_range_pj
    return {
        "packed_bytes": result.workload.packed_bytes,
        "dram_read_bytes": result.dram_read_bytes,
        "dram_write_bytes": result.dram_write_bytes,
        "bandwidth_gbps": result.bandwidth_gbps,
        "cycles": result.cycles,
        "latency_us": result.seconds * 1e6,
        "bound_by": result.bound.bound_by,
        "energy_dram_nj": energy.get("DRAM", 0.0) / 1e3,
        "energy_sram_nj": energy.get("SRAM", 0.0) / 1e3,
        "energy_decode_nj": energy.get("decode", 0.0) / 1e3,
        "energy_compute_nj": energy.get("compute", 0.0) / 1e3,
        "energy_clock_nj": energy.get("clock", 0.0) / 1e3,
        "energy_leakage_nj": energy.get("leakage", 0.0) / 1e3,
        "energy_nj": result.energy_pj / 1e3,
        "energy_low_nj": low / 1e3,
        "energy_high_nj": high / 1e3,
        "area_mm2": result.costs.area_mm2,
        "coverage": result.coverage.share,
    }
