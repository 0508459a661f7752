"""Weight sharing: is Lloyd exact, is ``optimal`` the optimum, are codes the nearest centroids?"""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from dchw.compression import clustering, share
from dchw.quantities import DchwError
from tests.oracles import compress as oracle
from tests.planting import in_plain_python

INITS = ("linear", "density", "forgy", "optimal")
# multiples of 1/64 up to 8: every sum of them is exact in double precision, in any order
_grid = st.lists(st.integers(-512, 512).filter(bool), min_size=1, max_size=60).map(
    lambda x: np.array(x, np.float32) / np.float32(64)
)


def _codebook(values: np.ndarray, clusters: int, init: str, seed: int = 0, **options: int) -> share.Codebook:
    return share.kmeans_codebook(values, clusters, init, rng=np.random.default_rng(seed), **options)  # type: ignore[arg-type]


def _start(values: np.ndarray, clusters: int, init: str) -> np.ndarray:
    ordered = np.sort(values)
    if init == "linear":
        return np.linspace(float(ordered[0]), float(ordered[-1]), clusters)
    return np.unique([ordered[(2 * i + 1) * ordered.size // (2 * clusters)] for i in range(clusters)]).astype(
        np.float64
    )


@example(np.array([1, 1, 185, 185, 186, 187], np.float32) / np.float32(64), 4, "density", 1)  # equal quantiles
@example(  # on the middle of two centroids whose distances round apart
    np.array([1, 1, -113, -225, -314, -315, -405, -512], np.float32) / np.float32(64), 3, "density", 2
)
@given(_grid, st.integers(1, 9), st.sampled_from(["linear", "density"]), st.sampled_from([0, 1, 2, 50]))
def test_lloyd_on_sorted_values_is_lloyd(values: np.ndarray, clusters: int, init: str, iterations: int) -> None:
    """The same edges and centroids, to the last bit, as looking at every value anew."""
    ordered = np.sort(values)
    centroids = _start(values, clusters, init)
    expected = oracle.lloyd(values, centroids, iterations)
    sums = clustering.block_sums(ordered, 0.0)
    edges = clustering.lloyd(ordered, 0.0, sums, centroids, iterations)
    assert (centroids == expected).all()
    nearest = oracle.nearest(ordered.astype(np.float64), expected)
    assert (np.diff(edges) == np.bincount(nearest, minlength=centroids.size)).all()


@example([0.0, -0.0, np.inf, -np.inf, 1e-45, -1e-45])
@given(st.lists(st.floats(width=32, allow_nan=False), max_size=300))
def test_values_ascend(values: list[float]) -> None:
    """To the last bit, -0.0 before +0.0."""
    given = np.array(values, np.float32)
    found = clustering.ascending(given)
    assert found.tobytes() == np.array(sorted(values, key=lambda x: (x, math.copysign(1, x))), np.float32).tobytes()
    assert found is not given


@pytest.mark.parametrize("count", [255, 256, 257, 3000])
def test_lloyd_looks_at_few_values_and_gives_the_same(count: int) -> None:
    """Sums from the start of each block of values and edges looked for among all: to the last bit the same."""
    for seed, clusters, iterations in itertools.product(range(4), (1, 2, 7, 40), (0, 1, 60)):
        values = np.random.default_rng(seed).standard_normal(count).astype(np.float32)
        ordered = np.sort(values)
        assert (clustering.ascending(values) == ordered).all()
        shift, start = float(ordered[count // 2]), np.linspace(float(ordered[0]), float(ordered[-1]), clusters)
        sums, expected = clustering.block_sums(ordered, shift), start.copy()
        edges = oracle.lloyd_of_sorted(ordered, shift, sums, expected, iterations)
        assert (clustering.lloyd(ordered, shift, sums, start, iterations) == edges).all()
        assert start.tobytes() == expected.tobytes()


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("(_ALL if word & _SIGN else _SIGN)", "_SIGN"),
        ("range(edge // _MARK * _MARK, edge)", "range(edge // _MARK * _MARK + 1, edge)"),
        ("low = max(near - reach + 1, low)", "low = max(near - reach // 2 + 1, low)"),
        ("low = near + reach + 1", "low = near + reach + 2"),
    ],
)
def test_planted_faults_of_clustering_are_caught(monkeypatch: pytest.MonkeyPatch, right: str, wrong: str) -> None:
    planted = in_plain_python(clustering, right, wrong)
    for name in ("_sort_by_digits", "lloyd"):
        monkeypatch.setattr(clustering, name, planted[name])
    with pytest.raises(AssertionError):
        test_lloyd_looks_at_few_values_and_gives_the_same(257)


@pytest.mark.parametrize("init", ["linear", "density", "forgy"])
def test_codebook_of_a_layer_against_textbook(init: str) -> None:
    """A thousand Gaussian weights, blocks of sums crossed: the textbook's centroids and error."""
    values = np.random.default_rng(1).standard_normal(1000).astype(np.float32)
    start = (
        np.sort(np.sort(values)[np.random.default_rng(0).choice(1000, 15, replace=False, shuffle=False)])
        if init == "forgy"
        else _start(values, 15, init)
    )
    expected = oracle.lloyd(values, start, 1000)
    found = _codebook(values, 15, init)
    np.testing.assert_allclose(found.centroids, expected, rtol=1e-6)
    codes = share.assign(values, np.ones(1000, bool), found.centroids)
    distances = values.astype(np.float64) - found.centroids.astype(np.float64)[codes.astype(np.int64) - 1]
    assert found.squared_error == pytest.approx((distances**2).sum(), rel=1e-12)


@example(np.array([1, -1], np.float32) / np.float32(64), 1)  # a mean of 0, which no shared value may be
@example(np.array([-3, -1, 4, 200, 201], np.float32) / np.float32(64), 2)
@example(np.array([-2, -1, 1, 2], np.float32) / np.float32(64), 3)  # as good with a cluster of mean 0 as without
@settings(max_examples=40)
@given(_grid, st.integers(1, 9))
def test_optimal_is_the_optimum(values: np.ndarray, clusters: int) -> None:
    """No clustering is better: the dynamic program without shortcuts. Means are rounded to float32."""
    found = _codebook(values, clusters, "optimal")
    least = oracle.least_squared_errors(values, clusters)
    assert any(found.squared_error == pytest.approx(one, rel=1e-5, abs=1e-9) for one in least)


def test_a_shared_value_of_0_would_be_caught() -> None:
    """A mean of 0 kept as it is errs by less than the rule gives, and is not among what the oracle allows."""
    values = np.array([-3, -1, 4], np.float32) / np.float32(64)
    kept = float((values.astype(np.float64) ** 2).sum())
    assert oracle.least_squared_errors(values, 1) == pytest.approx([kept + 3 / 64**2])
    assert not (_codebook(values, 1, "optimal").centroids == 0).any()


@pytest.mark.parametrize("shape", ["gaussian", "pruned", "lognormal", "cauchy", "offset", "outlier", "heap"])
def test_optimal_of_many_values(shape: str) -> None:
    """More distinct values than candidate edges: within 0.1 % of four times as many edges, however the tails are."""
    rng = np.random.default_rng(2)
    x = rng.standard_normal(24_000)
    values = {
        "gaussian": x,
        "pruned": x[np.abs(x) > 1.0],
        "lognormal": np.exp(2 * x) * np.sign(rng.standard_normal(x.size)),
        "cauchy": rng.standard_cauchy(24_000),
        "offset": 100 + 0.1 * x,
        "outlier": np.append(x, [1e6, -3e5]),
        "heap": np.concatenate([np.full(300_000, 0.25), x[:16_000] * 1e-3 + 3, [50.0]]),
    }[shape].astype(np.float32)
    ordered = np.sort(values[values != 0])
    found = _codebook(ordered, 15, "optimal").squared_error
    fine = np.append(np.unique(ordered, return_index=True)[1], ordered.size)
    if fine.size > 40_000:
        fine = np.unique(np.append(fine[:: fine.size // 40_000], [fine[-1], *fine[:50], *fine[-50:]]))
    shift = float(ordered[ordered.size // 2])
    sums = clustering.block_sums(ordered, shift)
    chosen = fine[clustering.best_edges(fine, clustering.sums_before(ordered, shift, sums, fine), 15)]
    means = np.array([ordered[a:b].astype(np.float64).mean() for a, b in itertools.pairwise(chosen)])
    least = clustering.squared_error(ordered, chosen, means.astype(np.float32))
    assert found <= least * 1.001
    assert found >= least * 0.99
    for init in ("linear", "density", "forgy"):
        assert found <= _codebook(ordered, 15, init).squared_error * 1.0001


@pytest.mark.parametrize("init", INITS)
def test_few_values(init: str) -> None:
    """No value, one, all equal, and fewer distinct ones than clusters."""
    assert _codebook(np.zeros(0, np.float32), 4, init).centroids.size == 0
    assert _codebook(np.zeros(0, np.float32), 4, init).squared_error == 0
    one = _codebook(np.array([0.3], np.float32), 15, init)
    assert one.centroids.tolist() == [np.float32(0.3)]
    assert one.squared_error == 0
    equal = _codebook(np.full(1000, -0.7, np.float32), 15, init)
    assert equal.centroids.tolist() == [np.float32(-0.7)]
    assert equal.squared_error == 0
    few = np.array([0.1, 0.1, -2.0, 3.0, 3.0], np.float32)
    book = _codebook(few, 15, init)
    assert set(book.centroids.tolist()) <= set(few.tolist()) or init == "linear"
    assert (np.diff(book.centroids) > 0).all()


def test_optimal_finds_the_distinct_values() -> None:
    """Five distinct values and five clusters or more: no error at all."""
    values = np.repeat(np.array([-1.5, -0.1, 0.2, 0.3, 7.0], np.float32), [3, 1, 400, 2, 1])
    for clusters in (5, 6, 100):
        book = _codebook(values, clusters, "optimal")
        assert book.centroids.tolist() == np.unique(values).tolist()
        assert book.squared_error == 0


@given(_grid, st.integers(1, 9), st.sampled_from(INITS))
def test_centroids_are_ascending_distinct_and_never_zero(values: np.ndarray, clusters: int, init: str) -> None:
    """Also where positive and negative weights cancel; and the error is the one of the assigned codes."""
    book = _codebook(values, clusters, init)
    assert book.centroids.dtype == np.float32
    assert 1 <= book.centroids.size <= clusters
    assert (np.diff(book.centroids) > 0).all()
    assert (book.centroids != 0).all()


def test_a_mean_of_zero() -> None:
    """One cluster of -2, -1, 1, 2 has the mean 0; its smallest positive value stands for it: error 9 + 4 + 0 + 1."""
    book = _codebook(np.array([-2, -1, 1, 2], np.float32), 1, "linear")
    assert book.centroids.tolist() == [1.0]
    assert book.squared_error == 14
    assert _codebook(np.array([-3, -1, 4], np.float32), 1, "optimal").centroids.tolist() == [-1.0]


def test_forgy_depends_on_the_generator_only() -> None:
    """The same seed gives the same codebook in any order of the weights; another seed starts elsewhere."""
    values = np.random.default_rng(7).standard_normal(500).astype(np.float32)
    first = _codebook(values, 7, "forgy", seed=1, iterations=0).centroids
    assert first.tolist() == _codebook(values[::-1], 7, "forgy", seed=1, iterations=0).centroids.tolist()
    assert first.tolist() != _codebook(values, 7, "forgy", seed=2, iterations=0).centroids.tolist()
    assert set(first.tolist()) <= set(values.tolist())


@given(_grid, _grid)
def test_codes_are_the_nearest_centroids(weights: np.ndarray, centroids: np.ndarray) -> None:
    """Code 0 where pruned; else the nearest, the lower one of a tie."""
    centroids = np.unique(centroids)
    mask = np.arange(weights.size) % 3 != 0
    codes = share.assign(weights, mask, centroids)
    assert codes.dtype == np.uint8
    distance = np.abs(weights.astype(np.float64)[:, None] - centroids.astype(np.float64)[None, :])
    assert (codes == np.where(mask, distance.argmin(axis=1) + 1, 0)).all()


def test_codes_keep_the_shape() -> None:
    """Two dimensions, 300 centroids, nothing kept, and a tie."""
    weights = np.linspace(-1, 1, 600, dtype=np.float32).reshape(20, 30)
    many = share.assign(weights, weights != 0, np.linspace(-1, 1, 300, dtype=np.float32))
    assert many.shape == (20, 30)
    assert many.dtype == np.uint16
    assert many.max() == 300
    assert not share.assign(weights, np.zeros_like(weights, bool), np.zeros(0, np.float32)).any()
    assert share.assign(np.array([1.5], np.float32), [True], [1.0, 2.0]).tolist() == [1]


def test_what_is_refused() -> None:
    """Weights that are not finite or zero, numbers of clusters, names, masks and centroids that do not fit."""
    for bad in (math.nan, math.inf, -math.inf, 0.0, -0.0):
        with pytest.raises(DchwError) as caught:
            _codebook(np.array([1.0, bad, -1.0], np.float32), 2, "linear")
        assert str(caught.value) == (
            "weight sharing: expected finite non-zero weights; got NaN, infinity or zero; drop them first"
        )
    ones = np.ones(3, np.float32)
    with pytest.raises(DchwError, match=r"got initialisation 'lineer'; did you mean 'linear'\?"):
        _codebook(ones, 2, "lineer")
    for clusters, init, most in ((0, "linear", 65535), (65536, "density", 65535), (1024, "optimal", 1023)):
        with pytest.raises(DchwError, match=f"{init}: expected 1 to {most} clusters; got {clusters}"):
            _codebook(ones, clusters, init)
    with pytest.raises(DchwError, match="expected 0 or more iterations; got -1"):
        _codebook(ones, 2, "linear", iterations=-1)
    with pytest.raises(DchwError, match=r"expected a mask of shape \(3,\); got \(2,\)"):
        share.assign(ones, [True, True], ones[:1])
    with pytest.raises(DchwError, match="finite ascending centroids; got 2 that are not"):
        share.assign(ones, ones > 0, [2.0, 1.0])
    with pytest.raises(DchwError, match="expected a centroid for the weights that stay; got none"):
        share.assign(ones, ones > 0, [])
