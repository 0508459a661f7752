"""How often every unit does what: event counts of a workload, settled by arithmetic before any cycle is simulated.

A filler entry is decoded, looked up and multiplied like any other (its value is zero); a column whose activations are
all zero is neither looked up nor multiplied, but coded bits are decoded from a chunk's start all the same.
DRAM commands are not here: they are counted where they are issued.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np

from dchw.formats import Entries, Need, storage_format
from dchw.machines.machine import Machine
from dchw.machines.units.huffman_decoder import DecoderStyle, Placement
from dchw.mapping.stages import LayerWork, Stage
from dchw.mapping.workload import Workload
from dchw.program.program import Program
from dchw.quantities import ceil_div
from dchw.vocabulary import Event, Stream

_STREAMS = list(Stream)
PLENTY = (1 << 40, 1)
"""A supply of bits that never holds a decoder back."""


@dataclass(frozen=True, kw_only=True)
class EventCount:
    """So many events of one kind in one unit for one layer; ``stream`` where bytes of one stream cause them."""

    layer: str
    unit: str
    event: Event
    stream: Stream | None
    count: int


def count_events(workload: Workload, program: Program) -> tuple[EventCount, ...]:
    """Events of all units on the chip, per layer."""
    counts: Counter[tuple[str, str, Event, Stream | None]] = Counter()
    for stage in workload.stages:
        _Counting(workload.machine, stage, counts).count()
    _requests(workload, program, counts)
    return tuple(
        EventCount(layer=layer, unit=unit, event=event, stream=stream, count=count)
        for (layer, unit, event, stream), count in counts.items()
        if count
    )


def _requests(workload: Workload, program: Program, counts: Counter[tuple[str, str, Event, Stream | None]]) -> None:
    """What crosses the DMA, and the words its answers fill."""
    machine = workload.machine
    staged = workload.storage == "huffman" and machine.huffman.placement is Placement.LOAD
    memory = program.memory
    for requests in memory.requests if memory is not None else ():
        words = -(-requests.bursts.astype(np.int64) * machine.dram.burst_bytes * 8 // machine.weight_sram.word_bits)
        for layer in np.unique(requests.layer):
            for stream in np.unique(requests.stream):
                mine = (requests.layer == layer) & (requests.stream == stream)
                name, kind = program.layers[layer], _STREAMS[stream]
                counts[name, "dma", Event.DMA_REQUEST, kind] += int(mine.sum())
                if kind in (Stream.ACTIVATIONS, Stream.OUTPUTS):
                    continue  # counted with the activation SRAM
                if staged:
                    counts[name, "dma", Event.SRAM_WRITE, kind] += int(words[mine].sum())
                    counts[name, "dma", Event.SRAM_READ, kind] += int(words[mine].sum())
                else:
                    counts[name, "weight_sram", Event.SRAM_WRITE, kind] += int(words[mine].sum())


class _Counting:
    """Counts one stage."""

    def __init__(self, machine: Machine, stage: Stage, counts: Counter[tuple[str, str, Event, Stream | None]]) -> None:
        self._machine, self._stage, self._counts = machine, stage, counts
        self._work: LayerWork = stage.layer
        activity = self._work.activity.astype(np.int64)
        pixels = np.array([self._work.tiling.pixels_in(i) for i in range(self._work.tiling.passes)])
        self._groups = activity.sum(axis=0)
        """Groups of lanes per job, over all passes."""
        self._active = np.count_nonzero(activity, axis=0)
        """Passes in which each job is broadcast."""
        self._lanes = np.minimum(activity * machine.pe_array.lanes, pixels[:, None]).sum(axis=0)
        """Products one weight of each job takes part in."""

    def count(self) -> None:
        self._activations()
        if isinstance(self._work.weights, Entries):
            self._sparse(self._work.weights)
        else:
            self._dense()

    def _add(self, unit: str, event: Event, count: int, stream: Stream | None = None) -> None:
        self._counts[self._work.name, unit, event, stream] += int(count)

    def _activations(self) -> None:
        machine, work = self._machine, self._work
        sram, bits = machine.activation_sram, machine.formats.activations.bits
        words = sram.words(machine.pe_array.lanes * bits)
        self._add("activation_sram", Event.SRAM_READ, int(self._groups.sum()) * words, Stream.ACTIVATIONS)
        for size in self._stage.loads.values():
            self._add("activation_sram", Event.SRAM_WRITE, sram.words(size * 8), Stream.ACTIVATIONS)
        values = work.output_values + self._stage.vector_values
        self._add("activation_sram", Event.SRAM_WRITE, sram.words(work.output_values * bits), Stream.OUTPUTS)
        for size in self._stage.stores.values():
            self._add("activation_sram", Event.SRAM_READ, sram.words(size * 8), Stream.OUTPUTS)
        self._add("vector", Event.VECTOR_OPERATION, values)
        self._add("pe_array", Event.MAC, self._stage.product_macs)

    def _multiply(self, products: int) -> None:
        self._add("pe_array", Event.MAC, products)
        self._add("pe_array", Event.ACCUMULATOR_ACCESS, products + self._work.output_values)

    def _dense(self) -> None:
        work, sram = self._work, self._machine.weight_sram
        rows = work.geometry.out_channels // work.geometry.groups
        words = sram.words(rows * work.entry_bits)
        self._add("weight_sram", Event.SRAM_READ, int(self._active.sum()) * words, Stream.WEIGHTS)
        # one queue in front of the lockstep array
        self._add("pe_array", Event.QUEUE_WRITE, int(self._groups.sum()), Stream.ACTIVATIONS)
        self._add("pe_array", Event.QUEUE_READ, int(self._groups.sum()), Stream.ACTIVATIONS)
        self._multiply(int(self._lanes.sum()) * rows)

    def _sparse(self, entries: Entries) -> None:
        machine, work = self._machine, self._work
        needs = storage_format(work.packed.storage).needs
        per_job = np.bincount(entries.job, minlength=self._active.size)
        used = int((per_job * self._active).sum())
        elements = machine.pe_array.elements
        self._add("pe_array", Event.QUEUE_WRITE, int(self._groups.sum()) * elements, Stream.ACTIVATIONS)
        self._add("pe_array", Event.QUEUE_READ, int(self._groups.sum()) * elements, Stream.ACTIVATIONS)
        self._multiply(int((per_job * self._lanes).sum()))
        if Need.INDEX in needs:
            self._add("pe_array", Event.INDEX_ACCUMULATE, used, Stream.GAPS)
        if Need.CODEBOOK in needs:
            size = work.packed.packed_bytes.get(Stream.CODEBOOKS, 0) * 8 // work.packed.parameters.value_bits + 1
            self._add("codebook", Event.CODEBOOK_LOOKUP, used, Stream.CODES)
            self._add("codebook", Event.TABLE_WRITE, size * machine.codebook.copies(elements), Stream.CODEBOOKS)
        if Need.DECODER in needs:
            self._decode(entries, used)
        else:
            self._fixed_width(entries)
        for stream, size in work.packed.packed_bytes.items():
            if stream not in work.packed.chunk_bytes:
                self._add("weight_sram", Event.SRAM_READ, machine.weight_sram.words(size * 8), stream)

    def _fixed_width(self, entries: Entries) -> None:
        """Elements read the runs of active columns, each from a word boundary on, and all pointers every pass."""
        work, sram = self._work, self._machine.weight_sram
        run_words = -(-entries.run_count.astype(np.int64) * work.entry_bits // sram.word_bits)
        words = int((run_words * self._active[entries.run_job]).sum())
        self._add("weight_sram", Event.SRAM_READ, words, Stream.CODES)
        pointers = sram.words(work.packed.packed_bytes.get(Stream.POINTERS, 0) * 8)
        self._add("weight_sram", Event.SRAM_READ, pointers * work.tiling.passes, Stream.POINTERS)

    def _decode(self, entries: Entries, used: int) -> None:
        machine, work = self._machine, self._work
        sram, huffman = machine.weight_sram, machine.huffman
        at_load = huffman.placement is Placement.LOAD
        decodes = 1 if at_load else work.tiling.passes
        stored = entries.job.size
        for stream, bits in ((Stream.GAPS, entries.gap_bits), (Stream.CODES, entries.code_bits)):
            coded = int(bits.sum(dtype=np.int64))
            if huffman.style is not DecoderStyle.MULTI_SYMBOL:
                self._add("huffman", Event.SYMBOL_DECODE, stored * decodes, stream)
            if huffman.style is DecoderStyle.BIT_SERIAL:
                self._add("huffman", Event.DECODE_STEP, coded * decodes, stream)
            if huffman.style is DecoderStyle.MULTI_SYMBOL:
                self._add("huffman", Event.DECODE_STEP, self._look_ups(entries) * decodes, stream)
            self._add("huffman", Event.BUFFER_REFILL, ceil_div(coded, huffman.window_bits) * decodes, stream)
        symbols = work.packed.parameters.gap_symbols + work.packed.parameters.code_symbols
        units = np.unique(work.packed.chunk_decoder).size
        self._add("huffman", Event.TABLE_WRITE, symbols * units, Stream.CODE_TABLES)
        if at_load:
            written = ceil_div(stored * work.entry_bits, sram.word_bits)
            self._add("weight_sram", Event.SRAM_WRITE, written * decodes, Stream.CODES)
            self._fixed_width(entries)
            return
        for stream, offsets in work.packed.chunk_bytes.items():
            words = int((-(-np.diff(offsets) * 8 // sram.word_bits)).sum())
            self._add("weight_sram", Event.SRAM_READ, words * decodes, stream)
        self._add("huffman", Event.QUEUE_WRITE, used, Stream.CODES)
        self._add("huffman", Event.QUEUE_READ, used, Stream.CODES)

    def _look_ups(self, entries: Entries) -> int:
        """Cycles in which a multi-symbol decoder looks up: the last delivery of each chunk, plus one, summed."""
        ready = self._machine.huffman.schedule(
            entries.gap_bits, entries.code_bits, np.empty(0, np.int64), entries.chunk_offsets, 0.0, PLENTY
        )
        ends = entries.chunk_offsets[1:][np.diff(entries.chunk_offsets) > 0]
        return int((ready[ends - 1] + 1).sum())
