"""The codebook of a layer as formats that code weights store it."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from dchw.compression.bitstream import Bytes
from dchw.compression.compressed import CodeArray, CompressedLayer
from dchw.formats.packing.packed import LayerParameters, PackedLayer, damaged, decode_floats, encode_floats
from dchw.graph.network import FloatArray
from dchw.vocabulary import Stream


def encode_codebook(layer: CompressedLayer, parameters: LayerParameters) -> dict[Stream, Bytes]:
    """The CODEBOOKS region: every shared value but the +0.0 of code 0."""
    return {Stream.CODEBOOKS: encode_floats(layer.codebook[1:], parameters.codebook_format, layer.name)}


def read_codebook(packed: PackedLayer, codes: CodeArray | npt.NDArray[np.uint32]) -> FloatArray:
    """The layer's codebook with the +0.0 of code 0, float32[values]; FileFormatError where a code is outside it."""
    parameters = packed.parameters
    stored = decode_floats(packed, Stream.CODEBOOKS, parameters.codebook_format, parameters.codebook_values)
    codebook = np.concatenate([np.zeros(1, dtype=np.float32), stored])
    if codes.size and int(codes.max()) >= codebook.size:
        raise damaged(packed, Stream.CODES, f"codes below {codebook.size}", str(int(codes.max())))
    return codebook


def look_up(packed: PackedLayer, codes: CodeArray | npt.NDArray[np.uint32]) -> FloatArray:
    """Values of codes through the layer's codebook; raises as `read_codebook`."""
    return read_codebook(packed, codes)[codes]
