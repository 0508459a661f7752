"""Compiled Huffman decoding: several symbols a table look-up, several strands of chunks in lockstep.

An *entry* of the decoding table says what the next bits of a stream, its *window*, decode to: in bits 0 to 5 the length
of some whole code words, from bit 6 on their symbols, at most three bytes, and in the two highest bits the number of
these bytes. 4,096 entries of 4 bytes leave half of a first-level cache to the chunks. Arguments are checked by
``huffman``.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from dchw.compile import kernel
from dchw.compression.bitstream import load_word, store_half_word

Int64s = npt.NDArray[np.int64]
Uint8s = npt.NDArray[np.uint8]
Uint32s = npt.NDArray[np.uint32]
Uint64s = npt.NDArray[np.uint64]

DECODED, ENDED_EARLY, BYTES_LEFT, PADDING_SET = 0, 1, 2, 3

STRANDS = 5  # in lockstep: fewer wait for the look-ups' latency, more do not fit the registers
ENTRY_BYTES = 3
_USABLE_BITS = 57  # bits of a word read at a byte that are left behind any bit of that byte

# unsigned throughout: signed indices would be tested for counting from the end, and mixed ones become floats
_ZERO = np.uint64(0)
_ONE = np.uint64(1)
_BYTE = np.uint64(3)  # bits to bytes, as a shift
_IN_BYTE = np.uint64(7)
_SHIFT = np.uint64(63)
_BITS = np.uint64(63)  # of an entry, and of the sum of the entries that one word holds
_SYMBOLS = np.uint64(6)
_COUNT = np.uint64(30)
_BYTE_BITS = np.uint64(8)
_LOWEST_BYTE = np.uint64(0xFF)


@kernel
def fill_decoding_table(
    symbols: Int64s, lengths: Int64s, window_bits: int, item_bytes: int, most_bytes: int, entries: Uint32s
) -> None:
    """Table entries from the used symbols in canonical order, their lengths, and the bytes of a symbol (1 or 2).

    An entry holds as many symbols as fit the window and ``most_bytes`` bytes.
    """
    first = np.zeros(entries.size, dtype=np.int64)  # entries of one symbol
    word = np.int64(0)
    for i in range(symbols.size):
        entry = (np.int64(item_bytes) << 30) | (symbols[i] << 6) | lengths[i]
        for window in range(word, entries.size, np.int64(1) << lengths[i]):
            first[window] = entry
        # words count up; as they are bit-reversed, the carry goes down from the highest bit
        bit = np.int64(1) << (lengths[i] - 1)
        while word & bit:
            word ^= bit
            bit >>= 1
        word |= bit
    for window in range(entries.size):
        entry = first[window]
        for byte in range(item_bytes, most_bytes + 1 - item_bytes, item_bytes):
            used_bits = entry & 63
            following = first[window >> used_bits]
            if used_bits + (following & 63) <= window_bits:
                symbol = (following >> 6) & 0xFFFF
                entry += (np.int64(item_bytes) << 30) + (symbol << (6 + 8 * byte)) + (following & 63)
        entries[window] = entry


@kernel
def decode_chunks(
    data: Uint8s,
    bit_offsets: Int64s,
    byte_ends: Int64s,
    strand_ends: Int64s,
    entries: Uint32s,
    lengths: Uint8s,
    window: tuple[int, ...],
    entry_bytes: tuple[int, ...],
    out: Uint8s,
    status: Int64s,
) -> None:
    """Decode chunk i from ``bit_offsets[i:i + 2]`` to bytes ``byte_ends[i:i + 2]`` of ``out``; ``status`` = (what, i).

    ``data`` has at least 8 bytes. Of two tuples only the lengths count, which the compiler knows: ``window`` has an
    element for each bit of a window, ``entry_bytes`` for each symbol byte of an entry if all have equally many.

    A strand is neighbouring chunks, up to ``strand_ends[strand]``. All strands advance together, so that their look-ups
    overlap, until one comes close to the end of a chunk's symbols; that chunk is finished alone. A strand that is done
    follows the first one, through the same bits to the same bytes. Every store lies within its own chunk's symbols. A
    damaged chunk may read on into the next ones' bits, never beyond the data; that it has is seen when it is finished.
    """
    reach = (_USABLE_BITS // len(window) - 1) * ENTRY_BYTES + 4  # bytes that a round may write
    last_word = data.size - 8
    strand_last = np.empty(STRANDS, dtype=np.int64)
    strand_chunk = np.empty(STRANDS, dtype=np.int64)
    strand_bit = np.zeros(STRANDS, dtype=np.uint64)
    strand_byte = np.zeros(STRANDS, dtype=np.uint64)
    strand_stop = np.zeros(STRANDS, dtype=np.uint64)  # where a round no longer fits
    for strand in range(STRANDS):  # every strand has just decoded the chunk before its first
        strand_last[strand] = strand_ends[strand] - 1
        strand_chunk[strand] = strand_last[strand - 1] if strand > 0 else -1
        strand_bit[strand] = bit_offsets[strand_chunk[strand] + 1]
        strand_byte[strand] = byte_ends[strand_chunk[strand] + 1]
    strands = STRANDS
    while strands > 0:
        rounds = np.int64(1) << 62  # that surely stay within the data: each uses less than 8 bytes
        strand = 0
        while strand < strands:
            room = (last_word - np.int64(strand_bit[strand] >> _BYTE)) >> 3
            if room > 0 and strand_byte[strand] < strand_stop[strand]:
                rounds = min(rounds, room)
                strand += 1
                continue
            chunk = strand_chunk[strand]
            problem = finish_chunk(
                data, strand_bit[strand], np.uint64(bit_offsets[chunk + 1]), entries, lengths,
                out, strand_byte[strand], np.uint64(byte_ends[chunk + 1]),
            )  # fmt: skip
            if problem != DECODED:
                status[0] = problem
                status[1] = chunk
                return
            if chunk == strand_last[strand]:
                strands -= 1
                strand_chunk[strand], strand_last[strand] = strand_chunk[strands], strand_last[strands]
                strand_bit[strand], strand_byte[strand], strand_stop[strand] = (
                    strand_bit[strands],
                    strand_byte[strands],
                    strand_stop[strands],
                )
            else:
                chunk += 1
                strand_chunk[strand] = chunk
                strand_bit[strand] = bit_offsets[chunk]
                strand_byte[strand] = byte_ends[chunk]
                strand_stop[strand] = max(byte_ends[chunk + 1] - reach + 1, 0)
        for strand in range(strands, STRANDS):
            strand_bit[strand] = strand_bit[0]
            strand_byte[strand] = strand_byte[0]
            strand_stop[strand] = strand_stop[0]
        if strands > 0:
            advance(data, entries, window, entry_bytes, rounds, strand_bit, strand_byte, strand_stop, out)


@kernel
def advance(
    data: Uint8s,
    entries: Uint32s,
    window: tuple[int, ...],
    entry_bytes: tuple[int, ...],
    rounds: np.int64,
    strand_bit: Uint64s,
    strand_byte: Uint64s,
    strand_stop: Uint64s,
    out: Uint8s,
) -> None:
    """Up to ``rounds`` rounds of all strands, until one has come to its stop. A round uses up one word per strand."""
    mask = np.uint64((1 << len(window)) - 1)
    bit_0, bit_1, bit_2, bit_3, bit_4 = strand_bit[0], strand_bit[1], strand_bit[2], strand_bit[3], strand_bit[4]
    byte_0, byte_1, byte_2, byte_3, byte_4 = (
        strand_byte[0],
        strand_byte[1],
        strand_byte[2],
        strand_byte[3],
        strand_byte[4],
    )
    stop_0, stop_1, stop_2, stop_3, stop_4 = (
        strand_stop[0],
        strand_stop[1],
        strand_stop[2],
        strand_stop[3],
        strand_stop[4],
    )
    while (
        rounds > 0 and byte_0 < stop_0 and byte_1 < stop_1 and byte_2 < stop_2 and byte_3 < stop_3 and byte_4 < stop_4
    ):
        rounds -= 1
        word_0, word_1, word_2 = word_at(data, bit_0), word_at(data, bit_1), word_at(data, bit_2)
        word_3, word_4 = word_at(data, bit_3), word_at(data, bit_4)
        sum_0, sum_1, sum_2, sum_3, sum_4 = _ZERO, _ZERO, _ZERO, _ZERO, _ZERO
        for _ in range(_USABLE_BITS // len(window)):
            word_0, sum_0, byte_0 = look_up(entries, mask, entry_bytes, word_0, sum_0, byte_0, out)
            word_1, sum_1, byte_1 = look_up(entries, mask, entry_bytes, word_1, sum_1, byte_1, out)
            word_2, sum_2, byte_2 = look_up(entries, mask, entry_bytes, word_2, sum_2, byte_2, out)
            word_3, sum_3, byte_3 = look_up(entries, mask, entry_bytes, word_3, sum_3, byte_3, out)
            word_4, sum_4, byte_4 = look_up(entries, mask, entry_bytes, word_4, sum_4, byte_4, out)
        bit_0 += sum_0 & _BITS
        bit_1 += sum_1 & _BITS
        bit_2 += sum_2 & _BITS
        bit_3 += sum_3 & _BITS
        bit_4 += sum_4 & _BITS
    strand_bit[0], strand_bit[1], strand_bit[2], strand_bit[3], strand_bit[4] = bit_0, bit_1, bit_2, bit_3, bit_4
    strand_byte[0], strand_byte[1], strand_byte[2], strand_byte[3], strand_byte[4] = (
        byte_0,
        byte_1,
        byte_2,
        byte_3,
        byte_4,
    )


@kernel
def look_up(
    entries: Uint32s,
    mask: np.uint64,
    entry_bytes: tuple[int, ...],
    word: np.uint64,
    total: np.uint64,
    byte: np.uint64,
    out: Uint8s,
) -> tuple[np.uint64, np.uint64, np.uint64]:
    """Write the symbols that ``word`` begins with to ``byte``: (the rest of the word, total + entry, byte behind)."""
    entry = np.uint64(entries[word & mask])
    store_half_word(out, byte, entry >> _SYMBOLS)
    count = np.uint64(len(entry_bytes)) if len(entry_bytes) > 0 else entry >> _COUNT
    return word >> (entry & _BITS), total + entry, byte + count


@kernel
def finish_chunk(
    data: Uint8s,
    bit: np.uint64,
    bit_end: np.uint64,
    entries: Uint32s,
    lengths: Uint8s,
    out: Uint8s,
    byte: np.uint64,
    byte_end: np.uint64,
) -> int:
    """Decode the rest of a chunk and check that its bits end where they should."""
    mask = np.uint64(entries.size - 1)
    while byte < byte_end and bit <= bit_end:
        entry = np.uint64(entries[word_near(data, bit) & mask])
        symbols = entry >> _SYMBOLS
        end = byte + (entry >> _COUNT)
        if end <= byte_end:
            bit += entry & _BITS
        else:  # the entry's last symbols are read from what lies behind the chunk
            end = byte_end
            for i in range(end - byte):
                bit += np.uint64(lengths[(symbols >> (_BYTE_BITS * np.uint64(i))) & _LOWEST_BYTE])
        while byte < end:
            out[byte] = symbols & _LOWEST_BYTE
            symbols >>= _BYTE_BITS
            byte += _ONE
    if bit > bit_end:
        return ENDED_EARLY
    left = bit_end - bit
    if left > _IN_BYTE:
        return BYTES_LEFT
    if word_near(data, bit) & ((_ONE << left) - _ONE):
        return PADDING_SET
    return DECODED


@kernel
def word_at(data: Uint8s, bit: np.uint64) -> np.uint64:
    """The bits from ``bit`` on in the lowest places, at least 57 of them. Reads 8 bytes."""
    return load_word(data, bit >> _BYTE) >> (bit & _IN_BYTE)


@kernel
def word_near(data: Uint8s, bit: np.uint64) -> np.uint64:
    """As ``word_at``, but fewer bits where the data ends; from there on the result means nothing."""
    at = min(bit >> _BYTE, np.uint64(data.size - 8))
    return load_word(data, at) >> ((bit - (at << _BYTE)) & _SHIFT)
