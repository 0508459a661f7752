"""What composed blocks are made of: gated registers, tables in flip-flops or SRAM, and the clock they need.

Registers are clock-gated: a register pays for its clock in the events that write it; what is left every cycle is the
clock tree with its gates, plus ``1 - gated_share`` of the registers. How many a design leaves ungated is not known: up
to a fifth more are in the range. Control logic is not modelled.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from dchw.quantities import DchwError
from dchw.technology.figure import Confidence, Figure, combine
from dchw.technology.logic import Block, Logic
from dchw.technology.registers import register_words
from dchw.technology.sram import SramMacro, sram
from dchw.technology.wires import clock_tree

FLIP_FLOP_TABLE_ENTRIES = 64
"""Tables of fewer entries are flip-flops, others SRAM."""
UNGATED_MARGIN = 0.2
"""Share of register bits that may lack a clock gate beyond the stated one (assumed)."""


@dataclass(frozen=True, kw_only=True)
class Structure:
    """A composed block.

    ``energy_pj`` maps events to pJ each; ``delay_ns`` is the slowest path between two registers; ``clock_pj`` is per
    cycle and comes on top of the events; ``register_bits`` counts flip-flops, ``macros`` SRAMs. ``area_mm2`` and
    ``leakage_mw`` include the SRAMs.
    """

    energy_pj: Mapping[str, Figure]
    area_mm2: Figure
    leakage_mw: Figure
    delay_ns: Figure
    clock_pj: Figure
    register_bits: int
    macros: tuple[SramMacro, ...] = ()

    @property
    def logic_area_mm2(self) -> float:
        """Nominal area without the SRAMs."""
        return self.area_mm2.nominal - math.fsum(macro.area_mm2 for macro in self.macros)


@dataclass(frozen=True, kw_only=True)
class Table:
    """Words read by index: energy of one read and one write, area, leakage, delay, flip-flops and SRAMs held."""

    read_pj: Figure
    write_pj: Figure
    area_mm2: Figure
    leakage_mw: Figure
    delay_ns: Figure
    register_bits: int = 0
    macros: tuple[SramMacro, ...] = ()

    def side_by_side(self, copies: int) -> Table:
        """A table of words ``copies`` times as wide, all of them accessed together."""
        return Table(
            read_pj=self.read_pj * copies,
            write_pj=self.write_pj * copies,
            area_mm2=self.area_mm2 * copies,
            leakage_mw=self.leakage_mw * copies,
            delay_ns=self.delay_ns,
            register_bits=self.register_bits * copies,
            macros=self.macros * copies,
        )


@dataclass(frozen=True, kw_only=True)
class Parts:
    """What composed blocks share: logic family, SRAM device type and temperature, the gated share of registers."""

    logic: Logic
    cell: str = "itrs-lop"
    temperature_k: float = 330
    gated_share: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.gated_share <= 1:
            raise DchwError(
                f"parts: gated share: expected 0 to 1; got {self.gated_share}; it is the share of register bits whose "
                "clock stops while they are not written"
            )

    def table(self, entries: int, bits: int, *, ports: int = 1) -> Table:
        """``entries`` words of ``bits``; every further read port is another multiplexer or another copy of the SRAM.

        SRAM words narrower than 8 bits are padded to 8.
        """
        at_least("table", "entries", entries, 1)
        at_least("table", "bits", bits, 1)
        at_least("table", "ports", ports, 1)
        if entries < FLIP_FLOP_TABLE_ENTRIES:
            return self.register_table(entries, bits, ports=ports)
        return self.macro_table(self.sram(math.ceil(entries * max(8, bits) / 8), max(8, bits)), ports=ports)

    def macro_table(self, macro: SramMacro, *, ports: int = 1) -> Table:
        """An SRAM macro as a table, one copy per read port; a write goes to every copy."""
        return Table(
            read_pj=macro.read,
            write_pj=macro.write * ports,
            area_mm2=macro.area * ports,
            leakage_mw=macro.leakage * ports,
            delay_ns=macro.access,
            macros=(macro,) * ports,
        )

    def register_table(self, entries: int, bits: int, *, ports: int = 1) -> Table:
        """``entries`` words of flip-flops with a read multiplexer per port."""
        words = register_words(self.logic, entries, bits, ports)
        return Table(
            read_pj=words.read_pj,
            write_pj=words.write_pj,
            area_mm2=words.area_mm2,
            leakage_mw=words.leakage_mw,
            delay_ns=words.delay_ns,
            register_bits=entries * bits,
        )

    def sram(self, size_bytes: int, word_bits: int, ports: str = "1RW") -> SramMacro:
        """A macro of the parts' node, device type, temperature and way of scaling."""
        return sram(
            size_bytes=size_bytes,
            word_bits=word_bits,
            node_nm=self.logic.node_nm,
            cell=self.cell,
            temperature_k=self.temperature_k,
            ports=ports,
            scaling=self.logic.scaling,
        )

    def structure(
        self,
        energy_pj: Mapping[str, Figure],
        *,
        blocks: Sequence[Block] = (),
        tables: Sequence[Table] = (),
        path: Sequence[Figure],
        register_bits: int,
    ) -> Structure:
        """A block from what it holds; ``register_bits`` are those of ``blocks``, tables bring their own."""
        area = combine([*(b.area_mm2 for b in blocks), *(t.area_mm2 for t in tables)])
        leakage = combine([*(b.leakage_mw for b in blocks), *(t.leakage_mw for t in tables)])
        bits = register_bits + sum(table.register_bits for table in tables)
        macros = tuple(macro for table in tables for macro in table.macros)
        logic_area = area.nominal - math.fsum(macro.area_mm2 for macro in macros)
        return Structure(
            energy_pj=MappingProxyType(dict(energy_pj)),
            area_mm2=area,
            leakage_mw=leakage,
            delay_ns=combine(path),
            clock_pj=self.clock(bits, logic_area, len(macros)),
            register_bits=bits,
            macros=macros,
        )

    def clock(self, register_bits: int, logic_area_mm2: float, macros: int = 0) -> Figure:
        """pJ per cycle of the clock tree and of the registers that are not gated."""
        tree = clock_tree(register_bits, max(logic_area_mm2, 0.0), self.logic, macros)
        share = 1 - self.gated_share
        most = min(1.0, share + UNGATED_MARGIN)
        source = f"{self.gated_share:.0%} of register bits gated (down to {1 - most:.0%})"
        ungated = Figure(share, share, most, "1", source, Confidence.ASSUMED).because("registers without clock gating")
        each = self.logic.register(1).energy_pj * register_bits
        return combine((tree, each.times(ungated, "pJ")))


def at_least(where: str, what: str, value: int, least: int) -> None:
    """Raise unless a count is large enough."""
    if value < least:
        raise DchwError(f"{where}: {what}: expected at least {least}; got {value}; give a count the hardware can have")
