"""Chunks of fixed-width fields, each chunk starting at a byte. Bit order is that of ``dchw.compression.bitstream``."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from dchw.compile import kernel
from dchw.compression.bitstream import Bytes, Words, padded, word_view, zero_buffer
from dchw.formats.packing.regions import Unwritten
from dchw.quantities import FileFormatError

Int64s = npt.NDArray[np.int64]

MAX_FIELD_BITS = 32


def byte_offsets_of(field_offsets: Int64s, bits: int) -> Int64s:
    """Where each chunk begins, in bytes, and the end: int64[chunks + 1]."""
    offsets = np.zeros(field_offsets.size, dtype=np.int64)
    np.cumsum((np.diff(field_offsets) * bits + 7) // 8, out=offsets[1:])
    return offsets


def pack_fields(values: npt.NDArray[Any], field_offsets: Int64s, bits: int) -> tuple[Bytes, Int64s]:
    """Unsigned integers as fields of 0 to 32 bits: (bytes, byte offsets int64[chunks + 1]); width 0 is no bytes."""
    assert 0 <= bits <= MAX_FIELD_BITS
    assert not values.size or int(values.max()) < 1 << bits, "a value must fit its field"
    byte_offsets = byte_offsets_of(field_offsets, bits)
    buffer = zero_buffer(int(byte_offsets[-1]))
    narrow = values if values.dtype == np.uint8 else values.astype(np.uint32, copy=False)
    _pack(narrow, field_offsets, byte_offsets, bits, word_view(buffer))
    return buffer[: byte_offsets[-1]], byte_offsets


def laid_out_fields(values: npt.NDArray[Any], field_offsets: Int64s, bits: int) -> tuple[Unwritten, Int64s]:
    """As `pack_fields`, but that the bytes are not written yet."""
    byte_offsets = byte_offsets_of(field_offsets, bits)

    def write() -> Bytes:
        return pack_fields(values, field_offsets, bits)[0]

    return Unwritten(size=int(byte_offsets[-1]), held=values.nbytes, write=write), byte_offsets


def unpack_fields(
    data: Bytes, field_offsets: Int64s, bits: int, where: str, *, narrow: bool = False
) -> npt.NDArray[Any]:
    """The inverse of ``pack_fields``, uint32, or uint8 where that is enough and ``narrow`` asks for it.

    Raises FileFormatError on a wrong length or padding bits that are not zero.
    """
    byte_offsets = byte_offsets_of(field_offsets, bits)
    if data.size != byte_offsets[-1]:
        raise FileFormatError(
            f"{where}: expected {int(byte_offsets[-1])} bytes for {int(field_offsets[-1])} fields of {bits} bits; "
            f"got {data.size}; the data is damaged"
        )
    values = np.empty(int(field_offsets[-1]), dtype=np.uint8 if narrow and bits <= 8 else np.uint32)
    chunk = _unpack(word_view(padded(data)), field_offsets, byte_offsets, bits, values)
    if chunk >= 0:
        raise FileFormatError(f"{where}, chunk {chunk}: expected zero padding; got set bits; the data is damaged")
    return values


@kernel
def _pack(values: npt.NDArray[Any], field_offsets: Int64s, byte_offsets: Int64s, bits: int, out: Words) -> None:
    if bits == 0:
        return
    for chunk in range(field_offsets.size - 1):
        word = np.int64(0)
        fill = 0
        at = byte_offsets[chunk]
        first, end = field_offsets[chunk], field_offsets[chunk + 1]
        if bits <= 8:  # eight fields are whole bytes, and fill no more than a word
            for i in range(first, end - 7, 8):
                word = np.int64(values[i])
                for k in range(1, 8):
                    word |= np.int64(values[i + k]) << (k * bits)
                out[at] = word
                at += bits
            first += (end - first) & ~7
            word = np.int64(0)
        for i in range(first, end):
            word |= np.int64(values[i]) << fill
            fill += bits
            out[at] = word
            at += fill >> 3
            word >>= fill & ~7
            fill &= 7


@kernel
def _unpack(data: Words, field_offsets: Int64s, byte_offsets: Int64s, bits: int, values: npt.NDArray[Any]) -> int:
    # the first chunk whose padding is not zero, or -1
    mask = (np.int64(1) << bits) - 1
    for chunk in range(field_offsets.size - 1):
        at = byte_offsets[chunk]
        first, end = field_offsets[chunk], field_offsets[chunk + 1]
        if bits <= 8:
            for i in range(first, end - 7, 8):
                word = data[at]
                for k in range(8):
                    values[i + k] = (word >> (k * bits)) & mask
                at += bits
            first += (end - first) & ~7
        bit = at * 8
        for i in range(first, end):
            values[i] = (data[bit >> 3] >> (bit & 7)) & mask
            bit += bits
        padding = byte_offsets[chunk + 1] * 8 - bit
        if padding > 0 and (data[bit >> 3] >> (bit & 7)) & ((1 << padding) - 1):
            return chunk
    return -1
