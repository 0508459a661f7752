"""The cliff drawn: DRAM bytes of an inference against the size of the weight SRAM, a line for each storage format."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from dchw.files import write_frame
from dchw.quantities import DchwError, format_quantity
from dchw.reports.paper_figures import canvas, save_drawings
from dchw.reports.plots import figure_of
from dchw.reports.style import GREY, SERIES
from dchw.run.cliff import Cliff

if TYPE_CHECKING:
    import plotly.graph_objects as go
    from matplotlib.figure import Figure

SUFFIXES = (".svg", ".pdf", ".png", ".csv")
X_LABEL, Y_LABEL = "weight SRAM", "DRAM bytes of an inference"
MARKERS = ("o", "D", "s", "^", "v", "P", "X", "h")


def cliff_plot(found: Cliff) -> go.Figure:
    """A plotly figure: every inference but the first as a full line, the first as a dotted one."""
    data: list[dict[str, Any]] = []
    for place, (storage, rows) in enumerate(found.frame.groupby("storage", sort=False)):
        colour = SERIES[place % len(SERIES)].colour
        sizes = list(rows["weight_sram_bytes"])
        for column, name, dash in (("warm_dram_bytes", "others", "solid"), ("cold_dram_bytes", "first", "dot")):
            data.append(
                {
                    "type": "scatter",
                    "mode": "lines+markers" if dash == "solid" else "lines",
                    "x": sizes,
                    "y": list(rows[column]),
                    "name": f"{storage}, {name}",
                    "line": {"color": colour, "dash": dash},
                    "text": [_size(size) for size in sizes],
                    "hovertemplate": f"{storage}, {name}: %{{y:,}} B with %{{text}}<extra></extra>",
                }
            )
    sizes = sorted(set(found.frame["weight_sram_bytes"]))
    layout: dict[str, Any] = {
        "xaxis": {"type": "log", "title": {"text": X_LABEL}, "tickvals": sizes, "ticktext": [_size(s) for s in sizes]},
        "yaxis": {"type": "log", "title": {"text": f"{Y_LABEL} (B)"}},
        "height": 380,
        "shapes": [
            {
                "type": "line",
                "x0": found.size_bytes,
                "x1": found.size_bytes,
                "yref": "paper",
                "y0": 0,
                "y1": 1,
                "line": {"color": GREY, "dash": "dash", "width": 1},
            }
        ],
    }
    return figure_of({"data": data, "layout": layout}, f"{found.network} on {found.machine}: DRAM bytes, weight SRAM")


def write_cliff(found: Cliff, path: Path) -> Path:
    """The cliff as SVG, PDF or PNG, or its rows as CSV, after the path's suffix."""
    if path.suffix not in SUFFIXES:
        raise DchwError(
            f"{path}: expected a name that ends in {', '.join(SUFFIXES)}; got {path.suffix or 'no ending'!r}"
        )
    if path.suffix == ".csv":
        write_frame(found.frame, path)
        return path
    return save_drawings({path.stem: _drawing(found)}, path.parent, (path.suffix[1:],))[0]


def _drawing(found: Cliff) -> Figure:
    with canvas(2.5) as (figure, axes):
        for place, (storage, rows) in enumerate(found.frame.groupby("storage", sort=False)):
            colour = SERIES[place % len(SERIES)].colour
            sizes = list(rows["weight_sram_bytes"])
            warm, cold = list(rows["warm_dram_bytes"]), list(rows["cold_dram_bytes"])
            axes.plot(sizes, warm, color=colour, marker=MARKERS[place % len(MARKERS)], ms=3.5, lw=1, label=str(storage))
            axes.plot(sizes, cold, color=colour, lw=0.8, ls=":")
        axes.set_xscale("log", base=2)
        axes.set_yscale("log")
        shown = sorted(set(found.frame["weight_sram_bytes"]))
        shown = [size for size in shown if size & (size - 1) == 0][:: max(1, len(shown) // 6)]
        axes.set_xticks(shown, [_size(size) for size in shown], rotation=30, ha="right")
        axes.minorticks_off()
        axes.axvline(found.size_bytes, color=GREY, lw=0.7, ls="--")
        axes.plot([], [], color=GREY, lw=0.8, ls=":", label="first inference")
        axes.plot([], [], color=GREY, lw=0.7, ls="--", label=found.machine)
        axes.set_xlabel(X_LABEL)
        axes.set_ylabel(f"{Y_LABEL} (B)")
        handles, labels = axes.get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside upper center", ncols=2, handlelength=1.8, columnspacing=1.0)
    return figure


def _size(size_bytes: int) -> str:
    return format_quantity(int(size_bytes), "size")
