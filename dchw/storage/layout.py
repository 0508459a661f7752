"""Where weights lie: jobs, runs and chunks of a layer packed for a machine.

- A layer is one matrix product per group. *Job* ``group * columns + column`` is one column of one group.
- Output row r (global output channel) lives on processing element (PE) ``r mod P``.
- *Run* (job, PE) lists that job's stored weights on one PE; positions in it count the PE's own rows of the group, from
  0 in order of r. A PE that owns no row of the group has no run, so a job has ``min(rows per group, P)`` runs, by PE.
- A *lane* is the PEs that share decode units. With N <= P decode units there are N lanes of P / N neighbouring PEs and
  decode unit d serves lane d; with N > P every PE is a lane, served in turn, chunk by chunk, by N / P decode units.
- A *chunk* holds whole runs of one lane: jobs in order, inside a job by PE. It is closed at the first job boundary
  where it holds ``chunk_entries`` entries; empty runs behind a lane's last entry join its last chunk. A lane that owns
  a row has at least one chunk, and only one of a lane without entries is empty.
- Chunks are ordered by (first job, decode unit). This order cannot deadlock a DMA that delivers chunks in order: all
  PEs wait for the same job's broadcast, and the chunk with a missing entry of that job has a first job no later than
  it, while a chunk that finds its lane's buffers full begins behind the job its lane is working on.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from dchw.compile import kernel
from dchw.network import Geometry
from dchw.quantities import DchwError, FileFormatError

Int32s = npt.NDArray[np.int32]
Int64s = npt.NDArray[np.int64]

MAX_ELEMENTS = 1 << 16


@dataclass(frozen=True, kw_only=True)
class PackShape:
    """What packing must know of a machine. Raises DchwError unless elements and decoders divide one another."""

    elements: int
    """Processing elements, P."""
    decoders: int
    """Decode units, N."""
    chunk_entries: int = 1024
    """Entries, fillers included, after which a chunk is closed at the next column."""

    def __post_init__(self) -> None:
        for name in ("elements", "decoders", "chunk_entries"):
            if getattr(self, name) < 1:
                raise DchwError(f"pack shape: {name} must be at least 1; got {getattr(self, name)}; correct it")
        if self.elements > MAX_ELEMENTS:
            raise DchwError(f"pack shape: elements must be at most {MAX_ELEMENTS}; got {self.elements}; use fewer")
        if self.elements % self.decoders and self.decoders % self.elements:
            raise DchwError(
                f"pack shape: elements and decoders must divide one another; got elements {self.elements} and "
                f"decoders {self.decoders}; change one of them"
            )

    @property
    def lanes(self) -> int:
        """Sets of PEs that share decode units."""
        return min(self.elements, self.decoders)

    @property
    def lane_decoders(self) -> int:
        """Decode units that take turns on one lane."""
        return self.decoders // self.lanes


@dataclass(frozen=True, kw_only=True, eq=False)
class Chunks:
    """How a layer is cut; one row per chunk, in the order in which they lie in DRAM."""

    lane: Int32s
    first_job: Int32s
    """Job of the chunk's first run."""
    end_job: Int32s
    """One past the job of the chunk's last run. Jobs between in which the lane owns no row have no runs."""
    jobs: Int32s
    """Jobs in which the chunk has runs."""
    decoder: Int32s

    @property
    def count(self) -> int:
        """Number of chunks."""
        return self.lane.size


@dataclass(frozen=True, kw_only=True, eq=False)
class RunLayout:
    """The runs of a layer on a machine: everything that follows from geometry and shape alone.

    Runs have an index in job order: ``job * slots + slot``, slots being a group's PEs in rising order.
    """

    geometry: Geometry
    shape: PackShape

    @property
    def rows(self) -> int:
        """Output rows of one group."""
        return self.geometry.out_channels // self.geometry.groups

    @property
    def slots(self) -> int:
        """Runs of one job."""
        return min(self.rows, self.shape.elements)

    @property
    def jobs(self) -> int:
        """Columns of all groups."""
        return self.geometry.groups * self.geometry.columns

    @cached_property
    def first_row(self) -> Int32s:
        """int32[groups, slots]: the lowest row of the group on each slot's PE."""
        # rows g*R .. g*R + slots - 1 lie on different PEs, and each is the first of the group on its PE
        rows = np.arange(self.geometry.groups)[:, None] * self.rows + np.arange(self.slots)
        order = np.argsort(rows % self.shape.elements, axis=1)
        return np.take_along_axis(rows, order, axis=1).astype(np.int32)

    @cached_property
    def element(self) -> Int32s:
        """int32[groups, slots]: the PE of each slot."""
        return self.first_row % np.int32(self.shape.elements)

    @cached_property
    def rows_on(self) -> Int32s:
        """int32[groups, slots]: how many rows of the group each slot's PE owns."""
        ends = (np.arange(self.geometry.groups, dtype=np.int32)[:, None] + 1) * np.int32(self.rows)
        return (ends - self.first_row + self.shape.elements - 1) // np.int32(self.shape.elements)

    @cached_property
    def slot_bounds(self) -> Int32s:
        """int32[lanes + 1, groups]: lane l has slots ``slot_bounds[l] .. slot_bounds[l + 1] - 1`` of a group."""
        lane = self.element.astype(np.int64) * self.shape.lanes // self.shape.elements
        groups = self.geometry.groups
        counts = np.bincount(
            (lane + np.arange(groups)[:, None] * self.shape.lanes).ravel(), minlength=groups * self.shape.lanes
        )
        bounds = np.zeros((self.shape.lanes + 1, groups), dtype=np.int32)
        bounds[1:] = np.cumsum(counts.reshape(groups, self.shape.lanes), axis=1).T
        return bounds

    def lane_groups(self, lane: int) -> Int64s:
        """Groups of which a lane owns a row."""
        return np.flatnonzero(self.slot_bounds[lane + 1] > self.slot_bounds[lane])

    def cut(self, entry_counts: Int32s) -> Chunks:
        """The chunks of a layer whose run i, in job order, holds ``entry_counts[i]`` entries."""
        lanes, jobs, first = [], [], []
        bounds, columns = self.slot_bounds, self.geometry.columns
        for lane in range(self.shape.lanes):
            groups = self.lane_groups(lane)
            filled = np.zeros(groups.size * columns, dtype=np.int64)
            _entries_before(entry_counts, self.slots, columns, groups, bounds[lane], bounds[lane + 1], filled)
            start = 0
            while start < filled.size:
                before = filled[start - 1] if start else 0
                end = min(int(np.searchsorted(filled, before + self.shape.chunk_entries)) + 1, filled.size)
                if filled[end - 1] == filled[-1]:
                    end = filled.size
                lanes.append(lane)
                jobs.append(end - start)
                first.append(_job(groups, columns, start))
                start = end
        order = np.lexsort((lanes, first))
        return self.chunks_of(np.array(jobs, dtype=np.int64)[order])

    def chunks_of(self, jobs: npt.NDArray[Any]) -> Chunks:
        """The chunks that have runs in so many jobs each, given in DRAM order.

        Raises FileFormatError unless they cover every lane's jobs exactly: the order is a function of the job counts.
        """
        columns = self.geometry.columns
        lane_groups = [self.lane_groups(lane) for lane in range(self.shape.lanes)]
        done = [0] * self.shape.lanes
        turns = [0] * self.shape.lanes
        waiting = [(_job(groups, columns, 0), lane) for lane, groups in enumerate(lane_groups) if groups.size]
        heapq.heapify(waiting)
        rows = np.zeros((5, jobs.size), dtype=np.int32)
        for i, count in enumerate(jobs.tolist()):
            if not waiting:
                raise FileFormatError(f"chunks: expected {i}, which cover the layer; got {jobs.size}; data is damaged")
            first, lane = heapq.heappop(waiting)
            groups, end = lane_groups[lane], done[lane] + count
            left = groups.size * columns - done[lane]
            if not 0 < count <= left:
                raise FileFormatError(f"chunk {i}: expected 1 to {left} jobs; got {count}; the data is damaged")
            turn = turns[lane] % self.shape.lane_decoders
            last = _job(groups, columns, end - 1)
            rows[:, i] = (lane, first, last + 1, count, lane * self.shape.lane_decoders + turn)
            done[lane], turns[lane] = end, turns[lane] + 1
            if count < left:
                heapq.heappush(waiting, (_job(groups, columns, end), lane))
        if waiting:
            raise FileFormatError(
                f"chunks: expected them to cover every job; got {jobs.size} that end before job {waiting[0][0]}; "
                "the data is damaged"
            )
        return Chunks(lane=rows[0], first_job=rows[1], end_job=rows[2], jobs=rows[3], decoder=rows[4])

    def run_order(self, chunks: Chunks) -> tuple[Int64s, Int64s]:
        """Runs in DRAM order: (index in job order int64[runs], chunk offsets int64[chunks + 1] into it)."""
        order = np.empty(self.jobs * self.slots, dtype=np.int64)
        offsets = np.zeros(chunks.count + 1, dtype=np.int64)
        _order_runs(
            chunks.lane,
            chunks.first_job,
            chunks.end_job,
            self.slots,
            self.geometry.columns,
            self.slot_bounds,
            order,
            offsets,
        )
        return order, offsets


def _job(groups: Int64s, columns: int, index: int) -> int:
    # the job of a lane's index-th job
    return int(groups[index // columns]) * columns + index % columns


@kernel
def _entries_before(
    counts: Int32s, slots: int, columns: int, groups: Int64s, slot_start: Int32s, slot_end: Int32s, filled: Int64s
) -> None:
    # filled[i]: entries of one lane up to the end of its i-th job
    at = 0
    total = np.int64(0)
    for group in groups:
        for job in range(group * columns, (group + 1) * columns):
            for slot in range(slot_start[group], slot_end[group]):
                total += counts[job * slots + slot]
            filled[at] = total
            at += 1


@kernel
def _order_runs(
    lane: Int32s,
    first_job: Int32s,
    end_job: Int32s,
    slots: int,
    columns: int,
    slot_bounds: Int32s,
    order: Int64s,
    offsets: Int64s,
) -> None:
    at = 0
    for chunk in range(lane.size):
        for job in range(first_job[chunk], end_job[chunk]):
            group = job // columns
            for slot in range(slot_bounds[lane[chunk], group], slot_bounds[lane[chunk] + 1, group]):
                order[at] = np.int64(job) * slots + slot
                at += 1
        offsets[chunk + 1] = at
