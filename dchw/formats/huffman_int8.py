"""``huffman-int8``: as ``huffman``, with shared values as int8 and a scale per layer.

What machines of integers hold: beside ``dense-int8`` it multiplies the same numbers in the same arithmetic, so that the
two differ in storage alone. A shared value is integer x scale, scale = largest magnitude / 127 as float32; values that
round to zero stay entries.
"""

from __future__ import annotations

from dataclasses import replace

from dchw.compression.compressed import CompressedLayer, CompressedNetwork, ValueFormat
from dchw.compression.value_formats import round_to_format
from dchw.formats import huffman
from dchw.formats.packing.file_bytes import own_file
from dchw.formats.packing.packed import LayerParameters, PackedLayer
from dchw.formats.packing.run_layout import PackShape

_NAME = "huffman-int8"


def _lay_out(layer: CompressedLayer, shape: PackShape, parameters: LayerParameters) -> PackedLayer:
    packed = huffman.FORMAT.lay_out(layer, shape, replace(parameters, int8_codebook=True))
    return replace(packed, storage=_NAME)


def _file_bytes(network: CompressedNetwork) -> int:
    layers = tuple(
        replace(
            layer,
            codebook=round_to_format(layer.codebook, ValueFormat.INT8),
            representation=replace(layer.representation, codebook_format=ValueFormat.INT8),
        )
        for layer in network.layers
    )
    return own_file(replace(network, layers=layers))


FORMAT = replace(
    huffman.FORMAT,
    name=_NAME,
    summary="Huffman-coded gaps and codes, with a codebook of int8 values and a scale",
    lay_out=_lay_out,
    file_bytes=_file_bytes,
    integers=True,
)
