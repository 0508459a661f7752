"""``huffman``: gaps and codes as Huffman words with one table each per layer, and a codebook.

Tables are built from the packed entries, whose fillers differ from the file's. Where the layer's code limit cannot
tell all packed symbols apart, it is raised to the least that can.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from dchw.compression import huffman
from dchw.compression.bitstream import Bytes, pack_fixed, packed_bytes, unpack_fixed
from dchw.compression.compressed import CompressedLayer
from dchw.formats.packing.layout import Int64s, PackShape
from dchw.formats.packing.packed import Entries, Need, PackedLayer, Parameters, StorageFormat, damaged, region
from dchw.formats.packing.sparse import StoredChunks, assemble, entries_of, rows_of_gaps, stored_chunks, stored_runs
from dchw.formats.shared import encode_codebook, look_up
from dchw.quantities import FileFormatError
from dchw.vocabulary import Stream

Lengths = npt.NDArray[np.uint8]


def _pack(layer: CompressedLayer, shape: PackShape, parameters: Parameters) -> PackedLayer:
    index_bits = layer.storage.index_bits
    runs = stored_runs(layer, shape, index_bits=index_bits, coded=True)
    counts = [np.bincount(symbols) for symbols in (runs.gap, runs.code)]
    limit = max(layer.storage.code_limit, *(huffman.minimum_limit(int(np.count_nonzero(c))) for c in counts))
    gap_lengths, code_lengths = (huffman.code_lengths(c, limit) for c in counts)
    field_bits = limit.bit_length()
    tables = [pack_fixed(lengths, field_bits) for lengths in (gap_lengths, code_lengths)]
    return assemble(
        layer,
        FORMAT.name,
        shape,
        replace(
            parameters,
            index_bits=index_bits,
            code_bits=layer.storage.codebook_bits,
            code_limit=limit,
            gap_symbols=gap_lengths.size,
            code_symbols=code_lengths.size,
            codebook_values=layer.codebook.size - 1,
        ),
        runs,
        positions=huffman.encode_chunks(runs.gap, runs.chunk_entries, gap_lengths),
        values=(Stream.CODES, *huffman.encode_chunks(runs.code, runs.chunk_entries, code_lengths)),
        tables={Stream.CODE_TABLES: np.concatenate(tables), **encode_codebook(layer, parameters)},
    )


def _unpack(packed: PackedLayer) -> Entries:
    chunks = stored_chunks(packed)
    gap_lengths, code_lengths = code_tables(packed)
    gaps = _decode(packed, Stream.GAPS, chunks, chunks.position_bytes, gap_lengths)
    code = _decode(packed, Stream.CODES, chunks, chunks.value_bytes, code_lengths)
    return entries_of(
        packed,
        chunks,
        row=rows_of_gaps(packed, chunks, gaps, code),
        value=look_up(packed, code),
        code=code,
        is_filler=code == 0,
        gap_bits=gap_lengths[gaps],
        code_bits=code_lengths[code],
    )


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


def _decode(
    packed: PackedLayer, stream: Stream, chunks: StoredChunks, byte_offsets: Int64s, lengths: Lengths
) -> npt.NDArray[np.uint16]:
    data: Bytes = region(packed, stream)
    if byte_offsets[-1] != data.size:
        raise damaged(packed, stream, f"{int(byte_offsets[-1])} bytes, as its chunk table says", str(data.size))
    try:
        symbols = huffman.decode_chunks(data, byte_offsets, chunks.chunk_entries, lengths)
    except FileFormatError as error:
        raise FileFormatError(f"layer {packed.name!r}, {stream.value}: {error}") from None
    return symbols.astype(np.uint16)


FORMAT = StorageFormat(
    name="huffman",
    summary="Huffman-coded gaps and codes, with a codebook",
    needs=frozenset({Need.DECODER, Need.INDEX, Need.CODEBOOK}),
    pack=_pack,
    unpack=_unpack,
)
