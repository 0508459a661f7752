"""Small networks for the tests of compression and its file."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st

from dchw.compression.compressed import (
    Coding,
    CompressedLayer,
    CompressedNetwork,
    Positions,
    Representation,
    ValueFormat,
    graph_of,
)
from dchw.compression.value_formats import round_to_format
from dchw.graph.geometry import Geometry
from dchw.graph.network import Network


def compressed(codes: dict[str, object], storage: dict[str, Representation], **options: object) -> CompressedNetwork:
    """A network of independent layers from codes [rows, columns]; code i stands for the value i / 2."""
    arrays = {name: np.asarray(value, np.uint8) for name, value in codes.items()}
    biases: dict[str, np.ndarray] = options.pop("biases", {})  # type: ignore[assignment]
    network = Network.from_arrays("small", {n: a.astype(np.float32) for n, a in arrays.items()}, biases=biases)
    layers = []
    for layer in network.layers:
        size = int(arrays[layer.name].max(initial=0)) + 1
        layers.append(
            CompressedLayer(
                name=layer.name,
                codes=arrays[layer.name],
                codebook=np.arange(size, dtype=np.float32) / 2,
                bias=layer.bias,
                geometry=layer.geometry,
                kind=layer.kind,
                input=layer.input,
                parameter=layer.parameter,
                representation=storage[layer.name],
            )
        )
    return CompressedNetwork(graph=graph_of(network), layers=tuple(layers), **options)  # type: ignore[arg-type]


@st.composite
def compressed_networks(draw: st.DrawFn) -> CompressedNetwork:
    """Random small networks: any density, any storage, linear layers and convolutions."""
    seed = draw(st.integers(0, 2**32 - 1))
    rng = np.random.default_rng(seed)
    weights, biases, geometry, storages, codes, codebooks = {}, {}, {}, {}, {}, {}
    for i in range(draw(st.integers(1, 3))):
        name = f"layer{i}"
        rows, columns = draw(st.integers(1, 12)), draw(st.integers(1, 60))
        convolution = draw(st.booleans())
        shape = (rows, columns, 2, 1) if convolution else (rows, columns)
        if convolution:
            geometry[name] = Geometry(
                in_channels=columns, out_channels=rows, kernel=(2, 1), stride=(1, 2), padding=(1, 0), in_size=(4, 5)
            )
        codebook_bits = draw(st.sampled_from([1, 2, 3, 5, 9]))
        size = draw(st.integers(1, 2**codebook_bits))
        density = draw(st.sampled_from([0.0, 0.02, 0.1, 0.5, 1.0]))
        kept = rng.random(shape) < density
        kept[:, rng.random(columns) < draw(st.sampled_from([0.0, 0.7]))] = False
        drawn = rng.integers(1, max(size, 2), shape) if size > 1 else np.zeros(shape, int)
        codes[name] = np.where(kept, drawn, 0).astype(np.uint8 if size <= 256 else np.uint16)
        storages[name] = Representation(
            positions=draw(st.sampled_from(Positions)),
            index_bits=draw(st.sampled_from([1, 2, 4, 7, 16])),
            codebook_bits=codebook_bits,
            code_limit=draw(st.sampled_from([11, 12, 15, 16])),
            code_coding=draw(st.sampled_from(Coding)),
            gap_coding=draw(st.sampled_from(Coding)),
            codebook_format=draw(st.sampled_from(ValueFormat)),
            bias_format=draw(st.sampled_from(ValueFormat)),
            chunk_entries=draw(st.sampled_from([1, 3, 64, 4096])),
            trim=draw(st.booleans()),
        )
        values = rng.normal(size=size).astype(np.float32)
        values[0] = 0
        codebooks[name] = round_to_format(values, storages[name].codebook_format)
        weights[name] = codes[name].astype(np.float32)
        if draw(st.booleans()):
            bias = rng.normal(size=rows).astype(np.float32) * draw(st.sampled_from([0, 1, 1000]))
            biases[name] = round_to_format(bias, storages[name].bias_format)
    network = Network.from_arrays("random", weights, biases=biases, geometry=geometry, notes=draw(st.just(("seeded",))))
    layers = tuple(
        CompressedLayer(
            name=layer.name,
            codes=codes[layer.name],
            codebook=codebooks[layer.name],
            bias=layer.bias,
            geometry=layer.geometry,
            kind=layer.kind,
            input=layer.input,
            parameter=layer.parameter,
            representation=storages[layer.name],
        )
        for layer in network.layers
    )
    return CompressedNetwork(graph=graph_of(network), layers=layers, recipe={"seed": seed}, results={})
