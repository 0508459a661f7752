"""Compiled inner loops of Huffman coding: package-merge, encoding, and multi-symbol decoding of chunks in lockstep.

Arguments are checked by ``huffman``. Words of a stream start at any byte; their unused bits are written again or cut
off.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from dchw.compile import kernel
from dchw.compress.bitstream import load_word, store_word

Int64s = npt.NDArray[np.int64]
Uint8s = npt.NDArray[np.uint8]
Uint64s = npt.NDArray[np.uint64]
Symbols = npt.NDArray[np.uint8] | npt.NDArray[np.uint16]

DECODED, ENDED_EARLY, BYTES_LEFT, PADDING_SET = 0, 1, 2, 3

USABLE_BITS = 57  # bits of a word read at a byte that are left behind any bit of that byte
_ENTRY_BYTES = 5  # symbols in a table entry: four entries add up without overflow

# unsigned throughout: signed indices would be tested for counting from the end, and mixed ones become floats
_ZERO = np.uint64(0)
_ONE = np.uint64(1)
_BYTE = np.uint64(3)  # bits to bytes, as a shift
_IN_BYTE = np.uint64(7)
_SHIFT = np.uint64(63)
_WORD_BITS = np.uint64(64)
_THREE_WORDS = np.uint64(192)  # 0 modulo the word, and never less than a fill
_LENGTH = np.uint64(0xFF)
NO_WORD = np.uint64(128)
_BELOW_MISSING = np.uint64(127)
_BYTE_1 = np.uint64(8)
_BYTE_2 = np.uint64(16)
_WORD_BYTES = np.uint64(8)


@kernel
def count_symbols(symbols: Symbols, counts: Int64s) -> None:
    """Add the occurrences of each symbol to ``counts``."""
    # neighbours count in different tables, so that equal symbols do not wait for each other's store
    odd = np.zeros_like(counts)
    even_count = symbols.size & ~1
    for i in range(0, even_count, 2):
        counts[symbols[i]] += 1
        odd[symbols[i + 1]] += 1
    if even_count < symbols.size:
        counts[symbols[even_count]] += 1
    counts += odd


@kernel
def package_merge(counts: Int64s, limit: int) -> Uint8s:
    """Lengths of n >= 2 symbols given in ascending order of count, the longest first: uint8[n].

    Level by level from the deepest, packages of two neighbours are merged with the symbols' own coins; a coin comes
    before a package of equal weight. The 2n - 2 lightest items of the last level are paid: a symbol's length is the
    number of levels on which its coin is among them.
    """
    n = counts.size
    is_coin = np.zeros((limit, 2 * n), dtype=np.bool_)
    previous = np.zeros(2 * n, dtype=np.int64)
    current = np.zeros(2 * n, dtype=np.int64)
    size = 0
    for level in range(limit):
        packages = size // 2
        coin = 0
        package = 0
        size = n + packages
        for item in range(size):
            weight = np.int64(0)
            if package < packages:
                weight = previous[2 * package] + previous[2 * package + 1]
            if package == packages or (coin < n and counts[coin] <= weight):
                current[item] = counts[coin]
                is_coin[level, item] = True
                coin += 1
            else:
                current[item] = weight
                package += 1
        previous, current = current, previous
    lengths = np.zeros(n, dtype=np.uint8)
    take = 2 * n - 2
    for level in range(limit - 1, -1, -1):
        coins = 0
        for item in range(take):
            if is_coin[level, item]:
                coins += 1
        for coin in range(coins):
            lengths[coin] += 1
        take = 2 * (take - coins)
    return lengths


@kernel
def pair_words(words: Uint64s, shift: int) -> Uint64s:
    """Words of two symbols in a row, indexed by ``first | second << shift``, in the layout of ``encode_chunks``."""
    pairs = np.zeros(1 << (2 * shift), dtype=np.uint64)
    for second in range(words.size):
        bits = words[second] & _LENGTH
        for first in range(words.size):
            both = words[first] & _LENGTH | bits
            if both < NO_WORD:
                both = (words[first] & ~_LENGTH) >> bits | words[second] & ~_LENGTH | (words[first] & _LENGTH) + bits
            pairs[first | (second << shift)] = both & ~_LENGTH | (NO_WORD if both & NO_WORD else both & _LENGTH)
    return pairs


@kernel
def encode_chunks(
    symbols: Symbols,
    chunk_offsets: Int64s,
    words: Uint64s,
    pairs: Uint64s,
    shift: int,
    out: Uint64s,
    chunk_bits: Int64s,
) -> bool:
    """Write the chunks back to back, each from a byte on; true when a symbol has no code.

    A table entry has its word in the highest bits and its length in the lowest byte, 128 where there is no word. Words
    are pushed into a 64-bit container from the top; what lies below the bits that wait is not clean, and is dropped
    when they are stored. ``pairs``, of words of at most 12 bits, is used when it has more than one element: at most 7
    waiting bits and four words of 12 bits, or three of 16, fill 55 bits and leave the lowest byte alone.
    """
    seen = _ZERO
    at = _ZERO
    width = np.uint64(shift)
    for chunk in range(chunk_offsets.size - 1):
        chunk_start = at
        container = _ZERO
        fill = _ZERO
        i = chunk_offsets[chunk]
        end = chunk_offsets[chunk + 1]
        if pairs.size > 1:
            for j in range(i, end - 3, 4):
                first = pairs[np.uint64(symbols[j]) | (np.uint64(symbols[j + 1]) << width)]
                second = pairs[np.uint64(symbols[j + 2]) | (np.uint64(symbols[j + 3]) << width)]
                container = container >> (first & _SHIFT) | first
                container = container >> (second & _SHIFT) | second
                fill += (first & _LENGTH) + (second & _LENGTH)
                seen |= fill
                fill &= _BELOW_MISSING
                out[at] = container >> ((_THREE_WORDS - fill) & _SHIFT)
                at += fill >> _BYTE
                fill &= _IN_BYTE
            i += (end - i) & ~3
        else:
            for j in range(i, end - 2, 3):
                first = words[symbols[j]]
                second = words[symbols[j + 1]]
                third = words[symbols[j + 2]]
                container = container >> (first & _SHIFT) | first
                container = container >> (second & _SHIFT) | second
                container = container >> (third & _SHIFT) | third
                fill += (first & _LENGTH) + (second & _LENGTH) + (third & _LENGTH)
                seen |= fill
                fill &= _BELOW_MISSING
                out[at] = container >> ((_THREE_WORDS - fill) & _SHIFT)
                at += fill >> _BYTE
                fill &= _IN_BYTE
            i += (end - i) // 3 * 3
        for j in range(i, end):
            entry = words[symbols[j]]
            container = container >> (entry & _SHIFT) | entry
            fill += entry & _LENGTH
            seen |= fill
            fill &= _BELOW_MISSING
            out[at] = container >> ((_THREE_WORDS - fill) & _SHIFT)
            at += fill >> _BYTE
            fill &= _IN_BYTE
        chunk_bits[chunk] = np.int64(at - chunk_start) * 8 + np.int64(fill)
        if fill:
            out[at] = container >> (_WORD_BITS - fill)
            at += _ONE
    return bool(seen >= NO_WORD)


@kernel
def fill_decoding_table(
    symbols: Int64s, lengths: Int64s, window_bits: int, item_bytes: int, entries: Uint64s
) -> np.int64:
    """``DecodingTable.entries`` from the used symbols in canonical order and their lengths.

    Returns the most symbol bytes in an entry.
    """
    # first every window's first symbol, then, from that, as many as fit
    first = np.zeros(entries.size, dtype=np.int64)
    word = np.int64(0)
    for i in range(symbols.size):
        for window in range(word, entries.size, np.int64(1) << lengths[i]):
            first[window] = (lengths[i] << 16) | symbols[i]
        # words count up; as they are bit-reversed, the carry goes down from the highest bit
        bit = np.int64(1) << (lengths[i] - 1)
        while word & bit:
            word ^= bit
            bit >>= 1
        word |= bit
    most_bytes = np.int64(0)
    for window in range(entries.size):
        entry = np.int64(0)
        used_bits = np.int64(0)
        used_bytes = np.int64(0)
        while used_bytes + item_bytes <= _ENTRY_BYTES:
            step = first[window >> used_bits]
            bits = step >> 16
            if used_bits + bits > window_bits:
                break
            entry |= (step & 0xFFFF) << (8 * used_bytes)
            used_bits += bits
            used_bytes += item_bytes
        entries[window] = (entry << 16) | (used_bytes << 8) | used_bits
        most_bytes = max(most_bytes, used_bytes)
    return most_bytes


@kernel
def decode_chunks(
    data: Uint8s,
    bit_offsets: Int64s,
    byte_ends: Int64s,
    entries: Uint64s,
    lengths: Uint8s,
    window_bits: int,
    lookups: tuple[int, ...],
    most_bytes: int,
    item_bytes: int,
    out: Uint8s,
    status: Int64s,
) -> None:
    """Decode chunk i from ``bit_offsets[i:i + 2]`` to bytes ``byte_ends[i:i + 2]`` of ``out``; ``status`` = (what, i).

    ``data`` has at least 8 bytes. Four chunks advance together, so that their table look-ups overlap, until one comes
    close to the end of its symbols; that one is finished alone and its lane takes the next chunk. Every store is eight
    bytes within its own chunk's symbols. A damaged chunk may read on into the next ones' bits, never beyond the data;
    that it has is seen when it is finished. A round makes one look-up per element of ``lookups`` in a loaded word (a
    tuple, whose length the compiler knows, so that it unrolls them); ``sum_i`` adds up their entries: bits used in the
    lowest byte, symbol bytes in the next.
    """
    chunks = bit_offsets.size - 1
    reach = len(lookups) * most_bytes + 8 - most_bytes  # bytes that a round may write
    last_word = data.size - 8
    mask = np.uint64((1 << window_bits) - 1)
    lane_chunk = np.full(4, -1, dtype=np.int64)
    lane_bit = np.zeros(4, dtype=np.uint64)
    lane_byte = np.zeros(4, dtype=np.uint64)
    lane_stop = np.zeros(4, dtype=np.uint64)  # where a round no longer fits
    next_chunk = 0
    lanes = 4
    while lanes > 0:
        rounds = np.int64(1) << 62  # that surely stay within the data: each uses less than 8 bytes
        lane = 0
        while lane < lanes:
            chunk = lane_chunk[lane]
            if chunk >= 0:
                room = (last_word - np.int64(lane_bit[lane] >> _BYTE)) >> 3
                if room > 0 and lane_byte[lane] < lane_stop[lane]:
                    rounds = min(rounds, room)
                    lane += 1
                    continue
                problem = finish_chunk(
                    data, lane_bit[lane], np.uint64(bit_offsets[chunk + 1]), entries, lengths, mask,
                    out, lane_byte[lane], np.uint64(byte_ends[chunk + 1]), item_bytes,
                )  # fmt: skip
                if problem != DECODED:
                    status[0] = problem
                    status[1] = chunk
                    return
            if next_chunk < chunks:
                lane_chunk[lane] = next_chunk
                lane_bit[lane] = bit_offsets[next_chunk]
                lane_byte[lane] = byte_ends[next_chunk]
                lane_stop[lane] = max(byte_ends[next_chunk + 1] - reach + 1, 0)
                next_chunk += 1
            else:
                lanes -= 1
                lane_chunk[lane] = lane_chunk[lanes]
                lane_bit[lane] = lane_bit[lanes]
                lane_byte[lane] = lane_byte[lanes]
                lane_stop[lane] = lane_stop[lanes]
        if lanes == 4:
            bit_0, bit_1, bit_2, bit_3 = lane_bit[0], lane_bit[1], lane_bit[2], lane_bit[3]
            byte_0, byte_1, byte_2, byte_3 = lane_byte[0], lane_byte[1], lane_byte[2], lane_byte[3]
            stop_0, stop_1, stop_2, stop_3 = lane_stop[0], lane_stop[1], lane_stop[2], lane_stop[3]
            while rounds > 0 and byte_0 < stop_0 and byte_1 < stop_1 and byte_2 < stop_2 and byte_3 < stop_3:
                rounds -= 1
                word_0 = load_word(data, bit_0 >> _BYTE) >> (bit_0 & _IN_BYTE)
                word_1 = load_word(data, bit_1 >> _BYTE) >> (bit_1 & _IN_BYTE)
                word_2 = load_word(data, bit_2 >> _BYTE) >> (bit_2 & _IN_BYTE)
                word_3 = load_word(data, bit_3 >> _BYTE) >> (bit_3 & _IN_BYTE)
                sum_0 = _ZERO
                sum_1 = _ZERO
                sum_2 = _ZERO
                sum_3 = _ZERO
                for _ in range(len(lookups)):
                    entry_0 = entries[word_0 & mask]
                    entry_1 = entries[word_1 & mask]
                    entry_2 = entries[word_2 & mask]
                    entry_3 = entries[word_3 & mask]
                    word_0 >>= entry_0 & _SHIFT
                    word_1 >>= entry_1 & _SHIFT
                    word_2 >>= entry_2 & _SHIFT
                    word_3 >>= entry_3 & _SHIFT
                    store_word(out, byte_0 + ((sum_0 >> _BYTE_1) & _LENGTH), entry_0 >> _BYTE_2)
                    store_word(out, byte_1 + ((sum_1 >> _BYTE_1) & _LENGTH), entry_1 >> _BYTE_2)
                    store_word(out, byte_2 + ((sum_2 >> _BYTE_1) & _LENGTH), entry_2 >> _BYTE_2)
                    store_word(out, byte_3 + ((sum_3 >> _BYTE_1) & _LENGTH), entry_3 >> _BYTE_2)
                    sum_0 += entry_0
                    sum_1 += entry_1
                    sum_2 += entry_2
                    sum_3 += entry_3
                bit_0 += sum_0 & _LENGTH
                bit_1 += sum_1 & _LENGTH
                bit_2 += sum_2 & _LENGTH
                bit_3 += sum_3 & _LENGTH
                byte_0 += (sum_0 >> _BYTE_1) & _LENGTH
                byte_1 += (sum_1 >> _BYTE_1) & _LENGTH
                byte_2 += (sum_2 >> _BYTE_1) & _LENGTH
                byte_3 += (sum_3 >> _BYTE_1) & _LENGTH
            lane_bit[0], lane_bit[1], lane_bit[2], lane_bit[3] = bit_0, bit_1, bit_2, bit_3
            lane_byte[0], lane_byte[1], lane_byte[2], lane_byte[3] = byte_0, byte_1, byte_2, byte_3
        elif lanes > 0:
            bit_0, byte_0, stop_0 = lane_bit[0], lane_byte[0], lane_stop[0]
            while rounds > 0 and byte_0 < stop_0:
                rounds -= 1
                word_0 = load_word(data, bit_0 >> _BYTE) >> (bit_0 & _IN_BYTE)
                for _ in range(len(lookups)):
                    entry_0 = entries[word_0 & mask]
                    word_0 >>= entry_0 & _SHIFT
                    store_word(out, byte_0, entry_0 >> _BYTE_2)
                    bit_0 += entry_0 & _LENGTH
                    byte_0 += (entry_0 >> _BYTE_1) & _LENGTH
            lane_bit[0], lane_byte[0] = bit_0, byte_0


@kernel
def finish_chunk(
    data: Uint8s,
    bit: np.uint64,
    bit_end: np.uint64,
    entries: Uint64s,
    lengths: Uint8s,
    mask: np.uint64,
    out: Uint8s,
    byte: np.uint64,
    byte_end: np.uint64,
    item_bytes: int,
) -> int:
    """Decode the rest of a chunk, its last symbols one by one, and check that its bits end where they should."""
    while byte + _WORD_BYTES <= byte_end:
        entry = entries[bits_at(data, bit) & mask]
        store_word(out, byte, entry >> _BYTE_2)
        bit += entry & _LENGTH
        byte += (entry >> _BYTE_1) & _LENGTH
    symbol_mask = np.uint64(0xFF if item_bytes == 1 else 0xFFFF)
    while byte < byte_end and bit <= bit_end:
        symbol = (entries[bits_at(data, bit) & mask] >> _BYTE_2) & symbol_mask
        bit += np.uint64(lengths[symbol])
        out[byte] = symbol & _LENGTH
        if item_bytes == 2:
            out[byte + _ONE] = symbol >> _BYTE_1
        byte += np.uint64(item_bytes)
    if bit > bit_end:
        return ENDED_EARLY
    left = bit_end - bit
    if left > _IN_BYTE:
        return BYTES_LEFT
    if bits_at(data, bit) & ((_ONE << left) - _ONE):
        return PADDING_SET
    return DECODED


@kernel
def bits_at(data: Uint8s, bit: np.uint64) -> np.uint64:
    """The bits from ``bit`` on in the lowest places, at least 57 of them or all up to the end of the data.

    From the end of the data on the result means nothing.
    """
    at = min(bit >> _BYTE, np.uint64(data.size - 8))
    return load_word(data, at) >> ((bit - (at << _BYTE)) & _SHIFT)
