"""A synthetic layer drawn number by number, as its docstring says."""

from __future__ import annotations

from collections.abc import Mapping
from statistics import NormalDist

import numpy as np

from dchw.compression.share import kmeans_codebook


def layer(size: int, row: Mapping[str, str], rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """(codes, codebook) of a layer of so many weights with the published density and bits of ``row``."""
    density, bits = float(row["weights_pct"]) / 100, int(row["weight_bits_pq"])
    kept = rng.random(size, dtype=np.float32) < np.float32(density)
    missing = round(density * size) - int(kept.sum())
    while missing:  # random weights are turned on or off until exactly as many stay
        places = np.unique(rng.integers(0, size, 2 * abs(missing) + 8))
        places = rng.permutation(places[kept[places] == (missing < 0)])[: abs(missing)]
        kept[places] = missing > 0
        missing -= places.size if missing > 0 else -places.size
    count = int(kept.sum())
    points = [NormalDist().inv_cdf(float(p)) for p in np.linspace(1 - density / 2, 1 - 1e-9, 4097)]
    places, signs = rng.random(count), rng.random(count)
    values = np.empty(count, np.float32)
    for i in range(count):
        left = int(places[i] * 4096)
        magnitude = (points[left + 1] - points[left]) * (places[i] * 4096 - left) + points[left]
        values[i] = -magnitude if signs[i] < 0.5 else magnitude
    centroids = kmeans_codebook(values, (1 << bits) - 1, "linear", rng=rng).centroids
    codes = np.zeros(size, np.uint8)
    distances = np.abs(values.astype(np.float64)[:, None] - centroids.astype(np.float64))
    codes[kept] = distances.argmin(axis=1) + 1
    return codes, np.concatenate([[np.float32(0)], centroids])
