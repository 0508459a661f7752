"""A figure of a report, and the order in which storage formats stand in it."""

from __future__ import annotations

from dataclasses import dataclass

from dchw.reports.pieces import Spec
from dchw.reports.report_tables import ReportTables


@dataclass(frozen=True)
class Drawing:
    """One figure: its key, a caption in HTML, and what plotly draws."""

    key: str
    caption: str
    spec: Spec


def storages(tables: ReportTables) -> list[str]:
    """All storage formats, in the order of the comparison."""
    return list(tables.comparison["storage"])


def ends(tables: ReportTables) -> tuple[str, str]:
    """The first and the last, which figures of two formats show."""
    names = storages(tables)
    return names[0], names[-1]
