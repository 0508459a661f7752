"""The table of SRAM macros that CACTI made, and the lines between its points.

The grid of sizes and widths is half an octave apart or closer (1R1W: an octave). Between grid points each quantity is a
straight line in log-log: along the number of words at the two grid widths around the wanted one, then across width at
equal words; between nodes likewise. Every grid point is reproduced exactly. Lines at equal words matter: CACTI picks an
array organisation per point, rows follow words and columns follow width, so lines at equal size cross its steps.
Kriging did no better on fresh points (`dchw.technology.cross_validation`). Fewer words than the table holds (32; CACTI
builds no smaller macro) follow power laws from the smallest macro of the width.
"""

from __future__ import annotations

import csv
import math
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from functools import cache
from importlib.resources import files

from dchw.tables import read_table

QUANTITIES = ("read_energy_pj", "write_energy_pj", "leakage_mw", "access_time_ns", "cycle_time_ns", "area_mm2")
PORTS = ("1RW", "1R1W")
CELLS = ("itrs-hp", "itrs-lop", "itrs-lstp", "itrs-lstp/itrs-hp", "itrs-lstp/itrs-lop")
LOW_LEAKAGE_CELLS = ("itrs-lop", "itrs-lstp")
"""Device types a mobile part can be built of; itrs-hp leaks tens of milliwatts per 100 KiB."""
TABLE_NODES_NM = (22, 32, 45, 65, 90)
TABLE_TEMPERATURE_K = 330

_TABLE = "sram_cacti.csv"
# Fewer than 32 words: exponents of the number of words (slopes of the table from 32 to 128 words).
_FEW_READ = {8: 0.77, 16: 0.32, 32: 0.25, 64: 0.19, 128: 0.14, 256: 0.09}
_FEW_OTHER = (None, 0.44, 0.92, 0.0, 0.0, 0.64)
# Rows of CACTI's own temperature tables that are wrong: an exponent slip makes 90 nm lop leakage ten times too high.
_WRONG_TEMPERATURES = {(90, "itrs-lop"): (350, 360, 370)}

Values = tuple[float, ...]
Row = tuple[int, int, Values]


class Slice:
    """The grid of one node, device type and port kind: per width the sizes, ascending, and log values there."""

    def __init__(self, rows: Iterable[Row]) -> None:
        curves: dict[int, list[tuple[float, Values]]] = {}
        self._rows = {(size, width): values for size, width, values in rows}
        for (size, width), values in sorted(self._rows.items()):
            curves.setdefault(width, []).append((math.log2(size), values))
        self.widths = tuple(sorted(curves))
        self._log_widths = tuple(math.log2(width) for width in self.widths)
        self._sizes = {width: tuple(size for size, _ in curve) for width, curve in curves.items()}
        self._logs = {
            width: tuple(tuple(map(math.log, values)) for _, values in curve) for width, curve in curves.items()
        }

    @property
    def max_size_bytes(self) -> int:
        """Largest size of the narrowest width."""
        return round(2 ** self._sizes[self.widths[0]][-1])

    def holds(self, size_bytes: int, word_bits: int) -> bool:
        """Whether the point is a row of the table."""
        return (size_bytes, word_bits) in self._rows

    def brackets(self, size_bytes: float, word_bits: int) -> bool:
        """Whether a grid width has rows on both sides of a size, or at it."""
        sizes = self._sizes.get(word_bits)
        return sizes is not None and sizes[0] <= math.log2(size_bytes) <= sizes[-1]

    def has_few_words(self, size_bytes: int, word_bits: int) -> bool:
        """Whether the table has no macro of so few words."""
        smallest = min(2 ** self._sizes[width][0] * 8 / width for width in self._grid_widths(word_bits)[:2])
        return size_bytes * 8 / word_bits < smallest

    def at(self, size_bytes: int, word_bits: int) -> Values:
        """The six values at a point within the widths and up to the largest size.

        The line across widths keeps the number of words, because rows follow words and columns follow width; only
        where the wider neighbour would be beyond the largest size does it keep the size.
        """
        row = self._rows.get((size_bytes, word_bits))
        if row is not None:
            return row
        narrow, wide, share = self._grid_widths(word_bits)
        if share == 0:
            return tuple(map(math.exp, self._along_size(narrow, size_bytes)))
        sizes = (size_bytes * narrow / word_bits, size_bytes * wide / word_bits)
        if math.log2(sizes[1]) > self._sizes[wide][-1]:
            sizes = (size_bytes, size_bytes)
        low, high = (self._along_size(width, size) for width, size in zip((narrow, wide), sizes, strict=True))
        return tuple(math.exp(a * (1 - share) + b * share) for a, b in zip(low, high, strict=True))

    def _grid_widths(self, word_bits: int) -> tuple[int, int, float]:
        left, right, share = around(self._log_widths, math.log2(word_bits))
        return round(2**left), round(2**right), share

    def _along_size(self, width: int, size_bytes: float) -> Values:
        sizes, logs = self._sizes[width], self._logs[width]
        at = math.log2(size_bytes)
        if at < sizes[0]:
            fewer = (at - sizes[0]) * math.log(2)
            powers = (_few_read(width), *_FEW_OTHER[1:])
            return tuple(log + (power or 0.0) * fewer for log, power in zip(logs[0], powers, strict=True))
        right = min(max(bisect_right(sizes, at), 1), len(sizes) - 1)
        share = (at - sizes[right - 1]) / (sizes[right] - sizes[right - 1])
        if share == 0:
            return logs[right - 1]
        return tuple(a * (1 - share) + b * share for a, b in zip(logs[right - 1], logs[right], strict=True))


@cache
def table_slice(node_nm: int, cell: str, ports: str) -> Slice:
    """The table's rows of one node, device type and port kind."""
    return Slice(rows_of(node_nm, cell, ports))


def has_ports(cell: str, ports: str) -> bool:
    """Whether the table holds macros of a device type with such ports; mixed device types come with one port alone."""
    return bool(table_slice(TABLE_NODES_NM[0], cell, ports).widths)


def rows_of(node_nm: int, cell: str, ports: str, table: str = _TABLE) -> list[Row]:
    """(size_bytes, word_bits, six values) of the rows that match; only these lines are parsed."""
    prefix = f"{node_nm},{cell},{ports},"
    lines = [line for line in _lines(table) if line.startswith(prefix)]
    return [(int(f[3]), int(f[4]), tuple(map(float, f[5:11]))) for f in csv.reader(lines)]


@cache
def _lines(table: str) -> tuple[str, ...]:
    return tuple(files("dchw").joinpath("data", table).read_text(encoding="utf-8").splitlines())


def leakage_ratio(node_nm: int, cell: str, temperature_k: float) -> float:
    """Leakage at a temperature against 330 K, straight in log over temperature; a mix follows its periphery."""
    device = cell.rpartition("/")[2]
    points: dict[int, list[float]] = {}
    for row in read_table("sram_cacti_temperature.csv"):
        if int(row["node_nm"]) == node_nm and row["cell_type"] == device:
            kelvin = int(row["temp_k"])
            if kelvin not in _WRONG_TEMPERATURES.get((node_nm, device), ()):
                points.setdefault(kelvin, []).append(math.log(float(row["leakage_ratio_to_330k"])))
    kelvins = tuple(sorted(points))
    left, right, share = around(kelvins, temperature_k)
    logs = [math.fsum(points[round(k)]) / len(points[round(k)]) for k in (left, right)]
    return math.exp(logs[0] * (1 - share) + logs[1] * share)


def _few_read(width: int) -> float:
    known = tuple(_FEW_READ)
    left, right, share = around(tuple(map(math.log2, known)), math.log2(width))
    return _FEW_READ[round(2**left)] * (1 - share) + _FEW_READ[round(2**right)] * share


def between(low: Values, high: Values, share: float) -> Values:
    return tuple(math.exp(math.log(a) * (1 - share) + math.log(b) * share) for a, b in zip(low, high, strict=True))


def around(grid: Sequence[float], at: float) -> tuple[float, float, float]:
    """The grid values around ``at`` and the share of the upper one, 0 exactly on the grid."""
    right = min(max(bisect_right(grid, at), 1), len(grid) - 1)
    low, high = grid[right - 1], grid[right]
    if at == high:
        return high, high, 0.0
    return low, high, (at - low) / (high - low)
