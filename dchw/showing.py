"""How objects show themselves: one line of at most 300 characters, and a small table in a notebook."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence

LONGEST = 300
"""Characters of a line."""
MOST_ROWS = 12
"""Rows of a table in a notebook; the rest is a number."""


def line(kind: str, name: str, *facts: str) -> str:
    """``<Kind name: fact, fact>``, cut where it would grow too long."""
    text = f"{kind} {name}: {', '.join(fact for fact in facts if fact)}"
    return f"<{text if len(text) <= LONGEST - 2 else text[: LONGEST - 5] + '...'}>"


def call(kind: str, settings: Mapping[str, object]) -> str:
    """``Kind(key=value, ...)`` of what was set, cut where it would grow too long."""
    text = f"{kind}({', '.join(f'{key}={value!r}' for key, value in settings.items())})"
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 4]}...)"


def table(title: str, heads: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A small HTML table, without a style of its own; what is not shown is counted."""
    cells = [
        "<tr>" + "".join(f"<td>{html.escape(str(cell))}</td>" for cell in row) + "</tr>" for row in rows[:MOST_ROWS]
    ]
    if len(rows) > MOST_ROWS:
        cells.append(f'<tr><td colspan="{len(heads)}">and {len(rows) - MOST_ROWS} more</td></tr>')
    head = "".join(f"<th>{html.escape(name)}</th>" for name in heads)
    return (
        f"<table><caption>{html.escape(title)}</caption><thead><tr>{head}</tr></thead>"
        f"<tbody>{''.join(cells)}</tbody></table>"
    )


def in_bytes(size: float) -> str:
    """Bytes with a decimal prefix: ``43.8 kB``."""
    for unit in ("B", "kB", "MB"):
        if size < 1000:
            return f"{size:.3g} {unit}" if unit != "B" else f"{size:.0f} B"
        size /= 1000
    return f"{size:.3g} GB"


def in_joules(picojoules: float) -> str:
    """Energy with a decimal prefix: ``1.78 uJ``."""
    for unit in ("pJ", "nJ", "uJ"):
        if picojoules < 1000:
            return f"{picojoules:.3g} {unit}"
        picojoules /= 1000
    return f"{picojoules:.3g} mJ"
