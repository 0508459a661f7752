"""Figures for a paper as SVG and PDF: one column of 3.3 inches, 8-point type, fonts embedded; from the tables alone.

Needs the extra ``plots`` (matplotlib), which nothing else in the package imports.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from dchw.extras import extras_named
from dchw.files import whole_file
from dchw.reports.activity import shown_activity
from dchw.reports.drawing import ends
from dchw.reports.report_tables import ReportTables
from dchw.reports.style import AFTER, BEFORE, BLUE, CATEGORIES, GREY, SERIES, STREAMS, VERMILLION, Look, number, prefix

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from dchw.machines.machine import Machine

WIDTH_INCHES = 3.3
POINTS = 8
MOST_ROWS = 12
"""Layers or kinds of nodes in one figure; the ones that matter most."""
FORMATS = ("svg", "pdf")

# plotly's pattern shapes as matplotlib hatches
_HATCHES = {"": "", "/": "////", "\\": "\\\\\\\\", "x": "xxxx", ".": "....", "-": "----", "|": "||||", "+": "++++"}

_FONTS = ("Arial", "Liberation Sans", "DejaVu Sans")
"""By preference; the last comes with matplotlib and has every character that a figure uses."""
_STYLE: Mapping[str, Any] = {
    "font.size": POINTS,
    "axes.titlesize": POINTS,
    "axes.labelsize": POINTS,
    "xtick.labelsize": POINTS - 1,
    "ytick.labelsize": POINTS - 1,
    "legend.fontsize": POINTS - 1,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "hatch.linewidth": 0.5,
    "pdf.fonttype": 42,  # TrueType, embedded
    "svg.fonttype": "path",  # glyphs as outlines: the same on every machine
    "svg.hashsalt": "dchw",  # equal figures give equal files
    "legend.frameon": False,
}


def write_figures(tables: ReportTables, machine: Machine, folder: str | Path) -> list[Path]:
    """Every figure of the report as SVG and PDF; the paths written.

    Energy by component and by layer, DRAM traffic, roofline, activity of the units, when each layer holds the run, what
    the energy rests on and, with a frame rate, the energy of a frame.
    """
    drawings = {
        "energy": _energy(tables),
        "layers": _layers(tables),
        "traffic": _traffic(tables),
        "roofline": _roofline(tables, machine),
        "activity": _activity(tables),
        "timeline": _timeline(tables),
        "sensitivity": _sensitivity(tables),
    }
    if not tables.frames.empty:
        drawings["frame"] = _frame(tables)
    return save_drawings(drawings, folder, FORMATS)


def save_drawings(drawings: Mapping[str, Figure], folder: str | Path, formats: Sequence[str]) -> list[Path]:
    """Figures by name as files of each format, the same bytes every time; the paths written."""
    undated = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}
    written = []
    for name, drawing in drawings.items():
        for suffix in formats:
            path = Path(folder) / f"{name}.{suffix}"
            with whole_file(path) as partial, styled():
                drawing.savefig(partial, format=suffix, metadata=undated.get(suffix))
            written.append(path)
    return written


@contextmanager
def styled() -> Iterator[None]:
    with extras_named("figures as SVG and PDF"):
        import matplotlib
    with matplotlib.rc_context(cast(Any, {**_STYLE, "font.family": _families()})):
        yield


def _families() -> list[str]:
    """The fonts that are here. All of them, because what the first lacks (Liberation Sans has no narrow space) is then
    taken from the next; of a generic family matplotlib before 3.11 takes one font and no other."""
    from matplotlib.font_manager import fontManager

    here = set(fontManager.get_font_names())
    return [name for name in _FONTS if name in here]


@contextmanager
def canvas(height: float) -> Iterator[tuple[Figure, Axes]]:
    """An empty figure of one column; no window system is touched."""
    with styled():
        from matplotlib.figure import Figure as Canvas

        figure = Canvas(figsize=(WIDTH_INCHES, height), layout="constrained")
        yield figure, figure.add_subplot()


def _energy(tables: ReportTables) -> Figure:
    totals = tables.components.groupby("storage")[["energy_low_pj", "energy_pj", "energy_high_pj"]].sum()
    totals = totals.loc[list(tables.comparison["storage"])] * 1e-12
    factor, name = prefix(totals["energy_pj"])
    with canvas(2.2) as (figure, axes):
        _stack(axes, tables.components, "category", "energy_pj", 1e-12 / factor, CATEGORIES, tables)
        low, nominal, high = (totals[column] / factor for column in totals.columns)
        axes.errorbar(
            nominal, range(len(totals)), xerr=[nominal - low, high - nominal], fmt="|", color="black", lw=0.7, capsize=2
        )
        axes.set_xlabel(f"energy of one run ({name}J)")
        _legend(figure, axes, columns=3)
    return figure


def _layers(tables: ReportTables) -> Figure:
    """Energy of every layer by component, in the first and the last format; of many layers those that matter."""
    frame = tables.layer_energy
    totals = frame.groupby("layer", sort=False)["energy_pj"].sum()
    shown = [name for name in totals.index if name in set(totals.nlargest(MOST_ROWS).index)]
    storages = ends(tables)
    with _two_panels(len(shown)) as (figure, panels):
        for axes, storage in zip(panels, storages, strict=True):
            part = frame[frame["storage"] == storage]
            factor, name = prefix(part.groupby("layer")["energy_pj"].sum() * 1e-12)
            left = [0.0] * len(shown)
            for category, look in CATEGORIES.items():
                mine = part[part["category"] == category].groupby("layer")["energy_pj"].sum()
                values = list(mine.reindex(shown, fill_value=0.0) * 1e-12 / factor)
                axes.barh(range(len(shown)), values, left=left, height=0.65, label=category, **_fill(look))
                left = [start + size for start, size in zip(left, values, strict=True)]
            axes.set_title(storage)
            axes.set_xlabel(f"energy ({name}J)")
        panels[0].set_yticks(range(len(shown)), shown)
        _legend(figure, panels[0], columns=3)
    return figure


def _activity(tables: ReportTables) -> Figure:
    """Busy and held up shares of the kinds of nodes that work or wait for a hundredth of either run."""
    frame, shown = shown_activity(tables)
    shown = shown[:MOST_ROWS]
    with _two_panels(len(shown)) as (figure, panels):
        for axes, storage in zip(panels, ends(tables), strict=True):
            part = frame[frame["storage"] == storage].set_index("label").reindex(shown)
            left = [0.0] * len(shown)
            for state, look in (("busy", Look(BLUE)), ("stall", Look(VERMILLION, "/"))):
                values = list(100 * part[f"{state}_share"].fillna(0.0))
                axes.barh(range(len(shown)), values, left=left, height=0.65, label=state, **_fill(look))
                left = [start + size for start, size in zip(left, values, strict=True)]
            axes.set_xlim(0, 100)
            axes.set_title(storage)
            axes.set_xlabel("of the run (%)")
        panels[0].set_yticks(range(len(shown)), shown)
        _legend(figure, panels[0], columns=2)
    return figure


def _timeline(tables: ReportTables) -> Figure:
    """When each layer holds the run, in the first and the last format."""
    layers = tables.layers
    largest = set(layers.groupby("layer")["added_us"].max().nlargest(MOST_ROWS).index)
    shown = [name for name in dict.fromkeys(layers["layer"]) if name in largest]
    factor, name = prefix(layers["finish_us"] * 1e-6)
    with canvas(0.8 + 0.24 * len(shown)) as (figure, axes):
        for shift, storage, look in zip((-0.2, 0.2), ends(tables), (BEFORE, AFTER), strict=True):
            part = layers[layers["storage"] == storage].set_index("layer").reindex(shown)
            finish, added = (part[f"{column}_us"] * 1e-6 / factor for column in ("finish", "added"))
            rows = [row + shift for row in range(len(shown))]
            axes.barh(rows, list(added), left=list(finish - added), height=0.36, label=storage, **_fill(look))
        axes.set_yticks(range(len(shown)), shown)
        axes.invert_yaxis()
        axes.set_xlabel(f"time since the first request ({name}s)")
        _legend(figure, axes, columns=2)
    return figure


def _frame(tables: ReportTables) -> Figure:
    """Energy of a frame: what the run takes, and what waiting for the next frame takes."""
    totals = tables.frames.pivot_table("energy_pj", "storage", "part", "sum", fill_value=0.0, sort=False) * 1e-12
    factor, name = prefix(totals.sum(axis=1))
    with canvas(0.9 + 0.22 * len(totals)) as (figure, axes):
        left = [0.0] * len(totals)
        for part, look in zip(totals.columns, SERIES, strict=False):
            values = list(totals[part] / factor)
            axes.barh(range(len(totals)), values, left=left, height=0.65, label=str(part), **_fill(look))
            left = [start + size for start, size in zip(left, values, strict=True)]
        axes.set_yticks(range(len(totals)), list(totals.index))
        axes.invert_yaxis()
        axes.set_xlabel(f"energy of a frame ({name}J)")
        _legend(figure, axes, columns=2)
    return figure


@contextmanager
def _two_panels(rows: int) -> Iterator[tuple[Figure, list[Axes]]]:
    """Two panels side by side that share their rows, in one column's width."""
    with styled():
        from matplotlib.figure import Figure as Canvas

        figure = Canvas(figsize=(WIDTH_INCHES, 1.1 + 0.18 * max(rows, 1)), layout="constrained")
        panels = list(figure.subplots(1, 2, sharey=True))
        panels[0].invert_yaxis()
        yield figure, panels


def _traffic(tables: ReportTables) -> Figure:
    factor, name = prefix(tables.traffic.groupby("storage")["dram_bytes"].sum())
    with canvas(2.4) as (figure, axes):
        _stack(axes, tables.traffic, "stream", "dram_bytes", 1 / factor, STREAMS, tables)
        axes.set_xlabel(f"DRAM bytes of one run ({name}B)")
        _legend(figure, axes, columns=3)
    return figure


def _roofline(tables: ReportTables, machine: Machine) -> Figure:
    peak = float(machine.pe_array.macs_per_cycle)
    bandwidth = float(machine.dram.peak_bytes_per_cycle(machine.clock_hz))
    layers = tables.roofs[(tables.roofs["roof"] == "dram") & (tables.roofs["macs_per_cycle"] > 0)]
    ridge = peak / bandwidth
    low = min([*layers["intensity"], ridge]) / 3
    high = max([*layers["intensity"], ridge]) * 5
    storages = list(tables.comparison["storage"])
    with canvas(2.3) as (figure, axes):
        axes.loglog([low, ridge, high], [low * bandwidth, peak, peak], color="black", lw=1)
        ends = []
        for storage, look, marker in ((storages[0], BEFORE, "o"), (storages[-1], AFTER, "D")):
            part = layers[layers["storage"] == storage].set_index("layer")
            ends.append(part)
            face = "none" if marker == "o" else look.colour
            axes.plot(
                part["intensity"],
                part["macs_per_cycle"],
                ls="none",
                marker=marker,
                ms=4,
                mec=look.colour,
                mfc=face,
                label=storage,
            )
        for layer in ends[0].index.intersection(ends[1].index):
            points = [part.loc[layer, ["intensity", "macs_per_cycle"]] for part in ends]
            axes.plot(*zip(*points, strict=True), color=GREY, lw=0.5, ls=":", zorder=0)
        for layer in _labelled(ends[1]):
            at = ends[1].loc[layer, ["intensity", "macs_per_cycle"]]
            axes.annotate(layer, tuple(at), xytext=(3, -6), textcoords="offset points", fontsize=POINTS - 2)
        axes.annotate(f"{number(peak, 4)} MAC/cycle", (high, peak), ha="right", va="bottom", fontsize=POINTS - 1)
        axes.set_xlabel("useful MACs per DRAM byte")
        axes.set_ylabel("useful MACs per cycle")
        _legend(figure, axes, columns=2)
    return figure


def _sensitivity(tables: ReportTables) -> Figure:
    after = tables.comparison["storage"].iloc[-1]
    frame = tables.sensitivity[tables.sensitivity["storage"] == after].head(8).iloc[::-1]
    total = float(tables.comparison["energy_nj"].iloc[-1]) * 1e-9
    factor, name = prefix([*(frame["total_high_pj"] * 1e-12), total])
    low, high = (frame[f"total_{end}_pj"] * 1e-12 / factor for end in ("low", "high"))
    first = len(frame) - 3
    labels = [_lines(text) for text in frame["assumption"]]
    lines = max([2, *(label.count("\n") + 1 for label in labels)])
    with canvas(0.6 + 0.13 * lines * len(frame)) as (figure, axes):
        for row, (start, end) in enumerate(zip(low, high, strict=True)):
            look = Look(VERMILLION) if row >= first else Look(GREY, "/")
            axes.barh(row, end - start, left=start, height=0.65, **_fill(look))
            axes.annotate(
                f"{number(start)} to {number(end)}",
                (end, row),
                xytext=(2, 0),
                textcoords="offset points",
                va="center",
                fontsize=POINTS - 2,
            )
        axes.margins(x=0.28)
        axes.use_sticky_edges = False
        axes.axvline(total / factor, color="black", lw=0.7, ls="--")
        axes.set_yticks(range(len(frame)), labels, fontsize=POINTS - 2)
        axes.set_xlabel(f"energy of one run ({name}J)")
    return figure


def _stack(
    axes: Axes,
    frame: pd.DataFrame,
    key: str,
    value: str,
    factor: float,
    looks: Mapping[str, Look],
    tables: ReportTables,
) -> None:
    """Stacked horizontal bars, one per storage format, the first on top."""
    storages = list(tables.comparison["storage"])
    left = [0.0] * len(storages)
    for name, look in looks.items():
        part = frame[frame[key] == name]
        if part.empty:
            continue
        values = [float(size) * factor for size in part.groupby("storage")[value].sum().reindex(storages, fill_value=0)]
        axes.barh(range(len(storages)), values, left=left, height=0.65, label=name.replace("_", " "), **_fill(look))
        left = [start + size for start, size in zip(left, values, strict=True)]
    axes.set_yticks(range(len(storages)), storages)
    axes.invert_yaxis()


def _fill(look: Look) -> dict[str, Any]:
    return {"facecolor": look.colour, "hatch": _HATCHES[look.pattern], "edgecolor": "white", "linewidth": 0}


def _legend(figure: Figure, axes: Axes, columns: int) -> None:
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(
        handles,
        labels,
        loc="outside upper center",
        ncols=columns,
        handlelength=1.4,
        columnspacing=1.0,
        labelspacing=0.3,
    )


def _labelled(layers: pd.DataFrame) -> list[str]:
    """Layers that are named in the roofline: those active longest, and none on another's place."""
    named: list[str] = []
    places: list[tuple[float, float]] = []
    for layer, row in layers.sort_values("active_cycles", ascending=False).iterrows():
        place = (math.log10(row["intensity"]), math.log10(row["macs_per_cycle"]))
        if len(named) < MOST_ROWS // 2 and all(abs(x - place[0]) + abs(y - place[1]) > 0.25 for x, y in places):
            named.append(str(layer))
            places.append(place)
    return named


def _lines(text: str, width: int = 34) -> str:
    """Lines cut at words, as many as it takes."""
    import textwrap

    return "\n".join(textwrap.wrap(text, width, break_on_hyphens=False))
