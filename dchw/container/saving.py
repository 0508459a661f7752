"""Saving and loading compressed networks as ``.dchw`` files."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from dchw.arguments import checked
from dchw.compression.compressed import CompressedLayer, CompressedNetwork
from dchw.container import envelope
from dchw.container.layer_bytes import LayerBytes, layer_bytes, read_layer
from dchw.container.plain_graph import decode_graph, encode_graph, plain
from dchw.files import whole_file
from dchw.graph.network import Network, placeholder
from dchw.quantities import DchwError, FileFormatError

_DEFAULTS: tuple[Any, ...] = ({}, {}, [], "float32", [], [])
"""Recipe, results, notes, number format, left-out parameters and inner outputs that a description leaves out at its
end."""


@checked
def save(network: CompressedNetwork, path: str | Path) -> int:
    """Write a ``.dchw`` file: whole or not at all.

    It is written beside its place, flushed to the disk, read back, compared and then moved there. Example inputs of the
    graph are stored with it. Equal networks give equal bytes (of the same zlib).

    Parameters
    ----------
    network
        The compressed network.
    path
        Where the file goes.

    Returns
    -------
    int
        Length of the file in bytes.

    Raises
    ------
    DchwError
        When the network cannot be stored exactly or the file cannot be written.

    Examples
    --------
    >>> import dchw, numpy as np, pathlib, tempfile
    >>> network = dchw.compress(dchw.Network.from_arrays("fc", weights={"fc": np.eye(8, dtype=np.float32)}))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = pathlib.Path(folder, "fc.dchw")
    ...     dchw.save(network, file) == file.stat().st_size
    True
    """
    data = to_bytes(network)
    place = Path(path)
    with whole_file(place) as beside:
        with open(beside, "xb") as out:
            out.write(data)
            out.flush()
            os.fsync(out.fileno())
        _check_same(network, parse(beside.read_bytes(), str(place)), place)
    return len(data)


def _check_same(wanted: CompressedNetwork, found: CompressedNetwork, place: Path) -> None:
    for one, other in zip(wanted.layers, found.layers, strict=True):
        for a, b in ((one.codes, other.codes), (one.codebook, other.codebook), (one.bias, other.bias)):
            # bit patterns, so that -0.0 is not 0.0
            if (a is None) != (b is None) or (a is not None and b is not None and _bits(a) != _bits(b)):
                raise DchwError(f"{place}: layer {one.name!r}: what was read back differs from what was to be written")


def _bits(array: npt.NDArray[Any]) -> tuple[tuple[int, ...], bytes]:
    return array.shape, array.astype(np.uint16).tobytes() if array.dtype.kind == "u" else array.tobytes()


@checked
def load(path: str | Path) -> CompressedNetwork:
    """Read a ``.dchw`` file.

    Parameters
    ----------
    path
        The file.

    Returns
    -------
    CompressedNetwork
        Equal to what `save` was given.

    Raises
    ------
    FileFormatError
        Naming field and layer, for anything damaged, cut or of an unknown version.

    Examples
    --------
    >>> import dchw, numpy as np, pathlib, tempfile
    >>> network = dchw.compress(dchw.Network.from_arrays("fc", weights={"fc": np.eye(8, dtype=np.float32)}))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = pathlib.Path(folder, "fc.dchw")
    ...     _ = dchw.save(network, file)
    ...     loaded = dchw.load(file)
    >>> bool((loaded.decompress().layers[0].weight == np.eye(8)).all())
    True
    """
    return parse(read(path), str(path))


def read(path: str | Path) -> bytes:
    """The bytes of a file; raises FileFormatError when it cannot be read."""
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise FileFormatError(f"{path}: cannot be read ({error.strerror}); name a .dchw file") from None


def to_bytes(network: CompressedNetwork) -> bytes:
    """The bytes of a ``.dchw`` file."""
    examples = envelope.input_tensors(network.graph.example_inputs)
    return envelope.seal(*_content(network, examples, lambda layer: np.frombuffer(layer.join(), np.uint8)))


def network_bytes(network: CompressedNetwork) -> int:
    """Length of the file without example inputs; nothing is written."""
    return envelope.sealed_bytes(*_content(network, {}, lambda layer: np.broadcast_to(np.uint8(), layer.size_bytes)))


def _content(
    network: CompressedNetwork,
    examples: Mapping[str, npt.NDArray[Any]],
    tensor: Callable[[LayerBytes], npt.NDArray[np.uint8]],
) -> tuple[list[Any], dict[str, npt.NDArray[Any]]]:
    """What is sealed: the description, and all tensors, with ``tensor`` of each layer."""
    where = f"network {network.name}"
    expected = {layer.name: layer for layer in network.graph.layers}
    if [layer.name for layer in network.layers] != list(expected):
        raise DchwError(
            f"{where}: expected the layers of its graph, {list(expected)}; got "
            f"{[layer.name for layer in network.layers]}; give one compressed layer for each, in order"
        )
    rows, arrays = encode_graph(network.graph)
    tensors: dict[str, npt.NDArray[Any]] = {envelope.ATTRIBUTE + name: array for name, array in arrays.items()}
    tensors |= examples
    for layer in network.layers:
        graph_layer = expected[layer.name]
        if layer.codes.shape != graph_layer.weight.shape:
            raise DchwError(
                f"{where}, layer {layer.name!r}: expected codes of shape {graph_layer.weight.shape}; "
                f"got {layer.codes.shape}; reshape them"
            )
        if layer.bias is not None and layer.bias.shape != layer.codes.shape[:1]:
            raise DchwError(
                f"{where}, layer {layer.name!r}: expected {layer.codes.shape[0]} biases; got shape "
                f"{layer.bias.shape}; give one per output channel"
            )
        if layer.name.startswith(envelope.RESERVED):
            raise DchwError(f"{where}: names that begin like {layer.name!r} mean something else; rename the layer")
        tensors[layer.name] = tensor(layer_bytes(layer))
    name, operations, *about = rows
    description = [name, operations, plain(network.recipe), plain(network.results), *about]
    while len(description) > 2 and description[-1] == _DEFAULTS[len(description) - 3]:
        description.pop()
    return description, tensors


def parse(data: bytes, where: str = "file") -> CompressedNetwork:
    """A compressed network from the bytes of a ``.dchw`` file; ``where`` begins every complaint."""
    try:
        return _network(envelope.unseal(data))
    except DchwError as error:
        raise FileFormatError(f"{where}: {error}") from None


def _network(content: envelope.Envelope) -> CompressedNetwork:
    arrays = {
        name.removeprefix(envelope.ATTRIBUTE): tensor
        for name, tensor in content.tensors.items()
        if name.startswith(envelope.ATTRIBUTE)
    }
    coded = {name: tensor for name, tensor in content.tensors.items() if not name.startswith(envelope.RESERVED)}
    description = content.description
    with _told(MemoryError):  # sizes in a description may be absurd, those of a layer's bytes are not
        whole = [*description, *_DEFAULTS[len(description) - 2 :]]
        name, operations, recipe, results, *about = whole
        if not isinstance(recipe, Mapping) or not isinstance(results, Mapping):
            raise TypeError("recipe and results must be mappings")
        graph = decode_graph(
            [name, operations, *about],
            list(coded),
            arrays,
            envelope.read_inputs(content.tensors),
        )
    with _told():
        layers = tuple(_layer(graph, name, tensor) for name, tensor in coded.items())
        biases = {layer.name: placeholder(layer.bias.shape) for layer in layers if layer.bias is not None}
        operations = tuple(dataclasses.replace(op, bias=biases.get(op.name)) for op in graph.operations)
        graph = dataclasses.replace(graph, operations=operations)
    return CompressedNetwork(graph=graph, layers=layers, recipe=recipe, results=results)


@contextmanager
def _told(*also: type[Exception]) -> Iterator[None]:
    """Whatever a damaged description leads to, and ``also`` that, as a fault of the file."""
    faults: tuple[type[Exception], ...] = (
        DchwError,
        ValueError,
        LookupError,
        TypeError,
        AttributeError,
        ArithmeticError,
        *also,
    )
    try:
        yield
    except FileFormatError:
        raise
    except faults as error:
        raise FileFormatError(f"description: expected a graph that holds together; got a fault ({error})") from None


def _layer(graph: Network, name: str, tensor: npt.NDArray[np.uint8]) -> CompressedLayer:
    layer = graph.layer(name)
    if tensor.ndim != 1 or tensor.dtype != np.uint8:
        raise FileFormatError(f"layer {name!r}: expected uint8 in one dimension; got {tensor.dtype} {tensor.shape}")
    try:
        codes, codebook, bias, representation = read_layer(tensor, layer.weight.shape)
        return CompressedLayer.of(layer, codes=codes, codebook=codebook, bias=bias, representation=representation)
    except DchwError as error:
        raise FileFormatError(f"layer {name!r}: {error}") from None
