"""A layer in 16-bit fixed point, one product at a time in Python integers and fractions."""

from __future__ import annotations

import math
from fractions import Fraction


def fraction_bits(values: list[float]) -> int:
    """Most fraction bits at which every value fits 16 bits."""
    largest = max((abs(Fraction(value)) for value in values), default=Fraction(0))
    if largest == 0:
        return 0
    bits = -200
    while nearest(largest * Fraction(2) ** (bits + 1)) <= 32767:
        bits += 1
    return bits


def nearest(value: Fraction) -> int:
    """Nearest integer, ties to even."""
    return round(value)


def layer(matrix: list[list[float]], bias: list[float] | None, column: list[list[float]]) -> list[list[float]]:
    """``matrix`` [rows][k] times ``column`` [k][pixels] plus bias, as the hardware rounds it."""
    fw = fraction_bits([w for row in matrix for w in row])
    fx = fraction_bits([x for row in column for x in row])
    weights = [[nearest(Fraction(w) * Fraction(2) ** fw) for w in row] for row in matrix]
    inputs = [[nearest(Fraction(x) * Fraction(2) ** fx) for x in row] for row in column]
    sums = [
        [sum(weights[r][k] * inputs[k][p] for k in range(len(inputs))) for p in range(len(inputs[0]))]
        for r in range(len(weights))
    ]
    if bias is not None:
        for r, b in enumerate(bias):
            sums[r] = [s + nearest(Fraction(b) * Fraction(2) ** (fw + fx)) for s in sums[r]]
    fy = fraction_bits([_float32(Fraction(s) / Fraction(2) ** (fw + fx)) for row in sums for s in row])
    scale = Fraction(2) ** (fy - fw - fx)
    fixed = [[min(32767, max(-32768, math.floor(s * scale + Fraction(1, 2)))) for s in row] for row in sums]
    return [[float(Fraction(v) / Fraction(2) ** fy) for v in row] for row in fixed]


def _float32(value: Fraction) -> float:
    import struct

    return float(struct.unpack("f", struct.pack("f", float(value)))[0])
