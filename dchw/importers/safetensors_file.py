"""Weights in ``.safetensors`` files, this package's own checkpoints among them, read without copying."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import safetensors
import safetensors.numpy

from dchw.files import whole_file
from dchw.graph.network import Array, Network
from dchw.importers.named_tensors import PartialGeometry, network_from_tensors
from dchw.quantities import DchwError, FileFormatError, nearest

if TYPE_CHECKING:
    import torch
    from torch import nn

_DTYPES = {
    "F64": "<f8",
    "F32": "<f4",
    "F16": "<f2",
    "I64": "<i8",
    "I32": "<i4",
    "I16": "<i2",
    "I8": "i1",
    "U8": "u1",
    "BOOL": "u1",
}


def _float8(exponent_bits: int) -> Array:
    """The values of all 256 bytes of an 8-bit float (Micikevicius et al., arXiv 2209.05433, table 1), as float32."""
    if exponent_bits == 5:  # the upper half of a float16
        return (np.arange(256, dtype=np.uint16) << 8).view(np.float16).astype(np.float32)
    byte = np.arange(256)
    exponent, mantissa = (byte >> 3) & 15, byte & 7
    size = np.where(exponent == 0, mantissa / 8 * 2.0**-6, (1 + mantissa / 8) * 2.0 ** (exponent - 7.0))
    size = np.where((byte & 127) == 127, np.nan, size)
    return np.where(byte & 128, -size, size).astype(np.float32)


_FLOAT8 = {"F8_E4M3": _float8(4), "F8_E5M2": _float8(5)}


def read_tensors(path: str | Path) -> tuple[dict[str, Array], dict[str, str], dict[str, str]]:
    """Arrays by name in the order of the file, its metadata, and what could not be read with the reason.

    float32 arrays are read-only views of the memory-mapped file; float64, float16, bfloat16, float8 and integers become
    float32 copies. Raises FileFormatError for a damaged file.
    """
    path = Path(path)
    try:
        with safetensors.safe_open(path, framework="np") as file:
            metadata = dict(file.metadata() or {})
    except OSError as error:
        raise DchwError(f"{path}: it cannot be read ({error.strerror or error}); check the path") from error
    except safetensors.SafetensorError as error:
        raise FileFormatError(f"{path}: expected a safetensors file; it is damaged ({error}); get it again") from error
    # the library has checked header, offsets and sizes; only the place of the data is left to find
    mapped = np.memmap(path, np.uint8, mode="r")
    data = 8 + int.from_bytes(mapped[:8].tobytes(), "little")
    header = json.loads(mapped[8:data].tobytes())
    tensors: dict[str, Array] = {}
    unreadable: dict[str, str] = {}
    entries = [(name, entry) for name, entry in header.items() if name != "__metadata__"]
    for name, entry in sorted(entries, key=lambda item: item[1]["data_offsets"][0]):
        start, stop = entry["data_offsets"]
        raw = mapped[data + start : data + stop]
        if entry["dtype"] == "BF16":  # the upper half of a float32
            values: Array = (np.frombuffer(raw.tobytes(), "<u2").astype(np.uint32) << 16).view(np.float32)
        elif entry["dtype"] in _FLOAT8:
            values = _FLOAT8[entry["dtype"]][np.frombuffer(raw.tobytes(), np.uint8)]
        elif entry["dtype"] in _DTYPES:
            values = raw.view(_DTYPES[entry["dtype"]]) if raw.ctypes.data % 8 == 0 else _aligned(raw, entry["dtype"])
        else:
            unreadable[name] = f"values of type {entry['dtype']} are not read"
            continue
        tensors[name] = values.reshape(entry["shape"]).astype(np.float32, copy=False)
    return tensors, metadata, unreadable


def network_from_safetensors(
    path: str | Path,
    *,
    geometry: Mapping[str, PartialGeometry] | None = None,
    name: str | None = None,
    partial: bool = False,
) -> Network:
    """The network of a file of weights.

    A checkpoint whose metadata names one of `dchw.architectures` becomes that architecture's graph. Of any other file
    each 2-D array becomes an independent linear layer and each 4-D array a convolution if its geometry is known: from
    ``geometry``, from ``geometry`` in the metadata (JSON text), or from ``FILE.json`` beside the file, in that order.
    Per layer they give ``in_size`` and, where they are not 1 or 0, ``stride``, ``padding``, ``dilation``, ``groups``.
    """
    path = Path(path)
    tensors, metadata, unreadable = read_tensors(path)
    if "architecture" in metadata:
        return _from_architecture(path, metadata["architecture"], tensors, name)
    return network_from_tensors(
        name or path.stem,
        tensors,
        geometry=geometry if geometry is not None else _stored_geometry(path, metadata, tensors),
        unreadable=unreadable,
        notes=(f"weights from {path.name} without a graph: layers are independent of each other",),
        partial=partial,
    )


def save_checkpoint(
    module_or_state: nn.Module | Mapping[str, torch.Tensor | Array],
    path: str | Path,
    architecture: str | None,
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Write weights to a safetensors file, replacing the file at once.

    ``architecture`` (a key of `dchw.architectures.ARCHITECTURES`) says what they belong to, so that the file can be
    read as a network; None for a module of the user's own. ``metadata`` (text to text: data set, seed, error rate, ...)
    is kept beside it.
    """
    from dchw.architectures import ARCHITECTURES

    if architecture is not None and architecture not in ARCHITECTURES:
        raise DchwError(f"{path}: architecture {architecture!r} is unknown; {nearest(architecture, ARCHITECTURES)}")
    state: Any = module_or_state if isinstance(module_or_state, Mapping) else module_or_state.state_dict()
    arrays = {
        key: np.ascontiguousarray(value if isinstance(value, np.ndarray) else value.detach().cpu().numpy(), np.float32)
        for key, value in state.items()
    }
    named = {} if architecture is None else {"architecture": architecture}
    content = safetensors.numpy.save(arrays, {**(metadata or {}), **named})
    with whole_file(path) as beside:
        Path(beside).write_bytes(_in_order(content))


def _in_order(content: bytes) -> bytes:
    """A safetensors file with its header's keys in order, so that equal weights give equal bytes.

    The package writes metadata in an order that changes from run to run. Offsets count from the header's end, which
    stays a multiple of 8.
    """
    length = int.from_bytes(content[:8], "little")
    header = json.dumps(json.loads(content[8 : 8 + length]), sort_keys=True, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)
    return len(header).to_bytes(8, "little") + header + content[8 + length :]


def _aligned(raw: Array, dtype: str) -> Array:
    return np.frombuffer(raw.tobytes(), _DTYPES[dtype])


def _from_architecture(path: Path, architecture: str, tensors: Mapping[str, Array], name: str | None) -> Network:
    import torch

    from dchw.architectures import INPUT_SHAPE, build

    try:
        module = build(architecture)
    except DchwError as error:
        raise FileFormatError(f"{path}: {error}") from error
    expected = {key: tuple(value.shape) for key, value in module.state_dict().items()}
    found = {key: tuple(value.shape) for key, value in tensors.items()}
    for key in (*expected, *found):
        if expected.get(key) != found.get(key):
            raise FileFormatError(
                f"{path}: {architecture} needs {key!r} of shape {expected.get(key)}; got {found.get(key)}; "
                "train it again"
            )
    module.load_state_dict({key: torch.from_numpy(np.array(value)) for key, value in tensors.items()})
    return Network.from_module(module, torch.zeros(1, *INPUT_SHAPE), name=name or architecture, keep_example=False)


def _stored_geometry(
    path: Path, metadata: Mapping[str, str], tensors: Mapping[str, Array]
) -> dict[str, PartialGeometry]:
    """Geometry from the metadata or from the file beside it; empty where there is none."""
    beside = path.with_suffix(".json")
    text: str | bytes
    if "geometry" in metadata:
        where, text = f"{path}, metadata 'geometry'", metadata["geometry"]
    elif beside.is_file():
        where, text = str(beside), beside.read_bytes()
    else:
        return {}
    try:
        stored = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise FileFormatError(f"{where}: expected JSON; {error}; correct it") from error
    if not isinstance(stored, dict) or not all(isinstance(value, dict) for value in stored.values()):
        raise FileFormatError(f'{where}: expected {{"layer": {{"in_size": [h, w], ...}}}}; got other JSON; correct it')
    return stored
