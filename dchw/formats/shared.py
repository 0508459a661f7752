"""``shared``: gaps and codes of fixed width, and a codebook (pruning and weight sharing without Huffman coding)."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from dchw.compression.compressed import Coding, CompressedLayer, Positions
from dchw.formats.packing.codebook import encode_codebook, look_up
from dchw.formats.packing.fields import laid_out_fields
from dchw.formats.packing.file_bytes import container_file
from dchw.formats.packing.packed import Entries, LayerParameters, Need, PackedLayer, StorageFormat
from dchw.formats.packing.run_layout import PackShape
from dchw.formats.packing.sparse import assemble, constant_bits, entries_of, read_fields, rows_of_gaps, stored_chunks
from dchw.formats.packing.stored_runs import stored_runs
from dchw.vocabulary import Stream


def _lay_out(layer: CompressedLayer, shape: PackShape, parameters: LayerParameters) -> PackedLayer:
    index_bits, code_bits = layer.representation.index_bits, layer.representation.codebook_bits
    runs = stored_runs(layer, shape, index_bits=index_bits, coded=True)
    return assemble(
        layer,
        FORMAT.name,
        shape,
        replace(parameters, index_bits=index_bits, code_bits=code_bits, codebook_values=layer.codebook.size - 1),
        runs,
        positions=laid_out_fields(runs.gap, runs.chunk_entries, index_bits),
        values=(Stream.CODES, *laid_out_fields(runs.code, runs.chunk_entries, code_bits)),
        tables=encode_codebook(layer, parameters),
    )


def _unpack(packed: PackedLayer) -> Entries:
    chunks = stored_chunks(packed)
    index_bits, code_bits = packed.parameters.index_bits, packed.parameters.code_bits
    gaps = read_fields(packed, Stream.GAPS, chunks, index_bits)
    code = read_fields(packed, Stream.CODES, chunks, code_bits).astype(np.uint16)
    return entries_of(
        packed,
        chunks,
        row=rows_of_gaps(packed, chunks, gaps, code),
        value=look_up(packed, code),
        code=code,
        is_filler=code == 0,
        gap_bits=constant_bits(index_bits, code.size),
        code_bits=constant_bits(code_bits, code.size),
    )


FORMAT = StorageFormat(
    name="shared",
    summary="fixed-width gaps and codes, with a codebook",
    positions=True,
    needs=frozenset({Need.INDEX, Need.CODEBOOK}),
    values=Stream.CODES,
    lay_out=_lay_out,
    unpack=_unpack,
    entry_bits=lambda packed: packed.parameters.index_bits + packed.parameters.code_bits,
    file_bytes=container_file(Positions.GAPS, Coding.FIXED),
    run_regions=frozenset({Stream.POINTERS}),
)
