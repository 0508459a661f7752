"""Columns of activations to whoever multiplies, and sums back from there to the vector unit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from dchw.lowering.context import StageLowering
from dchw.lowering.tensors import Fills, blocks_for, room_for, sum_bytes
from dchw.mapping.rooms import behind_blocks
from dchw.program.builder import Firings, Indices, LinkBuilder, NodeBuilder, Row
from dchw.program.open_figures import OpenFigure
from dchw.quantities import ceil_div
from dchw.vocabulary import Stream

COLUMNS_WAITING = OpenFigure(lambda machine: machine.pe_array.queue_depth)
"""Broadcast columns that an element's queue holds."""


@dataclass(frozen=True, kw_only=True, eq=False, slots=True)
class Handover:
    """A node that hands over its sums at the end of every pass from `Tiling.first_handover` on."""

    node: NodeBuilder
    firings: Firings


def broadcast(at: StageLowering, fills: Fills, new_input: bool) -> Row:
    """Firings of the broadcast: one that opens each pass, then one per active job; those of the jobs, in order.

    ``fills`` are the blocks of the stage's tensors on their way into the activation SRAM; ``new_input``: whether the
    stage needs the results of the one before. A block of the input is waited for when the stage has come as far as the
    block lies in its tensor, and its room is given back when the stage has passed it. Where more blocks than have room
    lie between one column that is broadcast and the next, each of the others is stepped over in a cycle of its own.
    """
    work, sram = at.work, at.machine.activation_sram
    lanes, bits = at.machine.pe_array.lanes, at.machine.formats.activations.bits
    per_group = sram.feed_cycles(lanes, bits, work.side_by_side)
    passes = work.tiling.passes
    cycles = np.zeros((passes, work.activity.shape[1] + 1, fills.places), np.int32)
    cycles[:, 0, 0] = 1
    cycles[:, 1:, -1] = work.activity.astype(np.int32) * per_group
    vectors = work.side_by_side * (int(cycles[:, 1:].sum(dtype=np.int64)) // per_group)
    passed = np.maximum(np.append(fills.reached[1:], cycles.size) - 1, fills.reached)
    if not fills.stays:
        _step_over(cycles.reshape(-1), fills.reached, passed, work.input_blocks)
    firings = np.cumsum(cycles.ravel() > 0).reshape(cycles.shape) - 1
    first = at.fire(at.nodes.broadcast, cycles[cycles > 0])[0]
    at.flow.activation_reads[Stream.ACTIVATIONS] += vectors * sram.words(lanes * bits)
    if new_input:
        inputs_complete(at).take([first])
    along = first + firings.ravel()
    if fills.reached.size:
        blocks_for(at, at.nodes.broadcast).take(along[fills.reached])
        if not fills.stays:
            room_for(at, at.nodes.broadcast).give(along[passed])
    if fills.give_back:
        room_for(at, at.nodes.broadcast).give(np.full(fills.give_back, along[-1]))
    return np.asarray(first + firings[:, 1:, -1][work.activity > 0], dtype=np.int32)  # one list for all


def _step_over(cycles: npt.NDArray[np.int32], reached: Indices, passed: Indices, room: int) -> None:
    """Make a firing of the place of every block that would be waited for in the one that gives back its room.

    ``cycles`` by place, changed in place; ``reached`` and ``passed`` by block, of which ``room`` are there at a time.
    """
    firing = np.cumsum(cycles > 0)
    stuck = firing[reached[room:]] <= firing[passed[:-room]]
    cycles[reached[room:][stuck]] = np.maximum(cycles[reached[room:][stuck]], 1)


def inputs_complete(at: StageLowering) -> LinkBuilder:
    """From the last result of a layer to the first pass of the next one."""
    return at.builder.link(at.nodes.vector, at.nodes.broadcast, what="inputs complete")


def column_queue(at: StageLowering, node: NodeBuilder) -> LinkBuilder:
    """Broadcast columns that wait in front of an element, or of the lockstep array."""
    return at.builder.link(at.nodes.broadcast, node, what="columns", depth=COLUMNS_WAITING)


def results_of(at: StageLowering, behind: Indices) -> int:
    """Firings of the vector unit in which a stage's passes leave it (`collect`)."""
    passes = at.work.tiling.passes - at.work.tiling.first_handover
    busiest = int(np.bincount(behind).max(initial=0))
    return passes * max(1, ceil_div(busiest, max(behind_blocks(at.machine) // 2, 1)))


def collect(at: StageLowering, results: Sequence[Handover], behind: Indices) -> Indices:
    """The vector unit takes each pass's sums; with complete ones, the operations behind the layer their share.

    To partial sums it adds those of the block before, which it reads where they wait, and puts them there again.
    ``behind`` are the passes with which blocks from DRAM are read; a pass goes through in slices that leave room for
    the next blocks.
    """
    machine, stage, work, tiling = at.machine, at.stage, at.work, at.work.tiling
    handed = np.arange(tiling.first_handover, tiling.passes)
    pixels = tiling.pixels_of_passes()[tiling.first_handover :]
    complete = handed >= tiling.last_block
    sums = pixels * work.geometry.out_channels
    shares = stage.vector_values * np.cumsum(pixels * complete) // tiling.pixels
    values = sums + np.diff(shares, prepend=0) + np.where(handed - tiling.tiles >= tiling.first_handover, sums, 0)
    slices = results_of(at, behind) // handed.size
    upto = values[:, None] * np.arange(slices + 1) // slices
    node = at.nodes.vector
    firings = at.fire(node, [machine.vector.cycles(int(value)) for value in np.diff(upto, axis=1).ravel()])
    at.flow.outputs += int(sums.sum())
    at.flow.vector_values += int(values.sum())
    written = machine.activation_sram.words(int(sums[complete].sum()) * machine.formats.activations.bits)
    at.flow.activation_writes[Stream.OUTPUTS] += written
    if not complete.all():
        waiting = sum(machine.activation_sram.words(8 * sum_bytes(at, int(index))) for index in handed[~complete])
        at.flow.activation_writes[Stream.PARTIAL_SUMS] += waiting
        at.flow.activation_reads[Stream.PARTIAL_SUMS] += waiting
    taken_by = firings[::slices].astype(np.int32)
    for handover in results:
        link = at.builder.link(handover.node, node, what="sums", depth=1)
        link.give(handover.firings)
        link.take(taken_by)
    if behind.size:
        place = behind - tiling.first_handover
        count = np.bincount(place)
        rank = np.arange(behind.size) - (np.cumsum(count) - count)[place]
        reached = firings[place * slices + rank * slices // count[place]]
        blocks_for(at, node).take(reached)
        room_for(at, node).give(reached)
    if stage.product_macs:
        at.flow.activation_products += stage.product_macs
        last = at.fire(node, [ceil_div(stage.product_macs, machine.pe_array.macs_per_cycle)])
        firings = np.append(firings[:-1], last)
    return firings
