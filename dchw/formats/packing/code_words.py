"""Huffman words of a packed layer: its code tables, and symbols chunk by chunk."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from dchw.compile import kernel
from dchw.compression import huffman
from dchw.compression.bitstream import Bytes, pack_fixed, packed_bytes, unpack_fixed
from dchw.compression.compressed import CodeArray, CompressedLayer
from dchw.formats.packing.packed import PackedLayer, damaged, region
from dchw.formats.packing.regions import Unwritten
from dchw.formats.packing.run_layout import Int64s
from dchw.quantities import FileFormatError
from dchw.vocabulary import Stream

Lengths = npt.NDArray[np.uint8]


@dataclass(frozen=True, kw_only=True, eq=False)
class CodeTables:
    """Code lengths of the alphabets of a layer."""

    limit: int
    """Longest word allowed: the layer's, raised to the least that can tell its packed symbols apart."""
    lengths: tuple[Lengths, ...]
    """uint8[symbols] for each alphabet; it ends at the last symbol that occurs."""
    data: Bytes
    """The CODE_TABLES region."""
    coded_bits: int
    """Bits of all symbols they were built from."""


def build_tables(layer: CompressedLayer, alphabets: Sequence[npt.NDArray[np.integer]]) -> CodeTables:
    """Tables from the symbols that were packed, one alphabet after the other."""
    counts = [huffman.symbol_counts(symbols) for symbols in alphabets]
    limit = max(layer.representation.code_limit, *(huffman.minimum_limit(int(np.count_nonzero(c))) for c in counts))
    lengths = tuple(huffman.code_lengths(c, limit) for c in counts)
    data = np.concatenate([pack_fixed(table, limit.bit_length()) for table in lengths])
    coded = sum(huffman.coded_bits(c, table) for c, table in zip(counts, lengths, strict=True))
    return CodeTables(limit=limit, lengths=lengths, data=data, coded_bits=coded)


def code_tables(packed: PackedLayer) -> tuple[Lengths, Lengths]:
    """Code lengths of gaps and of codes, from the CODE_TABLES region: uint8[symbols] each.

    A table ends at its last used symbol and its code is complete, so a symbol that never occurs has no room in it.
    """
    parameters, data = packed.parameters, region(packed, Stream.CODE_TABLES)
    field_bits = parameters.code_limit.bit_length()
    split = packed_bytes(parameters.gap_symbols, field_bits)
    try:
        gap_lengths = unpack_fixed(data[:split], field_bits, parameters.gap_symbols).astype(np.uint8)
        code_lengths = unpack_fixed(data[split:], field_bits, parameters.code_symbols).astype(np.uint8)
    except FileFormatError as error:
        raise FileFormatError(f"layer {packed.name!r}, {Stream.CODE_TABLES.value}: {error}") from None
    for lengths in (gap_lengths, code_lengths):
        if int(lengths.max(initial=0)) > parameters.code_limit:
            raise damaged(packed, Stream.CODE_TABLES, f"lengths up to {parameters.code_limit}", str(int(lengths.max())))
    return gap_lengths, code_lengths


def laid_out_words(symbols: npt.NDArray[Any], chunk_offsets: Int64s, lengths: Lengths) -> tuple[Unwritten, Int64s]:
    """As `dchw.compression.huffman.encode_chunks`, but that the bytes are not written yet."""
    chunk_bits = huffman.chunk_bits(symbols, chunk_offsets, lengths)
    byte_offsets = np.concatenate([[0], np.cumsum((chunk_bits + 7) >> 3)])

    def write() -> Bytes:
        return huffman.encode_chunks(symbols, chunk_offsets, lengths)[0]

    return Unwritten(size=int(byte_offsets[-1]), held=symbols.nbytes, write=write), byte_offsets


def bits_of(symbols: CodeArray, lengths: Lengths) -> Lengths:
    """uint8[symbols]: bits of the word of each."""
    bits = np.empty(symbols.size, np.uint8)
    _look_up(symbols, lengths, bits)
    return bits


@kernel
def _look_up(symbols: CodeArray, lengths: Lengths, bits: Lengths) -> None:
    for i in range(symbols.size):
        bits[i] = lengths[symbols[i]]


def decode_symbols(
    packed: PackedLayer, stream: Stream, byte_offsets: Int64s, symbol_offsets: Int64s, lengths: Lengths
) -> CodeArray:
    """The symbols of a region, uint8 for alphabets up to 256 and uint16 above.

    ``byte_offsets`` and ``symbol_offsets`` are int64[chunks + 1].
    """
    data: Bytes = region(packed, stream)
    if byte_offsets[-1] != data.size:
        raise damaged(packed, stream, f"{int(byte_offsets[-1])} bytes, as its chunk table says", str(data.size))
    try:
        return huffman.decode_chunks(data, byte_offsets, symbol_offsets, lengths)
    except FileFormatError as error:
        raise FileFormatError(f"layer {packed.name!r}, {stream.value}: {error}") from None
