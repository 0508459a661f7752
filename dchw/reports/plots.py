"""Figures in a notebook: of a run (``run.plot.energy()``) and of a comparison (``table.plot.energy()``), with plotly.

They are drawn of the same pieces as a report's, from columns alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from dchw.extras import extras_named
from dchw.quantities import DchwError, nearest
from dchw.reports import pieces
from dchw.reports.report_tables import build_tables
from dchw.reports.rooflines import roofline
from dchw.reports.style import BEFORE, CATEGORIES, STREAMS, Look, prefix
from dchw.vocabulary import Stream

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from dchw.run.sim_result import SimResult

WHOLE_RUN = "whole run"


class RunPlots:
    """Figures of one run."""

    def __init__(self, run: SimResult) -> None:
        self._run = run

    def __repr__(self) -> str:
        return "<RunPlots: energy(), traffic(), roofline(), timeline()>"

    def energy(self) -> go.Figure:
        """Energy of every layer by component, and what no single layer causes."""
        frame = self._run.to_frame()
        frame["layer"] = frame["layer"].replace("", WHOLE_RUN)
        table = frame.pivot_table("energy_pj", "layer", "category", "sum", fill_value=0.0, sort=False)
        return self._layers(table * 1e-12, CATEGORIES, "energy", "J")

    def traffic(self) -> go.Figure:
        """Bytes that every layer moved, by stream, reads and writes, whole bursts."""
        memory = self._run.timing.memory
        streams = [stream.value for stream in Stream]
        moved = np.zeros((len(streams), len(self._run.program.layers)), np.int64)
        if memory is not None:
            moved = memory.size_bytes.sum(axis=1)
        table = pd.DataFrame(moved.T, index=list(self._run.program.layers), columns=streams)
        return self._layers(table, STREAMS, "bytes moved by DRAM commands", "B")

    def roofline(self) -> go.Figure:
        """What every layer reaches against the machine's roofs, as in the report."""
        from dchw.run.comparison import comparison_row

        run = self._run
        if run.network is None:
            raise DchwError("plot: expected a run of dchw.simulate; got one without its network; simulate it again")
        rows = pd.DataFrame([comparison_row(run.network, run)])
        tables = build_tables(run.network, run.workload.machine, {run.workload.storage: run}, rows)
        drawn = roofline(tables, run.workload.machine).spec
        alone = {**drawn["layout"], "showlegend": False}
        return figure_of({**drawn, "layout": alone}, self._title("roofline"))

    def timeline(self) -> go.Figure:
        """When each layer is worked on, from its first start to its last finish."""
        layers = self._run.layers_frame().set_index("layer")
        factor, unit = prefix([self._run.seconds])
        hertz = self._run.program.clock_hz
        start, finish = (layers[f"{end}_cycle"] / hertz / factor for end in ("start", "finish"))
        bars = pieces.bars(finish - start, "layer", BEFORE, f"{unit}s") | {
            "base": pieces.plain(start),
            "text": list(layers["bound_by"]),
            "hovertemplate": f"%{{y}}: %{{base:.4g}} to %{{x:.4g}} {unit}s, bound by %{{text}}<extra></extra>",
            "showlegend": False,
        }
        layout = pieces.axes(len(layers), f"time since the first request ({unit}s)")
        return figure_of({"data": [bars], "layout": layout}, self._title("timeline, with what bounds each layer"))

    def _layers(self, table: pd.DataFrame, looks: Mapping[str, Look], what: str, unit: str) -> go.Figure:
        factor, sign = prefix(table.sum(axis=1))
        data = [
            pieces.bars(table[name] / factor, name.replace("_", " "), look, f"{sign}{unit}")
            for name, look in looks.items()
            if name in table.columns and table[name].any()
        ]
        layout = pieces.axes(len(table), f"{what} ({sign}{unit})")
        return figure_of({"data": data, "layout": layout}, self._title(what))

    def _title(self, what: str) -> str:
        workload = self._run.workload
        return f"{workload.network} / {workload.storage} on {workload.machine.name}: {what}"


class ComparisonPlots:
    """Figures of a comparison's rows."""

    def __init__(self, table: pd.DataFrame) -> None:
        self._table = table

    def __repr__(self) -> str:
        return "<ComparisonPlots: energy(), traffic(), latency(); and pandas' plot>"

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return pd.DataFrame(self._table).plot(*args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(pd.DataFrame(self._table).plot, name)

    def energy(self) -> go.Figure:
        """Energy of a run by component, with the range of its total in the labels."""
        names = {f"energy_{name.lower()}_nj": (name, look) for name, look in CATEGORIES.items()}
        return self._stacked(names, "energy of one run", "J", 1e-9)

    def traffic(self) -> go.Figure:
        """Bytes read from and written to the DRAM."""
        looks = {"dram_read_bytes": ("read", CATEGORIES["DRAM"]), "dram_write_bytes": ("written", BEFORE)}
        return self._stacked(looks, "bytes moved by DRAM commands", "B", 1.0)

    def latency(self) -> go.Figure:
        """Time of a run."""
        return self._stacked({"latency_us": ("time", CATEGORIES["DRAM"])}, "time of one run", "s", 1e-6)

    def _stacked(self, columns: Mapping[str, tuple[str, Look]], what: str, unit: str, scale: float) -> go.Figure:
        missing = [name for name in ("storage", *columns) if name not in self._table.columns]
        if missing:
            hint = nearest(missing[0], map(str, self._table.columns))
            raise DchwError(f"plot: expected a column {missing[0]!r}; got none; {hint}")
        table = self._table.set_index("storage")[list(columns)] * scale
        factor, sign = prefix(table.sum(axis=1))
        data = [
            pieces.bars(table[name] / factor, label, look, f"{sign}{unit}")
            for name, (label, look) in columns.items()
            if table[name].any()
        ]
        return figure_of({"data": data, "layout": pieces.axes(len(table), f"{what} ({sign}{unit})")}, what)


def figure_of(spec: pieces.Spec, title: str) -> go.Figure:
    with extras_named():
        import plotly.graph_objects as go

    layout = {**spec["layout"], "title": {"text": title, "font": {"size": 14}}}
    margin = layout.get("margin", {})
    layout["margin"] = {**margin, "t": margin.get("t", 36) + 40}
    layout["height"] = layout.get("height", 300) + 40
    return go.Figure({"data": spec["data"], "layout": layout})
