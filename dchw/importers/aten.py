"""One rule per ATen operation: how it becomes one or a few operations of the graph.

A rule gets the walk, the node and its arguments by name, and gives the name of the operation that holds the result, or
None where that use of the ATen operation has no equal here (it then becomes OTHER).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np

from dchw.graph.network import OperationKind as Kind
from dchw.importers.aten_shapes import SHAPE_RULES

if TYPE_CHECKING:
    from torch import fx

    from dchw.importers.torch_graph import Constant, GraphWalk

Arguments = dict[str, Any]
Rule = Callable[["GraphWalk", "fx.Node", Arguments], Any]


def _is_constant(value: Any) -> bool:
    return hasattr(value, "tensor")


def _pair(value: Any) -> tuple[int, int]:
    items = list(value) if isinstance(value, list | tuple) else [value]
    return (int(items[0]), int(items[-1]))


def _image(walk: GraphWalk, node: fx.Node) -> bool:
    """Whether a value is [batch, channels, height, width]."""
    return len(node.meta["val"].shape) == 4 and walk.place(node) == 0


# Layers -------------------------------------------------------------------------------------------------------


def _dense(walk: GraphWalk, node: fx.Node, x: Any, weight: Constant, bias: Any) -> str | None:
    """A linear layer over the last axis of x; ``weight`` is [out, in]."""
    if not (isinstance(x, str) and _is_constant(weight) and weight.tensor.ndim == 2):
        return None
    if not (bias is None or _is_constant(bias)) or walk.place(node) == len(node.meta["val"].shape) - 1:
        return None
    return walk.layer(node, Kind.LINEAR, x, weight, bias)


def _transposed(constant: Constant) -> Constant:
    return type(constant)(constant.tensor.T, constant.origins)


def _linear(walk: GraphWalk, node: fx.Node, a: Arguments) -> str | None:
    return _dense(walk, node, walk.value(a["input"]), walk.value(a["weight"]), walk.value(a["bias"]))


def _addmm(walk: GraphWalk, node: fx.Node, a: Arguments) -> str | None:
    weight = walk.value(a["mat2"])
    if a["beta"] != 1 or a["alpha"] != 1 or not _is_constant(weight):
        return None
    return _dense(walk, node, walk.value(a["mat1"]), _transposed(weight), walk.value(a["self"]))


def _matmul(walk: GraphWalk, node: fx.Node, a: Arguments) -> str | None:
    left, right = a["self"], a["other"] if "other" in a else a["mat2"]
    x, weight = walk.value(left), walk.value(right)
    if isinstance(x, str) and _is_constant(weight):
        return _dense(walk, node, x, _transposed(weight), None) if weight.tensor.ndim == 2 else None
    if not (isinstance(weight, str) and isinstance(x, str)) or not _batched_matrices(walk, node, (left, right)):
        return None
    return walk.emit(node, Kind.MATMUL, [walk.operand(node, left), walk.operand(node, right)])


def _batched_matrices(walk: GraphWalk, node: fx.Node, arguments: Sequence[fx.Node]) -> bool:
    """Whether all operands keep the batch axis at one place before their last two axes."""
    place, rank = walk.place(node), len(node.meta["val"].shape)
    return place is not None and place < rank - 2 and walk.aligned(node, arguments)


def _convolution(walk: GraphWalk, node: fx.Node, a: Arguments) -> str | None:
    source, weight, bias = walk.value(a["input"]), walk.value(a["weight"]), walk.value(a["bias"])
    if not (isinstance(source, str) and _is_constant(weight) and weight.tensor.ndim == 4 and _image(walk, a["input"])):
        return None
    if not (bias is None or _is_constant(bias)) or a.get("transposed", False):
        return None
    kernel, dilation, padding = weight.tensor.shape[2:], _pair(a["dilation"]), a["padding"]
    if isinstance(padding, str):
        total = [dilation[i] * (kernel[i] - 1) if padding == "same" else 0 for i in (0, 1)]
        if any(t % 2 for t in total):  # torch puts the odd row or column at the far side
            _, height, width = shape = walk.shape(a["input"])
            after = [t % 2 for t in total]
            source = walk.emit(
                node,
                Kind.PAD,
                [source],
                suffix=".pad",
                shape=(shape[0], height + after[0], width + after[1]),
                attributes={"padding": ((0, 0), (0, after[0]), (0, after[1])), "value": 0.0},
            )
        padding = [t // 2 for t in total]
    attributes = {
        "stride": _pair(a["stride"]),
        "padding": _pair(padding),
        "dilation": dilation,
        "groups": int(a["groups"]),
    }
    return walk.layer(node, Kind.CONV2D, source, weight, bias, attributes)


# Normalisation ------------------------------------------------------------------------------------------------


def _batch_norm(walk: GraphWalk, node: fx.Node, a: Arguments) -> Any:
    mean, variance = walk.value(a["running_mean"]), walk.value(a["running_var"])
    source = walk.value(a["input"])
    if a.get("training", False) or mean is None or variance is None or not isinstance(source, str):
        return None
    if walk.place(node) != 0:
        return None
    scale = 1.0 / (variance.tensor.double().numpy() + a["eps"]) ** 0.5
    if a["weight"] is not None:
        scale = scale * walk.value(a["weight"]).tensor.double().numpy()
    shift = -mean.tensor.double().numpy() * scale
    if a["bias"] is not None:
        shift = shift + walk.value(a["bias"]).tensor.double().numpy()
    attributes = {"form": "batch", "scale": scale.astype(np.float32), "shift": shift.astype(np.float32)}
    return walk.emit(node, Kind.NORMALISATION, [source], attributes=attributes)


def _layer_norm(walk: GraphWalk, node: fx.Node, a: Arguments) -> Any:
    source, shape, place = walk.value(a["input"]), tuple(a["normalized_shape"]), walk.place(a["input"])
    if not isinstance(source, str) or place is None or place >= len(a["input"].meta["val"].shape) - len(shape):
        return None
    scale, shift = walk.value(a["weight"]), walk.value(a["bias"])
    attributes = {
        "form": "layer",
        "axes": tuple(range(-len(shape), 0)),
        "epsilon": float(a["eps"]),
        "scale": np.ones(shape, np.float32) if scale is None else scale.tensor.float().numpy(),
        "shift": np.zeros(shape, np.float32) if shift is None else shift.tensor.float().numpy(),
    }
    return walk.emit(node, Kind.NORMALISATION, [source], attributes=attributes)


# Pooling ------------------------------------------------------------------------------------------------------


def _max_pool(walk: GraphWalk, node: fx.Node, a: Arguments) -> Any:
    if not _image(walk, a["self"]):
        return None
    kernel = _pair(a["kernel_size"])
    attributes = {
        "kernel": kernel,
        "stride": _pair(a["stride"]) if a["stride"] else kernel,
        "padding": _pair(a["padding"]),
        "dilation": _pair(a["dilation"]),
        "ceil_mode": bool(a["ceil_mode"]),
    }
    return walk.emit(node, Kind.MAX_POOL2D, [walk.operand(node, a["self"])], attributes=attributes)


def _average_pool(walk: GraphWalk, node: fx.Node, a: Arguments) -> Any:
    if a["divisor_override"] is not None or not _image(walk, a["self"]):
        return None
    kernel = _pair(a["kernel_size"])
    attributes = {
        "kernel": kernel,
        "stride": _pair(a["stride"]) if a["stride"] else kernel,
        "padding": _pair(a["padding"]),
        "ceil_mode": bool(a["ceil_mode"]),
        "count_include_pad": bool(a["count_include_pad"]),
    }
    return walk.emit(node, Kind.AVERAGE_POOL2D, [walk.operand(node, a["self"])], attributes=attributes)


def _adaptive_average_pool(walk: GraphWalk, node: fx.Node, a: Arguments) -> Any:
    if not _image(walk, a["self"]):
        return None
    attributes = {"output": walk.shape(node)[-2:]}
    return walk.emit(node, Kind.GLOBAL_AVERAGE_POOL, [walk.operand(node, a["self"])], attributes=attributes)


def _adaptive_max_pool(walk: GraphWalk, node: fx.Node, a: Arguments) -> Any:
    size, out = walk.shape(a["self"])[-2:], walk.shape(node)[-2:]
    if not _image(walk, a["self"]) or size[0] % out[0] or size[1] % out[1]:
        return None
    kernel = (size[0] // out[0], size[1] // out[1])
    attributes = {"kernel": kernel, "stride": kernel, "padding": (0, 0), "ceil_mode": False}
    return walk.emit(node, Kind.MAX_POOL2D, [walk.operand(node, a["self"])], attributes=attributes)


def _mean(walk: GraphWalk, node: fx.Node, a: Arguments) -> Any:
    rank = len(a["self"].meta["val"].shape)
    mapped = [walk.axis(a["self"], axis) for axis in (a.get("dim") or range(rank))]
    axes = tuple(sorted(axis for axis in mapped if axis))
    if len(axes) < len(mapped):
        return None
    source, keep = walk.operand(node, a["self"]), bool(a.get("keepdim", False))
    if rank != 4 or axes != (2, 3) or walk.place(a["self"]) != 0:
        return walk.emit(node, Kind.MEAN, [source], attributes={"axes": axes, "keep": keep})
    channels = walk.shape(a["self"])[0]
    pooled = walk.emit(node, Kind.GLOBAL_AVERAGE_POOL, [source], shape=(channels, 1, 1), attributes={"output": (1, 1)})
    return pooled if keep else walk.emit(node, Kind.FLATTEN, [pooled], suffix=".flatten")


# Element-wise -------------------------------------------------------------------------------------------------


def _scaled(walk: GraphWalk, node: fx.Node, operand: Any, factor: Any) -> str:
    """An operand times a number."""
    source = walk.operand(node, operand)
    if factor == 1:
        return source
    inputs = [source, walk.operand(node, factor)]
    return walk.emit(node, Kind.MULTIPLY, inputs, suffix=".scaled", shape=walk.shape(operand))


def _add(sign: int) -> Rule:
    def rule(walk: GraphWalk, node: fx.Node, a: Arguments) -> Any:
        if not walk.aligned(node, (a["self"], a["other"])):
            return None
        factor = sign * a.get("alpha", 1)
        other = a["other"]
        if isinstance(other, int | float):
            second = walk.operand(node, other * factor)
        else:
            second = _scaled(walk, node, other, factor)
        return walk.emit(node, Kind.ADD, [walk.operand(node, a["self"]), second])

    return rule


def _multiply(walk: GraphWalk, node: fx.Node, a: Arguments) -> Any:
    if not walk.aligned(node, (a["self"], a["other"])):
        return None
    return walk.emit(node, Kind.MULTIPLY, [walk.operand(node, a["self"]), walk.operand(node, a["other"])])


def _divide(walk: GraphWalk, node: fx.Node, a: Arguments) -> Any:
    divisor = walk.value(a["other"])
    if isinstance(divisor, str) or a.get("rounding_mode") is not None:
        return None
    if not walk.aligned(node, (a["self"], a["other"])):
        return None
    inverse = 1.0 / (divisor.tensor if _is_constant(divisor) else divisor)
    return walk.emit(node, Kind.MULTIPLY, [walk.operand(node, a["self"]), walk.operand(node, inverse)])


def _negate(walk: GraphWalk, node: fx.Node, a: Arguments) -> Any:
    return walk.emit(node, Kind.MULTIPLY, [walk.operand(node, a["self"]), walk.operand(node, -1.0)])


def _activate(function: str) -> Rule:
    def rule(walk: GraphWalk, node: fx.Node, a: Arguments) -> Any:
        return _activation(walk, node, a, function)

    return rule


def _activation(walk: GraphWalk, node: fx.Node, a: Arguments, function: str, **attributes: Any) -> str | None:
    if walk.place(node) is None:
        return None
    source = walk.operand(node, a["self"])
    return walk.emit(node, Kind.ACTIVATION, [source], attributes={"function": function, **attributes})


def _gelu(walk: GraphWalk, node: fx.Node, a: Arguments) -> Any:
    return _activation(walk, node, a, "gelu_tanh" if a["approximate"] == "tanh" else "gelu")


def _leaky_relu(walk: GraphWalk, node: fx.Node, a: Arguments) -> Any:
    return _activation(walk, node, a, "leaky_relu", slope=float(a["negative_slope"]))


def _softmax(function: str) -> Rule:
    def rule(walk: GraphWalk, node: fx.Node, a: Arguments) -> Any:
        axis = walk.axis(node, a["dim"])
        return _activation(walk, node, a, function, axis=axis) if axis else None

    return rule


def _clamp(walk: GraphWalk, node: fx.Node, a: Arguments) -> Any:
    low, high = a.get("min", a.get("min_val")), a.get("max", a.get("max_val"))
    known: dict[tuple[Any, Any], str] = {(0, None): "relu", (0, math.inf): "relu", (0, 6): "relu6"}
    function = known.get((low, high))
    return None if function is None else _activation(walk, node, a, function)


# Attention ----------------------------------------------------------------------------------------------------


def _attention(walk: GraphWalk, node: fx.Node, a: Arguments) -> Any:
    query, key = a["query"], a["key"]
    operands = (a["query"], a["key"], a["value"])
    if a["dropout_p"] or a.get("enable_gqa", False) or not _batched_matrices(walk, node, operands):
        return None
    if a["attn_mask"] is not None and not walk.aligned(node, (a["attn_mask"],)):
        return None
    q, k, v = (walk.operand(node, operand) for operand in operands)
    length, width = walk.shape(query)[-2:]
    scores_shape = (*walk.shape(query)[:-1], walk.shape(key)[-2])
    scale = float(a["scale"]) if a.get("scale") is not None else 1.0 / math.sqrt(width)
    scores = walk.emit(
        node,
        Kind.MATMUL,
        [q, k],
        suffix=".scores",
        shape=scores_shape,
        attributes={"transpose": True, "scale": scale},
    )
    mask = _mask(walk, a, length, scores_shape[-1])
    if mask is not None:
        inputs = [scores, mask if isinstance(mask, str) else walk.operand(node, mask)]
        scores = walk.emit(node, Kind.ADD, inputs, suffix=".masked", shape=scores_shape)
    shares = walk.emit(
        node,
        Kind.ACTIVATION,
        [scores],
        suffix=".softmax",
        shape=scores_shape,
        attributes={"function": "softmax", "axis": len(scores_shape)},
    )
    return walk.emit(node, Kind.MATMUL, [shares, v], suffix=".mixed")


def _mask(walk: GraphWalk, a: Arguments, rows: int, columns: int) -> Any:
    """What is added to the scores: minus infinity where attention is forbidden; None without a mask."""
    if a["is_causal"]:
        return np.triu(np.full((rows, columns), -np.inf, np.float32), 1)
    mask = walk.value(a["attn_mask"])
    if mask is None or isinstance(mask, str):
        return mask
    array = mask.tensor.numpy()
    return np.where(array, np.float32(0), np.float32(-np.inf)) if array.dtype == np.bool_ else array


RULES: MappingProxyType[str, Rule] = MappingProxyType(
    {
        "linear": _linear,
        "addmm": _addmm,
        "matmul": _matmul,
        "mm": _matmul,
        "bmm": _matmul,
        "conv2d": _convolution,
        "convolution": _convolution,
        "batch_norm": _batch_norm,
        "_native_batch_norm_legit_no_training": _batch_norm,
        "layer_norm": _layer_norm,
        "native_layer_norm": _layer_norm,
        "max_pool2d": _max_pool,
        "max_pool2d_with_indices": _max_pool,
        "avg_pool2d": _average_pool,
        "adaptive_avg_pool2d": _adaptive_average_pool,
        "_adaptive_avg_pool2d": _adaptive_average_pool,
        "adaptive_max_pool2d": _adaptive_max_pool,
        "mean": _mean,
        "add": _add(1),
        "sub": _add(-1),
        "mul": _multiply,
        "div": _divide,
        "neg": _negate,
        "relu": _activate("relu"),
        "relu6": _activate("relu6"),
        "sigmoid": _activate("sigmoid"),
        "tanh": _activate("tanh"),
        "silu": _activate("silu"),
        "hardswish": _activate("hardswish"),
        "hardsigmoid": _activate("hardsigmoid"),
        "gelu": _gelu,
        "leaky_relu": _leaky_relu,
        "softmax": _softmax("softmax"),
        "_softmax": _softmax("softmax"),
        "log_softmax": _softmax("log_softmax"),
        "_log_softmax": _softmax("log_softmax"),
        "hardtanh": _clamp,
        "clamp": _clamp,
        "clamp_min": _clamp,
        "scaled_dot_product_attention": _attention,
        **SHAPE_RULES,
    }
)
"""ATen name (without name space and overload) -> rule."""
