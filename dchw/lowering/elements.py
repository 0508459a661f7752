"""Weights with positions: every processing element works its own entries.

Entries that come one by one from a decode unit are a firing each; a run that the element reads from the weight SRAM by
itself is one firing of its entries' cycles together. A column in which the element has no entry is one firing of one
cycle.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from dchw.formats import Need
from dchw.lowering.broadcast import Handover, column_queue
from dchw.lowering.chunks import (
    ChunkSpans,
    ChunkUser,
    Passes,
    WantedChunks,
    chunks_by_section,
    drain,
    section_of,
    take_chunks,
    wait_for_tables,
)
from dchw.lowering.context import StageLowering
from dchw.lowering.decoding import Decoding
from dchw.lowering.weights import Delivery, WeightStream, pointers_apart
from dchw.machines.machine import Machine
from dchw.mapping.stages import LayerWork
from dchw.program.builder import Indices, NodeBuilder, Row
from dchw.quantities import DchwError, ceil_div
from dchw.vocabulary import Stream

_NONE = np.empty(0, np.int32)
LONGEST = 2**31
BLOCK = 1 << 22
"""Entries of a pass, over all passes, up to which processing elements are gone through together."""


@dataclass(frozen=True, kw_only=True, eq=False)
class ElementFirings:
    """What some processing elements do for a stage."""

    nodes: list[NodeBuilder]
    occupied: Row
    """Cycles of each firing, one element behind the other."""
    offsets: Indices
    """int64[elements + 1] into them."""
    job_firing: Row
    """int32[elements, active jobs of all passes]."""
    entry_unit: Row
    """Of entries handed over one by one, one element behind the other: the decode unit (one for each element where an
    element's entries are all one unit's),"""
    given_by: Row
    """its firing,"""
    taken_by: Row
    """and the element's."""
    entry_offsets: Indices
    """int64[elements + 1] into the three."""
    drained: Row
    """int32[elements, passes]: the hand-over that ends each pass."""


def elements(
    at: StageLowering, weights: WeightStream, delivery: Delivery, held: int, columns: Row
) -> tuple[list[Handover], Decoding | None]:
    """Append every element's firings for a stage; ``columns`` are those of the broadcast."""
    decoding = Decoding(at, weights, delivery, held, None) if at.work.needs(Need.DECODER) else None
    one_by_one = decoding if decoding is not None and not decoding.at_load else None
    chunks = _ChunksByElement(at, weights, delivery, decoding) if one_by_one is None else None
    first_handover = at.work.tiling.first_handover
    handovers: list[Handover] = []
    for made in _firings(at, one_by_one):
        for index, node in enumerate(made.nodes):
            node.append(made.occupied[made.offsets[index] : made.offsets[index + 1]], at.layer)
            queue = column_queue(at, node)
            queue.give(columns)
            queue.take(made.job_firing[index])
            if one_by_one is not None:
                mine = slice(made.entry_offsets[index], made.entry_offsets[index + 1])
                unit = made.entry_unit[index : index + 1] if one_by_one.one_unit else made.entry_unit[mine]
                one_by_one.hand_entries(node, unit, made.given_by[mine], made.taken_by[mine])
            elif chunks is not None:
                chunks.hand(node, len(handovers), made.job_firing[index], made.drained[index])
            handovers.append(Handover(node=node, firings=made.drained[index, first_handover:]))
    return handovers, decoding


class _ChunksByElement:
    """Whole chunks to the elements whose runs they hold, from the weight SRAM or from decode units."""

    def __init__(self, at: StageLowering, weights: WeightStream, delivery: Delivery, decoding: Decoding | None) -> None:
        self._at, self._weights, self._delivery, self._decoding = at, weights, delivery, decoding
        self._passes = Passes.of(at.work)
        self._chunks = chunks_by_section(at.work)
        self._wanted = WantedChunks.of(at.work, delivery, self._passes) if decoding is None else None
        self._spans: tuple[int, ChunkSpans] | None = None  # of the last section: its elements take the same chunks

    def hand(self, node: NodeBuilder, element: int, job_firing: Row, last: Row) -> None:
        """Those of one element; ``job_firing`` are its firings of active jobs, ``last`` those that end a pass."""
        user = ChunkUser(node=node, starts=np.concatenate([job_firing, last]))
        section = section_of(self._at.work, element)
        if self._decoding is not None:
            self._decoding.hand_chunks(user, self._passes, self._chunks[section])
            return
        assert self._wanted is not None
        if self._spans is None or self._spans[0] != section:
            spans = self._wanted.spans(self._passes, self._at.work.packed, self._chunks[section])
            self._spans = section, spans
        take_chunks(self._at, self._weights, self._delivery, user, self._spans[1])
        first = job_firing if self._passes.begin[1] else last
        wait_for_tables(self._at, self._delivery, node, first.item(0))


def _firings(at: StageLowering, decoding: Decoding | None) -> Iterator[ElementFirings]:
    """The firings of all elements, block by block of elements; ``decoding``: who hands them entries one by one."""
    from dchw.lowering.entry_firings import element_firings

    machine, work, array, by_itself = at.machine, at.work, at.machine.pe_array, decoding is None
    given = (_NONE, _NONE, _NONE[:, None]) if decoding is None else decoding.hand_overs()
    begin, length = _runs(work, array.elements)
    pixels = np.array([work.tiling.pixels_in(index) for index in range(work.tiling.passes)], np.int64)
    floor, ends = _entry_cycles(machine, work, fetched_by_element=by_itself), drain(work, machine)
    at.flow.queued += work.queues(array.elements) * int(work.activity.sum(dtype=np.int64))
    words = sum(
        int(np.minimum(groups.astype(np.int64) * array.lanes, most).sum())
        for groups, most in zip(work.activity, pixels, strict=True)
    )
    word_bits = machine.formats.activations.bits * words
    at.flow.array_bits[Stream.ACTIVATIONS] += word_bits * work.side_by_side
    at.flow.taken_bits += word_bits * work.receivers(array.elements)
    step = max(1, array.elements * BLOCK // max(work.entries.row.size * work.tiling.passes, BLOCK))
    for first in range(0, array.elements, step):
        block = slice(first, first + step)
        nodes = [at.nodes.element(index) for index in range(first, min(first + step, array.elements))]
        begun = np.array([node.count for node in nodes], np.int32)
        *rows, done = element_firings(work.activity, begin[block], length[block], work.entries.row, floor,
                                      array.hazard_cycles, ends, by_itself, array.lanes, pixels,
                                      work.entry_bits, machine.weight_sram.word_bits, begun, given,
                                      decoding is not None and decoding.one_unit)  # fmt: skip
        occupied, offsets, job_firing, entry_unit, given_by, taken_by, entry_offsets, drained = rows
        _check_longest(work, int(done[2]))
        at.flow.entries += int(done[0])
        at.flow.products += int(done[1])
        at.flow.array_bits[work.form.values] += work.entry_bits * int(done[0])
        if by_itself:
            at.flow.weight_reads[work.form.values] += int(done[3])
            if pointers_apart(machine, work):
                at.flow.pointer_reads += 2 * job_firing.size
        yield ElementFirings(
            nodes=nodes,
            occupied=occupied,
            offsets=offsets,
            job_firing=job_firing,
            entry_unit=entry_unit,
            given_by=given_by,
            taken_by=taken_by,
            entry_offsets=entry_offsets,
            drained=drained,
        )


def _check_longest(work: LayerWork, cycles: int) -> None:
    if cycles >= LONGEST:
        raise DchwError(
            f"layer {work.name!r}: expected a column's work of less than 2**31 cycles in one processing element; got "
            f"{cycles:,}; lower pe_array.tile"
        )


def _entry_cycles(machine: Machine, work: LayerWork, *, fetched_by_element: bool) -> int:
    """Cycles an entry takes at least: its codebook slot and, where elements read the SRAM themselves, its bits."""
    least = machine.codebook.slot_cycles if work.needs(Need.CODEBOOK) else 1
    if fetched_by_element:
        bits, every = machine.weight_sram.reader_bits_per_cycle(machine.pe_array.elements)
        least = max(least, ceil_div(work.entry_bits * every, bits))
    return least


def _runs(work: LayerWork, elements: int) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32]]:
    """int32[elements, jobs] first entry and int32[elements, jobs] number of entries of each element's runs."""
    from dchw.lowering.entry_firings import runs_of_elements

    entries = work.entries
    shape = elements, work.activity.shape[1]
    begin, length = np.zeros(shape, np.int32), np.zeros(shape, np.int32)
    runs_of_elements(entries.run_element, entries.run_job, entries.run_count, begin, length)
    return begin, length
