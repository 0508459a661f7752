"""The authors' released format: bit-exact both ways, on small files of both layouts and on the published SqueezeNet."""

from __future__ import annotations

import csv
import hashlib
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import dchw
from dchw.compression.compressed import CompressedNetwork, Representation
from dchw.compression.layer_streams import layer_streams
from dchw.container import parse, sizes, to_bytes
from dchw.graph.network import Network
from dchw.importers.deep_compression_release import code_bits, decode_release, read_release
from dchw.importers.graph_builder import GraphBuilder
from dchw.quantities import DchwError, FileFormatError

PROTOTXT = """
name: "small"
input: "data" input_dim: 1 input_dim: 2 input_dim: 4 input_dim: 4
layer { name: "conv1" type: "Convolution" bottom: "data" top: "conv1"
        convolution_param { num_output: 3 kernel_size: 3 } }
layer { name: "fc6" type: "InnerProduct" bottom: "conv1" top: "fc6" inner_product_param { num_output: 5 } }
"""


def graph() -> Network:
    """A convolution (8-bit codes) and a fully connected layer (4-bit codes), as in the AlexNet release."""
    build = GraphBuilder("small")
    build.linear("fc6", build.conv("conv1", build.input("data", (2, 4, 4)), 3, (3, 3)), 5)
    return Network(name="small", operations=tuple(build.operations))


def naive_release(layers: list[tuple[list[float], list[float], list[int], int]]) -> bytes:
    """Bytes of a release from (codebook, biases, flat codes, bits), by the published description."""
    counts, body = b"", b""
    for codebook, biases, flat, bits in layers:
        entries, zeros = [], 0
        for code in flat:
            if code == 0:
                zeros += 1
                continue
            while zeros > 15:
                entries.append((15, 0))
                zeros -= 16
            entries.append((zeros, code))
            zeros = 0
        counts += len(entries).to_bytes(4, "little")
        body += np.array(codebook, "<f4").tobytes() + np.array(biases, "<f4").tobytes()
        codes, gaps = [code for _, code in entries], [gap for gap, _ in entries]
        body += bytes(codes) if bits == 8 else nibbles(codes)
        body += nibbles(gaps)
    return counts + body


def encoded(network: CompressedNetwork) -> bytes:
    """Bytes of a network's release: nothing but tests writes them."""
    layers = []
    for layer in network.layers:
        bits = code_bits(layer.name)
        codebook = [*layer.codebook.tolist(), *[0.0] * ((1 << bits) - layer.codebook.size)]
        bias = [0.0] * layer.codes.shape[0] if layer.bias is None else layer.bias.tolist()
        layers.append((codebook, bias, layer.codes.reshape(-1).tolist(), bits))
    return naive_release(layers)


def nibbles(values: list[int]) -> bytes:
    padded = [*values, 0] if len(values) % 2 else values
    return bytes(low | high << 4 for low, high in zip(padded[::2], padded[1::2], strict=True))


@st.composite
def releases(draw: st.DrawFn) -> tuple[bytes, list[list[int]]]:
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    layers, flats = [], []
    for outputs, weights, bits in ((3, 54, 8), (5, 60, 4)):
        density = draw(st.sampled_from([0.0, 0.03, 0.3, 1.0]))
        flat = np.where(rng.random(weights) < density, rng.integers(1, 2**bits, weights), 0).tolist()
        codebook = [0.0, *rng.normal(size=2**bits - 1).astype(np.float32).tolist()]
        layers.append((codebook, rng.normal(size=outputs).astype(np.float32).tolist(), flat, bits))
        flats.append(flat)
    return naive_release(layers), flats


@settings(max_examples=40, deadline=None)
@given(releases())
def test_small_releases_of_both_layouts(release: tuple[bytes, list[list[int]]]) -> None:
    data, flats = release
    network = decode_release(data, graph())
    assert [layer.codes.reshape(-1).tolist() for layer in network.layers] == flats
    assert [layer.representation.codebook_bits for layer in network.layers] == [8, 4]
    assert encoded(network) == data
    assert encoded(parse(to_bytes(network))) == data


def test_the_example_of_the_published_description() -> None:
    """Weights 0 0 a, 20 zeros, b: gaps 2 15 4, codes a 0 b, position bytes F2 04."""
    flat = [0, 0, 7, *[0] * 20, 9, *[0] * 36]
    conv = ([0.0, *range(1, 256)], [0.0] * 3, [1] * 54, 8)
    fc = ([0.0, *range(1, 16)], [0.0] * 5, flat, 4)
    data = naive_release([conv, fc])
    assert data[-4:] == bytes([0x07, 0x09, 0xF2, 0x04])
    assert data[4:8] == (3).to_bytes(4, "little")
    assert decode_release(data, graph()).layer("fc6").codes.reshape(-1).tolist() == flat
    assert encoded(decode_release(data, graph())) == data


def test_the_prototxt_beside_the_file(tmp_path: Path) -> None:
    layers = [([0.0] * 256, [1.0] * 3, [1] * 54, 8), ([0.0] * 16, [1.0] * 5, [1] * 60, 4)]
    network = decode_release(naive_release(layers), graph())
    (tmp_path / "small.net").write_bytes(encoded(network))
    with pytest.raises(DchwError, match=r"small.net: expected one .prototxt beside it .*; got 0; name it"):
        dchw.load_network(tmp_path / "small.net")
    (tmp_path / "deploy.prototxt").write_text(PROTOTXT)
    loaded = dchw.load_network(tmp_path / "small.net")
    assert isinstance(loaded, dchw.CompressedNetwork)
    assert loaded.layer("conv1").geometry.out_size == (2, 2)
    assert loaded.graph.notes == ("published weights from small.net, graph from deploy.prototxt",)
    (tmp_path / "other.prototxt").write_text(PROTOTXT)
    assert dchw.load_network(tmp_path / "small.net", prototxt=tmp_path / "other.prototxt").name == "small"
    with pytest.raises(DchwError, match="no option 'prototext' for such a network; did you mean 'prototxt'"):
        dchw.load_network(tmp_path / "small.net", prototext="x")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda data: data[:3], "entry counts: expected 8 bytes; got 3"),
        (lambda data: data[:-1], "layer 'fc6': gaps: expected 30 bytes; got 29"),
        (lambda data: data + b"\0", "expected the end after the last layer; got 1 more bytes"),
        (lambda data: b"\xff" + data[1:], "layer 'conv1': entry count: expected at most 54; got 255"),
        (lambda data: data[:8] + b"\1" + data[9:], r"layer 'conv1': codebook: expected \+0.0 as entry 0; got 1.4"),
        (lambda data: data[:14] + b"\xff\xff" + data[16:], "layer 'conv1': codebook: expected finite values; got NaN"),
        # a code 0 whose gap is not 15
        (lambda data: data[:-60] + b"\0" + data[-59:], "layer 'fc6': "),
    ],
)
def test_damage_is_named(change: object, message: str) -> None:
    codebooks = ([0.0, *[0.5] * 255], [0.0, *[0.5] * 15])
    data = naive_release([(codebooks[0], [1.0] * 3, [1] * 54, 8), (codebooks[1], [1.0] * 5, [1] * 60, 4)])
    with pytest.raises(FileFormatError, match=f"^small.net: {message}.*; is it damaged, or of another network"):
        decode_release(change(data), graph(), "small.net")  # type: ignore[operator]


def published() -> Path:
    folder = Path(os.environ.get("DCHW_DATA", "data")) / "squeezenet_deep_compression"
    if not folder.exists():
        pytest.skip(f"the published SqueezeNet is not in {folder}; set DCHW_DATA to the folder that has it")
    return folder


def test_the_published_squeezenet_is_read_bit_exactly(tmp_path: Path) -> None:
    folder = published()
    data = (folder / "compressed_SqueezeNet.net").read_bytes()
    assert hashlib.sha256(data).hexdigest() == "e4ab6960ae8cd81505e1c2136921201507e930966c53deaf15862a395b3a3261"
    network = read_release(folder / "compressed_SqueezeNet.net")
    with (folder / "layers.csv").open(newline="") as text:
        rows = list(csv.DictReader(text))
    assert [layer.name for layer in network.layers] == [row["layer"] for row in rows]
    for layer, row in zip(network.layers, rows, strict=True):
        assert layer.codes.shape == tuple(int(row[f]) for f in ("out_channels", "in_channels", "kernel_h", "kernel_w"))
        assert layer.nonzeros == int(row["nonzeros"])
        used = int(row["codebook_slots_used"]) - (int(row["padding_zeros"]) > 0)  # slot 0 is the padding's
        assert np.unique(layer.codes[layer.codes > 0]).size == used
    assert sum(layer.nonzeros for layer in network.layers) == 415_921
    assert network.layers[-1].geometry.out_size == (15, 15)

    assert encoded(network) == data
    assert len(data) == 675_763

    length = dchw.save(network, tmp_path / "squeezenet.dchw")
    assert length <= 552_000
    found = sizes(tmp_path / "squeezenet.dchw")
    assert sum(found.parts.values()) == length
    assert encoded(dchw.load(tmp_path / "squeezenet.dchw")) == data


def test_huffman_lengths_of_the_published_squeezenet() -> None:
    """Coded bits of every stream equal those measured with an independent parser, without a limit of code lengths."""
    folder = published()
    network = read_release(folder / "compressed_SqueezeNet.net")
    with (folder / "layers.csv").open(newline="") as text:
        rows = list(csv.DictReader(text))
    storage = Representation(index_bits=4, codebook_bits=8, code_limit=16, chunk_entries=1 << 30)
    for layer, row in zip(network.layers, rows, strict=True):
        streams = layer_streams(layer.matrix_codes, layer.codebook.size, storage)
        assert streams.gaps is not None
        assert int(streams.fillers.sum()) == int(row["padding_zeros"])
        # a rare value of the last layer has 17 bits without a limit
        excess_bits = int(streams.codes.chunk_bits.sum()) - int(row["weight_huffman_bits"])
        assert excess_bits == (3 if layer.name == "conv_final" else 0)
        assert int(streams.gaps.chunk_bits.sum()) == int(row["index_huffman_bits"])
