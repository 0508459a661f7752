"""Where time goes, for whichever figure shows it: which kinds of nodes, by which names, in which order."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dchw.reports.drawing import ends
from dchw.reports.report_tables import BUS, ReportTables
from dchw.reports.style import unit_name, unit_rank

if TYPE_CHECKING:
    import pandas as pd

SMALLEST_SHARE = 0.01
"""A kind of node that neither works nor waits for this share of a run is not shown."""


def shown_activity(tables: ReportTables) -> tuple[pd.DataFrame, list[str]]:
    """Activity in the first and the last format with a column ``label``, and the labels in the order of the flow."""
    frame = tables.activity[tables.activity["storage"].isin(ends(tables))]
    working = frame[frame[["busy_share", "stall_share"]].max(axis=1) >= SMALLEST_SHARE]
    frame = frame[frame["kind"].isin(working["kind"])]
    kinds = zip(frame["kind"], frame["unit"], frame["nodes"], strict=True)
    frame = frame.assign(label=[_label(str(kind), str(unit), int(nodes)) for kind, unit, nodes in kinds])
    in_order = frame.sort_values("unit", key=lambda units: units.map(unit_rank), kind="stable")
    return frame, list(dict.fromkeys(in_order["label"]))


def _label(kind: str, unit: str, nodes: int) -> str:
    """A kind of node as readers call it: its unit, what part of it, how many there are."""
    if kind == BUS:
        return kind
    part = kind.partition(".")[2].replace(".", " ")
    return f"{unit_name(unit)}{', ' * bool(part)}{part}{f' ({nodes})' * (nodes > 1)}"
