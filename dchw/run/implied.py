"""Counted events against what a program's firings do: two ways to the same numbers, compared after every run.

`dchw.lowering.counts` counts by arithmetic over a workload's entries and activations. Whoever makes firings notes, as
it goes through entries, chunks and columns one by one, what they do (`dchw.program.program.Work`). Entries, products,
look-ups, index steps, symbols, queue items, words read by decode units, broadcast vectors, vector operations and
requests must agree, layer by layer and unit by unit. Table writes, bit-buffer refills and fixed-width reads are counted
in one way only.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from dchw.formats import Need
from dchw.lowering.counts import EventCount
from dchw.machines.units.huffman_decoder import DecoderStyle, Placement
from dchw.machines.units.unit import Unit
from dchw.mapping.workload import Workload
from dchw.program.outline import Outline, outline_of
from dchw.program.program import Program, Work
from dchw.quantities import SimulationError
from dchw.vocabulary import Event, Stream

Key = tuple[str, str, str, Stream | None]
"""Layer, unit, event, stream."""


def check_counts(workload: Workload, program: Program | Outline, counts: Sequence[EventCount]) -> None:
    """Raise SimulationError where a count is not what the firings of its layer imply."""
    counted: Counter[Key] = Counter()
    requested: Counter[str] = Counter()
    for count in counts:
        counted[count.layer, count.unit, count.event, count.stream] += count.count
        if count.event == Event.DMA_REQUEST:
            requested[count.layer] += count.count
    for key, implied in implied_counts(workload, program).items():
        if counted[key] != implied:
            raise _wrong(key, implied, counted[key])
    for layer, asked in _requests(outline_of(program)).items():
        if requested[layer] != asked:
            key = layer, workload.machine.name_of(workload.machine.dma), Event.DMA_REQUEST, None
            raise _wrong(key, asked, requested[layer])


def implied_counts(workload: Workload, program: Program | Outline) -> dict[Key, int]:
    """Events that the firings of a program imply."""
    implied: dict[Key, int] = {}
    for index, name in enumerate(program.layers):
        _Implied(workload, outline_of(program), index, name, implied).collect()
    return implied


class _Implied:
    """What one layer's firings imply."""

    def __init__(self, workload: Workload, program: Outline, layer: int, name: str, implied: dict[Key, int]) -> None:
        self._machine, self._program, self._layer, self._name = workload.machine, program, layer, name
        self._works = workload.works(name)
        self._implied = implied

    def collect(self) -> None:
        machine, activations = self._machine, Stream.ACTIVATIONS
        products = self._work(machine.pe_array, Work.PRODUCTS)
        outputs = sum(work.output_values for work in self._works)
        self._put(machine.pe_array, Event.MAC, products + self._work(machine.vector, Work.PRODUCTS))
        self._put(machine.pe_array, Event.ACCUMULATOR_ACCESS, products + outputs)
        queued = self._work(machine.pe_array, Work.GROUPS)
        self._put(machine.pe_array, Event.QUEUE_WRITE, queued, activations)
        self._put(machine.pe_array, Event.QUEUE_READ, queued, activations)
        words = machine.activation_sram.words(machine.pe_array.lanes * machine.formats.activations.bits)
        groups = self._work(machine.activation_sram, Work.GROUPS)
        self._put(machine.activation_sram, Event.SRAM_READ, groups * words, activations)
        self._put(machine.vector, Event.VECTOR_OPERATION, self._work(machine.vector, Work.VALUES))
        self._weights()

    def _weights(self) -> None:
        machine, work = self._machine, self._works[0]
        entries = self._work(machine.pe_array, Work.ENTRIES)
        if work.needs(Need.INDEX):
            self._put(machine.pe_array, Event.INDEX_ACCUMULATE, entries, Stream.GAPS)
        if work.needs(Need.CODEBOOK):
            self._put(machine.codebook, Event.CODEBOOK_LOOKUP, entries, Stream.CODES)
        if not work.needs(Need.DECODER):
            return
        if machine.huffman.style is not DecoderStyle.MULTI_SYMBOL:
            for stream in work.coded.bits:
                self._put(
                    machine.huffman, Event.SYMBOL_DECODE, self._work(machine.huffman, Work.SYMBOLS, stream), stream
                )
        if machine.huffman.placement is Placement.USE:
            self._put(machine.huffman, Event.QUEUE_WRITE, entries, work.form.values)
            self._put(machine.huffman, Event.QUEUE_READ, entries, work.form.values)
            for stream in work.packed.chunk_bytes:
                self._put(
                    machine.weight_sram, Event.SRAM_READ, self._work(machine.huffman, Work.WORDS_READ, stream), stream
                )

    def _put(self, unit: Unit, event: Event, count: int, stream: Stream | None = None) -> None:
        self._implied[self._name, self._machine.name_of(unit), event, stream] = count

    def _work(self, unit: Unit, what: Work, stream: Stream | None = None) -> int:
        return self._program.work.get((self._machine.name_of(unit), self._layer, what, stream), 0)


def _requests(program: Outline) -> dict[str, int]:
    """Firings of a layer that ask the memory for something."""
    if program.memory is None:
        return {}
    totals = sum(node.firings for node in program.firing if node.name in program.asking)
    return {name: int(total) for name, total in zip(program.layers, np.asarray(totals), strict=True)}


def _wrong(key: Key, implied: int, counted: int) -> SimulationError:
    layer, unit, event, stream = key
    what = f"{event} of {stream}" if stream else str(event)
    return SimulationError(
        f"layer {layer}, {unit}: expected {implied:,} {what}, as its firings imply; counted {counted:,}; this is a "
        "fault of the simulator, please report it"
    )
