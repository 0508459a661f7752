"""Columns of activations to whoever multiplies, and sums back from there to the vector unit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dchw.lowering.context import StageLowering
from dchw.lowering.tensors import input_blocks, input_room, room_blocks
from dchw.program.builder import Indices, LinkBuilder, NodeBuilder
from dchw.program.program import Work
from dchw.quantities import DchwError, ceil_div


@dataclass(frozen=True, kw_only=True, eq=False)
class Handover:
    """A node that hands over its sums once a pass."""

    node: NodeBuilder
    firings: Indices


def broadcast(at: StageLowering, fills: Indices, previous: int | None) -> Indices:
    """Firings of the broadcast: one that opens each pass, then one per active job; those of the jobs, in order.

    ``fills`` brought the stage's tensors into the activation SRAM; ``previous`` is the vector firing that completes
    what the stage needs from the one before, None where it needs nothing.
    """
    work, sram = at.work, at.machine.activation_sram
    vector_bits = at.machine.pe_array.lanes * at.machine.formats.activations.bits
    per_group = ceil_div(vector_bits, sram.banks * sram.word_bits)
    passes = work.tiling.passes
    cycles = np.ones((passes, work.activity.shape[1] + 1), np.int32)
    cycles[:, 1:] = work.activity.astype(np.int32) * per_group
    firings = np.cumsum(cycles.ravel() > 0).reshape(cycles.shape) - 1
    first = at.fire(at.nodes.broadcast, cycles[cycles > 0])[0]
    at.does(at.nodes.broadcast, Work.GROUPS, int(cycles[:, 1:].sum(dtype=np.int64)) // per_group)
    opens, closes = first + firings[:, 0], first + firings[:, -1]
    if previous is not None:
        ready = at.builder.link(at.nodes.vector, at.nodes.broadcast, what="inputs complete")
        ready.give([previous])
        ready.take(opens[:1])
    if fills.size:
        wanted = np.arange(fills.size) * passes // fills.size
        most = int(np.bincount(wanted).max())
        room = room_blocks(at)
        if most > room:
            raise DchwError(
                f"layer {work.name!r}: one pass needs {most} blocks of its input at once, but half of the "
                f"activation SRAM holds {room}; raise activation_sram.size_bytes or lower pe_array.tile"
            )
        input_blocks(at).take(opens[wanted])
        input_room(at).give(closes[wanted])
    return np.asarray(first + firings[:, 1:][work.activity > 0], dtype=np.int64)


def column_queue(at: StageLowering, node: NodeBuilder) -> LinkBuilder:
    """Broadcast columns that wait in front of an element, or of the lockstep array."""
    return at.builder.link(at.nodes.broadcast, node, what="columns", depth=at.machine.pe_array.queue_depth)


def collect(at: StageLowering, results: Sequence[Handover]) -> Indices:
    """The vector unit takes each pass's sums, and the operations behind the layer their share of it."""
    machine, stage, work, passes = at.machine, at.stage, at.work, at.work.tiling.passes
    pixels = np.array([work.tiling.pixels_in(index) for index in range(passes)])
    behind = stage.vector_values * np.cumsum(pixels) // work.tiling.pixels
    values = pixels * work.geometry.out_channels + np.diff(behind, prepend=0)
    node = at.nodes.vector
    firings = at.fire(node, [machine.vector.cycles(int(value)) for value in values])
    at.does(node, Work.VALUES, values.sum())
    for handover in results:
        link = at.builder.link(handover.node, node, what="sums", depth=1)
        link.give(handover.firings)
        link.take(firings)
    if stage.product_macs:
        at.does(node, Work.PRODUCTS, stage.product_macs)
        last = at.fire(node, [ceil_div(stage.product_macs, machine.pe_array.macs_per_cycle)])
        firings = np.append(firings[:-1], last)
    return firings
