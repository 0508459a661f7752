"""The weight SRAM's own side of every hand-over of weights: what it gives to whoever takes chunks, and when their room
is free.

It follows from how a layer is packed and which columns are active, not from what any user's firings are. So it can be
lowered for stages whose compute is lowered later, and weights are fetched ahead of it.
"""

from __future__ import annotations

import numpy as np

from dchw.formats import Need
from dchw.lowering.chunks import chunks_by_element, needed_chunks
from dchw.lowering.context import StageLowering
from dchw.lowering.decoding import times_decoded
from dchw.lowering.weights import Delivery, WeightStream
from dchw.program.builder import Indices, NodeBuilder


def feed(at: StageLowering, weights: WeightStream, delivery: Delivery) -> None:
    """Append what the weight SRAM gives to the users of a stage's chunks, and what it waits for from them."""
    work, nodes = at.work, at.nodes
    if work.needs(Need.DECODER):
        times, decoder = times_decoded(at.machine, work, delivery), work.packed.chunk_decoder
        rounds = delivery.rounds_of(times)
        for unit in np.unique(decoder).tolist() if times else ():
            node, chunks = nodes.decoder(unit), np.flatnonzero(decoder == unit)
            _tables(at, delivery, node, what="chunks")
            for index, _, _ in rounds:
                _chunks(at, weights, delivery, node, index, chunks)
        return
    users: list[tuple[NodeBuilder, Indices]] = [(nodes.array, np.arange(work.packed.chunks))]
    if work.form.positions:
        users = [(nodes.element(index), mine) for index, mine in enumerate(chunks_by_element(work))]
    needed = [
        (index, chunks, needed_chunks(work, taken_in, used_in))
        for index, taken_in, used_in, chunks in delivery.rounds_by_block(work)
    ]
    for node, mine in users:
        for index, chunks, wanted in needed:
            here = np.intersect1d(chunks, wanted, assume_unique=True)
            _chunks(at, weights, delivery, node, index, np.intersect1d(mine, here, assume_unique=True))
        _tables(at, delivery, node, what="tables")
    for index, chunks, wanted in needed:  # room of chunks that nobody needs is given back as soon as they are in
        unused = np.setdiff1d(chunks, wanted, assume_unique=True)
        weights.used_up(delivery, nodes.deliver, delivery.chunk_firing[index][unused])
        weights.free_behind(delivery, nodes.deliver, index, unused)


def _tables(at: StageLowering, delivery: Delivery, node: NodeBuilder, *, what: str) -> None:
    if delivery.tables is not None:
        latency = at.chunk_latency if what == "chunks" else 0
        at.builder.link(at.nodes.deliver, node, what=what, latency=latency).give([delivery.tables])


def _chunks(
    at: StageLowering, weights: WeightStream, delivery: Delivery, node: NodeBuilder, index: int, chunks: Indices
) -> None:
    link = at.builder.link(at.nodes.deliver, node, what="chunks", latency=at.chunk_latency)
    link.give(delivery.chunk_firing[index][chunks])
    weights.free_behind(delivery, node, index, chunks)
