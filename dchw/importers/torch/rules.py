"""Rules of ATen operations that compute without weights: normalisation, arithmetic, activations, attention."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from torch import fx

from dchw.graph.operations import OperationKind as Kind
from dchw.importers.torch.layer_rules import batched_matrices
from dchw.importers.torch.registry import Arguments, Constant, Result, Rule, Walk, rule

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
    source, shape, held = walk.value(a["input"]), tuple(a["normalized_shape"]), walk.batch(a["input"])
    if not isinstance(source, Result) or held is None or held[0] >= len(a["input"].meta["val"].shape) - len(shape):
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


@rule("group_norm")
def _group_norm(walk: Walk, node: fx.Node, a: Arguments) -> Any:
    """Groups of channels as rows that are normalised whole, then a scale and a shift per channel."""
    shape, scale, shift = walk.shape(a["input"]), walk.value(a["weight"]), walk.value(a["bias"])
    if walk.place(a["input"]) != 0 or not isinstance(walk.value(a["input"]), Result):
        return None
    return _by_group(walk, node, a["input"], int(a["num_groups"]), float(a["eps"]), shape[0], scale, shift)


@rule("instance_norm")
def _instance_norm(walk: Walk, node: fx.Node, a: Arguments) -> Any:
    shape, scale, shift = walk.shape(a["input"]), walk.value(a["weight"]), walk.value(a["bias"])
    if walk.place(a["input"]) != 0 or not isinstance(walk.value(a["input"]), Result) or not a["use_input_stats"]:
        return None
    return _by_group(walk, node, a["input"], shape[0], float(a["eps"]), shape[0], scale, shift)


def _by_group(
    walk: Walk, node: fx.Node, source: fx.Node, groups: int, epsilon: float, channels: int, scale: Any, shift: Any
) -> Result:
    shape = walk.shape(source)
    size = math.prod(shape) // groups
    rows = walk.emit(node, Kind.RESHAPE, [walk.operand(node, source)], {"shape": (groups, size)}, suffix=".groups")
    whole = {"form": "layer", "axes": (-1,), "epsilon": epsilon, "scale": np.ones(1), "shift": np.zeros(1)}
    made = walk.emit(node, Kind.NORMALISATION, [rows], whole, suffix=".normalised")
    made = walk.emit(node, Kind.RESHAPE, [made], {"shape": shape}, suffix=".channels")
    if scale is None and shift is None:
        return made
    attributes = {
        "form": "batch",
        "scale": np.ones(channels, np.float32) if scale is None else scale.tensor.float().numpy(),
        "shift": np.zeros(channels, np.float32) if shift is None else shift.tensor.float().numpy(),
    }
    return walk.emit(node, Kind.NORMALISATION, [made], attributes)


@rule("rms_norm")
def _rms_norm(walk: Walk, node: fx.Node, a: Arguments) -> Any:
    source, shape, held = a["input"], tuple(a["normalized_shape"]), walk.batch(a["input"])
    if not isinstance(walk.value(source), Result) or held is None or len(shape) != 1 or walk.place(source) is None:
        return None
    x, rank = walk.operand(node, source), len(walk.shape(source))
    epsilon = a["eps"] if a["eps"] is not None else float(np.finfo(np.float32).eps)
    squares = walk.emit(node, Kind.ACTIVATION, [x], {"function": "square"}, suffix=".squares")
    mean = walk.emit(node, Kind.MEAN, [squares], {"axes": (rank,), "keep": True}, suffix=".mean")
    safe = walk.emit(node, Kind.ADD, [mean, walk.operand(node, float(epsilon))], suffix=".safe")
    factor = walk.emit(node, Kind.ACTIVATION, [safe], {"function": "rsqrt"}, suffix=".factor")
    made = walk.emit(node, Kind.MULTIPLY, [x, factor], suffix=".normalised")
    if a["weight"] is None:
        return made
    return walk.emit(node, Kind.MULTIPLY, [made, walk.operand(node, a["weight"])])


@rule("sum")
def _total(walk: Walk, node: fx.Node, a: Arguments) -> Any:
    mean = _mean(walk, node, a)
    if mean is None:
        return None
    rank = len(a["self"].meta["val"].shape)
    count = math.prod(int(a["self"].meta["val"].shape[axis]) for axis in (a.get("dim") or range(rank)))
    return walk.emit(node, Kind.MULTIPLY, [mean, walk.operand(node, float(count))], suffix=".total")


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
    if a.get("rounding_mode") is not None or not walk.aligned(node, (a["self"], a["other"])):
        return None
    if isinstance(divisor, Result):
        inverse = walk.emit(node, Kind.ACTIVATION, [divisor], {"function": "reciprocal"}, suffix=".inverse")
        return walk.emit(node, Kind.MULTIPLY, [walk.operand(node, a["self"]), inverse])
    factor = walk.operand(node, 1.0 / (divisor.tensor if isinstance(divisor, Constant) else divisor))
    return walk.emit(node, Kind.MULTIPLY, [walk.operand(node, a["self"]), factor])


@rule("rsub")
def _reversed_subtract(walk: Walk, node: fx.Node, a: Arguments) -> Any:
    if a["alpha"] != 1 or not walk.aligned(node, (a["self"], a["other"])):
        return None
    return walk.emit(node, Kind.ADD, [_scaled(walk, node, a["self"], -1.0), walk.operand(node, a["other"])])


@rule("pow")
def _power(walk: Walk, node: fx.Node, a: Arguments) -> Any:
    functions = {2: "square", 0.5: "sqrt", -0.5: "rsqrt", -1: "reciprocal"}
    exponent = a.get("exponent")
    if exponent == 3:
        x = walk.operand(node, a["self"])
        square = walk.emit(node, Kind.ACTIVATION, [x], {"function": "square"}, suffix=".square")
        return walk.emit(node, Kind.MULTIPLY, [square, x])
    known = functions.get(exponent) if isinstance(exponent, int | float) else None
    return None if known is None else _activation(walk, node, a, known)


@rule("prelu", "_prelu_kernel")
def _prelu(walk: Walk, node: fx.Node, a: Arguments) -> Any:
    slope, source = walk.value(a["weight"]), walk.value(a["self"])
    if not isinstance(slope, Constant) or not isinstance(source, Result) or walk.place(node) != 0:
        return None
    axes = len(walk.shape(a["self"])) - 1
    factor = Constant(slope.tensor.reshape(-1, *(1,) * axes), slope.origins)
    above = walk.emit(node, Kind.ACTIVATION, [source], {"function": "relu"}, suffix=".above")
    below = walk.emit(node, Kind.ACTIVATION, [source], {"function": "clip", "low": None, "high": 0.0}, suffix=".below")
    scaled = walk.emit(node, Kind.MULTIPLY, [below, walk.operand(node, factor)], suffix=".scaled")
    return walk.emit(node, Kind.ADD, [above, scaled])


@rule("neg")
def _negate(walk: Walk, node: fx.Node, a: Arguments) -> Any:
    return walk.emit(node, Kind.MULTIPLY, [walk.operand(node, a["self"]), walk.operand(node, -1.0)])


def _activate(function: str) -> Rule:
    def activate(walk: Walk, node: fx.Node, a: Arguments) -> Any:
        return _activation(walk, node, a, function)

    return activate


for _name in (
    *("relu", "relu6", "sigmoid", "tanh", "silu", "hardswish", "hardsigmoid", "mish", "selu", "exp", "log", "sqrt"),
    *("rsqrt", "reciprocal", "square", "abs", "sin", "cos", "erf"),
):
    rule(_name)(_activate(_name))


@rule("elu")
def _elu(walk: Walk, node: fx.Node, a: Arguments) -> Any:
    if a["scale"] != 1 or a["input_scale"] != 1:
        return None
    return _activation(walk, node, a, "elu", alpha=float(a["alpha"]))


@rule("softplus")
def _softplus(walk: Walk, node: fx.Node, a: Arguments) -> Any:
    # above its threshold of 20 torch takes x itself, which float32 cannot tell from the function
    return _activation(walk, node, a, "softplus") if a["beta"] == 1 and a["threshold"] == 20 else None


def _activation(walk: Walk, node: fx.Node, a: Arguments, function: str, **attributes: Any) -> str | None:
    if walk.batch(node) is None:
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


@rule("hardtanh", "clamp", "clamp_min", "clamp_max")
def _clamp(walk: Walk, node: fx.Node, a: Arguments) -> Any:
    low, high = a.get("min", a.get("min_val")), a.get("max", a.get("max_val"))
    known: dict[tuple[Any, Any], str] = {(0, None): "relu", (0, math.inf): "relu", (0, 6): "relu6"}
    function = known.get((low, high))
    if function is not None:
        return _activation(walk, node, a, function)
    limits = [None if x is None or math.isinf(x) else float(x) for x in (low, high)]
    return _activation(walk, node, a, "clip", low=limits[0], high=limits[1])


@rule("masked_fill")
def _masked_fill(walk: Walk, node: fx.Node, a: Arguments) -> Any:
    """A constant mask: what it leaves, plus the value where it fills (minus infinity included)."""
    mask, value = walk.value(a["mask"]), walk.value(a["value"])
    filled = value.tensor.item() if isinstance(value, Constant) else value
    if not isinstance(mask, Constant) or not isinstance(filled, int | float):
        return None
    if not walk.aligned(node, (a["self"], a["mask"])):
        return None
    kept = Constant((~mask.tensor.bool()).float())
    extra = Constant(mask.tensor.new_zeros(mask.tensor.shape, dtype=kept.tensor.dtype).masked_fill(mask.tensor, filled))
    left = walk.emit(node, Kind.MULTIPLY, [walk.operand(node, a["self"]), walk.operand(node, kept)], suffix=".kept")
    return walk.emit(node, Kind.ADD, [left, walk.operand(node, extra)])


# Attention ----------------------------------------------------------------------------------------------------


@rule("scaled_dot_product_attention")
def _attention(walk: Walk, node: fx.Node, a: Arguments) -> Any:
    query, key = a["query"], a["key"]
    operands = (a["query"], a["key"], a["value"])
    if a["dropout_p"] or a.get("enable_gqa", False) or not batched_matrices(walk, node, operands):
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
