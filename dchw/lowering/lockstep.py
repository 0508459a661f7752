"""Weights without positions: all elements work a column together.

A column is one firing of the array, or, where decode units feed it while it works, one for each of its steps: as many
rows as fit all elements and the lanes that pixels leave free.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from dchw.formats import Need
from dchw.lowering.broadcast import Handover, column_queue
from dchw.lowering.chunks import ChunkUser, active_jobs, drain, take_chunks, wait_for_tables, wanted_rounds
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
    steps = 1 if decoding is None or decoding.at_load else ceil_div(work.rows, step_rows(machine, work))
    node = at.nodes.array
    parts: list[npt.NDArray[np.integer[Any]]] = []
    starts, count, ends = [], 0, drain(work, machine) + np.int32(array.dense_fill)
    for index in range(work.tiling.passes):
        pixels = work.tiling.pixels_in(index)
        groups = work.activity[index][work.activity[index] > 0].astype(np.int64)
        cycles = _column_cycles(machine, work, groups, pixels) if steps == 1 else _step_cycles(machine, work, groups)
        at.flow.entries += work.rows * groups.size
        at.flow.products += work.rows * int(np.minimum(groups * array.lanes, pixels).sum())
        at.flow.array_bits[work.form.values] += work.entry_bits * work.rows * groups.size
        word_bits = machine.formats.activations.bits * int(np.minimum(groups * array.lanes, pixels).sum())
        at.flow.array_bits[Stream.ACTIVATIONS] += word_bits * work.side_by_side
        at.flow.taken_bits += word_bits * work.receivers(array.elements)
        at.flow.queued += work.side_by_side * int(groups.sum())
        if decoding is None or decoding.at_load:
            words = machine.weight_sram.words(work.rows * work.entry_bits)
            at.flow.weight_reads[work.form.values] += words * groups.size
        parts += [np.repeat(cycles, steps), ends[index : index + 1]]
        starts.append(count + steps * np.arange(groups.size))
        count += steps * groups.size + 1
    first = at.fire(node, np.concatenate(parts))[0]
    job_firing = [part + first for part in starts]
    last = first + np.cumsum([steps * part.size + 1 for part in starts]) - 1
    queue = column_queue(at, node)
    queue.give(columns)
    queue.take(np.concatenate(job_firing))
    user = ChunkUser(node=node, job_firing=job_firing, active=active_jobs(work), last=last)
    chunks = np.arange(work.packed.chunks)
    if decoding is None:
        take_chunks(at, weights, delivery, user, chunks, wanted_rounds(work, delivery))
        wait_for_tables(at, delivery, node, int(first))
    elif decoding.at_load:
        decoding.hand_chunks(user, chunks)
    else:
        decoding.hand_steps(node, job_firing, user.active)
    return Handover(node=node, firings=last[work.tiling.first_handover :]), decoding


def _spread(machine: Machine, work: LayerWork) -> int:
    """Rows that one element works at a time in lockstep, in lanes that the pixels of a full pass leave free."""
    return max(1, machine.pe_array.lanes // work.tiling.tile)


def step_rows(machine: Machine, work: LayerWork) -> int:
    """Rows that all elements work at a time in lockstep."""
    return machine.pe_array.elements * _spread(machine, work)


def _column_cycles(machine: Machine, work: LayerWork, groups: Indices, pixels: int) -> Indices:
    """Cycles of each column of a pass: multiplying, reading its weights from the SRAM, looking them up."""
    sram = machine.weight_sram
    supply = ceil_div(work.rows * work.entry_bits, sram.banks * sram.word_bits)
    least = max(supply, _look_up_cycles(machine, work, work.rows))
    return np.maximum(groups * machine.pe_array.dense_cycles(work.rows, pixels), least)


def _step_cycles(machine: Machine, work: LayerWork, groups: Indices) -> Indices:
    """Cycles of each step of a column whose weights come from the decode units. The last, smaller pass keeps the steps
    of a full one, because that is how the units group what they hand over."""
    return np.maximum(groups, _look_up_cycles(machine, work, min(work.rows, step_rows(machine, work))))


def _look_up_cycles(machine: Machine, work: LayerWork, rows: int) -> int:
    """Cycles in which so many weights of a column are looked up; every element looks up its own."""
    if not work.needs(Need.CODEBOOK):
        return 0
    return machine.codebook.column_cycles(ceil_div(rows, machine.pe_array.elements))
