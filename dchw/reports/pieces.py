"""The pieces plotly figures are made of: bars with patterns, labels, axes and panels of one look."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from dchw.reports.style import Look

if TYPE_CHECKING:
    import pandas as pd

Spec = dict[str, Any]
"""Part of a figure as plotly's script reads it."""


def bars(values: pd.Series[float], name: str, look: Look, unit: str) -> Spec:
    """Horizontal bars, one per index entry."""
    return {
        "type": "bar",
        "orientation": "h",
        "name": name,
        "y": list(values.index),
        "x": plain(values),
        "marker": {
            "color": look.colour,
            "line": {"width": 0.5, "color": look.colour},
            "pattern": {"shape": look.pattern, "size": 7, "solidity": 0.3, "fillmode": "overlay", "fgcolor": "#ffffff"},
        },
        "hovertemplate": f"%{{y}}: %{{x:.4g}} {unit}<extra>{name}</extra>",
    }


def end_labels(y: Sequence[str], x: Sequence[float | None], text: Sequence[str]) -> Spec:
    """Text to the right of points."""
    return {
        "type": "scatter",
        "mode": "text",
        "x": list(x),
        "y": list(y),
        "text": list(text),
        "textposition": "middle right",
        "cliponaxis": False,
        "showlegend": False,
        "hoverinfo": "skip",
    }


def axes(rows: int, title: str, *, row: int = 32, height: int | None = None) -> Spec:
    """The layout of one panel: ``rows`` bars of ``row`` pixels from the top, or (no rows) two plain axes."""
    return {
        "barmode": "stack",
        "bargap": 0.3,
        "height": height or 110 + row * rows,
        "margin": {"l": 10, "r": 80, "t": 36, "b": 46},
        "xaxis": {"title": {"text": title}, "zeroline": False, "automargin": True, "ticks": "outside"},
        "yaxis": {"autorange": "reversed" if rows else True, "automargin": True, "ticksuffix": "  "},
        "legend": {"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0, "traceorder": "normal"},
    }


def panels(rows: int, titles: Sequence[str], left: str, right: str) -> Spec:
    """Two panels side by side that share their rows."""
    layout = axes(rows, titles[0], row=26)
    layout["height"] += 30
    layout["margin"] |= {"r": 12, "t": 62}
    layout["xaxis"] |= {"domain": [0, 0.485]}
    layout["xaxis2"] = {**layout["xaxis"], "title": {"text": titles[1]}, "domain": [0.515, 1]}
    layout["legend"] |= {"y": 1, "yref": "container", "yanchor": "top"}
    layout["annotations"] = [
        note(f"<b>{name}</b>", at, 1.0, xref="paper", yref="paper", xanchor="left", yanchor="bottom")
        for name, at in ((left, 0), (right, 0.515))
    ]
    return layout


def note(text: str, x: float, y: float, **more: Any) -> Spec:
    """Text inside the axes, without an arrow."""
    return {"text": text, "x": x, "y": y, "showarrow": False, **more}


def plain(values: pd.Series[float]) -> list[float | None]:
    """Numbers for JSON: six significant digits, None for what does not exist."""
    return [None if value != value else float(f"{value:.6g}") for value in values]


def wrapped(text: str, width: int = 44) -> str:
    """Lines of at most ``width`` characters where words allow it, the text cut after two."""
    return "<br>".join(textwrap.wrap(text, width, max_lines=2, placeholder=" …"))
