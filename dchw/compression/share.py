"""Weight sharing: a codebook per layer by one-dimensional k-means (Han et al., ICLR 2016, arXiv:1510.00149, 3)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

from dchw.compile import kernel
from dchw.compression import clustering
from dchw.quantities import DchwError, nearest

Init = Literal["linear", "density", "forgy", "optimal"]
Codes = npt.NDArray[np.uint8] | npt.NDArray[np.uint16]

MAX_CLUSTERS = (1 << 16) - 1
MAX_OPTIMAL_CLUSTERS = (1 << 10) - 1  # the dynamic program's table grows with their square
_MOST_STEPS = 1000
_TOGETHER = 512  # weights whose centroids are sought together


@dataclass(frozen=True, kw_only=True, eq=False)
class Codebook:
    """Shared values of a layer, code 0 (the pruned weight) left out."""

    centroids: npt.NDArray[np.float32]
    """float32[k], ascending, distinct, finite, never zero; k is at most the clusters asked for."""
    squared_error: float
    """Sum over the weights of the squared distance to the centroid of their cluster."""


def kmeans_codebook(
    values: npt.ArrayLike,
    clusters: int,
    init: Init,
    *,
    rng: np.random.Generator,
    iterations: int = _MOST_STEPS,
) -> Codebook:
    """At most ``clusters`` shared values for non-zero weights float32[n], by Lloyd's iterations from an initialisation.

    - ``linear``: evenly spaced from the smallest to the largest weight.
    - ``density``: at the quantiles (2i + 1) / 2k, evenly spaced in the cumulative distribution.
    - ``forgy``: k weights drawn from ``rng`` without replacement; the other initialisations do not use ``rng``.
    - ``optimal``: the least squared error there is, by dynamic programming; exact for up to 8,192 distinct values,
      otherwise within 0.1 % (edges from about 8,192 candidates, then Lloyd's iterations on all values). At most 1,023
      clusters.

    ``iterations`` bounds Lloyd's iterations (0: the initialisation as it is); they end when no weight moves. The
    result does not depend on the order of ``values``. Equal starting values count once and
    clusters without a weight are dropped, so there may be fewer than ``clusters``; without values there are none.
    A centroid is the mean rounded to float32; where that is zero, which would read as pruned, it is the cluster's value
    of smallest magnitude instead, the positive one of a tie. Raises DchwError for NaN, infinity or zero among the
    values and for numbers out of range.
    """
    if init not in get_args(Init):
        raise DchwError(f"weight sharing: got initialisation {init!r}; {nearest(str(init), get_args(Init))}")
    most = MAX_OPTIMAL_CLUSTERS if init == "optimal" else MAX_CLUSTERS
    if not 1 <= clusters <= most:
        raise DchwError(f"weight sharing, {init}: expected 1 to {most} clusters; got {clusters}; change codebook_bits")
    if iterations < 0:
        raise DchwError(f"weight sharing: expected 0 or more iterations; got {iterations}; give a count")
    ordered = clustering.ascending(np.asarray(values, dtype=np.float32).reshape(-1))
    if ordered.size == 0:
        return Codebook(centroids=np.zeros(0, dtype=np.float32), squared_error=0.0)
    zero = int(np.searchsorted(ordered, np.float32(0)))
    if not np.isfinite(ordered[[0, -1]]).all() or (zero < ordered.size and ordered[zero] == 0):
        raise DchwError("weight sharing: expected finite non-zero weights; got NaN, infinity or zero; drop them first")
    shift = float(ordered[ordered.size // 2])
    sums = clustering.block_sums(ordered, shift)
    start = _initial(ordered, shift, sums, clusters, init, rng)
    edges = clustering.lloyd(ordered, shift, sums, start, iterations)
    filled = np.diff(edges) > 0
    bounds = np.append(edges[:-1][filled], ordered.size)
    centroids = start[filled].astype(np.float32)
    for j in np.flatnonzero(centroids == 0):
        members = ordered[bounds[j] : bounds[j + 1]]
        smallest = np.abs(members).min()
        centroids[j] = smallest if (members == smallest).any() else -smallest
    return Codebook(centroids=centroids, squared_error=float(clustering.squared_error(ordered, bounds, centroids)))


def assign(weights: npt.ArrayLike, mask: npt.ArrayLike, centroids: npt.ArrayLike) -> Codes:
    """The code of every weight, in the weights' shape: 0 where ``mask`` is false, else 1 + its nearest centroid.

    ``centroids`` ascend. A weight on the middle between two (the mean of both in double precision) takes the lower
    one. uint8 for up to 255 centroids, otherwise uint16. Raises DchwError when weights stay but there is no centroid.
    """
    array = np.ascontiguousarray(weights, dtype=np.float32)
    kept = np.ascontiguousarray(mask, dtype=np.bool_)
    shared = np.asarray(centroids, dtype=np.float32).reshape(-1)
    if kept.shape != array.shape:
        raise DchwError(f"weight sharing: expected a mask of shape {array.shape}; got {kept.shape}; pass both alike")
    if shared.size > MAX_CLUSTERS or not np.isfinite(shared).all() or (np.diff(shared) <= 0).any():
        raise DchwError(
            f"weight sharing: expected at most {MAX_CLUSTERS} finite ascending centroids; got {shared.size} that are "
            "not; sort them and drop duplicates"
        )
    if shared.size == 0 and kept.any():
        raise DchwError("weight sharing: expected a centroid for the weights that stay; got none; share them first")
    levels = max(shared.size - 1, 0).bit_length()
    limits = np.full(1 << levels, np.inf)
    wide = shared.astype(np.float64)
    limits[: max(shared.size - 1, 0)] = (wide[:-1] + wide[1:]) / 2
    codes: Codes = np.empty(array.shape, dtype=np.uint8 if shared.size <= 255 else np.uint16)
    _assign(array.reshape(-1), kept.reshape(-1), limits, codes.reshape(-1))
    return codes


def _initial(
    ordered: npt.NDArray[np.float32],
    shift: float,
    sums: npt.NDArray[np.float64],
    clusters: int,
    init: Init,
    rng: np.random.Generator,
) -> npt.NDArray[np.float64]:
    count = ordered.size
    if init == "linear":
        return np.linspace(float(ordered[0]), float(ordered[-1]), clusters)
    if init == "density":
        return np.unique(ordered[(2 * np.arange(clusters) + 1) * count // (2 * clusters)]).astype(np.float64)
    if init == "forgy":
        drawn = rng.choice(count, min(clusters, count), replace=False, shuffle=False)
        return np.unique(ordered[drawn]).astype(np.float64)
    edges = clustering.candidate_edges(ordered, clusters)
    before = clustering.sums_before(ordered, shift, sums, edges)
    chosen = clustering.best_edges(edges, before, min(clusters, edges.size - 1))
    means: npt.NDArray[np.float64] = shift + np.diff(before[0, chosen]) / np.diff(edges[chosen])
    return means


@kernel
def _assign(
    weights: npt.NDArray[np.float32],
    mask: npt.NDArray[np.bool_],
    limits: npt.NDArray[np.float64],
    codes: npt.NDArray[np.uint8] | npt.NDArray[np.uint16],
) -> None:
    # limits are padded with infinity to a power of two: the search takes the same steps for every weight, and is made
    # for many at a time, none of which waits for another
    below = np.empty(_TOGETHER, dtype=np.int32)
    for start in range(0, weights.size, _TOGETHER):
        count = min(_TOGETHER, weights.size - start)
        below[:] = 0
        step = limits.size >> 1
        while step > 0:
            for i in range(count):
                below[i] += step * (weights[start + i] > limits[below[i] + step - 1])
            step >>= 1
        for i in range(count):
            codes[start + i] = below[i] + 1 if mask[start + i] else 0
