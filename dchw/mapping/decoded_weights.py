"""The weights of a layer as its parts decode them, and whether they are the layer's own."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np

from dchw.compression.compressed import CodeArray, CompressedLayer
from dchw.formats import CodedRows, DenseWeights, WeightRows, weight_matrix
from dchw.formats.packing.decoded import same_bits
from dchw.graph.network import FloatArray
from dchw.mapping.parts import Part
from dchw.mapping.passing import CodedWeights


class DecodedWeights:
    """What all parts of rows decode to. Rows are made where they are multiplied, or compared with what is no code."""

    def __init__(self, layer: CompressedLayer, parts: Sequence[Part]) -> None:
        self._layer, self._parts = layer, tuple(parts)

    @cached_property
    def coded(self) -> CodedWeights | None:
        """The layer's codes with what each was decoded to, where that is one value each; every decoded bit is looked
        at. Its own shared values where they are those."""
        values = np.full(self._layer.codebook.size, np.nan, np.float32)
        for part in self._parts:
            found = part.values
            if found is None:
                return None
            known = ~np.isnan(values) & ~np.isnan(found)
            if not same_bits(values[known], found[known]):
                return None
            values = np.where(np.isnan(values), found, values)
        codebook, bias = self._layer.codebook, self._layer.bias
        values = np.where(np.isnan(values), codebook, values)
        if same_bits(values, codebook):
            values = codebook
        return CodedWeights(self._layer.matrix_codes, values, bias if same_bits(self.bias, bias) else self.bias)

    @property
    def arrays(self) -> tuple[FloatArray | WeightRows, ...]:
        """Rows of the matrix and, if there are any, biases."""
        return (self.rows,) if self.bias is None else (self.rows, self.bias)

    @cached_property
    def rows(self) -> FloatArray | WeightRows:
        """Rows of the matrix."""
        if self.coded is not None:
            return CodedRows(self.coded.codes, self.coded.values)
        parts = [
            part.weights.matrix if isinstance(part.weights, DenseWeights) else weight_matrix(part.weights)
            for part in self._parts
        ]
        return parts[0] if len(parts) == 1 else _RowsOfParts(parts)

    @cached_property
    def bias(self) -> FloatArray | None:
        """float32[out_channels]"""
        biases = [part.weights.bias for part in self._parts if part.weights.bias is not None]
        return np.concatenate(biases) if biases else None


class _RowsOfParts:
    """Rows of a matrix that is there in parts."""

    def __init__(self, parts: Sequence[FloatArray | WeightRows]) -> None:
        self._parts = parts

    @property
    def shape(self) -> tuple[int, ...]:
        return sum(part.shape[0] for part in self._parts), self._parts[0].shape[1]

    def __getitem__(self, rows: slice) -> FloatArray:
        first, end, _ = rows.indices(self.shape[0])
        found, before = [], 0
        for part in self._parts:
            mine = slice(max(first - before, 0), max(min(end - before, part.shape[0]), 0))
            if mine.start < mine.stop:
                found.append(part[mine])
            before += part.shape[0]
        return found[0] if len(found) == 1 else np.concatenate(found)

    def shared(self, codes: CodeArray, count: int) -> FloatArray | None:
        return None
