"""Compiled inner loops of Huffman coding: counts, package-merge and encoding. Arguments are checked by ``huffman``."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from dchw.compile import kernel

Int64s = npt.NDArray[np.int64]
Uint8s = npt.NDArray[np.uint8]
Uint64s = npt.NDArray[np.uint64]
Symbols = npt.NDArray[np.uint8] | npt.NDArray[np.uint16]

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


@kernel
def count_symbols(symbols: npt.NDArray[np.integer], counts: Int64s) -> None:
    """Add how often each symbol occurs, at every fourth place in a row: equal ones in a row are not waited for."""
    for i in range(symbols.size):
        counts[i & 3, symbols[i]] += 1


@kernel
def chunk_bits(symbols: npt.NDArray[np.integer], chunk_offsets: Int64s, lengths: Uint8s, bits: Int64s) -> None:
    """Write the bits of every chunk's words: int64[chunks]."""
    for chunk in range(bits.size):
        total = np.int64(0)
        for i in range(chunk_offsets[chunk], chunk_offsets[chunk + 1]):
            total += lengths[symbols[i]]
        bits[chunk] = total


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
