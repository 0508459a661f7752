"""Gaps that run on from column to column: no pointers, one row of places for each chunk.

A position accumulator that passes the last row of a run moves on to the next run. Fillers land wherever they land and
belong to the run of that place. Zeros behind a chunk's last weight are not stored; how many entries a chunk holds
stands in the chunk table.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from dchw.compile import kernel
from dchw.compression.compressed import CodeArray
from dchw.compression.relative_index import decode_runs
from dchw.formats.packing.packed import PackedLayer, damaged
from dchw.formats.packing.run_layout import Int32s, Int64s, RunLayout, RunOrder, chunks_of_rows
from dchw.formats.packing.sparse import StoredChunks, stored_chunks
from dchw.formats.packing.stored_runs import CollectedRuns, StoredRuns, Uint16s, gathered, offsets_of
from dchw.vocabulary import Stream

COLUMNS = ("jobs", "entries", "positions", "values")
"""What a row of the chunk table lists."""


@dataclass(frozen=True, kw_only=True, eq=False)
class RunningEntries:
    """Entries with gaps that run on through the runs of each chunk, section by section."""

    chunk_rows: Int32s
    """int32[5, chunks], as `chunks_of_rows` takes them."""
    chunk_entries: Int64s
    """int64[chunks + 1] into the entries."""
    gap: Uint16s
    code: Uint16s


def running_entries(layout: RunLayout, collected: CollectedRuns, index_bits: int) -> RunningEntries:
    """The entries with gaps of so many bits."""
    shape = layout.shape
    most = collected.code.size + (layout.geometry.weights >> index_bits) + 1
    gap, codes = np.empty(most, np.uint16), np.empty(most, np.uint16)
    rows = np.zeros((5, most // shape.chunk_entries + shape.sections * shape.column_bands + 1), np.int32)
    chunk_entries = np.zeros(rows.shape[1] + 1, np.int64)
    chunks, entries = _run_on(*collected.arrays, layout.geometry.columns, layout.slot_bounds, layout.rows_on,
                              layout.band, 1 << index_bits, shape.chunk_entries, shape.section_decoders, rows,
                              chunk_entries, gap, codes)  # fmt: skip
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
        return np.zeros(order.slot.size, np.int32)

    return stored_chunks(packed, columns=COLUMNS, count=nothing)


def place_entries(
    packed: PackedLayer, chunks: StoredChunks, gaps: npt.NDArray[Any], codes: Uint16s
) -> tuple[StoredChunks, Int32s]:
    """The chunks with the entries of their runs counted, and the global output channel of every entry."""
    slot, layout = chunks.slot, chunks.layout
    counts, rows = np.zeros(slot.size, np.int32), np.empty(codes.size, np.int32)
    index_bits = packed.parameters.index_bits
    if not _place(gaps, codes, chunks.chunk_entries, chunks.chunk_runs, slot, layout.first_row.ravel(),
                  layout.rows_on.ravel(), packed.shape.elements, (1 << index_bits) - 1, counts, rows):  # fmt: skip
        decode_runs(gaps, codes, chunks.chunk_entries, index_bits)  # raises where gaps and codes are no runs
        raise damaged(packed, Stream.GAPS, "entries within the columns of their chunk", "one behind the last column")
    return replace(chunks, run_count=counts), rows


@kernel
def _run_on(
    position: npt.NDArray[Any],
    code: CodeArray,
    run_offsets: npt.NDArray[Any],
    columns: int,
    slot_bounds: Int32s,
    rows_on: Int32s,
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
    run = np.int64(0)
    for section in range(slot_bounds.shape[0] - 1):
        section_runs = np.int64(0)
        for group in range(slot_bounds.shape[1]):
            section_runs += columns * np.int64(slot_bounds[section + 1, group] - slot_bounds[section, group])
        stored = run_offsets[run + section_runs]  # of this section's weights and all before
        turn = 0
        is_open = False
        base = last = begin = np.int64(0)
        for group in range(slot_bounds.shape[1]):
            if slot_bounds[section, group] == slot_bounds[section + 1, group]:
                continue
            for job in range(group * columns, (group + 1) * columns):
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
                for slot in range(slot_bounds[section, group], slot_bounds[section + 1, group]):
                    for i in range(run_offsets[run], run_offsets[run + 1]):
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
                    base += rows_on[group, slot]
                    run += 1
                rows[2, chunk] = job + 1
                rows[3, chunk] += 1
                if at - begin >= chunk_entries and run_offsets[run] < stored:
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
    gaps: npt.NDArray[np.unsignedinteger[Any]],
    codes: Uint16s,
    chunk_entries: Int64s,
    chunk_runs: Int64s,
    slot: Int32s,
    first_row: Int32s,
    rows_on: Int32s,
    elements: int,
    largest: int,
    counts: Int32s,
    rows: Int32s,
) -> bool:
    # ``first_row`` and ``rows_on`` by slot; false when an entry lies behind its chunk's last run, and for gaps and
    # codes that `decode_runs` refuses
    for chunk in range(chunk_entries.size - 1):
        run, end = chunk_runs[chunk], chunk_runs[chunk + 1]
        position, base = np.int64(-1), np.int64(0)
        code = np.uint16(1)
        for i in range(chunk_entries[chunk], chunk_entries[chunk + 1]):
            skipped = np.int64(gaps[i])
            code = codes[i]
            if skipped > largest or (code == 0 and skipped != largest):
                return False
            position += skipped + 1
            while run < end and base + rows_on[slot[run]] <= position:
                base += rows_on[slot[run]]
                run += 1
            if run == end:
                return False
            rows[i] = first_row[slot[run]] + (position - base) * elements
            counts[run] += 1
        if code == 0:
            return False
    return True
