"""The ``.dchw`` file around the layers' bytes: a safetensors file, its directory, metadata and checksum.

    8 bytes     length n of the header, little-endian
    n bytes     header: JSON {"__metadata__": {"dchw": "1.CCCCC..."}, NAME: {"dtype", "shape", "data_offsets"}, ...}
    the rest    the tensors, in the order of the header, without holes

The header has no spaces and keeps this order of keys; it is padded with spaces to a multiple of 8 bytes only if float32
tensors follow. Its one metadata value is the format version, a dot, the checksum and the description, both in base 85
(alphabet of RFC 1924). The checksum is the CRC-32 (IEEE 802.3) of the whole file with ``00000`` in its place,
big-endian. The description is raw DEFLATE, with `DICTIONARY` preset, of compact JSON in UTF-8: the list
``[name, operations, recipe, results, notes, number_format, left_out, inner_outputs]``; trailing defaults are left out.
`dchw.container.plain_graph` has the form of operations.

Tensors, in this order:

- ``attribute:OPERATION:NAME`` float32: an array among an operation's attributes;
- ``input:NAME`` float32: an example input; uint8 if all its values are whole numbers from 0 to 255;
- ``input255:NAME`` uint8: an example input whose float32 values are these, divided by 255;
- one uint8 tensor per layer, named like it, in network order (see `dchw.container.layer_bytes`).
"""

from __future__ import annotations

import base64
import binascii
import json
import re
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from dchw.graph.network import FloatArray
from dchw.quantities import DchwError, FileFormatError

VERSION = 1
ATTRIBUTE, INPUT, INPUT255 = "attribute:", "input:", "input255:"
RESERVED = (ATTRIBUTE, INPUT, INPUT255, "__metadata__")
DICTIONARY = (
    b'"threshold":"dense","fixed","forgy","density","optimal","linear","init":"float32","chunk_entries":"code_limit":12,'
    b'"trim":true,false,"bitmask","gaps","escaped_gaps","positions":"smallest","'
    b'huffman","coding":"seed":0,'
    b'"function":"sigmoid","softmax","tanh","gelu","axis":-1[14,0,{"stride":[2,2],"padding":[1,1]}],[19,"dropout"],'
    b'[6,0,{"kernel":[3,3],"stride":[2,2],"ceil_mode":true}],[13,"relu3"],[3,"conv_0",[64,1,1],{"padding":[1,1]}],'
    b'"bias_format":"float16","codebook_format":"int8","index_bits":"codebook_bits":4,5,6,8,"density":0.0'
    b'["lenet-5",[[0,"images",0,0,0,[1,28,28]],[3,0,[20,5,5]],[13,"relu"],'
    b'[4,"max_pool2d",0,{"kernel":[2,2],"stride":[2,2]}],[3,0,[50,5,5]],[13,"relu_1"],'
    b'[4,"max_pool2d_1",0,{"kernel":[2,2],"stride":[2,2]}],[16,"flatten"],[2,0,[500]],[13,"relu_2"],[2,0,[10]]],{'
    b'["lenet-300-100",[[0,"images",0,0,0,[1,28,28]],[16,"flatten"],[2,0,[300]],[13,"relu"],[2,0,[100]],'
    b'[13,"relu_1"],[2,0,[10]]],{"training_recipe":"lenet-300-100-frontier","lenet-5-frontier","lenet-5-paper"},'
    b'{"data_set":"digits","mnist","seed":1,"dense_error_percent":0.,"pruned_error_percent":1.,"error_percent":1.'
)
"""Text that headers of small networks tend to hold. Part of format version 1: never changed."""

CHECKSUM_CHARACTERS = 5
MOST_DESCRIPTION_BYTES = 64 * 2**20
_PREFIX = b'{"__metadata__":{"dchw":"%d.'
_OPENING = b'{"__metadata__":{"dchw":'
"""How the header of a file begins, behind its length."""
_START = re.compile(rb'\{"__metadata__":\{"dchw":"(\d{1,9})\.')
_DTYPES = {"U8": 1, "F32": 4}


@dataclass(frozen=True, kw_only=True, eq=False)
class Envelope:
    """What a file holds: a description and named tensors (uint8 or float32), in file order."""

    description: list[Any]
    tensors: Mapping[str, npt.NDArray[Any]]
    directory_bytes: int = 0
    """Length word and JSON header without the description and checksum."""
    description_bytes: int = 0
    """The description and checksum as written."""


def seal(description: list[Any], tensors: Mapping[str, npt.NDArray[Any]]) -> bytes:
    """The bytes of a file."""
    header = _unsigned_header(description, tensors)
    data = bytearray(len(header).to_bytes(8, "little") + header)
    for array in tensors.values():
        data += array.astype("<f4", copy=False).tobytes() if array.dtype == np.float32 else array.tobytes()
    at = _checksum_place(VERSION)
    data[at : at + CHECKSUM_CHARACTERS] = base64.b85encode(zlib.crc32(data).to_bytes(4, "big"))
    return bytes(data)


def sealed_bytes(description: list[Any], tensors: Mapping[str, npt.NDArray[Any]]) -> int:
    """Length of what `seal` gives; of tensors only types and shapes matter."""
    return 8 + len(_unsigned_header(description, tensors)) + sum(array.nbytes for array in tensors.values())


def unseal(data: bytes) -> Envelope:
    """What `seal` was given; raises FileFormatError, naming the field, for anything else."""
    if len(data) < 8:
        raise FileFormatError(f"header length: expected 8 bytes; got a file of {len(data)}")
    if not data[8:].startswith(_OPENING):
        raise FileFormatError(
            "expected a .dchw file; got something else, or one with a damaged header; name another file, or read other "
            "kinds of networks with dchw.load_network"
        )
    size = int.from_bytes(data[:8], "little")
    if size > len(data) - 8:
        raise FileFormatError(f"header: expected {size} bytes; got {len(data) - 8}; the file is damaged or cut")
    raw = data[8 : 8 + size]
    start = _START.match(raw)
    if start is None:
        raise FileFormatError("metadata: expected a .dchw file; got something else or a damaged header")
    if int(start[1]) != VERSION:
        raise FileFormatError(
            f"format version: expected {VERSION}; got {start[1].decode()}; read it with a dchw that knows this version"
        )
    shapes, value = _directory(raw)
    body = data[8 + size :]
    spans = [int(np.prod(shape, dtype=object)) * _DTYPES[dtype] for dtype, shape in shapes.values()]
    if sum(spans) != len(body):
        raise FileFormatError(f"tensors: expected {sum(spans)} bytes; got {len(body)}; the file is damaged or cut")
    _check_sum(data)
    tensors: dict[str, npt.NDArray[Any]] = {}
    at = 0
    for (name, (dtype, shape)), span in zip(shapes.items(), spans, strict=True):
        kind: npt.DTypeLike = np.uint8 if dtype == "U8" else "<f4"
        tensors[name] = np.frombuffer(body, kind, span // _DTYPES[dtype], at).reshape(shape)
        at += span
    if _header(value, tensors) != raw:
        raise FileFormatError("header: expected the order and spacing that dchw writes; got others")
    text = value[len(f"{VERSION}.") :]
    return Envelope(
        description=_inflate(text[CHECKSUM_CHARACTERS:]),
        tensors=tensors,
        directory_bytes=8 + size - len(text),
        description_bytes=len(text),
    )


def read_inputs(tensors: Mapping[str, npt.NDArray[Any]]) -> dict[str, FloatArray]:
    """Example inputs by the name of their operation."""
    out: dict[str, FloatArray] = {}
    for name, array in tensors.items():
        if name.startswith(INPUT):
            out[name.removeprefix(INPUT)] = array.astype(np.float32)
        elif name.startswith(INPUT255):
            out[name.removeprefix(INPUT255)] = array.astype(np.float32) / np.float32(255)
    return out


def without_inputs(content: Envelope) -> bytes:
    """The bytes of the same file without example inputs: what holds the network alone."""
    kept = {name: array for name, array in content.tensors.items() if not name.startswith((INPUT, INPUT255))}
    return seal(content.description, kept)


def input_tensors(examples: Mapping[str, FloatArray]) -> dict[str, npt.NDArray[Any]]:
    """Example inputs as tensors, as bytes where that loses nothing."""
    out: dict[str, npt.NDArray[Any]] = {}
    for name, array in examples.items():
        for prefix, divisor in ((INPUT, 1), (INPUT255, 255)):
            narrow = np.clip(np.rint(array * np.float32(divisor)), 0, 255).astype(np.uint8)
            wide = narrow.astype(np.float32) / np.float32(divisor)
            if np.array_equal(wide.view(np.uint32), np.ascontiguousarray(array).view(np.uint32)):
                out[prefix + name] = narrow
                break
        else:
            out[INPUT + name] = array
    return out


def _unsigned_header(description: list[Any], tensors: Mapping[str, npt.NDArray[Any]]) -> bytes:
    packed = base64.b85encode(_deflate(description)).decode("ascii")
    return _header(f"{VERSION}.{'0' * CHECKSUM_CHARACTERS}{packed}", tensors)


def _header(value: str, tensors: Mapping[str, npt.NDArray[Any]]) -> bytes:
    entries: dict[str, Any] = {"__metadata__": {"dchw": value}}
    at = 0
    for name, array in tensors.items():
        dtype = "F32" if array.dtype == np.float32 else "U8"
        entries[name] = {"dtype": dtype, "shape": list(array.shape), "data_offsets": [at, at + array.nbytes]}
        at += array.nbytes
    text = json.dumps(entries, separators=(",", ":"), ensure_ascii=False).encode("utf-8")
    if any(array.dtype == np.float32 for array in tensors.values()):
        text += b" " * (-len(text) % 8)
    return text


def _directory(raw: bytes) -> tuple[dict[str, tuple[str, list[int]]], str]:
    """Type and shape of every tensor, and the metadata value; offsets are checked by writing the header again."""
    try:
        entries = json.loads(raw.decode("utf-8"), object_pairs_hook=_unique)
        value = entries.pop("__metadata__")["dchw"]
        shapes = {str(name): (entry["dtype"], list(entry["shape"])) for name, entry in entries.items()}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise FileFormatError(f"header: expected JSON of tensor names; got {' '.join(str(error).split())}") from None
    for name, (dtype, shape) in shapes.items():
        if dtype not in _DTYPES or not all(type(n) is int and 0 <= n < 1 << 48 for n in shape) or len(shape) > 8:
            raise FileFormatError(f"header: tensor {name!r}: expected uint8 or float32; got {dtype!r} {shape!r}")
    if not isinstance(value, str):
        raise FileFormatError("header: expected text as metadata")
    return shapes, value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    out = dict(pairs)
    if len(out) != len(pairs):
        raise ValueError("a name that occurs twice")
    return out


def _checksum_place(version: int) -> int:
    return 8 + len(_PREFIX % version)


def _check_sum(data: bytes) -> None:
    at = _checksum_place(VERSION)
    stored = data[at : at + CHECKSUM_CHARACTERS]
    blank = bytearray(data)
    blank[at : at + CHECKSUM_CHARACTERS] = b"0" * CHECKSUM_CHARACTERS
    expected = base64.b85encode(zlib.crc32(blank).to_bytes(4, "big"))
    if stored != expected:
        raise FileFormatError(
            f"checksum: expected {stored.decode('ascii', 'replace')!r}; got {expected.decode()!r}; the file is damaged"
        )


def _deflate(description: list[Any]) -> bytes:
    try:
        text = json.dumps(description, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise DchwError(f"recipe and results must be plain finite values; got otherwise ({error})") from None
    packer = zlib.compressobj(level=9, wbits=-15, memLevel=9, zdict=DICTIONARY)
    return packer.compress(text.encode("utf-8")) + packer.flush()


def _inflate(text: str) -> list[Any]:
    try:
        packed = base64.b85decode(text)
        unpacker = zlib.decompressobj(wbits=-15, zdict=DICTIONARY)
        plain = unpacker.decompress(packed, MOST_DESCRIPTION_BYTES)
        if not unpacker.eof or unpacker.unused_data:
            raise ValueError("bytes missing or left over")
        description = json.loads(plain.decode("utf-8"), object_pairs_hook=_unique)
    except (ValueError, zlib.error, binascii.Error, RecursionError) as error:
        raise FileFormatError(f"description: expected compressed JSON; got {' '.join(str(error).split())}") from None
    if not isinstance(description, list):
        raise FileFormatError(f"description: expected a list; got {type(description).__name__}")
    return description
