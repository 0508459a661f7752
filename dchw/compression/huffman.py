"""Canonical, length-limited Huffman codes: lengths, code words, and strict coding of chunks of symbols.

The code lengths are the whole code table. Code words are canonical: counted up, shorter ones first, among equal
lengths the lower symbol first (the order of DEFLATE, RFC 1951, 3.2.2). They are stored bit-reversed, so that the first
bit of a word is the lowest bit of the stream (see ``bitstream``). A symbol that does not occur has length 0 and no
word. An alphabet of one used symbol has the word ``0`` of one bit; every other code is complete.

Length-limited lengths are optimal, by package-merge (Larmore and Hirschberg, J. ACM 37(3), 1990).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from dchw.compression import huffman_decoding as decoding
from dchw.compression import huffman_kernels as kernels
from dchw.compression.bitstream import WORD_BYTES, Bytes, padded, word_view
from dchw.quantities import DchwError, FileFormatError, ceil_div

Symbols = npt.NDArray[np.uint8] | npt.NDArray[np.uint16]
Int64s = npt.NDArray[np.int64]

MAX_CODE_BITS = 16
MAX_ALPHABET = 1 << 16
_WINDOW_BITS = 12  # of a decoding table, where no code word is longer: measured fastest
_PAIRS_PAY = 0.2  # share of windows with two code words from which on entries of several symbols are faster
_MAX_COUNT = 1 << 56  # package weights stay below MAX_CODE_BITS times the sum of the counts


def code_lengths(counts: npt.ArrayLike, limit: int) -> npt.NDArray[np.uint8]:
    """Code lengths in bits that minimise ``sum(counts * lengths)`` with none above ``limit``: uint8[alphabet].

    A count of 0 gives length 0, a single used symbol length 1. Among equal counts the lower symbol's word is never
    longer, and of equally good lengths those with the fewest long words are taken: equal counts give equal tables.
    Raises DchwError when ``limit`` is not 1 to 16 or cannot tell the used symbols apart (``limit < ceil(log2(used))``).
    """
    occurrences = np.asarray(counts)
    if occurrences.ndim != 1 or (occurrences.size and occurrences.dtype.kind not in "ui"):
        raise DchwError(
            f"code lengths: expected one integer count per symbol; got {occurrences.dtype} of shape "
            f"{occurrences.shape}; count the symbols"
        )
    if occurrences.size > MAX_ALPHABET:
        raise DchwError(f"code lengths: expected at most {MAX_ALPHABET} symbols; got {occurrences.size}; use fewer")
    if occurrences.size and (int(occurrences.min()) < 0 or sum(map(int, occurrences[occurrences > 0])) > _MAX_COUNT):
        raise DchwError(f"code lengths: expected counts of 0 and above, in total at most 2^56; got {occurrences}")
    used = np.flatnonzero(occurrences)
    least = minimum_limit(used.size)
    if not max(least, 1) <= limit <= MAX_CODE_BITS:
        raise DchwError(
            f"code lengths: expected a limit of {max(least, 1)} to {MAX_CODE_BITS} bits for {used.size} symbols; "
            f"got {limit}; change the limit"
        )
    lengths = np.zeros(occurrences.size, dtype=np.uint8)
    if used.size == 1:
        lengths[used] = 1
    elif used.size > 1:
        # rarest first; of equal counts the higher symbol first, because the first symbols get the longest words
        order = used[np.lexsort((-used, occurrences[used]))]
        lengths[order] = kernels.package_merge(np.ascontiguousarray(occurrences[order], dtype=np.int64), limit)
    return lengths


def symbol_counts(symbols: npt.NDArray[np.integer], alphabet: int = 0) -> Int64s:
    """How often each symbol occurs: int64, at least ``alphabet`` long and as long as the largest symbol needs."""
    flat = symbols.reshape(-1)
    counts = np.zeros((4, max(alphabet, int(flat.max()) + 1 if flat.size else 0)), np.int64)
    kernels.count_symbols(flat, counts)
    total: Int64s = counts.sum(axis=0)
    return total


def minimum_limit(used_symbols: int) -> int:
    """The shortest code-length limit that can tell ``used_symbols`` symbols apart, in bits."""
    return max(int(used_symbols) - 1, 0).bit_length()


def canonical_codes(lengths: npt.ArrayLike) -> npt.NDArray[np.uint32]:
    """Code words, bit-reversed for a stream that starts at the lowest bit: uint32[alphabet], 0 for unused symbols.

    Raises FileFormatError unless the lengths form a complete code (or one symbol of one bit, or nothing).
    """
    table = _lengths(lengths)
    codes = np.zeros(table.size, dtype=np.uint32)
    order = _canonical_order(table)
    sizes = table[order].astype(np.int64)
    if order.size:
        # left-aligned words of MAX_CODE_BITS bits count up by the share of code space that each word takes
        shares = np.int64(1) << (MAX_CODE_BITS - sizes)
        left_aligned = np.cumsum(shares) - shares
        codes[order] = _reversed_bits(left_aligned).astype(np.uint32)
    return codes


def coded_bits(counts: npt.ArrayLike, lengths: npt.ArrayLike) -> int:
    """Bits of symbols that occur ``counts`` times each, before chunks are padded to bytes."""
    return int(np.dot(np.asarray(counts, dtype=np.int64), np.asarray(lengths, dtype=np.int64)))


def symbol_bits(symbols: npt.ArrayLike, lengths: npt.ArrayLike) -> npt.NDArray[np.uint8]:
    """Bits of each symbol's code word: uint8[n]. Raises DchwError for a symbol without one."""
    table = _lengths(lengths)
    bits = table[_symbols(symbols, table.size, DchwError)]
    if bits.size and not bits.all():
        raise DchwError("Huffman coding: expected symbols that have a code; got one without; count the same symbols")
    return bits


def chunk_bits(symbols: npt.NDArray[np.integer], chunk_offsets: Int64s, lengths: npt.NDArray[np.uint8]) -> Int64s:
    """Bits of the words of every chunk, padding not included: int64[chunks]."""
    bits = np.empty(chunk_offsets.size - 1, np.int64)
    kernels.chunk_bits(symbols, chunk_offsets, lengths, bits)
    return bits


def encode(symbols: npt.ArrayLike, lengths: npt.ArrayLike) -> tuple[Bytes, int]:
    """Symbols as one run of code words: (uint8[ceil(bits / 8)], bits)."""
    array = np.asarray(symbols).reshape(-1)
    data, _, chunk_bits = _encode(array, np.array([0, array.size]), lengths)
    return data, int(chunk_bits[0])


def encode_chunks(symbols: npt.ArrayLike, chunk_offsets: npt.ArrayLike, lengths: npt.ArrayLike) -> tuple[Bytes, Int64s]:
    """Symbols as chunks that each start at a byte: (uint8[...], byte_offsets int64[c + 1]).

    Chunk i holds ``symbols[chunk_offsets[i]:chunk_offsets[i + 1]]``; its last byte is padded with zero bits. Raises
    DchwError for a symbol without a code and for offsets that do not cover the symbols in order.
    """
    data, byte_offsets, _ = _encode(symbols, chunk_offsets, lengths)
    return data, byte_offsets


def decode(data: npt.ArrayLike, count: int, lengths: npt.ArrayLike) -> Symbols:
    """The inverse of ``encode``: ``count`` symbols from exactly the bytes they fill. Raises as ``decode_chunks``."""
    source = np.asarray(data, dtype=np.uint8).reshape(-1)
    return decode_chunks(source, np.array([0, source.size]), np.array([0, count]), lengths)


def decode_chunks(
    data: npt.ArrayLike, byte_offsets: npt.ArrayLike, symbol_offsets: npt.ArrayLike, lengths: npt.ArrayLike
) -> Symbols:
    """The inverse of ``encode_chunks``: uint8[n], or uint16[n] for alphabets above 256.

    Raises FileFormatError when the lengths are no complete code (or one symbol of one bit), when offsets do not cover
    data and symbols in order, and when a chunk's bits end early, hold an unused code word, leave bytes over, or pad
    with anything but zeros.
    """
    table = _lengths(lengths)
    source = np.asarray(data, dtype=np.uint8).reshape(-1)
    starts = np.ascontiguousarray(np.asarray(byte_offsets).reshape(-1), dtype=np.int64)
    ends = np.ascontiguousarray(np.asarray(symbol_offsets).reshape(-1), dtype=np.int64)
    _check_offsets(starts, source.size, "bytes", FileFormatError)
    count = int(ends[-1]) if ends.size else 0
    _check_offsets(ends, count, "symbols", FileFormatError)
    if starts.size != ends.size:
        raise FileFormatError(
            f"Huffman chunks: expected byte and symbol offsets of equally many chunks; "
            f"got {starts.size - 1} and {ends.size - 1}; the data is damaged"
        )
    if count > 8 * source.size:
        raise FileFormatError(
            f"Huffman chunks: expected at least one bit per symbol; got {source.size} bytes for {count} symbols; "
            "the data is damaged"
        )
    dtype = _symbol_dtype(table.size)
    used = np.flatnonzero(table)
    if used.size == 0 and count:
        raise FileFormatError("Huffman chunks: expected a code table; got one without symbols; the data is damaged")
    if used.size <= 1:
        _check_single_symbol(source, starts, ends)
        constant: Symbols = np.full(count, used[0] if used.size else 0, dtype=dtype)
        return constant
    entries, several = _decoding_entries(table)
    item_bytes = dtype.itemsize
    out = np.empty(count * item_bytes, dtype=np.uint8)
    status = np.zeros(2, dtype=np.int64)
    stream = np.ascontiguousarray(source if source.size >= WORD_BYTES else padded(source)).view()
    stream.flags.writeable = False  # one compiled version, whether the caller's bytes may be written or not
    strand_ends = np.searchsorted(ends, count * np.arange(1, decoding.STRANDS + 1) // decoding.STRANDS)
    strand_ends[-1] = ends.size - 1
    decoding.decode_chunks(
        stream,
        starts * 8,
        ends * item_bytes,
        strand_ends,
        entries,
        table,
        (0,) * (entries.size.bit_length() - 1),
        () if several else (0,) * item_bytes,
        out,
        status,
    )
    if status[0] != decoding.DECODED:
        problem = {
            decoding.ENDED_EARLY: "expected more bits; got the end of the chunk",
            decoding.BYTES_LEFT: "expected the chunk's last byte; got more bytes behind it",
            decoding.PADDING_SET: "expected zero padding behind the last code word; got set bits",
        }[int(status[0])]
        raise FileFormatError(f"Huffman chunk {int(status[1])}: {problem}; the data is damaged")
    symbols: Symbols = out.view(dtype)
    return symbols


def _decoding_entries(table: npt.NDArray[np.uint8]) -> tuple[npt.NDArray[np.uint32], bool]:
    # of a complete code of two symbols or more; whether entries hold several symbols or just one each
    window_bits = _WINDOW_BITS if int(table.max()) <= _WINDOW_BITS else MAX_CODE_BITS
    # the share of windows of random bits that hold two code words
    lengths = np.arange(1, MAX_CODE_BITS + 1)
    shares = np.bincount(table, minlength=MAX_CODE_BITS + 1)[1:] * 0.5**lengths
    pairs = float(np.convolve(shares, shares)[: window_bits - 1].sum())
    item_bytes = _symbol_dtype(table.size).itemsize
    several = item_bytes == 1 and pairs >= _PAIRS_PAY
    most_bytes = decoding.ENTRY_BYTES if several else item_bytes
    order = _canonical_order(table)
    entries = np.empty(1 << window_bits, dtype=np.uint32)
    decoding.fill_decoding_table(order, table[order].astype(np.int64), window_bits, item_bytes, most_bytes, entries)
    return entries, several


def _encode(
    symbols: npt.ArrayLike, chunk_offsets: npt.ArrayLike, lengths: npt.ArrayLike
) -> tuple[Bytes, Int64s, Int64s]:
    table = _lengths(lengths)
    array = _symbols(symbols, table.size, DchwError)
    offsets = np.ascontiguousarray(np.asarray(chunk_offsets).reshape(-1), dtype=np.int64)
    _check_offsets(offsets, array.size, "symbols", DchwError)
    codes = canonical_codes(table)
    bits = table.astype(np.uint64)
    words = np.where(table == 0, kernels.NO_WORD, codes.astype(np.uint64) << ((64 - bits) & 63) | bits)
    shift = max(table.size - 1, 1).bit_length()
    longest = int(table.max(initial=1))
    pays = 2 * shift <= 12 and longest <= 12 and array.size > 4096  # a table of pairs stays in the first-level cache
    pairs = kernels.pair_words(words, shift) if pays else np.zeros(1, dtype=np.uint64)
    chunk_bits = np.zeros(offsets.size - 1, dtype=np.int64)
    out = np.empty(ceil_div(array.size * longest, 8) + offsets.size + 16, dtype=np.uint8)
    missing = kernels.encode_chunks(array, offsets, words, pairs, shift, word_view(out).view(np.uint64), chunk_bits)
    if missing:
        raise DchwError("Huffman coding: expected symbols that have a code; got one without; count the same symbols")
    byte_offsets = np.concatenate([[0], np.cumsum((chunk_bits + 7) >> 3)])
    return out[: byte_offsets[-1]].copy(), byte_offsets, chunk_bits


def _check_single_symbol(data: Bytes, byte_offsets: Int64s, symbol_offsets: Int64s) -> None:
    # one symbol's word is the bit 0: chunks are zeros of a known length (none at all when nothing is coded)
    expected = (np.diff(symbol_offsets) + 7) >> 3
    wrong = np.flatnonzero(np.diff(byte_offsets) != expected)
    if wrong.size:
        raise FileFormatError(
            f"Huffman chunk {int(wrong[0])}: expected {int(expected[wrong[0]])} bytes of one-bit words; "
            f"got {int(np.diff(byte_offsets)[wrong[0]])}; the data is damaged"
        )
    if data.any():
        at = int(np.flatnonzero(data)[0])
        chunk = int(np.searchsorted(byte_offsets, at, side="right")) - 1
        raise FileFormatError(
            f"Huffman chunk {chunk}: expected only the one code word 0; got an unused word; the data is damaged"
        )


def _lengths(lengths: npt.ArrayLike) -> npt.NDArray[np.uint8]:
    table = np.asarray(lengths)
    if table.ndim != 1 or table.size > MAX_ALPHABET or (table.size and table.dtype.kind not in "ui"):
        raise FileFormatError(
            f"code lengths: expected at most {MAX_ALPHABET} integers; got {table.dtype} of shape {table.shape}; "
            "the code table is damaged"
        )
    if table.size and (int(table.min()) < 0 or int(table.max()) > MAX_CODE_BITS):
        raise FileFormatError(
            f"code lengths: expected 0 to {MAX_CODE_BITS} bits; got {int(table.min())} to {int(table.max())}; "
            "the code table is damaged"
        )
    sizes = table[table > 0].astype(np.int64)
    if sizes.size == 1 and sizes[0] == 1:
        return table.astype(np.uint8)
    space = int((np.int64(1) << (MAX_CODE_BITS - sizes)).sum())
    if sizes.size and space != 1 << MAX_CODE_BITS:
        fault = "too many words" if space > 1 << MAX_CODE_BITS else "unused words"
        raise FileFormatError(
            f"code lengths: expected a complete code; got {fault} (words fill {space / (1 << MAX_CODE_BITS):g} of the "
            "code space); the code table is damaged"
        )
    return table.astype(np.uint8)


def _canonical_order(lengths: npt.NDArray[np.uint8]) -> Int64s:
    used = np.flatnonzero(lengths)
    return used[np.argsort(lengths[used], kind="stable")]


def _reversed_bits(words: Int64s) -> Int64s:
    result = np.zeros_like(words)
    for bit in range(MAX_CODE_BITS):
        result |= ((words >> bit) & 1) << (MAX_CODE_BITS - 1 - bit)
    return result


def _symbol_dtype(alphabet: int) -> np.dtype[np.uint8] | np.dtype[np.uint16]:
    return np.dtype(np.uint8) if alphabet <= 256 else np.dtype(np.uint16)


def _symbols(symbols: npt.ArrayLike, alphabet: int, error: type[DchwError]) -> Symbols:
    array = np.asarray(symbols).reshape(-1)
    if array.size and array.dtype.kind not in "ui":
        raise error(f"Huffman coding: expected integer symbols; got {array.dtype}; convert them")
    if array.size and (int(array.max()) >= alphabet or (array.dtype.kind == "i" and int(array.min()) < 0)):
        raise error(
            f"Huffman coding: expected symbols of 0 to {alphabet - 1}; got {int(array.min())} to {int(array.max())}; "
            "use a larger alphabet"
        )
    return np.ascontiguousarray(array.astype(_symbol_dtype(alphabet), copy=False))


def _check_offsets(offsets: Int64s, count: int, what: str, error: type[DchwError]) -> None:
    if offsets.size == 0 or offsets[0] != 0 or offsets[-1] != count or (np.diff(offsets) < 0).any():
        raise error(
            f"Huffman chunks: expected offsets that rise from 0 to {count} {what}; got {offsets.size} offsets from "
            f"{offsets[:1]} to {offsets[-1:]}; give the start of every chunk and the end"
        )
