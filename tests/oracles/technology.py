"""SRAM interpolation and interval sums written for reading: every row read, every line drawn with np.interp."""

from __future__ import annotations

import csv
from functools import cache
from importlib.resources import files

import numpy as np

QUANTITIES = ("read_energy_pj", "write_energy_pj", "leakage_mw", "access_time_ns", "cycle_time_ns", "area_mm2")


@cache
def table_rows(node_nm: int, cell: str, ports: str) -> list[dict[str, float]]:
    """All rows of one node, device type and port kind."""
    text = files("dchw").joinpath("data", "sram_cacti.csv").read_text(encoding="utf-8").splitlines()
    return [
        {key: float(value) for key, value in row.items() if key not in ("cell_type", "ports")}
        for row in csv.DictReader(text)
        if (int(row["node_nm"]), row["cell_type"], row["ports"]) == (node_nm, cell, ports)
    ]


def along_words(rows: list[dict[str, float]], width: float, words: float, quantity: str) -> float:
    """Log of a quantity on the line through the rows of one width, over log words."""
    points = sorted((r["size_bytes"] * 8 / width, r[quantity]) for r in rows if r["word_bits"] == width)
    return float(np.interp(np.log(words), np.log([w for w, _ in points]), np.log([v for _, v in points])))


def interpolated(node_nm: int, cell: str, size_bytes: int, word_bits: int, quantity: str) -> float:
    """A quantity of a 1RW macro well inside the grid: at equal words between the widths around the wanted one."""
    rows = table_rows(node_nm, cell, "1RW")
    words = size_bytes * 8 / word_bits
    widths = sorted({r["word_bits"] for r in rows})
    narrow = max(w for w in widths if w <= word_bits)
    wide = min(w for w in widths if w >= word_bits)
    logs = [along_words(rows, width, words, quantity) for width in (narrow, wide)]
    if narrow == wide:
        return float(np.exp(logs[0]))
    return float(np.exp(np.interp(np.log(word_bits), np.log([narrow, wide]), logs)))
