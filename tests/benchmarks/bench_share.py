"""Weight sharing: 38 million weights (AlexNet's fc6) into 31 and 32 shared values, against scikit-learn on a sample.

Run: ``python -m pytest tests/benchmarks/bench_share.py -s -p no:cacheprovider --override-ini addopts=``.
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pytest

from dchw.compression import share

WEIGHTS = 38_000_000
SAMPLE = 100_000


def _seconds(call: Any) -> tuple[float, Any]:
    start = time.process_time()
    result = call()
    return time.process_time() - start, result


@pytest.mark.parametrize("init", ["linear", "density", "forgy", "optimal"])
def test_kmeans_of_38_million_weights(init: share.Init, benchmark: Any) -> None:
    """Seconds of processor time (one thread) and squared error, sorting included."""
    weights = np.random.default_rng(0).standard_normal(WEIGHTS).astype(np.float32)

    def run() -> share.Codebook:
        return share.kmeans_codebook(weights, 32, init, rng=np.random.default_rng(0))

    run()
    seconds, book = min((_seconds(run) for _ in range(3)), key=lambda pair: pair[0])
    print(f"\n{init}: {WEIGHTS / 1e6:.0f} M weights, k = 32: {seconds:.3f} s, squared error {book.squared_error:.2f}")
    benchmark.pedantic(run, rounds=1)


def test_against_scikit_learn(benchmark: Any) -> None:
    """The same sample for both, scikit-learn from the same linear start (it moves empty clusters elsewhere)."""
    cluster = pytest.importorskip("sklearn.cluster")
    weights = np.random.default_rng(0).standard_normal(SAMPLE).astype(np.float32)
    start = np.linspace(weights.min(), weights.max(), 32, dtype=np.float32)[:, None]
    peer_seconds, peer = _seconds(
        lambda: cluster.KMeans(32, init=start, n_init=1, max_iter=1000, tol=0).fit(weights[:, None])
    )
    share.kmeans_codebook(weights[:1000], 32, "optimal", rng=np.random.default_rng(0))
    for init in ("linear", "optimal"):
        seconds, book = _seconds(
            lambda init=init: share.kmeans_codebook(weights, 32, init, rng=np.random.default_rng(0))
        )
        print(
            f"\n{init}: {SAMPLE} weights, k = 32: {seconds * 1e3:.1f} ms, error {book.squared_error:.4f}; scikit-learn "
            f"{peer_seconds * 1e3:.0f} ms, error {peer.inertia_:.4f}: x{peer_seconds / seconds:.0f} faster"
        )
    benchmark.pedantic(lambda: share.kmeans_codebook(weights, 32, "optimal", rng=np.random.default_rng(0)), rounds=3)
