"""Storage formats: how a layer's weights lie in DRAM, packed for a machine, and how they are read back.

A format is one file beside this one: it packs and unpacks, says which units it needs, whether it stores positions, how
wide an entry is and how long a network's file would be (`StorageFormat`). Nothing outside this folder knows its name.
``packing.run_layout`` says what jobs, runs and chunks are, ``packing.packed`` what the regions of a layer hold.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from dchw.compression.compressed import CompressedLayer
from dchw.formats import bitmask, csr, dense, huffman, huffman_int8, palette, palette_huffman, relative, shared
from dchw.formats.packing.decoded import decodes_to, shared_values, weight_matrix
from dchw.formats.packing.kept import KeptPackings, packed_size
from dchw.formats.packing.packed import (
    Coded,
    DenseWeights,
    Entries,
    LayerParameters,
    Need,
    PackedLayer,
    StorageFormat,
    Unpacked,
    released,
    written,
)
from dchw.formats.packing.run_layout import PackShape
from dchw.formats.packing.stored_runs import forget_collected
from dchw.formats.packing.weight_rows import CodedRows, WeightRows
from dchw.quantities import DchwError, forgiven, nearest

_FORMATS: dict[str, StorageFormat] = {
    form.name: form
    for form in (
        *dense.FORMATS,
        csr.FORMAT,
        palette.FORMAT,
        relative.FORMAT,
        bitmask.FORMAT,
        palette_huffman.FORMAT,
        shared.FORMAT,
        huffman_int8.FORMAT,
        huffman.FORMAT,
    )
}
STORAGE_FORMATS: Mapping[str, StorageFormat] = MappingProxyType(_FORMATS)
"""Every storage format by name, from the largest to the smallest of a typical pruned layer."""
DEFAULT_FORMAT = huffman.FORMAT.name
"""The format of a run that names none: what Deep Compression ends with."""
NARROWEST_DENSE = dense.FORMATS[-1].name
"""The dense format of the fewest bits a weight."""
_KEPT = KeptPackings()


def register_format(form: StorageFormat) -> None:
    """Make a format known by its name, in every verb and report; a DchwError where the name is taken."""
    if form.name in _FORMATS:
        raise DchwError(f"storage format {form.name!r}: expected a new name; got one that is taken; choose another")
    _FORMATS[form.name] = form


def storage_format(name: str) -> StorageFormat:
    """A storage format by name; case does not count, nor ``_`` for ``-``."""
    exact = _FORMATS.get(str(name))
    if exact is not None:
        return exact
    meant = forgiven(str(name), STORAGE_FORMATS)
    if meant is None:
        raise DchwError(f"storage format {name!r}: no such format; {nearest(str(name), STORAGE_FORMATS)}")
    return STORAGE_FORMATS[meant]


def lay_out(layer: CompressedLayer, storage: str, shape: PackShape, *, value_bits: int = 16) -> PackedLayer:
    """A layer's weights as the bytes that a machine reads, which are written when they are first read.

    ``value_bits`` is the width of codebook values and biases: with 32 the formats ``shared`` and ``huffman`` give back
    ``layer.weight`` bit for bit, with 16 its rounding to float16. ``csr`` and ``relative`` always hold float32 values.
    """
    form = storage_format(storage)
    if value_bits not in (16, 32):
        raise DchwError(f"layer {layer.name!r}: value_bits must be 16 or 32; got {value_bits}; choose one of them")
    weights = layer.geometry.weights
    if layer.codes.size != weights or layer.codes.shape[0] != layer.geometry.out_channels:
        raise DchwError(
            f"layer {layer.name!r}: expected {layer.geometry.out_channels} x {layer.geometry.columns} codes for its "
            f"geometry; got shape {layer.codes.shape}; correct the geometry"
        )
    parameters = LayerParameters(value_bits=value_bits, has_bias=layer.bias is not None)
    return _KEPT.get(layer, form, shape, parameters, lambda: form.lay_out(layer, shape, parameters))


def pack(layer: CompressedLayer, storage: str, shape: PackShape, *, value_bits: int = 16) -> PackedLayer:
    """As `lay_out`, with every byte written."""
    return written(lay_out(layer, storage, shape, value_bits=value_bits))


def let_go(packed: PackedLayer) -> None:
    """Do without the bytes of a layer that was read, where it is too large to be kept for other runs.

    Whoever reads them once more has them written again.
    """
    if not _KEPT.keeps(packed_size(packed)):
        released(packed)


def unpack(packed: PackedLayer) -> Unpacked:
    """What the hardware decodes from the bytes of a packed layer, and from nothing else.

    Raises FileFormatError where the bytes are not what packing writes.
    """
    return storage_format(packed.storage).unpack(packed)


__all__ = [
    "DEFAULT_FORMAT",
    "STORAGE_FORMATS",
    "Coded",
    "CodedRows",
    "DenseWeights",
    "Entries",
    "Need",
    "PackShape",
    "PackedLayer",
    "LayerParameters",
    "StorageFormat",
    "Unpacked",
    "WeightRows",
    "decodes_to",
    "forget_collected",
    "lay_out",
    "let_go",
    "pack",
    "register_format",
    "shared_values",
    "storage_format",
    "unpack",
    "weight_matrix",
    "written",
]
