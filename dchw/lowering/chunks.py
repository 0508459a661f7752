"""Chunks of weights that whoever multiplies takes from the weight SRAM by itself, and gives back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from dchw.lowering.context import StageLowering
from dchw.lowering.weights import Delivery, WeightStream
from dchw.machines.machine import Machine
from dchw.mapping.stages import LayerWork
from dchw.program.builder import Firings, Indices, NodeBuilder

Round = tuple[int, int, npt.NDArray[np.bool_]]
"""The passes before which chunks are delivered and behind which they are used up, and bool[chunks], which."""


@dataclass(frozen=True, kw_only=True, eq=False)
class ChunkUser:
    """Who works through the chunks of a layer: the firing of each active job, pass by pass."""

    node: NodeBuilder
    job_firing: Sequence[Firings]
    """Per pass: firing of each active job."""
    active: list[Indices]
    """Per pass: the active jobs."""
    last: Firings
    """Firing that ends each pass."""

    def span(
        self, index: int, first_job: npt.NDArray[np.int32], end_job: npt.NDArray[np.int32]
    ) -> tuple[Indices, Indices]:
        """In one pass, the firing that first needs each chunk and the one after which it is used up.

        A chunk without an active job is taken and used up by the firing that comes next.
        """
        starts = np.append(self.job_firing[index], self.last[index])
        take = starts[np.searchsorted(self.active[index], first_job)]
        done = starts[np.searchsorted(self.active[index], end_job)] - 1
        return take, np.maximum(take, done)


def needed_chunks(work: LayerWork, taken_in: int, used_in: int) -> Indices:
    """Chunks that somebody waits for in a round, in order.

    A chunk without an active job is not needed in its pass. One that is kept for several passes counts as needed.
    """
    packed = work.packed
    if taken_in != used_in:
        return np.arange(packed.chunks)
    active = np.flatnonzero(work.activity[taken_in])
    first, end = np.searchsorted(active, packed.chunk_first_job), np.searchsorted(active, packed.chunk_end_job)
    return np.flatnonzero(first < end)


def wanted_rounds(work: LayerWork, delivery: Delivery) -> list[Round]:
    """What is delivered of a layer, round by round."""
    rounds = []
    for _, taken_in, used_in, chunks in delivery.rounds_by_block(work):
        needed, here = np.zeros((2, work.packed.chunks), np.bool_)
        needed[needed_chunks(work, taken_in, used_in)] = True
        here[chunks] = True
        rounds.append((taken_in, used_in, needed & here))
    return rounds


def take_chunks(
    at: StageLowering,
    weights: WeightStream,
    delivery: Delivery,
    user: ChunkUser,
    ids: Indices,
    rounds: Sequence[Round],
) -> None:
    """Let a user take its chunks, ``ids`` in order, when they are delivered, and note when it is done with them."""
    packed = at.work.packed
    for taken_in, used_in, wanted in rounds:
        mine = ids[wanted[ids]]
        first, end = packed.chunk_first_job[mine], packed.chunk_end_job[mine]
        take, _ = user.span(taken_in, first, end)
        _, done = user.span(used_in, first, end)
        at.builder.link(at.nodes.deliver, user.node, what="chunks", latency=at.chunk_latency).take(take)
        weights.used_up(delivery, user.node, done)


def wait_for_tables(at: StageLowering, delivery: Delivery, node: NodeBuilder, firing: int) -> None:
    """Biases and scales must be there before the first multiplication."""
    if delivery.tables is not None:
        at.builder.link(at.nodes.deliver, node, what="tables").take([firing])


def chunks_by_element(work: LayerWork) -> list[Indices]:
    """Chunks that hold runs of each processing element, in order."""
    shape = work.packed.shape
    section = work.packed.chunk_decoder // shape.section_decoders
    order = np.argsort(section, kind="stable")
    bounds = np.searchsorted(section[order], np.arange(shape.sections + 1))
    return [
        order[bounds[one] : bounds[one + 1]]
        for one in (element * shape.sections // shape.elements for element in range(shape.elements))
    ]


def active_jobs(work: LayerWork) -> list[Indices]:
    """Per pass: the jobs whose columns are broadcast."""
    return [np.flatnonzero(row) for row in work.activity]


def drain(work: LayerWork, machine: Machine) -> npt.NDArray[np.int32]:
    """int32[passes]: cycles that end each pass: handing the sums over, or turning to another tile's."""
    tiling = work.tiling
    return np.array(
        [
            machine.pe_array.drain_cycles(tiling.rows, tiling.pixels_in(index)) if index >= tiling.first_handover else 1
            for index in range(tiling.passes)
        ],
        np.int32,
    )
