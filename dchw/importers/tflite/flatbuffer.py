"""What stands in a TFLite file: tensors and operators as plain values, by the schema of the package ``tflite``."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from dchw.extras import extras_named
from dchw.graph.operations import Array
from dchw.importers.tflite.sparsity import densified
from dchw.quantities import DchwError, FileFormatError

FAULTS = (struct.error, ValueError, LookupError, TypeError, OverflowError, AttributeError, AssertionError, MemoryError)
"""What reading a damaged FlatBuffer can raise."""
_TYPES = {
    "FLOAT32": np.float32,
    "FLOAT16": np.float16,
    "FLOAT64": np.float64,
    "INT8": np.int8,
    "UINT8": np.uint8,
    "INT16": np.int16,
    "INT32": np.int32,
    "INT64": np.int64,
    "BOOL": np.bool_,
}


@dataclass(frozen=True, kw_only=True, eq=False)
class Tensor:
    """A tensor of a TFLite graph; ``data`` where the file holds its values (int8 ones not yet dequantised)."""

    name: str
    shape: tuple[int, ...]
    kind: str
    """Its element type as the schema calls it."""
    data: Array | None
    scale: Array
    zero: Array
    axis: int

    @property
    def quantised(self) -> bool:
        """Whether whole numbers stand for real values."""
        return self.scale.size > 0 and self.kind in ("INT8", "UINT8", "INT16", "INT32")

    @cached_property
    def values(self) -> Array | None:
        """The values of a constant, dequantised."""
        if self.data is None or not self.quantised:
            return self.data
        along = [-1 if place == self.axis else 1 for place in range(len(self.shape))]
        scale, zero = (x.reshape(along) if x.size > 1 else x.reshape(()) for x in (self.scale, self.zero))
        return ((self.data.astype(np.int64) - zero) * scale).astype(np.float32)


@dataclass(frozen=True, kw_only=True, eq=False)
class Operator:
    """An operator: numbers of the tensors it reads (-1: left out) and gives, and its options by name."""

    kind: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    options: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True, eq=False)
class Graph:
    """The first graph of a file."""

    name: str
    tensors: tuple[Tensor, ...]
    operators: tuple[Operator, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    variables: int = 0
    """How many variables were made inputs and outputs."""


def read_graph(path: Path) -> Graph:
    """The graph of a file; raises FileFormatError where it is damaged or no TFLite file."""
    with extras_named(str(path)):
        import tflite
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DchwError(f"{path}: it cannot be read ({error.strerror or error}); check the path") from error
    if content[4:8] != b"TFL3":
        raise FileFormatError(f"{path}: expected a TFLite model, which has TFL3 in its bytes 4 to 7; it is none")
    try:
        return _graph(tflite.Model.GetRootAsModel(content, 0), path.stem, len(content))
    except FAULTS as error:
        text = " ".join(str(error).split())[:200] or type(error).__name__
        raise FileFormatError(f"{path}: expected a TFLite model; it is damaged ({text}); fetch it again") from error


def _graph(model: Any, name: str, size: int) -> Graph:
    import tflite

    operators = {number: text for text, number in vars(tflite.BuiltinOperator).items() if isinstance(number, int)}
    kinds = {number: text for text, number in vars(tflite.TensorType).items() if isinstance(number, int)}
    graph = model.Subgraphs(0)
    counts = (graph.TensorsLength(), graph.OperatorsLength(), model.BuffersLength())
    if max(counts) > size:
        raise ValueError(f"it counts {max(counts)} parts in {size} bytes")
    tensors = tuple(_tensor(model, graph.Tensors(i), kinds) for i in range(counts[0]))
    rows = []
    for i in range(counts[1]):
        one = graph.Operators(i)
        code = model.OperatorCodes(one.OpcodeIndex())
        kind = operators.get(max(code.BuiltinCode(), code.DeprecatedBuiltinCode()), "UNKNOWN")
        if kind == "CUSTOM":
            kind = f"CUSTOM.{(code.CustomCode() or b'').decode(errors='replace')}"
        rows.append(
            Operator(
                kind=kind,
                inputs=_places(one.InputsAsNumpy(), len(tensors)),
                outputs=_places(one.OutputsAsNumpy(), len(tensors)),
                options=_options(one),
            )
        )
    ends = [_places(places, len(tensors)) for places in (graph.InputsAsNumpy(), graph.OutputsAsNumpy())]
    return Graph(name=name, tensors=tensors, operators=tuple(rows), inputs=ends[0], outputs=ends[1])


def _places(numbers: Any, count: int) -> tuple[int, ...]:
    places = tuple(int(number) for number in np.atleast_1d(numbers)) if not isinstance(numbers, int) else ()
    if any(not -1 <= place < count for place in places):
        raise IndexError(f"an operator reads tensor {max(places)} of {count}")
    return places


def _tensor(model: Any, tensor: Any, kinds: Mapping[int, str]) -> Tensor:
    shape = tuple(int(size) for size in np.atleast_1d(tensor.ShapeAsNumpy())) if tensor.ShapeLength() else ()
    if any(size < 0 for size in shape):
        raise ValueError(f"a tensor has the shape {shape}")
    kind, data = kinds.get(tensor.Type(), "UNKNOWN"), None
    buffer = model.Buffers(tensor.Buffer())
    if buffer is not None and buffer.DataLength() and kind in _TYPES:
        data = buffer.DataAsNumpy().view(_TYPES[kind])
        data = data.reshape(shape) if tensor.Sparsity() is None else densified(data, shape, tensor.Sparsity())
    scale, zero, axis = np.zeros(0, np.float32), np.zeros(0, np.int64), 0
    quantisation = tensor.Quantization()
    if quantisation is not None and quantisation.ScaleLength():
        scale, axis = np.atleast_1d(quantisation.ScaleAsNumpy()), quantisation.QuantizedDimension()
        zero = np.atleast_1d(quantisation.ZeroPointAsNumpy()) if quantisation.ZeroPointLength() else np.zeros(1, int)
        if not np.isfinite(scale).all() or scale.min() < 0:
            raise ValueError("a quantisation scale is no positive number")
    name = (tensor.Name() or b"").decode(errors="replace")
    return Tensor(name=name, shape=shape, kind=kind, data=data, scale=scale, zero=zero, axis=axis)


def _options(operator: Any) -> dict[str, Any]:
    """All plain options of an operator by the schema's names."""
    import tflite

    kinds = {number: text for text, number in vars(tflite.BuiltinOptions).items() if isinstance(number, int)}
    table, kind = operator.BuiltinOptions(), kinds.get(operator.BuiltinOptionsType(), "NONE")
    reader = getattr(tflite, kind, None)
    if table is None or reader is None:
        return {}
    options = reader()
    options.Init(table.Bytes, table.Pos)
    out: dict[str, Any] = {}
    for name in dir(reader):
        if name[0].isupper() and not name.startswith(("Init", "GetRootAs")) and not name.endswith("Length"):
            if name.endswith("AsNumpy"):
                out[name.removesuffix("AsNumpy")] = getattr(options, name)()
            elif not hasattr(reader, f"{name}AsNumpy") and not name.endswith("IsNone") and "Identifier" not in name:
                out[name] = getattr(options, name)()
    return out
