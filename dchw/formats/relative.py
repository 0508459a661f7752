"""``relative``: pruned float32 values, each with a gap of a few bits; fillers are stored as +0.0."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from dchw.compression.compressed import CompressedLayer
from dchw.compression.relative_index import encode_gaps
from dchw.formats.packing.fields import laid_out_fields
from dchw.formats.packing.file_bytes import array_file
from dchw.formats.packing.packed import Entries, LayerParameters, Need, PackedLayer, StorageFormat
from dchw.formats.packing.run_layout import PackShape
from dchw.formats.packing.sparse import (
    VALUE_BITS,
    assemble,
    constant_bits,
    entries_of,
    laid_out_floats,
    read_fields,
    read_floats,
    rows_of_gaps,
    stored_chunks,
)
from dchw.formats.packing.stored_runs import stored_runs
from dchw.quantities import ceil_div
from dchw.vocabulary import Stream


def _lay_out(layer: CompressedLayer, shape: PackShape, parameters: LayerParameters) -> PackedLayer:
    index_bits = layer.representation.index_bits
    runs = stored_runs(layer, shape, index_bits=index_bits, coded=False)
    return assemble(
        layer,
        FORMAT.name,
        shape,
        replace(parameters, index_bits=index_bits),
        runs,
        positions=laid_out_fields(runs.gap, runs.chunk_entries, index_bits),
        values=(Stream.WEIGHTS, *laid_out_floats(layer.codebook, runs.code, runs.chunk_entries)),
    )


def _unpack(packed: PackedLayer) -> Entries:
    chunks = stored_chunks(packed)
    index_bits = packed.parameters.index_bits
    value = read_floats(packed, chunks)
    stored = value.view(np.uint32) != 0  # -0.0 is a weight, +0.0 a filler
    gaps = read_fields(packed, Stream.GAPS, chunks, index_bits)
    return entries_of(
        packed,
        chunks,
        row=rows_of_gaps(packed, chunks, gaps, stored.astype(np.uint16)),
        value=value,
        code=None,
        is_filler=~stored,
        gap_bits=constant_bits(index_bits, value.size),
        code_bits=constant_bits(VALUE_BITS, value.size),
    )


def _file_bytes(layer: CompressedLayer) -> int:
    """float32 values and gaps of the flattened weights."""
    positions, index_bits = np.flatnonzero(layer.codes.ravel() != 0), layer.representation.index_bits
    gaps, _ = encode_gaps(positions, layer.codes.ravel()[positions], index_bits)
    return VALUE_BITS // 8 * gaps.size + ceil_div(gaps.size * index_bits, 8)


FORMAT = StorageFormat(
    name="relative",
    summary="pruned float32 values with fixed-width gaps",
    positions=True,
    needs=frozenset({Need.INDEX}),
    values=Stream.WEIGHTS,
    lay_out=_lay_out,
    unpack=_unpack,
    entry_bits=lambda packed: packed.parameters.index_bits + VALUE_BITS,
    file_bytes=array_file(_file_bytes),
    run_regions=frozenset({Stream.POINTERS}),
)
