"""The shape of a layer's computation: what a weight matrix is multiplied with, and how often."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from dchw.quantities import DchwError


@dataclass(frozen=True, kw_only=True)
class Geometry:
    """Shape of a layer's computation, over two axes or three. A linear layer has kernel, input and output size 1."""

    in_channels: int
    out_channels: int
    kernel: tuple[int, ...] = (1, 1)
    stride: tuple[int, ...] = (1, 1)
    padding: tuple[int, ...] = (0, 0)
    dilation: tuple[int, ...] = (1, 1)
    groups: int = 1
    in_size: tuple[int, ...] = (1, 1)

    def __post_init__(self) -> None:
        for name in ("in_channels", "out_channels", "groups"):
            if getattr(self, name) < 1:
                raise DchwError(f"geometry: {name} must be at least 1; got {getattr(self, name)}; correct it")
        for name in ("kernel", "stride", "dilation", "in_size"):
            if min(getattr(self, name)) < 1:
                raise DchwError(f"geometry: {name} must be at least 1 each way; got {getattr(self, name)}; correct it")
        if min(self.padding) < 0:
            raise DchwError(f"geometry: padding must not be negative; got {self.padding}; correct it")
        if len({len(getattr(self, name)) for name in _SIZES}) > 1:
            raise DchwError(f"geometry: {', '.join(_SIZES)} must have a number for each axis; correct one of them")
        if self.in_channels % self.groups or self.out_channels % self.groups:
            raise DchwError(
                f"geometry: groups must divide in_channels and out_channels; got {self.groups} groups for "
                f"{self.in_channels} and {self.out_channels}; correct one of them"
            )
        if min(self.out_size) < 1:
            raise DchwError(
                f"geometry: the kernel {self.kernel} does not fit the padded input {self.in_size}; enlarge the input"
            )

    @classmethod
    def of_convolution(cls, attributes: Mapping[str, Any], weight: Sequence[int], in_size: Sequence[int]) -> Geometry:
        """Of a convolution with weights [out, in/groups, *kernel], a graph's attributes and an input of ``in_size``."""
        groups, axes = int(attributes.get("groups", 1)), len(weight) - 2
        return cls(
            in_channels=weight[1] * groups,
            out_channels=weight[0],
            kernel=_whole(weight[2:]),
            stride=_whole(attributes.get("stride", (1,) * axes)),
            padding=_whole(attributes.get("padding", (0,) * axes)),
            dilation=_whole(attributes.get("dilation", (1,) * axes)),
            groups=groups,
            in_size=_whole(in_size),
        )

    @cached_property
    def out_size(self) -> tuple[int, ...]:
        """Output height and width (depth before them)."""
        return tuple(
            (self.in_size[i] + 2 * self.padding[i] - self.dilation[i] * (self.kernel[i] - 1) - 1) // self.stride[i] + 1
            for i in range(len(self.in_size))
        )

    @cached_property
    def output_pixels(self) -> int:
        """Columns of the matrix product for one input: 1 for a linear layer."""
        return math.prod(self.out_size)

    @property
    def columns(self) -> int:
        """Columns of the weight matrix of one group: in_channels / groups x all sizes of the kernel."""
        return self.in_channels // self.groups * math.prod(self.kernel)

    @property
    def weights(self) -> int:
        """Number of weights, without biases."""
        return self.out_channels * self.columns

    @property
    def macs(self) -> int:
        """Multiply-accumulates for one input, zeros included."""
        return self.weights * self.output_pixels


_SIZES = ("kernel", "stride", "padding", "dilation", "in_size")


def _whole(sizes: Sequence[int]) -> tuple[int, ...]:
    return tuple(int(size) for size in sizes)
