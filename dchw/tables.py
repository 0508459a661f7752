"""The published and measured tables that ship in ``dchw/data``; sources and licences are in its README."""

from __future__ import annotations

import csv
from functools import cache
from importlib.resources import files
from types import MappingProxyType


@cache
def read_table(name: str) -> tuple[MappingProxyType[str, str], ...]:
    """Rows of ``dchw/data/NAME`` (a CSV with one header line) as read-only mappings of text."""
    with files("dchw").joinpath("data", name).open(encoding="utf-8", newline="") as text:
        return tuple(MappingProxyType(row) for row in csv.DictReader(text))
