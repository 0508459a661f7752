"""Huffman decode units: N of them, each a gap decoder and a code decoder in step on its own chunk.

    coded words -> [bit buffer] -> [table look-up] -> gap, code -> queue of a processing element

Styles (cycles for one entry, its code word lengths being g for the gap and c for the code):

- ``bit_serial``: both decoders walk ``bits_per_cycle`` bits a cycle: ``max(ceil(g / b), ceil(c / b))``.
- ``table``: one entry a cycle, whatever its length up to the window.
- ``multi_symbol``: up to ``max_symbols`` entries in one cycle, while their gap bits and their code bits each fit
  ``window_bits``; always at least one.
- ``rate``: weights (zeros included) per cycle as a function of a layer's share of zeros, for units known only that way:
  ``rate_low`` up to ``zeros_low``, rising linearly to ``rate_high`` at ``zeros_high`` and above. An entry is delivered
  in the cycle in which the last of the weights it covers is decoded.

Entries of the next cycle start where the last ended; a chunk decodes from its start and costs
``chunk_start_cycles`` first (pointer set-up and filling the bit buffer). Loading the code tables of a layer takes
``ceil(table entries / table_writes_per_cycle)`` cycles in every unit. Bits arrive from the weight SRAM in fixed time
slots (`dchw.machines.units.sram`): entry i is not decoded before its last bit arrived.
Not modelled: overlap of one chunk's set-up with the end of the chunk before.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from enum import StrEnum
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
from pydantic import Field, model_validator

from dchw.config import Config, NonNegative, Positive
from dchw.formats import Need
from dchw.machines.units.unit import Count, Direction, Port, Setting, Unit, UnitCosts
from dchw.program.flow import Flow
from dchw.quantities import ceil_div
from dchw.technology.building_blocks import Parts
from dchw.technology.figure import Figure
from dchw.technology.structures import fifo, huffman_decode_unit, merged
from dchw.vocabulary import Event, Stream

ENTRY_BITS = 16
"""Width of a decoded entry between a decode unit and a processing element: a gap and a code of up to 8 bits."""
SYMBOL_BITS = 8
"""Width of a decoded gap or code in the tables."""
PLENTY = (1 << 40, 1)
"""A supply of bits that never holds a decoder back."""
RATE_UNIT = 1024
"""Decode rates are whole multiples of 1/1024 weight per cycle, so that time stays in integers."""


class DecoderStyle(StrEnum):
    """How a decode unit works through its bits."""

    BIT_SERIAL = "bit_serial"
    TABLE = "table"
    MULTI_SYMBOL = "multi_symbol"
    RATE = "rate"


class Placement(StrEnum):
    """When weights are decoded."""

    LOAD = "load"  # on the way into the weight SRAM, which holds fixed-width entries
    USE = "use"  # on the way out of the weight SRAM, which holds coded chunks


class DecodeRate(Config):
    """Weights per cycle against the share of zeros, for the ``rate`` style."""

    rate_low: Positive = Field(le=1 << 10)
    """Weights a cycle up to a share of zeros of ``zeros_low``."""
    rate_high: Positive = Field(le=1 << 10)
    """Weights a cycle from a share of zeros of ``zeros_high``."""
    zeros_low: float = Field(ge=0, le=1)
    """Share of zeros from which the rate rises."""
    zeros_high: float = Field(ge=0, le=1)
    """Share of zeros up to which the rate rises."""

    @model_validator(mode="after")
    def _ordered(self) -> DecodeRate:
        if self.zeros_low >= self.zeros_high:
            raise ValueError(f"expected zeros_low below zeros_high; got {self.zeros_low} and {self.zeros_high}")
        return self

    def at(self, zeros: float) -> float:
        """Weights per cycle at a share of zeros between 0 and 1."""
        share = min(max((zeros - self.zeros_low) / (self.zeros_high - self.zeros_low), 0.0), 1.0)
        return self.rate_low + share * (self.rate_high - self.rate_low)


class HuffmanDecoder(Unit):
    """Parameters of the decode units."""

    label: ClassVar[str] = "Huffman decoders"
    category: ClassVar[str] = "decode"
    stage: ClassVar[str] = "decode"
    resource: ClassVar[str] = "decode"
    resource_allows: ClassVar[str] = "decoding"

    units: Positive = Field(le=1 << 14)
    """Decode units; their number and that of processing elements divide one another."""
    style: DecoderStyle = DecoderStyle.TABLE
    """How a unit works through its bits."""
    placement: Placement = Placement.USE
    """Whether weights are decoded on their way into the weight SRAM (``load``) or out of it (``use``)."""
    window_bits: Positive = Field(default=12, le=32)
    """Bits a look-up sees; no code word may be longer."""
    bits_per_cycle: Positive = Field(default=1, le=1 << 10)
    """Bits that the style ``bit_serial`` walks in a cycle."""
    max_symbols: Positive = Field(default=2, le=16)
    """Entries that the style ``multi_symbol`` delivers in a cycle, at most."""
    rate: DecodeRate | None = None
    """Weights a cycle for the style ``rate``, and only for it."""
    chunk_entries: Positive = Field(default=1024, le=1 << 24)
    """Entries after which a chunk is closed at the next column."""
    chunk_start_cycles: NonNegative = Field(default=1, le=1 << 16)
    """Cycles before the first entry of a chunk: pointer set-up, filling the bit buffer."""
    table_entries: Positive = Field(default=512, le=1 << 20)
    """Symbols that the canonical gap and code tables of one unit hold together."""
    table_writes_per_cycle: Positive = Field(default=4, le=1 << 16)
    """Table entries written in a cycle while a layer's code tables are loaded."""
    output_queue: Positive = Field(default=8, le=1 << 16)
    """Entries that may wait between a decode unit and each processing element."""

    @model_validator(mode="after")
    def _complete(self) -> HuffmanDecoder:
        if (self.style is DecoderStyle.RATE) != (self.rate is not None):
            raise ValueError("expected a section 'rate' exactly when style is 'rate'; add or remove it")
        if self.style is DecoderStyle.MULTI_SYMBOL and self.output_queue < self.max_symbols:
            raise ValueError(
                "expected an output_queue of at least max_symbols, which style multi_symbol hands over in a cycle; "
                f"got {self.output_queue} for {self.max_symbols}; make the queue longer"
            )
        return self

    @property
    def most_per_cycle(self) -> float:
        """Entries that all units together deliver in a cycle, at most."""
        each: float = {
            DecoderStyle.BIT_SERIAL: self.bits_per_cycle,
            DecoderStyle.TABLE: 1,
            DecoderStyle.MULTI_SYMBOL: self.max_symbols,
            DecoderStyle.RATE: self.rate.rate_high if self.rate is not None else 1,
        }[self.style]
        return self.units * each

    @property
    def at_use(self) -> bool:
        """Whether weights are decoded on their way out of the weight SRAM."""
        return self.placement is Placement.USE

    def table_load_cycles(self, entries: int) -> int:
        """Cycles to write a layer's code tables of so many entries into every unit."""
        return max(1, ceil_div(entries, self.table_writes_per_cycle))

    def one_a_cycle(self, longest: int, supply: tuple[int, int]) -> bool:
        """Whether entries of up to ``longest`` bits leave one a cycle from cycle 0 on, in every chunk, without a wait:
        `schedule` is 0, 1, .. then. ``supply`` as there: bits come at least as fast as they are worked."""
        bits, cycles = supply
        return self.style is DecoderStyle.TABLE and longest * cycles <= bits

    def schedule(
        self,
        gap_bits: npt.NDArray[np.uint8],
        code_bits: npt.NDArray[np.uint8],
        weights_covered: npt.NDArray[np.int64],
        chunk_offsets: npt.NDArray[np.int64],
        zeros: float,
        supply: tuple[int, int],
    ) -> npt.NDArray[np.int64]:
        """The cycle of its chunk in which each entry is delivered, the first decode cycle of a chunk being 0.

        int64[entries], never decreasing within a chunk; entries with the same number leave together.
        ``weights_covered`` is how many weights each entry stands for (zeros skipped and itself), ``zeros`` the share
        of zeros of the layer; ``supply`` is (bits, every so many cycles) in which coded bits arrive.
        """
        rate = 1 if self.rate is None else max(1, round(self.rate.at(zeros) * RATE_UNIT))
        return delivery_cycles(
            list(DecoderStyle).index(self.style),
            gap_bits,
            code_bits,
            weights_covered,
            chunk_offsets,
            np.array([self.bits_per_cycle, self.window_bits, self.max_symbols, rate, *supply], np.int64),
        )

    def look_ups(
        self,
        gap_bits: npt.NDArray[np.uint8],
        code_bits: npt.NDArray[np.uint8],
        chunk_offsets: npt.NDArray[np.int64],
    ) -> int:
        """Cycles in which a multi-symbol decoder looks up, over all chunks; 0 in the other styles."""
        if self.style is not DecoderStyle.MULTI_SYMBOL:
            return 0
        ready = self.schedule(gap_bits, code_bits, np.empty(0, np.int64), chunk_offsets, 0.0, PLENTY)
        ends = chunk_offsets[1:][np.diff(chunk_offsets) > 0]
        return int((ready[ends - 1] + 1).sum())

    def counts(self, flow: Flow, setting: Setting) -> Iterator[Count]:
        """Symbols, steps and refills of every stream; tables written into every unit; entries through the queues."""
        for stream, decoded in flow.decoded.items():
            if self.style is not DecoderStyle.MULTI_SYMBOL:
                yield Count(event=Event.SYMBOL_DECODE, count=decoded.symbols * decoded.times, stream=stream)
            if self.style is DecoderStyle.BIT_SERIAL:
                yield Count(event=Event.DECODE_STEP, count=decoded.bits * decoded.times, stream=stream)
            if self.style is DecoderStyle.MULTI_SYMBOL:
                yield Count(event=Event.DECODE_STEP, count=decoded.look_ups * decoded.times, stream=stream)
            windows = ceil_div(decoded.bits, self.window_bits)
            yield Count(event=Event.BUFFER_REFILL, count=windows * decoded.times, stream=stream)
        yield Count(event=Event.TABLE_WRITE, count=flow.table_symbols, stream=Stream.CODE_TABLES)
        if self.at_use and self.involved(setting):
            yield Count(event=Event.QUEUE_WRITE, count=flow.entries, stream=flow.values)
            yield Count(event=Event.QUEUE_READ, count=flow.entries, stream=flow.values)

    def links(self, setting: Setting) -> Mapping[str, Port]:
        """Chunks in; entries, steps or whole decoded chunks out."""
        word = setting.weight_word_bits
        chunks = Port(direction=Direction.IN, bits=word, copies=self.units)
        if not self.at_use:
            return {"chunks": chunks, "decoded chunks": Port(direction=Direction.OUT, bits=word, copies=self.units)}
        entries = Port(direction=Direction.OUT, bits=ENTRY_BITS, copies=setting.elements)
        return {"chunks": chunks, "entries" if setting.positions else "steps": entries}

    def involved(self, setting: Setting) -> bool:
        """Only coded formats are decoded."""
        return Need.DECODER in setting.needs

    def costs(self, parts: Parts, setting: Setting) -> UnitCosts:
        """A gap and a code decoder per unit, and the entry queues in front of the processing elements.

        The ``rate`` style stands for units whose inside is not published: it is costed as a table decoder.
        """
        style = DecoderStyle.TABLE if self.style is DecoderStyle.RATE else self.style
        decoder = huffman_decode_unit(
            parts,
            style=style.value,
            window_bits=self.window_bits,
            table_entries=ceil_div(self.table_entries, 2),
            symbol_bits=SYMBOL_BITS,
            symbols_per_cycle=self.max_symbols if style is DecoderStyle.MULTI_SYMBOL else 1,
        )
        queue = fifo(parts, depth=self.output_queue, bits=ENTRY_BITS)
        at_use, elements = self.at_use, setting.elements
        whole = merged(parts, [(decoder, 2 * self.units), (queue, elements if at_use else 0)], {})
        energy: dict[str, Figure] = {
            Event.BUFFER_REFILL: decoder.energy_pj["refill"],
            Event.TABLE_WRITE: decoder.energy_pj["table_load"],
        }
        if style is DecoderStyle.TABLE:
            energy[Event.SYMBOL_DECODE] = decoder.energy_pj["decode_step"]
        else:
            energy[Event.DECODE_STEP] = decoder.energy_pj["decode_step"]
        if style is DecoderStyle.BIT_SERIAL:
            energy[Event.SYMBOL_DECODE] = decoder.energy_pj["symbol_read"]
        if at_use:
            energy |= {Event.QUEUE_WRITE: queue.energy_pj["push"], Event.QUEUE_READ: queue.energy_pj["pop"]}
        return UnitCosts(
            energy_pj=energy,
            leakage_mw=whole.leakage_mw,
            area_mm2=whole.area_mm2,
            clock_pj=whole.clock_pj,
            delay_ns=whole.delay_ns,
        )


def delivery_cycles(*arguments: Any) -> npt.NDArray[np.int64]:
    """`dchw.machines.units.kernels.delivery_cycles`, imported when first needed (numba is slow to import)."""
    from dchw.machines.units import kernels

    return kernels.delivery_cycles(*arguments)  # type: ignore[no-any-return]
