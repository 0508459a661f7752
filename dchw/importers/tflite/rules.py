"""Rules of TFLite's operators. Options bear the schema's names; enumerations are numbers of the schema."""

from __future__ import annotations

from typing import Any

import numpy as np

from dchw.graph.operations import Array
from dchw.importers.tflite.flatbuffer import Operator
from dchw.importers.tflite.translate import Rule, Translation, rule

# Layers -------------------------------------------------------------------------------------------------------


def _padding(operator: Operator) -> str:
    return "SAME_UPPER" if operator.options.get("Padding", 0) == 0 else "VALID"


def _convolution(groups: bool) -> Rule:
    def convolution(t: Translation, operator: Operator) -> Any:
        a, weight = operator.options, t.array(operator.inputs[1])  # [out, kh, kw, in]; depthwise [1, kh, kw, out]
        channels = t.tensor(operator.inputs[0]).shape[3]
        order = (3, 0, 1, 2) if groups else (0, 3, 1, 2)
        sources = [t.get(operator.inputs[0], first=True), t.weight(operator.inputs[1], order)]
        if len(operator.inputs) > 2 and operator.inputs[2] >= 0:
            sources.append(t.get(operator.inputs[2]))
        made = t.node(
            "Conv",
            sources,
            t.name(operator),
            group=channels if groups else channels // weight.shape[3],
            strides=[a["StrideH"], a["StrideW"]],
            dilations=[a["DilationHFactor"], a["DilationWFactor"]],
            auto_pad=_padding(operator),
        )
        t.give(operator, made[0], first=True)
        return None

    return convolution


rule("CONV_2D")(_convolution(False))
rule("DEPTHWISE_CONV_2D")(_convolution(True))


@rule("TRANSPOSE_CONV")
def _transposed(t: Translation, operator: Operator) -> Any:
    a = operator.options  # weights [out, kh, kw, in]
    out = t.tensor(operator.outputs[0]).shape
    sources = [t.get(operator.inputs[2], first=True)]
    sources.append(t.weight(operator.inputs[1], (3, 0, 1, 2)))
    if len(operator.inputs) > 3 and operator.inputs[3] >= 0:
        sources.append(t.get(operator.inputs[3]))
    shape: dict[str, Any] = {"output_shape": list(out[1:3])} if _padding(operator) == "SAME_UPPER" else {}
    strides = [a["StrideH"], a["StrideW"]]
    made = t.node("ConvTranspose", sources, t.name(operator), strides=strides, auto_pad="NOTSET", **shape)
    t.give(operator, made[0], first=True)


@rule("FULLY_CONNECTED")
def _fully_connected(t: Translation, operator: Operator) -> Any:
    weight, out = t.array(operator.inputs[1]), t.tensor(operator.outputs[0]).shape
    source = t.get(operator.inputs[0])
    name = t.name(operator)
    rows = t.constant(np.array([-1, weight.shape[1]]), f"{name}.rows")
    flat = t.node("Reshape", [source, rows], f"{name}.input")
    sources = [*flat, t.weight(operator.inputs[1], (0, 1))]
    if len(operator.inputs) > 2 and operator.inputs[2] >= 0:
        sources.append(t.get(operator.inputs[2]))
    made = t.node("Gemm", sources, name, transB=1)
    if len(out) != 2:
        made = t.node("Reshape", [*made, t.constant(np.array(out), f"{name}.shape")], f"{name}.output")
    t.give(operator, made[0])


@rule("BATCH_MATMUL")
def _matmul(t: Translation, operator: Operator) -> Any:
    sources = []
    for number, turned in zip(operator.inputs, ("AdjX", "AdjY"), strict=True):
        source, rank = t.get(number), len(t.tensor(number).shape)
        if operator.options.get(turned):
            order = [*range(rank - 2), rank - 1, rank - 2]
            source = t.node("Transpose", [source], f"{t.name(operator)}.turned", perm=order)[0]
        sources.append(source)
    t.give(operator, t.node("MatMul", sources, t.name(operator))[0])


# Windows ------------------------------------------------------------------------------------------------------


def _pool(kind: str) -> Rule:
    def pool(t: Translation, operator: Operator) -> Any:
        a = operator.options
        made = t.node(
            kind,
            [t.get(operator.inputs[0], first=True)],
            t.name(operator),
            kernel_shape=[a["FilterHeight"], a["FilterWidth"]],
            strides=[a["StrideH"], a["StrideW"]],
            auto_pad=_padding(operator),
        )
        t.give(operator, made[0], first=True)

    return pool


rule("MAX_POOL_2D")(_pool("MaxPool"))
rule("AVERAGE_POOL_2D")(_pool("AveragePool"))


@rule("RESIZE_BILINEAR", "RESIZE_NEAREST_NEIGHBOR")
def _resize(t: Translation, operator: Operator) -> Any:
    corners, half = operator.options.get("AlignCorners"), operator.options.get("HalfPixelCenters")
    shape, out = t.tensor(operator.inputs[0]).shape, t.tensor(operator.outputs[0]).shape
    places = "align_corners" if corners else "half_pixel" if half else "asymmetric"
    nearest = operator.kind == "RESIZE_NEAREST_NEIGHBOR"
    if not nearest and places == "asymmetric" and shape != out:
        return NotImplemented
    sizes = t.constant(np.array([out[0], out[3], out[1], out[2]]), f"{t.name(operator)}.sizes")
    mode: dict[str, Any] = {"mode": "nearest", "nearest_mode": "floor" if not corners else "round_prefer_ceil"}
    made = t.node(
        "Resize",
        [t.get(operator.inputs[0], first=True), "", "", sizes],
        t.name(operator),
        coordinate_transformation_mode=places,
        **(mode if nearest else {"mode": "linear"}),
    )
    t.give(operator, made[0], first=True)
    return None


@rule("DEPTH_TO_SPACE", "SPACE_TO_DEPTH")
def _blocks(t: Translation, operator: Operator) -> Any:
    kind = "DepthToSpace" if operator.kind == "DEPTH_TO_SPACE" else "SpaceToDepth"
    source = [t.get(operator.inputs[0], first=True)]
    t.give(operator, t.node(kind, source, t.name(operator), blocksize=operator.options["BlockSize"])[0], first=True)


# Element by element -------------------------------------------------------------------------------------------


def _elementwise(kind: str, **attributes: Any) -> Rule:
    """An operator on any number of tensors that broadcast; channels stay first where an activation has them so."""

    def elementwise(t: Translation, operator: Operator) -> Any:
        first = _channels_first(t, operator)
        sources = [_operand(t, number, first) for number in operator.inputs]
        t.give(operator, t.node(kind, sources, t.name(operator), **attributes)[0], first=first)

    return elementwise


def _channels_first(t: Translation, operator: Operator) -> bool:
    images = len(t.tensor(operator.outputs[0]).shape) == 4
    moved = [n for n in operator.inputs if t.values(n) is None]
    return images and all(len(t.tensor(n).shape) in (0, 4) and t.held_first(n) for n in moved)


def _operand(t: Translation, number: int, first: bool) -> str:
    values = t.values(number)
    if not first or values is None or values.ndim in (0, 4):
        return t.get(number, first=first)
    values = values.reshape((1,) * (4 - values.ndim) + values.shape)
    return t.constant(values.transpose(0, 3, 1, 2), t.tensor(number).name)


for _kind, _onnx in (
    *(("ADD", "Add"), ("SUB", "Sub"), ("MUL", "Mul"), ("DIV", "Div"), ("MAXIMUM", "Max"), ("MINIMUM", "Min")),
    *(("POW", "Pow"), ("RELU", "Relu"), ("LOGISTIC", "Sigmoid"), ("TANH", "Tanh"), ("HARD_SWISH", "HardSwish")),
    *(("EXP", "Exp"), ("LOG", "Log"), ("SQRT", "Sqrt"), ("NEG", "Neg"), ("ABS", "Abs"), ("FLOOR", "Floor")),
    *(("SIN", "Sin"), ("COS", "Cos"), ("CEIL", "Ceil"), ("ROUND", "Round"), ("EQUAL", "Equal"), ("LESS", "Less")),
    *(("GREATER", "Greater"), ("LESS_EQUAL", "LessOrEqual"), ("GREATER_EQUAL", "GreaterOrEqual"), ("ELU", "Elu")),
    *(
        ("LOGICAL_AND", "And"),
        ("LOGICAL_OR", "Or"),
        ("LOGICAL_NOT", "Not"),
        ("SELECT_V2", "Where"),
        ("SELECT", "Where"),
    ),
    *(("PRELU", "PRelu"), ("QUANTIZE", "Identity"), ("DEQUANTIZE", "Identity"), ("ADD_N", "Sum")),
):
    rule(_kind)(_elementwise(_onnx))


@rule("RELU6", "RELU_N1_TO_1", "LEAKY_RELU", "GELU", "SQUARE", "RSQRT", "SQUARED_DIFFERENCE")
def _other_functions(t: Translation, operator: Operator) -> Any:
    first, name = _channels_first(t, operator), t.name(operator)
    x = [_operand(t, number, first) for number in operator.inputs]
    if operator.kind in ("RELU6", "RELU_N1_TO_1"):
        limits = (0.0, 6.0) if operator.kind == "RELU6" else (-1.0, 1.0)
        made = t.node("Clip", x + [t.constant(np.asarray(v, np.float32), f"{name}.limit") for v in limits], name)
    elif operator.kind == "LEAKY_RELU":
        made = t.node("LeakyRelu", x, name, alpha=float(operator.options["Alpha"]))
    elif operator.kind == "GELU":
        made = t.node("Gelu", x, name, approximate="tanh" if operator.options.get("Approximate") else "none")
    elif operator.kind == "RSQRT":
        made = t.node("Reciprocal", t.node("Sqrt", x, f"{name}.root"), name)
    else:
        difference = t.node("Sub", x, f"{name}.difference") if len(x) == 2 else x
        made = t.node("Mul", difference * 2, name)
    t.give(operator, made[0], first=first)


@rule("SOFTMAX", "LOG_SOFTMAX")
def _softmax(t: Translation, operator: Operator) -> Any:
    source, name = [t.get(operator.inputs[0])], t.name(operator)
    beta = float(operator.options.get("Beta", 1.0)) if operator.kind == "SOFTMAX" else 1.0
    if beta != 1.0:
        source = t.node("Mul", [*source, t.constant(np.asarray(beta, np.float32), f"{name}.beta")], f"{name}.scaled")
    kind = "Softmax" if operator.kind == "SOFTMAX" else "LogSoftmax"
    t.give(operator, t.node(kind, source, name, axis=-1)[0])


@rule("CAST")
def _cast(t: Translation, operator: Operator) -> Any:
    to = {"FLOAT32": 1, "INT32": 6, "INT64": 7, "BOOL": 9, "UINT8": 2, "INT8": 3}
    kind = t.tensor(operator.outputs[0]).kind
    if kind not in to:
        return NotImplemented
    t.give(operator, t.node("Cast", [t.get(operator.inputs[0])], t.name(operator), to=to[kind])[0])
    return None


# Along axes, moving and picking -------------------------------------------------------------------------------


def _reduction(kind: str) -> Rule:
    def reduction(t: Translation, operator: Operator) -> Any:
        axes = np.asarray(t.array(operator.inputs[1]), np.int64).reshape(-1)
        keep = int(bool(operator.options.get("KeepDims")))
        sources = [t.get(operator.inputs[0]), t.constant(axes, f"{t.name(operator)}.axes")]
        t.give(operator, t.node(kind, sources, t.name(operator), keepdims=keep)[0])

    return reduction


for _kind, _onnx in (
    *(("MEAN", "ReduceMean"), ("SUM", "ReduceSum"), ("REDUCE_MAX", "ReduceMax"), ("REDUCE_MIN", "ReduceMin")),
    ("REDUCE_PROD", "ReduceProd"),
):
    rule(_kind)(_reduction(_onnx))


@rule("ARG_MAX", "ARG_MIN")
def _place(t: Translation, operator: Operator) -> Any:
    axis = int(t.array(operator.inputs[1]).reshape(-1)[0])
    kind = "ArgMax" if operator.kind == "ARG_MAX" else "ArgMin"
    t.give(operator, t.node(kind, [t.get(operator.inputs[0])], t.name(operator), axis=axis, keepdims=0)[0])


@rule("SHAPE")
def _shape(t: Translation, operator: Operator) -> Any:
    t.give(operator, t.constant(np.array(t.tensor(operator.inputs[0]).shape, np.int64), t.name(operator)))


@rule("RESHAPE", "SQUEEZE", "EXPAND_DIMS")
def _reshape(t: Translation, operator: Operator) -> Any:
    """The shape stands in the file, so that no chain of shapes is followed."""
    shape = t.constant(np.array(t.tensor(operator.outputs[0]).shape, np.int64), f"{t.name(operator)}.shape")
    t.give(operator, t.node("Reshape", [t.get(operator.inputs[0]), shape], t.name(operator))[0])


@rule("TRANSPOSE")
def _transpose(t: Translation, operator: Operator) -> Any:
    order = [int(axis) for axis in t.array(operator.inputs[1]).reshape(-1)]
    t.give(operator, t.node("Transpose", [t.get(operator.inputs[0])], t.name(operator), perm=order)[0])


@rule("CONCATENATION")
def _concat(t: Translation, operator: Operator) -> Any:
    rank = len(t.tensor(operator.outputs[0]).shape)
    axis, first = operator.options["Axis"] % rank, _channels_first(t, operator)
    sources = [t.get(number, first=first) for number in operator.inputs]
    axis = (0, 2, 3, 1)[axis] if first else axis
    t.give(operator, t.node("Concat", sources, t.name(operator), axis=axis)[0], first=first)


@rule("PACK")
def _pack(t: Translation, operator: Operator) -> Any:
    axis = operator.options["Axis"] % len(t.tensor(operator.outputs[0]).shape)
    name, parts = t.name(operator), []
    for number in operator.inputs:
        at = t.constant(np.array([axis]), f"{name}.axis")
        parts += t.node("Unsqueeze", [t.get(number), at], f"{name}.part")
    t.give(operator, t.node("Concat", parts, name, axis=axis)[0])


@rule("UNPACK")
def _unpack(t: Translation, operator: Operator) -> Any:
    axis = operator.options["Axis"] % len(t.tensor(operator.inputs[0]).shape)
    for index in range(len(operator.outputs)):
        place = t.constant(np.array(index), f"{t.name(operator)}.place")
        made = t.node("Gather", [t.get(operator.inputs[0]), place], t.name(operator), axis=axis)
        t.give(operator, made[0], output=index)


@rule("SPLIT", "SPLIT_V")
def _split(t: Translation, operator: Operator) -> Any:
    source, axes = (operator.inputs[1], operator.inputs[0])
    if operator.kind == "SPLIT_V":
        source, axes = operator.inputs[0], operator.inputs[2]
    axis = int(t.array(axes).reshape(-1)[0]) % len(t.tensor(source).shape)
    sizes = np.array([t.tensor(number).shape[axis] for number in operator.outputs])
    parts = t.constant(sizes, f"{t.name(operator)}.sizes")
    made = t.node("Split", [t.get(source), parts], t.name(operator), outputs=len(sizes), axis=axis)
    for index, name in enumerate(made):
        t.give(operator, name, output=index)


@rule("SLICE", "STRIDED_SLICE")
def _slice(t: Translation, operator: Operator) -> Any:
    a, shape = operator.options, t.tensor(operator.inputs[0]).shape
    begin, end = (t.array(number).astype(np.int64).reshape(-1) for number in operator.inputs[1:3])
    step = np.ones(len(begin), np.int64)
    gone: list[int] = []
    if operator.kind == "SLICE":
        end = np.where(end < 0, np.array(shape), begin + end)
    else:
        if a.get("EllipsisMask") or a.get("NewAxisMask"):
            return NotImplemented
        step, far = t.array(operator.inputs[3]).astype(np.int64).reshape(-1), 2**40
        for i in range(len(begin)):
            if a.get("ShrinkAxisMask", 0) >> i & 1:
                place = int(begin[i]) % shape[i]
                begin[i], end[i], step[i] = place, place + 1, 1
                gone.append(i)
                continue
            if a.get("BeginMask", 0) >> i & 1:
                begin[i] = 0 if step[i] > 0 else far
            if a.get("EndMask", 0) >> i & 1:
                end[i] = far if step[i] > 0 else -far
    name = t.name(operator)
    bounds: list[tuple[str, Array]] = [("from", begin), ("to", end), ("axes", np.arange(len(begin))), ("step", step)]
    sources = [t.get(operator.inputs[0]), *(t.constant(values, f"{name}.{what}") for what, values in bounds)]
    made = t.node("Slice", sources, name)
    if gone:
        made = t.node("Squeeze", [*made, t.constant(np.array(gone), f"{name}.gone")], f"{name}.shape")
    t.give(operator, made[0])
    return None


@rule("PAD", "PADV2", "MIRROR_PAD")
def _pad(t: Translation, operator: Operator) -> Any:
    pads, name = t.array(operator.inputs[1]).astype(np.int64), t.name(operator)
    first = t.held_first(operator.inputs[0])
    pads = pads[[0, 3, 1, 2]] if first else pads
    if operator.kind == "MIRROR_PAD" and operator.options.get("Mode", 0) == _SYMMETRIC:
        t.give(operator, _repeated_edges(t, operator, pads, first=first), first=first)
        return None
    sources = [t.get(operator.inputs[0], first=first), t.constant(pads.T.reshape(-1), f"{name}.pads")]
    if operator.kind == "PADV2":
        sources.append(t.get(operator.inputs[2]))
    mode = "reflect" if operator.kind == "MIRROR_PAD" else "constant"
    t.give(operator, t.node("Pad", sources, name, mode=mode)[0], first=first)
    return None


_SYMMETRIC = 1


def _repeated_edges(t: Translation, operator: Operator, pads: Array, *, first: bool) -> str:
    """Padding that shows the edge too, which ONNX has no mode for: places picked along every axis."""
    shape = t.tensor(operator.inputs[0]).shape
    sizes = [shape[axis] for axis in (0, 3, 1, 2)] if first else list(shape)
    made = t.get(operator.inputs[0], first=first)
    for axis, (size, both) in enumerate(zip(sizes, pads.tolist(), strict=True)):
        if any(both):
            places = np.pad(np.arange(size, dtype=np.int64), both, mode="symmetric")
            sources = [made, t.constant(places, f"{t.name(operator)}.places")]
            made = t.node("Gather", sources, t.name(operator), axis=axis)[0]
    return made


@rule("TILE", "BROADCAST_TO")
def _tile(t: Translation, operator: Operator) -> Any:
    counts = t.array(operator.inputs[1]).astype(np.int64)
    kind = "Tile" if operator.kind == "TILE" else "Expand"
    sources = [t.get(operator.inputs[0]), t.constant(counts, f"{t.name(operator)}.counts")]
    t.give(operator, t.node(kind, sources, t.name(operator))[0])


@rule("GATHER", "EMBEDDING_LOOKUP")
def _gather(t: Translation, operator: Operator) -> Any:
    data, places = operator.inputs[:2] if operator.kind == "GATHER" else operator.inputs[1::-1]
    if operator.options.get("BatchDims"):
        return NotImplemented
    axis = int(operator.options.get("Axis", 0))
    t.give(operator, t.node("Gather", [t.get(data), t.get(places)], t.name(operator), axis=axis)[0])
    return None
