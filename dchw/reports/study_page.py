"""A study's folder as one self-contained HTML page: front, coordinates, effects, a table, and a point to choose.

The page holds every point of a small study; of a large one an even sample and the front, or an even part of that, which
it says (`dchw.studies.thinning`), so that neither memory nor the file grow with the study.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dchw.quantities import ConfigError, parse_magnitude
from dchw.reports.style import BLUE, GREEN, GREY, ORANGE, PURPLE, SKY, VERMILLION, YELLOW
from dchw.reports.templating import script_json, template, write_page
from dchw.studies import reading
from dchw.studies.columns import BOUND, METRICS
from dchw.studies.points import NETWORK
from dchw.studies.store import INDEX
from dchw.studies.study import study_of
from dchw.studies.thinning import Shown, shown_rows

if TYPE_CHECKING:
    import pandas as pd

MOST_POINTS = 4_000
"""Points that a page holds besides its front."""
MOST_FRONT = 1_000
"""Points of its fronts that it holds."""
MOST_CELLS, MOST_TICKS = 20, 12
"""Rows or columns of cells that a parameter has, and values that are named on an axis."""
MOST_LABELS = 6
"""Points of a front that are labelled with their values; every point is named where the pointer rests on it."""
COLOURS = (BLUE, ORANGE, GREEN, VERMILLION, SKY, PURPLE, YELLOW, GREY)
SYMBOLS = ("circle", "square", "diamond", "triangle-up", "x", "star", "cross", "hexagon")
"""Colour and shape of what bounds a point, together."""
LABELS = {"latency_us": "latency (us)", "energy_pj": "energy (pJ)", "area_mm2": "area (mm2)"}
Spec = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class StudyPage:
    """What a page shows of a study."""

    settings: dict[str, Any]
    points: int
    """Rows of the study."""
    failed: int
    good: int
    """Rows that ran and meet the study's conditions."""
    first_error: str
    shown: pd.DataFrame
    """Good points: all, or an even sample and the front or a part of it."""
    sample: pd.DataFrame
    """The sample alone: what effects are taken over."""
    every: int
    """Of how many points one is in that sample."""
    front: pd.DataFrame
    """The points shown that lie on the front of their network."""
    front_size: int
    """How many there are, shown or not."""
    objectives: list[str]
    parameters: list[str]
    """What differs between the points shown."""
    bounds: list[str]
    """What bounds any of them, most frequent first."""
    choices: list[reading.LikelyChoice]
    """One for every network."""


def study_page(folder: str | Path) -> StudyPage:
    """Read a study's folder, window by window; raises ConfigError where no point can be shown."""
    store = study_of(folder)
    settings = json.loads((Path(folder) / "study.json").read_text(encoding="utf-8"))["study"]
    shown = _short_names(shown_rows(store, MOST_POINTS, MOST_FRONT), settings["networks"])
    if shown.rows.empty:
        why = f"; the first failed with: {shown.first_error}" if shown.first_error else ""
        raise ConfigError(f"{folder}: expected points that ran and meet the study's conditions; got none{why}")
    objectives = reading.objectives_of(shown.rows)
    thinned = len(shown.front) < sum(shown.front_sizes.values())
    choices = []
    for name, rows in (shown.front if thinned else shown.rows).groupby(NETWORK, sort=False):
        choice = reading.likely_choice(rows, shown.rows, shown.front_sizes[str(name)])
        choices += [choice] if choice is not None else []
    return StudyPage(
        settings=settings,
        points=shown.points,
        failed=shown.failed,
        good=shown.good,
        first_error=shown.first_error,
        shown=shown.rows,
        sample=shown.sample,
        every=shown.every,
        front=shown.front.sort_values([objectives[0], INDEX]),
        front_size=sum(shown.front_sizes.values()),
        objectives=objectives,
        parameters=reading.telling(shown.rows),
        bounds=[str(bound) for bound in shown.rows[BOUND].value_counts().index],
        choices=choices,
    )


def _short_names(shown: Shown, networks: Sequence[str]) -> Shown:
    """Networks by the names of their files alone, where these tell them apart."""
    short = {name: Path(name).stem for name in networks}
    if len(set(short.values())) < len(short):
        return shown
    rows, sample, front = (
        frame.assign(**{NETWORK: frame[NETWORK].map(short)}) for frame in (shown.rows, shown.sample, shown.front)
    )
    sizes = {short[name]: size for name, size in shown.front_sizes.items()}
    return replace(shown, rows=rows, sample=sample, front=front, front_sizes=sizes)


def write_study_report(path: str | Path, folder: str | Path, *, command: str) -> StudyPage:
    """Write the page of a study; ``command`` repeats it."""
    from plotly.offline import get_plotlyjs

    page = study_page(folder)
    drawn = {"front": front_figure(page), "effects": effects_figure(page), "coordinates": coordinates_figure(page)}
    if len(page.parameters) > 1:
        drawn["interaction"] = interaction_figure(page)
    columns = [*page.parameters, *(m for m in METRICS if page.shown[m].notna().any()), BOUND]
    rows = [[_plain(value) for value in row] for row in page.shown[columns].itertuples(index=False)]
    text = template("study.html.j2").render(
        page=page,
        thinned=_thinned(page),
        command=command,
        figures=drawn,
        columns=len(columns),
        content=script_json({"figures": drawn, "columns": columns, "rows": rows, "front": _places(page)}),
        plotly=get_plotlyjs(),
        captions=_captions(page),
    )
    write_page(text, path)
    return page


def front_figure(page: StudyPage) -> Spec:
    """The first two objectives; the front's points large, named and joined, dominated ones faint."""
    x, y = (*page.objectives, "energy_pj")[:2]
    on_front = page.shown[INDEX].isin(page.front[INDEX])
    traces: list[Spec] = []
    for place, bound in enumerate(page.bounds):
        for front, opacity, size in ((False, 0.25, 7), (True, 1.0, 11)):
            rows = page.shown[(page.shown[BOUND] == bound) & (on_front == front)]
            if rows.empty:
                continue
            values = rows[page.parameters].astype(str)
            few = front and len(page.front) <= MOST_LABELS
            traces.append(
                {
                    "type": "scatter",
                    "mode": "markers+text" if few else "markers",
                    "name": f"{bound}{'' if front else ', dominated'}",
                    "x": rows[x].tolist(),
                    "y": rows[y].tolist(),
                    "customdata": reading.point_names(rows, page.parameters),
                    "text": values.agg(" / ".join, axis=1).tolist(),
                    "textposition": "top right",
                    "cliponaxis": False,
                    "hovertemplate": "%{customdata}<br>%{x:.4g}, %{y:.4g}<extra>bound by " + bound + "</extra>",
                    "opacity": opacity,
                    "marker": {"size": size, **_look(place)},
                }
            )
    return {"data": traces, "layout": _layout(LABELS[x], LABELS[y], log=True)}


def effects_figure(page: StudyPage) -> Spec:
    """Of every parameter, the first objective's geometric mean at each value, coloured by what mostly bounds there."""
    metric = page.objectives[0]
    traces: list[Spec] = []
    layout = _layout("", LABELS[metric], log=False)
    layout["grid"] = {"rows": 1, "columns": len(page.parameters), "pattern": "independent"}
    layout["showlegend"] = False
    for at, name in enumerate(page.parameters):
        values, means, bounds = main_effect(page.sample, name, metric)
        suffix = "" if at == 0 else str(at + 1)
        colours = [COLOURS[page.bounds.index(bound) % len(COLOURS)] for bound in bounds]
        symbols = [SYMBOLS[page.bounds.index(bound) % len(SYMBOLS)] for bound in bounds]
        traces.append(
            {
                "type": "scatter",
                "mode": "lines+markers",
                "x": values,
                "y": means,
                "text": [f"bound by {bound}" for bound in bounds],
                "line": {"color": GREY},
                "marker": {"size": 10, "color": colours, "symbol": symbols},
                "xaxis": f"x{suffix}",
                "yaxis": f"y{suffix}",
            }
        )
        layout[f"xaxis{suffix}"] = {"title": {"text": name, "standoff": 12}, "type": "category", "automargin": True}
        layout[f"yaxis{suffix}"] = {"rangemode": "tozero", "title": {"text": LABELS[metric] if at == 0 else ""}}
    return {"data": traces, "layout": layout}


def main_effect(shown: pd.DataFrame, name: str, metric: str) -> tuple[list[str], list[float], list[str]]:
    """Values of a parameter in order, the metric's geometric mean at each, and what bounds most points there."""
    groups = {str(value): rows for value, rows in shown.groupby(shown[name].astype(str), sort=False)}
    values = sorted(groups, key=lambda value: (parse_magnitude(_number(value)) or 0.0, value))
    means = [float(np.exp(np.log(groups[value][metric].to_numpy(np.float64)).mean())) for value in values]
    bounds = [str(groups[value][BOUND].value_counts().index[0]) for value in values]
    return values, means, bounds


def strongest(page: StudyPage) -> list[str]:
    """Parameters, the one with the widest main effect on the first objective first."""

    def spread(name: str) -> float:
        means = main_effect(page.sample, name, page.objectives[0])[1]
        return max(means) / min(means)

    return sorted(page.parameters, key=spread, reverse=True)


def interaction_figure(page: StudyPage) -> Spec:
    """The two strongest parameters against each other: the least of the first objective in each cell."""
    metric = page.objectives[0]
    across, down = strongest(page)[:2]
    bins = {name: _bins(main_effect(page.sample, name, metric)[0]) for name in (across, down)}
    columns, rows = (list(dict.fromkeys(bins[name].values())) for name in (across, down))
    places = [page.sample[name].astype(str).map(bins[name]) for name in (down, across)]
    cells = page.sample.groupby(places)[metric].min()
    grid = [[float(cells.get((row, column), np.nan)) for column in columns] for row in rows]
    text = [["" if value != value else f"{value:.3g}" for value in line] for line in grid]
    plain = [[None if value != value else value for value in line] for line in grid]
    heat = {"type": "heatmap", "x": columns, "y": rows, "z": plain, "text": text, "texttemplate": "%{text}"}
    layout = _layout(across, down, log=False)
    layout["xaxis"]["type"] = layout["yaxis"]["type"] = "category"
    return {"data": [{**heat, "colorscale": "Cividis", "reversescale": True}], "layout": layout}


def _bins(values: Sequence[str]) -> dict[str, str]:
    """The cell of each value: its own, or, of more than `MOST_CELLS`, one that it shares with its neighbours."""
    parts = np.array_split(np.array(values, object), min(len(values), MOST_CELLS))
    return {value: str(part[0]) if len(part) == 1 else f"{part[0]} to {part[-1]}" for part in parts for value in part}


def _even(count: int, most: int) -> list[int]:
    """At most so many places, evenly."""
    places: list[int] = np.linspace(0, count - 1, min(count, most)).round().astype(int).tolist()
    return places


def coordinates_figure(page: StudyPage) -> Spec:
    """A line a point through its parameters and objectives."""
    axes: list[Spec] = []
    for name in (*page.parameters, *page.objectives):
        column = page.shown[name]
        if name in page.objectives:
            axes.append({"label": LABELS[name], "values": column.tolist()})
            continue
        values = main_effect(page.shown, name, page.objectives[0])[0]
        codes = {value: place for place, value in enumerate(values)}
        named = [values[place] for place in _even(len(values), MOST_TICKS)]
        ticks = {"tickvals": [codes[value] for value in named], "ticktext": named}
        axes.append({"label": name, "values": [codes[str(value)] for value in column], **ticks})
    places = [page.bounds.index(str(bound)) for bound in page.shown[BOUND]]
    scale = [[i / max(len(page.bounds) - 1, 1), COLOURS[i % len(COLOURS)]] for i in range(len(page.bounds))]
    scale = scale if len(scale) > 1 else [[0, COLOURS[0]], [1, COLOURS[0]]]
    line = {"color": places, "colorscale": scale, "cmin": 0, "cmax": max(len(page.bounds) - 1, 1)}
    layout = _layout("", "", log=False)
    layout["margin"] = {"l": 80, "r": 60, "t": 60, "b": 30}
    return {"data": [{"type": "parcoords", "dimensions": axes, "line": line}], "layout": layout}


def _thinned(page: StudyPage) -> str:
    """What of a study's points the page leaves out, in words; empty where it holds all."""
    if len(page.shown) == page.good:
        return ""
    front = f"all {page.front_size:,} of the front"
    if len(page.front) < page.front_size:
        front = (
            f"{len(page.front):,} of the {page.front_size:,} on the front, evenly along {LABELS[page.objectives[0]]} "
            "with the best in each objective"
        )
    return (
        f"Thinned: the figures and the table hold {len(page.shown):,} of {page.good:,} points: "
        f"one of {page.every:,}, spread evenly, and {front}. Effects are those of the sample; results.parquet has all."
    )


def _captions(page: StudyPage) -> dict[str, str]:
    x = " and ".join(LABELS[name] for name in (*page.objectives, "energy_pj")[:2])
    over = ", ".join(LABELS[name] for name in page.objectives)
    across = strongest(page)
    bounds = ", ".join(f"{bound} ({COLOUR_NAMES[i % len(COLOURS)]})" for i, bound in enumerate(page.bounds))
    return {
        "front": f"Points by {x}, on logarithmic axes. Large: the Pareto front over {over}. Faint: dominated.",
        "effects": f"Main effect of each parameter: geometric mean of {LABELS[page.objectives[0]]} over all points "
        f"that share the value. Colour and shape: what bounds most of them: {bounds}.",
        "interaction": f"The two parameters with the widest effect: least {LABELS[page.objectives[0]]} at each pair of "
        f"{' and '.join(across[:2])}{_left_out(page, across[:2])}.",
        "coordinates": f"Every point shown as a line; drag along an axis to pick. Colour: what bounds it: {bounds}.",
    }


def _left_out(page: StudyPage, names: Sequence[str]) -> str:
    counts = {name: page.sample[name].nunique() for name in names}
    cut = [f"{count:,} values of {name}" for name, count in counts.items() if count > MOST_CELLS]
    return f"; {' and '.join(cut)} share {MOST_CELLS} cells" if cut else ""


COLOUR_NAMES = ("blue", "orange", "green", "vermillion", "sky", "purple", "yellow", "grey")


def _places(page: StudyPage) -> list[int]:
    """Rows of the table that lie on the front."""
    return np.flatnonzero(page.shown[INDEX].isin(page.front[INDEX])).tolist()


def _look(place: int) -> Spec:
    return {"color": COLOURS[place % len(COLOURS)], "symbol": SYMBOLS[place % len(SYMBOLS)]}


def _layout(x: str, y: str, *, log: bool) -> Spec:
    axis: Spec = {"type": "log"} if log else {}
    return {
        "height": 430,
        "margin": {"l": 70, "r": 20, "t": 20, "b": 60},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "xaxis": {"title": {"text": x}, "automargin": True, **axis},
        "yaxis": {"title": {"text": y}, "automargin": True, **axis},
        "legend": {"orientation": "h", "y": 1.12},
    }


def _number(text: str) -> object:
    try:
        return float(text)
    except ValueError:
        return text


def _plain(value: Any) -> object:
    if value is None or value != value:
        return None
    return value.item() if hasattr(value, "item") else value
