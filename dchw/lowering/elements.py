"""Weights with positions: every processing element works its own entries.

Entries that come one by one from a decode unit are a firing each; a run that the element reads from the weight SRAM by
itself is one firing of its entries' cycles together. A column in which the element has no entry is one firing of one
cycle.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from dchw.formats import Need, PackedLayer
from dchw.lowering.broadcast import Handover, column_queue
from dchw.lowering.chunks import ChunkUser, active_jobs, drain, drop_chunks, take_chunks, wait_for_tables
from dchw.lowering.context import StageLowering
from dchw.lowering.decoding import Decoding
from dchw.lowering.weights import Delivery, WeightStream
from dchw.machines.machine import Machine
from dchw.mapping.stages import LayerWork
from dchw.program.builder import Indices
from dchw.program.program import Work
from dchw.quantities import DchwError, ceil_div

LONGEST = 2**31


def elements(
    at: StageLowering, weights: WeightStream, delivery: Delivery, held: int, columns: Indices
) -> tuple[list[Handover], Decoding | None]:
    """Append every element's firings for a stage; ``columns`` are those of the broadcast."""
    from dchw.lowering.firings import element_firings

    machine, work, entries, array = at.machine, at.work, at.work.entries, at.machine.pe_array
    decoding = Decoding(at, weights, delivery, held, None) if work.needs(Need.DECODER) else None
    runs = _Runs(work, array.elements)
    by_itself = decoding is None or decoding.at_load
    floor = _entry_cycles(machine, work, fetched_by_element=by_itself)
    pixels = np.array([work.tiling.pixels_in(i) for i in range(work.tiling.passes)], np.int64)
    active, ends = active_jobs(work), drain(work, machine)
    handovers = []
    for element in range(array.elements):
        begin, length = runs.of(element)
        occupied, job_firing, index, firing, drained, done = element_firings(
            work.activity, begin, length, entries.row, floor, array.hazard_cycles, ends, by_itself, array.lanes, pixels
        )
        _check_longest(work, int(done[2]))
        node = at.nodes.element(element)
        first = at.fire(node, occupied)[0]
        at.does(node, Work.ENTRIES, done[0])
        at.does(node, Work.PRODUCTS, done[1])
        at.does(node, Work.GROUPS, work.activity.sum(dtype=np.int64))
        queue = column_queue(at, node)
        queue.give(columns)
        queue.take(job_firing + first)
        user = ChunkUser(node=node, job_firing=_by_pass(work, job_firing + first), active=active, last=drained + first)
        ids = _chunks_of(work.packed, element)
        if decoding is None:
            take_chunks(at, weights, delivery, user, ids)
            wait_for_tables(at, delivery, node, int(first))
        elif decoding.at_load:
            decoding.hand_chunks(user, ids)
        else:
            decoding.hand_entries(node, index, firing + first, np.searchsorted(drained, firing))
        handovers.append(Handover(node=node, firings=drained[work.tiling.last_block :] + first))
    if decoding is None:
        drop_chunks(at, weights, delivery)
    return handovers, decoding


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


def _chunks_of(packed: PackedLayer, element: int) -> Indices:
    """Chunks that hold runs of one processing element, in order."""
    section = element * packed.shape.sections // packed.shape.elements
    return np.flatnonzero(packed.chunk_decoder // packed.shape.section_decoders == section)


class _Runs:
    """Where each processing element's runs lie in the entry arrays."""

    def __init__(self, work: LayerWork, elements: int) -> None:
        entries = work.entries
        jobs = work.activity.shape[1]
        self._begin = np.zeros((elements, jobs), np.int32)
        self._length = np.zeros((elements, jobs), np.int32)
        self._begin[entries.run_element, entries.run_job] = np.cumsum(entries.run_count) - entries.run_count
        self._length[entries.run_element, entries.run_job] = entries.run_count

    def of(self, element: int) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32]]:
        """int32[jobs] first entry and int32[jobs] number of entries of each run of one element."""
        return self._begin[element], self._length[element]


def _by_pass(work: LayerWork, job_firing: Indices) -> list[Indices]:
    return np.split(job_firing, np.cumsum(np.count_nonzero(work.activity, axis=1))[:-1])
