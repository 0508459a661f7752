"""What a layer multiplies its weights with: the columns that its output pixels read, and which of them are not zero."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from dchw.compile import kernel
from dchw.graph.geometry import Geometry
from dchw.graph.network import FloatArray, Operation
from dchw.graph.operations import CONVOLUTIONS
from dchw.graph.sliding_windows import patches
from dchw.mapping.tiling import Tiling

Activity = npt.NDArray[np.uint16] | npt.NDArray[np.uint32]
Bools = npt.NDArray[np.bool_]


_BLOCK_BYTES = 1 << 22
"""Of values that are laid out and multiplied at a time: they stay in a cache, and take no fresh memory."""


class Columns:
    """The input of a layer, column by column; the batch's output pixels lie side by side.

    Each is made when it is first asked for: a layer whose output is known already needs no values.
    """

    def __init__(self, x: FloatArray, geometry: Geometry, op: Operation) -> None:
        self._x, self._geometry, self._op = x, geometry, op

    @cached_property
    def values(self) -> FloatArray:
        """float32[groups, columns, pixels]"""
        return self._laid_out(self._x)

    def blocks(self) -> Iterator[tuple[slice, FloatArray]]:
        """(pixels, their values) of some rows of the output at a time, where all at once would be many."""
        geometry = self._geometry
        rows, size = geometry.out_size[0], 4 * geometry.groups * geometry.columns * geometry.output_pixels
        count = min(size // _BLOCK_BYTES, rows)
        if self._op.kind not in CONVOLUTIONS or self._x.shape[0] > 1 or count < 2:
            yield slice(None), self.values
            return
        of_row = geometry.output_pixels // rows
        for first, end in pairwise(rows * part // count for part in range(count + 1)):
            (values,) = patches(self._x, geometry, first, end)
            yield slice(first * of_row, end * of_row), values

    @cached_property
    def nonzero(self) -> Bools:
        """bool[groups, columns, pixels]: which values are not zero."""
        return self._laid_out(self._x != 0)

    def _laid_out(self, x: npt.NDArray[Any]) -> npt.NDArray[Any]:
        geometry = self._geometry
        if self._op.kind in CONVOLUTIONS:
            columns = patches(x, geometry)
            return np.ascontiguousarray(columns.transpose(1, 2, 0, 3)).reshape(geometry.groups, geometry.columns, -1)
        return np.ascontiguousarray(x.reshape(-1, geometry.in_channels).T)[None]


def activity_of(nonzero: Bools, first: int, tiling: Tiling, lanes: int, *, looks: bool) -> Activity:
    """[passes, jobs]: groups of lanes that are broadcast, block by block.

    ``nonzero``: bool[jobs, pixels], of which the stage's begin with ``first``. Groups with a non-zero activation; all
    of them where the array does not look at values.
    """
    jobs, most = nonzero.shape[0], -(-tiling.tile // lanes)
    out = np.zeros((tiling.passes, jobs), np.uint16 if most <= np.iinfo(np.uint16).max else np.uint32)
    bounds = np.array(tiling.bounds(jobs), np.int64)
    if looks:
        _active_groups(nonzero, first, first + tiling.pixels, tiling.tile, lanes, bounds, out)
        return out
    for index in range(tiling.passes):
        block = index // tiling.tiles
        out[index, bounds[block] : bounds[block + 1]] = -(-tiling.pixels_in(index) // lanes)
    return out


@kernel
def _active_groups(
    nonzero: Bools, first: int, end: int, tile: int, lanes: int, bounds: npt.NDArray[np.int64], out: Activity
) -> None:
    tiles = (end - first + tile - 1) // tile
    for block in range(bounds.size - 1):
        for job in range(bounds[block], bounds[block + 1]):
            line = nonzero[job]
            for index in range(tiles):
                at = first + index * tile
                until = min(at + tile, end)
                count = 0
                while at < until:
                    behind = min(at + lanes, until)
                    active = False
                    for pixel in range(at, behind):  # no way out: groups are short, and zeros cannot be predicted
                        active |= line[np.uint64(pixel)]
                    count += active
                    at = behind
                out[block * tiles + index, job] = count
