"""The networks of the Deep Compression paper with SYNTHETIC weights: published shapes, densities and bits, seeded.

For AlexNet and VGG-16 the compressed weights were never published. Here a weight stays with the published density,
independently of all others; the weights that stay are the tails of a normal distribution beyond the threshold that
gives this density, as magnitude pruning of normal weights leaves them; they share values by the paper's method (k-means
from linear initialisation). Only magnitudes relative to each other mean anything; biases are zero. Real layers differ
in two known ways: their zeros are not independent, and the values of their convolutions are more concentrated
(``dchw validate compression`` shows both). Layers are made one by one, so that memory holds the weights of one.

Source of densities and bits: Han, Mao, Dally, ICLR 2016, arXiv:1510.00149, Tables 2-5.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterator, Mapping
from statistics import NormalDist
from types import MappingProxyType

import numpy as np
import numpy.typing as npt

from dchw.compile import kernel
from dchw.compression.compressed import CompressedLayer, CompressedNetwork, Positions, Representation, graph_of
from dchw.compression.share import assign, kmeans_codebook
from dchw.graph.network import FloatArray, Layer, Network, OperationKind
from dchw.importers.geometry_tables import BUILT_IN, network_from_table
from dchw.importers.graph_builder import GraphBuilder
from dchw.quantities import DchwError, nearest
from dchw.tables import read_table

SYNTHETIC: Mapping[str, str] = MappingProxyType(
    {
        "lenet-300-100-synthetic": "LeNet-300-100",
        "lenet-5-synthetic": "LeNet-5",
        "alexnet-synthetic": "AlexNet",
        "vgg16-synthetic": "VGG-16",
    }
)
"""Names of the synthetic networks and what the paper calls them."""

TABLE = "deep_compression_layers.csv"
_BLOCK = 1 << 17
"""Draws at a time: their words stay in a second-level cache. Even, so that no half of a word is left over."""
_TAIL_POINTS = 4097
_SMALLEST_TAIL = 1e-9
"""Normal weights beyond this probability do not occur in layers of this size."""


def synthetic_network(name: str, *, seed: int = 0) -> CompressedNetwork:
    """A key of `SYNTHETIC` with its compressed layers; gaps and Huffman codes, as the paper stores them."""
    graph = _graph(name)
    note = f"SYNTHETIC weights (seed {seed}): published shapes, densities and bits, independent zeros, normal values"
    graph = Network(name=name, operations=graph_of(graph).operations, notes=(note,))
    recipe = {"source": f"synthetic weights of published densities, {TABLE}", "seed": seed}
    return CompressedNetwork(graph=graph, layers=tuple(synthetic_layers(name, seed=seed)), recipe=recipe)


def synthetic_layers(name: str, *, seed: int = 0) -> Iterator[CompressedLayer]:
    """The layers of `synthetic_network`, one at a time and independent of each other."""
    graph, published = _graph(name), published_layers(name)
    for i, layer in enumerate(graph.layers):
        rng = np.random.default_rng([seed, zlib.crc32(name.encode()), i])
        yield _layer(layer, published[layer.name], rng)


def published_layers(name: str) -> dict[str, Mapping[str, str]]:
    """Rows of the paper's table for a synthetic network, by layer."""
    if name not in SYNTHETIC:
        raise DchwError(f"there is no synthetic network {name!r}; {nearest(name, SYNTHETIC)}")
    rows = [row for row in read_table(TABLE) if row["network"] == SYNTHETIC[name]]
    return {row["layer"]: row for row in rows if row["layer"] != "total"}


def _layer(layer: Layer, row: Mapping[str, str], rng: np.random.Generator) -> CompressedLayer:
    density, bits = float(row["weights_pct"]) / 100, int(row["weight_bits_pq"])
    codes = np.empty(layer.weight.size, dtype=np.uint8)
    kept = codes.view(np.bool_)
    for start in range(0, kept.size, _BLOCK):
        _draw(rng, density, kept[start : start + _BLOCK])
    _adjust(kept, round(density * kept.size), rng)
    values = _tails(int(np.count_nonzero(kept)), density, rng)
    centroids = kmeans_codebook(values, (1 << bits) - 1, "linear", rng=rng).centroids
    assigned = assign(values, np.ones(values.size, dtype=np.bool_), centroids)
    assert centroids.size < 256, f"{layer.name}: codes of {bits} bits are expected to fit a byte"
    _spread(assigned.astype(np.uint8, copy=False), codes[: codes.size // 8 * 8].view(np.uint64), codes)
    codes.flags.writeable = False  # nobody else's, so that it need not be copied
    return CompressedLayer.of(
        layer,
        codes=codes.reshape(layer.weight.shape),
        codebook=np.concatenate([np.zeros(1, np.float32), centroids]),
        bias=np.zeros(layer.geometry.out_channels, np.float32),
        representation=Representation(
            positions=Positions.GAPS, codebook_bits=bits, index_bits=int(row["index_bits_pq"])
        ),
    )


def _draw(rng: np.random.Generator, share: float, out: npt.NDArray[np.bool_]) -> None:
    """Whether each of float32 draws is below a share: as ``rng.random(out.size, dtype=np.float32) < share``.

    A float32 is the highest 24 bits of half a word of the generator, the lower half first; so are halves compared.
    """
    even = out.size // 2 * 2
    halves = rng.bit_generator.random_raw(even // 2).astype("<u8", copy=False).view("<u4")
    last = (math.ceil(float(np.float32(share)) * 2**24) << 8) - 1
    np.less_equal(halves, np.uint32(min(last, 2**32 - 1)), out=out[:even])
    if even < out.size:
        out[even:] = rng.random(1, dtype=np.float32) < np.float32(share)


def _adjust(kept: npt.NDArray[np.bool_], wanted: int, rng: np.random.Generator) -> None:
    """Turn random weights on or off until exactly ``wanted`` stay."""
    missing = wanted - int(np.count_nonzero(kept))
    while missing:
        places = np.unique(rng.integers(0, kept.size, 2 * abs(missing) + 8))
        places = rng.permutation(places[kept[places] == (missing < 0)])[: abs(missing)]
        kept[places] = missing > 0
        missing -= places.size if missing > 0 else -places.size


def _tails(count: int, density: float, rng: np.random.Generator) -> FloatArray:
    """Weights of a standard normal distribution beyond the threshold that a share ``density`` exceeds, either sign."""
    normal = NormalDist()
    points = np.linspace(1 - density / 2, 1 - _SMALLEST_TAIL, _TAIL_POINTS)
    quantiles = np.array([normal.inv_cdf(float(p)) for p in points])
    values, slopes, draws = np.empty(count, np.float32), np.diff(quantiles), np.empty(min(count, _BLOCK))
    blocks = [values[start : start + _BLOCK] for start in range(0, count, _BLOCK)]
    for block in blocks:
        _interpolated(rng.random(out=draws[: block.size]), quantiles, slopes, block)
    for block in blocks:
        signs = rng.random(out=draws[: block.size])
        signs -= 0.5  # negative below a half
        np.copysign(block, signs.astype(np.float32), out=block)
    return values


@kernel
def _interpolated(
    places: npt.NDArray[np.float64],
    points: npt.NDArray[np.float64],
    slopes: npt.NDArray[np.float64],
    values: FloatArray,
) -> None:
    # the line through the points at places from 0 to 1
    for i in range(places.size):
        place = places[i] * slopes.size
        left = int(place)
        values[i] = slopes[left] * (place - left) + points[left]


@kernel
def _spread(assigned: npt.NDArray[np.uint8], words: npt.NDArray[np.uint64], codes: npt.NDArray[np.uint8]) -> None:
    # the codes of all weights that stay, in order, to the codes that are 1; ``words`` are eight of them each
    at, last = np.int64(0), np.int64(assigned.size - 1)
    for start in range(0, codes.size, 8):
        if start // 8 < words.size and words[start // 8] == 0:
            continue  # as most where a layer is pruned to a few of a hundred
        for i in range(start, min(start + 8, codes.size)):  # no branch: which weights stay cannot be predicted
            stays = codes[i]
            codes[i] = stays * assigned[min(at, last)]
            at += stays


def _graph(name: str) -> Network:
    """The network's graph, its weights placeholders."""
    built_in = name.removesuffix("-synthetic")
    if built_in in BUILT_IN:
        return network_from_table(built_in)
    published_layers(name)  # complains about unknown names
    build = GraphBuilder(f"network {name}")
    at = build.input("images", (1, 28, 28))
    if name == "lenet-5-synthetic":
        for i, channels in enumerate((20, 50), start=1):
            at = build.activation(f"relu{i}", build.conv(f"conv{i}", at, channels, (5, 5)), "relu")
            at = build.pool(f"pool{i}", at, OperationKind.MAX_POOL2D, (2, 2), (2, 2))
        widths: tuple[int, ...] = (500, 10)
    else:
        widths = (300, 100, 10)
    for i, width in enumerate(widths, start=1):
        at = build.linear(f"ip{i}", at, width)
        if i < len(widths):
            at = build.activation(f"relu_ip{i}", at, "relu")
    return Network(name=name, operations=tuple(build.operations))
