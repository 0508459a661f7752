"""The file format of the Deep Compression authors' released models (``.net``), read bit-exactly.

Little-endian, packed back to back, without names: layer order and shapes come from the Caffe prototxt. The layers are
those with weights whose names contain ``conv``, ``fc`` or ``ip``, in its order; of L of them the file holds

    L x 4 bytes                 stored entries n of each layer, uint32, fillers included
    then for each layer:
    2**b x 4 bytes              codebook, float32; entry 0 is +0.0
    out_channels x 4 bytes      biases, float32
    ceil(n b / 8) bytes         codes of b bits, lowest bits first
    ceil(n / 2) bytes           gaps of 4 bits, low nibble first

with b = 8 if the name contains ``conv`` and 4 otherwise. A filler has gap 15 and code 0 and stands on a zero weight;
zeros behind the last weight are not stored. Source: github.com/songhan/SqueezeNet-Deep-Compression (format read off the
published decoder and file); Han, Mao, Dally, ICLR 2016, arXiv:1510.00149.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from dchw.compression.bitstream import packed_bytes, unpack_fixed
from dchw.compression.compressed import CompressedLayer, CompressedNetwork, Representation, graph_of
from dchw.compression.recipe import choose_representation
from dchw.compression.relative_index import decode_gaps
from dchw.compression.varint import Reader
from dchw.graph.network import Layer, Network
from dchw.quantities import DchwError, FileFormatError

INDEX_BITS = 4
LAYER_WORDS = ("conv", "fc", "ip")


def code_bits(name: str) -> int:
    """Bits of a code in the layer of that name."""
    return 8 if "conv" in name else 4


def read_release(path: str | Path, prototxt: str | Path | None = None) -> CompressedNetwork:
    """The compressed network in a released file; its layers' representation is the smallest for each.

    Without ``prototxt`` the file of the same name, or the only one, with that suffix in the same folder is taken.
    Raises FileFormatError, naming layer and field, when the file is damaged or does not belong to the prototxt.
    """
    from dchw.importers.prototxt import network_from_prototxt

    path = Path(path)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise FileFormatError(f"{path}: cannot be read ({error.strerror}); name a released .net file") from None
    beside = Path(prototxt) if prototxt is not None else _prototxt_beside(path)
    network = dataclasses.replace(
        network_from_prototxt(beside), notes=(f"published weights from {path.name}, graph from {beside.name}",)
    )
    return decode_release(data, network, str(path))


def decode_release(data: bytes, network: Network, where: str = "release") -> CompressedNetwork:
    """The compressed network that released bytes describe; of ``network`` only graph and shapes are used."""
    layers = _release_layers(network, where)
    reader = Reader(np.frombuffer(data, np.uint8))
    try:
        counts = np.frombuffer(reader.take(4 * len(layers), "entry counts").tobytes(), "<u4").tolist()
        decoded = []
        for layer, count in zip(layers, counts, strict=True):
            try:
                decoded.append(_read_layer(reader, layer, count))
            except DchwError as error:
                raise FileFormatError(f"layer {layer.name!r}: {error}") from None
        if reader.remaining:
            raise FileFormatError(f"expected the end after the last layer; got {reader.remaining} more bytes")
    except DchwError as error:
        raise FileFormatError(f"{where}: {error}; is it damaged, or of another network than the prototxt?") from None
    biases = {layer.name for layer in decoded if layer.bias is not None}
    graph = graph_of(network)
    for op in graph.operations:
        if op.weight is not None and (op.bias is not None) != (op.name in biases):
            raise FileFormatError(f"{where}: layer {op.name!r}: the format has biases, the prototxt says it has none")
    return CompressedNetwork(graph=graph, layers=tuple(decoded), recipe={"source": "Deep Compression release"})


def _release_layers(network: Network, where: str) -> list[Layer]:
    """The graph's layers, all of which must be in the format."""
    layers = list(network.layers)
    left_out = [layer.name for layer in layers if not any(word in layer.name for word in LAYER_WORDS)]
    if left_out or not layers:
        raise DchwError(
            f"{where}: the released format holds layers named with {', '.join(LAYER_WORDS)}; "
            f"got {left_out or 'none'}; rename them in the prototxt"
        )
    return layers


def _read_layer(reader: Reader, layer: Layer, count: int) -> CompressedLayer:
    bits, shape = code_bits(layer.name), layer.weight.shape
    codebook = _floats(reader, 1 << bits, "codebook")
    if codebook[0] != 0 or np.signbit(codebook[0]):
        raise FileFormatError(f"codebook: expected +0.0 as entry 0; got {codebook[0]}")
    bias = _floats(reader, shape[0], "biases")
    if count > layer.weight.size:
        raise FileFormatError(f"entry count: expected at most {layer.weight.size}; got {count}")
    codes = unpack_fixed(reader.take(packed_bytes(count, bits), "codes"), bits, count)
    gaps = unpack_fixed(reader.take(packed_bytes(count, INDEX_BITS), "gaps"), INDEX_BITS, count)
    dense = decode_gaps(gaps, codes, layer.weight.size, INDEX_BITS).astype(np.uint8)
    matrix = dense.reshape(shape[0], -1)
    representation = Representation(codebook_bits=bits, index_bits=INDEX_BITS)
    return CompressedLayer.of(
        layer,
        codes=dense.reshape(shape),
        codebook=codebook,
        bias=bias,
        representation=choose_representation(matrix, codebook.size, bias, representation),
    )


def _floats(reader: Reader, count: int, field: str) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
    values = np.frombuffer(reader.take(4 * count, field).tobytes(), "<f4").astype(np.float32)
    if not np.isfinite(values).all():
        raise FileFormatError(f"{field}: expected finite values; got NaN or infinity")
    return values


def _prototxt_beside(path: Path) -> Path:
    same = path.with_suffix(".prototxt")
    if same.exists():
        return same
    found: Sequence[Path] = sorted(path.parent.glob("*.prototxt"))
    if len(found) != 1:
        raise DchwError(
            f"{path}: expected one .prototxt beside it for the layers' order and shapes; got {len(found)}; "
            "name it (prototxt=...)"
        )
    return found[0]
