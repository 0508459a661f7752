"""Weights with positions: every processing element works its own entries.

Entries that come one by one from a decode unit are a firing each; a run that the element reads from the weight SRAM by
itself is one firing of its entries' cycles together. A column in which the element has no entry is one firing of one
cycle.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from dchw.formats import Need
from dchw.formats.packing.stored_runs import offsets_of
from dchw.lowering.broadcast import Handover, column_queue
from dchw.lowering.chunks import (
    ChunkSpans,
    ChunkTaking,
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
from dchw.program.builder import NodeBuilder, Row
from dchw.quantities import DchwError, ceil_div
from dchw.vocabulary import Stream

if TYPE_CHECKING:
    from dchw.lowering.entry_firings import WorkedJobs

LONGEST = 2**31
BLOCK = 1 << 22
"""Firings up to which processing elements are gone through together."""


@dataclass(frozen=True, kw_only=True, eq=False)
class ElementFirings:
    """What one processing element does for a stage. Elements that fire alike share what says so."""

    node: NodeBuilder
    occupied: Row
    """Cycles of each firing."""
    job_firing: Row
    """int32[active jobs of all passes]: the first firing of each."""
    drained: Row
    """int32[passes]: the hand-over that ends each pass."""
    handed: Row
    """Of these, those in which sums are handed over."""
    entries: tuple[Row, Row, Row] | None = None
    """Of entries handed over one by one: the decode unit (one for all where all are one unit's), its firing, and the
    element's; None where the element reads whole runs."""


def elements(
    at: StageLowering, weights: WeightStream, delivery: Delivery, held: int, columns: Row
) -> tuple[list[Handover], Decoding | None]:
    """Append every element's firings for a stage; ``columns`` are those of the broadcast."""
    decoding = Decoding(at, weights, delivery, held, None) if at.work.needs(Need.DECODER) else None
    if decoding is not None and not decoding.at_load:
        made_by, chunks = _one_by_one(at, decoding), None
    else:
        made_by, chunks = _whole_runs(at), _ChunksByElement(at, weights, delivery, decoding)
    handovers: list[Handover] = []
    for made in made_by:
        made.node.append(made.occupied, at.layer)
        queue = column_queue(at, made.node)
        queue.give(columns)
        queue.take(made.job_firing)
        if chunks is not None:
            chunks.hand(made, len(handovers))
        elif decoding is not None and made.entries is not None:
            decoding.hand_entries(made.node, *made.entries)
        handovers.append(Handover(node=made.node, firings=made.handed))
    return handovers, decoding


class _ChunksByElement:
    """Whole chunks to the elements whose runs they hold, from the weight SRAM or from decode units."""

    def __init__(self, at: StageLowering, weights: WeightStream, delivery: Delivery, decoding: Decoding | None) -> None:
        self._at, self._weights, self._delivery, self._decoding = at, weights, delivery, decoding
        self._passes = Passes.of(at.work)
        self._chunks = chunks_by_section(at.work)
        self._wanted = WantedChunks.of(at.work, delivery, self._passes) if decoding is None else None
        self._section = -1
        self._spans: ChunkSpans | None = None  # of the last section: its elements take the same chunks
        self._last: tuple[ElementFirings, ChunkTaking] | None = None  # and, if they fire alike, in the same firings

    def hand(self, made: ElementFirings, element: int) -> None:
        """Those of one element."""
        section = section_of(self._at.work, element)
        if self._decoding is not None:
            user = ChunkUser(node=made.node, starts=np.concatenate([made.job_firing, made.drained]))
            self._decoding.hand_chunks(user, self._passes, self._chunks[section])
            return
        assert self._wanted is not None
        if self._spans is None or section != self._section:
            self._section, self._last = section, None
            self._spans = self._wanted.spans(self._passes, self._at.work.packed, self._chunks[section])
        if self._last is None or self._last[0].job_firing is not made.job_firing:
            user = ChunkUser(node=made.node, starts=np.concatenate([made.job_firing, made.drained]))
            self._last = made, ChunkTaking.of(user, self._spans)
        take_chunks(self._at, self._weights, self._delivery, made.node, self._last[1])
        first = made.job_firing if self._passes.begin[1] else made.drained
        wait_for_tables(self._at, self._delivery, made.node, first.item(0))


def _whole_runs(at: StageLowering) -> Iterator[ElementFirings]:
    """The firings of elements that read their runs from the weight SRAM, block by block of elements."""
    from dchw.lowering.entry_firings import run_firings

    machine, work, array = at.machine, at.work, at.machine.pe_array
    jobs = _worked_jobs(at, fetched_by_element=True)
    _check_longest(work, jobs.longest())
    at.flow.weight_reads[work.form.values] += jobs.words(work.entry_bits, machine.weight_sram.word_bits)
    if pointers_apart(machine, work):
        at.flow.pointer_reads += 2 * jobs.job.size * array.elements
    passes = np.arange(work.tiling.passes, dtype=np.int32)
    job_firing = np.arange(jobs.job.size, dtype=np.int32) + np.repeat(passes, np.diff(jobs.begins))
    drained = jobs.begins[1:].astype(np.int32) + passes
    rows: dict[int, tuple[Row, Row, Row]] = {}
    step = max(1, BLOCK // (jobs.job.size + passes.size))
    for first in range(0, array.elements, step):
        occupied, longest = run_firings(jobs, slice(first, first + step), at.builder.sheets)
        _check_longest(work, longest)
        for index, line in enumerate(occupied, first):
            node = at.nodes.element(index)
            if node.count not in rows:
                begun = np.int32(node.count)
                handed = drained[work.tiling.first_handover :] + begun
                rows[node.count] = job_firing + begun, drained + begun, handed
            shared = rows[node.count]
            yield ElementFirings(
                node=node, occupied=line, job_firing=shared[0], drained=shared[1], handed=shared[2], entries=None
            )


def _one_by_one(at: StageLowering, decoding: Decoding) -> Iterator[ElementFirings]:
    """The firings of elements whom decode units hand entries one by one, block by block of elements."""
    from dchw.lowering.entry_firings import entry_firings

    work, array = at.work, at.machine.pe_array
    given, jobs = decoding.hand_overs(), _worked_jobs(at, fetched_by_element=False)
    step = max(1, array.elements * BLOCK // max(work.entries.row.size * work.tiling.passes, BLOCK))
    for first in range(0, array.elements, step):
        block = slice(first, first + step)
        nodes = [at.nodes.element(index) for index in range(first, min(first + step, array.elements))]
        begun = np.array([node.count for node in nodes], np.int32)
        made = entry_firings(jobs, block, begun, given, at.builder.sheets, one_unit=decoding.one_unit)
        for index, node in enumerate(nodes):
            mine = slice(made.entry_offsets[index], made.entry_offsets[index + 1])
            yield ElementFirings(
                node=node,
                occupied=made.occupied[made.offsets[index] : made.offsets[index + 1]],
                job_firing=made.job_firing[index],
                drained=made.drained[index],
                handed=made.drained[index, work.tiling.first_handover :],
                entries=(
                    made.unit[index : index + 1] if decoding.one_unit else made.unit[mine],
                    made.given_by[mine],
                    made.taken_by[mine],
                ),
            )


def _worked_jobs(at: StageLowering, *, fetched_by_element: bool) -> WorkedJobs:
    """The active jobs of a stage; what is broadcast and what is worked is noted."""
    from dchw.lowering.entry_firings import WorkedJobs

    work, array = at.work, at.machine.pe_array
    active = work.activity > 0
    groups = work.activity[active].astype(np.int32)
    count = np.count_nonzero(active, axis=1)
    most = work.tiling.pixels_of_passes().astype(np.int32)
    floor = _entry_cycles(at.machine, work, fetched_by_element=fetched_by_element)
    begin, length = _runs(work, array.elements)
    jobs = WorkedJobs(
        job=np.nonzero(active)[1].astype(np.int32),
        begins=offsets_of(count),
        least=np.maximum(groups, np.int32(floor)),
        pixels=np.minimum(groups * np.int32(array.lanes), np.repeat(most, count)),
        run_begin=begin,
        run_length=length,
        row=work.entries.row,
        hazard=array.hazard_cycles,
        drain=drain(work, at.machine),
    )
    word_bits = at.machine.formats.activations.bits * int(jobs.pixels.sum(dtype=np.int64))
    at.flow.queued += work.queues(array.elements) * int(groups.sum(dtype=np.int64))
    at.flow.array_bits[Stream.ACTIVATIONS] += word_bits * work.side_by_side
    at.flow.taken_bits += word_bits * work.receivers(array.elements)
    entries = jobs.entries()
    at.flow.entries += int(entries.sum())
    at.flow.products += int(entries @ jobs.pixels)
    at.flow.array_bits[work.form.values] += work.entry_bits * int(entries.sum())
    return jobs


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
