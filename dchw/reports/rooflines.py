"""The roofline of a report: a panel for each slanted roof (DRAM, decoding, both SRAMs) under a flat one, the array."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from dchw.reports import pieces
from dchw.reports.drawing import Drawing, ends
from dchw.reports.pieces import Spec
from dchw.reports.report_tables import ReportTables
from dchw.reports.style import AFTER, BEFORE, BLACK, GREY, number
from dchw.run.roofs import Roof, machine_roofs

if TYPE_CHECKING:
    import pandas as pd

    from dchw.machines.machine import Machine

MAX_LABELS = 6
"""Layers that are named at their points."""
_PANEL, _GAP = 0.43, 0.14


def roofline(tables: ReportTables, machine: Machine) -> Drawing:
    """What each layer reaches against every roof of the machine, for the first and the last storage format."""
    before, after = ends(tables)
    shown = tables.roofs[tables.roofs["storage"].isin([before, after]) & (tables.roofs["macs_per_cycle"] > 0)]
    roofs = [roof for roof in machine_roofs(machine) if roof.name in set(shown["roof"])]
    peak = float(machine.pe_array.macs_per_cycle)
    lowest = min([peak / 10, *shown["macs_per_cycle"]])
    rows = math.ceil(len(roofs) / 2)
    layout = pieces.axes(0, "", height=110 + 300 * rows)
    layout["margin"] |= {"r": 16}
    layout["legend"] |= {"y": 1, "yref": "container", "yanchor": "top"}
    data: list[Spec] = []
    notes: list[Spec] = []
    for place, roof in enumerate(roofs):
        axis = "" if place == 0 else str(place + 1)
        points = shown[shown["roof"] == roof.name]
        ridge = peak / roof.per_cycle
        low, high = min([*points["intensity"], ridge]) / 3, max([*points["intensity"], ridge]) * 3
        reached = [{**trace, "showlegend": place == 0} for trace in _points(points, before, after)]
        traces = [_roof(roof, peak, low, high), *_moves(points, before, after), *reached]
        data += [{**trace, "xaxis": f"x{axis}", "yaxis": f"y{axis}"} for trace in traces]
        left, top = (place % 2) * (_PANEL + _GAP), 1 - (place // 2) / rows
        layout[f"xaxis{axis}"] = _axis(f"MACs per {roof.unit}", [low, high]) | {
            "domain": [left, left + _PANEL],
            "anchor": f"y{axis}",
        }
        layout[f"yaxis{axis}"] = _axis("" if place % 2 else "useful MACs per cycle", [lowest / 2, peak * 4]) | {
            "domain": [top - 1 / rows + 0.16 / rows, top - 0.06],
            "anchor": f"x{axis}",
        }
        notes.append(
            pieces.note(
                f"<b>{roof.title}</b>, {number(roof.per_cycle)} {roof.each}/cycle",
                left,
                top - 0.055,
                xref="paper",
                yref="paper",
                xanchor="left",
                yanchor="bottom",
            )
        )
    layout["annotations"] = notes
    caption = (
        "Rooflines: what each layer reaches against the array’s peak (flat, "
        f"{number(peak, 4)} MACs a cycle) and against what feeds it (slanted): bytes "
        "from the DRAM, weights out of the decode units, bytes out of each SRAM, stored as "
        f"<code>{before}</code> (circles) and as <code>{after}</code> (diamonds). A layer on a roof is held back by "
        "it; below all of them it waits for latency. Useful MACs are products with a non-zero weight, without those "
        "that a format skips with a column of zero activations. A layer’s time is what it adds to the run, or the work "
        "of its busiest resource where that is more because it began earlier: none lies over a roof."
    )
    return Drawing("roofline", caption, {"data": data, "layout": layout})


def _axis(title: str, ends: list[float]) -> Spec:
    return {
        "type": "log",
        "title": {"text": title, "standoff": 8, "font": {"size": 12}},
        "dtick": 1,
        "autorange": False,
        "range": [math.log10(end) for end in ends],
        "automargin": True,
        "ticks": "outside",
        "zeroline": False,
    }


def _roof(roof: Roof, peak: float, low: float, high: float) -> Spec:
    ridge = peak / roof.per_cycle
    return {
        "type": "scatter",
        "mode": "lines",
        "name": f"{roof.title} roof",
        "x": [low, ridge, high],
        "y": [low * roof.per_cycle, peak, peak],
        "line": {"color": BLACK, "width": 2},
        "hoverinfo": "skip",
        "showlegend": False,
    }


def _moves(points: pd.DataFrame, before: str, after: str) -> list[Spec]:
    """A dotted line from where a layer was to where it is."""
    found = {name: points[points["storage"] == name].set_index("layer") for name in (before, after)}
    lines: list[Spec] = []
    for layer in found[before].index.intersection(found[after].index) if before != after else ():
        ends_of = [found[name].loc[layer, ["intensity", "macs_per_cycle"]] for name in (before, after)]
        lines.append(
            {
                "type": "scatter",
                "mode": "lines",
                "x": [float(end["intensity"]) for end in ends_of],
                "y": [float(end["macs_per_cycle"]) for end in ends_of],
                "line": {"color": GREY, "width": 1, "dash": "dot"},
                "hoverinfo": "skip",
                "showlegend": False,
            }
        )
    return lines


def _points(points: pd.DataFrame, before: str, after: str) -> list[Spec]:
    """A trace of points for each of the two formats, or the one, the last of them named where they are few."""
    traces: list[Spec] = []
    looks = {before: (BEFORE, "circle-open")} | {after: (AFTER, "diamond")}
    for storage, (look, symbol) in looks.items():
        part = points[points["storage"] == storage]
        named = storage == after and len(part) <= MAX_LABELS
        traces.append(
            {
                "type": "scatter",
                "mode": "markers+text" if named else "markers",
                "name": storage,
                "legendgroup": storage,
                "x": pieces.plain(part["intensity"]),
                "y": pieces.plain(part["macs_per_cycle"]),
                "text": list(part["layer"]),
                "textposition": ["top center" if place % 2 else "bottom center" for place in range(len(part))],
                "marker": {
                    "symbol": symbol,
                    "size": 10,
                    "color": look.colour,
                    "line": {"width": 2, "color": look.colour},
                },
                "hovertemplate": "%{text}: %{x:.3g}, %{y:.3g} MAC/cycle<extra>" + storage + "</extra>",
            }
        )
    return traces
