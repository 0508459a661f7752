"""Windows that slide over an array, over any number of axes: convolutions, pools, and their transposes."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from dchw.graph.geometry import Geometry
from dchw.graph.operations import FloatArray

Sizes = Sequence[int]


def windows(
    x: npt.NDArray[Any], kernel: Sizes, stride: Sizes, dilation: Sizes, out: Sizes
) -> Iterator[tuple[tuple[int, ...], npt.NDArray[Any]]]:
    """(place in the kernel, view [..., *out] of what that place sees) of x [..., *size]."""
    for place in itertools.product(*map(range, kernel)):
        seen: tuple[Any, ...] = tuple(
            slice(first * step, first * step + (count - 1) * move + 1, move)
            for first, step, count, move in zip(place, dilation, out, stride, strict=True)
        )
        yield place, x[(..., *seen)]


def padded(x: npt.NDArray[Any], before: Sizes, after: Sizes, value: float) -> npt.NDArray[Any]:
    """x [n, c, *size] with values before and after each axis of its size."""
    if not any((*before, *after)):
        return x
    return np.pad(x, ((0, 0), (0, 0), *zip(before, after, strict=True)), constant_values=value)


def patches(x: npt.NDArray[Any], geometry: Geometry, first: int = 0, end: int | None = None) -> npt.NDArray[Any]:
    """What every output pixel of a convolution reads: [n, groups, columns, output_pixels], as x [n, c, *size] has them.

    Rows within a column run over (input channel of the group, places in the kernel), the order of the weight matrix;
    output pixels run in C order, those of rows ``first`` to ``end`` of the output; by default all of them.
    """
    n, channels = x.shape[:2]
    kernel, of_row = geometry.kernel, geometry.out_size[1:]
    end = geometry.out_size[0] if end is None else end
    out = (end - first, *of_row)
    if max(*kernel, *geometry.stride, 1) == 1 and not any(geometry.padding):
        return x[:, :, first:end].reshape(n, geometry.groups, channels // geometry.groups, -1)
    low = first * geometry.stride[0] - geometry.padding[0]
    reach = (end - first - 1) * geometry.stride[0] + (kernel[0] - 1) * geometry.dilation[0] + 1
    read = x[:, :, max(low, 0) : max(low + reach, 0)]
    before = min(max(-low, 0), reach)
    beside = geometry.padding[1:]
    source = padded(read, (before, *beside), (reach - before - read.shape[2], *beside), 0)
    result = np.empty((n, channels, *kernel, *out), x.dtype)
    for place, seen in windows(source, kernel, geometry.stride, geometry.dilation, out):
        at: tuple[Any, ...] = (slice(None), slice(None), *place)
        result[at] = seen
    return result.reshape(n, geometry.groups, geometry.columns, math.prod(out))


def fold(x: FloatArray, kernel: Sizes, stride: Sizes, padding: Sizes, dilation: Sizes, out: Sizes) -> FloatArray:
    """Sum of overlapping windows, float32[n, c, *out] for x [n, c * kernel, *size]: what `patches` takes apart."""
    n, size = x.shape[0], x.shape[2:]
    whole = [o + 2 * p for o, p in zip(out, padding, strict=True)]
    result = np.zeros((n, x.shape[1] // int(np.prod(kernel)), *whole), np.float32)
    parts = x.reshape(n, -1, *kernel, *size)
    for place, seen in windows(result, kernel, stride, dilation, size):
        at: tuple[Any, ...] = (slice(None), slice(None), *place)
        seen += parts[at]
    kept: tuple[Any, ...] = tuple(slice(p, p + o) for p, o in zip(padding, out, strict=True))
    return result[(..., *kept)]


def resized(x: FloatArray, out: Sizes, mode: str, align_corners: bool, step: Sequence[float]) -> FloatArray:
    """x [n, c, *size] at another size, nearest or linear, as ``torch.nn.functional.interpolate`` defines them.

    ``step``: how far apart two neighbouring outputs read, in inputs.
    """
    for axis, (count, move) in enumerate(zip(out, step, strict=True), 2):
        size, places = x.shape[axis], np.arange(count)
        if mode != "linear":
            shift = 0.5 if mode == "nearest_exact" else 0.0
            x = np.take(x, np.minimum(np.floor((places + shift) * np.float32(move)).astype(int), size - 1), axis)
            continue
        at = places * move if align_corners else np.maximum((places + 0.5) * move - 0.5, 0)
        low = np.minimum(at.astype(int), size - 1)
        share = (at - low).astype(np.float32).reshape(-1, *(1,) * (x.ndim - axis - 1))
        x = np.take(x, low, axis) * (1 - share) + np.take(x, np.minimum(low + 1, size - 1), axis) * share
    return x
