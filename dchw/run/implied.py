"""Counted events against what the workload asks for: two ways to the same numbers, compared after every run.

Units count from what a program's firings let through, noted as entries, chunks, columns and blocks are gone through one
by one (`dchw.program.flow`). Here the same events are worked out by arithmetic over the workload's entries and
activations. Every event of the units in `WORKED_OUT` must agree, layer by layer and stream by stream: one that is
counted and not asked for is as wrong as the reverse. What another unit counts rests on the same flows alone. DRAM
commands are compared with requests by `dchw.run.conservation`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from dchw.formats import Need
from dchw.lowering.counts import EventCount
from dchw.machines.machine import Machine
from dchw.machines.units.codebook import CodebookLookup
from dchw.machines.units.dma import Dma
from dchw.machines.units.huffman_decoder import DecoderStyle, HuffmanDecoder, Placement
from dchw.machines.units.pe_array import PeArray
from dchw.machines.units.sram import ActivationSram, WeightSram
from dchw.machines.units.unit import Unit
from dchw.machines.units.vector import Vector
from dchw.mapping.resident_weights import decoded_once
from dchw.mapping.stages import LayerWork, Stage
from dchw.mapping.tiling import Sums
from dchw.mapping.workload import Workload
from dchw.program.outline import Outline, outline_of
from dchw.program.program import Program
from dchw.quantities import SimulationError, ceil_div
from dchw.vocabulary import STREAMS, Event, Stream

Key = tuple[str, str, str, Stream | None]
"""Layer, unit, event, stream."""
WORKED_OUT = (Dma, WeightSram, ActivationSram, HuffmanDecoder, CodebookLookup, PeArray, Vector)
"""Units whose events are worked out here."""


def check_counts(workload: Workload, program: Program | Outline, counts: Sequence[EventCount]) -> None:
    """Raise SimulationError where a count is not what the workload asks for, or requests are not firings that ask."""
    program = outline_of(program)
    own = {name for name, unit in workload.machine.units.items() if isinstance(unit, WORKED_OUT)}
    counted: Counter[Key] = Counter()
    for count in counts:
        if count.unit in own:
            counted[count.layer, count.unit, count.event, count.stream] += count.count
    implied = implied_counts(workload, program)
    for key in dict.fromkeys((*implied, *counted)):
        if counted[key] != implied[key]:
            raise _wrong(key, implied[key], counted[key])
    dma = workload.machine.name_of(workload.machine.dma)
    for layer, asked in _asking(program).items():
        requested = sum(counted[layer, dma, Event.DMA_REQUEST, stream] for stream in STREAMS)
        if requested != asked:
            raise _wrong((layer, dma, Event.DMA_REQUEST, None), asked, requested)


def implied_counts(workload: Workload, program: Outline) -> Counter[Key]:
    """Events that working a workload takes; of the program only which layers are decoded and what is requested."""
    implied: Counter[Key] = Counter()
    names = {id(unit): name for name, unit in workload.machine.units.items()}
    for stage in workload.stages:
        _Implied(workload.machine, stage, _decodes(workload, program, stage.layer), names, implied).collect()
    _requests(workload, program, implied)
    return implied


def _decodes(workload: Workload, program: Outline, work: LayerWork) -> int:
    """How often the decode units go through a stage's chunks: once for every tile of pixels at use; at load once if
    that is enough for all its passes, and not at all where it is in the SRAM from the run before."""
    machine = workload.machine
    if machine.huffman.placement is Placement.USE or not work.needs(Need.DECODER):
        return work.tiling.tiles
    unit, layer = machine.name_of(machine.huffman), program.layers.index(work.name)
    if not any(node.firings[layer] for node in program.of_unit(unit)):
        return 0
    return 1 if decoded_once(machine, work) else work.tiling.passes


def _requests(workload: Workload, program: Outline, implied: Counter[Key]) -> None:
    """What crosses the DMA, and the words its answers fill, from the requests themselves."""
    machine = workload.machine
    dma, weight_sram = machine.name_of(machine.dma), machine.name_of(machine.weight_sram)
    memory, kinds = program.memory, len(STREAMS)
    for requests in memory.requests if memory is not None else ():
        words = -(-requests.bursts.astype(np.int64) * machine.dram.burst_bytes * 8 // machine.weight_sram.word_bits)
        place = requests.layer.astype(np.int64) * kinds + requests.stream
        asked = np.bincount(place)
        filled = np.bincount(place, weights=words)
        for index in np.flatnonzero(asked):
            layer, kind = program.layers[index // kinds], STREAMS[index % kinds]
            implied[layer, dma, Event.DMA_REQUEST, kind] += int(asked[index])
            if kind in (Stream.ACTIVATIONS, Stream.PARTIAL_SUMS, Stream.OUTPUTS):
                continue  # counted with the activation SRAM
            if workload.decodes_at_load:
                implied[layer, dma, Event.SRAM_WRITE, kind] += int(filled[index])
                implied[layer, dma, Event.SRAM_READ, kind] += int(filled[index])
            else:
                implied[layer, weight_sram, Event.SRAM_WRITE, kind] += int(filled[index])


class _Implied:
    """What one stage takes."""

    def __init__(
        self, machine: Machine, stage: Stage, decodes: int, names: dict[int, str], implied: Counter[Key]
    ) -> None:
        self._machine, self._stage, self._decodes = machine, stage, decodes
        self._names, self._implied = names, implied
        self._work: LayerWork = stage.layer
        activity = self._work.activity.astype(np.int64)
        pixels = self._work.tiling.pixels_of_passes()
        self._groups = int(activity.sum())
        """Groups of lanes of all jobs, over all passes."""
        self._active = np.count_nonzero(activity, axis=0)
        """Passes in which each job is broadcast."""
        self._lanes = np.minimum(activity * machine.pe_array.lanes, pixels[:, None]).sum(axis=0)
        """Products one weight of each job takes part in."""

    def collect(self) -> None:
        self._activations()
        self._weights(self._multiply())

    def _add(self, unit: Unit, event: str, count: int, stream: Stream | None = None) -> None:
        self._implied[self._work.name, self._names[id(unit)], event, stream] += int(count)

    def _activations(self) -> None:
        machine, work, stage = self._machine, self._work, self._stage
        sram, bits = machine.activation_sram, machine.formats.activations.bits
        words = sram.words(machine.pe_array.lanes * bits)
        self._add(sram, Event.SRAM_READ, work.side_by_side * self._groups * words, Stream.ACTIVATIONS)
        for size in stage.loads.values():
            self._add(sram, Event.SRAM_WRITE, sram.words(size * 8), Stream.ACTIVATIONS)
        self._add(sram, Event.SRAM_WRITE, sram.words(work.output_values * bits), Stream.OUTPUTS)
        for size in stage.stores.values():
            self._add(sram, Event.SRAM_READ, sram.words(size * 8), Stream.OUTPUTS)
        self._partial_sums()
        values = work.handed_sums + work.partial_turns * work.output_values + stage.vector_values
        self._add(machine.vector, Event.VECTOR_OPERATION, values)

    def _partial_sums(self) -> None:
        """Through the activation SRAM from one block of columns to the next; twice where they wait in DRAM."""
        machine, work = self._machine, self._work
        bits = work.geometry.out_channels * machine.formats.accumulators.bits
        whole, rest = divmod(work.tiling.pixels, work.tiling.tile)
        sram = machine.activation_sram
        words = whole * sram.words(work.tiling.tile * bits) + sram.words(rest * bits)
        times = work.partial_turns * (2 if work.tiling.sums is Sums.DRAM else 1)
        self._add(sram, Event.SRAM_WRITE, words * times, Stream.PARTIAL_SUMS)
        self._add(sram, Event.SRAM_READ, words * times, Stream.PARTIAL_SUMS)

    def _multiply(self) -> int:
        """Entries or weights that reach a multiplier."""
        work, array = self._work, self._machine.pe_array
        if work.form.positions:
            entries = work.entries
            per_job = np.bincount(entries.run_job, entries.run_count, self._active.size).astype(np.int64)
            products, used = int((per_job * self._lanes).sum()), (per_job * self._active).sum()
        else:
            products, used = int(self._lanes.sum()) * work.rows, self._active.sum() * work.rows
        self._transfers(int(used))
        for event in (Event.QUEUE_WRITE, Event.QUEUE_READ):
            self._add(array, event, self._groups * work.queues(array.elements), Stream.ACTIVATIONS)
        self._add(array, Event.MAC, products + self._stage.product_macs)
        self._add(array, Event.ACCUMULATOR_ACCESS, products + work.handed_sums)
        return int(used)

    def _transfers(self, used: int) -> None:
        """Over the array's wires: activations, entries or weights where elements have no source of their own, sums."""
        machine, work, array = self._machine, self._work, self._machine.pe_array
        bits, taken = machine.formats.activations.bits, work.receivers(array.elements)
        words = int(self._lanes.sum()) * bits
        self._add(array, Event.ARRAY_TRANSFER, words * work.side_by_side, Stream.ACTIVATIONS)
        self._add(array, Event.BROADCAST_TAKE, words * taken, Stream.ACTIVATIONS)
        if array.weights_cross(machine.setting(work.form.needs, work.form.positions)):
            self._add(array, Event.ARRAY_TRANSFER, used * work.entry_bits, work.form.values)
        self._add(array, Event.ARRAY_TRANSFER, work.handed_sums * machine.formats.accumulators.bits, Stream.OUTPUTS)

    def _weights(self, used: int) -> None:
        """From the SRAM to the multipliers, through what the format needs; ``used`` entries or weights in all."""
        machine, work, sram = self._machine, self._work, self._machine.weight_sram
        if work.needs(Need.INDEX):
            self._add(machine.pe_array, Event.INDEX_ACCUMULATE, used, Stream.GAPS)
        if work.needs(Need.CODEBOOK):
            stored = work.packed.parameters.codebook_values
            copies = machine.codebook.copies(machine.pe_array.elements)
            self._add(machine.codebook, Event.CODEBOOK_LOOKUP, used, Stream.CODES)
            self._add(machine.codebook, Event.TABLE_WRITE, (stored + 1) * copies, Stream.CODEBOOKS)
        if work.needs(Need.DECODER):
            self._decode(used)
        else:
            self._fetch()
        for stream, size in work.packed.packed_bytes.items() if work.form.needs else ():
            if stream not in work.packed.chunk_bytes:
                self._add(sram, Event.SRAM_READ, sram.words(size * 8), stream)

    def _fetch(self) -> None:
        """Fixed-width entries of active columns, run by run or column by column, each from a word boundary on; and for
        every tile what tells where runs begin."""
        work, sram = self._work, self._machine.weight_sram
        if work.form.positions:
            runs = work.entries
            run_words = -(-runs.run_count.astype(np.int64) * work.entry_bits // sram.word_bits)
            words = int((run_words * self._active[runs.run_job]).sum())
        else:
            words = int(self._active.sum()) * sram.words(work.rows * work.entry_bits)
        self._add(sram, Event.SRAM_READ, words, work.form.values)
        for stream in work.form.run_regions & work.packed.packed_bytes.keys():
            if stream is Stream.POINTERS and sram.pointer_memory is not None:
                # where a run begins and where it ends, one read each
                reads = 2 * int(self._active.sum()) * self._machine.pe_array.elements
                self._add(sram, Event.POINTER_READ, reads, stream)
                continue
            size = sram.words(work.packed.packed_bytes[stream] * 8)
            self._add(sram, Event.SRAM_READ, size * work.tiling.tiles, stream)

    def _decode(self, used: int) -> None:
        work, coded, decodes = self._work, self._work.coded, self._decodes
        sram, huffman = self._machine.weight_sram, self._machine.huffman
        for stream, bits in coded.bits.items():
            size = int(bits.sum(dtype=np.int64))
            if huffman.style is DecoderStyle.MULTI_SYMBOL:
                steps = huffman.look_ups(coded.of(Stream.GAPS), coded.of(Stream.CODES), coded.chunk_offsets)
                self._add(huffman, Event.DECODE_STEP, steps * decodes, stream)
            else:
                self._add(huffman, Event.SYMBOL_DECODE, coded.symbols * decodes, stream)
            if huffman.style is DecoderStyle.BIT_SERIAL:
                self._add(huffman, Event.DECODE_STEP, size * decodes, stream)
            self._add(huffman, Event.BUFFER_REFILL, ceil_div(size, huffman.window_bits) * decodes, stream)
        symbols = work.packed.parameters.gap_symbols + work.packed.parameters.code_symbols
        units = np.unique(work.packed.chunk_decoder).size
        self._add(huffman, Event.TABLE_WRITE, symbols * units * min(decodes, 1), Stream.CODE_TABLES)
        if huffman.placement is Placement.LOAD:
            written = ceil_div(coded.symbols * work.entry_bits, sram.word_bits)
            self._add(sram, Event.SRAM_WRITE, written * decodes, work.form.values)
            starts = sram.words(work.starts_bits)
            self._add(sram, Event.SRAM_WRITE, starts * decodes, Stream.POINTERS)
            self._add(sram, Event.SRAM_READ, starts * work.tiling.tiles, Stream.POINTERS)
            self._fetch()
            return
        for stream, offsets in work.packed.chunk_bytes.items():
            words = int((-(-np.diff(offsets) * 8 // sram.word_bits)).sum())
            self._add(sram, Event.SRAM_READ, words * decodes, stream)
        for event in (Event.QUEUE_WRITE, Event.QUEUE_READ):
            self._add(huffman, event, used, work.form.values)


def _asking(program: Outline) -> dict[str, int]:
    """Firings of each layer that ask the memory for something."""
    if program.memory is None:
        return {}
    totals = sum(node.firings for node in program.firing if node.name in program.asking)
    return {name: int(total) for name, total in zip(program.layers, np.asarray(totals), strict=True)}


def _wrong(key: Key, implied: int, counted: int) -> SimulationError:
    layer, unit, event, stream = key
    what = f"{event} of {stream}" if stream else str(event)
    return SimulationError(
        f"layer {layer}, {unit}: expected {implied:,} {what}, as its work implies; counted {counted:,} from its "
        "firings; this is a fault of the simulator, please report it"
    )
