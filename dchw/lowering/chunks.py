"""Chunks of weights that whoever multiplies takes from the weight SRAM by itself, and gives back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from dchw.formats import PackedLayer
from dchw.formats.packing.stored_runs import offsets_of
from dchw.lowering.context import StageLowering
from dchw.lowering.weights import Delivery, WeightStream
from dchw.machines.machine import Machine
from dchw.mapping.stages import LayerWork
from dchw.program.builder import Firings, Indices, NodeBuilder, Row


@dataclass(frozen=True, kw_only=True, eq=False)
class Passes:
    """Which jobs of a stage are broadcast, pass by pass: the active ones."""

    rank: Row
    """int32[passes, jobs + 1]: active jobs of a pass before each job, and all of the pass."""
    begin: Indices
    """int64[passes + 1]: active jobs of all passes before each, and all."""

    @classmethod
    def of(cls, work: LayerWork) -> Passes:
        """Those of a stage."""
        passes, jobs = work.activity.shape
        rank = np.zeros((passes, jobs + 1), np.int32)
        np.cumsum(work.activity > 0, axis=1, out=rank[:, 1:])
        return cls(rank=rank, begin=offsets_of(rank[:, -1]))

    def starts(self, index: npt.NDArray[Any], jobs: npt.NDArray[Any]) -> Indices:
        """Which of `ChunkUser.starts` works the first active job from each of ``jobs`` on, in the pass ``index``: that
        job's firing, or the one that ends the pass."""
        rank = self.rank[index, jobs]
        none_left = rank == self.rank[index, -1]
        return np.asarray(np.where(none_left, self.begin[-1] + index, self.begin[index] + rank), np.int64)


@dataclass(frozen=True, kw_only=True, eq=False)
class ChunkSpans:
    """Between which firings of a user chunks are taken and used up, as places in `ChunkUser.starts`."""

    take: Indices
    """That first needs each, in the pass in which it is taken."""
    opened: Indices
    """The same in the pass in which it is used up."""
    behind: Indices
    """The next after the last that needs it there."""

    @classmethod
    def of(
        cls, passes: Passes, packed: PackedLayer, taken_in: Indices, used_in: Indices, chunks: Indices
    ) -> ChunkSpans:
        """Of chunks that are taken and used up in these passes; a chunk without an active job is taken and used up by
        the firing that comes next."""
        first, end = packed.chunk_first_job[chunks], packed.chunk_end_job[chunks]
        return cls(
            take=passes.starts(taken_in, first),
            opened=passes.starts(used_in, first),
            behind=passes.starts(used_in, end),
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class ChunkUser:
    """Who works through the chunks of a layer."""

    node: NodeBuilder
    starts: Firings
    """Firing of each active job, pass by pass, and behind them the firing that ends each pass."""

    def taken(self, spans: ChunkSpans) -> Firings:
        """The firing that first needs each chunk."""
        return self.starts[spans.take]

    def done(self, spans: ChunkSpans) -> Firings:
        """The firing after which each is used up."""
        return np.maximum(self.starts[spans.opened], self.starts[spans.behind] - 1)


def needed_chunks(work: LayerWork, passes: Passes, taken_in: int, used_in: int) -> npt.NDArray[np.bool_]:
    """bool[chunks]: whether somebody waits for a chunk in a round.

    A chunk without an active job is not needed in its pass. One that is kept for several passes counts as needed.
    """
    if taken_in != used_in:
        return np.ones(work.packed.chunks, np.bool_)
    rank = passes.rank[taken_in]
    return np.asarray(rank[work.packed.chunk_first_job] < rank[work.packed.chunk_end_job])


@dataclass(frozen=True, kw_only=True, eq=False)
class WantedChunks:
    """What is delivered of a layer to those who take it from the weight SRAM by themselves, round by round."""

    delivery_round: Indices
    """int64[rounds]: round of the `Delivery`."""
    taken_in: Indices
    """int64[rounds]: pass before which its chunks are taken."""
    used_in: Indices
    """int64[rounds]: pass behind which they are used up."""
    here: npt.NDArray[np.bool_]
    """bool[rounds, chunks]: what is delivered."""
    needed: npt.NDArray[np.bool_]
    """bool[rounds, chunks]: of that, what somebody waits for."""

    @classmethod
    def of(cls, work: LayerWork, delivery: Delivery, passes: Passes) -> WantedChunks:
        """Those of a stage."""
        rounds = delivery.rounds_by_block(work)
        here, needed = np.zeros((2, len(rounds), work.packed.chunks), np.bool_)
        for row, (_, taken_in, used_in, chunks) in enumerate(rounds):
            here[row, chunks] = True
            needed[row] = here[row] & needed_chunks(work, passes, taken_in, used_in)
        columns = np.array([one[:3] for one in rounds], np.int64).reshape(-1, 3).T
        return cls(delivery_round=columns[0], taken_in=columns[1], used_in=columns[2], here=here, needed=needed)

    def of_user(self, chunks: Indices) -> tuple[Indices, Indices]:
        """(round, chunk) of all that a user of these chunks waits for, in order."""
        rounds, places = np.nonzero(self.needed[:, chunks])
        return rounds, chunks[places]

    def spans(self, passes: Passes, packed: PackedLayer, chunks: Indices) -> ChunkSpans:
        """Between which firings such a user takes them and is done with them."""
        rounds, mine = self.of_user(chunks)
        return ChunkSpans.of(passes, packed, self.taken_in[rounds], self.used_in[rounds], mine)


@dataclass(frozen=True, kw_only=True, eq=False)
class ChunkTaking:
    """In which of a user's firings chunks are taken, and behind which they are used up."""

    taken: Row
    done: Row

    @classmethod
    def of(cls, user: ChunkUser, spans: ChunkSpans) -> ChunkTaking:
        """Those of a user."""
        return cls(taken=user.taken(spans).astype(np.int32), done=user.done(spans).astype(np.int32))


def take_chunks(
    at: StageLowering, weights: WeightStream, delivery: Delivery, node: NodeBuilder, taking: ChunkTaking
) -> None:
    """Let a user take its chunks when they are delivered, and note when it is done with them."""
    if not delivery.rounds:
        return
    at.builder.link(at.nodes.deliver, node, what="chunks", latency=at.chunk_latency).take(taking.taken)
    weights.used_up(delivery, node, taking.done)


def wait_for_tables(at: StageLowering, delivery: Delivery, node: NodeBuilder, firing: int) -> None:
    """Biases and scales must be there before the first multiplication."""
    if delivery.tables is not None:
        at.builder.link(at.nodes.deliver, node, what="tables").take([firing])


def chunks_by_section(work: LayerWork) -> list[Indices]:
    """Chunks that hold runs of each section's processing elements, in order."""
    shape = work.packed.shape
    section = work.packed.chunk_decoder // shape.section_decoders
    order = np.argsort(section, kind="stable")
    return np.split(order, np.searchsorted(section[order], np.arange(1, shape.sections)))


def section_of(work: LayerWork, element: int) -> int:
    """The section of a processing element."""
    return element * work.packed.shape.sections // work.packed.shape.elements


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
