"""The stored weights of a layer, run by run in chunk order, before any bit is written."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from dchw.compile import kernel
from dchw.compression.bitstream import lowest_bit
from dchw.compression.compressed import CodeArray, CompressedLayer
from dchw.formats.packing.kept import Kept
from dchw.formats.packing.run_layout import Chunks, Int32s, Int64s, PackShape, RunLayout, run_layout

Uint16s = npt.NDArray[np.uint16]

_WORD = 8  # uint8 codes that are looked at together
_SPARSE = 6  # of which fewer than one is a weight: where they are looked for, and not each looked at
_TOP, _BELOW_TOP = np.uint64(0x8080808080808080), np.uint64(0x7F7F7F7F7F7F7F7F)  # bits of each byte
_BYTE = np.uint64(0xFF)
_NO_WORDS = np.empty((0, 0, 0), np.uint64)
_NO_WORDS.flags.writeable = False  # as codes are: kernels would be compiled once more for what may be written
_BLOCK_COLUMNS = 256  # columns collected at a time: each cache line of uint8 codes is read once, each page a few times


@dataclass(frozen=True, kw_only=True, eq=False)
class StoredRuns:
    """The stored entries of a layer in chunk order."""

    chunks: Chunks
    run_slot: Int32s
    """Index of each run's PE in the layout's tables; empty, as what counts runs, where gaps run on and nothing tells
    runs apart."""
    run_count: Int32s
    chunk_runs: Int64s
    """int64[chunks + 1] into the runs."""
    chunk_entries: Int64s
    """int64[chunks + 1] into the entries."""
    gap: Uint16s
    """Empty when positions are absolute."""
    code: Uint16s
    row: Int32s
    """Global output channels; empty when positions are gaps."""


def stored_runs(layer: CompressedLayer, shape: PackShape, *, index_bits: int, coded: bool) -> StoredRuns:
    """The entries of a layer, with gaps of ``index_bits`` bits, or with absolute rows where that is 0.

    Where values are not ``coded``, a shared value of +0.0 is not stored: it could not be told from a filler.
    """
    layout = run_layout(layer.geometry, shape)
    collected = collect_runs(layer, layout, coded=coded)
    counts = np.empty(collected.offsets.size - 1, dtype=np.int32)
    _count_entries(collected.position, collected.offsets, index_bits, counts)
    chunks = layout.cut(counts)
    order = layout.run_order(chunks)
    run_count, entries = np.empty_like(counts), int(counts.sum(dtype=np.int64))
    chunk_entries = np.zeros(chunks.count + 1, dtype=np.int64)
    gap = np.empty(entries if index_bits else 0, dtype=np.uint16)
    row = np.empty(0 if index_bits else entries, dtype=np.int32)
    codes = np.empty(entries, dtype=np.uint16)
    runs = *collected.arrays, order.begin, order.offsets
    if index_bits:
        _lay_gaps(*runs, 1 << index_bits, gap, codes, run_count, chunk_entries)
    else:
        _lay_rows(*runs, order.slot, layout.first_row.ravel(), shape.elements, row, codes, run_count, chunk_entries)
    return StoredRuns(
        chunks=chunks,
        run_slot=order.slot,
        run_count=run_count,
        chunk_runs=order.offsets,
        chunk_entries=chunk_entries,
        gap=gap,
        code=codes,
        row=row,
    )


@dataclass(frozen=True, eq=False)
class CollectedRuns:
    """The weights of a layer that a format stores, run by run: section by section, job by job, by slot."""

    position: npt.NDArray[Any]
    """uint16 or int32: place of each in its run."""
    code: CodeArray
    offsets: npt.NDArray[Any]
    """int32[runs + 1] or int64 into both."""

    @property
    def arrays(self) -> tuple[npt.NDArray[Any], CodeArray, npt.NDArray[Any]]:
        """The three, in order."""
        return self.position, self.code, self.offsets

    @property
    def nbytes(self) -> int:
        """Bytes in memory."""
        return sum(array.nbytes for array in self.arrays)


_COLLECTED: Kept[CollectedRuns] = Kept(80 << 20)
"""What other storage formats ask for again. All layers of VGG-16, and the parts of the first format, fit."""


def collect_runs(layer: CompressedLayer, layout: RunLayout, *, coded: bool) -> CollectedRuns:
    """The stored weights of a layer: the same for all formats that store positions, unless a shared value is +0.0."""
    values = layer.codebook[1:].view(np.uint32)
    all_of_them = coded or bool(values.all())
    key = layout.shape.elements, layout.shape.sections, all_of_them
    return _COLLECTED.of(layer, key, lambda: _collected(layer, layout, coded=all_of_them), lambda runs: runs.nbytes)


def forget_collected() -> None:
    """Keep nothing for other storage formats."""
    _COLLECTED.clear()


def _collected(layer: CompressedLayer, layout: RunLayout, *, coded: bool) -> CollectedRuns:
    is_stored = np.ones(layer.codebook.size, dtype=np.int64)
    if not coded:
        is_stored[layer.codebook.view(np.uint32) == 0] = 0
    is_stored[0] = 0
    most = layer.nonzeros
    narrow = int(layout.rows_on.max(initial=0)) <= np.iinfo(np.uint16).max
    position = np.empty(most, dtype=np.uint16 if narrow else np.int32)
    code = np.empty(most, dtype=layer.codes.dtype)
    offsets = np.zeros(layout.jobs * layout.slots + 1, dtype=np.int32 if most <= np.iinfo(np.int32).max else np.int64)
    by_group = layer.codes.reshape(layer.geometry.groups, layout.rows, layer.geometry.columns)
    wide = by_group.dtype == np.uint8 and layer.geometry.columns % _WORD == 0
    words = by_group.view(np.uint64) if wide else _NO_WORDS
    sparse = wide and _SPARSE * layer.nonzeros < layer.codes.size
    _collect(by_group, words, sparse, is_stored, layout.row_slot, layout.slot_bounds, *layout.section_rows,
             layout.shape.elements, position, code, offsets)  # fmt: skip
    return CollectedRuns(position[: offsets[-1]], code[: offsets[-1]], offsets)


def offsets_of(counts: npt.NDArray[Any]) -> Int64s:
    """int64[n + 1]: sums of all counts before each, and of all."""
    offsets = np.zeros(counts.size + 1, dtype=np.int64)
    np.cumsum(counts, out=offsets[1:])
    return offsets


def sums_in(counts: npt.NDArray[Any], bounds: Int64s) -> Int64s:
    """int64[n + 1]: sums of counts before each of the bounds, from 0 to all, that are int64[n + 1] into them."""
    if (np.diff(bounds) == 0).any():
        return offsets_of(counts)[bounds]
    return offsets_of(np.add.reduceat(counts, bounds[:-1], dtype=np.int64))


def gathered(values: npt.NDArray[Any], run_offsets: Int64s, order: Int64s) -> npt.NDArray[Any]:
    """Stretches of ``values`` in another order."""
    result = np.empty_like(values)
    _gather(values, run_offsets, order, result)
    return result


@kernel
def _collect(
    codes: CodeArray,
    words: npt.NDArray[np.uint64],
    sparse: bool,
    is_stored: Int64s,
    row_slot: Int32s,
    slot_bounds: Int32s,
    section_rows: Int64s,
    row_bounds: Int64s,
    elements: int,
    position: npt.NDArray[Any],
    code: CodeArray,
    run_offsets: npt.NDArray[Any],
) -> None:
    # the stored weights of every run from codes [groups, rows, columns], a block of columns at a time
    groups, _, columns = codes.shape
    most_rows, most_slots = np.int64(0), np.int64(0)
    for group in range(groups):
        for section in range(slot_bounds.shape[0] - 1):
            most_rows = max(most_rows, row_bounds[group, section + 1] - row_bounds[group, section])
            most_slots = max(most_slots, np.int64(slot_bounds[section + 1, group] - slot_bounds[section, group]))
    block_run = np.empty(most_rows * _BLOCK_COLUMNS + 1, dtype=np.int32)
    block_place = np.empty(most_rows * _BLOCK_COLUMNS + 1, dtype=np.int32)
    block_code = np.empty(most_rows * _BLOCK_COLUMNS + 1, dtype=codes.dtype)
    filled = np.empty(_BLOCK_COLUMNS // _WORD + 1, dtype=np.int64)
    run_at = np.zeros(_BLOCK_COLUMNS * most_slots, dtype=np.int64)  # where the next weight of each run of a block goes
    at, first_run = np.int64(0), np.int64(0)
    for section in range(slot_bounds.shape[0] - 1):
        for group in range(groups):
            slots = int(slot_bounds[section + 1, group] - slot_bounds[section, group])
            for first in range(0, columns, _BLOCK_COLUMNS):
                end = min(first + _BLOCK_COLUMNS, columns)
                count = 0
                for index in range(row_bounds[group, section], row_bounds[group, section + 1]):
                    row = section_rows[group, index]
                    run, place = int(row_slot[group, row] - slot_bounds[section, group]), int(row // elements)
                    if sparse:
                        count = _look_for(words[group, row], first, end, slots, run, place, is_stored, filled,
                                          block_run, block_place, block_code, count)  # fmt: skip
                    else:
                        count = _look_at(codes[group, row], first, end, slots, run, place, is_stored,
                                         block_run, block_place, block_code, count)  # fmt: skip
                run_at[:] = 0
                for i in range(count):
                    run_at[block_run[i]] += 1
                for here in range((end - first) * slots):
                    size = run_at[here]
                    run_at[here] = at
                    at += size
                    run_offsets[first_run + here + 1] = at
                first_run += (end - first) * slots
                for i in range(count):
                    to = run_at[block_run[i]]
                    position[to] = block_place[i]
                    code[to] = block_code[i]
                    run_at[block_run[i]] = to + 1


@kernel
def _look_at(
    codes: CodeArray,
    first: int,
    end: int,
    slots: int,
    run: int,
    place: int,
    is_stored: Int64s,
    block_run: Int32s,
    block_place: Int32s,
    block_code: CodeArray,
    count: int,
) -> int:
    # the stored weights of a row's columns behind ``count`` others; no branch: which are stored cannot be predicted
    for column in range(first, end):
        symbol = codes[column]
        block_run[count] = run
        block_place[count] = place
        block_code[count] = symbol
        count += is_stored[symbol]
        run += slots
    return count


@kernel
def _look_for(
    words: npt.NDArray[np.uint64],
    first: int,
    end: int,
    slots: int,
    run: int,
    place: int,
    is_stored: Int64s,
    filled: Int64s,
    block_run: Int32s,
    block_place: Int32s,
    block_code: CodeArray,
    count: int,
) -> int:
    # as `_look_at`, where most codes are 0: words that are not, and in them codes that are not
    found = 0
    for word in range(first // _WORD, end // _WORD):
        filled[found] = word
        found += words[word] != 0
    for k in range(found):
        eight = words[filled[k]]
        there = ((eight & _BELOW_TOP) + _BELOW_TOP | eight) & _TOP
        while there:
            byte = lowest_bit(there) >> 3
            symbol = (eight >> np.uint64(8 * byte)) & _BYTE
            block_run[count] = run + (_WORD * filled[k] + byte - first) * slots
            block_place[count] = place
            block_code[count] = symbol
            count += is_stored[symbol]
            there &= there - np.uint64(1)
    return count


@kernel
def _count_entries(position: npt.NDArray[Any], run_offsets: npt.NDArray[Any], index_bits: int, counts: Int32s) -> None:
    # those of every run, with fillers where there are gaps of so many bits
    for run in range(counts.size):
        count = run_offsets[run + 1] - run_offsets[run]
        if index_bits > 0:
            last = np.int64(-1)
            for i in range(run_offsets[run], run_offsets[run + 1]):
                count += (position[i] - last - 1) >> index_bits
                last = np.int64(position[i])
        counts[run] = count


@kernel
def _lay_gaps(
    position: npt.NDArray[Any],
    code: CodeArray,
    run_offsets: npt.NDArray[Any],
    chunk_begin: Int64s,
    chunk_runs: Int64s,
    step: int,
    gap: Uint16s,
    codes: Uint16s,
    run_count: Int32s,
    chunk_entries: Int64s,
) -> None:
    # the entries of every run, chunk by chunk, and how many each has
    at = np.int64(0)
    for chunk in range(chunk_begin.size):
        ahead = chunk_begin[chunk] - chunk_runs[chunk]
        for k in range(chunk_runs[chunk], chunk_runs[chunk + 1]):
            first, last = at, np.int64(-1)
            for i in range(run_offsets[k + ahead], run_offsets[k + ahead + 1]):
                skip = position[i] - last - 1
                while skip >= step:
                    gap[at] = step - 1
                    codes[at] = 0
                    at += 1
                    skip -= step
                gap[at] = skip
                codes[at] = code[i]
                at += 1
                last = np.int64(position[i])
            run_count[k] = at - first
        chunk_entries[chunk + 1] = at


@kernel
def _lay_rows(
    position: npt.NDArray[Any],
    code: CodeArray,
    run_offsets: npt.NDArray[Any],
    chunk_begin: Int64s,
    chunk_runs: Int64s,
    run_slot: Int32s,
    first_row: Int32s,
    elements: int,
    row: Int32s,
    codes: Uint16s,
    run_count: Int32s,
    chunk_entries: Int64s,
) -> None:
    # as `_lay_gaps`, with the output channel of every entry
    at = np.int64(0)
    for chunk in range(chunk_begin.size):
        ahead = chunk_begin[chunk] - chunk_runs[chunk]
        for k in range(chunk_runs[chunk], chunk_runs[chunk + 1]):
            first = first_row[run_slot[k]]
            for i in range(run_offsets[k + ahead], run_offsets[k + ahead + 1]):
                row[at] = first + np.int64(position[i]) * elements
                codes[at] = code[i]
                at += 1
            run_count[k] = run_offsets[k + ahead + 1] - run_offsets[k + ahead]
        chunk_entries[chunk + 1] = at


@kernel
def _gather(values: npt.NDArray[Any], run_offsets: Int64s, order: Int64s, result: npt.NDArray[Any]) -> None:
    at = 0
    for run in order:
        for i in range(run_offsets[run], run_offsets[run + 1]):
            result[at] = values[i]
            at += 1
