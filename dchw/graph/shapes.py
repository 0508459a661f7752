"""Shapes: what every kind of operation gives for what it reads. Whoever builds a graph asks here, and nobody else.

Shapes leave out the batch axis. (`dchw.container.plain_graph.infer_shape` is not a second place of this knowledge: it
is the frozen rule by which version 1 of the file format leaves shapes out.)
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from dchw.graph.geometry import Geometry
from dchw.graph.network import OperationKind
from dchw.graph.recurrent import GATES
from dchw.quantities import DchwError

Shape = tuple[int, ...]
Attributes = Mapping[str, Any]
Pair = tuple[int, int]
MOST_PLACES = 2**24
"""Places of an axis that a float32 whole number can name."""


def output_shape(
    kind: OperationKind, attributes: Attributes, weight: Shape | None, sources: Sequence[Shape]
) -> Shape | None:
    """Output shape of an operation; None where it does not follow from what it reads (INPUT, OTHER).

    ``weight`` is the shape of its weight, ``sources`` the shapes of its inputs. Raises DchwError where they do not fit.
    """
    rule = _RULES.get(kind)
    return None if rule is None else rule(attributes, weight or (), tuple(sources))


def pooled_size(
    size: Pair, kernel: Pair, stride: Pair, padding: Pair, dilation: Pair = (1, 1), *, ceil_mode: bool = False
) -> Pair:
    """Output height and width of a pooling window. Rounding up never adds a window that starts in the far padding.

    The rule is torch's (``nn.MaxPool2d``). Caffe's (``pooling_layer.cpp``) rounds up too and gives the same sizes,
    except for strides above the kernel without padding, where its last window may read nothing at all.
    """
    sizes = []
    for i in (0, 1):
        span = size[i] + 2 * padding[i] - dilation[i] * (kernel[i] - 1) - 1
        count = (-(-span // stride[i]) if ceil_mode else span // stride[i]) + 1
        if ceil_mode and (count - 1) * stride[i] >= size[i] + padding[i]:
            count -= 1
        sizes.append(count)
    return sizes[0], sizes[1]


def _pair(value: Sequence[int]) -> Pair:
    return int(value[0]), int(value[1])


def _first(attributes: Attributes, weight: Shape, sources: Sequence[Shape]) -> Shape:
    return sources[0]


def _constant(attributes: Attributes, weight: Shape, sources: Sequence[Shape]) -> Shape:
    return tuple(attributes["value"].shape)


def _linear(attributes: Attributes, weight: Shape, sources: Sequence[Shape]) -> Shape:
    *positions, columns = sources[0]
    if columns != weight[1]:
        raise DchwError(f"weights {weight} need {weight[1]} inputs; the input is {sources[0]}; correct one of them")
    return (*positions, weight[0])


def _image(sources: Sequence[Shape]) -> tuple[int, int, int]:
    if len(sources[0]) != 3:
        raise DchwError(f"it needs an input [channels, height, width]; its source gives {sources[0]}; reshape it")
    return sources[0][0], sources[0][1], sources[0][2]


def _convolution(attributes: Attributes, weight: Shape, sources: Sequence[Shape]) -> Shape:
    channels, *size = sources[0]
    if len(size) != len(weight) - 2:
        names = "channels, " + ", ".join(("depth", "height", "width")[5 - len(weight) :])
        raise DchwError(f"it needs an input [{names}]; its source gives {sources[0]}; reshape it")
    geometry = Geometry.of_convolution(attributes, weight, size)
    if channels != geometry.in_channels:
        raise DchwError(f"weights {weight} need {geometry.in_channels} channels; the input has {channels}; correct one")
    return (geometry.out_channels, *geometry.out_size)


def _recurrent(attributes: Attributes, weight: Shape, sources: Sequence[Shape]) -> Shape:
    steps, gates = sources[0]
    hidden, rest = divmod(gates, GATES[attributes["cell"]])
    if gates != weight[0] or rest or (hidden != weight[1] and "projection" not in attributes):
        raise DchwError(
            f"recurrent weights {weight} of a {attributes['cell']} do not fit gates {sources[0]}; correct one"
        )
    return (steps, hidden * (2 if attributes.get("cell_state", False) else 1))


def _embedding(attributes: Attributes, weight: Shape, sources: Sequence[Shape]) -> Shape:
    return (*sources[0], (weight or attributes["table"].shape)[1])


def _fold(attributes: Attributes, weight: Shape, sources: Sequence[Shape]) -> Shape:
    channels, *size = sources[0]
    a = attributes
    out = [
        (size[i] - 1) * a["stride"][i] - 2 * a["padding"][i] + a["dilation"][i] * (a["kernel"][i] - 1)
        + a.get("output_padding", (0,) * len(size))[i] + 1
        for i in range(len(size))
    ]  # fmt: skip
    return (channels // math.prod(a["kernel"]), *out)


def _gather(attributes: Attributes, weight: Shape, sources: Sequence[Shape]) -> Shape:
    place = attributes["axis"] - 1
    if "indices" not in attributes:
        return _gather_elements(place, *sources)
    return (*sources[0][:place], len(attributes["indices"]), *sources[0][place + 1 :])


def _gather_elements(place: int, values: Shape, places: Shape) -> Shape:
    sizes = [size for i, size in enumerate(places) if i != place]
    room = [size for i, size in enumerate(values) if i != place]
    if len(values) != len(places) or any(size > most for size, most in zip(sizes, room, strict=True)):
        raise DchwError(
            f"it gathers along axis {place + 1} of {values} by places of shape {places}, which must have as many axes "
            "and be no larger on the others; correct one of them"
        )
    if values[place] > MOST_PLACES:
        raise DchwError(
            f"it gathers along an axis of {values[place]:,} places; float32 numbers tell at most {MOST_PLACES:,} of "
            "them apart; split the axis"
        )
    return places


def _resize(attributes: Attributes, weight: Shape, sources: Sequence[Shape]) -> Shape:
    return (sources[0][0], *attributes["output"])


def _pool(attributes: Attributes, weight: Shape, sources: Sequence[Shape]) -> Shape:
    channels, *size = _image(sources)
    kernel, padding = _pair(attributes["kernel"]), _pair(attributes.get("padding", (0, 0)))
    stride, dilation = _pair(attributes["stride"]), _pair(attributes.get("dilation", (1, 1)))
    if min(*kernel, *stride) < 1 or min(padding) < 0 or padding[0] >= kernel[0] or padding[1] >= kernel[1]:
        raise DchwError(
            "pooling needs a kernel and stride of at least 1 and less padding than kernel; "
            f"got kernel {kernel}, stride {stride}, padding {padding}; correct them"
        )
    ceil_mode = bool(attributes.get("ceil_mode", False))
    out = pooled_size(_pair(size), kernel, stride, padding, dilation, ceil_mode=ceil_mode)
    if min(out) < 1:
        raise DchwError(f"pooling with kernel {kernel} does not fit an input of {tuple(size)}; enlarge the input")
    return (channels, *out)


def _global_average_pool(attributes: Attributes, weight: Shape, sources: Sequence[Shape]) -> Shape:
    return (_image(sources)[0], *_pair(attributes.get("output", (1, 1))))


def _mean(attributes: Attributes, weight: Shape, sources: Sequence[Shape]) -> Shape:
    axes, keep = attributes["axes"], attributes.get("keep", False)
    kept = (1 if i + 1 in axes else size for i, size in enumerate(sources[0]) if keep or i + 1 not in axes)
    return tuple(kept)


def _broadcast(attributes: Attributes, weight: Shape, sources: Sequence[Shape]) -> Shape:
    rank = max(len(s) for s in sources)
    aligned = [(1,) * (rank - len(s)) + s for s in sources]
    shape = tuple(max(sizes) for sizes in zip(*aligned, strict=True))
    if any(size not in (1, full) for s in aligned for size, full in zip(s, shape, strict=True)):
        raise DchwError(f"it combines inputs of shapes {list(sources)}; make them equal")
    return shape


def _concat(attributes: Attributes, weight: Shape, sources: Sequence[Shape]) -> Shape:
    place = attributes.get("axis", 1) - 1
    shape = sources[0]
    if not 0 <= place < len(shape) or any(
        len(s) != len(shape) or s[:place] + s[place + 1 :] != shape[:place] + shape[place + 1 :] for s in sources
    ):
        raise DchwError(
            f"concatenation along axis {place + 1} needs inputs that agree on the other axes; "
            f"got {list(sources)}; correct one of them"
        )
    return (*shape[:place], sum(s[place] for s in sources), *shape[place + 1 :])


def _slice(attributes: Attributes, weight: Shape, sources: Sequence[Shape]) -> Shape:
    place = attributes["axis"] - 1
    taken = range(*slice(attributes["start"], attributes["stop"], attributes.get("step", 1)).indices(sources[0][place]))
    return (*sources[0][:place], len(taken), *sources[0][place + 1 :])


def _pad(attributes: Attributes, weight: Shape, sources: Sequence[Shape]) -> Shape:
    return tuple(size + sum(sides) for size, sides in zip(sources[0], attributes["padding"], strict=True))


def _matmul(attributes: Attributes, weight: Shape, sources: Sequence[Shape]) -> Shape:
    left, right = sources
    inner, outer = (right[-1], right[-2]) if attributes.get("transpose", False) else (right[-2], right[-1])
    if left[-1] != inner:
        raise DchwError(f"it multiplies matrices of shapes {left} and {right}; make the inner sizes equal")
    return (*_broadcast({}, (), [left[:-2], right[:-2]]), left[-2], outer)


def _flatten(attributes: Attributes, weight: Shape, sources: Sequence[Shape]) -> Shape:
    return (math.prod(sources[0]),)


def _reshape(attributes: Attributes, weight: Shape, sources: Sequence[Shape]) -> Shape:
    shape = tuple(attributes["shape"])
    if math.prod(shape) != math.prod(sources[0]):
        raise DchwError(f"it makes {shape} of an input of {sources[0]}; correct the shape")
    return shape


_RULES: MappingProxyType[OperationKind, Callable[[Attributes, Shape, Sequence[Shape]], Shape]] = MappingProxyType(
    {
        OperationKind.CONSTANT: _constant,
        OperationKind.LINEAR: _linear,
        OperationKind.CONV1D: _convolution,
        OperationKind.CONV2D: _convolution,
        OperationKind.CONV3D: _convolution,
        OperationKind.RECURRENT: _recurrent,
        OperationKind.EMBEDDING: _embedding,
        OperationKind.FOLD: _fold,
        OperationKind.GATHER: _gather,
        OperationKind.RESIZE: _resize,
        OperationKind.MAX_POOL2D: _pool,
        OperationKind.AVERAGE_POOL2D: _pool,
        OperationKind.GLOBAL_AVERAGE_POOL: _global_average_pool,
        OperationKind.MEAN: _mean,
        OperationKind.REDUCE: _mean,
        OperationKind.ADD: _broadcast,
        OperationKind.ELEMENTWISE: _broadcast,
        OperationKind.MULTIPLY: _broadcast,
        OperationKind.CONCAT: _concat,
        OperationKind.SLICE: _slice,
        OperationKind.PAD: _pad,
        OperationKind.ACTIVATION: _first,
        OperationKind.NORMALISATION: _first,
        OperationKind.MATMUL: _matmul,
        OperationKind.FLATTEN: _flatten,
        OperationKind.RESHAPE: _reshape,
        OperationKind.IDENTITY: _first,
    }
)
