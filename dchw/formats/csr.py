"""``csr``: pruned float32 values, each with its output channel as 32 bits. The sparse baseline without coding."""

from __future__ import annotations

import numpy as np

from dchw.compression.compressed import CompressedLayer
from dchw.formats.packing.fields import laid_out_fields
from dchw.formats.packing.file_bytes import array_file
from dchw.formats.packing.packed import Entries, LayerParameters, Need, PackedLayer, StorageFormat
from dchw.formats.packing.run_layout import PackShape
from dchw.formats.packing.sparse import (
    ROW_BITS,
    VALUE_BITS,
    assemble,
    check_rows,
    constant_bits,
    entries_of,
    laid_out_floats,
    read_fields,
    read_floats,
    stored_chunks,
)
from dchw.formats.packing.stored_runs import stored_runs
from dchw.vocabulary import Stream


def _lay_out(layer: CompressedLayer, shape: PackShape, parameters: LayerParameters) -> PackedLayer:
    runs = stored_runs(layer, shape, index_bits=0, coded=False)
    return assemble(
        layer,
        FORMAT.name,
        shape,
        parameters,
        runs,
        positions=laid_out_fields(runs.row, runs.chunk_entries, ROW_BITS),
        values=(Stream.WEIGHTS, *laid_out_floats(layer.codebook, runs.code, runs.chunk_entries)),
    )


def _unpack(packed: PackedLayer) -> Entries:
    chunks = stored_chunks(packed)
    value = read_floats(packed, chunks)
    return entries_of(
        packed,
        chunks,
        row=check_rows(packed, chunks, read_fields(packed, Stream.GAPS, chunks, ROW_BITS)),
        value=value,
        code=None,
        is_filler=np.zeros(value.size, dtype=np.bool_),
        gap_bits=constant_bits(ROW_BITS, value.size),
        code_bits=constant_bits(VALUE_BITS, value.size),
    )


FORMAT = StorageFormat(
    name="csr",
    summary="pruned float32 values with 32-bit absolute positions",
    positions=True,
    needs=frozenset({Need.INDEX}),
    values=Stream.WEIGHTS,
    lay_out=_lay_out,
    unpack=_unpack,
    entry_bits=lambda packed: ROW_BITS + VALUE_BITS,
    file_bytes=array_file(lambda layer: (ROW_BITS + VALUE_BITS) // 8 * layer.nonzeros + 4 * (layer.codes.shape[0] + 1)),
    run_regions=frozenset({Stream.POINTERS}),
)
