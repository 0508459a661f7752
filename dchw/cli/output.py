"""Printing for every verb: tables for people, versioned JSON for programs, progress bars on terminals only."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pandas as pd
    from rich.progress import Progress

SCHEMA_VERSION = 1
"""Version of every machine-readable output; raised when a field changes its meaning or goes away."""


def print_json(kind: str, content: Mapping[str, Any]) -> None:
    """One JSON object on standard output: ``schema`` (version), ``kind`` (what it is) and the content."""
    click.echo(
        json.dumps({"schema": SCHEMA_VERSION, "kind": kind, **content}, indent=2, default=_plain, allow_nan=False)
    )


def print_table(title: str, frame: pd.DataFrame, notes: Iterable[str] = ()) -> None:
    """A table with a title, numbers right-aligned with thousands separators, notes below."""
    from rich.console import Console
    from rich.table import Table

    console = Console(width=None if sys.stdout.isatty() else 200, highlight=False)
    table = Table(title=title, title_justify="left", title_style="bold")
    for name in frame.columns:
        table.add_column(str(name).replace("_", " "), justify="left" if frame[name].dtype.kind in "OUT" else "right")
    for row in frame.itertuples(index=False):
        table.add_row(*(_cell(value) for value in row))
    console.print(table)
    for note in notes:
        console.print(note, style="dim")


@contextmanager
def progress() -> Iterator[Progress]:
    """A progress display with remaining time on a terminal; silent in a pipe."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal, transient=True) as bar:
        yield bar


def _cell(value: Any) -> str:
    if value is None or value != value:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        magnitude = abs(value)
        if magnitude >= 1000:
            return f"{value:,.0f}"
        return f"{value:.4g}"
    if isinstance(value, str):
        return value
    try:
        return f"{int(value):,}"
    except (TypeError, ValueError):
        return str(value)


def _plain(value: Any) -> Any:
    if hasattr(value, "item"):
        return value.item()
    if hasattr(value, "tolist"):
        return value.tolist()
    return str(value)
