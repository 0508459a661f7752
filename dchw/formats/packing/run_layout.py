"""Where weights lie: jobs, runs and chunks of a layer packed for a machine.

- A layer is one matrix product per group. *Job* ``group * columns + column`` is one column of one group.
- Output row r (global output channel) lives on processing element (PE) ``r mod P``.
- *Run* (job, PE) lists that job's stored weights on one PE; positions in it count the PE's own rows of the group, from
  0 in order of r. A PE that owns no row of the group has no run, so a job has ``min(rows per group, P)`` runs, by PE.
- A *section* is the PEs that share decode units. With N <= P decode units there are N sections of P / N neighbouring
  PEs and decode unit d serves section d; with N > P every PE is a section, served in turn, chunk by chunk, by N / P
  decode units.
- Where pointers are *made*, gaps run on: the runs of a chunk are one row of places, job by job and inside a job by PE,
  and a gap or filler may lead from one run into another. Each chunk begins at place 0.
- A *chunk* holds whole runs of one section: jobs in order, inside a job by PE. It is closed at the first job boundary
  where it holds ``chunk_entries`` entries; empty runs behind a section's last entry join its last chunk. A section that
  owns a row has at least one chunk, and only one of a section without entries is empty.
- Where a layer is packed in *column bands*, because decode units work it block by block of columns, a chunk is closed
  at the end of a band as well: a band is decoded from its own chunks, and those of one without entries are empty.
- Chunks are ordered by (first job, decode unit). This order cannot deadlock a DMA that delivers chunks in order: all
  PEs wait for the same job's broadcast, and the chunk with a missing entry of that job has a first job no later than
  it, while a chunk that finds its section's buffers full begins behind the job its section is working on.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from dchw.compile import kernel
from dchw.graph.geometry import Geometry
from dchw.quantities import DchwError, FileFormatError

Int32s = npt.NDArray[np.int32]
Int64s = npt.NDArray[np.int64]

MAX_ELEMENTS = 1 << 16
_COMPLETE, _TOO_MANY, _WRONG_COUNT, _TOO_FEW = 0, 1, 2, 3


class Pointers(StrEnum):
    """How a machine knows where the entries of a column begin."""

    MADE = "made"  # coded gaps run on from column to column, and decode units find column starts as they decode
    STORED = "stored"  # the number of entries of every run lies in DRAM


@dataclass(frozen=True, kw_only=True)
class PackShape:
    """What packing must know of a machine. Raises DchwError unless elements and decoders divide one another."""

    elements: int
    """Processing elements, P."""
    decoders: int
    """Decode units, N."""
    chunk_entries: int = 1024
    """Entries, fillers included, after which a chunk is closed at the next column."""
    pointers: Pointers = Pointers.STORED
    """For formats whose entries pass the decode units; all others that store positions store pointers."""
    column_bands: int = 1
    """Bands of columns at whose ends chunks are closed."""

    def __post_init__(self) -> None:
        for name in ("elements", "decoders", "chunk_entries", "column_bands"):
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
    def sections(self) -> int:
        """Sets of PEs that share decode units."""
        return min(self.elements, self.decoders)

    @property
    def section_decoders(self) -> int:
        """Decode units that take turns on one section."""
        return self.decoders // self.sections


@dataclass(frozen=True, kw_only=True, eq=False)
class Chunks:
    """How a layer is cut; one row per chunk, in the order in which they lie in DRAM."""

    section: Int32s
    first_job: Int32s
    """Job of the chunk's first run."""
    end_job: Int32s
    """One past the job of the chunk's last run. Jobs between in which the section owns no row have no runs."""
    jobs: Int32s
    """Jobs in which the chunk has runs."""
    decoder: Int32s

    @property
    def count(self) -> int:
        """Number of chunks."""
        return self.section.size


@dataclass(frozen=True, kw_only=True, eq=False)
class RunOrder:
    """The runs of a layer as they lie in DRAM, chunk by chunk."""

    slot: Int32s
    """int32[runs]: index into the layout's flattened [groups, slots] tables."""
    job: Int32s
    """int32[runs]"""
    offsets: Int64s
    """int64[chunks + 1] into both."""
    begin: Int64s
    """int64[chunks]: index of each chunk's first run section by section, in which a chunk's runs follow one another."""


@dataclass(frozen=True, kw_only=True, eq=False)
class RunLayout:
    """The runs of a layer on a machine: everything that follows from geometry and shape alone.

    Slots are a group's PEs in rising order. Runs have an index: section by section, job by job, by slot.
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
    def row_slot(self) -> Int32s:
        """int32[groups, rows]: the slot of each row's PE."""
        slots = np.empty((self.geometry.groups, self.slots), dtype=np.int32)
        residue = self.first_row % self.rows  # of a group's first rows, one per slot
        np.put_along_axis(slots, residue, np.broadcast_to(np.arange(self.slots, dtype=np.int32), slots.shape), axis=1)
        return np.ascontiguousarray(slots[:, np.arange(self.rows) % self.shape.elements])

    @cached_property
    def slot_bounds(self) -> Int32s:
        """int32[sections + 1, groups]: section l has slots ``slot_bounds[l] .. slot_bounds[l + 1] - 1`` of a group."""
        section = self.element.astype(np.int64) * self.shape.sections // self.shape.elements
        groups = self.geometry.groups
        counts = np.bincount(
            (section + np.arange(groups)[:, None] * self.shape.sections).ravel(), minlength=groups * self.shape.sections
        )
        bounds = np.zeros((self.shape.sections + 1, groups), dtype=np.int32)
        bounds[1:] = np.cumsum(counts.reshape(groups, self.shape.sections), axis=1).T
        return bounds

    @cached_property
    def owned_groups(self) -> tuple[Int64s, Int64s]:
        """Groups of which each section owns a row: (sections one after the other, offsets int64[sections + 1])."""
        section, group = np.nonzero(self.slot_bounds[1:] > self.slot_bounds[:-1])
        return group, np.searchsorted(section, np.arange(self.shape.sections + 1))

    @cached_property
    def section_rows(self) -> tuple[Int64s, Int64s]:
        """Rows of each group, from 0, by the section that works them.

        (int64[groups, rows], section by section and in order; int64[groups, sections + 1], where each section begins.)
        """
        section = np.take_along_axis(self.element, self.row_slot, axis=1).astype(np.int64)
        section = section * self.shape.sections // self.shape.elements
        order = np.argsort(section, axis=1, kind="stable")
        bounds = [np.searchsorted(np.sort(row), np.arange(self.shape.sections + 1)) for row in section]
        return order, np.array(bounds, dtype=np.int64)

    @cached_property
    def band(self) -> Int32s:
        """int32[jobs]: the column band of each job."""
        ends = band_bounds(self.jobs, self.shape.column_bands)
        return (np.searchsorted(ends, np.arange(self.jobs), side="right") - 1).astype(np.int32)

    def cut_columns(self) -> Chunks:
        """The chunks of a layer in which every weight is stored."""
        sizes = np.empty(self.jobs * self.slots, dtype=np.int32)
        _run_sizes(self.geometry.columns, self.slot_bounds, self.rows_on, sizes)
        return self.cut(sizes)

    def cut(self, entry_counts: Int32s) -> Chunks:
        """The chunks of a layer whose run i, section by section, holds ``entry_counts[i]`` entries."""
        shape = self.shape
        most = int(entry_counts.sum(dtype=np.int64)) // shape.chunk_entries + shape.sections * shape.column_bands
        rows = np.zeros((5, most), dtype=np.int32)
        count = _cut(entry_counts, self.geometry.columns, self.slot_bounds, self.band,
                     shape.chunk_entries, shape.section_decoders, rows)  # fmt: skip
        section, first_job = rows[0, :count], rows[1, :count]
        return chunks_of_rows(rows[:, np.lexsort((section, first_job))])

    def chunks_of(self, jobs: npt.NDArray[Any]) -> Chunks:
        """The chunks that have runs in so many jobs each, given in DRAM order.

        The order is a function of the job counts. Raises FileFormatError unless they cover every section's jobs.
        """
        rows = np.zeros((5, jobs.size), dtype=np.int32)
        groups, offsets = self.owned_groups
        problem, at, what = _deal(
            jobs.astype(np.int64), groups, offsets, self.geometry.columns, self.shape.section_decoders, rows
        )
        if problem == _TOO_MANY:
            raise FileFormatError(f"chunks: expected {at}, which cover the layer; got {jobs.size}; data is damaged")
        if problem == _WRONG_COUNT:
            raise FileFormatError(f"chunk {at}: expected 1 to {what} jobs; got {int(jobs[at])}; the data is damaged")
        if problem == _TOO_FEW:
            raise FileFormatError(
                f"chunks: expected them to cover every job; got {jobs.size} that end before job {what}; "
                "the data is damaged"
            )
        return chunks_of_rows(rows)

    def run_order(self, chunks: Chunks) -> RunOrder:
        """Runs in DRAM order."""
        runs, offsets = self.jobs * self.slots, np.zeros(chunks.count + 1, dtype=np.int64)
        slot, job = np.empty(runs, dtype=np.int32), np.empty(runs, dtype=np.int32)
        _order_runs(chunks.section, chunks.first_job, chunks.end_job, self.slots, self.geometry.columns,
                    self.slot_bounds, slot, job, offsets)  # fmt: skip
        sizes, by_section = np.diff(offsets), np.lexsort((chunks.first_job, chunks.section))
        begin = np.empty(chunks.count, dtype=np.int64)
        begin[by_section] = np.cumsum(sizes[by_section]) - sizes[by_section]
        return RunOrder(slot=slot, job=job, offsets=offsets, begin=begin)


def band_bounds(jobs: int, bands: int) -> list[int]:
    """First job of every band of columns, and the number of jobs."""
    return [jobs * band // bands for band in range(bands + 1)]


@lru_cache(maxsize=256)
def run_layout(geometry: Geometry, shape: PackShape) -> RunLayout:
    """The runs of a layer: worked out once for packing, reading and lowering."""
    return RunLayout(geometry=geometry, shape=shape)


def chunks_of_rows(rows: Int32s) -> Chunks:
    """Chunks from int32[5, chunks]: the fields above, in order."""
    return Chunks(section=rows[0], first_job=rows[1], end_job=rows[2], jobs=rows[3], decoder=rows[4])


@kernel
def _run_sizes(columns: int, slot_bounds: Int32s, rows_on: Int32s, sizes: Int32s) -> None:
    # the rows of every run
    run = 0
    for section in range(slot_bounds.shape[0] - 1):
        for group in range(slot_bounds.shape[1]):
            for _ in range(columns):
                for slot in range(slot_bounds[section, group], slot_bounds[section + 1, group]):
                    sizes[run] = rows_on[group, slot]
                    run += 1


@kernel
def _cut(
    counts: Int32s,
    columns: int,
    slot_bounds: Int32s,
    band: Int32s,
    chunk_entries: int,
    decoders: int,
    rows: Int32s,
) -> int:
    # fills rows (of ``chunks_of_rows``) section by section; the number of chunks
    chunk = 0
    sections, groups = slot_bounds.shape[0] - 1, slot_bounds.shape[1]
    run = np.int64(0)
    for section in range(sections):
        first_run = run
        last_entry_run = np.int64(-1)
        for group in range(groups):
            run += columns * np.int64(slot_bounds[section + 1, group] - slot_bounds[section, group])
        for i in range(first_run, run):
            if counts[i] > 0:
                last_entry_run = np.int64(i)
        held = np.int64(0)
        turn = 0
        is_open = False
        run = first_run
        for group in range(groups):
            slots = np.int64(slot_bounds[section + 1, group] - slot_bounds[section, group])
            if slots == 0:
                continue
            for job in range(group * columns, (group + 1) * columns):
                if is_open and band[job] != band[rows[1, chunk]]:
                    chunk += 1
                    turn = (turn + 1) % decoders
                    is_open = False
                if not is_open:
                    rows[0, chunk] = section
                    rows[1, chunk] = job
                    rows[4, chunk] = section * decoders + turn
                    held = np.int64(0)
                    is_open = True
                for i in range(run, run + slots):
                    held += counts[i]
                run += slots
                rows[2, chunk] = job + 1
                rows[3, chunk] += 1
                if held >= chunk_entries and run <= last_entry_run:
                    chunk += 1
                    turn = (turn + 1) % decoders
                    is_open = False
        if is_open:
            chunk += 1
    return chunk


@kernel
def _deal(
    jobs: Int64s, groups: Int64s, group_offsets: Int64s, columns: int, decoders: int, rows: Int32s
) -> tuple[int, int, int]:
    # fills rows (of ``chunks_of_rows``) in DRAM order; (what is wrong, chunk, jobs it could have or first one missing)
    sections = group_offsets.size - 1
    done = np.zeros(sections, dtype=np.int64)
    turns = np.zeros(sections, dtype=np.int64)
    # the sections that are not complete, by the job at which each goes on
    waiting = [
        groups[group_offsets[section]] * columns * sections + section
        for section in range(sections)
        if group_offsets[section] < group_offsets[section + 1]
    ]
    heapq.heapify(waiting)
    for chunk in range(jobs.size):
        if len(waiting) == 0:
            return _TOO_MANY, chunk, 0
        first_job, section = divmod(waiting[0], sections)
        start = group_offsets[section]
        left = (group_offsets[section + 1] - start) * columns - done[section]
        if not 0 < jobs[chunk] <= left:
            return _WRONG_COUNT, chunk, left
        done[section] += jobs[chunk]
        last = done[section] - 1
        rows[0, chunk] = section
        rows[1, chunk] = first_job
        rows[2, chunk] = groups[start + last // columns] * columns + last % columns + 1
        rows[3, chunk] = jobs[chunk]
        rows[4, chunk] = section * decoders + turns[section]
        turns[section] = (turns[section] + 1) % decoders
        if jobs[chunk] < left:
            following = groups[start + done[section] // columns] * columns + done[section] % columns
            heapq.heapreplace(waiting, following * sections + section)
        else:
            heapq.heappop(waiting)
    if len(waiting) > 0:
        return _TOO_FEW, jobs.size, waiting[0] // sections
    return _COMPLETE, 0, 0


@kernel
def _order_runs(
    section: Int32s,
    first_job: Int32s,
    end_job: Int32s,
    slots: int,
    columns: int,
    slot_bounds: Int32s,
    run_slot: Int32s,
    run_job: Int32s,
    offsets: Int64s,
) -> None:
    at = 0
    for chunk in range(section.size):
        for job in range(first_job[chunk], end_job[chunk]):
            group = job // columns
            for slot in range(slot_bounds[section[chunk], group], slot_bounds[section[chunk] + 1, group]):
                run_slot[at] = group * slots + slot
                run_job[at] = job
                at += 1
        offsets[chunk + 1] = at
