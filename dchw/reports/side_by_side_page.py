"""Networks and machines side by side as one self-contained HTML page: a column for every network on every machine.

A column is a whole comparison of storage formats; the page shows its verdict, its strongest dense row and its best one,
where their DRAM traffic goes, and what bounds every layer. Each column is as `dchw report` of it alone would be.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from math import nan
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dchw.extras import extras_named
from dchw.quantities import DchwError
from dchw.reports import pieces, versions
from dchw.reports.drawing import Drawing
from dchw.reports.page_rows import BeforeAfter
from dchw.reports.report_tables import ReportTables, build_tables
from dchw.reports.style import CATEGORIES, STREAMS, Heading, Look, number, prefix, quantity, whole
from dchw.reports.templating import script_json, template, with_contents, write_page

if TYPE_CHECKING:
    import pandas as pd

    from dchw.compression.compressed import CompressedNetwork
    from dchw.dram.idle import IdleState
    from dchw.machines.machine import Machine
    from dchw.run.sim_result import SimResult

MOST_COLUMNS = 8
"""Columns of one page: more are a study (`dchw sweep`)."""
MOST_LAYERS = 40
"""Layers of a network whose bounds are listed without being folded away."""


@dataclass(frozen=True, kw_only=True)
class Column:
    """One network on one machine."""

    network: str
    machine: str
    tables: ReportTables
    coverage: str
    """What share of the network's parameters the figures account for, in a sentence."""
    notes: tuple[str, ...] = ()

    @classmethod
    def of(
        cls,
        network: CompressedNetwork,
        machine: Machine,
        results: Mapping[str, SimResult],
        frame: pd.DataFrame,
        *,
        network_name: str = "",
        machine_name: str = "",
        fps: float | None = None,
        dram_idle: IdleState = "self-refresh",
    ) -> Column:
        """A column of runs by storage format and of what `dchw.compare` gave for them; it keeps none of the runs."""
        tables = build_tables(network, machine, results, frame, fps=fps, dram_idle=dram_idle)
        if not tables.frames.empty:
            a_frame = tables.frames.groupby("storage")["energy_pj"].sum() / 1e3
            tables.comparison["energy_per_frame_nj"] = tables.comparison["storage"].map(a_frame)
        last = list(results.values())[-1]
        notes = [f"DRAM energy covers: {last.costs.scope}."]
        notes += [note for result in results.values() for note in result.notes]
        notes += [f"Left out: {error}" for error in frame.attrs.get("left_out", {}).values()]
        notes += [f"Warning: {warning}" for result in results.values() for warning in result.costs.warnings]
        return cls(
            network=network_name or network.name,
            machine=machine_name or machine.name,
            tables=tables,
            coverage=network.coverage.sentence(),
            notes=tuple(dict.fromkeys(notes)),
        )

    @property
    def name(self) -> str:
        return f"{self.network} on {self.machine}"

    @property
    def rows(self) -> pd.DataFrame:
        """The comparison, by storage format."""
        return self.tables.comparison.set_index("storage")

    def value(self, storage: str, name: str) -> float:
        """A figure of a format; NaN where there is none."""
        return float(self.rows[name].to_dict().get(storage, nan)) if name in self.rows else nan

    @property
    def baseline(self) -> str:
        return str(self.tables.comparison.attrs.get("baseline", self.rows.index[0]))

    @property
    def best(self) -> str:
        """The format that takes the least energy beside the baseline; the baseline where it was run alone."""
        others = self.rows["energy_nj"].drop(self.baseline)
        return str(others.idxmin()) if len(others) else self.baseline

    @property
    def shown(self) -> list[str]:
        """Baseline and best, once each."""
        return list(dict.fromkeys((self.baseline, self.best)))

    @property
    def verdict(self) -> list[str]:
        return list(self.tables.comparison.attrs.get("verdict", ()))


_QUANTITIES = (
    BeforeAfter("File", "file_bytes", "B"),
    BeforeAfter("Packed for the machine", "packed_bytes", "B"),
    BeforeAfter("DRAM read", "dram_read_bytes", "B"),
    BeforeAfter("DRAM written", "dram_write_bytes", "B"),
    BeforeAfter("Cycles", "cycles"),
    BeforeAfter("Latency", "latency_us", "s", 1e-6),
    BeforeAfter("Inferences per second", "inferences_per_s", ratio=False),
    BeforeAfter("Inferences per joule", "inferences_per_j", ratio=False),
    BeforeAfter("Energy", "energy_nj", "J", 1e-9),
    BeforeAfter("energy, all figures low", "energy_low_nj", "J", 1e-9),
    BeforeAfter("energy, all figures high", "energy_high_nj", "J", 1e-9),
    BeforeAfter("Energy of a frame", "energy_per_frame_nj", "J", 1e-9),
    BeforeAfter("Average power", "power_mw", "W", 1e-3),
    BeforeAfter("Area of the units in use", "area_mm2", "mm²"),
)
_EXACT = ("B", "")
_ROW = 58
"""Pixels of a bar: its label has three lines, for narrow pages."""


def write_side_by_side(
    path: str | Path, columns: Sequence[Column], *, command: str, heading: Heading | None = None
) -> ReportTables:
    """Write the page as HTML, or as PDF where ``path`` ends so; gives the tables of all columns.

    Raises DchwError for fewer than two columns or more than `MOST_COLUMNS`, for two of one name, and where the file
    cannot be written.
    """
    with extras_named():
        from plotly.offline import get_plotlyjs
    check_columns([column.name for column in columns])
    heading = heading or Heading()
    figures = {drawing.key: drawing for drawing in (_energy(columns), _latency(columns), _streams(columns))}
    page = with_contents(
        template("side_by_side.html.j2").render(
            heading=heading,
            columns=columns,
            quantities=_quantities(columns),
            formats=_formats(columns),
            bounds=_bounds(columns),
            streams=_stream_rows(columns),
            fold=MOST_LAYERS,
            command=command,
            versions=", ".join(f"{name} {version}" for name, version in versions().items()),
            figures=figures,
            specs={key: script_json(drawing.spec) for key, drawing in figures.items()},
            plotly=get_plotlyjs(),
        )
    )
    write_page(page, path)
    return joined_tables(columns)


def check_columns(names: Sequence[str]) -> None:
    """Raise DchwError unless so many columns, under these names, make a page."""
    if not 2 <= len(names) <= MOST_COLUMNS:
        raise DchwError(
            f"report: expected 2 to {MOST_COLUMNS} columns side by side; got {len(names)}; "
            "leave some out, or write a study file for 'dchw sweep'"
        )
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise DchwError(f"report: expected every column once; got {twice[0]!r} twice; rename one")


def joined_tables(columns: Sequence[Column]) -> ReportTables:
    """The tables of all columns under one another, behind ``network`` and ``machine``."""
    import pandas as pd

    joined = {}
    for name in (field.name for field in fields(ReportTables)):
        parts = []
        for column in columns:
            part = getattr(column.tables, name).copy()
            part.attrs = {}
            if not part.empty:
                part.insert(0, "network", column.network)
                part.insert(1, "machine", column.machine)
                parts.append(part)
        joined[name] = pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()
    return ReportTables(**joined)


def _pairs(columns: Sequence[Column]) -> list[tuple[Column, str]]:
    return [(column, storage) for column in columns for storage in column.shown]


def _quantities(columns: Sequence[Column]) -> list[dict[str, Any]]:
    """Lines of the table of figures: baseline and best of each column, a line's best value of each network marked."""
    rows: list[dict[str, Any]] = [_words("Storage format", [storage for _, storage in _pairs(columns)])]
    for label, name in (("Multiplies", "multiplies"), ("Bound by", "bound_by")):
        texts = [str(column.rows.loc[storage, name]) for column, storage in _pairs(columns)]
        rows.append(_words(label, [text.partition("->")[0] for text in texts]))  # what it adds up in is the machine's
    for item in _QUANTITIES:
        if not any(item.column in column.rows for column in columns):
            continue
        values = [column.value(storage, item.column) * item.base for column, storage in _pairs(columns)]
        exact = item.unit in _EXACT
        known = [value for value in values if value == value]
        factor, name = (1.0, "") if exact or item.unit == "mm²" else prefix(known)
        best = _best(columns, values, min if item.ratio else max)
        rows.append(
            {
                "label": item.label,
                "unit": f"{name}{item.unit}",
                "values": [whole(value) if exact else number(value / factor) for value in values],
                "best": best,
            }
        )
    return rows


def _best(columns: Sequence[Column], values: Sequence[float], choose: Callable[..., float]) -> list[bool]:
    """Which values are the best of their network; none where all of them are equal."""
    networks = [column.network for column, _ in _pairs(columns)]
    of = {
        name: [value for mine, value in zip(networks, values, strict=True) if mine == name and value == value]
        for name in networks
    }
    found = {name: choose(mine) for name, mine in of.items() if len(set(mine)) > 1}
    return [value == found.get(name) for name, value in zip(networks, values, strict=True)]


def _words(label: str, texts: Sequence[str]) -> dict[str, Any]:
    return {"label": label, "unit": "", "values": list(texts), "best": [False] * len(texts)}


def _formats(columns: Sequence[Column]) -> list[dict[str, Any]]:
    """Every storage format: latency, energy and what bounds it in each column; nothing where it was refused."""
    names = dict.fromkeys(storage for column in columns for storage in column.rows.index)
    rows = []
    for name in names:
        cells = []
        for column in columns:
            if name not in column.rows.index:
                cells.append({"latency": "–", "energy": "–", "bound": "left out", "best": False})
                continue
            cells.append(
                {
                    "latency": quantity(column.value(name, "latency_us") * 1e-6, "s"),
                    "energy": quantity(column.value(name, "energy_nj") * 1e-9, "J"),
                    "bound": str(column.rows.loc[name, "bound_by"]),
                    "best": name == column.best,
                }
            )
        rows.append({"storage": name, "cells": cells})
    return rows


def _bounds(columns: Sequence[Column]) -> list[dict[str, Any]]:
    """For every network its layers, and what bounds each on each machine in the column's best format."""
    out = []
    for network in dict.fromkeys(column.network for column in columns):
        mine = [column for column in columns if column.network == network]
        frames = [c.tables.layers[c.tables.layers["storage"] == c.best].set_index("layer") for c in mine]
        names = dict.fromkeys(layer for frame in frames for layer in frame.index)
        layers = [{"layer": layer, "cells": [_bound_cell(frame, layer) for frame in frames]} for layer in names]
        out.append({"network": network, "columns": mine, "layers": layers})
    return out


def _bound_cell(frame: pd.DataFrame, layer: str) -> dict[str, str]:
    if layer not in frame.index:
        return {"bound": "–", "share": "", "added": "–"}
    row: Any = frame.loc[layer]
    share = row["bound_share"]
    return {
        "bound": str(row["bound_by"]),
        "share": f"{100 * min(float(share), 1.0):.0f} %" if share == share else "",
        "added": whole(float(row["added_cycles"])),
    }


def _stream_rows(columns: Sequence[Column]) -> list[dict[str, Any]]:
    """DRAM bytes of every stream, baseline and best of each column, with their share of the column."""
    sizes = [_streams_of(column, storage) for column, storage in _pairs(columns)]
    rows = []
    for stream in STREAMS:
        if any(size.get(stream) for size in sizes):
            cells = [(size.get(stream, 0), sum(size.values())) for size in sizes]
            texts = [f"{whole(part)} ({_percent(part / total)})" if part else "–" for part, total in cells]
            rows.append({"stream": stream.replace("_", " "), "values": texts})
    return rows


def _percent(share: float) -> str:
    return "< 0.1 %" if 0 < share < 0.001 else f"{100 * share:.{0 if share >= 0.1 else 1}f} %"


def _streams_of(column: Column, storage: str) -> dict[str, int]:
    frame = column.tables.traffic
    part = frame[frame["storage"] == storage]
    return {str(name): int(size) for name, size in zip(part["stream"], part["dram_bytes"], strict=True)}


def _stacked(
    columns: Sequence[Column], parts: Sequence[Mapping[str, float]], looks: Mapping[str, Look], *, of: str, unit: str
) -> pieces.Spec:
    """A bar for baseline and best of each column, made of the parts that any of them has."""
    import pandas as pd

    names = _bar_names(columns)
    data = []
    for name, look in looks.items():
        values = pd.Series([part.get(name, 0.0) for part in parts], index=names)
        if values.any():
            data.append(pieces.bars(values, name.replace("_", " "), look, unit))
    return {"data": data, "layout": pieces.axes(len(names), f"{of} ({unit})", row=_ROW)}


def _bar_names(columns: Sequence[Column]) -> list[str]:
    return [f"{column.network}<br>{column.machine}<br>{storage}" for column, storage in _pairs(columns)]


def _with_ends(spec: pieces.Spec, columns: Sequence[Column], ends: Sequence[float], texts: Sequence[str]) -> None:
    spec["data"].append(pieces.end_labels(_bar_names(columns), list(ends), [f"  {text}" for text in texts]))


def _energy(columns: Sequence[Column]) -> Drawing:
    totals = [column.value(storage, "energy_nj") * 1e-9 for column, storage in _pairs(columns)]
    factor, name = prefix(totals)
    parts = []
    for column, storage in _pairs(columns):
        frame = column.tables.components
        mine = frame[frame["storage"] == storage]
        energies = zip(mine["category"], mine["energy_pj"], strict=True)
        parts.append({str(category): float(energy) * 1e-12 / factor for category, energy in energies})
    spec = _stacked(columns, parts, CATEGORIES, of="energy of one run", unit=f"{name}J")
    _with_ends(spec, columns, [total / factor for total in totals], [quantity(total, "J") for total in totals])
    return Drawing("energy", "Energy of one run by component: the baseline and the best format of each column.", spec)


def _latency(columns: Sequence[Column]) -> Drawing:
    import pandas as pd

    times = [column.value(storage, "latency_us") * 1e-6 for column, storage in _pairs(columns)]
    bounds = [str(column.rows.loc[storage, "bound_by"]) for column, storage in _pairs(columns)]
    factor, name = prefix(times)
    spec: pieces.Spec = {
        "data": [
            pieces.bars(
                pd.Series([time / factor for time in times], index=_bar_names(columns)),
                "latency",
                Look(CATEGORIES["DRAM"].colour),
                f"{name}s",
            )
            | {"showlegend": False}
        ],
        "layout": pieces.axes(len(times), f"latency of one run ({name}s)", row=_ROW),
    }
    spec["layout"]["margin"] |= {"r": 190}
    texts = [f"{quantity(time, 's')}, bound by {bound}" for time, bound in zip(times, bounds, strict=True)]
    _with_ends(spec, columns, [time / factor for time in times], texts)
    return Drawing("latency", "Time of one run, and what bounds it.", spec)


def _streams(columns: Sequence[Column]) -> Drawing:
    sizes = [_streams_of(column, storage) for column, storage in _pairs(columns)]
    totals = [sum(size.values()) or 1 for size in sizes]
    parts = [
        {name: 100 * part / total for name, part in size.items()} for size, total in zip(sizes, totals, strict=True)
    ]
    spec = _stacked(columns, parts, STREAMS, of="share of DRAM traffic", unit="%")
    spec["layout"]["xaxis"]["range"] = [0, 100]
    _with_ends(spec, columns, [100.0] * len(sizes), [quantity(sum(size.values()), "B") for size in sizes])
    return Drawing(
        "streams", "Where the DRAM traffic of a run goes, reads and writes; the whole is written beside.", spec
    )
