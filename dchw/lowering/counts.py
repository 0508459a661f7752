"""How often every unit does what: event counts of a workload, settled by arithmetic before any cycle is simulated.

A filler entry is decoded, looked up and multiplied like any other (its value is zero); a column whose activations are
all zero is neither looked up nor multiplied, but coded bits are decoded from a chunk's start all the same.
DRAM commands are not here: they are counted where they are issued.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np

from dchw.formats import Need
from dchw.lowering.weights import kept_decoded
from dchw.machines.units.huffman_decoder import DecoderStyle, Placement
from dchw.machines.units.unit import Flow, Unit
from dchw.mapping.stages import LayerWork, Stage
from dchw.mapping.workload import Workload
from dchw.program.outline import Outline, outline_of
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
    event: str
    """An `Event`, or the name of one that only this unit has."""
    stream: Stream | None
    count: int


def count_events(workload: Workload, program: Program | Outline) -> tuple[EventCount, ...]:
    """Events of all units on the chip, per layer."""
    program = outline_of(program)
    counts: Counter[tuple[str, str, str, Stream | None]] = Counter()
    for stage in workload.stages:
        _Counting(workload, stage, decodes_of(workload, program, stage.layer), counts).count()
    _requests(workload, program, counts)
    return tuple(
        EventCount(layer=layer, unit=unit, event=event, stream=stream, count=count)
        for (layer, unit, event, stream), count in counts.items()
        if count
    )


def decodes_of(workload: Workload, program: Outline, work: LayerWork) -> int:
    """How often the decode units go through a layer's chunks: once a pass at use; at load once if the layer is kept
    decoded, and not at all where it is in the SRAM from the run before."""
    machine = workload.machine
    if machine.huffman.placement is Placement.USE or not work.needs(Need.DECODER):
        return work.tiling.passes
    unit, layer = machine.name_of(machine.huffman), program.layers.index(work.name)
    if not any(node.firings[layer] for node in program.of_unit(unit)):
        return 0
    return 1 if kept_decoded(machine, work) else work.tiling.passes


def _requests(workload: Workload, program: Outline, counts: Counter[tuple[str, str, str, Stream | None]]) -> None:
    """What crosses the DMA, and the words its answers fill."""
    machine = workload.machine
    staged = workload.decodes_at_load
    dma, weight_sram = machine.name_of(machine.dma), machine.name_of(machine.weight_sram)
    memory = program.memory
    for requests in memory.requests if memory is not None else ():
        words = -(-requests.bursts.astype(np.int64) * machine.dram.burst_bytes * 8 // machine.weight_sram.word_bits)
        for layer in np.unique(requests.layer):
            for stream in np.unique(requests.stream):
                mine = (requests.layer == layer) & (requests.stream == stream)
                name, kind = program.layers[layer], _STREAMS[stream]
                counts[name, dma, Event.DMA_REQUEST, kind] += int(mine.sum())
                if kind in (Stream.ACTIVATIONS, Stream.OUTPUTS):
                    continue  # counted with the activation SRAM
                if staged:
                    counts[name, dma, Event.SRAM_WRITE, kind] += int(words[mine].sum())
                    counts[name, dma, Event.SRAM_READ, kind] += int(words[mine].sum())
                else:
                    counts[name, weight_sram, Event.SRAM_WRITE, kind] += int(words[mine].sum())


class _Counting:
    """Counts one stage."""

    def __init__(
        self, workload: Workload, stage: Stage, decodes: int, counts: Counter[tuple[str, str, str, Stream | None]]
    ) -> None:
        self._machine, self._stage, self._decodes, self._counts = workload.machine, stage, decodes, counts
        self._work: LayerWork = stage.layer
        activity = self._work.activity.astype(np.int64)
        pixels = np.array([self._work.tiling.pixels_in(i) for i in range(self._work.tiling.passes)])
        self._groups = activity.sum(axis=0)
        """Groups of lanes per job, over all passes."""
        self._active = np.count_nonzero(activity, axis=0)
        """Passes in which each job is broadcast."""
        self._lanes = np.minimum(activity * self._machine.pe_array.lanes, pixels[:, None]).sum(axis=0)
        """Products one weight of each job takes part in."""

    def count(self) -> None:
        self._activations()
        used = self._sparse() if self._work.form.positions else self._lockstep()
        self._weights(used)
        flow = self._flow(used)
        for unit in self._machine.units.values():
            for counted in unit.counts(flow):
                self._add(unit, counted.event, counted.count, counted.stream)

    def _flow(self, used: int) -> Flow:
        """What units need that count by themselves."""
        work = self._work
        stored = work.packed.packed_bytes.get(Stream.CODEBOOKS, 0) * 8 // work.packed.parameters.value_bits
        needs = work.form.needs
        return Flow(
            needs=needs,
            entries=used,
            codebook_values=stored + 1 if Need.CODEBOOK in needs else 0,
            vector_values=work.output_values + self._stage.vector_values,
            elements=self._machine.pe_array.elements,
        )

    def _add(self, unit: Unit, event: str, count: int, stream: Stream | None = None) -> None:
        self._counts[self._work.name, self._machine.name_of(unit), event, stream] += int(count)

    def _activations(self) -> None:
        machine, work = self._machine, self._work
        sram, bits = machine.activation_sram, machine.formats.activations.bits
        words = sram.words(machine.pe_array.lanes * bits)
        broadcast = work.side_by_side * int(self._groups.sum())
        self._add(self._machine.activation_sram, Event.SRAM_READ, broadcast * words, Stream.ACTIVATIONS)
        for size in self._stage.loads.values():
            self._add(self._machine.activation_sram, Event.SRAM_WRITE, sram.words(size * 8), Stream.ACTIVATIONS)
        self._add(
            self._machine.activation_sram, Event.SRAM_WRITE, sram.words(work.output_values * bits), Stream.OUTPUTS
        )
        for size in self._stage.stores.values():
            self._add(self._machine.activation_sram, Event.SRAM_READ, sram.words(size * 8), Stream.OUTPUTS)
        self._add(self._machine.pe_array, Event.MAC, self._stage.product_macs)

    def _multiply(self, products: int) -> None:
        self._add(self._machine.pe_array, Event.MAC, products)
        self._add(self._machine.pe_array, Event.ACCUMULATOR_ACCESS, products + self._work.output_values)

    def _queue(self) -> None:
        queued = self._work.queues(self._machine.pe_array.elements) * int(self._groups.sum())
        self._add(self._machine.pe_array, Event.QUEUE_WRITE, queued, Stream.ACTIVATIONS)
        self._add(self._machine.pe_array, Event.QUEUE_READ, queued, Stream.ACTIVATIONS)

    def _lockstep(self) -> int:
        work = self._work
        self._queue()
        self._multiply(int(self._lanes.sum()) * work.rows)
        return int(self._active.sum()) * work.rows

    def _sparse(self) -> int:
        work = self._work
        per_job = np.bincount(work.entries.job, minlength=self._active.size)
        self._queue()
        self._multiply(int((per_job * self._lanes).sum()))
        return int((per_job * self._active).sum())

    def _weights(self, used: int) -> None:
        """From the SRAM to the multipliers, through what the format needs; ``used`` entries or weights in all."""
        machine, work = self._machine, self._work
        if work.needs(Need.INDEX):
            self._add(self._machine.pe_array, Event.INDEX_ACCUMULATE, used, Stream.GAPS)
        if work.needs(Need.DECODER):
            self._decode(used)
        else:
            self._fetch()
        for stream, size in work.packed.packed_bytes.items() if work.form.needs else ():
            if stream not in work.packed.chunk_bytes:
                self._add(self._machine.weight_sram, Event.SRAM_READ, machine.weight_sram.words(size * 8), stream)

    def _fetch(self) -> None:
        """Fixed-width entries of active columns, run by run or column by column, each from a word boundary on; and in
        every pass what tells where runs begin."""
        work, sram = self._work, self._machine.weight_sram
        if work.form.positions:
            runs = work.entries
            run_words = -(-runs.run_count.astype(np.int64) * work.entry_bits // sram.word_bits)
            words = int((run_words * self._active[runs.run_job]).sum())
        else:
            words = int(self._active.sum()) * sram.words(work.rows * work.entry_bits)
        self._add(self._machine.weight_sram, Event.SRAM_READ, words, work.form.values)
        for stream in work.form.run_regions & work.packed.packed_bytes.keys():
            if stream is Stream.POINTERS and sram.pointer_memory is not None:
                # where a run begins and where it ends, one read each
                reads = 2 * int(self._active.sum()) * self._machine.pe_array.elements
                self._add(sram, Event.POINTER_READ, reads, stream)
                continue
            size = sram.words(work.packed.packed_bytes[stream] * 8)
            self._add(sram, Event.SRAM_READ, size * work.tiling.passes, stream)

    def _decode(self, used: int) -> None:
        machine, work, coded = self._machine, self._work, self._work.coded
        sram, huffman = machine.weight_sram, machine.huffman
        at_load = huffman.placement is Placement.LOAD
        decodes = self._decodes
        for stream, bits in coded.bits.items():
            size = int(bits.sum(dtype=np.int64))
            if huffman.style is not DecoderStyle.MULTI_SYMBOL:
                self._add(self._machine.huffman, Event.SYMBOL_DECODE, coded.symbols * decodes, stream)
            if huffman.style is DecoderStyle.BIT_SERIAL:
                self._add(self._machine.huffman, Event.DECODE_STEP, size * decodes, stream)
            if huffman.style is DecoderStyle.MULTI_SYMBOL:
                self._add(self._machine.huffman, Event.DECODE_STEP, self._look_ups() * decodes, stream)
            self._add(self._machine.huffman, Event.BUFFER_REFILL, ceil_div(size, huffman.window_bits) * decodes, stream)
        symbols = work.packed.parameters.gap_symbols + work.packed.parameters.code_symbols
        units = np.unique(work.packed.chunk_decoder).size
        self._add(self._machine.huffman, Event.TABLE_WRITE, symbols * units * min(decodes, 1), Stream.CODE_TABLES)
        if at_load:
            written = ceil_div(coded.symbols * work.entry_bits, sram.word_bits)
            self._add(self._machine.weight_sram, Event.SRAM_WRITE, written * decodes, work.form.values)
            starts = sram.words(work.starts_bits)
            self._add(self._machine.weight_sram, Event.SRAM_WRITE, starts * decodes, Stream.POINTERS)
            self._add(self._machine.weight_sram, Event.SRAM_READ, starts * work.tiling.passes, Stream.POINTERS)
            self._fetch()
            return
        for stream, offsets in work.packed.chunk_bytes.items():
            words = int((-(-np.diff(offsets) * 8 // sram.word_bits)).sum())
            self._add(self._machine.weight_sram, Event.SRAM_READ, words * decodes, stream)
        self._add(self._machine.huffman, Event.QUEUE_WRITE, used, work.form.values)
        self._add(self._machine.huffman, Event.QUEUE_READ, used, work.form.values)

    def _look_ups(self) -> int:
        """Cycles in which a multi-symbol decoder looks up: the last delivery of each chunk, plus one, summed."""
        coded = self._work.coded
        ready = self._machine.huffman.schedule(
            coded.of(Stream.GAPS),
            coded.of(Stream.CODES),
            np.empty(0, np.int64),
            coded.chunk_offsets,
            0.0,
            PLENTY,
        )
        ends = coded.chunk_offsets[1:][np.diff(coded.chunk_offsets) > 0]
        return int((ready[ends - 1] + 1).sum())
