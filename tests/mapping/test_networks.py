"""How far are the chosen orders of whole networks from the best of all orders, and from reading everything once?

``-s`` prints every layer. Shapes: Simonyan and Zisserman (arXiv 1409.1556), Sandler et al. (1801.04381), Dosovitskiy et
al. (2010.11929), all at 224 x 224 pixels; every layer's input comes from DRAM.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

import dchw
from dchw.formats import PackShape, pack, storage_format
from dchw.graph.geometry import Geometry
from dchw.graph.network import Network, placeholder
from dchw.mapping.crossing_tensors import InputSource
from dchw.mapping.demand import demand_of
from dchw.mapping.parts import as_worked
from dchw.mapping.search import LoopSearch
from dchw.validate.eie_runs import with_codes
from tests.mapping.test_search import buffers
from tests.oracles.mapping import best_of_all

DENSITY = 0.33  # about what pruning leaves of VGG-16's convolutions (Han et al., arXiv 1506.02626)
GOALS_MB = {"dense-fp32": 190, "dense-int8": 58, "huffman": 35}  # of VGG-16's convolutions


def convolution(into: int, out: int, size: int, kernel: int = 3, stride: int = 1, groups: int = 1) -> Geometry:
    return Geometry(
        in_channels=into,
        out_channels=out,
        kernel=(kernel, kernel),
        stride=(stride, stride),
        padding=((kernel - 1) // 2,) * 2 if stride < kernel or kernel == 1 else (0, 0),
        groups=groups,
        in_size=(size, size),
    )


def vgg16() -> Iterator[Geometry]:
    into, size = 3, 224
    for out, layers in ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3)):
        for _ in range(layers):
            yield convolution(into, out, size)
            into = out
        size //= 2


def mobilenet_v2() -> Iterator[Geometry]:
    yield convolution(3, 32, 224, stride=2)
    into, size = 32, 112
    for factor, out, blocks, first in (
        (1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1),
    ):  # fmt: skip
        for block in range(blocks):
            stride, wide = first if block == 0 else 1, into * factor
            if factor > 1:
                yield convolution(into, wide, size, kernel=1)
            yield convolution(wide, wide, size, stride=stride, groups=wide)
            size //= stride
            yield convolution(wide, out, size, kernel=1)
            into = out
    yield convolution(320, 1280, 7, kernel=1)


def vit_b16() -> Iterator[Geometry]:
    yield convolution(3, 768, 224, kernel=16, stride=16)
    for into, out in ((768, 2304), (768, 768), (768, 3072), (3072, 768)):
        yield Geometry(in_channels=into, out_channels=out, in_size=(197, 1))


NETWORKS = {"VGG-16": vgg16, "MobileNetV2": mobilenet_v2, "ViT-B/16": vit_b16}


def compressed_layer(geometry: Geometry) -> dchw.compression.compressed.CompressedLayer:
    rng = np.random.default_rng(0)
    shape = (geometry.out_channels, geometry.in_channels // geometry.groups, *geometry.kernel)
    codes = rng.integers(1, 32, shape, dtype=np.uint8) * (rng.random(shape) < DENSITY)
    graph = Network.from_arrays("n", {"c": placeholder(shape)}, geometry={"c": geometry})
    return with_codes(graph, [codes.astype(np.uint8)], code_bits=5, index_bits=4).layers[0]


@pytest.mark.slow
@pytest.mark.parametrize("storage", GOALS_MB)
@pytest.mark.parametrize("name", NETWORKS)
def test_orders_are_within_a_third_of_the_best_of_all(name: str, storage: str) -> None:
    target = dchw.machine("phone-lpddr5x").working(storage_format(storage))
    shape = PackShape(
        elements=target.pe_array.elements,
        decoders=target.huffman.units,
        chunk_entries=target.huffman.chunk_entries,
        pointers=target.pointers,
    )
    chosen = bound = 0
    for geometry in dict.fromkeys(NETWORKS[name]()):
        times = list(NETWORKS[name]()).count(geometry)
        layer = compressed_layer(geometry)
        packed = pack(as_worked(layer, shape.elements), storage, shape, value_bits=32)
        values = geometry.in_channels * int(np.prod(geometry.in_size))
        source = InputSource(fetched_bytes=values * target.formats.activations.bits // 8)
        demand = demand_of(layer, packed, target, 1, source)
        found = LoopSearch(demand, target).explain()
        best = found.least_bytes
        if geometry.groups == 1:  # elsewhere everything once is the best there is
            tiles = [tile for tile in (64, 48, 32, 16) if tile <= geometry.output_pixels] or [geometry.output_pixels]
            unit = min(target.pe_array.elements, geometry.out_channels)
            weights, inputs = demand.weight_bytes, demand.input_bytes
            best = best_of_all(geometry, weights, inputs, unit, tiles, buffers(target), demand.cuttable)
        print(  # noqa: T201 a table for who asks with -s
            f"{name} {storage} {geometry.in_channels:5}>{geometry.out_channels:5} {geometry.in_size[0]:4}: "
            f"{found.cost.dram_bytes / 1e6:7.3f} MB, best {best / 1e6:7.3f}, once {found.least_bytes / 1e6:7.3f}"
        )
        assert found.cost.dram_bytes <= 1.3 * best
        chosen, bound = chosen + times * found.cost.dram_bytes, bound + times * found.least_bytes
    whole = f"{chosen / 1e6:.1f} MB, everything once {bound / 1e6:.1f} MB, {chosen / bound:.2f}x"
    print(f"{name} {storage}: {whole}")  # noqa: T201
    if name == "VGG-16":
        assert chosen <= GOALS_MB[storage] * 1e6
