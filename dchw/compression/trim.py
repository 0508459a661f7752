"""Rows and columns of a weight matrix that hold no weight, listed once so that positions need not skip them.

A list is written in the shortest of these forms; a 2-bit mode says which:

- 0, *all*: every row (column) is used; no bytes.
- 1, *bitmap*: one bit per row (column), 1 where used.
- 2 and 3, *runs*: lengths of alternating runs, the first one used (2) or unused (3), as Elias gamma codes (n - 1 zero
  bits and a one, then the n - 1 lower bits of a number of n bits, lowest first), until they cover the axis.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from dchw.compression import bitstream
from dchw.compression.compressed import CodeArray
from dchw.compression.varint import Reader
from dchw.quantities import FileFormatError, ceil_div

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True, eq=False)
class Trim:
    """Which rows and columns of a matrix hold a weight."""

    rows: Mask
    columns: Mask
    biases_left_out: bool
    """True: the biases of unused rows are all +0.0 and not stored."""

    @classmethod
    def of(cls, matrix: CodeArray, bias: npt.NDArray[np.float32] | None) -> Trim:
        """What can be left out of a matrix of codes and its biases."""
        kept = matrix != 0
        rows = kept.any(axis=1)
        silent = bias is not None and not rows.all() and not bias[~rows].view(np.uint32).any()
        return cls(rows=rows, columns=kept.any(axis=0), biases_left_out=bool(silent))

    def select(self, matrix: CodeArray) -> CodeArray:
        """The used rows and columns."""
        return matrix[self.rows][:, self.columns].copy()

    def restore(self, selected: CodeArray) -> CodeArray:
        """The whole matrix again, 0 where nothing is stored."""
        matrix = np.zeros((self.rows.size, self.columns.size), dtype=selected.dtype)
        matrix[np.ix_(self.rows, self.columns)] = selected
        return matrix

    def encode(self) -> bytes:
        """One byte (bits 0-1 mode of rows, 2-3 mode of columns, 4 biases left out), the rows' list, the columns'."""
        row_mode, rows = _encode_axis(self.rows)
        column_mode, columns = _encode_axis(self.columns)
        return bytes([row_mode | column_mode << 2 | self.biases_left_out << 4]) + rows + columns


def read_trim(reader: Reader, rows: int, columns: int) -> Trim:
    """The inverse of `Trim.encode` for a matrix of that many rows and columns."""
    modes = reader.byte("trim modes")
    if modes >> 5:
        raise FileFormatError(f"trim modes: expected bits 5-7 to be 0; got 0x{modes:02x}")
    used_rows = _decode_axis(reader, modes & 3, rows, "used rows")
    used_columns = _decode_axis(reader, modes >> 2 & 3, columns, "used columns")
    left_out = bool(modes >> 4)
    if left_out and used_rows.all():
        raise FileFormatError("trim modes: biases left out although every row is used")
    return Trim(rows=used_rows, columns=used_columns, biases_left_out=left_out)


def _encode_axis(used: Mask) -> tuple[int, bytes]:
    if used.all():
        return 0, b""
    bitmap = bitstream.pack_bitmask(used).tobytes()
    edges = np.flatnonzero(np.diff(used)) + 1
    lengths = np.diff(np.concatenate([[0], edges, [used.size]])).tolist()
    bits: list[int] = []
    for length in lengths:
        size = int(length).bit_length()
        bits += [0] * (size - 1) + [1] + [length >> i & 1 for i in range(size - 1)]
    runs = bitstream.pack_bitmask(np.array(bits, dtype=np.bool_)).tobytes()
    if len(runs) < len(bitmap):
        return (2 if used[0] else 3), runs
    return 1, bitmap


def _decode_axis(reader: Reader, mode: int, size: int, field: str) -> Mask:
    if mode == 0:
        return np.ones(size, dtype=np.bool_)
    if mode == 1:
        used = bitstream.unpack_bitmask(reader.take(ceil_div(size, 8), field), size)
        if used.all():
            raise FileFormatError(f"{field}: expected one unused at least; got none")
        return used
    used = np.zeros(size, dtype=np.bool_)
    at, bit, start, state = 0, 0, reader.position, mode == 2
    window = np.unpackbits(reader.data[start : start + size // 4 + 16], bitorder="little")  # a run takes < 2 bits each
    while at < size:
        zeros = int(np.argmax(window[bit : bit + 64])) if bit < window.size else 0
        if bit + 2 * zeros >= window.size or not window[bit + zeros]:
            raise FileFormatError(f"{field}: expected {size} in runs; got {at}")
        low = window[bit + zeros + 1 : bit + 2 * zeros + 1]
        length = (1 << zeros) + sum(int(b) << i for i, b in enumerate(low))
        if at + length > size:
            raise FileFormatError(f"{field}: expected {size} in runs; got {at + length}")
        used[at : at + length] = state
        at, bit, state = at + length, bit + 2 * zeros + 1, not state
    if used.all():
        raise FileFormatError(f"{field}: expected one unused at least; got none")
    bitstream.check_padding(reader.take(ceil_div(bit, 8), field), bit, field)
    return used
