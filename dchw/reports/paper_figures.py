"""Figures for a paper as SVG and PDF: one column of 3.3 inches, 8-point type, fonts embedded; from the tables alone.

Needs the extra ``plots`` (matplotlib), which nothing else in the package imports.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from dchw.quantities import DchwError
from dchw.reports.style import AFTER, BEFORE, CATEGORIES, GREY, STREAMS, VERMILLION, Look, number, prefix
from dchw.reports.tables import ReportTables

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from dchw.machines.machine import Machine

WIDTH_INCHES = 3.3
POINTS = 8
FORMATS = ("svg", "pdf")

# plotly's pattern shapes as matplotlib hatches
_HATCHES = {"": "", "/": "////", "\\": "\\\\\\\\", "x": "xxxx", ".": "....", "-": "----", "|": "||||", "+": "++++"}

_STYLE: Mapping[str, Any] = {
    "font.family": "sans-serif",
    "font.sans-serif": ["Arial", "Liberation Sans", "DejaVu Sans"],
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
    """Energy by component, DRAM traffic, roofline and sensitivity as SVG and PDF; the paths written."""
    drawings = {
        "energy": _energy(tables),
        "traffic": _traffic(tables),
        "roofline": _roofline(tables, machine),
        "sensitivity": _sensitivity(tables),
    }
    target = Path(folder)
    written = []
    try:
        target.mkdir(parents=True, exist_ok=True)
        for name, drawing in drawings.items():
            for suffix in FORMATS:
                path = target / f"{name}.{suffix}"
                with _styled():
                    drawing.savefig(path, metadata={"Date": None} if suffix == "svg" else {"CreationDate": None})
                written.append(path)
    except OSError as error:
        raise DchwError(f"{target}: cannot be written ({error}); choose another folder") from None
    return written


@contextmanager
def _styled() -> Iterator[None]:
    try:
        import matplotlib
    except ImportError:
        raise DchwError(
            "figures: expected matplotlib for SVG and PDF; it is not installed; install the extra: pip install "
            "'dchw[plots]'"
        ) from None
    with matplotlib.rc_context(cast(Any, _STYLE)):
        yield


@contextmanager
def _canvas(height: float) -> Iterator[tuple[Figure, Axes]]:
    """An empty figure of one column; no window system is touched."""
    with _styled():
        from matplotlib.figure import Figure as Canvas

        figure = Canvas(figsize=(WIDTH_INCHES, height), layout="constrained")
        yield figure, figure.add_subplot()


def _energy(tables: ReportTables) -> Figure:
    totals = tables.components.groupby("storage")[["energy_low_pj", "energy_pj", "energy_high_pj"]].sum()
    totals = totals.loc[list(tables.comparison["storage"])] * 1e-12
    factor, name = prefix(totals["energy_pj"])
    with _canvas(2.2) as (figure, axes):
        _stack(axes, tables.components, "category", "energy_pj", 1e-12 / factor, CATEGORIES, tables)
        low, nominal, high = (totals[column] / factor for column in totals.columns)
        axes.errorbar(
            nominal, range(len(totals)), xerr=[nominal - low, high - nominal], fmt="|", color="black", lw=0.7, capsize=2
        )
        axes.set_xlabel(f"energy of one run ({name}J)")
        _legend(figure, axes, columns=3)
    return figure


def _traffic(tables: ReportTables) -> Figure:
    factor, name = prefix(tables.traffic.groupby("storage")["dram_bytes"].sum())
    with _canvas(2.4) as (figure, axes):
        _stack(axes, tables.traffic, "stream", "dram_bytes", 1 / factor, STREAMS, tables)
        axes.set_xlabel(f"DRAM bytes of one run ({name}B)")
        _legend(figure, axes, columns=3)
    return figure


def _roofline(tables: ReportTables, machine: Machine) -> Figure:
    peak = float(machine.pe_array.macs_per_cycle)
    bandwidth = float(machine.dram.peak_bytes_per_cycle(machine.clock_hz))
    layers = tables.layers.dropna(subset=["macs_per_dram_byte", "macs_per_cycle"])
    ridge = peak / bandwidth
    low = min([*layers["macs_per_dram_byte"], ridge]) / 3
    high = max([*layers["macs_per_dram_byte"], ridge]) * 5
    storages = list(tables.comparison["storage"])
    with _canvas(2.3) as (figure, axes):
        axes.loglog([low, ridge, high], [low * bandwidth, peak, peak], color="black", lw=1)
        ends = []
        for storage, look, marker in ((storages[0], BEFORE, "o"), (storages[-1], AFTER, "D")):
            part = layers[layers["storage"] == storage].set_index("layer")
            ends.append(part)
            face = "none" if marker == "o" else look.colour
            axes.plot(
                part["macs_per_dram_byte"],
                part["macs_per_cycle"],
                ls="none",
                marker=marker,
                ms=4,
                mec=look.colour,
                mfc=face,
                label=storage,
            )
        for layer in ends[0].index.intersection(ends[1].index):
            points = [part.loc[layer, ["macs_per_dram_byte", "macs_per_cycle"]] for part in ends]
            axes.plot(*zip(*points, strict=True), color=GREY, lw=0.5, ls=":", zorder=0)
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
    with _canvas(2.2) as (figure, axes):
        for row, (start, end) in enumerate(zip(low, high, strict=True)):
            look = Look(VERMILLION) if row >= first else Look(GREY, "/")
            axes.barh(row, end - start, left=start, height=0.65, **_fill(look))
        axes.use_sticky_edges = False
        axes.axvline(total / factor, color="black", lw=0.7, ls="--")
        axes.set_yticks(range(len(frame)), [_short(text) for text in frame["assumption"]])
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


def _short(text: str, width: int = 26) -> str:
    """Two lines at most, cut at words."""
    import textwrap

    return "\n".join(textwrap.wrap(text, width, max_lines=2, placeholder=" …"))
