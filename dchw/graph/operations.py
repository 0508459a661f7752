"""Operations of a neural network's graph and the layers among them: kinds, attributes, arrays."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt

from dchw import showing
from dchw.graph.geometry import Geometry

Array = npt.NDArray[Any]
FloatArray = npt.NDArray[np.float32]


class OperationKind(StrEnum):
    """What an operation computes. ``attributes`` of each kind are listed beside it."""

    INPUT = "input"  # -
    CONSTANT = "constant"  # value: array without batch axis (a parameter used directly); reason: why not compressed
    LINEAR = "linear"  # weight [out, in], applied to the last axis
    CONV2D = "conv2d"  # weight [out, in/groups, kh, kw]; stride, padding, dilation: (h, w); groups: int
    MAX_POOL2D = "max_pool2d"  # kernel, stride, padding, dilation: (h, w); ceil_mode: bool
    AVERAGE_POOL2D = "average_pool2d"  # kernel, stride, padding: (h, w); ceil_mode, count_include_pad: bool
    GLOBAL_AVERAGE_POOL = "global_average_pool"  # output: (h, w), (1, 1) unless adaptive
    MEAN = "mean"  # axes, counted with the batch axis as 0; keep: bool, whether averaged axes stay with size 1
    ADD = "add"  # two or more inputs, broadcast
    MULTIPLY = "multiply"  # two or more inputs, broadcast
    CONCAT = "concat"  # axis, counted with the batch axis as 0
    SLICE = "slice"  # axis, counted with the batch axis as 0; start, stop, step
    PAD = "pad"  # padding: (before, after) of every axis but the batch axis; value
    ACTIVATION = "activation"  # function: a key of forward.ACTIVATIONS; axis (softmax, log_softmax); slope
    NORMALISATION = "normalisation"
    # form batch: scale, shift per channel; form layer: scale, shift, axes, epsilon; form local_response: size, alpha,
    # beta, k over channels
    MATMUL = "matmul"  # two activations; transpose: bool, of the second one's last axes; scale: float
    FLATTEN = "flatten"  # every axis but the batch axis into one
    RESHAPE = "reshape"  # shape without batch; permutation (optional, before reshaping), batch axis 0 first
    IDENTITY = "identity"  # dropout in inference and the like
    CONV1D = "conv1d"  # weight [out, in/groups, k]; stride, padding, dilation: (l,); groups: int
    CONV3D = "conv3d"  # weight [out, in/groups, kd, kh, kw]; stride, padding, dilation: (d, h, w); groups: int
    RECURRENT = "recurrent"  # weight [gates*hidden, hidden], applied step by step: see `dchw.graph.recurrent`
    EMBEDDING = "embedding"  # rows of a table by number; table: array [rows, width], or weight where it is compressed
    FOLD = "fold"  # overlapping windows added up: kernel, stride, padding, dilation, output_padding: (h, w)
    GATHER = "gather"  # axis, counted with the batch axis as 0; indices: which places of it, in order
    # or, without indices, two inputs: values, and for every output element its place on that axis of them (a whole
    # number; a negative one counts from the end); its places on the other axes are its own
    RESIZE = "resize"  # output: sizes; mode: nearest, nearest_exact or linear; align_corners; step: inputs per output
    ELEMENTWISE = "elementwise"  # function: a key of elementwise.ELEMENTWISE; its operands, broadcast
    REDUCE = "reduce"  # function: a key of elementwise.REDUCTIONS; axes, keep: as of MEAN
    OTHER = "other"  # target: its name in its source; parameters: names, their arrays: parameter_0, ...


CONVOLUTIONS = frozenset({OperationKind.CONV1D, OperationKind.CONV2D, OperationKind.CONV3D})
PRODUCTS = CONVOLUTIONS | {OperationKind.LINEAR, OperationKind.RECURRENT}
"""Kinds that multiply a weight matrix: what the layers of a network are."""
ROUTING = frozenset(
    {
        OperationKind.INPUT,
        OperationKind.CONSTANT,
        OperationKind.CONCAT,
        OperationKind.SLICE,
        OperationKind.GATHER,
        OperationKind.EMBEDDING,
        OperationKind.FLATTEN,
        OperationKind.RESHAPE,
        OperationKind.IDENTITY,
    }
)
"""Kinds that compute nothing: they rename, pick or route values."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Operation:
    """One node of the graph. ``output_shape`` leaves out the batch axis (None: unknown).

    Arrays are float32 and read-only. One that is read-only already is kept as it is, so a broadcast placeholder costs
    no memory; any other is copied.
    """

    name: str
    kind: OperationKind
    inputs: tuple[str, ...] = ()
    attributes: Mapping[str, Any] = field(default_factory=dict)
    weight: FloatArray | None = None
    bias: FloatArray | None = None
    output_shape: tuple[int, ...] | None = None
    parameter: str | None = None
    """Name of the weight in the state dict it came from (``features.0.weight``); the bias shares its prefix."""

    @property
    def shares(self) -> str | None:
        """Name of the operation whose weight (and bias) this one uses too; it then has no weight of its own."""
        return self.attributes.get("shares")

    @property
    def projection(self) -> str | None:
        """Name of the linear layer that makes the state of a recurrent layer's next step; None: there is none."""
        return self.attributes.get("projection")

    def __post_init__(self) -> None:
        attributes = {k: read_only(v) if isinstance(v, np.ndarray) else v for k, v in self.attributes.items()}
        object.__setattr__(self, "attributes", MappingProxyType(attributes))
        for name in ("weight", "bias"):
            value = getattr(self, name)
            if value is not None:
                object.__setattr__(self, name, read_only(value))

    def __reduce__(self) -> tuple[Any, ...]:
        return rebuild, (Operation, fields_of(self))

    def __repr__(self) -> str:
        shape = "" if self.output_shape is None else f"gives {list(self.output_shape)}"
        weights = "" if self.weight is None else f"weights {list(self.weight.shape)}"
        return showing.line("Operation", f"{self.name} ({self.kind.value})", weights, shape)


@dataclass(frozen=True, kw_only=True, eq=False)
class Layer:
    """An operation with weights, as compression and hardware see it."""

    name: str
    weight: FloatArray
    """float32, original shape: [out, in], [out, in/groups, kh, kw] or [out, in/groups, kd, kh, kw]."""
    bias: FloatArray | None
    geometry: Geometry
    kind: OperationKind
    input: str
    """Name of the operation whose output this layer reads."""
    parameter: str
    holder: str = ""
    """Name of the layer that holds the weights; another one's where a module is used several times."""
    sequential: bool = False
    """Whether one column of the product must be done before the next can start: the steps of a recurrent layer."""

    @property
    def matrix(self) -> FloatArray:
        """float32[out_channels, in_channels/groups*kh*kw], C order."""
        return self.weight.reshape(self.weight.shape[0], -1)

    def __repr__(self) -> str:
        return showing.line("Layer", f"{self.name} ({self.kind.value})", f"weights {list(self.weight.shape)}")


def placeholder(shape: Sequence[int]) -> FloatArray:
    """Zeros of a shape that take no memory: one value, broadcast, read-only."""
    return np.broadcast_to(np.zeros((), np.float32), tuple(shape))


def read_only(value: Array) -> FloatArray:
    """A float32 array nobody can write to; one that is so already is kept as it is."""
    if isinstance(value, np.ndarray) and value.dtype == np.float32 and not value.flags.writeable:
        return value
    array = np.array(value, dtype=np.float32, order="C")
    array.flags.writeable = False
    return array


def fields_of(value: Any) -> dict[str, Any]:
    """Constructor arguments of an immutable value, with read-only mappings made plain so that they pickle."""
    plain = {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
    return {key: dict(item) if isinstance(item, MappingProxyType) else item for key, item in plain.items()}


def rebuild(kind: Any, arguments: dict[str, Any]) -> Any:
    """An immutable value from its constructor arguments, for pickle."""
    return kind(**arguments)
