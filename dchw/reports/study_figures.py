"""A study's front and main effects as static figures, in the style of the paper figures; needs the extra ``plots``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from dchw.reports.paper_figures import WIDTH_INCHES, save_drawings, styled
from dchw.reports.study_page import COLOURS, LABELS, StudyPage, main_effect
from dchw.reports.style import GREY
from dchw.studies.columns import BOUND
from dchw.studies.store import INDEX

if TYPE_CHECKING:
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure

FORMATS = ("svg", "pdf", "png")
MARKERS = ("o", "s", "D", "^", "X", "*", "P", "h")
"""What bounds a point, beside its colour."""


def write_study_figures(page: StudyPage, folder: str | Path) -> list[Path]:
    """``front`` and ``effects`` as SVG, PDF and PNG; the paths written."""
    with styled():
        drawings = {"front": _front(page), "effects": _effects(page)}
    return save_drawings(drawings, folder, FORMATS)


def _front(page: StudyPage) -> Figure:
    """The first two objectives on logarithmic axes; dominated points faint."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH_INCHES, 0.8 * WIDTH_INCHES), layout="constrained")
    axes = figure.add_subplot()
    x, y = (*page.objectives, "energy_pj")[:2]
    leading = page.shown[INDEX].isin(page.front[INDEX])
    for place, bound in enumerate(page.bounds):
        mine = page.shown[BOUND] == bound
        look = _look(place)
        faint, strong = page.shown[mine & ~leading], page.shown[mine & leading]
        axes.scatter(faint[x], faint[y], s=8, alpha=0.25, **look)
        axes.scatter(strong[x], strong[y], s=22, label=bound, **look)
    axes.set(xscale="log", yscale="log", xlabel=LABELS.get(x, x), ylabel=LABELS.get(y, y))
    _plain_numbers(axes.xaxis)
    _plain_numbers(axes.yaxis)
    figure.legend(  # beside the points, whose marks it would be taken for among them
        title="bound by",
        loc="outside upper center",
        ncols=3,
        fontsize="small",
        title_fontsize="small",
        frameon=False,
    )
    return figure


def _plain_numbers(axis: Axis) -> None:
    """Ticks of a logarithmic axis as numbers in full: powers of ten say little of figures within one decade."""
    from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

    low, high = axis.get_view_interval()
    steps = (1, 2, 5) if high < 1e3 * low else (1,)
    axis.set_major_locator(LogLocator(subs=steps) if high > 8 * low else MaxNLocator(4))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}" if value >= 1e3 else f"{value:g}"))
    axis.set_minor_locator(NullLocator())


def _look(place: int) -> dict[str, Any]:
    return {"color": COLOURS[place % len(COLOURS)], "marker": MARKERS[place % len(MARKERS)], "linewidths": 0}


def _points(place: int) -> dict[str, Any]:
    return {"color": COLOURS[place % len(COLOURS)], "marker": MARKERS[place % len(MARKERS)], "markersize": 4.7}


def _effects(page: StudyPage) -> Figure:
    """Geometric mean of the first objective at each value of each parameter, with what bounds most points there."""
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    metric = page.objectives[0]
    count = len(page.parameters)
    figure = Figure(figsize=(max(count, 2) * 0.6 * WIDTH_INCHES, 0.7 * WIDTH_INCHES), layout="constrained")
    all_axes = figure.subplots(1, count, sharey=True, squeeze=False)[0]
    for axes, name in zip(all_axes, page.parameters, strict=True):
        values, means, bounds = main_effect(page.sample, name, metric)
        labels = [Path(value).stem if name == "network" else value for value in values]
        axes.plot(labels, means, color=GREY, linewidth=0.8, zorder=1)
        for at, bound in enumerate(bounds):
            place = page.bounds.index(bound)
            axes.plot([at], means[at], **_points(place))
        axes.set(xlabel=name, yscale="log")
        axes.tick_params(axis="x", rotation=45 if max(map(len, labels)) > 6 else 0)
    all_axes[0].set_ylabel(LABELS.get(metric, metric))
    _plain_numbers(all_axes[0].yaxis)
    named = {bound: Line2D([], [], linestyle="", **_points(place)) for place, bound in enumerate(page.bounds)}
    figure.legend(
        named.values(),
        named.keys(),
        title="most are bound by",
        loc="outside upper center",
        ncols=min(len(named), 2 * count),
        fontsize="small",
        title_fontsize="small",
        frameon=False,
    )
    return figure
