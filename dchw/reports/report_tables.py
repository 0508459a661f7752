"""Every table of a report as a tidy frame, units in the column names; figures and templates read nothing else."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from dchw import showing
from dchw.costs import per_frame
from dchw.dram.idle import IdleState
from dchw.files import write_frame
from dchw.quantities import DchwError
from dchw.run.bound_words import bounds_frame
from dchw.run.roofs import roofs_frame

if TYPE_CHECKING:
    import pandas as pd

    from dchw.compression.compressed import CompressedNetwork
    from dchw.machines.machine import Machine
    from dchw.run.sim_result import SimResult

BUS = "DRAM data bus"
WHOLE_RUN = "whole run"
"""Stands where a cost belongs to no single layer: clocks, leakage, DRAM background."""


@dataclass(frozen=True, kw_only=True, eq=False)
class ReportTables:
    """Frames by subject; all but ``network`` and ``sources`` have a column ``storage``."""

    network: pd.DataFrame
    """One row per layer: shape, weights, density, bits."""
    comparison: pd.DataFrame
    """One row per storage format, as `dchw.compare` gives it, with averages per MAC, weight and time."""
    energy: pd.DataFrame
    """One row per cost row: count x energy each, range, number of each source."""
    components: pd.DataFrame
    """Energy by category."""
    layer_energy: pd.DataFrame
    """Energy by layer and category."""
    units: pd.DataFrame
    """Energy and area by unit."""
    traffic: pd.DataFrame
    """DRAM bytes by stream."""
    streams: pd.DataFrame
    """Bytes of the file and as packed, and what crossed the DRAM, by stream."""
    layers: pd.DataFrame
    """Times, traffic and intensity of each layer."""
    roofs: pd.DataFrame
    """What each layer reaches against every roof it uses (`dchw.run.roofs.roofs_frame`)."""
    bounds: pd.DataFrame
    """What bounds each layer, with its rate and what the next resource would allow."""
    activity: pd.DataFrame
    """Busy, stall and idle shares, mean over the nodes of one kind."""
    sensitivity: pd.DataFrame
    """One assumption at a time: a cause of ranges to their ends, or a choice of silicon made otherwise."""
    sources: pd.DataFrame
    """Every distinct source of a cost row, numbered, with the energy of the rows that use it."""
    frames: pd.DataFrame
    """Parts of a frame's energy; empty without a frame rate."""

    def named(self) -> dict[str, pd.DataFrame]:
        """All frames that hold rows, by name."""
        return {name: frame for name, frame in vars(self).items() if not frame.empty}

    def __repr__(self) -> str:
        sizes = [f"{name} {len(frame)}" for name, frame in self.named().items()]
        return showing.line("ReportTables", "rows", *sizes)


def build_tables(
    network: CompressedNetwork,
    machine: Machine,
    results: Mapping[str, SimResult],
    comparison: pd.DataFrame,
    *,
    fps: float | None = None,
    dram_idle: IdleState = "self-refresh",
) -> ReportTables:
    """The frames of a comparison's results, storage formats in the order of ``results``."""
    energy = _stacked({name: result.to_frame() for name, result in results.items()})
    energy["layer"] = energy["layer"].replace("", WHOLE_RUN)
    energy, sources = _number_sources(energy)
    roofs = _stacked({name: roofs_frame(result) for name, result in results.items()})
    return ReportTables(
        network=_network(network),
        comparison=_comparison(comparison, results),
        energy=energy,
        components=_sums(energy, ["category"]),
        layer_energy=_sums(energy, ["layer", "category"]),
        units=_units(energy, results),
        traffic=_traffic(results),
        streams=_stacked({name: result.streams_frame() for name, result in results.items()}),
        layers=_layers(results, roofs),
        roofs=roofs,
        bounds=_stacked({name: bounds_frame(result) for name, result in results.items()}),
        activity=_activity(machine, results),
        sensitivity=_sensitivity(results),
        sources=sources,
        frames=_frames(machine, results, fps, dram_idle),
    )


def write_tables(tables: ReportTables, folder: Path, suffix: str) -> list[Path]:
    """Every table as ``folder/NAME.csv`` or ``folder/NAME.parquet``; the paths written."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DchwError(f"{folder}: cannot be written ({error.strerror}); choose another folder") from None
    written = []
    for name, frame in tables.named().items():
        path = folder / f"{name}{suffix}"
        write_frame(frame, path)
        written.append(path)
    return written


def _stacked(frames: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Frames under one another, the storage format in front."""
    import pandas as pd

    stacked = pd.concat([frame.assign(storage=name) for name, frame in frames.items()], ignore_index=True)
    return stacked[["storage", *(column for column in stacked.columns if column != "storage")]]


def _network(network: CompressedNetwork) -> pd.DataFrame:
    import pandas as pd

    return pd.DataFrame(
        [
            {
                "layer": layer.name,
                "kind": layer.kind.value,
                "shape": " x ".join(str(size) for size in layer.codes.shape),
                "weights": layer.codes.size,
                "density": layer.density,
                "shared_values": layer.codebook.size - 1,
                "codebook_bits": layer.representation.codebook_bits,
                "index_bits": layer.representation.index_bits,
                "positions": layer.representation.positions.value,
            }
            for layer in network.layers
        ]
    )


def _comparison(comparison: pd.DataFrame, results: Mapping[str, SimResult]) -> pd.DataFrame:
    out = comparison.set_index("storage")
    for name, result in results.items():
        costs = result.costs
        out.loc[name, "power_mw"] = costs.power_mw
        out.loc[name, "energy_per_inference_nj"] = costs.energy_per_inference_pj / 1e3
        out.loc[name, "energy_per_mac_pj"] = costs.energy_per_mac_pj
        out.loc[name, "energy_per_weight_pj"] = costs.energy_per_weight_pj
        out.loc[name, "energy_delay_js"] = costs.energy_delay_js
    out = out.reset_index()
    out.attrs = dict(comparison.attrs)
    return out


def _number_sources(energy: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The energy rows with the numbers of their sources, and the list of sources in order of first use."""
    import pandas as pd

    from dchw.technology.figure import SOURCE_JOINT

    numbers: dict[str, int] = {}
    cited: dict[str, set[str]] = {}
    column = []
    for unit, source in zip(energy["unit"], energy["source"], strict=True):
        mine = []
        for single in source.split(SOURCE_JOINT):
            mine.append(numbers.setdefault(single, len(numbers) + 1))
            cited.setdefault(single, set()).add(unit)
        column.append(", ".join(str(number) for number in sorted(mine)))
    sources = pd.DataFrame(
        [
            {"number": number, "source": source, "units": ", ".join(sorted(cited[source]))}
            for source, number in numbers.items()
        ]
    )
    return energy.assign(sources=column), sources


_SUMMED = ["energy_pj", "energy_low_pj", "energy_high_pj"]


def _sums(energy: pd.DataFrame, by: list[str]) -> pd.DataFrame:
    return energy.groupby(["storage", *by], sort=False)[_SUMMED].sum().reset_index()


def _units(energy: pd.DataFrame, results: Mapping[str, SimResult]) -> pd.DataFrame:
    area = _stacked({name: result.costs.area_frame() for name, result in results.items()})
    area = area[["storage", "unit", "area_mm2", "area_low_mm2", "area_high_mm2"]]
    return _sums(energy, ["unit", "stage"]).merge(area, on=["storage", "unit"], how="left")


def _traffic(results: Mapping[str, SimResult]) -> pd.DataFrame:
    import pandas as pd

    rows = [
        {"storage": name, "stream": stream.value, "dram_bytes": size}
        for name, result in results.items()
        for stream, size in result.stream_bytes().items()
    ]
    return pd.DataFrame(rows, columns=["storage", "stream", "dram_bytes"])


def _layers(results: Mapping[str, SimResult], roofs: pd.DataFrame) -> pd.DataFrame:
    """A layer adds the cycles from the last finish of the layers before it to its own; they sum to the last finish."""
    layers = _stacked({name: result.layers_frame() for name, result in results.items()})
    clock_hz = next(iter(results.values())).outline.clock_hz
    layers["start_us"] = layers["start_cycle"] / clock_hz * 1e6
    layers["finish_us"] = layers["finish_cycle"] / clock_hz * 1e6
    finish = layers.groupby("storage", sort=False)["finish_cycle"]
    before = finish.transform(lambda ends: ends.cummax().shift(fill_value=0))
    layers["added_cycles"] = (layers["finish_cycle"] - before).clip(lower=0)
    layers["added_us"] = layers["added_cycles"] / clock_hz * 1e6
    active = roofs.drop_duplicates(["storage", "layer"])
    layers = layers.merge(active[["storage", "layer", "active_cycles"]], on=["storage", "layer"], how="left")
    cycles = layers["active_cycles"]
    moved = layers["dram_read_bytes"] + layers["dram_write_bytes"]
    layers["macs_per_cycle"] = layers["useful_macs"] / cycles.where(cycles > 0, np.nan)
    layers["macs_per_dram_byte"] = layers["useful_macs"] / moved.where(moved > 0, np.nan)
    return layers


def _activity(machine: Machine, results: Mapping[str, SimResult]) -> pd.DataFrame:
    """Shares of the run; nodes that differ only by an index in brackets are one kind."""
    import pandas as pd

    peak = float(machine.dram.peak_bytes_per_cycle(machine.clock_hz))
    frames = {}
    for name, result in results.items():
        nodes = result.units_frame()
        kind = [re.sub(r"\[\d+\]$", "", node) for node in nodes["node"]]
        means = nodes.groupby(kind, sort=False)[["busy_cycles", "stall_cycles", "idle_cycles"]].mean()
        means.insert(0, "nodes", nodes.groupby(kind, sort=False).size())
        means.insert(0, "unit", nodes.groupby(kind, sort=False)["unit"].first())
        frame = means.rename_axis("kind").reset_index()
        busy = result.dram_bytes / peak
        bus: dict[str, object] = {"kind": BUS, "unit": machine.name_of(machine.dram), "nodes": machine.dram.channels}
        bus |= {"busy_cycles": busy, "stall_cycles": 0.0, "idle_cycles": result.cycles - busy}
        frame = pd.concat([pd.DataFrame([bus]), frame], ignore_index=True)
        for what in ("busy", "stall", "idle"):
            frame[f"{what}_share"] = frame[f"{what}_cycles"] / result.cycles
        frames[name] = frame
    return _stacked(frames)


def _sensitivity(results: Mapping[str, SimResult]) -> pd.DataFrame:
    import pandas as pd

    return pd.DataFrame(
        [
            {
                "storage": name,
                "assumption": found.name,
                "energy_pj": found.energy_pj,
                "total_low_pj": found.total_low_pj,
                "total_high_pj": found.total_high_pj,
                "swing_pj": found.swing_pj,
                "confidence": str(found.confidence),
            }
            for name, result in results.items()
            for found in result.costs.sensitivity()
        ]
    )


def _frames(
    machine: Machine, results: Mapping[str, SimResult], fps: float | None, dram_idle: IdleState
) -> pd.DataFrame:
    """Storage formats whose run does not fit into a frame are left out; none fitting is an error."""
    import pandas as pd

    if fps is None:
        return pd.DataFrame()
    frames = {}
    for name, result in results.items():
        if result.seconds <= result.workload.batch / fps:
            frames[name] = per_frame(result.costs, fps, machine, dram_idle).to_frame()
    if not frames:
        fastest = min(results.values(), key=lambda result: result.seconds)
        per_frame(fastest.costs, fps, machine, dram_idle)  # says what does not fit
    return _stacked(frames).assign(fps=fps)
