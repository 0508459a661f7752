"""ONNX operators by their definition, one value at a time: pools, Gemm, recurrent cells, quantised convolutions.

Pools follow onnxruntime where ceil_mode and padding meet, as ONNX's definition since version 19 does: no window starts
in the padding behind.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

Array = np.ndarray


def pool_places(size: int, kernel: int, stride: int, before: int, after: int, dilation: int, ceil_mode: bool) -> int:
    """How many windows an axis has: counted by setting one after another."""
    reach, count, start = dilation * (kernel - 1) + 1, 0, -before
    while start + reach <= size + after:
        count, start = count + 1, start + stride
    if ceil_mode and start < size and start + reach - stride < size + after:
        count += 1
    return count


def pool(
    x: Array,
    kernel: Sequence[int],
    stride: Sequence[int],
    pads: Sequence[int],
    dilation: Sequence[int],
    *,
    ceil_mode: bool,
    average: bool,
    count_padding: bool = False,
) -> Array:
    """MaxPool or AveragePool of x [n, c, h, w]."""
    n, channels, height, width = x.shape
    rows = pool_places(height, kernel[0], stride[0], pads[0], pads[2], dilation[0], ceil_mode)
    columns = pool_places(width, kernel[1], stride[1], pads[1], pads[3], dilation[1], ceil_mode)
    out = np.zeros((n, channels, rows, columns))
    for place in np.ndindex(*out.shape):
        seen, counted = [], 0
        for i in range(kernel[0]):
            for j in range(kernel[1]):
                y = place[2] * stride[0] - pads[0] + i * dilation[0]
                z = place[3] * stride[1] - pads[1] + j * dilation[1]
                inside = 0 <= y < height and 0 <= z < width
                if inside:
                    seen.append(float(x[place[0], place[1], y, z]))
                padding = -pads[0] <= y < height + pads[2] and -pads[1] <= z < width + pads[3]
                counted += inside or (count_padding and padding)
        out[place] = math.fsum(seen) / counted if average else max(seen)
    return out


def gemm(a: Array, b: Array, c: Array | None, alpha: float, beta: float, trans_a: bool, trans_b: bool) -> Array:
    """alpha * a' * b' + beta * c, every value by itself."""
    a, b = (a.T if trans_a else a), (b.T if trans_b else b)
    out = np.zeros((a.shape[0], b.shape[1]))
    added = np.zeros(out.shape) if c is None else np.broadcast_to(c, out.shape)
    for i in range(out.shape[0]):
        for j in range(out.shape[1]):
            out[i, j] = alpha * math.fsum(float(a[i, k]) * float(b[k, j]) for k in range(a.shape[1]))
            out[i, j] += beta * float(added[i, j])
    return out


def _sigmoid(x: Array) -> Array:
    return 1 / (1 + np.exp(-x))


def recurrent(
    kind: str, x: Array, w: Array, r: Array, b: Array, h: Array, c: Array, directions: Sequence[bool]
) -> tuple[Array, Array, Array]:
    """Y, Y_h, Y_c of LSTM, GRU (linear_before_reset) or RNN, x being [steps, 1, inputs]; directions: reversed?"""
    steps, _, _ = x.shape
    hidden = r.shape[2]
    y = np.zeros((steps, len(directions), 1, hidden))
    last_h, last_c = np.zeros((len(directions), 1, hidden)), np.zeros((len(directions), 1, hidden))
    for d, reverse in enumerate(directions):
        state, cell = h[d, 0].astype(float), c[d, 0].astype(float)
        wb, rb = np.split(b[d].astype(float), 2)
        for t in reversed(range(steps)) if reverse else range(steps):
            of_x, of_h = w[d].astype(float) @ x[t, 0] + wb, r[d].astype(float) @ state + rb
            if kind == "LSTM":
                i, o, f, g = np.split(of_x + of_h, 4)
                cell = _sigmoid(f) * cell + _sigmoid(i) * np.tanh(g)
                state = _sigmoid(o) * np.tanh(cell)
            elif kind == "GRU":
                (zx, rx, nx), (zh, rh, nh) = np.split(of_x, 3), np.split(of_h, 3)
                z = _sigmoid(zx + zh)
                new = np.tanh(nx + _sigmoid(rx + rh) * nh)
                state = (1 - z) * new + z * state
            else:
                state = np.tanh(of_x + of_h)
            y[t, d, 0] = state
        last_h[d, 0], last_c[d, 0] = state, cell
    return y, last_h, last_c


def qlinear_conv(
    x: Array, x_zero: int, w: Array, w_zero: Array, bias: Array, scale: Array, y_zero: int, pads: int
) -> Array:
    """QLinearConv in whole numbers, stride 1: uint8[n, out, h, w]; ``scale``: x_scale * w_scale[out] / y_scale."""
    n, channels, height, width = x.shape
    out_channels, _, kh, kw = w.shape
    out = np.zeros((n, out_channels, height + 2 * pads - kh + 1, width + 2 * pads - kw + 1), np.int64)
    for place in np.ndindex(*out.shape):
        total = int(bias[place[1]])
        for c, i, j in np.ndindex(channels, kh, kw):
            y, z = place[2] + i - pads, place[3] + j - pads
            if 0 <= y < height and 0 <= z < width:
                total += (int(x[place[0], c, y, z]) - x_zero) * (int(w[place[1], c, i, j]) - int(w_zero[place[1]]))
        out[place] = min(255, max(0, round(total * float(scale[place[1]])) + y_zero))
    return out
