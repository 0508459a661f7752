"""The tables of a report's page: rows of text and numbers already formatted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dchw.graph.coverage import Coverage, ParameterGroup, Place
from dchw.reports.report_tables import WHOLE_RUN, ReportTables
from dchw.reports.style import number, prefix, quantity, unit_name, unit_rank, whole

if TYPE_CHECKING:
    import pandas as pd


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


def before_after(tables: ReportTables) -> list[dict[str, Any]]:
    frame = tables.comparison
    quantities = list(_BEFORE_AFTER)
    if "error_pct" in frame:
        quantities.append(BeforeAfter("Error rate", "error_pct", "%", ratio=False))
    storages = list(frame["storage"])
    base = storages.index(frame.attrs.get("baseline", storages[0]))
    rows: list[dict[str, Any]] = []
    for item in quantities:
        if item.text:
            texts = [
                text.replace("->", "\u200b→").replace("x", "x\u200b") for text in frame[item.column]
            ]  # places to break
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


def layer_rows(tables: ReportTables) -> list[dict[str, Any]]:
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
            for row in records(tables.layers[tables.layers["storage"] == storage])
        ]
        if (storage, WHOLE_RUN) in energy.index:
            shared = quantity(float(energy.loc[(storage, WHOLE_RUN)]) * 1e-12, "J")
            rows.append({"layer": WHOLE_RUN, "storage": storage, "energy": shared})
    return rows


def bound_rows(tables: ReportTables) -> list[dict[str, str]]:
    """What bounds each layer, stored in the first and in the last format."""
    chosen = [tables.comparison["storage"].iloc[0], tables.comparison["storage"].iloc[-1]]
    return [
        {
            "layer": row["layer"],
            "storage": storage,
            "own": whole(row["own_cycles"]),
            "words": row["words"],
        }
        for storage in dict.fromkeys(chosen)
        for row in records(tables.bounds[tables.bounds["storage"] == storage])
    ]


def stream_rows(tables: ReportTables) -> list[dict[str, str]]:
    """Bytes of the last format by stream: as packed, read, of that more than packed, written."""
    frame = tables.streams[tables.streams["storage"] == tables.comparison["storage"].iloc[-1]]
    columns = {
        "packed": "packed_bytes",
        "read": "dram_read_bytes",
        "again": "again_bytes",
        "written": "dram_write_bytes",
    }
    rows = [
        {"stream": row["stream"].replace("_", " "), **{key: whole(row[column]) for key, column in columns.items()}}
        for row in records(frame)
    ]
    rows.append({"stream": "all", **{key: whole(frame[column].sum()) for key, column in columns.items()}})
    return rows


def traffic_gap(tables: ReportTables) -> str:
    """One sentence from the bytes of the last format's file to those that its run reads."""
    last = tables.comparison.iloc[-1]
    frame = tables.streams[tables.streams["storage"] == last["storage"]]
    stored = frame[frame["packed_bytes"] > 0]
    beside = float(frame["dram_read_bytes"].sum() - stored["dram_read_bytes"].sum())
    packing = last["packed_bytes"] - last["file_bytes"]
    packed = "as many" if not packing else f"{quantity(abs(packing), 'B')} {'more' if packing > 0 else 'less'}"
    again = stored.loc[stored["again_bytes"].idxmax()] if stored["again_bytes"].any() else None
    most = (
        "" if again is None else f", {quantity(again['again_bytes'], 'B')} of them {again['stream'].replace('_', ' ')}"
    )
    return (
        f"The file has {quantity(last['file_bytes'], 'B')}; laid out for this machine (a stream per decode section, "
        f"tables and chunk lengths a layer, word boundaries) its weights take {packed}; the run reads "
        f"{quantity(float(stored['again_bytes'].sum()), 'B')} more of them in ends of bursts and in weights read in "
        f"several passes{most}, and {quantity(beside, 'B')} that are not in the file: activations and partial sums."
    )


def unit_rows(tables: ReportTables) -> list[dict[str, Any]]:
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


def in_no_layer(coverage: Coverage) -> list[dict[str, str]]:
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


def shape_rows(tables: ReportTables) -> list[dict[str, Any]]:
    return [
        {
            **row,
            "shape": row["shape"].replace(" x ", " × "),
            "weights": whole(row["weights"]),
            "density": f"{number(100 * row['density'])} %",
        }
        for row in records(tables.network)
    ]


def assumption_rows(tables: ReportTables) -> list[dict[str, str]]:
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
        for row in records(tables.sensitivity[tables.sensitivity["storage"] == after])
    ]


def cost_rows(tables: ReportTables) -> list[dict[str, Any]]:
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
        for row in records(summed)
    ]


def _timed(row: Mapping[Any, Any]) -> bool:
    """Whether a row's count is in seconds."""
    return 0 < float(row["count"]) < 1


def _count(row: Mapping[Any, Any]) -> str:
    return quantity(row["count"], "s") if _timed(row) else whole(row["count"])


def _each(row: Mapping[Any, Any]) -> str:
    return quantity(row["energy_each_pj"] * 1e-12, "W" if _timed(row) else "J")


def frame_rows(tables: ReportTables) -> list[dict[str, str]]:
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
        for row in records(summed)
    ]


def records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Rows by column name."""
    return [{str(key): value for key, value in row.items()} for row in frame.to_dict("records")]
