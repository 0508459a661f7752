"""The report's page: what its template shows, as text and numbers already formatted."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dchw.graph.coverage import Coverage, ParameterGroup, Place
from dchw.reports.figures import draw
from dchw.reports.report_tables import WHOLE_RUN, ReportTables
from dchw.reports.style import Heading, number, prefix, quantity, unit_name, unit_rank, whole
from dchw.reports.templating import script_json, template, with_contents
from dchw.run.verdict import against

if TYPE_CHECKING:
    import pandas as pd

    from dchw.compression.compressed import CompressedNetwork
    from dchw.machines.machine import Machine
    from dchw.run.simulation import SimResult


@dataclass(frozen=True)
class BeforeAfter:
    """One row of the table before and after: a column, its base unit, and how many base units one of it is."""

    label: str
    column: str
    unit: str = ""
    base: float = 1.0
    ratio: bool = True
    """Whether smaller is better, so that "before over after" is worth saying."""
    text: bool = False
    """Whether the column holds words."""


_BEFORE_AFTER = (
    BeforeAfter("Multiplies", "multiplies", text=True),
    BeforeAfter("File", "file_bytes", "B"),
    BeforeAfter("Packed for this machine", "packed_bytes", "B"),
    BeforeAfter("DRAM read", "dram_read_bytes", "B"),
    BeforeAfter("DRAM written", "dram_write_bytes", "B"),
    BeforeAfter("DRAM bandwidth in use", "bandwidth_gbps", "B/s", 1e9, ratio=False),
    BeforeAfter("Cycles", "cycles"),
    BeforeAfter("Latency", "latency_us", "s", 1e-6),
    BeforeAfter("Inferences per second", "inferences_per_s", ratio=False),
    BeforeAfter("Inferences per joule", "inferences_per_j", ratio=False),
    BeforeAfter("Energy: DRAM", "energy_dram_nj", "J", 1e-9),
    BeforeAfter("Energy: SRAM", "energy_sram_nj", "J", 1e-9),
    BeforeAfter("Energy: decode", "energy_decode_nj", "J", 1e-9, ratio=False),
    BeforeAfter("Energy: compute", "energy_compute_nj", "J", 1e-9),
    BeforeAfter("Energy: clock", "energy_clock_nj", "J", 1e-9),
    BeforeAfter("Energy: leakage", "energy_leakage_nj", "J", 1e-9),
    BeforeAfter("Energy: total", "energy_nj", "J", 1e-9),
    BeforeAfter("total on one chip for all formats", "energy_one_chip_nj", "J", 1e-9),
    BeforeAfter("total, all figures low", "energy_low_nj", "J", 1e-9),
    BeforeAfter("total, all figures high", "energy_high_nj", "J", 1e-9),
    BeforeAfter("Average power", "power_mw", "W", 1e-3, ratio=False),
    BeforeAfter("Energy per MAC", "energy_per_mac_pj", "J", 1e-12),
    BeforeAfter("Energy per weight", "energy_per_weight_pj", "J", 1e-12),
    BeforeAfter("Energy-delay product", "energy_delay_js", "J s"),
    BeforeAfter("Area of the units in use", "area_mm2", "mm²", ratio=False),
    BeforeAfter("area of one chip for all formats", "area_one_chip_mm2", "mm²", ratio=False),
)


def render(
    tables: ReportTables,
    network: CompressedNetwork,
    machine: Machine,
    results: Mapping[str, SimResult],
    *,
    command: str,
    versions: Mapping[str, str],
    heading: Heading,
) -> str:
    """The whole page."""
    from plotly.offline import get_plotlyjs

    storages = list(results)
    last = results[storages[-1]]
    drawings = draw(tables, machine)
    return with_contents(
        template("report.html.j2").render(
            heading=heading,
            network=network,
            machine=machine,
            storages=storages,
            before=storages[0],
            after=storages[-1],
            headline=_headline(tables),
            verdict=tables.comparison.attrs.get("verdict", []),
            baseline=tables.comparison.attrs.get("baseline", storages[0]),
            dominant={"before": _dominant(tables, storages[0]), "after": _dominant(tables, storages[-1])},
            labels=_labels(network, results),
            setup=_setup(network, machine, last, command, versions),
            in_no_layer=_in_no_layer(network.coverage),
            recipe=list(_flat(network.recipe)),
            measured=list(_flat(network.results)),
            machine_rows=list(_flat(machine.dump())),
            comparison=_before_after(tables),
            layers=_layer_rows(tables),
            units=_unit_rows(tables),
            shapes=_shape_rows(tables),
            assumptions=_assumption_rows(tables),
            rows=_cost_rows(tables),
            frames=_frame_rows(tables),
            sources=_records(tables.sources),
            scope=last.costs.scope,
            notes=_distinct(note for result in results.values() for note in result.notes),
            warnings=_distinct(warning for result in results.values() for warning in result.costs.warnings),
            figures=drawings,
            specs={key: script_json(drawing.spec) for key, drawing in drawings.items()},
            plotly=get_plotlyjs(),
        )
    )


def _labels(network: CompressedNetwork, results: Mapping[str, SimResult]) -> list[str]:
    """What on this page is made up, in capitals where it shows."""
    found = []
    if any("synthetic" in note.lower() and "weights" in note.lower() for note in network.graph.notes):
        found.append("SYNTHETIC WEIGHTS")
    if any(result.workload.activations == "synthetic" for result in results.values()):
        found.append("SYNTHETIC ACTIVATIONS")
    return found


def _headline(tables: ReportTables) -> list[dict[str, str]]:
    """The last row against the baseline; a ratio never calls more less."""
    rows = tables.comparison.set_index("storage")
    last = rows.iloc[-1]
    base = rows.loc[tables.comparison.attrs.get("baseline", rows.index[0])]
    facts = (
        (("smaller file", "larger file", "the same file"), "file_bytes", 1.0, "B"),
        (("less DRAM read", "more DRAM read", "the same DRAM read"), "dram_read_bytes", 1.0, "B"),
        (("shorter latency", "longer latency", "the same latency"), "latency_us", 1e-6, "s"),
        (("less energy", "more energy", "the same energy"), "energy_nj", 1e-9, "J"),
    )
    found = []
    for words, column, factor, unit in facts:
        ratio, _, label = against(base[column], last[column], *words).rpartition("x ")
        detail = f"{quantity(base[column] * factor, unit)} → {quantity(last[column] * factor, unit)}"
        found.append({"ratio": f"{ratio}×" if ratio else "=", "label": label, "detail": detail})
    return found


def _dominant(tables: ReportTables, storage: str) -> str:
    """The component with the most energy and its share."""
    part = tables.components[tables.components["storage"] == storage].set_index("category")["energy_pj"]
    return f"{part.idxmax()} ({number(100 * part.max() / part.sum())} %)"


def _setup(
    network: CompressedNetwork, machine: Machine, result: SimResult, command: str, versions: Mapping[str, str]
) -> list[tuple[str, str]]:
    workload = result.workload
    weights = sum(layer.codes.size for layer in network.layers)
    kept = sum(layer.nonzeros for layer in network.layers)
    start = "warm: weights that fit are in SRAM" if result.warm else "cold: all weights come from DRAM"
    synthetic = workload.activations == "synthetic"
    origin = "synthetic activations" if synthetic else f"activations from the {workload.activations}"
    rows = [
        (
            "Network",
            f"{network.name}: {len(network.layers)} layers, {whole(weights)} weights, {number(100 * kept / weights)} % "
            f"of them kept; {whole(result.costs.work.macs // workload.batch)} MACs per inference uncompressed",
        ),
        ("Coverage", network.coverage.sentence()),
        (
            "Machine",
            f"{machine.name}: {machine.description} ({number(machine.clock_hz / 1e6, 4)} MHz, "
            f"{machine.silicon.node_nm} nm)",
        ),
        ("Machine’s source", machine.source),
        (
            "Run",
            f"batch {workload.batch}, {start}; {origin}; engine {result.engine}",
        ),
        ("Program", f"digest {result.timing.program_digest[:16]}" if result.timing.program_digest else "no digest"),
        ("Versions", ", ".join(f"{name} {version}" for name, version in versions.items())),
    ]
    seeds = [f"{key} {value}" for key, value in (*_flat(network.recipe), *_flat(network.results)) if "seed" in key]
    if synthetic:
        seeds.append(f"synthetic activations {workload.seed}")
    rows.append(("Seeds", "; ".join(_distinct(seeds)) or "none used"))
    rows.append(("Repeat with", command))
    return rows


def _before_after(tables: ReportTables) -> list[dict[str, Any]]:
    frame = tables.comparison
    quantities = list(_BEFORE_AFTER)
    if "error_pct" in frame:
        quantities.append(BeforeAfter("Error rate", "error_pct", "%", ratio=False))
    storages = list(frame["storage"])
    base = storages.index(frame.attrs.get("baseline", storages[0]))
    rows: list[dict[str, Any]] = []
    for item in quantities:
        if item.text:
            texts = list(frame[item.column])
            rows.append(
                {"label": item.label, "unit": "", "total": False, "values": texts, "ratio": "", "against_baseline": ""}
            )
            continue
        values = [float(value) * item.base for value in frame[item.column]]
        factor, name = (1.0, "") if item.unit in ("", "%", "mm²") else prefix(values)
        exact = item.unit == "B" or item.column in ("cycles", "inferences_per_s", "inferences_per_j")
        if exact:
            factor, name = 1.0, ""
        shown = item.ratio and values[-1]
        rows.append(
            {
                "label": item.label,
                "unit": f"{name}{item.unit}",
                "total": item.column == "energy_nj",
                "values": [whole(value) if exact else number(value / factor) for value in values],
                "ratio": f"{number(values[0] / values[-1])}×" if shown else "",
                "against_baseline": f"{number(values[base] / values[-1])}×" if shown else "",
            }
        )
    return rows


def _layer_rows(tables: ReportTables) -> list[dict[str, Any]]:
    """Before and after of every layer."""
    before, after = tables.comparison["storage"].iloc[0], tables.comparison["storage"].iloc[-1]
    energy = tables.layer_energy.groupby(["storage", "layer"])["energy_pj"].sum()
    rows = []
    for storage in (before, after):
        rows += [
            {
                "layer": row["layer"],
                "storage": storage,
                "packed": whole(row["packed_bytes"]),
                "read": whole(row["dram_read_bytes"]),
                "written": whole(row["dram_write_bytes"]),
                "entries": whole(row["entries"]),
                "fillers": whole(row["fillers"]),
                "useful_macs": whole(row["useful_macs"]),
                "start": whole(row["start_cycle"]),
                "finish": whole(row["finish_cycle"]),
                "added": whole(row["added_cycles"]),
                "macs_per_cycle": number(row["macs_per_cycle"]),
                "intensity": number(row["macs_per_dram_byte"]),
                "energy": quantity(float(energy.get((storage, row["layer"]), 0.0)) * 1e-12, "J"),
            }
            for row in _records(tables.layers[tables.layers["storage"] == storage])
        ]
        if (storage, WHOLE_RUN) in energy.index:
            shared = quantity(float(energy.loc[(storage, WHOLE_RUN)]) * 1e-12, "J")
            rows.append({"layer": WHOLE_RUN, "storage": storage, "energy": shared})
    return rows


def _unit_rows(tables: ReportTables) -> list[dict[str, Any]]:
    before, after = tables.comparison["storage"].iloc[0], tables.comparison["storage"].iloc[-1]
    frame = tables.units
    rows = []
    for unit in sorted(set(frame["unit"]), key=unit_rank):
        cells = {}
        for which, storage in (("before", before), ("after", after)):
            found = frame[(frame["unit"] == unit) & (frame["storage"] == storage)]
            if found.empty:
                cells[which] = {"energy": "–", "range": "", "area": "–"}
                continue
            row = found.iloc[0]
            low, high = (quantity(float(row[f"energy_{end}_pj"]) * 1e-12, "J") for end in ("low", "high"))
            cells[which] = {
                "energy": quantity(float(row["energy_pj"]) * 1e-12, "J"),
                "range": f"{low} – {high}",
                "area": number(float(row["area_mm2"])),
            }
        rows.append({"unit": unit_name(unit), "stage": frame[frame["unit"] == unit]["stage"].iloc[0], **cells})
    return rows


def _in_no_layer(coverage: Coverage) -> list[dict[str, str]]:
    """What is left out, one by one, then what is stored as it is, by its reason."""
    rows = [
        {"what": row.name, "where": "left out", "parameters": whole(row.parameters), "why": row.reason}
        for row in coverage.at(Place.LEFT_OUT)
    ]
    stored: dict[str, list[ParameterGroup]] = {}
    for row in coverage.at(Place.STORED):
        stored.setdefault(row.reason, []).append(row)
    for reason, held in stored.items():
        names = held[0].name if len(held) == 1 else f"{held[0].name} and {len(held) - 1} more"
        total = whole(sum(row.parameters for row in held))
        rows.append({"what": names, "where": "stored as it is", "parameters": total, "why": reason})
    return rows


def _shape_rows(tables: ReportTables) -> list[dict[str, Any]]:
    return [
        {
            **row,
            "shape": row["shape"].replace(" x ", " × "),
            "weights": whole(row["weights"]),
            "density": f"{number(100 * row['density'])} %",
        }
        for row in _records(tables.network)
    ]


def _assumption_rows(tables: ReportTables) -> list[dict[str, str]]:
    after = tables.comparison["storage"].iloc[-1]
    total = float(tables.comparison["energy_nj"].iloc[-1]) * 1e3
    return [
        {
            "name": row["assumption"],
            "confidence": row["confidence"],
            "share": f"{number(100 * row['energy_pj'] / total)} %",
            "low": quantity(row["total_low_pj"] * 1e-12, "J"),
            "high": quantity(row["total_high_pj"] * 1e-12, "J"),
            "swing": f"{number(100 * row['swing_pj'] / total)} %",
        }
        for row in _records(tables.sensitivity[tables.sensitivity["storage"] == after])
    ]


def _cost_rows(tables: ReportTables) -> list[dict[str, Any]]:
    """The account of the last storage format, its rows summed over layers and streams with one figure."""
    after = tables.comparison["storage"].iloc[-1]
    part = tables.energy[tables.energy["storage"] == after]
    keys = ["unit", "event", "energy_each_pj", "confidence", "sources"]
    summed = (
        part.groupby(keys, sort=False)[["count", "energy_pj", "energy_low_pj", "energy_high_pj"]].sum().reset_index()
    )
    return [
        {
            "unit": unit_name(row["unit"]),
            "event": row["event"].replace("_", " "),
            "count": _count(row),
            "each": _each(row),
            "energy": quantity(row["energy_pj"] * 1e-12, "J"),
            "low": quantity(row["energy_low_pj"] * 1e-12, "J"),
            "high": quantity(row["energy_high_pj"] * 1e-12, "J"),
            "confidence": row["confidence"],
            "sources": row["sources"],
        }
        for row in _records(summed)
    ]


def _timed(row: Mapping[Any, Any]) -> bool:
    """Whether a row's count is in seconds."""
    return 0 < float(row["count"]) < 1


def _count(row: Mapping[Any, Any]) -> str:
    return quantity(row["count"], "s") if _timed(row) else whole(row["count"])


def _each(row: Mapping[Any, Any]) -> str:
    return quantity(row["energy_each_pj"] * 1e-12, "W" if _timed(row) else "J")


def _frame_rows(tables: ReportTables) -> list[dict[str, str]]:
    if tables.frames.empty:
        return []
    sums = ["energy_pj", "energy_low_pj", "energy_high_pj"]
    summed = tables.frames.groupby(["storage", "part"], sort=False)[sums].sum().reset_index()
    totals = summed.groupby("storage")["energy_pj"].sum()
    return [
        {
            "storage": row["storage"],
            "part": row["part"],
            "energy": quantity(row["energy_pj"] * 1e-12, "J"),
            "low": quantity(row["energy_low_pj"] * 1e-12, "J"),
            "high": quantity(row["energy_high_pj"] * 1e-12, "J"),
            "share": f"{number(100 * row['energy_pj'] / totals[row['storage']])} %",
        }
        for row in _records(summed)
    ]


def _records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Rows by column name."""
    return [{str(key): value for key, value in row.items()} for row in frame.to_dict("records")]


def _flat(values: Mapping[str, Any], above: str = "") -> Iterable[tuple[str, str]]:
    """Nested plain values as dotted keys and text."""
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{above}{key}.")
        elif value is not None:
            yield f"{above}{key}", str(value)


def _distinct(texts: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(texts))
