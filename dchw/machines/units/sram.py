"""On-chip SRAM buffer: banks of words with a fixed access time, filled from one side and read from the other.

Bandwidth is ``banks x word_bits`` per cycle and port. Readers that outnumber the banks share them in fixed time
slots: reader i may start a word every ``ceil(readers / banks)`` cycles, so a conflict costs cycles but never depends
on who asked first. A ``1RW`` macro gives fills priority in slots of their own; with ``1R1W`` fills and reads do not
meet. Not modelled: address-dependent bank conflicts inside one reader's own stream (streams are sequential).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import ClassVar, Literal

from pydantic import Field, model_validator

from dchw.config import Config, Positive, Size
from dchw.formats import Need
from dchw.machines.units.pe_array import PeArray
from dchw.machines.units.unit import Count, Direction, Port, Setting, Unit, UnitCosts
from dchw.program.flow import Flow
from dchw.quantities import ceil_div
from dchw.technology.banks import banked
from dchw.technology.building_blocks import Parts
from dchw.technology.figure import Figure, slowest
from dchw.technology.structures import merged
from dchw.vocabulary import Event, Stream


class Sram(Unit):
    """Parameters of one buffer."""

    category: ClassVar[str] = "SRAM"
    stage: ClassVar[str] = "buffer"

    size_bytes: Size = Field(le=1 << 32)
    """Capacity over all banks, written with its unit (``512 KiB``)."""
    banks: Positive = Field(default=1, le=1 << 12)
    """Banks that work side by side; readers beyond them share in fixed time slots."""
    word_bits: Positive = Field(default=64, le=1 << 12)
    """Width of one bank's word."""
    ports: Literal["1RW", "1R1W"] = "1RW"
    """Of a bank: one port for reads and writes, or one of each."""
    access_cycles: Positive = Field(default=1, le=1 << 10)
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

    def readers(self, setting: Setting) -> int:
        """Who reads it side by side; the broadcast of activations is one reader."""
        return 1

    @property
    def filling(self) -> Port:
        """Blocks from the memory come in over all banks."""
        return Port(direction=Direction.IN, bits=self.banks * self.word_bits)

    def costs(self, parts: Parts, setting: Setting) -> UnitCosts:
        """Macros from the CACTI table, one per bank, and the interconnect that makes one buffer of them.

        Where every reader has a bank, banks lie beside their readers and a read crosses no interconnect.
        """
        readers = self.readers(setting)
        bank = parts.sram(self.size_bytes // self.banks, self.word_bits, self.ports)
        whole = banked(bank, self.banks)
        reading = bank if self.banks >= readers > 1 else whole
        energy: dict[str, Figure] = {Event.SRAM_READ: reading.read, Event.SRAM_WRITE: whole.write}
        return UnitCosts(
            energy_pj=energy,
            leakage_mw=whole.leakage,
            area_mm2=whole.area,
            clock_pj=None,
            delay_ns=reading.access * (1 / self.access_cycles),
        )


def _words(reads: Mapping[Stream, int], writes: Mapping[Stream, int]) -> Iterator[Count]:
    for stream, words in reads.items():
        yield Count(event=Event.SRAM_READ, count=words, stream=stream)
    for stream, words in writes.items():
        yield Count(event=Event.SRAM_WRITE, count=words, stream=stream)


class ActivationSram(Sram):
    """The buffer of activations: a word per group of lanes is broadcast to all elements.

    Where groups of channels are worked side by side, a word of each goes to the elements of its own, as many a cycle as
    all banks give. The links are then as wide as the banks; their wires are not priced apart.
    """

    def feed_cycles(self, lanes: int, bits: int, groups: int = 1) -> int:
        """Cycles in which one group of lanes is broadcast, of each of so many groups of channels side by side."""
        return ceil_div(groups * lanes * bits, self.banks * self.word_bits)

    def counts(self, flow: Flow, setting: Setting) -> Iterator[Count]:
        """A read or write per word."""
        yield from _words(flow.activation_reads, flow.activation_writes)

    def links(self, setting: Setting) -> Mapping[str, Port]:
        """Activations in; columns out to the array, and to the vector unit blocks that are read behind a layer."""
        bits = setting.lanes * setting.formats.activations.bits
        blocks = Port(direction=Direction.OUT, bits=self.word_bits)
        return {"activations": self.filling, "columns": Port(direction=Direction.OUT, bits=bits), "blocks": blocks}


class PointerMemory(Config):
    """An array of its own for stored pointers, read at random: where a column's entries begin and where they end."""

    size_bytes: Size = Field(le=1 << 30)
    """Capacity over all banks, written with its unit."""
    banks: Positive = Field(le=1 << 14)
    """Two an element let the begin and the end be read in one cycle, as in EIE."""
    word_bits: Positive = Field(le=64)
    """Width of a pointer."""


class WeightSram(Sram):
    """The buffer of weights: coded chunks, fixed-width entries or plain weights, read by whoever decodes or works."""

    works_with: ClassVar[type[Unit] | None] = PeArray

    pointer_memory: PointerMemory | None = None
    """Where elements read stored pointers; without one they come with the weights. It is filled as part of this
    buffer, at this buffer's energy per word."""

    def counts(self, flow: Flow, setting: Setting) -> Iterator[Count]:
        """A read or write per word, and a read per pointer that lies in a memory of its own."""
        yield from _words(flow.weight_reads, flow.weight_writes)
        if self.pointer_memory is not None:
            yield Count(event=Event.POINTER_READ, count=flow.pointer_reads, stream=Stream.POINTERS)

    def readers(self, setting: Setting) -> int:
        """Decode units that read chunks at use, elements that read their own entries, or the lockstep array."""
        if Need.DECODER in setting.needs and setting.decode_at_use:
            return setting.decode_units
        return setting.elements if setting.positions else self.banks

    def links(self, setting: Setting) -> Mapping[str, Port]:
        """Weights in; chunks out, those of code tables among them; tables out to an array that nobody decodes for."""
        chunks = Port(direction=Direction.OUT, bits=self.word_bits, copies=self.readers(setting))
        tables = {"tables": Port(direction=Direction.OUT, bits=self.word_bits)}
        return {"weights": self.filling, "chunks": chunks, **({} if Need.DECODER in setting.needs else tables)}

    def costs(self, parts: Parts, setting: Setting) -> UnitCosts:
        """The weights' macros, and those of the pointers: a read with the counter that addresses it and a register."""
        weights, memory = super().costs(parts, setting), self.pointer_memory
        if memory is None:
            return weights
        bank = parts.sram(memory.size_bytes // memory.banks, memory.word_bits)
        address_bits = max(1, (bank.words - 1).bit_length())
        held = parts.structure(
            {},
            blocks=(parts.logic.register(memory.word_bits), parts.logic.count(address_bits)),
            tables=(parts.macro_table(bank),),
            path=(bank.access,),
            register_bits=memory.word_bits + address_bits,
        )
        logic = parts.logic.register(memory.word_bits).energy_pj + parts.logic.count(address_bits).energy_pj
        whole = merged(parts, [(held, memory.banks)], {})
        return UnitCosts(
            energy_pj={**weights.energy_pj, Event.POINTER_READ: bank.read + logic},
            leakage_mw=weights.leakage_mw + whole.leakage_mw,
            area_mm2=weights.area_mm2 + whole.area_mm2,
            clock_pj=whole.clock_pj,
            delay_ns=slowest(delay for delay in (weights.delay_ns, bank.access) if delay is not None),
        )
