"""Every byte of a small file, with the arithmetic; a change here is a change of the format."""

from __future__ import annotations

import json
import zlib

import numpy as np
import pytest

from dchw.compression.compressed import (
    Coding,
    CompressedLayer,
    CompressedNetwork,
    Positions,
    Representation,
    ValueFormat,
    graph_of,
)
from dchw.container import parse, sizes, to_bytes
from dchw.container.envelope import unseal
from dchw.graph.network import Network
from tests.oracles import container as oracle

A = np.array([[0, 0, 2, 0], [0] * 4, [0] * 4, [0] * 4, [0, 0, 0, 1], [2, 2, 0, 0]], np.uint8)
B = np.array([[2, 1, 0], [0, 2, 2]], np.uint8)

LAYER_A = bytes(
    [
        # choices: positions gaps (0), codes (bit 2) and gaps (bit 3) Huffman-coded, no biases
        0b00001100,
        # codebook float16 (1), biases float32 (0), codebook bits 2 - 1
        0b0001_00_01,
        # index bits 3 - 1, code limit 3 - 1
        0b0010_0010,
        # three codebook entries: +0.0 implied, -1.0 and 0.5 as float16
        3, 0x00, 0xBC, 0x00, 0x38,
        # Weights stand at 2, 19, 20, 21. A gap of 3 bits reaches 7, a filler advances 8. After 2 come 16 zeros: fillers
        # on 10 and 18, then gap 0. So gaps 2 7 7 0 0 0 with codes 2 0 0 1 2 2: six entries.
        6,
        # Gap table: 0 occurs three times, 7 twice, 2 once, lengths 1, 2, 2. Up to symbol 7 these are 8 lengths, with
        # zeros as runs (r = 1): 2 x 8 + 1. Fields of 2 bits (limit 3): 1, 0 (run of 1: 0), 2, 0 (run of 4: 3), 2.
        17, 0b10_00_00_01, 0b00_10_11_00,
        # Code table: 2 occurs three times, 0 twice, 1 once, lengths 2, 2, 1 of codes 0, 1, 2: 2 x 3 + 0.
        6, 0b00_01_10_10,
        # chunk table: the gap chunk has 2 bytes
        2,
        # gaps: words 0 -> 0, 2 -> 10, 7 -> 11, first bit lowest: 10 11 11 0 0, 0
        0b00111101, 0b00000000,
        # codes: words 2 -> 0, 0 -> 10, 1 -> 11: 0 10 10 11 0, 0
        0b01101010, 0b00000000,
    ]
)  # fmt: skip
LAYER_B = bytes(
    [
        # choices: dense (3), nothing Huffman-coded, biases (bit 5)
        0b00100011,
        0b0001_00_01,
        0b0010_0010,
        # -2.0 and 1.0 as float16, biases 0.5 and -0.25 as float32
        3, 0x00, 0xC0, 0x00, 0x3C,
        0x00, 0x00, 0x00, 0x3F, 0x00, 0x00, 0x80, 0xBE,
        # codes 2 1 0 0, 2 2 of 2 bits, lowest first
        0b00_00_01_10, 0b00_00_10_10,
    ]
)  # fmt: skip
DESCRIPTION = (
    '["tiny",[[0,"a.input",0,0,0,[4]],[2,0,[6]],[0,"b.input",0,0,0,[3]],[2,0,[2]]]]'
    # kinds 0 input and 2 linear; a layer's name is its tensor's, [6] its output channels
)
FILE = (
    # 193 bytes of header; version 1, checksum =d9<=, then the description, deflated
    b"\xc1\x00\x00\x00\x00\x00\x00\x00"
    b'{"__metadata__":{"dchw":"1.'
    b"=d9<=i&iSh%&UZkR-#^JUI8#~z=F#p7UoYg5DTax2~CADT!j%ZAYuU"
    b'"},"a":{"dtype":"U8","shape":[19],"data_offsets":[0,19]},"b":{"dtype":"U8","shape":[18],"data_offsets":[19,37]}}'
) + LAYER_A + LAYER_B  # fmt: skip


def tiny() -> CompressedNetwork:
    network = Network.from_arrays(
        "tiny",
        {"a": A.astype(np.float32), "b": B.astype(np.float32)},
        biases={"b": np.array([0.5, -0.25], np.float32)},
    )
    common = {"codebook_bits": 2, "index_bits": 3, "code_limit": 3, "codebook_format": ValueFormat.FLOAT16}
    storages = {
        "a": Representation(positions=Positions.GAPS, **common),
        "b": Representation(positions=Positions.DENSE, code_coding=Coding.FIXED, gap_coding=Coding.FIXED, **common),
    }
    values = {"a": [0, -1, 0.5], "b": [0, -2, 1]}
    codes = {"a": A, "b": B}
    layers = tuple(
        CompressedLayer(
            name=layer.name,
            codes=codes[layer.name],
            codebook=np.array(values[layer.name], np.float32),
            bias=layer.bias,
            geometry=layer.geometry,
            kind=layer.kind,
            input=layer.input,
            parameter=layer.parameter,
            representation=storages[layer.name],
        )
        for layer in network.layers
    )
    return CompressedNetwork(graph=graph_of(network), layers=layers)


def test_bytes_of_both_layers() -> None:
    tensors = unseal(to_bytes(tiny())).tensors
    assert tensors["a"].tobytes() == LAYER_A
    assert tensors["b"].tobytes() == LAYER_B


@pytest.mark.skipif("ng" in zlib.ZLIB_RUNTIME_VERSION, reason="zlib-ng packs the description differently")
def test_the_whole_file() -> None:
    assert to_bytes(tiny()) == FILE


def test_description() -> None:
    assert unseal(FILE).description == json.loads(DESCRIPTION)


def test_a_file_of_literals_loads() -> None:
    loaded = parse(FILE)
    assert [layer.codes.tolist() for layer in loaded.layers] == [A.tolist(), B.tolist()]
    assert loaded.layer("a").weight[5].tolist() == [0.5, 0.5, 0, 0]
    assert loaded.layer("b").weight.tolist() == [[1, -2, 0], [0, 1, 1]]
    assert loaded.layer("b").bias is not None
    assert loaded.layer("b").bias.tolist() == [0.5, -0.25]


def test_the_oracle_reads_the_same() -> None:
    description, tensors = oracle.read_file(FILE)
    assert description == json.loads(DESCRIPTION)
    assert oracle.read_layer(tensors["a"], 6, 4) == (A.tolist(), [0, -1, 0.5], None)
    assert oracle.read_layer(tensors["b"], 2, 3) == (B.tolist(), [0, -2, 1], [0.5, -0.25])


def test_where_the_bytes_go() -> None:
    found = sizes(FILE)
    a, b = found.layers
    assert a.parts == {
        "codes": 2, "gaps": 2, "codebooks": 5, "code_tables": 5, "chunk_tables": 1, "biases": 0, "weights": 0,
        "activations": 0, "header": 4,
    }  # fmt: skip
    assert b.parts == {
        "codes": 2, "gaps": 0, "codebooks": 5, "code_tables": 0, "chunk_tables": 0, "biases": 8, "weights": 0,
        "activations": 0, "header": 3,
    }  # fmt: skip
    # two fillers: code 0 has two bits, gap 7 two
    assert (a.entries, a.fillers, a.code_filler_bits, a.gap_filler_bits) == (6, 2, 4, 4)
    assert found.own["header"] == len(FILE) - 37
