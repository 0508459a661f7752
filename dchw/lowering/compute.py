"""Decoding, broadcast, multiplication and results of one stage, as firings.

Every pass broadcasts the columns with a non-zero activation, in job order; whoever multiplies works through the weights
of each and hands its sums over at the end: every element by itself where entries have positions
(`dchw.lowering.elements`), all of them together where they have none (`dchw.lowering.lockstep`).
"""

from __future__ import annotations

import numpy as np

from dchw.formats import Need
from dchw.lowering.broadcast import broadcast, collect
from dchw.lowering.context import StageLowering
from dchw.lowering.decoding import times_decoded
from dchw.lowering.elements import elements
from dchw.lowering.lockstep import lockstep
from dchw.lowering.tensors import Fills
from dchw.lowering.weights import Delivery, WeightStream, pointers_apart
from dchw.program.builder import Indices, link_name
from dchw.vocabulary import Stream


def lower_compute(
    at: StageLowering, weights: WeightStream, delivery: Delivery, fills: Fills, new_input: bool, held: int
) -> Indices:
    """Append a stage; the vector firings of its tiles.

    ``fills`` and ``new_input`` are those of `broadcast`; ``held`` is `chunks_held` of the whole workload.
    """
    _note_tables(at)
    columns = broadcast(at, fills, new_input)
    if at.work.form.positions:
        results, decoding = elements(at, weights, delivery, held, columns)
    else:
        together, decoding = lockstep(at, weights, delivery, held, columns)
        results = [together]
    done = collect(at, results, fills.behind)
    if decoding is not None:
        decoding.finish(int(done[-1]))
    return done


def starts(at: StageLowering, delivery: Delivery, fills: Fills, new_input: bool) -> dict[str, str | None]:
    """Who fires when a stage is computed, and a link of which the first of these firings takes an item.

    None: the first firing may take nothing. ``new_input``: whether the stage waits for the results of the one before.
    """
    work, nodes, active = at.work, at.nodes, bool(at.work.activity[0].any())
    array = [nodes.array]
    if work.form.positions:
        array = [nodes.element(index) for index in range(at.machine.pe_array.elements)]
    found: dict[str, str | None] = {
        node.name: link_name(nodes.broadcast, node, "columns") if active else None for node in array
    }
    found[nodes.vector.name] = link_name(array[0], nodes.vector, "sums")
    found[nodes.broadcast.name] = None
    if new_input:
        found[nodes.broadcast.name] = link_name(nodes.vector, nodes.broadcast, "inputs complete")
    elif fills.reached.size:
        found[nodes.broadcast.name] = link_name(nodes.activation_fill, nodes.broadcast, "blocks")
    if work.needs(Need.DECODER) and times_decoded(at.machine, work, delivery):
        for unit in np.unique(work.packed.chunk_decoder):
            node = nodes.decoder(int(unit))
            waits = delivery.tables is not None
            found[node.name] = link_name(nodes.deliver, node, "chunks") if waits else None
    return found


def _note_tables(at: StageLowering) -> None:
    """What is read of tables once for the stage, and for every tile of what tells where runs begin."""
    work, sram, flow = at.work, at.machine.weight_sram, at.flow
    sizes = work.packed.packed_bytes
    if work.needs(Need.CODEBOOK):
        flow.codebook_values += work.packed.parameters.codebook_values + 1  # code 0 is not stored
    for stream, size in sizes.items():
        if work.form.needs and stream not in work.packed.chunk_bytes:
            flow.weight_reads[stream] += sram.words(8 * size)
    if work.needs(Need.DECODER) and at.machine.huffman.at_use:
        return
    for stream in work.form.run_regions & sizes.keys():
        if stream is not Stream.POINTERS or not pointers_apart(at.machine, work):
            flow.weight_reads[stream] += sram.words(8 * sizes[stream]) * work.tiling.tiles
    if work.needs(Need.DECODER):
        flow.weight_reads[Stream.POINTERS] += sram.words(work.starts_bits) * work.tiling.tiles
