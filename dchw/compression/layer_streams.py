"""One layer as streams of symbols: what its representation writes, and exactly how many bytes each part takes.

`layer_streams` turns codes into symbols, chosen code tables and chunk sizes without writing a bit, so that
representations can be compared by exact size; `CodedStream.encode` writes the bits, `read_stream` reads them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from dchw.compression import bitstream, huffman, relative_index
from dchw.compression.compressed import CodeArray, Coding, Positions, Representation
from dchw.compression.varint import Reader, varint
from dchw.quantities import DchwError, FileFormatError, ceil_div

Lengths = npt.NDArray[np.uint8]
Symbols = npt.NDArray[np.uint16]
Offsets = npt.NDArray[np.int64]

_CHUNKS_AT_A_TIME = 256
"""Chunks of fixed width that are packed together where each fills its bytes."""


@dataclass(frozen=True, kw_only=True, eq=False)
class CodedStream:
    """Symbols of one kind and how they are written: byte-aligned chunks, Huffman or fixed width."""

    symbols: Symbols
    chunk_offsets: Offsets
    """int64[chunks + 1]: where in ``symbols`` each chunk begins, and the end."""
    fixed_bits: int
    """Bits of a symbol when it is not Huffman coded."""
    lengths: Lengths | None
    """Code lengths uint8[alphabet], 0 for symbols that do not occur; None: fixed width."""
    table: bytes
    """The code table as written; empty for fixed width."""

    @cached_property
    def symbol_bits(self) -> npt.NDArray[np.int64]:
        """Bits of every symbol."""
        if self.lengths is None:
            return np.full(self.symbols.size, self.fixed_bits, dtype=np.int64)
        return self.lengths[self.symbols].astype(np.int64)

    @cached_property
    def chunk_bits(self) -> npt.NDArray[np.int64]:
        """Bits of every chunk before it is rounded up to bytes."""
        sizes = np.diff(self.chunk_offsets)
        if self.lengths is None:
            return sizes * self.fixed_bits
        return huffman.chunk_bits(self.symbols, self.chunk_offsets, self.lengths)

    @property
    def chunk_bytes(self) -> npt.NDArray[np.int64]:
        """Bytes of every chunk."""
        return (self.chunk_bits + 7) // 8

    @property
    def size_bytes(self) -> int:
        """Bytes of all chunks."""
        return int(self.chunk_bytes.sum())

    def fixed_width(self) -> CodedStream:
        """The same symbols without entropy coding."""
        return dataclasses.replace(self, lengths=None, table=b"")

    def encode(self) -> bytes:
        """All chunks, back to back."""
        if self.lengths is not None:
            data, _ = huffman.encode_chunks(self.symbols, self.chunk_offsets, self.lengths)
            return bytes(data)
        # chunks that fill their bytes are one stream, packed many at a time
        whole = not (np.diff(self.chunk_offsets)[:-1] * self.fixed_bits % 8).any()
        bounds = [*self.chunk_offsets[: -1 : _CHUNKS_AT_A_TIME if whole else 1].tolist(), self.symbols.size]
        return b"".join(
            bitstream.pack_fixed(self.symbols[start:end], self.fixed_bits).tobytes() for start, end in pairwise(bounds)
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class LayerStreams:
    """What one layer's representation consists of."""

    gaps: CodedStream | None
    """Gap symbols; None where positions are a bitmask or dense."""
    codes: CodedStream
    mask: bytes
    """The bitmask of positions; empty otherwise."""
    fillers: npt.NDArray[np.bool_]
    """Which entries are fillers (of escaped gaps: which gap symbols are escapes, which have no code)."""

    @property
    def chunk_table(self) -> bytes:
        """Byte lengths of Huffman-coded chunks as varints: of gaps, then of codes except the last one."""
        listed: list[int] = []
        if self.gaps is not None and self.gaps.lengths is not None:
            listed += self.gaps.chunk_bytes.tolist()
        if self.codes.lengths is not None:
            listed += self.codes.chunk_bytes[:-1].tolist()
        return b"".join(varint(length) for length in listed)

    @property
    def size_bytes(self) -> int:
        """Bytes of positions, codes, code tables and chunk table."""
        gaps = 0 if self.gaps is None else self.gaps.size_bytes + len(self.gaps.table)
        return gaps + len(self.mask) + self.codes.size_bytes + len(self.codes.table) + len(self.chunk_table)


def layer_streams(matrix: CodeArray, codebook_size: int, representation: Representation) -> LayerStreams:
    """The streams of a matrix of codes (already trimmed), flattened in C order."""
    flat = matrix.reshape(-1)
    positions = representation.positions
    first = first_code(positions)
    gaps, mask, fillers = None, b"", np.zeros(0, dtype=np.bool_)
    if positions is Positions.DENSE:
        codes = flat.astype(np.uint16)
    else:
        where = np.flatnonzero(flat != 0)  # of bools zeros are found many at a time
        codes = flat[where].astype(np.uint16)
    if positions is Positions.BITMASK:
        mask = bitstream.pack_bitmask(flat != 0).tobytes()
    elif positions is Positions.GAPS:
        gap_symbols, codes = relative_index.encode_gaps(where, codes, representation.index_bits)
        fillers = codes == 0
    elif positions is Positions.ESCAPED_GAPS:
        gap_symbols = relative_index.encode_escaped(where, representation.index_bits)
        fillers = gap_symbols == (1 << representation.index_bits) - 1
    if positions in (Positions.GAPS, Positions.ESCAPED_GAPS):
        gaps = _stream(
            gap_symbols,
            chunk_offsets(gap_symbols.size, representation.chunk_entries),
            1 << representation.index_bits,
            0,
            representation.index_bits,
            representation.gap_coding,
            representation.code_limit,
        )
    offsets = code_offsets(codes.size, representation, fillers)
    code_stream = _stream(
        codes,
        offsets,
        codebook_size,
        first,
        representation.codebook_bits,
        representation.code_coding,
        representation.code_limit,
    )
    return LayerStreams(gaps=gaps, codes=code_stream, mask=mask, fillers=fillers)


def first_code(positions: Positions) -> int:
    """The lowest code that a representation can store: 1 where only non-zero weights have codes."""
    return 0 if positions in (Positions.GAPS, Positions.DENSE) else 1


def chunk_offsets(count: int, chunk_entries: int) -> Offsets:
    """Where chunks of ``chunk_entries`` entries begin, and the end."""
    return np.append(np.arange(0, count, chunk_entries, dtype=np.int64), np.int64(count))


def code_offsets(count: int, representation: Representation, fillers: npt.NDArray[np.bool_]) -> Offsets:
    """Where chunks of codes begin: with escaped gaps a chunk has the codes of its gap symbols that are no escapes."""
    if representation.positions is not Positions.ESCAPED_GAPS:
        return chunk_offsets(count, representation.chunk_entries)
    coded_before = np.concatenate([[0], np.cumsum(~fillers)])
    return coded_before[chunk_offsets(fillers.size, representation.chunk_entries)].astype(np.int64)


def _stream(
    symbols: Symbols, offsets: Offsets, alphabet: int, first: int, fixed_bits: int, coding: Coding, limit: int
) -> CodedStream:
    lengths, table = None, b""
    if coding is Coding.HUFFMAN:
        counts = huffman.symbol_counts(symbols, alphabet)
        lengths = huffman.code_lengths(counts, limit)
        table = encode_code_table(lengths[first:], limit)
    return CodedStream(symbols=symbols, chunk_offsets=offsets, fixed_bits=fixed_bits, lengths=lengths, table=table)


# ---- code tables -----------------------------------------------------------------------------------------------------


def encode_code_table(lengths: Lengths, limit: int) -> bytes:
    """Code lengths up to the last used symbol, as a varint ``2 n + r`` and fields of ``bit_length(limit)`` bits.

    r = 0: n fields, one length each (0: unused). r = 1: a field 0 is followed by one with the further zeros in the run.
    The shorter form is taken, r = 0 of equals.
    """
    used = np.flatnonzero(lengths)
    count = int(used[-1]) + 1 if used.size else 0
    bits = limit.bit_length()
    plain = lengths[:count].tolist()
    runs: list[int] = []
    longest = 1 << bits
    i = 0
    while i < count:
        runs.append(plain[i])
        if plain[i] == 0:
            run = 1
            while run < longest and plain[i + run] == 0:
                run += 1
            runs.append(run - 1)
            i += run - 1
        i += 1
    form = int(len(runs) < len(plain))
    fields = runs if form else plain
    return varint(2 * count + form) + bitstream.pack_fixed(np.array(fields, dtype=np.uint16), bits).tobytes()


def decode_code_table(reader: Reader, alphabet: int, first: int, limit: int) -> Lengths:
    """The inverse of `encode_code_table`: uint8[alphabet]. Whether the lengths make a code is checked when decoding."""
    head = reader.varint("number of code lengths")
    count, form = head >> 1, head & 1
    if count > alphabet - first:
        raise FileFormatError(f"expected at most {alphabet - first} code lengths; got {count}")
    bits = limit.bit_length()
    lengths = np.zeros(alphabet, dtype=np.uint8)
    if not form:
        data = reader.take(ceil_div(count * bits, 8), "code lengths")
        lengths[first : first + count] = bitstream.unpack_fixed(data, bits, count)
    else:
        filled, bit, start = 0, 0, reader.position
        while filled < count:
            value, bit = _field(reader, start, bit, bits)
            if value:
                lengths[first + filled] = value
                filled += 1
            else:
                run, bit = _field(reader, start, bit, bits)
                filled += run + 1
        if filled != count:
            raise FileFormatError(f"expected {count} code lengths; got a run of zeros up to {filled}")
        data = reader.take(ceil_div(bit, 8), "code lengths")
        bitstream.check_padding(data, bit, "code lengths")
    if count and not lengths[first + count - 1]:
        raise FileFormatError("expected the last code length above 0; got 0")
    if int(lengths.max(initial=0)) > limit:
        raise FileFormatError(f"expected code lengths up to {limit}; got {int(lengths.max())}")
    return lengths


def _field(reader: Reader, start: int, bit: int, bits: int) -> tuple[int, int]:
    value = 0
    for i in range(bits):
        at = start + (bit + i) // 8
        if at >= len(reader.data):
            raise FileFormatError("expected more code lengths; got the end of the data")
        value |= (int(reader.data[at]) >> ((bit + i) % 8) & 1) << i
    return value, bit + bits


# ---- reading ---------------------------------------------------------------------------------------------------------


def read_stream(
    data: npt.NDArray[np.uint8],
    byte_lengths: Sequence[int],
    offsets: Offsets,
    lengths: Lengths | None,
    fixed_bits: int,
) -> Symbols:
    """Symbols of all chunks of a stream; raises FileFormatError unless every bit is accounted for."""
    if lengths is None:
        starts = np.concatenate([[0], np.cumsum(byte_lengths, dtype=np.int64)])
        parts = [
            bitstream.unpack_fixed(data[starts[i] : starts[i + 1]], fixed_bits, int(offsets[i + 1] - offsets[i]))
            for i in range(offsets.size - 1)
        ]
        return np.concatenate(parts) if parts else np.zeros(0, dtype=np.uint16)
    starts = np.concatenate([[0], np.cumsum(byte_lengths, dtype=np.int64)])
    try:
        return huffman.decode_chunks(data, starts, offsets, lengths).astype(np.uint16)
    except FileFormatError:
        raise
    except DchwError as error:
        raise FileFormatError(str(error)) from None


def fixed_chunk_bytes(offsets: Offsets, bits: int) -> list[int]:
    """Byte lengths of chunks of fixed-width symbols."""
    return [int(size) for size in (np.diff(offsets) * bits + 7) // 8]
