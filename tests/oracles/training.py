"""Slow, plain versions of what training computes."""

from __future__ import annotations

import math

import numpy as np


def summed_gradients(weight_gradient: np.ndarray, codes: np.ndarray, shared_values: int) -> np.ndarray:
    """The gradient of every shared value: the sum over the weights that use it, one weight at a time."""
    sums = np.zeros(shared_values)
    for gradient, code in zip(weight_gradient.reshape(-1), codes.reshape(-1), strict=True):
        if code:
            sums[int(code) - 1] += float(gradient)
    return sums


def adam(start: float, gradients: list[float], rates: list[float]) -> float:
    """One parameter after Adam's steps (Kingma and Ba, arXiv:1412.6980, algorithm 1)."""
    value, m, v = start, 0.0, 0.0
    for t, (gradient, rate) in enumerate(zip(gradients, rates, strict=True), start=1):
        m = 0.9 * m + 0.1 * gradient
        v = 0.999 * v + 0.001 * gradient**2
        value -= rate * (m / (1 - 0.9**t)) / (math.sqrt(v / (1 - 0.999**t)) + 1e-8)
    return value


def bilinear_resize(image: np.ndarray, side: int) -> np.ndarray:
    """A square image resized pixel by pixel: half-pixel centres, the border held, rounded to whole grey levels."""
    old = image.shape[0]
    out = np.zeros((side, side))
    for y in range(side):
        for x in range(side):
            v = min(max((y + 0.5) * old / side - 0.5, 0), old - 1)
            u = min(max((x + 0.5) * old / side - 0.5, 0), old - 1)
            top, left = min(int(v), old - 2), min(int(u), old - 2)
            dv, du = v - top, u - left
            out[y, x] = (
                image[top, left] * (1 - dv) * (1 - du)
                + image[top, left + 1] * (1 - dv) * du
                + image[top + 1, left] * dv * (1 - du)
                + image[top + 1, left + 1] * dv * du
            )
    return np.rint(out)


def idx_bytes(shape: tuple[int, ...], data: bytes) -> bytes:
    """An IDX file of unsigned bytes, written field by field."""
    header = bytes([0, 0, 8, len(shape)])
    for size in shape:
        header += size.to_bytes(4, "big")
    return header + data
