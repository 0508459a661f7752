"""Values that do not depend on the inputs: their shapes before they are computed, and their arrays, within bounds.

Shapes come from onnx's own inference, node by node, with the values of small constants at hand (data propagation).
Arrays are computed by onnx's reference implementation, but only by operators whose work follows from the size of what
they give, and only as large as `MOST_VALUES`: a small file must not unfold into a huge array or a long computation.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from dchw.graph.operations import Array
from dchw.importers.onnx.registry import Shape, Value
from dchw.quantities import DchwError

MOST_VALUES = 2**26
"""Values of one folded constant, at most."""
MOST_VALUES_IN_ALL = 2**27
"""Values of all constants that are folded, at most, beyond eight times what the file itself holds."""
_SMALL = 4096
"""Constants of so many values take part in shape inference."""

_SAME_OR_LESS = (
    *(
        "Abs",
        "Acos",
        "And",
        "ArgMax",
        "ArgMin",
        "Asin",
        "Atan",
        "BitShift",
        "Cast",
        "CastLike",
        "Ceil",
        "Clip",
        "Concat",
    ),
    *(
        "Compress",
        "Cos",
        "DepthToSpace",
        "DequantizeLinear",
        "Div",
        "Equal",
        "Erf",
        "Exp",
        "Flatten",
        "Floor",
        "Gather",
    ),
    *("GatherElements", "GatherND", "Greater", "GreaterOrEqual", "Identity", "IsInf", "IsNaN", "Less", "LessOrEqual"),
    *("Log", "Max", "Mean", "Min", "Mod", "Mul", "Neg", "NonZero", "Not", "Or", "Pow", "QuantizeLinear", "Reciprocal"),
    *("ReduceL1", "ReduceL2", "ReduceMax", "ReduceMean", "ReduceMin", "ReduceProd", "ReduceSum", "ReduceSumSquare"),
    *("Relu", "Reshape", "Round", "ScatterElements", "ScatterND", "Sigmoid", "Sign", "Sin", "Slice", "SpaceToDepth"),
    *(
        "Split",
        "Sqrt",
        "Squeeze",
        "Sub",
        "Sum",
        "Tanh",
        "Transpose",
        "Trilu",
        "Unsqueeze",
        "Where",
        "Xor",
        "Add",
        "Size",
    ),
)
_ENLARGING = frozenset({"ConstantOfShape", "Expand", "EyeLike", "OneHot", "Pad", "Range", "Tile"})
_FOLDABLE = frozenset(_SAME_OR_LESS) | _ENLARGING | {"MatMul", "Gemm"}


def inferred(
    node: Any, values: Mapping[str, Value], opsets: Mapping[str, int]
) -> list[tuple[Shape | None, int | None]]:
    """Shape and element type of every output of a node; None where its definition does not tell."""
    import onnx
    from onnx.helper import make_opsetid, make_tensor_type_proto
    from onnx.numpy_helper import from_array
    from onnx.shape_inference import infer_node_outputs

    unknown: list[tuple[Shape | None, int | None]] = [(None, None)] * len(node.output)
    domain = "" if node.domain == "ai.onnx" else node.domain
    try:
        schema = onnx.defs.get_schema(node.op_type, opsets.get(domain, 1), domain)
    except onnx.defs.SchemaError:
        return unknown
    types = {name: make_tensor_type_proto(value.dtype, value.shape) for name, value in values.items()}
    data = {
        name: from_array(value.constant)
        for name, value in values.items()
        if value.constant is not None and value.constant.size <= _SMALL
    }
    imports = [make_opsetid(name, version) for name, version in opsets.items()]
    try:
        found = infer_node_outputs(schema, node, types, data, opset_imports=imports)
    except Exception as error:  # of a type that onnx does not name
        text = str(error).strip().splitlines() or [type(error).__name__]
        raise ValueError(text[0].removeprefix("[ShapeInferenceError] ")) from error
    return [_described(found[name]) if name in found else (None, None) for name in node.output]


def _described(kind: Any) -> tuple[Shape | None, int | None]:
    tensor = kind.tensor_type
    dtype = tensor.elem_type or None
    if not tensor.HasField("shape"):
        return None, dtype
    sizes = [d.dim_value if d.HasField("dim_value") else None for d in tensor.shape.dim]
    known = tuple(size for size in sizes if size is not None and size >= 0)
    return (known if len(known) == len(sizes) else None), dtype


class Folding:
    """Computes constants; counts what it has computed. ``where`` opens every error message."""

    def __init__(self, where: str, held: int, opsets: Mapping[str, int]) -> None:
        self.where = where
        self._left = MOST_VALUES_IN_ALL + 8 * held
        self._opsets = opsets

    def admit(self, what: str, shapes: Sequence[Shape | None]) -> None:
        """Count arrays that are about to be made; raises DchwError where they are too large."""
        sizes = [math.prod(shape) for shape in shapes if shape is not None]
        if any(size > MOST_VALUES for size in sizes) or sum(sizes) > self._left:
            raise DchwError(
                f"{self.where}: {what} makes a constant of {max(sizes):,} values out of a small one; at most "
                f"{MOST_VALUES:,} and {MOST_VALUES_IN_ALL:,} in all are computed; give smaller input sizes"
            )
        self._left -= sum(sizes)

    def outputs(
        self, node: Any, values: Mapping[str, Value], shapes: Sequence[tuple[Shape | None, int | None]]
    ) -> list[Array] | None:
        """The outputs of a node that reads constants only; None where it is not one to compute here."""
        if node.op_type not in _FOLDABLE or node.domain not in ("", "ai.onnx"):
            return None
        if node.op_type in _ENLARGING and any(shape is None for shape, _ in shapes):
            return None
        arrays = {name: value.constant for name, value in values.items() if value.constant is not None}
        if len(arrays) < len(values) or any(array.dtype.kind in "OSU" for array in arrays.values()):
            return None
        known = [shape for shape, _ in shapes if shape is not None]
        if node.op_type in ("MatMul", "Gemm"):  # their work is larger than what they give
            known.append((math.prod(known[0] if known else (0,)), max(arrays[node.input[0]].shape or (1,))))
            if math.prod(known[-1]) > MOST_VALUES:
                return None
            del known[-1]
        largest = max((array.size for array in arrays.values()), default=1)
        self.admit(f"node {node.name or node.output[0]!r} ({node.op_type})", known or [(largest,)])
        with np.errstate(all="ignore"):
            return self._computed(node, arrays)

    def _computed(self, node: Any, arrays: Mapping[str, Array]) -> list[Array]:
        from onnx import GraphProto, ValueInfoProto
        from onnx.reference import ReferenceEvaluator

        if node.op_type == "Identity":
            return list(arrays.values())
        if node.op_type == "DequantizeLinear" and not any(a.name == "block_size" and a.i for a in node.attribute):
            return [_dequantised(node, arrays)]  # onnx's reference has it for the newest operator sets only
        if node.op_type == "Transpose":
            order = next((list(a.ints) for a in node.attribute if a.name == "perm"), None)
            return [arrays[node.input[0]].transpose(order)]
        wanted = [name for name in node.output if name]
        graph = GraphProto(name="fold", node=[node], input=[ValueInfoProto(name=name) for name in arrays])
        graph.output.extend(ValueInfoProto(name=name) for name in wanted)
        results = ReferenceEvaluator(graph, opsets={"": self._opsets.get("", 1)}).run(None, dict(arrays))
        by_name = dict(zip(wanted, results, strict=True))
        return [np.asarray(by_name.get(name, 0)) for name in node.output]


def _dequantised(node: Any, arrays: Mapping[str, Array]) -> Array:
    """(numbers - zero) * scale, both of these one for all or one for each place along an axis."""
    numbers, scale, *rest = (arrays[name] for name in node.input if name)
    zero = rest[0] if rest else np.zeros((), np.int32)
    axis = next((a.i for a in node.attribute if a.name == "axis"), 1)
    along = [-1 if place == axis % max(1, numbers.ndim) else 1 for place in range(numbers.ndim)]
    scale, zero = (x.reshape(along) if x.size > 1 else x.reshape(()) for x in (scale, zero))
    return ((numbers.astype(np.int64) - zero.astype(np.int64)) * scale.astype(np.float32)).astype(np.float32)
