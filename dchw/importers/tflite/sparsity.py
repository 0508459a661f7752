"""Sparse tensors of a TFLite file as whole arrays, by the comments of the schema's `SparsityParameters`."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from dchw.graph.operations import Array

Places = npt.NDArray[np.int64]
_SPARSE = 1


def densified(values: Array, shape: tuple[int, ...], sparsity: Any) -> Array:
    """The array of ``shape`` whose stored values are ``values``, in the order that ``sparsity`` tells.

    The axes of the array, and of the blocks that some are cut into, are gone through in a traversal order. At each,
    every place so far goes on to all coordinates (dense) or to those that its segment lists (sparse); the places in the
    end are those of the values. Raises ValueError or IndexError where that does not fit the shape.
    """
    order, blocks = _numbers(sparsity, "TraversalOrder"), _numbers(sparsity, "BlockMap")
    levels = [sparsity.DimMetadata(i) for i in range(sparsity.DimMetadataLength())]
    rank, size = len(shape), math.prod(shape)
    if sorted(order.tolist()) != list(range(rank + blocks.size)) or len(levels) != order.size:
        raise ValueError(f"a sparse tensor of {rank} axes has the traversal order {order.tolist()}")
    coordinates: dict[int, Places] = {}
    widths: dict[int, int] = {}
    places: Places = np.zeros(1, np.int64)
    for axis, level in zip(order.tolist(), levels, strict=True):
        if level.Format() == _SPARSE:
            ends, listed = (_vector(level, which) for which in ("ArraySegments", "ArrayIndices"))
            counts = ends[places + 1] - ends[places]
            if counts.size and (counts.min() < 0 or ends[0] != 0):
                raise ValueError("the segments of a sparse tensor do not rise")
            parents = np.repeat(np.arange(places.size), counts)
            inside = np.arange(parents.size) - np.repeat(np.cumsum(counts) - counts, counts)
            places = ends[places][parents] + inside
            found = listed[places]
        else:
            widths[axis] = int(level.DenseSize())
            parents = np.repeat(np.arange(places.size), widths[axis])
            found = np.tile(np.arange(widths[axis]), places.size)
            places = places[parents] * widths[axis] + found
        if places.size > max(size, 1):
            raise ValueError(f"a sparse tensor has {places.size} places for {size} values")
        coordinates = {key: value[parents] for key, value in coordinates.items()} | {axis: found}
    full = [coordinates[axis] for axis in range(rank)]
    for block, axis in enumerate(blocks.tolist()):
        if rank + block not in widths:
            raise ValueError("a block of a sparse tensor is not dense")
        full[axis] = full[axis] * widths[rank + block] + coordinates[rank + block]
    if min((int(one.min()) for one in full if one.size), default=0) < 0:
        raise IndexError("a sparse tensor has a negative coordinate")
    out: Array = np.zeros(shape, values.dtype)
    out[tuple(full)] = values[places]
    return out


def _numbers(table: Any, name: str) -> Places:
    count = getattr(table, f"{name}Length")()
    return np.asarray([getattr(table, name)(i) for i in range(count)], np.int64)


def _vector(level: Any, name: str) -> Places:
    """A vector of whole numbers of any of the widths that the schema has."""
    import tflite

    kinds = {number: text for text, number in vars(tflite.SparseIndexVector).items() if isinstance(number, int)}
    held, reader = getattr(level, name)(), getattr(tflite, kinds[getattr(level, f"{name}Type")()])()
    reader.Init(held.Bytes, held.Pos)
    return np.asarray(reader.ValuesAsNumpy(), np.int64).reshape(-1)
