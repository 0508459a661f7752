"""Rules of ATen operations that compute: layers, normalisation, pooling, arithmetic, activations, attention."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from torch import fx

from dchw.graph.network import OperationKind as Kind
from dchw.importers.torch.registry import Arguments, Constant, Result, Rule, Walk, rule


def _pair(value: Any) -> tuple[int, int]:
    items = list(value) if isinstance(value, list | tuple) else [value]
    return (int(items[0]), int(items[-1]))


def _image(walk: Walk, node: fx.Node) -> bool:
    """Whether a value is [batch, channels, height, width]."""
    return len(node.meta["val"].shape) == 4 and walk.place(node) == 0


# Layers -------------------------------------------------------------------------------------------------------


def _dense(walk: Walk, node: fx.Node, x: Any, weight: Constant, bias: Any) -> str | None:
    """A linear layer over the last axis of x; ``weight`` is [out, in]."""
    if not (isinstance(x, Result) and isinstance(weight, Constant) and weight.tensor.ndim == 2):
        return None
    if not (bias is None or isinstance(bias, Constant)) or walk.place(node) == len(node.meta["val"].shape) - 1:
        return None
    return walk.layer(node, Kind.LINEAR, x, weight, bias)


def _transposed(constant: Constant) -> Constant:
    return Constant(constant.tensor.T, constant.origins)


@rule("linear")
def _linear(walk: Walk, node: fx.Node, a: Arguments) -> str | None:
    return _dense(walk, node, walk.value(a["input"]), walk.value(a["weight"]), walk.value(a["bias"]))


@rule("addmm")
def _addmm(walk: Walk, node: fx.Node, a: Arguments) -> str | None:
    weight = walk.value(a["mat2"])
    if a["beta"] != 1 or a["alpha"] != 1 or not isinstance(weight, Constant):
        return None
    return _dense(walk, node, walk.value(a["mat1"]), _transposed(weight), walk.value(a["self"]))


@rule("matmul", "mm", "bmm")
def _matmul(walk: Walk, node: fx.Node, a: Arguments) -> str | None:
    left, right = a["self"], a["other"] if "other" in a else a["mat2"]
    x, weight = walk.value(left), walk.value(right)
    if isinstance(x, Result) and isinstance(weight, Constant):
        return _dense(walk, node, x, _transposed(weight), None) if weight.tensor.ndim == 2 else None
    if not (isinstance(weight, Result) and isinstance(x, Result)) or not _batched_matrices(walk, node, (left, right)):
        return None
    return walk.emit(node, Kind.MATMUL, [walk.operand(node, left), walk.operand(node, right)])


def _batched_matrices(walk: Walk, node: fx.Node, arguments: Sequence[fx.Node]) -> bool:
    """Whether all operands keep the batch axis at one place before their last two axes."""
    place, rank = walk.place(node), len(node.meta["val"].shape)
    return place is not None and place < rank - 2 and walk.aligned(node, arguments)


@rule("conv2d", "convolution")
def _convolution(walk: Walk, node: fx.Node, a: Arguments) -> str | None:
    source, weight, bias = walk.value(a["input"]), walk.value(a["weight"]), walk.value(a["bias"])
    if not (
        isinstance(source, Result)
        and isinstance(weight, Constant)
        and weight.tensor.ndim == 4
        and _image(walk, a["input"])
    ):
        return None
    if not (bias is None or isinstance(bias, Constant)) or a.get("transposed", False):
        return None
    kernel, dilation, padding = weight.tensor.shape[2:], _pair(a["dilation"]), a["padding"]
    if isinstance(padding, str):
        total = [dilation[i] * (kernel[i] - 1) if padding == "same" else 0 for i in (0, 1)]
        if any(t % 2 for t in total):  # torch puts the odd row or column at the far side
            after = [t % 2 for t in total]
            sides = ((0, 0), (0, after[0]), (0, after[1]))
            source = walk.emit(node, Kind.PAD, [source], {"padding": sides, "value": 0.0}, suffix=".pad")
        padding = [t // 2 for t in total]
    attributes = {
        "stride": _pair(a["stride"]),
        "padding": _pair(padding),
        "dilation": dilation,
        "groups": int(a["groups"]),
    }
    return walk.layer(node, Kind.CONV2D, source, weight, bias, attributes)


# Normalisation ------------------------------------------------------------------------------------------------


@rule("batch_norm", "_native_batch_norm_legit_no_training")
def _batch_norm(walk: Walk, node: fx.Node, a: Arguments) -> Any:
    mean, variance = walk.value(a["running_mean"]), walk.value(a["running_var"])
    source = walk.value(a["input"])
    if a.get("training", False) or mean is None or variance is None or not isinstance(source, Result):
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
    return walk.emit(node, Kind.NORMALISATION, [source], attributes)


@rule("layer_norm", "native_layer_norm")
def _layer_norm(walk: Walk, node: fx.Node, a: Arguments) -> Any:
    source, shape, place = walk.value(a["input"]), tuple(a["normalized_shape"]), walk.place(a["input"])
    if not isinstance(source, Result) or place is None or place >= len(a["input"].meta["val"].shape) - len(shape):
        return None
    scale, shift = walk.value(a["weight"]), walk.value(a["bias"])
    attributes = {
        "form": "layer",
        "axes": tuple(range(-len(shape), 0)),
        "epsilon": float(a["eps"]),
        "scale": np.ones(shape, np.float32) if scale is None else scale.tensor.float().numpy(),
        "shift": np.zeros(shape, np.float32) if shift is None else shift.tensor.float().numpy(),
    }
    return walk.emit(node, Kind.NORMALISATION, [source], attributes)


# Pooling ------------------------------------------------------------------------------------------------------


@rule("max_pool2d", "max_pool2d_with_indices")
def _max_pool(walk: Walk, node: fx.Node, a: Arguments) -> Any:
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
    return walk.emit(node, Kind.MAX_POOL2D, [walk.operand(node, a["self"])], attributes)


@rule("avg_pool2d")
def _average_pool(walk: Walk, node: fx.Node, a: Arguments) -> Any:
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
    return walk.emit(node, Kind.AVERAGE_POOL2D, [walk.operand(node, a["self"])], attributes)


@rule("adaptive_avg_pool2d", "_adaptive_avg_pool2d")
def _adaptive_average_pool(walk: Walk, node: fx.Node, a: Arguments) -> Any:
    if not _image(walk, a["self"]):
        return None
    attributes = {"output": walk.shape(node)[-2:]}
    return walk.emit(node, Kind.GLOBAL_AVERAGE_POOL, [walk.operand(node, a["self"])], attributes)


@rule("adaptive_max_pool2d")
def _adaptive_max_pool(walk: Walk, node: fx.Node, a: Arguments) -> Any:
    size, out = walk.shape(a["self"])[-2:], walk.shape(node)[-2:]
    if not _image(walk, a["self"]) or size[0] % out[0] or size[1] % out[1]:
        return None
    kernel = (size[0] // out[0], size[1] // out[1])
    attributes = {"kernel": kernel, "stride": kernel, "padding": (0, 0), "ceil_mode": False}
    return walk.emit(node, Kind.MAX_POOL2D, [walk.operand(node, a["self"])], attributes)


@rule("mean")
def _mean(walk: Walk, node: fx.Node, a: Arguments) -> Any:
    rank = len(a["self"].meta["val"].shape)
    mapped = [walk.axis(a["self"], axis) for axis in (a.get("dim") or range(rank))]
    axes = tuple(sorted(axis for axis in mapped if axis))
    if len(axes) < len(mapped):
        return None
    source, keep = walk.operand(node, a["self"]), bool(a.get("keepdim", False))
    if rank != 4 or axes != (2, 3) or walk.place(a["self"]) != 0:
        return walk.emit(node, Kind.MEAN, [source], {"axes": axes, "keep": keep})
    pooled = walk.emit(node, Kind.GLOBAL_AVERAGE_POOL, [source], {"output": (1, 1)})
    return pooled if keep else walk.emit(node, Kind.FLATTEN, [pooled], suffix=".flatten")


# Element-wise -------------------------------------------------------------------------------------------------


def _scaled(walk: Walk, node: fx.Node, operand: Any, factor: Any) -> Result:
    """An operand times a number."""
    source = walk.operand(node, operand)
    if factor == 1:
        return source
    inputs = [source, walk.operand(node, factor)]
    return walk.emit(node, Kind.MULTIPLY, inputs, suffix=".scaled")


def _add(sign: int) -> Rule:
    def combine(walk: Walk, node: fx.Node, a: Arguments) -> Any:
        if not walk.aligned(node, (a["self"], a["other"])):
            return None
        factor = sign * a.get("alpha", 1)
        other = a["other"]
        if isinstance(other, int | float):
            second = walk.operand(node, other * factor)
        else:
            second = _scaled(walk, node, other, factor)
        return walk.emit(node, Kind.ADD, [walk.operand(node, a["self"]), second])

    return combine


rule("add")(_add(1))
rule("sub")(_add(-1))


@rule("mul")
def _multiply(walk: Walk, node: fx.Node, a: Arguments) -> Any:
    if not walk.aligned(node, (a["self"], a["other"])):
        return None
    return walk.emit(node, Kind.MULTIPLY, [walk.operand(node, a["self"]), walk.operand(node, a["other"])])


@rule("div")
def _divide(walk: Walk, node: fx.Node, a: Arguments) -> Any:
    divisor = walk.value(a["other"])
    if isinstance(divisor, Result) or a.get("rounding_mode") is not None:
        return None
    if not walk.aligned(node, (a["self"], a["other"])):
        return None
    inverse = 1.0 / (divisor.tensor if isinstance(divisor, Constant) else divisor)
    return walk.emit(node, Kind.MULTIPLY, [walk.operand(node, a["self"]), walk.operand(node, inverse)])


@rule("neg")
def _negate(walk: Walk, node: fx.Node, a: Arguments) -> Any:
    return walk.emit(node, Kind.MULTIPLY, [walk.operand(node, a["self"]), walk.operand(node, -1.0)])


def _activate(function: str) -> Rule:
    def activate(walk: Walk, node: fx.Node, a: Arguments) -> Any:
        return _activation(walk, node, a, function)

    return activate


for _name in ("relu", "relu6", "sigmoid", "tanh", "silu", "hardswish", "hardsigmoid"):
    rule(_name)(_activate(_name))


def _activation(walk: Walk, node: fx.Node, a: Arguments, function: str, **attributes: Any) -> str | None:
    if walk.place(node) is None:
        return None
    source = walk.operand(node, a["self"])
    return walk.emit(node, Kind.ACTIVATION, [source], {"function": function, **attributes})


@rule("gelu")
def _gelu(walk: Walk, node: fx.Node, a: Arguments) -> Any:
    return _activation(walk, node, a, "gelu_tanh" if a["approximate"] == "tanh" else "gelu")


@rule("leaky_relu")
def _leaky_relu(walk: Walk, node: fx.Node, a: Arguments) -> Any:
    return _activation(walk, node, a, "leaky_relu", slope=float(a["negative_slope"]))


def _softmax(function: str) -> Rule:
    def softmax(walk: Walk, node: fx.Node, a: Arguments) -> Any:
        axis = walk.axis(node, a["dim"])
        return _activation(walk, node, a, function, axis=axis) if axis else None

    return softmax


for _name in ("softmax", "log_softmax"):
    rule(_name, f"_{_name}")(_softmax(_name))


@rule("hardtanh", "clamp", "clamp_min")
def _clamp(walk: Walk, node: fx.Node, a: Arguments) -> Any:
    low, high = a.get("min", a.get("min_val")), a.get("max", a.get("max_val"))
    known: dict[tuple[Any, Any], str] = {(0, None): "relu", (0, math.inf): "relu", (0, 6): "relu6"}
    function = known.get((low, high))
    return None if function is None else _activation(walk, node, a, function)


# Attention ----------------------------------------------------------------------------------------------------


@rule("scaled_dot_product_attention")
def _attention(walk: Walk, node: fx.Node, a: Arguments) -> Any:
    query, key = a["query"], a["key"]
    operands = (a["query"], a["key"], a["value"])
    if a["dropout_p"] or a.get("enable_gqa", False) or not _batched_matrices(walk, node, operands):
        return None
    if a["attn_mask"] is not None and not walk.aligned(node, (a["attn_mask"],)):
        return None
    q, k, v = (walk.operand(node, operand) for operand in operands)
    length, width = walk.shape(query)[-2:]
    scale = float(a["scale"]) if a.get("scale") is not None else 1.0 / math.sqrt(width)
    scores = walk.emit(node, Kind.MATMUL, [q, k], {"transpose": True, "scale": scale}, suffix=".scores")
    mask = _mask(walk, a, length, walk.shape(key)[-2])
    if mask is not None:
        inputs = [scores, mask if isinstance(mask, Result) else walk.operand(node, mask)]
        scores = walk.emit(node, Kind.ADD, inputs, suffix=".masked")
    softmax = {"function": "softmax", "axis": len(walk.shape(query))}
    shares = walk.emit(node, Kind.ACTIVATION, [scores], softmax, suffix=".softmax")
    return walk.emit(node, Kind.MATMUL, [shares, v], suffix=".mixed")


def _mask(walk: Walk, a: Arguments, rows: int, columns: int) -> Any:
    """What is added to the scores: minus infinity where attention is forbidden; None without a mask."""
    if a["is_causal"]:
        return np.triu(np.full((rows, columns), -np.inf, np.float32), 1)
    mask = walk.value(a["attn_mask"])
    if mask is None or isinstance(mask, Result):
        return mask
    array = mask.tensor.numpy()
    return np.where(array, np.float32(0), np.float32(-np.inf)) if array.dtype == np.bool_ else array
