"""Magnitude pruning: which weights stay, from a threshold or a density (Han et al., NIPS 2015, arXiv:1506.02626)."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from dchw.quantities import DchwError

Mask = npt.NDArray[np.bool_]


def threshold_for_density(weights: npt.ArrayLike, density: float) -> float:
    """The smallest magnitude that stays when ``round(density * n)`` weights stay; infinity when none does.

    Rounding is to the nearest integer, halves to the even one. Weights of exactly this magnitude may be more than
    there is room for; ``magnitude_mask`` breaks that tie.
    """
    magnitudes = _magnitudes(weights).reshape(-1)
    kept = _kept(magnitudes.size, density)
    if kept == 0:
        return math.inf
    rank = magnitudes.size - kept
    return float(np.partition(magnitudes, rank)[rank])


def magnitude_mask(weights: npt.ArrayLike, *, density: float | None = None, threshold: float | None = None) -> Mask:
    """Where weights stay: bool, in the shape of ``weights``.

    With ``density`` (0 to 1) exactly ``round(density * n)`` weights of the largest magnitude stay; of equal magnitudes
    the lower flat index (C order) stays. With ``threshold`` (>= 0) the weights with ``|w| >= threshold`` stay. With
    neither, the density is as given: non-zero weights stay. A zero weight never stays, so a density above the share of
    non-zeros keeps those. Raises DchwError for both at once, for a number out of range, and for NaN or infinity.
    """
    magnitudes = _magnitudes(weights)
    if density is not None and threshold is not None:
        raise DchwError("pruning: expected a density or a threshold; got both; leave one out")
    nonzero: Mask = magnitudes != 0
    if threshold is not None:
        if not threshold >= 0:
            raise DchwError(f"pruning: expected a threshold of 0 or more; got {threshold}; give a magnitude")
        return np.logical_and(nonzero, magnitudes >= threshold)
    if density is None:
        return nonzero
    limit = threshold_for_density(magnitudes, density)
    mask: Mask = magnitudes > limit
    room = _kept(magnitudes.size, density) - int(np.count_nonzero(mask))
    if room:
        ties = np.flatnonzero(magnitudes.reshape(-1) == limit)[:room]
        mask.reshape(-1)[ties] = True
    return np.logical_and(mask, nonzero)


def _kept(count: int, density: float) -> int:
    if not 0 <= density <= 1:
        raise DchwError(f"pruning: expected a density from 0 to 1; got {density}; give the share of weights that stay")
    return round(density * count)


def _magnitudes(weights: npt.ArrayLike) -> npt.NDArray[np.floating]:
    array = np.ascontiguousarray(weights)
    if array.dtype.kind != "f":
        raise DchwError(f"pruning: expected floating-point weights; got {array.dtype}; convert them")
    if not np.isfinite(array).all():
        raise DchwError("pruning: expected finite weights; got NaN or infinity; repair the network before pruning it")
    magnitudes: npt.NDArray[np.floating] = np.abs(array)
    return magnitudes
