"""The bytes of one layer in a ``.dchw`` file. Numbers are little-endian, bits least significant first.

A *varint* is LEB128 in its shortest form. Fields in order, back to back:

    choices      3 bytes   byte 0  bits 0-1 positions: 0 gaps, 1 escaped gaps, 2 bitmask, 3 dense
                                   bit 2 codes Huffman-coded, bit 3 gaps Huffman-coded, bit 4 trimmed,
                                   bit 5 has biases, bit 6 chunk size follows, bit 7 zero
                           byte 1  bits 0-1 codebook format, 2-3 bias format: 0 float32, 1 float16, 2 int8
                                   bits 4-7 codebook bits - 1
                           byte 2  bits 0-3 index bits - 1, bits 4-7 code limit - 1
    chunk size   varint    entries of a chunk; only if bit 6 says so, otherwise 4,096
    trim lists             only if trimmed: which rows and columns hold a weight (`dchw.compression.trim`)
    codebook     varint    number of entries k, the implied entry 0 (+0.0) among them
                 values    the k - 1 others
    biases       values    one per output channel, without the unused rows if the trim modes say so
    entries      varint    gaps: entries, fillers included; escaped gaps: gap symbols, escapes included
                 or bits   bitmask: one bit per weight, padded to a byte; dense: nothing
    gap table              code lengths of gaps; only if Huffman-coded (`dchw.compression.layer_streams`)
    code table             code lengths of codes from 0 (gaps, dense) or 1; only if Huffman-coded
    chunk table  varints   byte length of every gap chunk, then of every code chunk but the last; nothing for
                           streams of fixed width, whose chunks have known lengths
    gaps                   the gap chunks, back to back; only for gaps and escaped gaps
    codes                  the code chunks, back to back, up to the end of the layer

Values are written as `dchw.compression.value_formats` says. Positions count in the (trimmed) matrix in C order.
A chunk is byte-aligned and holds that many entries, the last one the rest; with escaped gaps a chunk's codes are those
of its gap symbols. A bitmask's and a dense layer's chunks count codes. Huffman codes are canonical.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from dchw.compression.bitstream import unpack_bitmask
from dchw.compression.compressed import CodeArray, Coding, CompressedLayer, Positions, Representation, ValueFormat
from dchw.compression.layer_streams import (
    LayerStreams,
    Lengths,
    Offsets,
    Symbols,
    chunk_offsets,
    code_offsets,
    decode_code_table,
    first_code,
    fixed_chunk_bytes,
    layer_streams,
    read_stream,
)
from dchw.compression.relative_index import decode_escaped, decode_gaps
from dchw.compression.trim import Trim, read_trim
from dchw.compression.value_formats import decode_values, encode_values, encoded_bytes
from dchw.compression.varint import Reader, varint
from dchw.graph.network import FloatArray
from dchw.quantities import DchwError, FileFormatError, ceil_div

POSITIONS = (Positions.GAPS, Positions.ESCAPED_GAPS, Positions.BITMASK, Positions.DENSE)
FORMATS = (ValueFormat.FLOAT32, ValueFormat.FLOAT16, ValueFormat.INT8)
DEFAULT_CHUNK_ENTRIES = 4096
MOST_BITS = 16


@dataclass(frozen=True, kw_only=True, eq=False)
class LayerBytes:
    """One layer as written, part by part."""

    choices: bytes
    """The fields *choices* and *chunk size*."""
    trim: bytes
    codebook: bytes
    biases: bytes
    streams: LayerStreams

    @cached_property
    def parts(self) -> dict[str, int]:
        """Bytes of each disjoint part; they add up to the length of `join`."""
        streams = self.streams
        gaps = 0 if streams.gaps is None else streams.gaps.size_bytes
        gap_table = 0 if streams.gaps is None else len(streams.gaps.table)
        return {
            "codes": streams.codes.size_bytes,
            "gaps": gaps + len(streams.mask) + len(self.trim),
            "codebooks": len(self.codebook),
            "code_tables": gap_table + len(streams.codes.table),
            "chunk_tables": len(streams.chunk_table),
            "biases": len(self.biases),
            "header": len(self.choices) + len(self._entries),
        }

    @property
    def size_bytes(self) -> int:
        """Length of `join`."""
        return sum(self.parts.values())

    @property
    def _entries(self) -> bytes:
        gaps = self.streams.gaps
        return b"" if gaps is None else varint(gaps.symbols.size)

    def join(self) -> bytes:
        """The layer's bytes."""
        gaps, codes = self.streams.gaps, self.streams.codes
        return b"".join(
            [
                self.choices,
                self.trim,
                self.codebook,
                self.biases,
                self._entries or self.streams.mask,
                b"" if gaps is None else gaps.table,
                codes.table,
                self.streams.chunk_table,
                b"" if gaps is None else gaps.encode(),
                codes.encode(),
            ]
        )


def layer_bytes(layer: CompressedLayer) -> LayerBytes:
    """How a layer is written; raises DchwError when its representation cannot hold its values exactly."""
    representation, matrix, where = layer.representation, layer.matrix_codes, f"layer {layer.name!r}"
    for name, value in (("index_bits", representation.index_bits), ("codebook_bits", representation.codebook_bits)):
        if not 1 <= value <= MOST_BITS:
            raise DchwError(f"{where}: {name} must be 1 to {MOST_BITS}; got {value}; choose another width")
    if not 1 <= representation.code_limit <= MOST_BITS or representation.chunk_entries < 1:
        raise DchwError(
            f"{where}: code_limit must be 1 to {MOST_BITS} and chunk_entries at least 1; "
            f"got {representation.code_limit} and {representation.chunk_entries}; correct them"
        )
    bias = layer.bias
    trim = Trim.of(matrix, bias) if representation.trim else None
    if trim is not None:
        matrix = trim.select(matrix)
        if bias is not None and trim.biases_left_out:
            bias = bias[trim.rows]
    own_chunks = representation.chunk_entries != DEFAULT_CHUNK_ENTRIES
    choices = bytes(
        [
            POSITIONS.index(representation.positions)
            | (representation.code_coding is Coding.HUFFMAN) << 2
            | (representation.gap_coding is Coding.HUFFMAN) << 3
            | (trim is not None) << 4
            | (bias is not None) << 5
            | own_chunks << 6,
            FORMATS.index(representation.codebook_format)
            | FORMATS.index(representation.bias_format) << 2
            | (representation.codebook_bits - 1) << 4,
            (representation.index_bits - 1) | (representation.code_limit - 1) << 4,
        ]
    )
    try:
        streams = layer_streams(matrix, layer.codebook.size, representation)
    except DchwError as error:
        raise DchwError(f"{where}: {error}") from None
    return LayerBytes(
        choices=choices + (varint(representation.chunk_entries) if own_chunks else b""),
        trim=b"" if trim is None else trim.encode(),
        codebook=varint(layer.codebook.size)
        + encode_values(layer.codebook[1:], representation.codebook_format, f"{where}: codebook"),
        biases=b"" if bias is None else encode_values(bias, representation.bias_format, f"{where}: biases"),
        streams=streams,
    )


def read_layer(
    data: npt.NDArray[np.uint8], shape: tuple[int, ...]
) -> tuple[CodeArray, FloatArray, FloatArray | None, Representation]:
    """Codes in ``shape``, codebook, biases and representation; raises FileFormatError naming the field."""
    reader = Reader(data)
    representation, trimmed, has_bias = _read_choices(reader)
    rows, columns = shape[0], int(np.prod(shape[1:], dtype=np.int64))
    trim = read_trim(reader, rows, columns) if trimmed else None
    size = reader.varint("codebook")
    if not 1 <= size <= 1 << representation.codebook_bits:
        raise FileFormatError(f"codebook: expected 1 to {1 << representation.codebook_bits} entries; got {size}")
    values = _values(reader, representation.codebook_format, size - 1, "codebook")
    codebook = np.concatenate([np.zeros(1, np.float32), values])
    bias: FloatArray | None = None
    if has_bias:
        left_out = trim is not None and trim.biases_left_out
        stored = _values(
            reader,
            representation.bias_format,
            int(trim.rows.sum()) if trim is not None and left_out else rows,
            "biases",
        )
        bias = np.zeros(rows, np.float32)
        bias[trim.rows if trim is not None and left_out else slice(None)] = stored
    inner = rows * columns if trim is None else int(trim.rows.sum()) * int(trim.columns.sum())
    flat = _read_streams(reader, representation, size, inner)
    narrow: CodeArray = flat.astype(np.uint8) if size <= 256 else flat
    if trim is None:
        return narrow.reshape(shape), codebook, bias, representation
    matrix = trim.restore(narrow.reshape(int(trim.rows.sum()), int(trim.columns.sum())))
    again = Trim.of(matrix, bias)
    if not np.array_equal(again.rows, trim.rows) or not np.array_equal(again.columns, trim.columns):
        raise FileFormatError("trim lists: expected a weight in every listed row and column; got one without")
    return matrix.reshape(shape), codebook, bias, representation


def _read_choices(reader: Reader) -> tuple[Representation, bool, bool]:
    first, second, third = (reader.byte("choices") for _ in range(3))
    if first >> 7 or second & 3 > 2 or second >> 2 & 3 > 2:
        raise FileFormatError(f"choices: expected known ones; got 0x{first:02x} 0x{second:02x}")
    chunk_entries = DEFAULT_CHUNK_ENTRIES
    if first >> 6 & 1:
        chunk_entries = reader.varint("chunk size")
        if chunk_entries in (0, DEFAULT_CHUNK_ENTRIES):
            raise FileFormatError(f"chunk size: expected one that needs writing; got {chunk_entries}")
    representation = Representation(
        positions=POSITIONS[first & 3],
        code_coding=Coding.HUFFMAN if first >> 2 & 1 else Coding.FIXED,
        gap_coding=Coding.HUFFMAN if first >> 3 & 1 else Coding.FIXED,
        trim=bool(first >> 4 & 1),
        codebook_format=FORMATS[second & 3],
        bias_format=FORMATS[second >> 2 & 3],
        codebook_bits=(second >> 4) + 1,
        index_bits=(third & 15) + 1,
        code_limit=(third >> 4) + 1,
        chunk_entries=chunk_entries,
    )
    return representation, representation.trim, bool(first >> 5 & 1)


def _values(reader: Reader, form: ValueFormat, count: int, field: str) -> FloatArray:
    data = reader.take(encoded_bytes(form, count), field)
    return _named(field, decode_values, data.tobytes(), form, count)  # type: ignore[no-any-return]


def _read_streams(
    reader: Reader, representation: Representation, codebook_size: int, inner: int
) -> npt.NDArray[np.uint16]:
    """Codes of the (trimmed) matrix of ``inner`` weights, flat."""
    positions = representation.positions
    uses_gaps = positions in (Positions.GAPS, Positions.ESCAPED_GAPS)
    entries, mask = inner, None
    if uses_gaps:
        entries = reader.varint("entries")
        if entries > inner:  # every entry, and every escape, advances at least one position
            raise FileFormatError(f"entries: expected at most {inner}; got {entries}")
    elif positions is Positions.BITMASK:
        mask = _named("bitmask", unpack_bitmask, reader.take(ceil_div(inner, 8), "bitmask"), inner)
        entries = int(np.count_nonzero(mask))
    limit, bits = representation.code_limit, representation.codebook_bits
    gap_lengths = code_lengths = None
    if uses_gaps and representation.gap_coding is Coding.HUFFMAN:
        gap_lengths = _named("gap table", decode_code_table, reader, 1 << representation.index_bits, 0, limit)
    if representation.code_coding is Coding.HUFFMAN:
        code_lengths = _named("code table", decode_code_table, reader, codebook_size, first_code(positions), limit)

    offsets = _chunks(reader, entries, representation)
    listed_gaps = [reader.varint("chunk table") for _ in offsets[1:]] if gap_lengths is not None else None
    listed_codes = [reader.varint("chunk table") for _ in offsets[2:]] if code_lengths is not None else None
    gaps, fillers = np.zeros(0, np.uint16), np.zeros(0, np.bool_)
    if uses_gaps:
        gaps = _stream(reader, "gaps", listed_gaps, offsets, gap_lengths, representation.index_bits)
        fillers = gaps == (1 << representation.index_bits) - 1
    if positions is Positions.ESCAPED_GAPS:
        entries = int(np.count_nonzero(~fillers))
        offsets = code_offsets(entries, representation, fillers)
    if listed_codes is not None and offsets.size > 1:
        listed_codes.append(reader.remaining - sum(listed_codes))
    codes = _stream(reader, "codes", listed_codes, offsets, code_lengths, bits)
    if reader.remaining:
        raise FileFormatError(f"codes: expected the end of the layer; got {reader.remaining} more bytes")
    if codes.size and int(codes.max()) >= codebook_size:
        raise FileFormatError(f"codes: expected codes below {codebook_size}; got {int(codes.max())}")
    if positions is Positions.GAPS:
        return _named("gaps", decode_gaps, gaps, codes, inner, representation.index_bits)  # type: ignore[no-any-return]
    if positions is Positions.DENSE:
        return codes
    if codes.size and not codes.all():
        raise FileFormatError("codes: expected codes of 1 and above; got 0")
    where = (
        np.flatnonzero(mask) if mask is not None else _named("gaps", decode_escaped, gaps, representation.index_bits)
    )
    if where.size and int(where[-1]) >= inner:
        raise FileFormatError(f"gaps: expected positions below {inner}; got {int(where[-1])}")
    flat = np.zeros(inner, dtype=np.uint16)
    flat[where] = codes
    return flat


def _chunks(reader: Reader, entries: int, representation: Representation) -> Offsets:
    # a chunk takes a byte at least, unless escapes leave it without codes: never more chunks than bytes to read
    if ceil_div(entries, representation.chunk_entries) > reader.remaining + 1:
        raise FileFormatError(f"entries: expected chunks for {entries} entries; got {reader.remaining} bytes")
    return chunk_offsets(entries, representation.chunk_entries)


def _stream(
    reader: Reader, field: str, listed: list[int] | None, offsets: Offsets, lengths: Lengths | None, fixed_bits: int
) -> Symbols:
    sizes = fixed_chunk_bytes(offsets, fixed_bits) if listed is None else listed
    if sizes and min(sizes) < 0:
        raise FileFormatError(f"chunk table: expected chunks within the layer; got {field} beyond its end")
    data = reader.take(sum(sizes), field)
    return _named(field, read_stream, data, sizes, offsets, lengths, fixed_bits)  # type: ignore[no-any-return]


def _named(field: str, read: Callable[..., Any], *arguments: Any) -> Any:
    """Call a reader and put the field's name before what it complains about."""
    try:
        return read(*arguments)
    except DchwError as error:
        raise FileFormatError(f"{field}: {error}") from None
