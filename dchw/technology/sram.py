"""SRAM macros: energy per access, leakage, times and area by size, word width, node, device type and ports.

The figures are CACTI 7's (one bank, whole-word access, 330 K), read from a table and between its points
(`dchw.technology.sram_table`). Outside the table:

- fewer words than it holds (32): power laws from the smallest macro of the width;
- fewer than 8 words: flip-flops and a read multiplexer, from ``logic``;
- below 22 nm: the 22 nm macro scaled by ``scaling`` (inverter, the lower bound), and the source says so;
- with scaling ``published``: energies of published tables (`dchw.technology.published_sram`), CACTI's in their range;
- other temperatures: leakage times the ratio CACTI gives for the node and device type; nothing else changes.

Ranges hold CACTI's own error against products and, off the grid, the cross-validated error.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

from dchw import showing
from dchw.arguments import checked
from dchw.quantities import DchwError, nearest
from dchw.technology.figure import Confidence, Figure, combine
from dchw.technology.logic import Logic
from dchw.technology.published_sram import PUBLISHED_BITS, published_access
from dchw.technology.registers import register_words
from dchw.technology.scaling import MIN_NODE_NM, Quantity, Scaling, check_method, inverter_factor
from dchw.technology.sram_table import (
    CELLS,
    PORTS,
    TABLE_NODES_NM,
    TABLE_TEMPERATURE_K,
    Values,
    around,
    between,
    has_ports,
    leakage_ratio,
    table_slice,
)

UNITS = ("pJ", "pJ", "mW", "ns", "ns", "mm2")
_MODELLED = ("access energy", "access energy", "leakage", "times", "times", "area")
MIN_TEMPERATURE_K, MAX_TEMPERATURE_K = 300, 350

_SOURCE = "CACTI 7.0 (git 1ffd8df), one bank, ED^2 target, 330 K"
# CACTI against products, relative: the reports that validate it give errors of this order (as known, not re-read).
_CACTI_ERROR = 0.20
# 90th percentile of the relative error per quantity at fresh points (cross_validation.fresh_points), rounded up.
_BETWEEN_ERROR = (0.08, 0.05, 0.03, 0.05, 0.12, 0.05)
# Largest relative error at 28, 40 and 55 nm against runs of the tool there (its cycle time jumps by up to 0.9).
_NODE_ERROR = (0.20, 0.10, 0.30, 0.10, 0.30, 0.10)
_NO_ERROR = (0.0,) * 6
_MIN_SRAM_WORDS = 8
ONE_PORT = PORTS[0]
"""Ports of the macros that published tables list, as far as they say."""
_SCALED = (
    Quantity.SRAM_ENERGY,
    Quantity.SRAM_ENERGY,
    Quantity.LEAKAGE,
    Quantity.DELAY,
    Quantity.DELAY,
    Quantity.SRAM_AREA,
)


@dataclass(frozen=True, kw_only=True)
class SramMacro:
    """One macro, or several banks behind one port; figures with ranges, and their nominal values by name."""

    size_bytes: int
    word_bits: int
    node_nm: float
    cell: str
    ports: str
    temperature_k: float
    read: Figure
    write: Figure
    leakage: Figure
    access: Figure
    cycle: Figure
    area: Figure

    @property
    def read_energy_pj(self) -> float:
        """One access to one whole word."""
        return self.read.nominal

    @property
    def write_energy_pj(self) -> float:
        """One access to one whole word."""
        return self.write.nominal

    @property
    def leakage_mw(self) -> float:
        """Of the whole macro at ``temperature_k``, idle or not."""
        return self.leakage.nominal

    @property
    def access_time_ns(self) -> float:
        """Address to data."""
        return self.access.nominal

    @property
    def cycle_time_ns(self) -> float:
        """Shortest time between two accesses to random words."""
        return self.cycle.nominal

    @property
    def area_mm2(self) -> float:
        """Macro with decoders, sense amplifiers and wiring."""
        return self.area.nominal

    @property
    def source(self) -> str:
        """Where the figures come from, every step named."""
        return combine(replace(f, unit="") for f in self._figures()).source

    @property
    def confidence(self) -> Confidence:
        """The weakest of the six figures."""
        return max((f.confidence for f in self._figures()), key=lambda c: c.rank)

    @property
    def words(self) -> int:
        """Whole words stored."""
        return self.size_bytes * 8 // self.word_bits

    def _figures(self) -> tuple[Figure, ...]:
        return self.read, self.write, self.leakage, self.access, self.cycle, self.area

    def __repr__(self) -> str:
        return showing.line(
            "SramMacro",
            f"{self.size_bytes:,} B x {self.word_bits} bits, {self.ports}, {self.cell} at {self.node_nm:g} nm",
            f"read {self.read.nominal:.3g} pJ",
            f"leakage {self.leakage.nominal:.3g} mW",
            f"{self.area.nominal:.3g} mm2",
        )


@checked
def sram(
    *,
    size_bytes: int,
    word_bits: int,
    node_nm: float,
    cell: str = "itrs-lop",
    ports: str = "1RW",
    temperature_k: float = TABLE_TEMPERATURE_K,
    scaling: str = Scaling.INVERTER,
) -> SramMacro:
    """One SRAM macro from an interpolated CACTI table: energies, leakage, times and area, each with range and source.

    Parameters
    ----------
    size_bytes
        Capacity in bytes.
    word_bits
        Bits read or written at a time.
    node_nm
        Process node in nm; nodes below the table's are scaled, and the figures say so.
    cell
        CACTI's device type for cells and periphery, or ``cells/periphery``.
    ports
        ``"1RW"`` or ``"1R1W"``.
    temperature_k
        Temperature in K; only leakage follows it.
    scaling
        ``"inverter"``: CACTI's figures, scaled below 22 nm. ``"published"``, 7 to 40 nm: energies per access from the
        tables that list SRAM beside arithmetic (Horowitz 2014 at 45 nm, TPUv4i at 7 nm); all else as before.

    Returns
    -------
    SramMacro
        ``read_energy_pj``, ``write_energy_pj``, ``leakage_mw``, ``access_time_ns``, ``area_mm2``, ``source``.

    Raises
    ------
    DchwError
        With the legal range, for a size, width, node, temperature, device type or port the table does not cover.

    Examples
    --------
    >>> import dchw
    >>> ram = dchw.sram(size_bytes=32768, word_bits=64, node_nm=45)
    >>> 5 < ram.read_energy_pj < 10
    True
    """
    _check_choice("scaling", scaling, tuple(Scaling))
    macro = _macro(size_bytes, word_bits, node_nm, cell, ports, temperature_k)
    return macro if scaling == Scaling.INVERTER else _published(macro)


@lru_cache(maxsize=4096)
def _published(macro: SramMacro) -> SramMacro:
    """The macro with published energies per access; below 8 words it is flip-flops, which no SRAM table covers."""
    check_method(Scaling.PUBLISHED, macro.node_nm)
    if macro.words < _MIN_SRAM_WORDS:
        return macro
    width = PUBLISHED_BITS if macro.size_bytes * 8 >= PUBLISHED_BITS * _MIN_SRAM_WORDS else macro.word_bits
    same = _macro(macro.size_bytes, width, macro.node_nm, macro.cell, macro.ports, macro.temperature_k)
    reference = same.read_energy_pj * PUBLISHED_BITS / width
    ports = 1.0
    if macro.ports != ONE_PORT and has_ports(macro.cell, ONE_PORT):
        one = _macro(macro.size_bytes, width, macro.node_nm, macro.cell, ONE_PORT, macro.temperature_k)
        ports = same.read_energy_pj / one.read_energy_pj

    def priced(modelled: Figure) -> Figure:
        return published_access(modelled, modelled.nominal / reference, macro.size_bytes, macro.node_nm, ports)

    return replace(macro, read=priced(macro.read), write=priced(macro.write))


@lru_cache(maxsize=4096)
def _macro(size_bytes: int, word_bits: int, node_nm: float, cell: str, ports: str, temperature_k: float) -> SramMacro:
    _check_choice("cell", cell, CELLS)
    _check_choice("ports", ports, PORTS)
    if not MIN_NODE_NM <= node_nm <= TABLE_NODES_NM[-1]:
        raise _out_of_range("node", node_nm, "nm", MIN_NODE_NM, TABLE_NODES_NM[-1])
    if not MIN_TEMPERATURE_K <= temperature_k <= MAX_TEMPERATURE_K:
        raise _out_of_range("temperature", temperature_k, "K", MIN_TEMPERATURE_K, MAX_TEMPERATURE_K)
    table_node = max(node_nm, TABLE_NODES_NM[0])
    if 0 < size_bytes * 8 < _MIN_SRAM_WORDS * word_bits:
        return _flip_flops(size_bytes, word_bits, node_nm, cell, ports, temperature_k)
    left, right, share = around(tuple(map(math.log, TABLE_NODES_NM)), math.log(table_node))
    below, above = round(math.exp(left)), round(math.exp(right))
    values, exact, notes = _at_node(below, cell, ports, size_bytes, word_bits, temperature_k)
    if share > 0:
        upper, _, _ = _at_node(above, cell, ports, size_bytes, word_bits, temperature_k)
        values = between(values, upper, share)
        notes.append(f"between {below} and {above} nm by log-log interpolation")
    if temperature_k != TABLE_TEMPERATURE_K:
        notes.append(f"leakage from 330 K to {temperature_k:g} K by CACTI's ratio for the device type")
    errors = [b + n * (share > 0) for b, n in zip(_BETWEEN_ERROR if not exact else _NO_ERROR, _NODE_ERROR, strict=True)]
    figures = [_figure(i, value, errors[i], notes) for i, value in enumerate(values)]
    if node_nm < table_node:
        figures = [
            f.times(inverter_factor(q, table_node, node_nm), f.unit) for f, q in zip(figures, _SCALED, strict=True)
        ]
    names = ("read", "write", "leakage", "access", "cycle", "area")
    return SramMacro(
        size_bytes=size_bytes,
        word_bits=word_bits,
        node_nm=node_nm,
        cell=cell,
        ports=ports,
        temperature_k=temperature_k,
        **dict(zip(names, figures, strict=True)),
    )


def _at_node(
    node_nm: int, cell: str, ports: str, size_bytes: int, word_bits: int, temperature_k: float
) -> tuple[Values, bool, list[str]]:
    """Values at a node of the table, whether they are a row of it, and what was done to get them."""
    grid = table_slice(node_nm, cell, ports)
    if not grid.widths:
        others = " or ".join(kind for kind in PORTS if table_slice(node_nm, cell, kind).widths)
        raise DchwError(
            f"sram: cell {cell}: expected ports the table holds for it; got {ports}; use {others} or one device type"
        )
    if not grid.widths[0] <= word_bits <= grid.widths[-1]:
        raise _out_of_range(
            f"word width of a {ports} macro", word_bits, "bit", grid.widths[0], grid.widths[-1],
            "pad narrower words; put macros side by side for wider ones",
        )  # fmt: skip
    if not 0 < size_bytes <= grid.max_size_bytes:
        raise _out_of_range(
            f"size of a {ports} macro of {word_bits}-bit words", size_bytes, "bytes", 1, grid.max_size_bytes,
            "use several banks above",
        )  # fmt: skip
    values = list(grid.at(size_bytes, word_bits))
    exact, notes = grid.holds(size_bytes, word_bits), []
    if grid.has_few_words(size_bytes, word_bits):
        notes.append("fewer words than the table holds, by power laws from its smallest macro of the width")
    elif not exact:
        notes.append("between CACTI runs by log-log interpolation over size and width")
    if temperature_k != TABLE_TEMPERATURE_K:
        values[2] *= leakage_ratio(node_nm, cell, temperature_k)
    return tuple(values), exact, notes


def _flip_flops(
    size_bytes: int, word_bits: int, node_nm: float, cell: str, ports: str, temperature_k: float
) -> SramMacro:
    """Fewer than 8 words: registers and a read multiplexer of the Aladdin family; one access per multiplexer delay."""
    entries = max(1, size_bytes * 8 // word_bits)
    words = register_words(Logic(node_nm=node_nm), entries, word_bits)
    return SramMacro(
        size_bytes=size_bytes,
        word_bits=word_bits,
        node_nm=node_nm,
        cell=cell,
        ports=ports,
        temperature_k=temperature_k,
        read=words.read_pj,
        write=words.write_pj,
        leakage=words.leakage_mw,
        access=words.delay_ns,
        cycle=words.delay_ns,
        area=words.area_mm2,
    )


def _figure(index: int, value: float, error: float, notes: Sequence[str]) -> Figure:
    relevant = [note for note in notes if index == 2 or not note.startswith("leakage")]
    return Figure(
        value,
        value * (1 - _CACTI_ERROR) / (1 + error),
        value * (1 + _CACTI_ERROR) * (1 + error),
        UNITS[index],
        ", ".join((_SOURCE, *relevant)),
        Confidence.INTERPOLATED if relevant else Confidence.FROM_TABLE,
    ).because(f"SRAM {_MODELLED[index]} (CACTI 7)")


def _check_choice(what: str, value: str, choices: Sequence[str]) -> None:
    if value not in choices:
        raise DchwError(f"sram: {what}: expected one of {', '.join(choices)}; got {value!r}; {nearest(value, choices)}")


def _out_of_range(what: str, value: float, unit: str, low: float, high: float, hint: str = "") -> DchwError:
    return DchwError(
        f"sram: {what}: expected {low:.10g} to {high:.10g} {unit}; got {value:.10g} {unit}; "
        f"{hint or 'stay inside the table'}"
    )
