"""Weights with positions: every processing element works its own entries.

Entries that come one by one from a decode unit are a firing each; a run that the element reads from the weight SRAM by
itself is one firing of its entries' cycles together. A column in which the element has no entry is one firing of one
cycle.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from dchw.formats import Need
from dchw.lowering.broadcast import Handover, column_queue
from dchw.lowering.chunks import ChunkUser, active_jobs, drain, drop_chunks, take_chunks, wait_for_tables
from dchw.lowering.context import StageLowering
from dchw.lowering.decoding import Decoding
from dchw.lowering.weights import Delivery, WeightStream
from dchw.machines.machine import Machine
from dchw.mapping.stages import LayerWork
from dchw.program.builder import Indices, NodeBuilder
from dchw.program.program import Work
from dchw.quantities import DchwError, ceil_div

LONGEST = 2**31


@dataclass(frozen=True, kw_only=True, eq=False)
class ElementFirings:
    """What all processing elements do for a stage; firings count from each element's first of the stage."""

    occupied: npt.NDArray[np.int32]
    """Cycles of each firing, one element behind the other."""
    offsets: Indices
    """int64[elements + 1] into them."""
    job_firing: Indices
    """int64[elements, active jobs of all passes]."""
    entry: npt.NDArray[np.int32]
    """Entries handed over one by one, by their index in the layer, one element behind the other."""
    entry_firing: Indices
    entry_pass: npt.NDArray[np.int32]
    entry_offsets: Indices
    """int64[elements + 1] into the three."""
    drained: Indices
    """int64[elements, passes]: the hand-over that ends each pass."""


def elements(
    at: StageLowering, weights: WeightStream, delivery: Delivery, held: int, columns: Indices
) -> tuple[list[Handover], Decoding | None]:
    """Append every element's firings for a stage; ``columns`` are those of the broadcast."""
    work, nodes = at.work, [at.nodes.element(index) for index in range(at.machine.pe_array.elements)]
    decoding = Decoding(at, weights, delivery, held, None) if work.needs(Need.DECODER) else None
    one_by_one = decoding is not None and not decoding.at_load
    made = _firings(at, nodes[0], by_itself=not one_by_one)
    first = np.array([node.count for node in nodes], np.int64)
    job_firing, drained = made.job_firing + first[:, None], made.drained + first[:, None]
    if decoding is not None and one_by_one:
        unit, given = decoding.giving(made.entry, made.entry_pass)
        taken = made.entry_firing + np.repeat(first, np.diff(made.entry_offsets))
    else:
        chunks = _ChunksByElement(at, decoding)
    for index, node in enumerate(nodes):
        node.append(made.occupied[made.offsets[index] : made.offsets[index + 1]], at.layer)
        queue = column_queue(at, node)
        queue.give(columns)
        queue.take(job_firing[index])
        if decoding is not None and one_by_one:
            mine = slice(made.entry_offsets[index], made.entry_offsets[index + 1])
            decoding.hand_entries(node, unit[mine], given[mine], taken[mine])
        else:
            chunks.hand(weights, delivery, node, index, job_firing[index], drained[index])
    if decoding is None:
        drop_chunks(at, weights, delivery)
    last = drained[:, work.tiling.last_block :]
    return [Handover(node=node, firings=mine) for node, mine in zip(nodes, last, strict=True)], decoding


class _ChunksByElement:
    """Whole chunks to the elements whose runs they hold, from the weight SRAM or from decode units."""

    def __init__(self, at: StageLowering, decoding: Decoding | None) -> None:
        self._at, self._decoding, self._active = at, decoding, active_jobs(at.work)
        self._passes = np.cumsum([jobs.size for jobs in self._active])[:-1]
        packed = at.work.packed
        section = packed.chunk_decoder // packed.shape.section_decoders
        self._order = np.argsort(section, kind="stable")
        self._bounds = np.searchsorted(section[self._order], np.arange(packed.shape.sections + 1))

    def hand(
        self,
        weights: WeightStream,
        delivery: Delivery,
        node: NodeBuilder,
        element: int,
        job_firing: Indices,
        last: Indices,
    ) -> None:
        """Those of one element; ``job_firing`` are its firings of active jobs, ``last`` those that end a pass."""
        by_pass = np.split(job_firing, self._passes) if self._passes.size else [job_firing]
        user = ChunkUser(node=node, job_firing=by_pass, active=self._active, last=last)
        shape = self._at.work.packed.shape
        section = element * shape.sections // shape.elements
        mine = self._order[self._bounds[section] : self._bounds[section + 1]]
        if self._decoding is not None:
            self._decoding.hand_chunks(user, mine)
            return
        take_chunks(self._at, weights, delivery, user, mine)
        wait_for_tables(self._at, delivery, node, int(np.append(by_pass[0], last)[0]))


def _firings(at: StageLowering, node: NodeBuilder, *, by_itself: bool) -> ElementFirings:
    from dchw.lowering.firings import element_firings

    machine, work, array = at.machine, at.work, at.machine.pe_array
    pixels = np.array([work.tiling.pixels_in(index) for index in range(work.tiling.passes)], np.int64)
    occupied, offsets, job_firing, entry, entry_firing, entry_pass, entry_offsets, drained, done = element_firings(
        work.activity,
        *_runs(work, array.elements),
        work.entries.row,
        _entry_cycles(machine, work, fetched_by_element=by_itself),
        array.hazard_cycles,
        drain(work, machine),
        by_itself,
        array.lanes,
        pixels,
    )
    _check_longest(work, int(done[2]))
    at.does(node, Work.ENTRIES, done[0])
    at.does(node, Work.PRODUCTS, done[1])
    at.does(node, Work.GROUPS, array.elements * work.activity.sum(dtype=np.int64))
    return ElementFirings(
        occupied=occupied,
        offsets=offsets,
        job_firing=job_firing,
        entry=entry,
        entry_firing=entry_firing,
        entry_pass=entry_pass,
        entry_offsets=entry_offsets,
        drained=drained,
    )


def _share_chunks(
    at: StageLowering,
    weights: WeightStream,
    delivery: Delivery,
    decoding: Decoding | None,
    nodes: list[NodeBuilder],
    first: Indices,
    job_firing: Indices,
    drained: Indices,
) -> None:
    """Chunks to the elements whose runs they hold, from the weight SRAM or from the decode units."""
    work, active = at.work, active_jobs(at.work)
    passes = np.cumsum([jobs.size for jobs in active])[:-1]
    section = work.packed.chunk_decoder // work.packed.shape.section_decoders
    for element, node in enumerate(nodes):
        user = ChunkUser(
            node=node, job_firing=np.split(job_firing[element], passes), active=active, last=drained[element]
        )
        mine = np.flatnonzero(section == element * work.packed.shape.sections // work.packed.shape.elements)
        if decoding is None:
            take_chunks(at, weights, delivery, user, mine)
            wait_for_tables(at, delivery, node, int(first[element]))
        else:
            decoding.hand_chunks(user, mine)
    if decoding is None:
        drop_chunks(at, weights, delivery)


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
    from dchw.lowering.firings import runs_of_elements

    entries = work.entries
    shape = elements, work.activity.shape[1]
    begin, length = np.zeros(shape, np.int32), np.zeros(shape, np.int32)
    runs_of_elements(entries.run_element, entries.run_job, entries.run_count, begin, length)
    return begin, length
