"""Rules of ATen operations that change the size of an image: pooling and resizing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import fx

from dchw.graph.operations import OperationKind as Kind
from dchw.importers.torch.layer_rules import channels_first, sizes
from dchw.importers.torch.registry import Arguments, Result, Rule, Walk, rule


@rule("max_pool1d", "max_pool2d", "max_pool2d_with_indices", "max_pool3d", "max_pool3d_with_indices")
def _max_pool(walk: Walk, node: fx.Node, a: Arguments) -> Any:
    axes = len(a["self"].meta["val"].shape) - 2
    if not channels_first(walk, a["self"], axes) or axes > 3:
        return None
    kernel = sizes(a["kernel_size"], axes)
    window = {
        "kernel": kernel,
        "stride": sizes(a["stride"], axes) if a["stride"] else kernel,
        "padding": sizes(a["padding"], axes),
        "dilation": sizes(a["dilation"], axes),
    }
    return _windows(walk, node, Kind.MAX_POOL2D, axes, window, {"ceil_mode": bool(a["ceil_mode"])})


@rule("avg_pool1d", "avg_pool2d", "avg_pool3d")
def _average_pool(walk: Walk, node: fx.Node, a: Arguments) -> Any:
    axes = len(a["self"].meta["val"].shape) - 2
    if a.get("divisor_override") is not None or not channels_first(walk, a["self"], axes):
        return None
    kernel = sizes(a["kernel_size"], axes)
    window = {
        "kernel": kernel,
        "stride": sizes(a["stride"], axes) if a["stride"] else kernel,
        "padding": sizes(a["padding"], axes),
    }
    options = {"ceil_mode": bool(a["ceil_mode"]), "count_include_pad": bool(a["count_include_pad"])}
    if axes == 3 and options["ceil_mode"]:
        return None  # its edge windows are not those of one axis after another
    return _windows(walk, node, Kind.AVERAGE_POOL2D, axes, window, options)


def _windows(
    walk: Walk, node: fx.Node, kind: Kind, axes: int, window: Mapping[str, Sequence[int]], options: dict[str, Any]
) -> Result:
    """A pool over one, two or three axes, by pools over two: of three, first height and width, then depth."""
    argument = node.args[0]
    assert isinstance(argument, fx.Node)
    source, shape = walk.operand(node, argument), walk.shape(argument)
    neutral = {"kernel": 1, "stride": 1, "padding": 0, "dilation": 1}
    if axes == 2:
        return walk.emit(node, kind, [source], {**window, **options})
    if axes == 1:
        flat = {key: (neutral[key], value[0]) for key, value in window.items()}
        image = walk.emit(node, Kind.RESHAPE, [source], {"shape": (shape[0], 1, shape[1])}, suffix=".image")
        pooled = walk.emit(node, kind, [image], {**flat, **options}, suffix=".pool")
        return walk.emit(node, Kind.RESHAPE, [pooled], {"shape": walk.shape(node)})
    channels, depth, height, width = shape
    inner = {key: tuple(value[1:]) for key, value in window.items()}
    outer = {key: (value[0], neutral[key]) for key, value in window.items()}
    frames = {"shape": (channels * depth, height, width)}
    image = walk.emit(node, Kind.RESHAPE, [source], frames, suffix=".frames")
    pooled = walk.emit(node, kind, [image], {**inner, **options}, suffix=".pool")
    *_, rows, columns = walk.shape(node)
    stacked = {"shape": (channels, depth, rows * columns)}
    image = walk.emit(node, Kind.RESHAPE, [pooled], stacked, suffix=".stack")
    pooled = walk.emit(node, kind, [image], {**outer, **options}, suffix=".depth")
    return walk.emit(node, Kind.RESHAPE, [pooled], {"shape": walk.shape(node)})


@rule("adaptive_avg_pool1d", "adaptive_avg_pool2d", "_adaptive_avg_pool2d")
def _adaptive_average_pool(walk: Walk, node: fx.Node, a: Arguments) -> Any:
    axes = len(a["self"].meta["val"].shape) - 2
    if not channels_first(walk, a["self"], axes):
        return None
    source, shape = walk.operand(node, a["self"]), walk.shape(a["self"])
    if axes == 2:
        return walk.emit(node, Kind.GLOBAL_AVERAGE_POOL, [source], {"output": walk.shape(node)[-2:]})
    image = walk.emit(node, Kind.RESHAPE, [source], {"shape": (shape[0], 1, shape[1])}, suffix=".image")
    pooled = walk.emit(node, Kind.GLOBAL_AVERAGE_POOL, [image], {"output": (1, walk.shape(node)[-1])}, suffix=".pool")
    return walk.emit(node, Kind.RESHAPE, [pooled], {"shape": walk.shape(node)})


@rule("adaptive_max_pool2d", "adaptive_max_pool1d")
def _adaptive_max_pool(walk: Walk, node: fx.Node, a: Arguments) -> Any:
    axes = len(a["self"].meta["val"].shape) - 2
    size, out = walk.shape(a["self"])[1:], sizes(a["output_size"], axes)
    if not channels_first(walk, a["self"], axes) or any(s % o for s, o in zip(size, out, strict=True)):
        return None
    kernel = tuple(s // o for s, o in zip(size, out, strict=True))
    window = {"kernel": kernel, "stride": kernel, "padding": (0,) * axes}
    return _windows(walk, node, Kind.MAX_POOL2D, axes, window, {"ceil_mode": False})


def _resize(mode: str) -> Rule:
    def resize(walk: Walk, node: fx.Node, a: Arguments) -> Any:
        argument = a["input"] if "input" in a else a["self"]
        axes = len(argument.meta["val"].shape) - 2
        if not channels_first(walk, argument, axes):
            return None
        size, out = walk.shape(argument)[1:], walk.shape(node)[1:]
        aligned = bool(a.get("align_corners", False))
        scales = a.get("scale_factors") or [a.get(name) for name in ("scales_d", "scales_h", "scales_w", "scales")]
        scales = [scale for scale in scales if scale is not None]
        step = []
        for i, (before, after) in enumerate(zip(size, out, strict=True)):
            if aligned:
                step.append((before - 1) / (after - 1) if after > 1 else 0.0)
            else:
                step.append(1.0 / float(scales[i]) if len(scales) == axes else before / after)
        attributes = {"output": out, "mode": mode, "align_corners": aligned, "step": tuple(step)}
        return walk.emit(node, Kind.RESIZE, [walk.operand(node, argument)], attributes)

    return resize


for _axes in ("1d", "2d", "3d"):
    rule(f"upsample_nearest{_axes}")(_resize("nearest"))
    rule(f"_upsample_nearest_exact{_axes}")(_resize("nearest_exact"))
rule("upsample_linear1d", "upsample_bilinear2d", "upsample_trilinear3d")(_resize("linear"))
