"""Small TFLite files for tests, written with the schema's own builders."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

tflite = pytest.importorskip("tflite", reason="needs the extra 'tflite'")
flatbuffers = pytest.importorskip("flatbuffers")

KINDS = {"float32": "FLOAT32", "int8": "INT8", "int32": "INT32", "float16": "FLOAT16"}


@dataclass
class Tensor:
    """A tensor to write; ``data`` or a shape and type."""

    name: str
    shape: tuple[int, ...] = ()
    data: np.ndarray | None = None
    kind: str = "float32"
    scale: Sequence[float] = ()
    zero: Sequence[int] = ()
    axis: int = 0


@dataclass
class Op:
    """An operator to write, with the fields of its options by the schema's names."""

    kind: str
    inputs: Sequence[int]
    outputs: Sequence[int]
    table: str = ""
    options: dict[str, Any] = field(default_factory=dict)


def model_bytes(
    tensors: Sequence[Tensor], operators: Sequence[Op], inputs: Sequence[int], outputs: Sequence[int]
) -> bytes:
    """A TFLite file."""
    b = flatbuffers.Builder(1024)

    def call(name: str, *arguments: Any) -> Any:
        return getattr(tflite, name)(b, *arguments)

    def offsets(start: str, items: Sequence[int]) -> int:
        call(start, len(items))
        for item in reversed(items):
            b.PrependUOffsetTRelative(item)
        return b.EndVector()

    buffers, written = [_table(b, "Buffer", {})], []
    for tensor in tensors:
        place = 0
        if tensor.data is not None:
            place = len(buffers)
            buffers.append(
                _table(b, "Buffer", {"Data": b.CreateByteVector(np.ascontiguousarray(tensor.data).tobytes())})
            )
        fields: dict[str, Any] = {"Shape": b.CreateNumpyVector(np.array(tensor.shape, np.int32)), "Buffer": place}
        if len(tensor.scale):
            scales = b.CreateNumpyVector(np.array(tensor.scale, np.float32))
            zeros = b.CreateNumpyVector(np.array(tensor.zero, np.int64))
            parts = {"Scale": scales, "ZeroPoint": zeros, "QuantizedDimension": tensor.axis}
            fields["Quantization"] = _table(b, "QuantizationParameters", parts)
        kind = getattr(tflite.TensorType, KINDS[tensor.kind])
        written.append(_table(b, "Tensor", {**fields, "Name": b.CreateString(tensor.name), "Type": kind}))
    codes, rows = [], []
    for op in operators:
        number = getattr(tflite.BuiltinOperator, op.kind)
        codes.append(
            _table(b, "OperatorCode", {"BuiltinCode": number, "DeprecatedBuiltinCode": min(number, 127), "Version": 1})
        )
        ends = {"Inputs": op.inputs, "Outputs": op.outputs}
        parts = {name: b.CreateNumpyVector(np.array(places, np.int32)) for name, places in ends.items()}
        if op.table:
            parts["BuiltinOptions"] = _table(b, op.table, op.options)
            parts["BuiltinOptionsType"] = getattr(tflite.BuiltinOptions, op.table)
        rows.append(_table(b, "Operator", {"OpcodeIndex": len(codes) - 1, **parts}))
    graph = {
        "Tensors": offsets("SubGraphStartTensorsVector", written),
        "Operators": offsets("SubGraphStartOperatorsVector", rows),
        "Inputs": b.CreateNumpyVector(np.array(inputs, np.int32)),
        "Outputs": b.CreateNumpyVector(np.array(outputs, np.int32)),
    }
    parts = {
        "Subgraphs": offsets("ModelStartSubgraphsVector", [_table(b, "SubGraph", graph)]),
        "OperatorCodes": offsets("ModelStartOperatorCodesVector", codes),
        "Buffers": offsets("ModelStartBuffersVector", buffers),
        "Version": 3,
    }
    b.Finish(_table(b, "Model", parts), b"TFL3")
    return bytes(b.Output())


def _table(b: Any, name: str, fields: dict[str, Any]) -> int:
    getattr(tflite, f"{name}Start")(b)
    for key, value in fields.items():
        getattr(tflite, f"{name}Add{key}")(b, value)
    return int(getattr(tflite, f"{name}End")(b))
