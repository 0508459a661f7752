"""What was read back from packed bytes: as a matrix, and beside the layer that was packed."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from dchw.compile import kernel
from dchw.compression.compressed import CodeArray, CompressedLayer
from dchw.formats.packing.packed import DenseWeights, Entries, Unpacked
from dchw.formats.packing.run_layout import Int32s
from dchw.formats.packing.weight_rows import UNUSED, Uint32s
from dchw.graph.network import FloatArray

_ROWS = 64
"""Rows of a matrix that are compared at a time."""


def weight_matrix(unpacked: Unpacked) -> FloatArray:
    """The weight matrix, float32[out_channels, columns], rebuilt from what was decoded.

    Raises ValueError for entries of which only the places were kept.
    """
    if isinstance(unpacked, DenseWeights):
        return unpacked.matrix[:]
    if unpacked.value.size != unpacked.row.size:
        raise ValueError(f"expected {unpacked.row.size} values; got {unpacked.value.size}; unpack the layer again")
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
    if not same_bits(unpacked.bias, layer.bias):
        return False
    values = shared_values(unpacked, layer)
    return values is not None and same_bits(np.where(np.isnan(values), layer.codebook, values), layer.codebook)


def shared_values(unpacked: Unpacked, layer: CompressedLayer) -> FloatArray | None:
    """What each code of a layer was decoded to, float32[codebook values]; every weight is looked at.

    NaN where no weight of the layer has a code. None where weights of one code were decoded to values that differ, bit
    for bit, or to others than the layer's where a format scales its channels.
    """
    codes, codebook = layer.matrix_codes, layer.codebook
    if isinstance(unpacked, Entries):
        return _values_of_entries(unpacked, layer)
    if not isinstance(unpacked.matrix, np.ndarray):
        values = unpacked.matrix.shared(codes, codebook.size)
        if values is not None:
            return values
    bits = codebook.view(np.uint32)
    for first in range(0, codes.shape[0], _ROWS):
        rows = slice(first, first + _ROWS)
        if not _all_equal(unpacked.matrix[rows].view(np.uint32), codes[rows], bits):
            return None
    return codebook


def _values_of_entries(entries: Entries, layer: CompressedLayer) -> FloatArray | None:
    """As `shared_values`, of entries."""
    codes = layer.matrix_codes
    bits = np.full(layer.codebook.size, UNUSED, np.uint32)
    value = entries.value.view(np.uint32)
    # positions within a run ascend, so that as many entries as there are weights are at as many places
    found = _same_of_codes(entries.run_job, entries.run_count, entries.row, value, entries.is_filler, codes, bits)
    unused = bits == UNUSED
    if found != layer.nonzeros:
        # all weights of a code may be left out, as +0.0; but not some of them
        unused[0] = True
        if found != int(np.count_nonzero(~unused[codes])):
            return None
        used = np.bincount(codes.reshape(-1), minlength=bits.size) > 0
        bits[unused & used] = 0
        unused &= ~used
    bits[0] = 0
    unused[0] = False
    bits[unused] = np.float32(np.nan).view(np.uint32)
    return bits.view(np.float32)


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
def _same_of_codes(
    run_job: Int32s,
    run_count: Int32s,
    row: Int32s,
    value: Uint32s,
    is_filler: npt.NDArray[np.bool_],
    codes: CodeArray,
    of_codes: Uint32s,
) -> int:
    # entries but fillers, if all of equal codes are equal and none is of code 0; otherwise -1. Fills in the values of
    # codes that are UNUSED
    rows, columns = np.uint64(codes.shape[0]), codes.shape[1]
    found = 0
    at = np.int64(0)
    for run in range(run_count.size):
        column = run_job[run]
        if column >= columns:  # a division, which most layers can do without
            column %= columns
        place = np.uint64(column)
        for i in range(np.uint64(at), np.uint64(at + run_count[run])):
            if not is_filler[i]:
                if np.uint64(row[i]) >= rows:  # damaged: behind the last row
                    return -1
                code = codes[np.uint64(row[i]), place]
                if of_codes[code] != value[i]:
                    if of_codes[code] != UNUSED:
                        return -1
                    of_codes[code] = value[i]
                if code == 0:
                    return -1
                found += 1
        at += run_count[run]
    return found


@kernel
def _all_equal(matrix: Uint32s, codes: CodeArray, values: Uint32s) -> bool:
    for row in range(codes.shape[0]):
        line, mine = matrix[row], codes[row]
        differ = 0
        for column in range(codes.shape[1]):
            differ += values[mine[column]] != line[column]
        if differ > 0:
            return False
    return True
