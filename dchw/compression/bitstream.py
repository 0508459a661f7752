"""Packed bits: the one place where bit order is defined.

Bit i of a stream is bit ``i % 8`` of byte ``i // 8`` (least significant first), and the lowest bit of a field comes
first. So of two 4-bit fields the even one is the low nibble, as in the published Deep Compression files, and a
little-endian 64-bit word read at any byte holds the next 64 bits in order.
"""

from __future__ import annotations

import sys

import numpy as np
import numpy.typing as npt

from dchw.compile import kernel
from dchw.quantities import DchwError, FileFormatError, ceil_div

Bytes = npt.NDArray[np.uint8]
Words = npt.NDArray[np.int64]

MAX_FIELD_BITS = 16
WORD_BYTES = 8
_PADDING_BYTES = 16  # a word can be read or written at the last byte, and a view of words never has only one element

_LOWEST_BYTE = np.uint64(0xFF)
_ONE = np.uint64(1)
_PRIME = np.uint64(67)  # of which the 64 powers of two leave 64 remainders
_BIT_OF_REMAINDER = np.zeros(67, np.uint8)
_BIT_OF_REMAINDER[[2**bit % 67 for bit in range(64)]] = np.arange(64)
_BYTE_1, _BYTE_2, _BYTE_3, _BYTE_4 = np.uint64(8), np.uint64(16), np.uint64(24), np.uint64(32)
_BYTE_5, _BYTE_6, _BYTE_7 = np.uint64(40), np.uint64(48), np.uint64(56)


def word_view(buffer: Bytes) -> Words:
    """Every 8-byte word of a buffer, one starting at each byte: int64[size - 7], overlapping, unaligned.

    Element i is the little-endian word at byte i. Writing an element writes eight bytes. At least 9 bytes are needed.
    """
    assert sys.byteorder == "little", "packed bits are read as little-endian words"
    assert buffer.size > WORD_BYTES, "a word view needs a padded buffer"
    return np.ndarray((buffer.size - WORD_BYTES + 1,), np.int64, buffer, 0, (1,))


@kernel
def load_word(data: Bytes, at: np.uint64) -> np.uint64:
    """The little-endian word at byte ``at``. The compiler makes one load of it, as it makes one store of the next."""
    low = np.uint64(data[at]) | np.uint64(data[at + np.uint64(1)]) << _BYTE_1
    low |= np.uint64(data[at + np.uint64(2)]) << _BYTE_2 | np.uint64(data[at + np.uint64(3)]) << _BYTE_3
    high = np.uint64(data[at + np.uint64(4)]) << _BYTE_4 | np.uint64(data[at + np.uint64(5)]) << _BYTE_5
    high |= np.uint64(data[at + np.uint64(6)]) << _BYTE_6 | np.uint64(data[at + np.uint64(7)]) << _BYTE_7
    return low | high


@kernel
def lowest_bit(word: np.uint64) -> int:
    """Which bit of a word that is not 0 is the lowest that is set."""
    return int(_BIT_OF_REMAINDER[(word & (~word + _ONE)) % _PRIME])


@kernel
def store_half_word(out: Bytes, at: np.uint64, word: np.uint64) -> None:
    """Write the low half of a word, four bytes, at byte ``at``."""
    out[at] = word & _LOWEST_BYTE
    out[at + np.uint64(1)] = (word >> _BYTE_1) & _LOWEST_BYTE
    out[at + np.uint64(2)] = (word >> _BYTE_2) & _LOWEST_BYTE
    out[at + np.uint64(3)] = (word >> _BYTE_3) & _LOWEST_BYTE


def padded(data: npt.ArrayLike) -> Bytes:
    """A copy of ``data`` as uint8 with zeros behind it, so that ``word_view`` covers each of its bytes."""
    source = np.asarray(data, dtype=np.uint8).reshape(-1)
    buffer = np.empty(source.size + _PADDING_BYTES, dtype=np.uint8)
    buffer[: source.size] = source
    buffer[source.size :] = 0
    return buffer


def zero_buffer(size_bytes: int) -> Bytes:
    """Zeros that hold ``size_bytes`` bytes and a word written at any of them."""
    return np.zeros(size_bytes + _PADDING_BYTES, dtype=np.uint8)


def packed_bytes(count: int, bits: int) -> int:
    """Bytes that ``count`` fields of ``bits`` bits fill, the last one padded with zero bits."""
    return ceil_div(count * bits, 8)


def pack_fixed(values: npt.ArrayLike, bits: int) -> Bytes:
    """Unsigned integers as fields of ``bits`` bits (1-16), back to back: uint8[ceil(n * bits / 8)].

    Raises DchwError when a value does not fit its field.
    """
    _check_field_bits(bits)
    source = np.asarray(values).reshape(-1)
    if source.size and source.dtype.kind not in "ui":
        raise DchwError(f"packed values: expected integers; got {source.dtype}; convert them")
    if source.size and (int(source.min()) < 0 or int(source.max()) >= 1 << bits):
        raise DchwError(
            f"packed values: expected 0 to {(1 << bits) - 1} in {bits} bits; "
            f"got {int(source.min())} to {int(source.max())}; use more bits"
        )
    fields = np.ascontiguousarray(source, dtype=np.uint16)
    size_bytes = packed_bytes(fields.size, bits)
    buffer = zero_buffer(size_bytes)
    _pack(fields, bits, word_view(buffer))
    return buffer[:size_bytes].copy()


def unpack_fixed(data: npt.ArrayLike, bits: int, count: int) -> npt.NDArray[np.uint16]:
    """The inverse of ``pack_fixed``: uint16[count].

    Raises FileFormatError unless ``data`` has exactly the bytes that ``count`` fields fill and zero padding bits.
    """
    _check_field_bits(bits)
    source = np.asarray(data, dtype=np.uint8).reshape(-1)
    if count < 0 or source.size != packed_bytes(count, bits):
        raise FileFormatError(
            f"packed fields: expected {packed_bytes(max(count, 0), bits)} bytes for {count} fields of {bits} bits; "
            f"got {source.size}; the data is damaged or of another layout"
        )
    check_padding(source, count * bits, "packed fields")
    fields = np.empty(count, dtype=np.uint16)
    _unpack(word_view(padded(source)), bits, fields)
    return fields


def pack_bitmask(mask: npt.ArrayLike) -> Bytes:
    """One bit per element of a mask in C order, 1 where it is true: uint8[ceil(n / 8)]."""
    return np.packbits(np.asarray(mask, dtype=np.bool_).reshape(-1), bitorder="little")


def unpack_bitmask(data: npt.ArrayLike, size: int) -> npt.NDArray[np.bool_]:
    """The inverse of ``pack_bitmask``: bool[size]. Raises FileFormatError on a wrong length or non-zero padding."""
    source = np.asarray(data, dtype=np.uint8).reshape(-1)
    if size < 0 or source.size != packed_bytes(size, 1):
        raise FileFormatError(
            f"bitmask: expected {packed_bytes(max(size, 0), 1)} bytes for {size} bits; got {source.size}; "
            "the data is damaged or of another layout"
        )
    check_padding(source, size, "bitmask")
    return np.unpackbits(source, count=size, bitorder="little").view(np.bool_)


def check_padding(data: Bytes, used_bits: int, where: str) -> None:
    """Raises FileFormatError when a bit of the last byte behind ``used_bits`` is not zero."""
    if used_bits % 8 and data.size and int(data[-1]) >> (used_bits % 8):
        raise FileFormatError(
            f"{where}: expected zero padding after bit {used_bits}; got last byte 0x{int(data[-1]):02x}; "
            "the data is damaged"
        )


def _check_field_bits(bits: int) -> None:
    if not 1 <= bits <= MAX_FIELD_BITS:
        raise DchwError(f"packed fields: expected 1 to {MAX_FIELD_BITS} bits; got {bits}; choose another width")


@kernel
def _pack(fields: npt.NDArray[np.uint16], bits: int, out: Words) -> None:
    # at most 7 bits wait in the word, so three fields of 16 bits fit beside them and the sign bit stays clear
    count = fields.size
    word = np.int64(0)
    fill = 0
    at = 0
    triples = count - count % 3
    for i in range(0, triples, 3):
        first = np.int64(fields[i])
        second = np.int64(fields[i + 1]) << bits
        third = np.int64(fields[i + 2]) << (2 * bits)
        word |= (first | second | third) << fill
        fill += 3 * bits
        out[at] = word
        at += fill >> 3
        word >>= fill & ~7
        fill &= 7
    for i in range(triples, count):
        word |= np.int64(fields[i]) << fill
        fill += bits
        out[at] = word
        at += fill >> 3
        word >>= fill & ~7
        fill &= 7


@kernel
def _unpack(data: Words, bits: int, fields: npt.NDArray[np.uint16]) -> None:
    mask = (1 << bits) - 1
    for i in range(fields.size):
        at = i * bits
        fields[i] = (data[at >> 3] >> (at & 7)) & mask
