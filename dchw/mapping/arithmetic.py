"""How the simulated array computes: in float32, in 16-bit fixed point bit by bit, or not at all (timing only).

Fixed point: a tensor is int16 x 2**-f with one f per tensor, the largest f at which no value exceeds 32,767 in
magnitude (0 for a tensor of zeros); values round to nearest, ties to even. Weights are those that were decoded.
Products and sums are exact integers; the bias is rounded to the sums' scale and added. A sum is shifted to the
outputs' f with half of the last place added first (ties upward) and saturates at -32,768 and 32,767.

Where a storage format of int8 weights meets a machine that multiplies bytes, float32 means the products of integers
times their scales: every layer's input is rounded to int8 first (`as_bytes`), and sums of bytes times bytes are exact
up to the float32 rounding of their scales.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any

import numpy as np
import numpy.typing as npt

from dchw.compression.value_formats import LARGEST_INT8
from dchw.formats import WeightRows
from dchw.graph.network import FloatArray

LARGEST = 2**15 - 1
_ROWS = 64
"""Rows that are made, and multiplied with a single column, at a time."""


class Arithmetic(StrEnum):
    """What the multiplications of a run are computed in."""

    FLOAT32 = "float32"
    FIXED16 = "fixed16"
    NONE = "none"
    """No outputs: every layer's input is synthetic, and only time and events are studied."""


def fraction_bits(values: FloatArray) -> int:
    """The largest f at which ``values * 2**f`` rounds to at most 32,767 in magnitude; 0 where all are zero."""
    largest = float(np.abs(values).max(initial=0.0))
    if largest == 0.0:
        return 0
    bits = 15 - int(np.frexp(largest)[1])
    return bits if np.rint(np.ldexp(largest, bits)) <= LARGEST else bits - 1


def to_fixed(values: FloatArray, bits: int) -> npt.NDArray[np.int64]:
    """Integers of so many fraction bits, rounded to nearest, ties to even."""
    return np.rint(np.ldexp(values.astype(np.float64), bits)).astype(np.int64)


def shifted(sums: npt.NDArray[np.int64], right: int) -> npt.NDArray[np.int64]:
    """Sums with ``right`` fewer fraction bits, ties upward, saturated to 16 bits."""
    moved = (sums + (1 << (right - 1))) >> right if right > 0 else sums << -right
    return np.asarray(np.clip(moved, -LARGEST - 1, LARGEST), dtype=np.int64)


def products(
    matrix: FloatArray | WeightRows, bias: FloatArray | None, columns: FloatArray, groups: int, arithmetic: Arithmetic
) -> FloatArray:
    """float32[out_channels, pixels]: the weight matrix times ``columns`` [groups, columns, pixels], plus the bias."""
    if arithmetic is Arithmetic.FLOAT32:
        out = _grouped(matrix, columns, groups)
        if bias is not None:
            out += bias[:, None]
        return out
    matrix = matrix[:]
    weight_bits, input_bits = fraction_bits(matrix), fraction_bits(columns)
    # integers below 2**16 times 2**16 summed over less than 2**21 columns are exact in float64
    exact = _grouped(
        to_fixed(matrix, weight_bits).astype(np.float64), to_fixed(columns, input_bits).astype(np.float64), groups
    )
    sums = exact.astype(np.int64)
    if bias is not None:
        sums += to_fixed(bias, weight_bits + input_bits)[:, None]
    values = np.ldexp(sums.astype(np.float64), -(weight_bits + input_bits)).astype(np.float32)
    output_bits = fraction_bits(values)
    fixed = shifted(sums, weight_bits + input_bits - output_bits)
    return np.ldexp(fixed.astype(np.float64), -output_bits).astype(np.float32)


def as_bytes(values: FloatArray) -> FloatArray:
    """Values as int8 holds them, symmetric over the whole tensor: -127 to 127 times the largest magnitude / 127.

    Rounds to nearest, ties to even; a tensor whose step would be no normal float32 is all zero.
    """
    step = np.float32(np.abs(values).max(initial=0.0) / np.float32(LARGEST_INT8))
    if step < np.finfo(np.float32).tiny:
        return np.zeros_like(values)
    return np.asarray(np.clip(np.rint(values / step), -LARGEST_INT8, LARGEST_INT8) * step, dtype=np.float32)


def _grouped(matrix: npt.NDArray[Any] | WeightRows, columns: npt.NDArray[Any], groups: int) -> npt.NDArray[Any]:
    rows, pixels = matrix.shape[0] // groups, columns.shape[2]
    out = np.empty((matrix.shape[0], pixels), columns.dtype)
    # rows times a single column are sums of their own, each the same in whatever block; of more columns they are not
    step = _ROWS if pixels == 1 else max(rows, 1)
    for group in range(groups):
        for first in range(group * rows, (group + 1) * rows, step):
            at = slice(first, min(first + step, (group + 1) * rows))
            out[at] = matrix[at] @ columns[group]
    return out
