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
from dchw.machines.machine import Machine, machine_of
from dchw.mapping.passing import ForwardPass
from dchw.mapping.workload import map_network
from dchw.quantities import DchwError, SimulationError
from dchw.run.sim_result import SimResult
from dchw.run.simulation import Engine, check_engine, run_workload
from dchw.run.verdict import Standing, check_baseline, choose_baseline, ratios, standing, verdict

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
    baseline: str | None = None,
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
        Names of storage formats, in the order of the rows. Default: all that are known and that the machine can work;
        ``attrs["left_out"]`` says of the others why not.
    engine, inputs, batch, warm
        As for `simulate`.
    baseline
        Storage format that ratios and verdict are taken against; one of ``storages``. Default: the strongest dense row,
        which takes the least energy, or the first where none is dense.
    on_result
        Called with the format's name and its `SimResult` after each run.

    Returns
    -------
    Comparison
        A `pandas.DataFrame` that draws itself: ``plot.energy()``, ``plot.traffic()``, ``plot.latency()``. What is
        multiplied, bytes of the file, of the packed weights and of DRAM traffic, GB/s, cycles, latency in us,
        inferences per second and per joule, energies in nJ by category with the range of their total, area in mm2.
        ``energy_nj`` and ``area_mm2`` are of a chip that holds what the row's format needs, ``energy_one_chip_nj`` and
        ``area_one_chip_mm2`` of one chip for all formats. ``traffic_ratio``, ``time_ratio`` and ``energy_ratio``: the
        baseline's over the row's. ``attrs["baseline"]`` names the baseline, ``attrs["verdict"]`` holds sentences.

    Raises
    ------
    DchwError
        As `simulate` for a named format, or where all are refused; and for a baseline that is none of the rows.

    Examples
    --------
    >>> import dchw, numpy as np
    >>> weight = np.random.default_rng(0).standard_normal((64, 128), dtype=np.float32)
    >>> network = dchw.compress(dchw.Network.from_arrays("fc", weights={"fc": weight}), dchw.Recipe(density=0.1))
    >>> table = dchw.compare(network, "phone-lpddr5x", storages=["dense-int8", "shared"])
    >>> list(table["storage"])
    ['dense-int8', 'shared']
    """
    check_engine(engine)
    check_range("batch", batch, 1, MOST_BATCH)
    target = machine_of(on)
    passing = ForwardPass()
    chosen = list(STORAGE_FORMATS if storages is None else storages)
    check_baseline(baseline, chosen)
    rows: list[dict[str, object]] = []
    standings: list[Standing] = []

    def add(storage: str) -> None:
        # nothing of one format's run is held while the next is mapped
        workload = map_network(network, target, storage, inputs=inputs, batch=batch, passing=passing)
        result = replace(run_workload(workload, engine, warm=warm), network=network)
        if on_result is not None:
            on_result(storage, result)
        rows.append(comparison_row(network, result))
        standings.append(standing(storage, result))

    refused: dict[str, DchwError] = {}
    for storage in chosen:
        try:
            add(storage)
        except DchwError as error:
            if storages is not None or storage == baseline or isinstance(error, SimulationError):
                raise
            refused[storage] = error
    if refused and not rows:
        raise next(iter(refused.values()))
    frame = _framed(rows, standings, baseline)
    frame.attrs["left_out"] = {storage: str(error) for storage, error in refused.items()}
    return frame


def comparison_frame(
    network: CompressedNetwork, results: Sequence[SimResult], baseline: str | None = None
) -> Comparison:
    """What `compare` gives, of runs that are at hand."""
    rows = [comparison_row(network, result) for result in results]
    return _framed(rows, [standing(result.workload.storage, result) for result in results], baseline)


def _framed(rows: Sequence[Mapping[str, object]], standings: Sequence[Standing], baseline: str | None) -> Comparison:
    """Rows with ratios against the baseline, which ``attrs`` names beside the verdict."""
    from dchw.run.table import Comparison

    frame = Comparison(rows)
    if rows:
        frame = frame.assign(**ratios(standings, baseline))
        frame.attrs["baseline"] = choose_baseline(standings, baseline).storage
        frame.attrs["verdict"] = list(verdict(standings, baseline))
    return frame


def comparison_row(network: CompressedNetwork, result: SimResult) -> dict[str, object]:
    """The line of one storage format in a comparison."""
    storage = result.workload.storage
    return {
        "storage": storage,
        "multiplies": str(result.workload.machine.formats),
        "file_bytes": storage_format(storage).file_bytes(network),
        **measures(result),
    }


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
        "inferences_per_s": result.inferences_per_s,
        "inferences_per_j": result.inferences_per_j,
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
        "energy_one_chip_nj": result.costs.one_chip_energy_pj / 1e3,
        "leakage_mw": result.costs.leakage_mw,
        "area_mm2": result.costs.area_mm2,
        "area_one_chip_mm2": result.costs.one_chip_area_mm2,
        "coverage": result.coverage.share,
    }
