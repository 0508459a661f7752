"""Gaps that run on from column to column: no pointers, one row of places for each chunk.

A position accumulator that passes the last row of a run moves on to the next run. Fillers land wherever they land and
belong to the run of that place. Zeros behind a chunk's last weight are not stored; how many entries a chunk holds
stands in the chunk table.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from dchw.compile import kernel
from dchw.compression.compressed import CompressedLayer
from dchw.compression.relative_index import decode_runs
from dchw.formats.packing.packed import PackedLayer, damaged
from dchw.formats.packing.run_layout import Int32s, Int64s, PackShape, RunLayout, RunOrder, chunks_of_rows, run_layout
from dchw.formats.packing.sparse import StoredChunks, stored_chunks
from dchw.formats.packing.stored_runs import StoredRuns, Uint16s, collect_runs, gathered, offsets_of
from dchw.vocabulary import Stream

COLUMNS = ("jobs", "entries", "positions", "values")
"""What a row of the chunk table lists."""


@dataclass(frozen=True, kw_only=True, eq=False)
class SectionRuns:
    """The stored weights of a layer with the runs of each section one behind the other: what gaps of any width are cut
    from."""

    layout: RunLayout
    position: Int32s
    """int32[weights]: place of each within its run."""
    code: Uint16s
    run_offsets: Int64s
    """int64[runs + 1] into both."""
    jobs: Int32s
    """int32[runs]: job of each run."""
    sizes: Int32s
    """int32[runs]: places of each run."""
    sections: Int64s
    """int64[sections + 1] into the runs."""
    last_job: Int32s
    """int32[sections]: the last job with a weight; -1: there is none."""


@dataclass(frozen=True, kw_only=True, eq=False)
class RunningEntries:
    """Entries with gaps that run on through the runs of each chunk, section by section."""

    chunk_rows: Int32s
    """int32[5, chunks], as `chunks_of_rows` takes them."""
    chunk_entries: Int64s
    """int64[chunks + 1] into the entries."""
    gap: Uint16s
    code: Uint16s


def section_runs(layer: CompressedLayer, shape: PackShape) -> SectionRuns:
    """The stored weights of a layer, section by section."""
    layout = run_layout(layer.geometry, shape)
    position, code, run_offsets = collect_runs(layer, layout, coded=True)
    count = layout.jobs * layout.slots
    jobs, sizes = np.empty(count, np.int32), np.empty(count, np.int32)
    sections = np.zeros(layout.slot_bounds.shape[0], np.int64)
    last_job = np.empty(sections.size - 1, np.int32)
    to_position, to_code, to_offsets = np.empty_like(position), np.empty_like(code), np.zeros_like(run_offsets)
    _by_section(position, code, run_offsets, layout.slots, layer.geometry.columns, layout.slot_bounds, layout.rows_on,
                to_position, to_code, to_offsets, jobs, sizes, sections, last_job)  # fmt: skip
    return SectionRuns(
        layout=layout,
        position=to_position,
        code=to_code,
        run_offsets=to_offsets,
        jobs=jobs,
        sizes=sizes,
        sections=sections,
        last_job=last_job,
    )


def running_entries(stored: SectionRuns, index_bits: int) -> RunningEntries:
    """The entries with gaps of so many bits."""
    layout, shape = stored.layout, stored.layout.shape
    most = stored.code.size + (layout.geometry.weights >> index_bits) + 1
    gap, codes = np.empty(most, np.uint16), np.empty(most, np.uint16)
    rows = np.zeros((5, most // shape.chunk_entries + shape.sections * shape.column_bands + 1), np.int32)
    chunk_entries = np.zeros(rows.shape[1] + 1, np.int64)
    chunks, entries = _run_on(stored.position, stored.code, stored.run_offsets, stored.jobs, stored.sizes,
                              stored.sections, stored.last_job, layout.band, 1 << index_bits, shape.chunk_entries,
                              shape.section_decoders, rows, chunk_entries, gap, codes)  # fmt: skip
    return RunningEntries(
        chunk_rows=rows[:, :chunks],
        chunk_entries=chunk_entries[: chunks + 1],
        gap=gap[:entries],
        code=codes[:entries],
    )


def in_chunk_order(entries: RunningEntries) -> StoredRuns:
    """The same entries as they lie in DRAM, where no run is told from the next."""
    order = np.lexsort((entries.chunk_rows[0], entries.chunk_rows[1]))
    return StoredRuns(
        chunks=chunks_of_rows(entries.chunk_rows[:, order]),
        run_slot=np.zeros(0, np.int32),
        run_count=np.zeros(0, np.int32),
        chunk_runs=np.zeros(order.size + 1, np.int64),
        chunk_entries=offsets_of(np.diff(entries.chunk_entries)[order]),
        gap=gathered(entries.gap, entries.chunk_entries, order),
        code=gathered(entries.code, entries.chunk_entries, order),
        row=np.zeros(0, np.int32),
    )


def running_chunks(packed: PackedLayer) -> StoredChunks:
    """What the chunk table says; runs are counted by `place_entries`."""

    def nothing(order: RunOrder) -> Int32s:
        return np.zeros(order.run.size, np.int32)

    return stored_chunks(packed, columns=COLUMNS, count=nothing)


def place_entries(
    packed: PackedLayer, chunks: StoredChunks, gaps: Uint16s, codes: Uint16s
) -> tuple[StoredChunks, Int32s]:
    """The chunks with the entries of their runs counted, and the global output channel of every entry."""
    positions = decode_runs(gaps, codes, chunks.chunk_entries, packed.parameters.index_bits)
    slot, layout = chunks.slot, chunks.layout
    counts, rows = np.zeros(slot.size, np.int32), np.empty(positions.size, np.int32)
    if not _place(positions, chunks.chunk_entries, chunks.chunk_runs, slot, layout.first_row.ravel(),
                  layout.rows_on.ravel(), packed.shape.elements, counts, rows):  # fmt: skip
        raise damaged(packed, Stream.GAPS, "entries within the columns of their chunk", "one behind the last column")
    return replace(chunks, run_count=counts), rows


@kernel
def _by_section(
    position: Int32s,
    code: Uint16s,
    run_offsets: Int64s,
    slots: int,
    columns: int,
    slot_bounds: Int32s,
    rows_on: Int32s,
    to_position: Int32s,
    to_code: Uint16s,
    to_offsets: Int64s,
    jobs: Int32s,
    sizes: Int32s,
    section_offsets: Int64s,
    last_job: Int32s,
) -> None:
    n = 0
    at = np.int64(0)
    sections, groups = slot_bounds.shape[0] - 1, slot_bounds.shape[1]
    for section in range(sections):
        last_job[section] = -1
        for group in range(groups):
            for job in range(group * columns, (group + 1) * columns):
                for slot in range(slot_bounds[section, group], slot_bounds[section + 1, group]):
                    run = np.int64(job) * slots + slot
                    jobs[n] = job
                    sizes[n] = rows_on[group, slot]
                    for i in range(run_offsets[run], run_offsets[run + 1]):
                        to_position[at] = position[i]
                        to_code[at] = code[i]
                        at += 1
                        last_job[section] = job
                    n += 1
                    to_offsets[n] = at
        section_offsets[section + 1] = n


@kernel
def _run_on(
    position: Int32s,
    code: Uint16s,
    run_offsets: Int64s,
    jobs: Int32s,
    sizes: Int32s,
    section_offsets: Int64s,
    last_job: Int32s,
    band: Int32s,
    step: int,
    chunk_entries: int,
    decoders: int,
    rows: Int32s,
    entry_offsets: Int64s,
    gap: Uint16s,
    codes: Uint16s,
) -> tuple[int, int]:
    # fills rows of chunks section by section, with their entries; (chunks, entries)
    chunk = 0
    at = np.int64(0)
    for section in range(section_offsets.size - 1):
        turn = 0
        is_open = False
        base = last = begin = np.int64(0)
        end = section_offsets[section + 1]
        for k in range(section_offsets[section], end):
            job = jobs[k]
            if is_open and band[job] != band[rows[1, chunk]]:
                chunk += 1
                entry_offsets[chunk] = at
                turn = (turn + 1) % decoders
                is_open = False
            if not is_open:
                rows[0, chunk] = section
                rows[1, chunk] = job
                rows[4, chunk] = section * decoders + turn
                is_open = True
                base = np.int64(0)
                last = np.int64(-1)
                begin = at
            for i in range(run_offsets[k], run_offsets[k + 1]):
                place = base + position[i]
                while place - last - 1 >= step:
                    last += step
                    gap[at] = step - 1
                    codes[at] = 0
                    at += 1
                gap[at] = place - last - 1
                codes[at] = code[i]
                at += 1
                last = place
            base += sizes[k]
            if k == end - 1 or jobs[k + 1] != job:  # a column ends
                rows[2, chunk] = job + 1
                rows[3, chunk] += 1
                if at - begin >= chunk_entries and job < last_job[section]:
                    chunk += 1
                    entry_offsets[chunk] = at
                    turn = (turn + 1) % decoders
                    is_open = False
        if is_open:
            chunk += 1
            entry_offsets[chunk] = at
    return chunk, int(at)


@kernel
def _place(
    positions: Int64s,
    chunk_entries: Int64s,
    chunk_runs: Int64s,
    slot: Int32s,
    first_row: Int32s,
    rows_on: Int32s,
    elements: int,
    counts: Int32s,
    rows: Int32s,
) -> bool:
    # ``first_row`` and ``rows_on`` by slot; false when an entry lies behind its chunk's last run
    for chunk in range(chunk_entries.size - 1):
        run = chunk_runs[chunk]
        base = np.int64(0)
        for i in range(chunk_entries[chunk], chunk_entries[chunk + 1]):
            while run < chunk_runs[chunk + 1] and base + rows_on[slot[run]] <= positions[i]:
                base += rows_on[slot[run]]
                run += 1
            if run == chunk_runs[chunk + 1]:
                return False
            rows[i] = first_row[slot[run]] + (positions[i] - base) * elements
            counts[run] += 1
    return True
