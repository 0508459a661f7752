"""``palette-huffman``: a Huffman-coded code for every weight, zeros included, and a codebook; no positions.

Every decode unit has chunks of its own, cut where chunks of entries would be: at the first column with at least
``chunk_entries`` weights. In a chunk lie columns in order, in a column the rows of the unit's section in order. How
many weights a chunk holds follows from the layer's shape, so the chunk table lists nothing but its bytes.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from dchw.compression import huffman
from dchw.compression.bitstream import Bytes
from dchw.compression.compressed import Coding, CompressedLayer, Positions
from dchw.formats.packing.chunk_tables import check_chunks, pack_chunk_table, read_chunk_table
from dchw.formats.packing.code_words import bits_of, build_tables, code_tables, decode_symbols
from dchw.formats.packing.codebook import encode_codebook, read_codebook
from dchw.formats.packing.column_order import ColumnOrder
from dchw.formats.packing.file_bytes import container_file
from dchw.formats.packing.packed import (
    Coded,
    DenseWeights,
    LayerParameters,
    Need,
    PackedLayer,
    StorageFormat,
    decode_bias,
    encode_bias,
)
from dchw.formats.packing.regions import Regions, Unwritten
from dchw.formats.packing.run_layout import PackShape, run_layout
from dchw.formats.packing.stored_runs import offsets_of
from dchw.formats.packing.weight_rows import CodedRows
from dchw.vocabulary import Stream


def _lay_out(layer: CompressedLayer, shape: PackShape, parameters: LayerParameters) -> PackedLayer:
    layout = run_layout(layer.geometry, shape)
    chunks = layout.cut_columns()
    order = ColumnOrder(layout, chunks)
    tables = build_tables(layer, (layer.codes,))
    (lengths,) = tables.lengths
    codes = layer.matrix_codes  # not the layer, which what is kept must not hold
    offsets = offsets_of((order.bits(codes, lengths) + 7) >> 3)

    def write() -> Bytes:
        return huffman.encode_chunks(order.symbols(codes), order.offsets, lengths)[0]

    data = Unwritten(size=int(offsets[-1]), held=0, write=write)
    table, table_bits = pack_chunk_table(np.diff(offsets)[:, None])
    regions: dict[Stream, Bytes | Unwritten] = {
        Stream.CODE_TABLES: tables.data,
        **encode_codebook(layer, parameters),
        Stream.CHUNK_TABLES: table,
        **encode_bias(layer, parameters),
        Stream.CODES: data,
    }
    return PackedLayer(
        name=layer.name,
        storage=FORMAT.name,
        shape=shape,
        geometry=layer.geometry,
        parameters=replace(
            parameters,
            code_bits=layer.representation.codebook_bits,
            chunk_table_bits=table_bits,
            code_limit=tables.limit,
            code_symbols=lengths.size,
            codebook_values=layer.codebook.size - 1,
        ),
        regions=Regions(regions),
        chunk_bytes={Stream.CODES: offsets},
        chunk_decoder=chunks.decoder,
        chunk_first_job=chunks.first_job,
        chunk_end_job=chunks.end_job,
        entries=layer.geometry.weights,
        fillers=0,
    )


def _unpack(packed: PackedLayer) -> DenseWeights:
    layout = run_layout(packed.geometry, packed.shape)
    chunks = layout.cut_columns()
    check_chunks(packed, chunks)
    order = ColumnOrder(layout, chunks)
    rows = read_chunk_table(packed, 1)
    byte_offsets = np.concatenate([[0], np.cumsum(rows[:, 0])]).astype(np.int64)
    _, lengths = code_tables(packed)
    codes = decode_symbols(packed, Stream.CODES, byte_offsets, order.offsets, lengths)
    return DenseWeights(
        geometry=packed.geometry,
        matrix=CodedRows(order.codes(codes), read_codebook(packed, codes)),
        bias=decode_bias(packed),
        coded=Coded(chunk_offsets=order.offsets, bits={Stream.CODES: bits_of(codes, lengths)}),
    )


FORMAT = StorageFormat(
    name="palette-huffman",
    summary="a Huffman-coded code for every weight, with a codebook",
    positions=False,
    needs=frozenset({Need.DECODER, Need.CODEBOOK}),
    values=Stream.CODES,
    lay_out=_lay_out,
    unpack=_unpack,
    entry_bits=lambda packed: packed.parameters.code_bits,
    file_bytes=container_file(Positions.DENSE, Coding.HUFFMAN),
)
