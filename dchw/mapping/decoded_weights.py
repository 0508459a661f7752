"""The weights of a layer as its parts decode them, and whether they are the layer's own."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np

from dchw.compression.compressed import CompressedLayer
from dchw.formats import decodes_to, own_matrix, weight_matrix
from dchw.graph.network import FloatArray
from dchw.mapping.parts import Part
from dchw.mapping.passing import OwnWeights


class DecodedWeights:
    """What all parts of rows decode to. A matrix is made where it is multiplied, or differs from the layer's own."""

    def __init__(self, layer: CompressedLayer, parts: Sequence[Part]) -> None:
        self._layer, self._parts = layer, tuple(parts)

    @cached_property
    def own(self) -> OwnWeights | None:
        """What the layer holds, where every decoded bit is looked at and equal; otherwise None."""
        equal = all(decodes_to(part.weights, part.layer) for part in self._parts)
        return OwnWeights(self._layer.matrix_codes, self._layer.codebook, self._layer.bias) if equal else None

    @property
    def arrays(self) -> tuple[FloatArray, ...]:
        """Matrix and, if there are any, biases."""
        return (self.matrix,) if self.bias is None else (self.matrix, self.bias)

    @cached_property
    def matrix(self) -> FloatArray:
        """float32[out_channels, columns]"""
        if self.own is not None:  # the same, row by row instead of entry by entry
            return own_matrix(self._layer)
        matrices = [weight_matrix(part.weights) for part in self._parts]
        return matrices[0] if len(matrices) == 1 else np.concatenate(matrices)

    @cached_property
    def bias(self) -> FloatArray | None:
        """float32[out_channels]"""
        biases = [part.weights.bias for part in self._parts if part.weights.bias is not None]
        return np.concatenate(biases) if biases else None
