"""How far the SRAM interpolation is off where it has no row: whole sizes or widths left out, and fresh points."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from dchw.technology.sram import sram
from dchw.technology.sram_table import QUANTITIES, TABLE_NODES_NM, Row, Slice, rows_of, table_slice

_SINGLE_CELLS = ("itrs-hp", "itrs-lop", "itrs-lstp")
SIZES, WIDTHS, FRESH, BETWEEN_NODES = "whole sizes left out", "whole widths left out", "fresh points", "nodes between"
PLAIN = ", plain log-log"
"""Marks the method to beat under the same test: straight lines in log-log between the nearest powers of two."""
CHECK_NODES_NM = (28, 40, 55)
_CHECK_TABLE = "sram_cacti_check.csv"

SliceKey = tuple[int, str, str]


@dataclass(frozen=True, kw_only=True)
class InterpolationError:
    """Relative errors of one quantity under one test: how many points, their median, 90th percentile and maximum."""

    test: str
    quantity: str
    points: int
    median: float
    p90: float
    maximum: float


def default_slices() -> dict[SliceKey, list[Row]]:
    """The 1RW rows of every node and single device type."""
    keys = [(node, cell, "1RW") for node in TABLE_NODES_NM for cell in _SINGLE_CELLS]
    return {key: rows_of(*key) for key in keys}


def cross_validate(slices: Mapping[SliceKey, Sequence[Row]] | None = None) -> list[InterpolationError]:
    """Errors when every row of one size, or of one width, is left out and predicted from the others.

    Only points between remaining ones are predicted: the smallest and largest size of a width and the narrowest and
    widest word are never left out alone. Plain log-log interpolation predicts the powers of two from the halves and
    the doubles of the size, or of the width.
    """
    slices = default_slices() if slices is None else slices
    out = []
    for test, left_out, axis in ((SIZES, _sizes, 0), (WIDTHS, _widths, 1)):
        out += _summary(test, np.array([error for rows in slices.values() for error in left_out(rows)]))
        plain = [error for rows in slices.values() for error in _plain_left_out(rows, axis)]
        out += _summary(test + PLAIN, np.array(plain))
    return out


def fresh_points() -> list[InterpolationError]:
    """Errors against runs of the same tool at random sizes and widths that the table does not hold.

    Also for plain log-log interpolation over powers of two at equal size, the method to beat, and at nodes between
    those of the table.
    """
    ours, plain = [], []
    for node in TABLE_NODES_NM:
        for cell in _SINGLE_CELLS:
            grid = table_slice(node, cell, "1RW")
            for size, width, values in rows_of(node, cell, "1RW", _CHECK_TABLE):
                ours.append(_errors(grid, size, width, values))
                corners = _plain(grid, size, width)
                if corners is not None:
                    plain.append([abs(got / want - 1) for got, want in zip(corners, values, strict=True)])
    nodes = [
        [abs(getattr(macro, quantity) / want - 1) for quantity, want in zip(QUANTITIES, values, strict=True)]
        for node in CHECK_NODES_NM
        for cell in _SINGLE_CELLS
        for size, width, values in rows_of(node, cell, "1RW", _CHECK_TABLE)
        for macro in [sram(size_bytes=size, word_bits=width, node_nm=node, cell=cell)]
    ]
    return (
        _summary(FRESH, np.array(ours))
        + _summary(FRESH + PLAIN, np.array(plain))
        + _summary(BETWEEN_NODES, np.array(nodes))
    )


def _plain(grid: Slice, size: int, width: int) -> list[float] | None:
    """Bilinear in log size and log width between the powers of two around the point; None where one is not built."""
    sizes, widths = ([2 ** math.floor(math.log2(v)) * k for k in (1, 2)] for v in (size, width))
    if widths[1] > grid.widths[-1]:
        widths = [widths[0] // 2, widths[0]]
    if not all(grid.holds(s, w) for s in sizes for w in widths):
        return None
    along, across = math.log2(size / sizes[0]), math.log2(width / widths[0])
    logs = [[np.log(grid.at(s, w)) for w in widths] for s in sizes]
    low, high = ((1 - across) * pair[0] + across * pair[1] for pair in logs)
    return [float(value) for value in np.exp((1 - along) * low + along * high)]


def _plain_left_out(rows: Sequence[Row], axis: int) -> Iterator[list[float]]:
    """Powers of two from their half and their double along size (``axis`` 0) or width (1)."""
    table = {(size, width): values for size, width, values in rows}
    for (size, width), values in table.items():
        if size & (size - 1) or width & (width - 1):
            continue
        halved, doubled = (
            ((size // 2, width), (2 * size, width)) if axis == 0 else ((size, width // 2), (size, 2 * width))
        )
        if halved in table and doubled in table:
            ends = zip(table[halved], table[doubled], values, strict=True)
            yield [abs(math.sqrt(low * high) / want - 1) for low, high, want in ends]


def _sizes(rows: Sequence[Row]) -> Iterator[list[float]]:
    for size in sorted({size for size, _, _ in rows}):
        kept = Slice(row for row in rows if row[0] != size)
        for _, width, values in (row for row in rows if row[0] == size):
            if kept.brackets(size, width):
                yield _errors(kept, size, width, values)


def _widths(rows: Sequence[Row]) -> Iterator[list[float]]:
    widths = sorted({width for _, width, _ in rows})
    for left, width, right in zip(widths, widths[1:], widths[2:], strict=False):
        kept = Slice(row for row in rows if row[1] != width)
        for size, _, values in (row for row in rows if row[1] == width):
            if kept.brackets(size * left / width, left) and kept.brackets(size * right / width, right):
                yield _errors(kept, size, width, values)


def _errors(grid: Slice, size: int, width: int, values: Sequence[float]) -> list[float]:
    return [abs(got / want - 1) for got, want in zip(grid.at(size, width), values, strict=True)]


def _summary(test: str, errors: np.ndarray[tuple[int, int], np.dtype[np.float64]]) -> list[InterpolationError]:
    return [
        InterpolationError(
            test=test,
            quantity=quantity,
            points=len(errors),
            median=float(np.median(errors[:, i])),
            p90=float(np.quantile(errors[:, i], 0.9)),
            maximum=float(errors[:, i].max()) if len(errors) else math.nan,
        )
        for i, quantity in enumerate(QUANTITIES)
    ]
