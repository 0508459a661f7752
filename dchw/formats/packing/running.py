"""Gaps that run on from column to column: no pointers, one row of places for each chunk.

A position accumulator that passes the last row of a run moves on to the next run. Fillers land wherever they land and
belong to the run of that place. Zeros behind a chunk's last weight are not stored; how many entries a chunk holds
stands in the chunk table.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from dchw.compile import kernel
from dchw.compression.compressed import CompressedLayer
from dchw.compression.relative_index import decode_runs
from dchw.formats.packing.layout import Int32s, Int64s, PackShape, RunLayout, chunks_of_rows
from dchw.formats.packing.packed import PackedLayer, damaged
from dchw.formats.packing.sparse import (
    StoredChunks,
    StoredRuns,
    Uint16s,
    collect_runs,
    gathered,
    offsets_of,
    stored_chunks,
)
from dchw.vocabulary import Stream

COLUMNS = ("jobs", "entries", "positions", "values")
"""What a row of the chunk table lists."""


def running_entries(layer: CompressedLayer, shape: PackShape, index_bits: int) -> StoredRuns:
    """The entries of a layer with gaps that run on through the runs of each chunk."""
    layout = RunLayout(geometry=layer.geometry, shape=shape)
    position, code, run_offsets = collect_runs(layer, layout, coded=True)
    most = code.size + (layer.geometry.weights >> index_bits) + 1
    gap, codes = np.empty(most, np.uint16), np.empty(most, np.uint16)
    counts = np.zeros(layout.jobs * layout.slots, np.int32)
    rows = np.zeros((5, most // shape.chunk_entries + shape.sections + 1), np.int32)
    chunk_entries = np.zeros(rows.shape[1] + 1, np.int64)
    chunks, entries = _run_on(position, code, run_offsets, layout.slots, layer.geometry.columns, layout.slot_bounds,
                              layout.rows_on, 1 << index_bits, shape.chunk_entries, shape.section_decoders,
                              rows, chunk_entries, counts, gap, codes)  # fmt: skip
    rows, chunk_entries = rows[:, :chunks], chunk_entries[: chunks + 1]
    order = np.lexsort((rows[0], rows[1]))
    cut = chunks_of_rows(rows[:, order])
    run_order, chunk_runs = layout.run_order(cut)
    return StoredRuns(
        chunks=cut,
        run_order=run_order,
        run_count=counts[run_order],
        chunk_runs=chunk_runs,
        chunk_entries=offsets_of(np.diff(chunk_entries)[order]),
        gap=gathered(gap[:entries], chunk_entries, order),
        code=gathered(codes[:entries], chunk_entries, order),
        row=np.zeros(0, np.int32),
    )


def running_chunks(packed: PackedLayer) -> StoredChunks:
    """What the chunk table says; runs are counted by `place_entries`."""

    def nothing(order: Int64s, chunk_runs: Int64s) -> Int32s:
        return np.zeros(order.size, np.int32)

    return stored_chunks(packed, columns=COLUMNS, count=nothing)


def place_entries(
    packed: PackedLayer, chunks: StoredChunks, gaps: Uint16s, codes: Uint16s
) -> tuple[StoredChunks, Int32s]:
    """The chunks with the entries of their runs counted, and the global output channel of every entry."""
    positions = decode_runs(gaps, codes, chunks.chunk_entries, packed.parameters.index_bits)
    slot = chunks.layout.slot_index(chunks.run_order)
    first, rows_on = chunks.layout.first_row.ravel()[slot], chunks.layout.rows_on.ravel()[slot]
    counts, rows = np.zeros(slot.size, np.int32), np.empty(positions.size, np.int32)
    if not _place(
        positions, chunks.chunk_entries, chunks.chunk_runs, first, rows_on, packed.shape.elements, counts, rows
    ):
        raise damaged(packed, Stream.GAPS, "entries within the columns of their chunk", "one behind the last column")
    return replace(chunks, run_count=counts), rows


@kernel
def _run_on(
    position: Int32s,
    code: Uint16s,
    run_offsets: Int64s,
    slots: int,
    columns: int,
    slot_bounds: Int32s,
    rows_on: Int32s,
    step: int,
    chunk_entries: int,
    decoders: int,
    rows: Int32s,
    entry_offsets: Int64s,
    counts: Int32s,
    gap: Uint16s,
    codes: Uint16s,
) -> tuple[int, int]:
    # fills rows of chunks section by section, with their entries, and entries of runs; (chunks, entries)
    chunk = 0
    at = np.int64(0)
    sections, groups = slot_bounds.shape[0] - 1, slot_bounds.shape[1]
    runs = np.empty(counts.size, np.int64)  # of one section, in order
    sizes = np.empty(counts.size, np.int64)
    for section in range(sections):
        n = 0
        last_entry_job = -1
        for group in range(groups):
            for job in range(group * columns, (group + 1) * columns):
                for slot in range(slot_bounds[section, group], slot_bounds[section + 1, group]):
                    run = np.int64(job) * slots + slot
                    runs[n] = run
                    sizes[n] = rows_on[group, slot]
                    n += 1
                    if run_offsets[run + 1] > run_offsets[run]:
                        last_entry_job = job
        turn = 0
        is_open = False
        base = last = begin = np.int64(0)
        cursor = 0  # of the runs, the one that holds the place of the newest filler
        cursor_base = np.int64(0)
        for k in range(n):
            job = runs[k] // slots
            if not is_open:
                rows[0, chunk] = section
                rows[1, chunk] = job
                rows[4, chunk] = section * decoders + turn
                is_open = True
                base = np.int64(0)
                last = np.int64(-1)
                begin = at
                cursor = k
                cursor_base = np.int64(0)
            for i in range(run_offsets[runs[k]], run_offsets[runs[k] + 1]):
                place = base + position[i]
                while place - last - 1 >= step:
                    last += step
                    while cursor_base + sizes[cursor] <= last:
                        cursor_base += sizes[cursor]
                        cursor += 1
                    counts[runs[cursor]] += 1
                    gap[at] = step - 1
                    codes[at] = 0
                    at += 1
                gap[at] = place - last - 1
                codes[at] = code[i]
                counts[runs[k]] += 1
                at += 1
                last = place
            base += sizes[k]
            if k == n - 1 or runs[k + 1] // slots != job:  # a column ends
                rows[2, chunk] = job + 1
                rows[3, chunk] += 1
                if at - begin >= chunk_entries and job < last_entry_job:
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
    first_row: Int32s,
    rows_on: Int32s,
    elements: int,
    counts: Int32s,
    rows: Int32s,
) -> bool:
    # false when an entry lies behind its chunk's last run
    for chunk in range(chunk_entries.size - 1):
        run = chunk_runs[chunk]
        base = np.int64(0)
        for i in range(chunk_entries[chunk], chunk_entries[chunk + 1]):
            while run < chunk_runs[chunk + 1] and base + rows_on[run] <= positions[i]:
                base += rows_on[run]
                run += 1
            if run == chunk_runs[chunk + 1]:
                return False
            rows[i] = first_row[run] + (positions[i] - base) * elements
            counts[run] += 1
    return True
