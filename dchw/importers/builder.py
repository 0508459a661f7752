"""Building a graph operation by operation, shapes worked out on the way, for sources that are not torch modules."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from dchw.graph.forward import pooled_size
from dchw.graph.network import Array, Geometry, Operation, OperationKind, placeholder
from dchw.quantities import DchwError, nearest

Pair = tuple[int, int]


class GraphBuilder:
    """Operations in order. Every method appends one (or two) and gives the name of the one that holds the result.

    Layers without given weights get zero placeholders that take no memory. ``where`` opens every error message.
    """

    def __init__(self, where: str) -> None:
        self.where = where
        self.operations: list[Operation] = []
        self._shapes: dict[str, tuple[int, ...]] = {}

    def shape(self, name: str) -> tuple[int, ...]:
        """Output shape of an operation, without batch axis."""
        if name not in self._shapes:
            raise DchwError(f"{self.where}: nothing gives {name!r}; {nearest(name, self._shapes)}")
        return self._shapes[name]

    def add(
        self,
        kind: OperationKind,
        name: str,
        inputs: Sequence[str],
        shape: tuple[int, ...],
        attributes: dict[str, Any] | None = None,
        **fields: Any,
    ) -> str:
        """Append an operation whose output shape is known."""
        if name in self._shapes:
            raise DchwError(f"{self.where}: {name!r} occurs twice; give one of them another name")
        self._shapes[name] = shape
        self.operations.append(
            Operation(
                name=name, kind=kind, inputs=tuple(inputs), attributes=attributes or {}, output_shape=shape, **fields
            )
        )
        return name

    def input(self, name: str, shape: tuple[int, ...]) -> str:
        """An input of the network."""
        return self.add(OperationKind.INPUT, name, (), shape)

    def conv(
        self,
        name: str,
        source: str,
        out_channels: int,
        kernel: Pair,
        *,
        stride: Pair = (1, 1),
        padding: Pair = (0, 0),
        dilation: Pair = (1, 1),
        groups: int = 1,
        weight: Array | None = None,
        bias: Array | bool | None = True,
    ) -> str:
        """A convolution; ``bias``: the values, True for placeholders, None or False for none."""
        channels, height, width = self._image(name, source)
        try:
            geometry = Geometry(
                in_channels=channels,
                out_channels=out_channels,
                kernel=kernel,
                stride=stride,
                padding=padding,
                dilation=dilation,
                groups=groups,
                in_size=(height, width),
            )
        except DchwError as error:
            raise DchwError(f"{self.where}: layer {name!r}: {error}") from error
        expected = (out_channels, channels // groups, *kernel)
        return self.add(
            OperationKind.CONV2D,
            name,
            [source],
            (out_channels, *geometry.out_size),
            {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups},
            weight=self._values(name, "weights", weight, expected),
            bias=self._bias(name, bias, out_channels),
        )

    def linear(
        self,
        name: str,
        source: str,
        out_channels: int,
        *,
        weight: Array | None = None,
        bias: Array | bool | None = True,
        flatten: bool = True,
    ) -> str:
        """A fully connected layer, with the flattening before it where the input has several axes and asks for it."""
        if flatten and len(self.shape(source)) > 1:
            source = self.flatten(f"{name}.flatten", source)
        *positions, columns = self.shape(source)
        return self.add(
            OperationKind.LINEAR,
            name,
            [source],
            (*positions, out_channels),
            weight=self._values(name, "weights", weight, (out_channels, columns)),
            bias=self._bias(name, bias, out_channels),
        )

    def pool(
        self,
        name: str,
        source: str,
        kind: OperationKind,
        kernel: Pair,
        stride: Pair,
        padding: Pair = (0, 0),
        *,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
    ) -> str:
        """Maximum or average pooling."""
        channels, *size = self._image(name, source)
        attributes: dict[str, Any] = {"kernel": kernel, "stride": stride, "padding": padding, "ceil_mode": ceil_mode}
        if kind is OperationKind.AVERAGE_POOL2D:
            attributes["count_include_pad"] = count_include_pad
        if min(*kernel, *stride) < 1 or min(padding) < 0 or padding[0] >= kernel[0] or padding[1] >= kernel[1]:
            raise DchwError(
                f"{self.where}: pooling {name!r} needs a kernel and stride of at least 1 and less padding than kernel; "
                f"got kernel {kernel}, stride {stride}, padding {padding}; correct them"
            )
        out = pooled_size((size[0], size[1]), kernel, stride, padding, ceil_mode=ceil_mode)
        if min(out) < 1:
            raise DchwError(
                f"{self.where}: pooling {name!r} has kernel {kernel} on an input of {tuple(size)}; enlarge the input"
            )
        return self.add(kind, name, [source], (channels, *out), attributes)

    def global_average_pool(self, name: str, source: str) -> str:
        """The mean of every channel, [channels, 1, 1]."""
        channels = self._image(name, source)[0]
        return self.add(OperationKind.GLOBAL_AVERAGE_POOL, name, [source], (channels, 1, 1), {"output": (1, 1)})

    def activation(self, name: str, source: str, function: str, **attributes: Any) -> str:
        """An activation function."""
        attributes = {"function": function, **attributes}
        return self.add(OperationKind.ACTIVATION, name, [source], self.shape(source), attributes)

    def identity(self, name: str, source: str) -> str:
        """Something that does nothing in inference."""
        return self.add(OperationKind.IDENTITY, name, [source], self.shape(source))

    def flatten(self, name: str, source: str) -> str:
        """All axes but the batch axis into one."""
        return self.add(OperationKind.FLATTEN, name, [source], (math.prod(self.shape(source)),))

    def local_response(self, name: str, source: str, size: int, alpha: float, beta: float, k: float) -> str:
        """Local response normalisation across channels."""
        attributes = {"form": "local_response", "size": size, "alpha": alpha, "beta": beta, "k": k}
        return self.add(OperationKind.NORMALISATION, name, [source], self.shape(source), attributes)

    def concat(self, name: str, sources: Sequence[str], axis: int = 1) -> str:
        """Concatenation along an axis, the batch axis being 0."""
        shapes = [list(self.shape(source)) for source in sources]
        place = axis - 1
        if not 0 <= place < len(shapes[0]) or any(
            s[:place] + s[place + 1 :] != shapes[0][:place] + shapes[0][place + 1 :] for s in shapes
        ):
            raise DchwError(
                f"{self.where}: concatenation {name!r} along axis {axis} needs inputs that agree on the other axes; "
                f"got {[tuple(s) for s in shapes]}; correct one of them"
            )
        shape = shapes[0]
        shape[place] = sum(s[place] for s in shapes)
        return self.add(OperationKind.CONCAT, name, sources, tuple(shape), {"axis": axis})

    def elementwise(self, kind: OperationKind, name: str, sources: Sequence[str]) -> str:
        """ADD or MULTIPLY of inputs of equal shape, or whose shapes broadcast."""
        shapes = [self.shape(source) for source in sources]
        rank = max(len(s) for s in shapes)
        aligned = [(1,) * (rank - len(s)) + s for s in shapes]
        shape = tuple(max(sizes) for sizes in zip(*aligned, strict=True))
        if any(size not in (1, full) for s in aligned for size, full in zip(s, shape, strict=True)):
            raise DchwError(f"{self.where}: {name!r} combines inputs of shapes {shapes}; make them equal")
        return self.add(kind, name, sources, shape)

    def _image(self, name: str, source: str) -> tuple[int, int, int]:
        shape = self.shape(source)
        if len(shape) != 3:
            raise DchwError(
                f"{self.where}: {name!r} needs an input [channels, height, width]; {source!r} gives {shape}; reshape it"
            )
        return shape[0], shape[1], shape[2]

    def _values(self, name: str, what: str, given: Array | None, expected: tuple[int, ...]) -> Array:
        if given is None:
            return placeholder(expected)
        if given.shape != expected:
            raise DchwError(
                f"{self.where}: layer {name!r} needs {what} of shape {expected}; got {given.shape}; correct the array"
            )
        return given

    def _bias(self, name: str, given: Array | bool | None, channels: int) -> Array | None:
        if given is None or given is False:
            return None
        return self._values(name, "biases", None if given is True else given, (channels,))
