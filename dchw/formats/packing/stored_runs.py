"""The stored weights of a layer, run by run in chunk order, before any bit is written."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from dchw.compile import kernel
from dchw.compression.compressed import CodeArray, CompressedLayer
from dchw.compression.relative_index import encode_runs
from dchw.formats.packing.run_layout import Chunks, Int32s, Int64s, PackShape, RunLayout, run_layout

Uint16s = npt.NDArray[np.uint16]

_WORD = 8  # uint8 codes that are looked at together
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
    position, code, run_offsets = collect_runs(layer, layout, coded=coded)
    gap = np.zeros(0, dtype=np.uint16)
    if index_bits:
        gap, code, run_offsets = encode_runs(position, code, run_offsets, index_bits)
        position = np.zeros(0, dtype=np.int32)
    counts = np.diff(run_offsets).astype(np.int32)
    chunks = layout.cut(counts)
    order = layout.run_order(chunks)
    run_count = counts[order.run]
    if position.size:
        run_element_row = layout.first_row.ravel()[order.slot]
        position = gathered(position, run_offsets, order.run)
        position = np.repeat(run_element_row, run_count) + position * np.int32(shape.elements)
    return StoredRuns(
        chunks=chunks,
        run_slot=order.slot,
        run_count=run_count,
        chunk_runs=order.offsets,
        chunk_entries=offsets_of(run_count)[order.offsets],
        gap=gathered(gap, run_offsets, order.run) if index_bits else gap,
        code=gathered(code, run_offsets, order.run),
        row=position,
    )


def collect_runs(layer: CompressedLayer, layout: RunLayout, *, coded: bool) -> tuple[Int32s, Uint16s, Int64s]:
    """Position in its run and code of every stored weight, in job order, and run offsets int64[runs + 1] into both."""
    is_stored = np.ones(layer.codebook.size, dtype=np.int64)
    if not coded:
        is_stored[layer.codebook.view(np.uint32) == 0] = 0
    is_stored[0] = 0
    most = layer.nonzeros
    position, code = np.empty(most, dtype=np.int32), np.empty(most, dtype=np.uint16)
    run_offsets = np.zeros(layout.jobs * layout.slots + 1, dtype=np.int64)
    by_group = layer.codes.reshape(layer.geometry.groups, layout.rows, layer.geometry.columns)
    wide = by_group.dtype == np.uint8 and layer.geometry.columns % _WORD == 0
    words = by_group.view(np.uint64) if wide else np.empty((0, 0, 0), np.uint64)
    _collect(
        by_group, words, is_stored, layout.row_slot, layout.slots, layout.shape.elements, position, code, run_offsets
    )
    return position[: run_offsets[-1]], code[: run_offsets[-1]], run_offsets


def offsets_of(counts: npt.NDArray[Any]) -> Int64s:
    """int64[n + 1]: sums of all counts before each, and of all."""
    offsets = np.zeros(counts.size + 1, dtype=np.int64)
    np.cumsum(counts, out=offsets[1:])
    return offsets


def gathered(values: npt.NDArray[Any], run_offsets: Int64s, order: Int64s) -> npt.NDArray[Any]:
    """Stretches of ``values`` in another order."""
    result = np.empty_like(values)
    _gather(values, run_offsets, order, result)
    return result


@kernel
def _collect(
    codes: CodeArray,
    words: npt.NDArray[np.uint64],
    is_stored: Int64s,
    row_slot: Int32s,
    slots: int,
    elements: int,
    position: Int32s,
    code: Uint16s,
    run_offsets: Int64s,
) -> None:
    # the stored weights of every run from codes [groups, rows, columns], a block of columns at a time
    groups, rows, columns = codes.shape
    block_run = np.empty(rows * _BLOCK_COLUMNS + 1, dtype=np.int32)
    block_place = np.empty(rows * _BLOCK_COLUMNS + 1, dtype=np.int32)
    block_code = np.empty(rows * _BLOCK_COLUMNS + 1, dtype=np.uint16)
    run_at = np.zeros(_BLOCK_COLUMNS * slots, dtype=np.int64)  # where the next weight of each run of a block goes
    at = np.int64(0)
    for group in range(groups):
        for first in range(0, columns, _BLOCK_COLUMNS):
            end = min(first + _BLOCK_COLUMNS, columns)
            count = np.int64(0)
            for row in range(rows):
                run = row_slot[group, row]
                place = row // elements
                for start in range(first, end, _WORD):
                    behind = min(start + _WORD, end)
                    if words.size > 0 and words[group, row, start // _WORD] == 0:
                        run += (behind - start) * slots  # as most where a layer is pruned to a few of a hundred
                        continue
                    for column in range(start, behind):  # no branch: which weights are stored cannot be predicted
                        symbol = codes[group, row, column]
                        block_run[count] = run
                        block_place[count] = place
                        block_code[count] = symbol
                        count += is_stored[symbol]
                        run += slots
            run_at[:] = 0
            for i in range(count):
                run_at[block_run[i]] += 1
            first_run = (group * columns + first) * slots
            for run in range((end - first) * slots):
                size = run_at[run]
                run_at[run] = at
                at += size
                run_offsets[first_run + run + 1] = at
            for i in range(count):
                run = block_run[i]
                position[run_at[run]] = block_place[i]
                code[run_at[run]] = block_code[i]
                run_at[run] += 1


@kernel
def _gather(values: npt.NDArray[Any], run_offsets: Int64s, order: Int64s, result: npt.NDArray[Any]) -> None:
    at = 0
    for run in order:
        for i in range(run_offsets[run], run_offsets[run + 1]):
            result[at] = values[i]
            at += 1
