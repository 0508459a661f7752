"""Rows of weights that are stored without positions: made of what is stored when they are asked for.

A layer's matrix as float32 is many times its bytes, and a layer of one output pixel is multiplied a few rows at a time.
Whether what was decoded is what a layer holds is seen on what is stored, without making a number of every weight.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from dchw.compile import kernel
from dchw.compression.compressed import CodeArray
from dchw.graph.network import FloatArray

Words = npt.NDArray[np.unsignedinteger[Any]]
Uint32s = npt.NDArray[np.uint32]

UNUSED = 0xFFFFFFFF
"""Stands for the bits of a value that no weight has: those of a NaN, which no weight is."""
LINE_BYTES = 64
"""Of a cache line."""
COLUMNS_TOGETHER = 8
"""Columns of weights that lie job by job that are turned at a time: a power of two apart in memory, as they often are,
more of them would drive one another out of a first-level cache of eight ways."""


class WeightRows(Protocol):
    """A layer's weight matrix, row by row."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Output channels and columns."""

    def __getitem__(self, rows: slice, /) -> FloatArray:
        """float32[rows, columns]"""

    def shared(self, codes: CodeArray, count: int) -> FloatArray | None:
        """float32[count]: the value of every weight of each of so many codes, given the code of every weight.

        NaN where no weight has a code. None where weights of one code differ, or may.
        """


class CodedRows:
    """Rows of what codes stand for."""

    def __init__(self, codes: npt.NDArray[Any], values: FloatArray) -> None:
        """``codes``: [out_channels, columns], of ``values``."""
        self._codes, self._values = codes, values

    @property
    def shape(self) -> tuple[int, ...]:
        """As of `WeightRows`."""
        return self._codes.shape

    def __getitem__(self, rows: slice) -> FloatArray:
        codes = self._codes[rows]
        matrix = np.empty(codes.shape, np.float32)
        _look_up(codes, self._values, matrix)
        return matrix

    def shared(self, codes: CodeArray, count: int) -> FloatArray | None:
        """As of `WeightRows`; None as well where they are numbered in another way."""
        if self._values.size != count or not np.array_equal(self._codes, codes):
            return None
        return self._values


class JobRows:
    """Rows of what lies job by job."""

    def __init__(self, words: Words, meaning: Callable[[Words], FloatArray], scales: FloatArray | None = None) -> None:
        """``words``: [groups, columns, rows of a group]; ``meaning`` makes float32 of words of whatever shape, which
        are times ``scales``, float32[out_channels], if there are any."""
        self._words, self._meaning, self._scales = words, meaning, scales

    @property
    def shape(self) -> tuple[int, ...]:
        """As of `WeightRows`."""
        groups, columns, rows = self._words.shape
        return groups * rows, columns

    def __getitem__(self, rows: slice) -> FloatArray:
        first, end, _ = rows.indices(self.shape[0])
        of_group = self._words.shape[2]
        turned = np.empty((max(end - first, 0), self.shape[1]), self._words.dtype)
        at = first
        while at < end:
            group = at // of_group
            until = min(end, (group + 1) * of_group)
            mine = self._words[group, :, at - group * of_group : until - group * of_group]
            _turn(mine, _tile_rows(mine), turned[at - first : until - first])
            at = until
        values = self._meaning(turned)
        return values if self._scales is None else values * self._scales[rows, None]

    def shared(self, codes: CodeArray, count: int) -> FloatArray | None:
        """As of `WeightRows`; those with scales are not looked at."""
        if self._scales is not None:
            return None
        of_codes, of_group = np.full(count, UNUSED, np.uint32), self._words.shape[2]
        for group, words in enumerate(self._words):
            mine = codes[group * of_group : (group + 1) * of_group]
            if not _same_of_codes(words, mine, _tile_rows(words), of_codes):
                return None
        unused = of_codes == UNUSED
        values = self._meaning(np.where(unused, 0, of_codes).astype(self._words.dtype)).copy()
        values[unused] = np.nan
        return values


def _tile_rows(words: Words) -> int:
    """Rows that lie in a cache line."""
    return LINE_BYTES // words.itemsize


@kernel
def _look_up(codes: npt.NDArray[Any], values: FloatArray, matrix: FloatArray) -> None:
    for row in range(codes.shape[0]):
        mine, made = codes[row], matrix[row]
        for column in range(codes.shape[1]):
            made[np.uint64(column)] = values[mine[np.uint64(column)]]


@kernel
def _turn(words: Words, together: int, turned: Words) -> None:
    # words with columns and rows exchanged
    rows, columns = turned.shape
    for first_row in range(0, rows, together):
        for first in range(0, columns, COLUMNS_TOGETHER):
            for row in range(first_row, min(first_row + together, rows)):
                mine, at = turned[row], np.uint64(row)
                for column in range(first, min(first + COLUMNS_TOGETHER, columns)):
                    mine[np.uint64(column)] = words[np.uint64(column), at]


@kernel
def _same_of_codes(words: Words, codes: CodeArray, together: int, of_codes: Uint32s) -> bool:
    # whether words [columns, rows] of equal codes [rows, columns] are equal; fills in those of codes that are UNUSED
    rows, columns = codes.shape
    for first_row in range(0, rows, together):
        for first in range(0, columns, COLUMNS_TOGETHER):
            for row in range(first_row, min(first_row + together, rows)):
                mine, at = codes[row], np.uint64(row)
                for column in range(first, min(first + COLUMNS_TOGETHER, columns)):
                    word, code = np.uint32(words[np.uint64(column), at]), mine[np.uint64(column)]
                    if of_codes[code] != word:
                        if of_codes[code] != UNUSED:
                            return False
                        of_codes[code] = word
    return True
