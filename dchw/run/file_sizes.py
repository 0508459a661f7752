"""Bytes of a network as a file in each storage format."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from dchw.compression.compressed import Coding, CompressedNetwork, Positions, Storage
from dchw.compression.relative_index import encode_gaps
from dchw.quantities import ceil_div


def file_bytes(network: CompressedNetwork, storage: str) -> int:
    """Bytes of the network as a file in one storage format.

    ``huffman`` is the length of the ``.dchw`` file as it is, ``shared`` that of the same file with fixed-width fields;
    ``relative`` and ``csr`` store float32 values with flattened gaps or 32-bit indices and row pointers, the dense
    formats plain arrays (int8 with a float32 scale per output channel); all with float32 biases.
    """
    from dchw.container.sizes import network_sizes

    if storage == "huffman":
        return network_sizes(network).file_bytes
    if storage == "shared":
        layers = tuple(replace(layer, storage=_fixed_width(layer.storage)) for layer in network.layers)
        return network_sizes(replace(network, layers=layers)).file_bytes
    total = 0
    for layer in network.layers:
        total += 0 if layer.bias is None else 4 * layer.bias.size
        rows, weights = layer.codes.shape[0], layer.codes.size
        if storage == "csr":
            total += 8 * layer.nonzeros + 4 * (rows + 1)
        elif storage == "relative":
            positions = np.flatnonzero(layer.codes.ravel())
            gaps, _ = encode_gaps(positions, layer.codes.ravel()[positions], layer.storage.index_bits)
            total += 4 * gaps.size + ceil_div(gaps.size * layer.storage.index_bits, 8)
        else:
            total += {"dense-fp32": 4 * weights, "dense-fp16": 2 * weights, "dense-int8": weights + 4 * rows}[storage]
    return total


def _fixed_width(storage: Storage) -> Storage:
    return replace(storage, code_coding=Coding.FIXED, gap_coding=Coding.FIXED, positions=Positions.GAPS)
