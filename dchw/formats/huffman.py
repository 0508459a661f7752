"""``huffman``: gaps and codes as Huffman words with one table each per layer, and a codebook.

Tables are built from the packed entries, whose fillers differ from the file's. Where the layer's code limit cannot
tell all packed symbols apart, it is raised to the least that can.
"""

from __future__ import annotations

from dataclasses import replace

from dchw.compression import huffman
from dchw.compression.compressed import CompressedLayer
from dchw.formats.packing.code_words import build_tables, code_tables, decode_symbols
from dchw.formats.packing.codebook import encode_codebook, look_up
from dchw.formats.packing.files import own_file
from dchw.formats.packing.layout import PackShape
from dchw.formats.packing.packed import Entries, Need, PackedLayer, Parameters, StorageFormat
from dchw.formats.packing.sparse import assemble, entries_of, rows_of_gaps, stored_chunks, stored_runs
from dchw.vocabulary import Stream


def _pack(layer: CompressedLayer, shape: PackShape, parameters: Parameters) -> PackedLayer:
    index_bits = layer.storage.index_bits
    runs = stored_runs(layer, shape, index_bits=index_bits, coded=True)
    tables = build_tables(layer, (runs.gap, runs.code))
    gap_lengths, code_lengths = tables.lengths
    return assemble(
        layer,
        FORMAT.name,
        shape,
        replace(
            parameters,
            index_bits=index_bits,
            code_bits=layer.storage.codebook_bits,
            code_limit=tables.limit,
            gap_symbols=gap_lengths.size,
            code_symbols=code_lengths.size,
            codebook_values=layer.codebook.size - 1,
        ),
        runs,
        positions=huffman.encode_chunks(runs.gap, runs.chunk_entries, gap_lengths),
        values=(Stream.CODES, *huffman.encode_chunks(runs.code, runs.chunk_entries, code_lengths)),
        tables={Stream.CODE_TABLES: tables.data, **encode_codebook(layer, parameters)},
    )


def _unpack(packed: PackedLayer) -> Entries:
    chunks = stored_chunks(packed)
    gap_lengths, code_lengths = code_tables(packed)
    gaps = decode_symbols(packed, Stream.GAPS, chunks.position_bytes, chunks.chunk_entries, gap_lengths)
    code = decode_symbols(packed, Stream.CODES, chunks.value_bytes, chunks.chunk_entries, code_lengths)
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


FORMAT = StorageFormat(
    name="huffman",
    summary="Huffman-coded gaps and codes, with a codebook",
    positions=True,
    needs=frozenset({Need.DECODER, Need.INDEX, Need.CODEBOOK}),
    values=Stream.CODES,
    pack=_pack,
    unpack=_unpack,
    entry_bits=lambda packed: packed.parameters.index_bits + packed.parameters.code_bits,
    file_bytes=own_file,
    run_regions=frozenset({Stream.POINTERS}),
)
