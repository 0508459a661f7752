"""The published and measured tables that ship in ``dchw/data``; sources and licences are in its README."""

from __future__ import annotations

import csv
import io
from functools import cache
from importlib.resources import files
from types import MappingProxyType


@cache
def read_table(name: str) -> tuple[MappingProxyType[str, str], ...]:
    """Rows of ``dchw/data/NAME`` (a CSV with one header line) as read-only mappings of text."""
    text = files("dchw").joinpath("data", name).read_text(encoding="utf-8")
    return tuple(MappingProxyType(row) for row in csv.DictReader(io.StringIO(text, newline="")))
