"""What other codecs make of a layer's weights: Arm's, Zstandard, and the entropy bound (extra ``peers``)."""

from __future__ import annotations

import numpy as np

from dchw.compression.compressed import CompressedLayer
from dchw.compression.huffman import symbol_counts
from dchw.container.layer_bytes import layer_bytes
from dchw.extras import extras_named

PEER_NOTES = (
    "entropy: empirical entropy of all codes of a layer, zeros included, independent of one another; no tables.",
    "arm_mlw: ethosu.mlw_codec on int8 weights (shared values rounded symmetrically to -127..127 per layer, so close "
    "values merge, also with 0: lossy), in C order rather than the hardware's block order.",
    "zstd_codes: Zstandard level 19 of one byte (two above 256 codes) per weight. zstd_fp32: of the float32 weights.",
    "dchw: codes, positions and tables, without codebook, biases and headers; the others hold no codebook either.",
)


def peer_sizes(layer: CompressedLayer) -> list[dict[str, object]]:
    """One row: bytes of a layer's weights in dchw and in other codecs. Raises DchwError without the extra."""
    with extras_named("other codecs"):
        import zstandard
        from ethosu import mlw_codec
    parts = layer_bytes(layer).parts
    own = parts["codes"] + parts["gaps"] + parts["code_tables"] + parts["chunk_tables"]
    packer = zstandard.ZstdCompressor(level=19)
    values = int8_weights(layer)
    return [
        {
            "layer": layer.name,
            "dchw": own,
            "entropy": entropy_bytes(layer),
            "arm_mlw": len(mlw_codec.encode(values.reshape(-1).tolist())),
            "zstd_codes": len(packer.compress(layer.codes.tobytes())),
            "zstd_fp32": len(packer.compress(layer.weight.tobytes())),
        }
    ]


def entropy_bytes(layer: CompressedLayer) -> int:
    """Empirical entropy of a layer's codes, pruned weights included, rounded up to bytes."""
    counts = symbol_counts(layer.codes)
    counts = counts[counts > 0]
    share = counts / counts.sum()
    return int(np.ceil(-(counts * np.log2(share)).sum() / 8))


def int8_weights(layer: CompressedLayer) -> np.ndarray[tuple[int, ...], np.dtype[np.int8]]:
    """Weights rounded to int8, symmetric, one step per layer."""
    largest = float(np.abs(layer.codebook).max())
    if largest == 0:
        return np.zeros(layer.codes.shape, np.int8)
    rounded = np.clip(np.rint(layer.codebook / largest * 127), -127, 127)
    out: np.ndarray[tuple[int, ...], np.dtype[np.int8]] = rounded.astype(np.int8)[layer.codes]
    return out
