"""Pruning: do exactly the right weights stay?"""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from dchw.compression import prune
from dchw.quantities import DchwError
from tests.oracles import compress as oracle

_ties = hnp.arrays(
    np.float32,
    hnp.array_shapes(min_dims=1, max_dims=3, min_side=0, max_side=6),
    elements=st.sampled_from([-2.0, -1.0, -0.5, 0.0, 0.5, 1.0, 2.0]),
)


@given(_ties, st.floats(0, 1))
def test_density_against_sorting_one_by_one(weights: np.ndarray, density: float) -> None:
    """Many equal magnitudes, zeros, empty arrays."""
    assert (prune.magnitude_mask(weights, density=density) == oracle.magnitude_mask(weights, density)).all()


@given(_ties, st.floats(0, 1))
def test_threshold_is_the_smallest_that_stays(weights: np.ndarray, density: float) -> None:
    """The threshold of a density keeps at least as many weights as the density, and no smaller set does."""
    threshold = prune.threshold_for_density(weights, density)
    kept = round(density * weights.size)
    assert np.count_nonzero(np.abs(weights) >= threshold) >= kept
    assert np.count_nonzero(np.abs(weights) > threshold) <= kept


def test_ties_go_to_the_lower_index() -> None:
    """Four equal magnitudes, two stay."""
    mask = prune.magnitude_mask(np.array([[1.0, -1.0], [1.0, -1.0]], np.float32), density=0.5)
    assert mask.tolist() == [[True, True], [False, False]]


def test_exact_count_without_ties() -> None:
    """round(0.09 * 1000) = 90 weights stay; halves round to even: round(0.5 * 5) = 2."""
    weights = np.random.default_rng(0).standard_normal(1000).astype(np.float32)
    assert prune.magnitude_mask(weights, density=0.09).sum() == 90
    assert prune.magnitude_mask(weights[:5], density=0.5).sum() == 2


def test_threshold_and_as_given() -> None:
    """A weight at the threshold stays; without either the non-zeros stay; zeros never do."""
    weights = np.array([0.5, -0.5, 0.25, 0.0], np.float32)
    assert prune.magnitude_mask(weights, threshold=0.5).tolist() == [True, True, False, False]
    assert prune.magnitude_mask(weights, threshold=0.0).tolist() == [True, True, True, False]
    assert prune.magnitude_mask(weights).tolist() == [True, True, True, False]
    assert prune.magnitude_mask(weights, density=1.0).tolist() == [True, True, True, False]
    assert prune.threshold_for_density(weights, 0.0) == math.inf
    assert not prune.magnitude_mask(weights, density=0.0).any()


def test_what_is_refused() -> None:
    """Both limits, densities and thresholds out of range or NaN, weights that are not finite."""
    weights = np.ones(3, np.float32)
    with pytest.raises(DchwError, match="expected a density or a threshold; got both"):
        prune.magnitude_mask(weights, density=0.5, threshold=0.1)
    for density in (-0.1, 1.1, math.nan):
        with pytest.raises(DchwError, match=f"expected a density from 0 to 1; got {density}"):
            prune.magnitude_mask(weights, density=density)
    for threshold in (-1.0, math.nan):
        with pytest.raises(DchwError, match=f"expected a threshold of 0 or more; got {threshold}"):
            prune.magnitude_mask(weights, threshold=threshold)
    for bad in (math.nan, math.inf):
        with pytest.raises(DchwError) as caught:
            prune.magnitude_mask(np.array([1.0, bad], np.float32), density=0.5)
        assert str(caught.value) == (
            "pruning: expected finite weights; got NaN or infinity; repair the network before pruning it"
        )
    with pytest.raises(DchwError, match="expected floating-point weights; got int64"):
        prune.magnitude_mask(np.array([1, 2]))
