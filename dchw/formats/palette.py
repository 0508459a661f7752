"""``palette``: a code of fixed width for every weight, zeros included, and a codebook; no positions.

Weights lie job by job, rows in order; a chunk holds whole jobs, about as many bytes as one of a dense format, and
starts at a byte. Where a code of 8 bits stands for every weight, this is the palettization that phone runtimes offer.
"""

from __future__ import annotations

from dataclasses import replace

from dchw.compression.bitstream import Bytes
from dchw.compression.compressed import Coding, CompressedLayer, Positions
from dchw.formats.packing.codebook import encode_codebook, read_codebook
from dchw.formats.packing.every_weight import assemble_columns, codes_by_job, job_bounds, values_by_row
from dchw.formats.packing.fields import byte_offsets_of, pack_fields, unpack_fields
from dchw.formats.packing.file_bytes import container_file
from dchw.formats.packing.packed import (
    DenseWeights,
    LayerParameters,
    Need,
    PackedLayer,
    StorageFormat,
    damaged,
    decode_bias,
    region,
)
from dchw.formats.packing.regions import Unwritten
from dchw.formats.packing.run_layout import PackShape, run_layout
from dchw.vocabulary import Stream


def _lay_out(layer: CompressedLayer, shape: PackShape, parameters: LayerParameters) -> PackedLayer:
    layout, code_bits = run_layout(layer.geometry, shape), layer.representation.codebook_bits
    bounds = job_bounds(layout, layout.rows * code_bits)
    offsets = byte_offsets_of(bounds * layout.rows, code_bits)
    codes, values = layer.matrix_codes, layer.codebook.size  # not the layer, which what is kept must not hold

    def write() -> Bytes:
        return pack_fields(codes_by_job(codes, values, layout).ravel(), bounds * layout.rows, code_bits)[0]

    return assemble_columns(
        layer,
        FORMAT.name,
        shape,
        replace(parameters, code_bits=code_bits, codebook_values=layer.codebook.size - 1),
        bounds,
        (Stream.CODES, Unwritten(size=int(offsets[-1]), held=0, write=write), offsets),
        encode_codebook(layer, parameters),
    )


def _unpack(packed: PackedLayer) -> DenseWeights:
    layout, code_bits = run_layout(packed.geometry, packed.shape), packed.parameters.code_bits
    bounds = job_bounds(layout, layout.rows * code_bits)
    if bounds.size != packed.chunks + 1:
        raise damaged(packed, Stream.CODES, f"{bounds.size - 1} chunks of whole jobs", str(packed.chunks))
    where = f"layer {packed.name!r}, {Stream.CODES.value}"
    codes = unpack_fields(region(packed, Stream.CODES), bounds * layout.rows, code_bits, where, narrow=True)
    return DenseWeights(
        geometry=packed.geometry,
        matrix=values_by_row(codes, read_codebook(packed, codes), layout),
        bias=decode_bias(packed),
    )


FORMAT = StorageFormat(
    name="palette",
    summary="a fixed-width code for every weight, with a codebook",
    positions=False,
    needs=frozenset({Need.CODEBOOK}),
    values=Stream.CODES,
    lay_out=_lay_out,
    unpack=_unpack,
    entry_bits=lambda packed: packed.parameters.code_bits,
    file_bytes=container_file(Positions.DENSE, Coding.FIXED),
)
