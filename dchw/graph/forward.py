"""The forward pass in numpy: what every kind of operation computes, in float32, batch axis first.

Results agree with torch's within the rounding of float32 sums. A convolution is the product of the weight matrix with
`patches` of its input, which is also how the simulated hardware computes it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np

from dchw.graph.elementwise import combined, quantised, quantised_dynamically, reduced
from dchw.graph.geometry import Geometry
from dchw.graph.network import Array, FloatArray, Network, Operation, OperationKind
from dchw.graph.recurrent import sigmoid, steps
from dchw.graph.shapes import output_shape, pooled_size
from dchw.graph.sliding_windows import fold, padded, patches, resized, windows
from dchw.quantities import DchwError, nearest


def forward(network: Network, inputs: Mapping[str, Array] | None = None) -> dict[str, FloatArray]:
    """Output of every operation, float32 with a batch axis, by name; ``inputs`` default to the recorded example.

    A single example may be given without its batch axis.

    Raises DchwError where an input is missing, has another shape, or an operation is of kind OTHER.
    """
    given = network.example_inputs if inputs is None else inputs
    sources = [op.name for op in network.operations if op.kind is OperationKind.INPUT]
    for name in given:
        if name not in sources:
            raise DchwError(f"network {network.name}: {name!r} is not one of its inputs; {nearest(name, sources)}")
    outputs: dict[str, FloatArray] = {}
    for op in network.operations:
        if op.kind is OperationKind.INPUT:
            if op.name not in given:
                raise DchwError(
                    f"network {network.name}: input {op.name!r} has no values; give them, or record an example input"
                )
            outputs[op.name] = _checked_input(network, op, given[op.name])
        else:
            outputs[op.name] = apply(network.resolved(op), [outputs[name] for name in op.inputs])
    return outputs


def apply(operation: Operation, inputs: Sequence[FloatArray]) -> FloatArray:
    """Output of one operation (other than INPUT) for its inputs, float32, contiguous, batch axis first.

    One that uses another's weights comes resolved (`Network.resolved`).
    """
    rule = _RULES.get(operation.kind)
    if rule is None:
        target = operation.attributes.get("target", "unknown")
        raise DchwError(
            f"operation {operation.name!r} ({target}) has no forward pass here; replace it in the module by "
            "operations that have one, or give the inputs of the layers behind it yourself"
        )
    return np.ascontiguousarray(rule(operation, inputs), dtype=np.float32)


def _checked_input(network: Network, op: Operation, value: Array) -> FloatArray:
    array = np.ascontiguousarray(value, dtype=np.float32)
    if np.shape(value) == op.output_shape:
        return array.reshape(1, *op.output_shape)  # one example, given without a batch axis
    if op.output_shape is not None and array.shape[1:] != op.output_shape:
        raise DchwError(
            f"network {network.name}: input {op.name!r} must have shape {op.output_shape} behind a batch axis; "
            f"got {array.shape}; reshape it"
        )
    return array


def _pair(op: Operation, name: str, default: tuple[int, int] | None = None) -> tuple[int, int]:
    value = op.attributes.get(name, default)
    return int(value[0]), int(value[1])


_PATCH_VALUES = 2**21  # values of `patches` held at a time: 8 MiB, about what caches keep

_Result = Any  # numpy types its arithmetic as Any; `apply` turns every result into a float32 array


def _linear(op: Operation, inputs: Sequence[FloatArray]) -> _Result:
    assert op.weight is not None
    product = inputs[0] @ op.weight.T
    return product if op.bias is None else product + op.bias


def _convolution(op: Operation, inputs: Sequence[FloatArray]) -> _Result:
    assert op.weight is not None
    (x,) = inputs
    geometry = Geometry.of_convolution(op.attributes, op.weight.shape, x.shape[2:])
    groups = geometry.groups
    matrix = op.weight.reshape(groups, geometry.out_channels // groups, geometry.columns)
    product = np.empty((x.shape[0], groups, geometry.out_channels // groups, geometry.output_pixels), np.float32)
    # a few images at a time: patches of a whole batch would take kernel-size times its memory
    step = max(1, _PATCH_VALUES // (groups * geometry.columns * geometry.output_pixels))
    for i in range(0, x.shape[0], step):
        np.matmul(matrix, patches(x[i : i + step], geometry), out=product[i : i + step])
    images = product.reshape(x.shape[0], geometry.out_channels, *geometry.out_size)
    return images if op.bias is None else images + op.bias.reshape(-1, *(1,) * len(geometry.out_size))


def _recurrent(op: Operation, inputs: Sequence[FloatArray]) -> _Result:
    projection = op.attributes.get("projection_weight")
    project = None if projection is None else lambda h: h @ projection.T
    return steps(op.attributes, inputs, lambda h: _linear(op, [h]), project)[0]


def _embedding(op: Operation, inputs: Sequence[FloatArray]) -> _Result:
    table = op.weight if op.weight is not None else op.attributes["table"]
    rows = inputs[0].astype(np.int64)
    if rows.size and not 0 <= rows.min() <= rows.max() < table.shape[0]:
        raise DchwError(
            f"operation {op.name!r}: its table has {table.shape[0]} rows; got numbers {rows.min()} to {rows.max()}; "
            "give inputs that number its rows"
        )
    return table[rows]


def _gather(op: Operation, inputs: Sequence[FloatArray]) -> _Result:
    axis = op.attributes["axis"]
    if "indices" in op.attributes:
        return np.take(inputs[0], op.attributes["indices"], axis)
    values, places = inputs[0], inputs[1].astype(np.int64)
    size = values.shape[axis]
    if places.size and not -size <= places.min() <= places.max() < size:
        raise DchwError(
            f"operation {op.name!r}: it picks places {places.min()} to {places.max()} of an axis of {size}; give "
            "inputs that number its places"
        )
    # places may be fewer than the values on the other axes, and then stand for the first of them; not so the examples
    read = [slice(None), *(slice(None) if i == axis else slice(n) for i, n in enumerate(places.shape[1:], 1))]
    return np.take_along_axis(values[tuple(read)], places, axis)


def _fold(op: Operation, inputs: Sequence[FloatArray]) -> _Result:
    a, x = op.attributes, inputs[0]
    out = output_shape(op.kind, a, None, [x.shape[1:]])
    assert out is not None
    return fold(x, a["kernel"], a["stride"], a["padding"], a["dilation"], out[1:])


def _resize(op: Operation, inputs: Sequence[FloatArray]) -> _Result:
    a = op.attributes
    return resized(inputs[0], a["output"], a["mode"], a.get("align_corners", False), a["step"])


def _pool(op: Operation, x: FloatArray, fill: float, dilation: tuple[int, int]) -> tuple[FloatArray, tuple[int, int]]:
    """The input padded (after it also as far as rounding up reaches), and the output size."""
    kernel, stride, padding = _pair(op, "kernel"), _pair(op, "stride"), _pair(op, "padding", (0, 0))
    size = (x.shape[2], x.shape[3])
    out = pooled_size(size, kernel, stride, padding, dilation, ceil_mode=op.attributes.get("ceil_mode", False))
    reach = [(out[i] - 1) * stride[i] + dilation[i] * (kernel[i] - 1) + 1 for i in (0, 1)]
    after = (max(0, reach[0] - size[0] - padding[0]), max(0, reach[1] - size[1] - padding[1]))
    return padded(x, padding, after, fill), out


def _max_pool2d(op: Operation, inputs: Sequence[FloatArray]) -> _Result:
    (x,) = inputs
    dilation = _pair(op, "dilation", (1, 1))
    source, out = _pool(op, x, -math.inf, dilation)
    result = np.full((*x.shape[:2], *out), -np.inf, np.float32)
    for _, window in windows(source, _pair(op, "kernel"), _pair(op, "stride"), dilation, out):
        np.maximum(result, window, out=result)
    return result


def _average_pool2d(op: Operation, inputs: Sequence[FloatArray]) -> _Result:
    (x,) = inputs
    kernel, stride, padding = _pair(op, "kernel"), _pair(op, "stride"), _pair(op, "padding", (0, 0))
    source, out = _pool(op, x, 0.0, (1, 1))
    total = np.zeros((*x.shape[:2], *out), np.float32)
    for _, window in windows(source, kernel, stride, (1, 1), out):
        total += window
    # the padding a user asked for counts if he says so; what rounding up adds beyond it never does
    counted = padding if op.attributes.get("count_include_pad", True) else (0, 0)
    counts = []
    for i, size in enumerate(x.shape[2:]):
        start = np.arange(out[i]) * stride[i] - padding[i]
        counts.append(np.minimum(start + kernel[i], size + counted[i]) - np.maximum(start, -counted[i]))
    return total / np.outer(*counts).astype(np.float32)


def _global_average_pool(op: Operation, inputs: Sequence[FloatArray]) -> _Result:
    (x,) = inputs
    rows, columns = _pair(op, "output", (1, 1))
    if (rows, columns) == (1, 1):
        return x.mean(axis=(2, 3), keepdims=True)
    height, width = x.shape[2:]
    out = np.empty((*x.shape[:2], rows, columns), np.float32)
    for i in range(rows):
        for j in range(columns):
            top, bottom = i * height // rows, -(-(i + 1) * height // rows)
            left, right = j * width // columns, -(-(j + 1) * width // columns)
            out[:, :, i, j] = x[:, :, top:bottom, left:right].mean(axis=(2, 3))
    return out


def _sum(op: Operation, inputs: Sequence[FloatArray]) -> _Result:
    total = inputs[0]
    for x in inputs[1:]:
        total = total + x
    return total


def _product(op: Operation, inputs: Sequence[FloatArray]) -> _Result:
    product = inputs[0]
    for x in inputs[1:]:
        product = product * x
    return product


def _concat(op: Operation, inputs: Sequence[FloatArray]) -> _Result:
    batch = max(x.shape[0] for x in inputs)  # constants carry a batch of one
    return np.concatenate(
        [np.broadcast_to(x, (batch, *x.shape[1:])) for x in inputs], axis=op.attributes.get("axis", 1)
    )


def _slice(op: Operation, inputs: Sequence[FloatArray]) -> _Result:
    picked = [slice(None)] * inputs[0].ndim
    attributes = op.attributes
    picked[attributes["axis"]] = slice(attributes["start"], attributes["stop"], attributes.get("step", 1))
    return inputs[0][tuple(picked)]


def _pad(op: Operation, inputs: Sequence[FloatArray]) -> _Result:
    return np.pad(inputs[0], ((0, 0), *op.attributes["padding"]), constant_values=op.attributes.get("value", 0.0))


def _mean(op: Operation, inputs: Sequence[FloatArray]) -> _Result:
    return inputs[0].mean(axis=tuple(op.attributes["axes"]), keepdims=op.attributes.get("keep", False))


def _erf(x: Array) -> _Result:
    # numpy has no error function; the standard library's is exact
    return np.fromiter(map(math.erf, x.ravel().tolist()), np.float64, x.size).reshape(x.shape)


def _gelu(x: FloatArray) -> _Result:
    return 0.5 * x * (1.0 + _erf(x.astype(np.float64) / math.sqrt(2.0)))


def _gelu_tanh(x: FloatArray) -> _Result:
    return 0.5 * x * (1.0 + np.tanh(math.sqrt(2.0 / math.pi) * (x + 0.044715 * x**3)))


ACTIVATIONS: MappingProxyType[str, Callable[[FloatArray], _Result] | None] = MappingProxyType(
    {
        "relu": lambda x: np.maximum(x, 0.0),
        "relu6": lambda x: np.clip(x, 0.0, 6.0),
        "leaky_relu": None,
        "sigmoid": sigmoid,
        "tanh": np.tanh,
        "gelu": _gelu,
        "gelu_tanh": _gelu_tanh,
        "silu": lambda x: x * sigmoid(x),
        "hardswish": lambda x: x * np.clip(x + 3.0, 0.0, 6.0) / 6.0,
        "hardsigmoid": lambda x: np.clip(x + 3.0, 0.0, 6.0) / 6.0,
        "softmax": None,
        "log_softmax": None,
        "elu": None,
        "clip": None,
        "selu": lambda x: 1.0507009873554805 * np.where(x > 0, x, 1.6732632423543772 * np.expm1(np.minimum(x, 0))),
        "softplus": lambda x: np.logaddexp(x, 0.0),
        "mish": lambda x: x * np.tanh(np.logaddexp(x, 0.0)),
        "exp": np.exp,
        "log": np.log,
        "sqrt": np.sqrt,
        "rsqrt": lambda x: 1.0 / np.sqrt(x),
        "reciprocal": lambda x: 1.0 / x,
        "square": np.square,
        "abs": np.abs,
        "sin": np.sin,
        "cos": np.cos,
        "erf": _erf,
        "neg": np.negative,
        "floor": np.floor,
        "ceil": np.ceil,
        "round": np.rint,
        "trunc": np.trunc,
        "sign": np.sign,
        "softsign": lambda x: x / (1 + np.abs(x)),
        "quantise": None,
        "quantise_dynamic": quantised_dynamically,
    }
)
"""Functions of the kind ACTIVATION, as torch defines them; None: takes attributes besides x (``axis``; ``slope`` of
leaky_relu, ``alpha`` of elu; ``low`` and ``high`` of clip, None where open; ``step``, ``low`` and ``high`` of
quantise, see `dchw.graph.elementwise.quantised`)."""


def _activation(op: Operation, inputs: Sequence[FloatArray]) -> _Result:
    (x,) = inputs
    function = op.attributes["function"]
    if function in ("softmax", "log_softmax"):
        axis = op.attributes.get("axis", -1)
        shifted = x - x.max(axis=axis, keepdims=True)
        exponential = np.exp(shifted)
        total = exponential.sum(axis=axis, keepdims=True)
        return exponential / total if function == "softmax" else shifted - np.log(total)
    if function == "leaky_relu":
        return np.where(x >= 0, x, x * np.float32(op.attributes.get("slope", 0.01)))
    if function == "elu":
        return np.where(x > 0, x, np.float32(op.attributes.get("alpha", 1.0)) * np.expm1(np.minimum(x, 0)))
    if function == "clip":
        return np.clip(x, op.attributes.get("low"), op.attributes.get("high"))
    if function == "quantise":
        return quantised(x, op.attributes["step"], op.attributes["low"], op.attributes["high"])
    rule = ACTIVATIONS.get(function)
    if rule is None:
        raise DchwError(f"operation {op.name!r}: activation {function!r} is unknown; {nearest(function, ACTIVATIONS)}")
    return rule(x)


def _normalisation(op: Operation, inputs: Sequence[FloatArray]) -> _Result:
    (x,) = inputs
    if op.attributes["form"] == "local_response":
        return _local_response(op, x)
    scale, shift = op.attributes["scale"], op.attributes["shift"]
    if op.attributes["form"] == "batch":
        channel = (-1, *(1,) * (x.ndim - 2))
        return x * scale.reshape(channel) + shift.reshape(channel)
    axes = tuple(op.attributes["axes"])
    centred = x - x.mean(axis=axes, keepdims=True)
    variance = np.square(centred).mean(axis=axes, keepdims=True)
    return centred / np.sqrt(variance + np.float32(op.attributes["epsilon"])) * scale + shift


def _local_response(op: Operation, x: FloatArray) -> _Result:
    """Krizhevsky et al., NIPS 2012, section 3.3, with alpha divided by the window's size as torch and Caffe do."""
    size, channels = int(op.attributes["size"]), x.shape[1]
    squares = np.square(x)
    total = np.zeros_like(x)
    for offset in range(-(size // 2), size - size // 2):
        low, high = max(0, -offset), min(channels, channels - offset)
        total[:, low:high] += squares[:, low + offset : high + offset]
    base = np.float32(op.attributes["k"]) + np.float32(op.attributes["alpha"] / size) * total
    return x * base ** np.float32(-op.attributes["beta"])


def _matmul(op: Operation, inputs: Sequence[FloatArray]) -> _Result:
    left, right = inputs
    if op.attributes.get("transpose", False):
        right = right.swapaxes(-1, -2)
    return np.matmul(left, right) * np.float32(op.attributes.get("scale", 1.0))


def _reshape(op: Operation, inputs: Sequence[FloatArray]) -> _Result:
    (x,) = inputs
    if "permutation" in op.attributes:
        x = x.transpose(op.attributes["permutation"])
    return x.reshape(x.shape[0], *op.attributes["shape"])


_RULES: MappingProxyType[OperationKind, Callable[[Operation, Sequence[FloatArray]], _Result]] = MappingProxyType(
    {
        OperationKind.CONSTANT: lambda op, _: op.attributes["value"][None],
        OperationKind.LINEAR: _linear,
        OperationKind.CONV1D: _convolution,
        OperationKind.CONV2D: _convolution,
        OperationKind.CONV3D: _convolution,
        OperationKind.RECURRENT: _recurrent,
        OperationKind.EMBEDDING: _embedding,
        OperationKind.FOLD: _fold,
        OperationKind.GATHER: _gather,
        OperationKind.RESIZE: _resize,
        OperationKind.MAX_POOL2D: _max_pool2d,
        OperationKind.AVERAGE_POOL2D: _average_pool2d,
        OperationKind.GLOBAL_AVERAGE_POOL: _global_average_pool,
        OperationKind.MEAN: _mean,
        OperationKind.ELEMENTWISE: lambda op, inputs: combined(op.attributes, inputs),
        OperationKind.REDUCE: lambda op, inputs: reduced(op.attributes, inputs),
        OperationKind.ADD: _sum,
        OperationKind.MULTIPLY: _product,
        OperationKind.CONCAT: _concat,
        OperationKind.SLICE: _slice,
        OperationKind.PAD: _pad,
        OperationKind.ACTIVATION: _activation,
        OperationKind.NORMALISATION: _normalisation,
        OperationKind.MATMUL: _matmul,
        OperationKind.FLATTEN: lambda _, inputs: inputs[0].reshape(inputs[0].shape[0], -1),
        OperationKind.RESHAPE: _reshape,
        OperationKind.IDENTITY: lambda _, inputs: inputs[0],
    }
)
