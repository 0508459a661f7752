"""Compiled inner loops of Huffman coding: package-merge, encoding, and multi-symbol decoding of chunks in lockstep.

Arguments are checked by ``huffman``. Words of a stream are int64 views that start at every byte (``word_view``);
shifts stay below 56 bits where a word is filled, so the sign bit never takes part.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from dchw.compile import kernel

Int64s = npt.NDArray[np.int64]
Uint8s = npt.NDArray[np.uint8]
Symbols = npt.NDArray[np.uint8] | npt.NDArray[np.uint16]

DECODED, ENDED_EARLY, BYTES_LEFT, PADDING_SET = 0, 1, 2, 3

_BYTES_AT = 48  # position of an entry's number of symbol bytes
_BITS_AT = 56  # position of an entry's number of code bits
_ENTRY_BYTES = 6
_USABLE_BITS = 57  # bits of a word read at a byte that are left behind any bit of that byte


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
def pair_words(words: Int64s, shift: int) -> Int64s:
    """Words of two symbols in a row, indexed by ``first | second << shift``, in the layout of ``words``."""
    pairs = np.zeros(1 << (2 * shift), dtype=np.int64)
    mask = (np.int64(1) << _BITS_AT) - 1
    for second in range(words.size):
        for first in range(words.size):
            if words[first] < 0 or words[second] < 0:
                pairs[first | (second << shift)] = words[first] if words[first] < 0 else words[second]
            else:
                bits = words[first] >> _BITS_AT
                word = (words[first] & mask) | ((words[second] & mask) << bits)
                pairs[first | (second << shift)] = word | ((bits + (words[second] >> _BITS_AT)) << _BITS_AT)
    return pairs


@kernel
def encode_chunks(
    symbols: Symbols,
    chunk_offsets: Int64s,
    words: Int64s,
    pairs: Int64s,
    shift: int,
    longest: int,
    out: Int64s,
    chunk_bits: Int64s,
) -> bool:
    """Write the chunks back to back, each from a byte on; true when a symbol has no code.

    ``pairs`` is used when it has more than one element; up to 7 waiting bits and four words of 12 bits, or three of
    16, fill at most 55 bits.
    """
    mask = (np.int64(1) << _BITS_AT) - 1
    missing = np.int64(0)
    at = 0
    quads = pairs.size > 1 and longest <= 12
    for chunk in range(chunk_offsets.size - 1):
        chunk_start = at
        word = np.int64(0)
        fill = np.int64(0)
        i = chunk_offsets[chunk]
        end = chunk_offsets[chunk + 1]
        if quads:
            for j in range(i, end - 3, 4):
                first = pairs[np.int64(symbols[j]) | (np.int64(symbols[j + 1]) << shift)]
                second = pairs[np.int64(symbols[j + 2]) | (np.int64(symbols[j + 3]) << shift)]
                missing |= first | second
                first_bits = (first >> _BITS_AT) & 63
                both = (first & mask) | ((second & mask) << first_bits)
                word |= both << fill
                fill += first_bits + ((second >> _BITS_AT) & 63)
                out[at] = word
                at += fill >> 3
                word >>= fill & 56
                fill &= 7
            i += (end - i) & ~3
        else:
            for j in range(i, end - 2, 3):
                first = words[symbols[j]]
                second = words[symbols[j + 1]]
                third = words[symbols[j + 2]]
                missing |= first | second | third
                first_bits = (first >> _BITS_AT) & 31
                two_bits = first_bits + ((second >> _BITS_AT) & 31)
                word |= ((first & mask) | ((second & mask) << first_bits) | ((third & mask) << two_bits)) << fill
                fill += two_bits + ((third >> _BITS_AT) & 31)
                out[at] = word
                at += fill >> 3
                word >>= fill & 56
                fill &= 7
            i += (end - i) // 3 * 3
        for j in range(i, end):
            entry = words[symbols[j]]
            missing |= entry
            word |= (entry & mask) << fill
            fill += (entry >> _BITS_AT) & 31
            out[at] = word
            at += fill >> 3
            word >>= fill & 56
            fill &= 7
        chunk_bits[chunk] = 8 * (at - chunk_start) + fill
        if fill:
            out[at] = word
            at += 1
    return bool(missing < 0)


@kernel
def fill_decoding_table(
    symbols: Int64s, lengths: Int64s, codes: Int64s, window_bits: int, item_bytes: int, entries: Int64s
) -> None:
    """``DecodingTable.entries`` from the used symbols in canonical order, their lengths and bit-reversed words."""
    # first every window's first symbol, then, from that, as many as fit
    first = np.zeros(entries.size, dtype=np.int64)
    for i in range(symbols.size):
        for window in range(codes[i], entries.size, np.int64(1) << lengths[i]):
            first[window] = (lengths[i] << 16) | symbols[i]
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
        entries[window] = entry | (used_bytes << _BYTES_AT) | (used_bits << _BITS_AT)


@kernel
def decode_chunks(
    data: Int64s,
    bit_offsets: Int64s,
    byte_ends: Int64s,
    entries: Int64s,
    lengths: Uint8s,
    window_bits: int,
    most_bytes: int,
    item_bytes: int,
    out: Uint8s,
    out_words: Int64s,
    status: Int64s,
) -> None:
    """Decode chunk i from ``bit_offsets[i:i + 2]`` to bytes ``byte_ends[i:i + 2]`` of ``out``; ``status`` = (what, i).

    Four chunks advance together, so that their table look-ups overlap. A burst is as many rounds as every lane can
    take without passing the end of its bits or of its symbols, so rounds check nothing; every store is eight bytes
    within its own chunk's symbols. A lane without a round left is finished symbol by symbol and takes the next chunk.
    """
    chunks = bit_offsets.size - 1
    depth = _USABLE_BITS // window_bits  # look-ups per loaded word
    round_bytes = depth * most_bytes
    round_bits = depth * window_bits
    spare_bytes = most_bytes - 8  # the last of a burst's stores reaches 8 - most_bytes beyond what it may advance
    mask = (1 << window_bits) - 1
    lane_chunk = np.full(4, -1, dtype=np.int64)
    lane_bit = np.zeros(4, dtype=np.int64)
    lane_byte = np.zeros(4, dtype=np.int64)
    next_chunk = 0
    lanes = 4
    while lanes > 0:
        rounds = np.int64(1) << 62
        lane = 0
        while lane < lanes:
            chunk = lane_chunk[lane]
            room = np.int64(0)
            if chunk >= 0:
                bits_left = bit_offsets[chunk + 1] - lane_bit[lane]
                bytes_left = byte_ends[chunk + 1] - lane_byte[lane]
                room = min(bits_left // round_bits, (bytes_left + spare_bytes) // round_bytes)
                if room <= 0:
                    finish_chunk(
                        data, lane_bit[lane], bit_offsets[chunk + 1], entries, lengths, mask, item_bytes,
                        out, lane_byte[lane], byte_ends[chunk + 1], chunk, status,
                    )  # fmt: skip
                    if status[0] != 0:
                        return
            if room > 0:
                rounds = min(rounds, room)
                lane += 1
            elif next_chunk < chunks:
                lane_chunk[lane] = next_chunk
                lane_bit[lane] = bit_offsets[next_chunk]
                lane_byte[lane] = byte_ends[next_chunk]
                next_chunk += 1
            else:
                lanes -= 1
                lane_chunk[lane] = lane_chunk[lanes]
                lane_bit[lane] = lane_bit[lanes]
                lane_byte[lane] = lane_byte[lanes]
        if lanes == 4:
            bit_0, bit_1, bit_2, bit_3 = lane_bit[0], lane_bit[1], lane_bit[2], lane_bit[3]
            byte_0, byte_1, byte_2, byte_3 = lane_byte[0], lane_byte[1], lane_byte[2], lane_byte[3]
            for _ in range(rounds):
                word_0 = data[bit_0 >> 3] >> (bit_0 & 7)
                word_1 = data[bit_1 >> 3] >> (bit_1 & 7)
                word_2 = data[bit_2 >> 3] >> (bit_2 & 7)
                word_3 = data[bit_3 >> 3] >> (bit_3 & 7)
                for _ in range(depth):
                    entry_0 = entries[word_0 & mask]
                    entry_1 = entries[word_1 & mask]
                    entry_2 = entries[word_2 & mask]
                    entry_3 = entries[word_3 & mask]
                    out_words[byte_0] = entry_0
                    out_words[byte_1] = entry_1
                    out_words[byte_2] = entry_2
                    out_words[byte_3] = entry_3
                    byte_0 += (entry_0 >> _BYTES_AT) & 15
                    byte_1 += (entry_1 >> _BYTES_AT) & 15
                    byte_2 += (entry_2 >> _BYTES_AT) & 15
                    byte_3 += (entry_3 >> _BYTES_AT) & 15
                    word_0 >>= entry_0 >> _BITS_AT
                    word_1 >>= entry_1 >> _BITS_AT
                    word_2 >>= entry_2 >> _BITS_AT
                    word_3 >>= entry_3 >> _BITS_AT
                    bit_0 += entry_0 >> _BITS_AT
                    bit_1 += entry_1 >> _BITS_AT
                    bit_2 += entry_2 >> _BITS_AT
                    bit_3 += entry_3 >> _BITS_AT
            lane_bit[0], lane_bit[1], lane_bit[2], lane_bit[3] = bit_0, bit_1, bit_2, bit_3
            lane_byte[0], lane_byte[1], lane_byte[2], lane_byte[3] = byte_0, byte_1, byte_2, byte_3
        elif lanes > 0:
            bit_0, byte_0 = lane_bit[0], lane_byte[0]
            for _ in range(rounds):
                word_0 = data[bit_0 >> 3] >> (bit_0 & 7)
                for _ in range(depth):
                    entry_0 = entries[word_0 & mask]
                    out_words[byte_0] = entry_0
                    byte_0 += (entry_0 >> _BYTES_AT) & 15
                    word_0 >>= entry_0 >> _BITS_AT
                    bit_0 += entry_0 >> _BITS_AT
            lane_bit[0], lane_byte[0] = bit_0, byte_0


@kernel
def finish_chunk(
    data: Int64s,
    bit: int,
    bit_end: int,
    entries: Int64s,
    lengths: Uint8s,
    mask: int,
    item_bytes: int,
    out: Uint8s,
    byte: int,
    byte_end: int,
    chunk: int,
    status: Int64s,
) -> None:
    """Decode the rest of a chunk symbol by symbol, and check that its bits end where they should."""
    while byte < byte_end:
        symbol = entries[(data[bit >> 3] >> (bit & 7)) & mask]
        symbol &= 0xFF if item_bytes == 1 else 0xFFFF
        bit += int(lengths[symbol])
        if bit > bit_end:
            status[0] = ENDED_EARLY
            status[1] = chunk
            return
        out[byte] = symbol & 0xFF
        if item_bytes == 2:
            out[byte + 1] = symbol >> 8
        byte += item_bytes
    if bit_end - bit >= 8:
        status[0] = BYTES_LEFT
        status[1] = chunk
    elif bit < bit_end and (data[bit >> 3] >> (bit & 7)) & ((1 << (bit_end - bit)) - 1):
        status[0] = PADDING_SET
        status[1] = chunk
