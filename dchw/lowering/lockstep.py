"""Weights without positions: all elements work a column together.

A column is one firing of the array, or, where decode units feed it while it works, one for each of its steps: as many
rows as fit all elements and the lanes that pixels leave free.
"""

from __future__ import annotations

import numpy as np

from dchw.formats import Need
from dchw.lowering.broadcast import Handover, column_queue
from dchw.lowering.chunks import (
    ChunkTaking,
    ChunkUser,
    Passes,
    WantedChunks,
    drain,
    take_chunks,
    wait_for_tables,
)
from dchw.lowering.context import StageLowering
from dchw.lowering.decoding import Decoding, step_ends
from dchw.lowering.weights import Delivery, WeightStream
from dchw.machines.machine import Machine
from dchw.machines.units.huffman_decoder import Placement
from dchw.mapping.stages import LayerWork
from dchw.program.builder import Indices, Row
from dchw.quantities import ceil_div
from dchw.vocabulary import Stream


def lockstep(
    at: StageLowering, weights: WeightStream, delivery: Delivery, held: int, columns: Row
) -> tuple[Handover, Decoding | None]:
    """Append the array's firings for a stage; ``columns`` are those of the broadcast."""
    machine, work, array = at.machine, at.work, at.machine.pe_array
    decoding = None
    if work.needs(Need.DECODER):
        at_use = machine.huffman.placement is Placement.USE
        decoding = Decoding(at, weights, delivery, held, step_ends(work, step_rows(machine, work)) if at_use else None)
    steps = 1 if _by_itself(decoding) else ceil_div(work.rows, step_rows(machine, work))
    node = at.nodes.array
    active = work.activity > 0
    groups = work.activity[active].astype(np.int64)  # of every active job, pass by pass
    count = np.count_nonzero(active, axis=1)
    pixels = work.tiling.pixels_of_passes()
    cycles = _column_cycles(machine, work, groups, pixels, count) if steps == 1 else _step_cycles(machine, work, groups)
    _note_columns(at, groups, np.repeat(pixels, count), by_itself=_by_itself(decoding))
    last = np.cumsum(steps * count + 1) - 1
    occupied = np.empty(steps * groups.size + count.size, np.int64)
    ends = np.zeros(occupied.size, np.bool_)
    ends[last] = True
    occupied[last] = drain(work, machine) + np.int32(array.dense_fill)
    occupied[~ends] = np.repeat(cycles, steps)
    first = at.fire(node, occupied)[0]
    job_firing = np.arange(first, first + steps * groups.size, steps) + np.repeat(np.arange(count.size), count)
    last += first
    queue = column_queue(at, node)
    queue.give(columns)
    queue.take(job_firing)
    handover = Handover(node=node, firings=last[work.tiling.first_handover :])
    if decoding is not None and not decoding.at_load:
        decoding.hand_steps(node, job_firing)
        return handover, decoding
    passes, chunks = Passes.of(work), np.arange(work.packed.chunks)
    user = ChunkUser(node=node, starts=np.concatenate([job_firing, last]))
    if decoding is None:
        spans = WantedChunks.of(work, delivery, passes).spans(passes, work.packed, chunks)
        take_chunks(at, weights, delivery, node, ChunkTaking.of(user, spans))
        wait_for_tables(at, delivery, node, int(first))
    else:
        decoding.hand_chunks(user, passes, chunks)
    return handover, decoding


def _by_itself(decoding: Decoding | None) -> bool:
    """Whether the array reads the weight SRAM itself."""
    return decoding is None or decoding.at_load


def _note_columns(at: StageLowering, groups: Indices, pixels: Indices, *, by_itself: bool) -> None:
    """What the array works: groups of lanes of every column that is broadcast, and the pixels of its pass."""
    machine, work, array = at.machine, at.work, at.machine.pe_array
    lanes = int(np.minimum(groups * array.lanes, pixels).sum())
    word_bits = machine.formats.activations.bits * lanes
    at.flow.entries += work.rows * groups.size
    at.flow.products += work.rows * lanes
    at.flow.array_bits[work.form.values] += work.entry_bits * work.rows * groups.size
    at.flow.array_bits[Stream.ACTIVATIONS] += word_bits * work.side_by_side
    at.flow.taken_bits += word_bits * work.receivers(array.elements)
    at.flow.queued += work.side_by_side * int(groups.sum())
    if by_itself:
        at.flow.weight_reads[work.form.values] += machine.weight_sram.words(work.rows * work.entry_bits) * groups.size


def _spread(machine: Machine, work: LayerWork) -> int:
    """Rows that one element works at a time in lockstep, in lanes that the pixels of a full pass leave free."""
    return max(1, machine.pe_array.lanes // work.tiling.tile)


def step_rows(machine: Machine, work: LayerWork) -> int:
    """Rows that all elements work at a time in lockstep."""
    return machine.pe_array.elements * _spread(machine, work)


def _column_cycles(machine: Machine, work: LayerWork, groups: Indices, pixels: Indices, count: Indices) -> Indices:
    """Cycles of each column: multiplying, reading its weights from the SRAM, looking them up; ``pixels`` of each pass,
    and the columns that it has."""
    sram = machine.weight_sram
    supply = ceil_div(work.rows * work.entry_bits, sram.banks * sram.word_bits)
    least = max(supply, _look_up_cycles(machine, work, work.rows))
    sizes, which = np.unique(pixels, return_inverse=True)
    a_group = np.array([machine.pe_array.dense_cycles(work.rows, size) for size in sizes.tolist()], np.int64)
    return np.maximum(groups * np.repeat(a_group[which], count), least)


def _step_cycles(machine: Machine, work: LayerWork, groups: Indices) -> Indices:
    """Cycles of each step of a column whose weights come from the decode units. The last, smaller pass keeps the steps
    of a full one, because that is how the units group what they hand over."""
    return np.maximum(groups, _look_up_cycles(machine, work, min(work.rows, step_rows(machine, work))))


def _look_up_cycles(machine: Machine, work: LayerWork, rows: int) -> int:
    """Cycles in which so many weights of a column are looked up; every element looks up its own."""
    if not work.needs(Need.CODEBOOK):
        return 0
    return machine.codebook.column_cycles(ceil_div(rows, machine.pe_array.elements))
