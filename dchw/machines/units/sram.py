"""On-chip SRAM buffer: banks of words with a fixed access time, filled from one side and read from the other.

Bandwidth is ``banks x word_bits`` per cycle and port. Readers that outnumber the banks share them in fixed time
slots: reader i may start a word every ``ceil(readers / banks)`` cycles, so a conflict costs cycles but never depends
on who asked first. A ``1RW`` macro gives fills priority in slots of their own; with ``1R1W`` fills and reads do not
meet. Not modelled: address-dependent bank conflicts inside one reader's own stream (streams are sequential).
"""

from __future__ import annotations

from typing import Literal

from pydantic import model_validator

from dchw.config import Positive, Size
from dchw.machines.units.unit import Unit, UnitCosts
from dchw.quantities import ceil_div
from dchw.technology.banks import banked
from dchw.technology.figure import Figure
from dchw.technology.parts import Parts
from dchw.technology.sram import sram
from dchw.vocabulary import Event


class Sram(Unit):
    """Parameters of one buffer."""

    size_bytes: Size
    """Capacity over all banks, written with its unit (``512 KiB``)."""
    banks: Positive = 1
    word_bits: Positive = 64
    ports: Literal["1RW", "1R1W"] = "1RW"
    access_cycles: Positive = 1
    """Cycles from address to data, stated here and checked against the table's access time at the clock."""

    @model_validator(mode="after")
    def _whole_words(self) -> Sram:
        if self.size_bytes * 8 % (self.banks * self.word_bits):
            raise ValueError(
                f"expected a size of whole words in every bank; got {self.size_bytes} B for {self.banks} banks of "
                f"{self.word_bits}-bit words; change size_bytes, banks or word_bits"
            )
        return self

    def words(self, bits: int) -> int:
        """Words that hold ``bits`` stored from a word boundary."""
        return ceil_div(bits, self.word_bits)

    def fill_cycles(self, size_bytes: int) -> int:
        """Cycles to write a block over all banks."""
        return max(1, ceil_div(size_bytes * 8, self.banks * self.word_bits))

    def reader_bits_per_cycle(self, readers: int) -> tuple[int, int]:
        """Bits one of ``readers`` sequential readers gets, as (bits, every so many cycles)."""
        return self.word_bits, ceil_div(readers, self.banks)

    def costs(self, parts: Parts, *, readers: int) -> UnitCosts:
        """Macros from the CACTI table, one per bank, and the interconnect that makes one buffer of them.

        Where every one of ``readers`` has a bank, banks lie beside their readers and a read crosses no interconnect.
        """
        bank = sram(
            size_bytes=self.size_bytes // self.banks,
            word_bits=self.word_bits,
            node_nm=parts.logic.node_nm,
            cell=parts.cell,
            ports=self.ports,
            temperature_k=parts.temperature_k,
        )
        whole = banked(bank, self.banks)
        reading = bank if self.banks >= readers > 1 else whole
        energy: dict[Event, Figure] = {Event.SRAM_READ: reading.read, Event.SRAM_WRITE: whole.write}
        return UnitCosts(
            energy_pj=energy,
            leakage_mw=whole.leakage,
            area_mm2=whole.area,
            clock_pj=None,
            delay_ns=reading.access * (1 / self.access_cycles),
        )
