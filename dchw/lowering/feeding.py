"""The weight SRAM's own side of every hand-over of weights: what it gives to whoever takes chunks, and when their room
is free.

It follows from how a layer is packed and which columns are active, not from what any user's firings are. So it can be
lowered for stages whose compute is lowered later, and weights are fetched ahead of it.
"""

from __future__ import annotations

import numpy as np

from dchw.formats import Need
from dchw.lowering.chunks import Passes, WantedChunks, chunks_by_section, section_of
from dchw.lowering.context import StageLowering
from dchw.lowering.decoding import times_decoded
from dchw.lowering.weights import Delivery, WeightStream
from dchw.program.builder import NodeBuilder, Row


def feed(at: StageLowering, weights: WeightStream, delivery: Delivery) -> None:
    """Append what the weight SRAM gives to the users of a stage's chunks, and what it waits for from them."""
    if at.work.needs(Need.DECODER):
        _feed_decoders(at, weights, delivery)
    elif delivery.rounds:
        _feed_array(at, weights, delivery)


def _feed_decoders(at: StageLowering, weights: WeightStream, delivery: Delivery) -> None:
    """Every decode unit takes its chunks whole, once for every time it goes through them."""
    times, decoder = times_decoded(at.machine, at.work, delivery), at.work.packed.chunk_decoder
    rounds = delivery.rounds_of(times)
    for unit in np.unique(decoder).tolist() if times else ():
        node, chunks = at.nodes.decoder(unit), np.flatnonzero(decoder == unit)
        _tables(at, delivery, node, what="chunks")
        for index, _, _ in rounds:
            _chunks(at, weights, node, *delivery.given_and_freed(index, chunks))


def _feed_array(at: StageLowering, weights: WeightStream, delivery: Delivery) -> None:
    """Whoever multiplies takes chunks that are needed; all elements of a section take the same ones."""
    work, nodes = at.work, at.nodes
    wanted = WantedChunks.of(work, delivery, Passes.of(work))
    users, chunks = [[nodes.array]], [np.arange(work.packed.chunks, dtype=np.int64)]
    if work.form.positions:
        chunks = chunks_by_section(work)
        users = [[] for _ in chunks]
        for element in range(at.machine.pe_array.elements):
            users[section_of(work, element)].append(nodes.element(element))
    for sharing, mine in zip(users, chunks, strict=True):
        rounds, needed = wanted.of_user(mine)
        given, freed = delivery.given_and_freed(wanted.delivery_round[rounds], needed)
        for node in sharing:
            _chunks(at, weights, node, given, freed)
            _tables(at, delivery, node, what="tables")
    # room of chunks that nobody needs is given back as soon as they are in
    rounds, unused = np.nonzero(wanted.here & ~wanted.needed)
    given, freed = delivery.given_and_freed(wanted.delivery_round[rounds], unused)
    weights.used_up(delivery, nodes.deliver, given)
    weights.free_behind(nodes.deliver, freed)


def _tables(at: StageLowering, delivery: Delivery, node: NodeBuilder, *, what: str) -> None:
    if delivery.tables is not None:
        latency = at.chunk_latency if what == "chunks" else 0
        at.builder.link(at.nodes.deliver, node, what=what, latency=latency).give([delivery.tables])


def _chunks(at: StageLowering, weights: WeightStream, node: NodeBuilder, given: Row, freed: Row | None) -> None:
    at.builder.link(at.nodes.deliver, node, what="chunks", latency=at.chunk_latency).give(given)
    weights.free_behind(node, freed)
