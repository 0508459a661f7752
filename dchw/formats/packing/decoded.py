"""What was read back from packed bytes: as a matrix, and beside the layer that was packed."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from dchw.compile import kernel
from dchw.compression.compressed import CodeArray, CompressedLayer
from dchw.formats.packing.packed import DenseWeights, Unpacked
from dchw.formats.packing.run_layout import Int32s
from dchw.graph.network import FloatArray


def weight_matrix(unpacked: Unpacked) -> FloatArray:
    """The weight matrix, float32[out_channels, columns], rebuilt from what was decoded."""
    if isinstance(unpacked, DenseWeights):
        return unpacked.matrix
    geometry = unpacked.geometry
    matrix = np.zeros((geometry.out_channels, geometry.columns), dtype=np.float32)
    _scatter(unpacked.run_job, unpacked.run_count, unpacked.row, unpacked.value, unpacked.is_filler, matrix)
    return matrix


@kernel
def _scatter(
    run_job: Int32s,
    run_count: Int32s,
    row: Int32s,
    value: FloatArray,
    is_filler: npt.NDArray[np.bool_],
    matrix: FloatArray,
) -> None:
    columns = matrix.shape[1]
    at = np.int64(0)
    for run in range(run_count.size):
        column = run_job[run] % columns
        for i in range(at, at + run_count[run]):
            if not is_filler[i]:
                matrix[row[i], column] = value[i]
        at += run_count[run]


def decodes_to(unpacked: Unpacked, layer: CompressedLayer) -> bool:
    """Whether what was decoded is a layer's weights and biases, bit for bit; every weight is looked at."""
    codes, values = layer.matrix_codes, layer.codebook.view(np.uint32)
    if not same_bits(unpacked.bias, layer.bias):
        return False
    if isinstance(unpacked, DenseWeights):
        return bool(_all_equal(unpacked.matrix.view(np.uint32), codes, values))
    # positions within a run ascend, so that as many as are stored cannot be fewer places
    stored = layer.nonzeros if values[1:].all() else int(np.count_nonzero(values[codes]))
    value = unpacked.value.view(np.uint32)
    runs = unpacked.run_job, unpacked.run_count
    return int(_equal_entries(*runs, unpacked.row, value, unpacked.is_filler, codes, values)) == stored


def own_matrix(layer: CompressedLayer) -> FloatArray:
    """The weight matrix that a layer holds, float32[out_channels, columns]."""
    matrix = np.empty(layer.matrix_codes.shape, np.float32)
    _look_up(layer.matrix_codes, layer.codebook, matrix)
    return matrix


@kernel
def _look_up(codes: CodeArray, values: FloatArray, matrix: FloatArray) -> None:
    for row in range(codes.shape[0]):
        for column in range(codes.shape[1]):
            matrix[row, column] = values[codes[row, column]]


def same_bits(one: npt.NDArray[Any] | None, other: npt.NDArray[Any] | None) -> bool:
    """Whether two arrays, or their absence, are the same, -0.0 being another value than +0.0."""
    if one is None or other is None or one is other:
        return one is other
    if one.dtype != other.dtype or one.shape != other.shape:
        return False
    if one.__array_interface__["data"] == other.__array_interface__["data"] and one.strides == other.strides:
        return True  # views of one array
    return np.array_equal(one.view(f"u{one.itemsize}"), other.view(f"u{other.itemsize}"))


@kernel
def _equal_entries(
    run_job: Int32s,
    run_count: Int32s,
    row: Int32s,
    value: npt.NDArray[np.uint32],
    is_filler: npt.NDArray[np.bool_],
    codes: CodeArray,
    values: npt.NDArray[np.uint32],
) -> int:
    # entries that are not +0.0, if all are as their codes say; otherwise -1
    columns = codes.shape[1]
    found = 0
    at = np.int64(0)
    for run in range(run_count.size):
        column = run_job[run] % columns
        for i in range(at, at + run_count[run]):
            if not is_filler[i]:
                if values[codes[row[i], column]] != value[i]:
                    return -1
                found += value[i] != 0
        at += run_count[run]
    return found


@kernel
def _all_equal(matrix: npt.NDArray[np.uint32], codes: CodeArray, values: npt.NDArray[np.uint32]) -> bool:
    for row in range(codes.shape[0]):
        line, mine = matrix[row], codes[row]
        differ = 0
        for column in range(codes.shape[1]):
            differ += values[mine[column]] != line[column]
        if differ > 0:
            return False
    return True
