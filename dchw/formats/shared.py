"""``shared``: gaps and codes of fixed width, and a codebook (pruning and weight sharing without Huffman coding)."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from dchw.compression.bitstream import Bytes
from dchw.compression.compressed import CompressedLayer
from dchw.formats.packing.fields import pack_fields
from dchw.formats.packing.layout import PackShape
from dchw.formats.packing.packed import (
    Entries,
    Need,
    PackedLayer,
    Parameters,
    StorageFormat,
    damaged,
    decode_floats,
    encode_floats,
)
from dchw.formats.packing.sparse import (
    assemble,
    constant_bits,
    entries_of,
    read_fields,
    rows_of_gaps,
    stored_chunks,
    stored_runs,
)
from dchw.graph.network import FloatArray
from dchw.vocabulary import Stream


def encode_codebook(layer: CompressedLayer, parameters: Parameters) -> dict[Stream, Bytes]:
    """The CODEBOOKS region: every shared value but the +0.0 of code 0."""
    return {Stream.CODEBOOKS: encode_floats(layer.codebook[1:], parameters.value_format, layer.name)}


def look_up(packed: PackedLayer, codes: npt.NDArray[np.uint16]) -> FloatArray:
    """Values of codes through the layer's codebook; raises FileFormatError for a code outside it."""
    parameters = packed.parameters
    stored = decode_floats(packed, Stream.CODEBOOKS, parameters.value_format, parameters.codebook_values)
    codebook = np.concatenate([np.zeros(1, dtype=np.float32), stored])
    if codes.size and int(codes.max()) >= codebook.size:
        raise damaged(packed, Stream.CODES, f"codes below {codebook.size}", str(int(codes.max())))
    return codebook[codes]


def _pack(layer: CompressedLayer, shape: PackShape, parameters: Parameters) -> PackedLayer:
    index_bits, code_bits = layer.storage.index_bits, layer.storage.codebook_bits
    runs = stored_runs(layer, shape, index_bits=index_bits, coded=True)
    return assemble(
        layer,
        FORMAT.name,
        shape,
        replace(parameters, index_bits=index_bits, code_bits=code_bits, codebook_values=layer.codebook.size - 1),
        runs,
        positions=pack_fields(runs.gap, runs.chunk_entries, index_bits),
        values=(Stream.CODES, *pack_fields(runs.code, runs.chunk_entries, code_bits)),
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
    needs=frozenset({Need.INDEX, Need.CODEBOOK}),
    pack=_pack,
    unpack=_unpack,
)
