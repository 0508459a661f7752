"""Every weight in chunk order: how decode units find the weights of a layer stored without positions.

In a chunk lie columns in order, in a column the rows of the chunk's section in order. Where each weight lies follows
from the layer's shape, so it is walked, chunk by chunk, and never listed.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from dchw.compile import kernel
from dchw.compression.compressed import CodeArray
from dchw.formats.packing.run_layout import Chunks, Int32s, Int64s, RunLayout


class ColumnOrder:
    """The weights of a layer in the order of chunks that `RunLayout.cut_columns` gave."""

    def __init__(self, layout: RunLayout, chunks: Chunks) -> None:
        rows, bounds = layout.section_rows
        self._layout = layout
        self._walk = chunks.section, chunks.first_job, chunks.end_job, layout.geometry.columns, rows, bounds
        # those of one section after another, because they lie in the same rows, a page or more apart
        self._by_section = np.argsort(chunks.section, kind="stable")
        offsets = np.zeros(chunks.count + 1, dtype=np.int64)
        _count(*self._walk, offsets)
        self.offsets: Int64s = np.cumsum(offsets)
        """int64[chunks + 1] into the weights."""

    def symbols(self, codes: CodeArray) -> CodeArray:
        """The code of every weight in this order, from [out_channels, columns]."""
        out = np.empty(codes.size, codes.dtype)
        _gather(*self._walk, self.offsets, self._by_section, codes, out)
        return out

    def bits(self, codes: CodeArray, lengths: npt.NDArray[np.uint8]) -> Int64s:
        """int64[chunks]: bits of the words of every chunk, from codes [out_channels, columns] and each one's length."""
        bits = np.empty(self.offsets.size - 1, np.int64)
        _count_bits(*self._walk, self._by_section, codes, lengths, bits)
        return bits

    def codes(self, symbols: CodeArray) -> CodeArray:
        """The code of every weight, [out_channels, columns], from codes in this order."""
        out = np.empty((self._layout.geometry.out_channels, self._layout.geometry.columns), symbols.dtype)
        _scatter(*self._walk, self.offsets, self._by_section, symbols, out)
        return out

    def ends(self, rows_per_step: int) -> tuple[Int64s, Int64s, Int64s]:
        """The last weight of every step of so many rows of a column in a chunk: (place in this order, job, step)."""
        section, first_job, end_job, columns, rows, bounds = self._walk
        step = rows // rows_per_step
        last = np.ones(rows.shape, np.bool_)
        last[:, :-1] = step[:, 1:] != step[:, :-1]
        for group, behind in enumerate(bounds):
            last[group, behind[behind > 0] - 1] = True
        ends = np.where(last, np.arange(rows.shape[1]), rows.shape[1])
        ends = np.minimum.accumulate(ends[:, ::-1], axis=1)[:, ::-1]  # of each row's step
        walk = section, first_job, end_job, columns, step, np.ascontiguousarray(ends), bounds, self.offsets
        out = np.empty((_ends(*walk, np.empty((0, 3), np.int64)), 3), np.int64)
        _ends(*walk, out)
        place, job, of = out.T.copy()
        return place, job, of


@kernel
def _count(
    section: Int32s, first_job: Int32s, end_job: Int32s, columns: int, rows: Int64s, bounds: Int64s, sizes: Int64s
) -> None:
    for chunk in range(section.size):
        for job in range(first_job[chunk], end_job[chunk]):
            group = job // columns
            sizes[chunk + 1] += bounds[group, section[chunk] + 1] - bounds[group, section[chunk]]


@kernel
def _gather(
    section: Int32s,
    first_job: Int32s,
    end_job: Int32s,
    columns: int,
    rows: Int64s,
    bounds: Int64s,
    offsets: Int64s,
    order: Int64s,
    codes: CodeArray,
    out: CodeArray,
) -> None:
    # columns of a chunk inside rows, because they lie side by side in a row
    for chunk in order:
        at, job = offsets[chunk], np.int64(first_job[chunk])
        while job < end_job[chunk]:
            group = job // columns
            until = min(np.int64(end_job[chunk]), (group + 1) * columns)
            begin, end = bounds[group, section[chunk]], bounds[group, section[chunk] + 1]
            for place in range(begin, end):
                line, to = codes[group * rows.shape[1] + rows[group, place]], np.uint64(at + place - begin)
                for column in range(job - group * columns, until - group * columns):
                    out[to] = line[np.uint64(column)]
                    to += np.uint64(end - begin)
            at += (until - job) * (end - begin)
            job = until


@kernel
def _count_bits(
    section: Int32s,
    first_job: Int32s,
    end_job: Int32s,
    columns: int,
    rows: Int64s,
    bounds: Int64s,
    order: Int64s,
    codes: CodeArray,
    lengths: npt.NDArray[np.uint8],
    bits: Int64s,
) -> None:
    for chunk in order:
        total, job = np.int64(0), np.int64(first_job[chunk])
        while job < end_job[chunk]:
            group = job // columns
            until = min(np.int64(end_job[chunk]), (group + 1) * columns)
            for place in range(bounds[group, section[chunk]], bounds[group, section[chunk] + 1]):
                line = codes[group * rows.shape[1] + rows[group, place]]
                for column in range(job - group * columns, until - group * columns):
                    total += lengths[line[np.uint64(column)]]
            job = until
        bits[chunk] = total


@kernel
def _scatter(
    section: Int32s,
    first_job: Int32s,
    end_job: Int32s,
    columns: int,
    rows: Int64s,
    bounds: Int64s,
    offsets: Int64s,
    order: Int64s,
    symbols: CodeArray,
    out: CodeArray,
) -> None:
    for chunk in order:
        at, job = offsets[chunk], np.int64(first_job[chunk])
        while job < end_job[chunk]:
            group = job // columns
            until = min(np.int64(end_job[chunk]), (group + 1) * columns)
            begin, end = bounds[group, section[chunk]], bounds[group, section[chunk] + 1]
            for place in range(begin, end):
                line, of = out[group * rows.shape[1] + rows[group, place]], np.uint64(at + place - begin)
                for column in range(job - group * columns, until - group * columns):
                    line[np.uint64(column)] = symbols[of]
                    of += np.uint64(end - begin)
            at += (until - job) * (end - begin)
            job = until


@kernel
def _ends(
    section: Int32s,
    first_job: Int32s,
    end_job: Int32s,
    columns: int,
    step: Int64s,
    ends: Int64s,
    bounds: Int64s,
    offsets: Int64s,
    out: Int64s,
) -> int:
    # how many; written only where there is room for them
    count = 0
    for chunk in range(section.size):
        at = offsets[chunk]
        for job in range(first_job[chunk], end_job[chunk]):
            group = np.int64(job) // columns
            begin, end = bounds[group, section[chunk]], bounds[group, section[chunk] + 1]
            place = begin
            while place < end:
                place = ends[group, place]
                if out.shape[0] > 0:
                    out[count, 0], out[count, 1], out[count, 2] = at + place - begin, job, step[group, place]
                count += 1
                place += 1
            at += end - begin
    return count
