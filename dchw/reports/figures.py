"""The figures of a report as plotly descriptions (plain mappings), drawn from the tables alone.

Colour never carries meaning alone: bars differ in pattern too, points in shape, lines in dash, and values are written.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from dchw.reports import pieces
from dchw.reports.activity import SMALLEST_SHARE, shown_activity
from dchw.reports.drawing import Drawing, ends, storages
from dchw.reports.pieces import Spec
from dchw.reports.report_tables import WHOLE_RUN, ReportTables
from dchw.reports.rooflines import roofline
from dchw.reports.style import (
    AFTER,
    BEFORE,
    BLACK,
    CATEGORIES,
    GREY,
    SERIES,
    STATES,
    STREAMS,
    VERMILLION,
    Look,
    number,
    prefix,
    quantity,
)

if TYPE_CHECKING:
    import pandas as pd

    from dchw.machines.machine import Machine

MAX_ASSUMPTIONS = 8


def draw(tables: ReportTables, machine: Machine) -> dict[str, Drawing]:
    """All figures of a comparison by key."""
    drawings = [
        _components(tables),
        _layers_by_component(tables),
        _traffic(tables),
        _streams(tables),
        roofline(tables, machine),
        _activity(tables),
        _gantt(tables),
        _sensitivity(tables),
    ]
    if not tables.frames.empty:
        drawings.append(_frames(tables))
    return {drawing.key: drawing for drawing in drawings}


def _components(tables: ReportTables) -> Drawing:
    factor, unit = _energy_scale(tables.components.groupby("storage")["energy_pj"].sum())
    data = [
        pieces.bars(_pivot(tables.components, "category", name, "energy_pj", tables) / factor, name, look, unit)
        for name, look in _present(CATEGORIES, tables.components["category"])
    ]
    ends = ["energy_low_pj", "energy_pj", "energy_high_pj"]
    totals = tables.components.groupby("storage")[ends].sum().loc[storages(tables)] / factor
    low, nominal, high = (totals[end] for end in ends)
    data.append(
        {
            "type": "scatter",
            "mode": "markers",
            "name": "total, low to high",
            "y": list(totals.index),
            "x": pieces.plain(nominal),
            "marker": {"symbol": "line-ns", "size": 9, "line": {"width": 2, "color": BLACK}, "color": BLACK},
            "error_x": {
                "type": "data",
                "symmetric": False,
                "array": pieces.plain(high - nominal),
                "arrayminus": pieces.plain(nominal - low),
                "thickness": 1.4,
                "width": 4,
                "color": BLACK,
            },
            "hovertemplate": f"%{{y}}: %{{x:.4g}} {unit}<extra>total</extra>",
        }
    )
    texts = [
        f"  {number(mid)} ({number(least)} – {number(most)})"
        for least, mid, most in zip(low, nominal, high, strict=True)
    ]
    data.append(pieces.end_labels(list(totals.index), pieces.plain(high), texts))
    layout = pieces.axes(len(totals), f"energy of one run ({unit})")
    layout["margin"] |= {"r": 130}
    caption = (
        "Energy of one run by component, for every storage format. Whiskers span the total with all figures at their "
        "low and at their high ends."
    )
    return Drawing("components", caption, {"data": data, "layout": layout})


def _layers_by_component(tables: ReportTables) -> Drawing:
    before, after = ends(tables)
    frame = tables.layer_energy
    order = [name for name in _layer_order(tables) if name in set(frame["layer"])]
    data: list[Spec] = []
    titles = []
    for axis, storage in (("", before), ("2", after)):
        part = frame[frame["storage"] == storage]
        factor, unit = _energy_scale(part.groupby("layer")["energy_pj"].sum())
        titles.append(f"energy ({unit})")
        for name, look in _present(CATEGORIES, part["category"]):
            values = part[part["category"] == name].set_index("layer")["energy_pj"].reindex(order, fill_value=0.0)
            trace = pieces.bars(values / factor, name, look, unit)
            trace |= {"xaxis": f"x{axis}", "legendgroup": name, "legendrank": list(CATEGORIES).index(name)}
            data.append({**trace, "showlegend": all(name != other["name"] for other in data)})
    layout = pieces.panels(len(order), titles, before, after)
    caption = (
        f"Energy of every layer by component, stored as <code>{before}</code> and as <code>{after}</code>; each panel "
        "has its own scale."
    )
    return Drawing("layers_by_component", caption, {"data": data, "layout": layout})


def _traffic(tables: ReportTables) -> Drawing:
    totals = tables.traffic.groupby("storage")["dram_bytes"].sum()
    factor, unit = prefix(totals)
    data = [
        pieces.bars(
            _pivot(tables.traffic, "stream", name, "dram_bytes", tables) / factor,
            name.replace("_", " "),
            look,
            f"{unit}B",
        )
        for name, look in _present(STREAMS, tables.traffic["stream"])
    ]
    ends = totals.reindex(storages(tables), fill_value=0)
    data.append(
        pieces.end_labels(list(ends.index), pieces.plain(ends / factor), [f"  {quantity(size, 'B')}" for size in ends])
    )
    layout = pieces.axes(len(ends), f"bytes moved by DRAM commands ({unit}B)")
    caption = "DRAM traffic of one run by stream, reads and writes, whole bursts."
    return Drawing("traffic", caption, {"data": data, "layout": layout})


def _streams(tables: ReportTables) -> Drawing:
    """What the traffic consists of, whatever its size."""
    totals = tables.traffic.groupby("storage")["dram_bytes"].sum().reindex(storages(tables))
    data = [
        pieces.bars(
            100 * _pivot(tables.traffic, "stream", name, "dram_bytes", tables) / totals,
            name.replace("_", " "),
            look,
            "%",
        )
        for name, look in _present(STREAMS, tables.traffic["stream"])
    ]
    layout = pieces.axes(len(totals), "share of the bytes moved by DRAM commands (%)")
    layout["xaxis"] |= {"range": [0, 100]}
    caption = "The same traffic as shares of each storage format’s own: which streams the bytes are."
    return Drawing("streams", caption, {"data": data, "layout": layout})


def _activity(tables: ReportTables) -> Drawing:
    before, after = ends(tables)
    frame, order = shown_activity(tables)
    data = []
    for axis, storage in (("", before), ("2", after)):
        part = frame[frame["storage"] == storage].set_index("label")
        for state, look in STATES.items():
            values = (100 * part[f"{state}_share"]).reindex(order)
            trace = pieces.bars(values, state, look, "%")
            data.append({**trace, "xaxis": f"x{axis}", "legendgroup": state, "showlegend": not axis})
    layout = pieces.panels(len(order), ["share of the run (%)"] * 2, before, after)
    caption = (
        "Where time goes: cycles in which each kind of node works, is held up by the next one, or has nothing to do "
        "(mean over the nodes of a kind, their number in brackets). The longest busy bar is the bottleneck; kinds that "
        f"neither work nor wait for {100 * SMALLEST_SHARE:g} % of either run are left out."
    )
    return Drawing("activity", caption, {"data": data, "layout": layout})


def _gantt(tables: ReportTables) -> Drawing:
    before, after = ends(tables)
    order = [name for name in _layer_order(tables) if name != WHOLE_RUN]
    factor, unit = prefix(tables.layers["finish_us"] * 1e-6)
    data = []
    for storage, look in ((before, BEFORE), (after, AFTER)):
        part = tables.layers[tables.layers["storage"] == storage].set_index("layer").reindex(order)
        finish, added = (part[f"{name}_us"] * 1e-6 / factor for name in ("finish", "added"))
        trace = pieces.bars(added, storage, look, f"{unit}s")
        trace |= {"base": pieces.plain(finish - added), "offsetgroup": storage}
        data.append({**trace, "hovertemplate": "%{y}: %{base:.4g} to %{x:.4g} " + unit + "s"})
    row = 40 if len(order) <= 10 else 24
    layout = pieces.axes(len(order), f"time since the first request ({unit}s)", row=row)
    layout["barmode"] = "group"
    caption = (
        "When each layer holds the run: the time it adds, from the last finish of the layers before it to its own. Its "
        "weights are fetched before that, while earlier layers compute."
    )
    return Drawing("gantt", caption, {"data": data, "layout": layout})


def _sensitivity(tables: ReportTables) -> Drawing:
    _, after = ends(tables)
    frame = tables.sensitivity[tables.sensitivity["storage"] == after].head(MAX_ASSUMPTIONS)
    total = float(tables.comparison["energy_nj"].iloc[-1]) * 1e3
    factor, unit = _energy_scale([*frame["total_high_pj"], total])
    labels = [
        pieces.wrapped(f"{name} ({how})") for name, how in zip(frame["assumption"], frame["confidence"], strict=True)
    ]
    swing = (frame["total_high_pj"] - frame["total_low_pj"]) / factor
    colours = [VERMILLION if rank < 3 else GREY for rank in range(len(frame))]
    data: list[Spec] = [
        {
            "type": "bar",
            "orientation": "h",
            "y": labels,
            "x": pieces.plain(swing),
            "base": pieces.plain(frame["total_low_pj"] / factor),
            "marker": {
                "color": colours,
                "pattern": {
                    "shape": ["" if rank < 3 else "/" for rank in range(len(frame))],
                    "size": 7,
                    "solidity": 0.3,
                },
            },
            "showlegend": False,
            "hovertemplate": "%{y}: %{base:.4g} to %{x:.4g} " + unit + "<extra></extra>",
        },
        pieces.end_labels(
            labels,
            pieces.plain(frame["total_high_pj"] / factor),
            [
                f"  {number(low)} to {number(high)}"
                for low, high in zip(frame["total_low_pj"] / factor, frame["total_high_pj"] / factor, strict=True)
            ],
        ),
    ]
    layout = pieces.axes(len(frame), f"energy of one run ({unit})", row=38)
    layout["shapes"] = [
        {
            "type": "line",
            "x0": total / factor,
            "x1": total / factor,
            "y0": 0,
            "y1": 1,
            "yref": "paper",
            "line": {"width": 1.5, "dash": "dash", "color": BLACK},
        }
    ]
    layout["annotations"] = [
        pieces.note(f"nominal {number(total / factor)} {unit}", total / factor, 1.0, yref="paper", yanchor="bottom")
    ]
    caption = (
        f"Sensitivity of the energy stored as <code>{after}</code>: one assumption at a time, all others nominal: a "
        "cause of ranges to its low and high end, or a choice of silicon made otherwise. The three that move the total "
        "most are drawn solid. Figures whose source gives no range move nothing."
    )
    return Drawing("sensitivity", caption, {"data": data, "layout": layout})


def _frames(tables: ReportTables) -> Drawing:
    frame = tables.frames.groupby(["storage", "part"], sort=False)["energy_pj"].sum().reset_index()
    storages = list(dict.fromkeys(frame["storage"]))
    totals = frame.groupby("storage", sort=False)["energy_pj"].sum()
    factor, unit = _energy_scale(totals)
    parts = list(dict.fromkeys(frame["part"]))
    data = []
    for part, look in zip(parts, SERIES, strict=False):
        values = frame[frame["part"] == part].set_index("storage")["energy_pj"].reindex(storages, fill_value=0.0)
        data.append(pieces.bars(values / factor, part, look, unit))
    data.append(
        pieces.end_labels(storages, pieces.plain(totals / factor), [f"  {number(v / factor)} {unit}" for v in totals])
    )
    layout = pieces.axes(len(storages), f"energy of one frame ({unit})")
    fps = tables.frames["fps"].iloc[0]
    caption = f"Energy of one frame at {fps:g} frames per second: the run, and what idles until the next one."
    return Drawing("frames", caption, {"data": data, "layout": layout})


def _pivot(frame: pd.DataFrame, key: str, name: str, value: str, tables: ReportTables) -> pd.Series[float]:
    """The values of one segment for every storage format, 0 where it has none."""
    chosen = frame[frame[key] == name].groupby("storage")[value].sum()
    return chosen.reindex(storages(tables), fill_value=0)


def _present(looks: Mapping[str, Look], names: Iterable[str]) -> list[tuple[str, Look]]:
    found = set(names)
    return [(name, look) for name, look in looks.items() if name in found]


def _layer_order(tables: ReportTables) -> list[str]:
    return [*dict.fromkeys(tables.layers["layer"]), WHOLE_RUN]


def _energy_scale(picojoules: Iterable[float]) -> tuple[float, str]:
    """The factor from pJ and the unit that suit some energies."""
    factor, name = prefix(value * 1e-12 for value in picojoules)
    return factor * 1e12, f"{name}J"
