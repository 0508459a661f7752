"""A neural network in neutral form: a graph of operations with numpy weights, immutable, free of torch.

A `Network` is what comes in (dense float32 weights) and what decompression gives back. `Layer` is the view of one
operation with weights that compression and hardware work on: a weight matrix ``[out_channels, in_channels*kh*kw]``
per group plus its geometry.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import numpy.typing as npt

from dchw.graph.geometry import Geometry
from dchw.quantities import DchwError, nearest

if TYPE_CHECKING:
    import torch

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
    OTHER = "other"  # target: what it was called where it came from


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

    def __post_init__(self) -> None:
        attributes = {k: _read_only(v) if isinstance(v, np.ndarray) else v for k, v in self.attributes.items()}
        object.__setattr__(self, "attributes", MappingProxyType(attributes))
        for name in ("weight", "bias"):
            value = getattr(self, name)
            if value is not None:
                object.__setattr__(self, name, _read_only(value))

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (Operation, _fields(self))


@dataclass(frozen=True, kw_only=True, eq=False)
class Layer:
    """An operation with weights, as compression and hardware see it."""

    name: str
    weight: FloatArray
    """float32, original shape: [out, in] or [out, in/groups, kh, kw]."""
    bias: FloatArray | None
    geometry: Geometry
    kind: OperationKind
    input: str
    """Name of the operation whose output this layer reads."""
    parameter: str

    @property
    def matrix(self) -> FloatArray:
        """float32[out_channels, in_channels/groups*kh*kw], C order."""
        return self.weight.reshape(self.weight.shape[0], -1)


@dataclass(frozen=True, kw_only=True, eq=False)
class Network:
    """Operations in topological order. ``example_inputs`` maps INPUT operations to float32 arrays with a batch axis.

    ``notes`` records what was done to the network on its way in (folded normalisation, synthetic weights, ...);
    every report prints it.
    """

    name: str
    operations: tuple[Operation, ...]
    example_inputs: Mapping[str, FloatArray] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    number_format: str = "float32"

    def __post_init__(self) -> None:
        seen: set[str] = set()
        for op in self.operations:
            if op.name in seen:
                raise DchwError(f"network {self.name}: operation {op.name!r} occurs twice; give it another name")
            for source in op.inputs:
                if source not in seen:
                    raise DchwError(
                        f"network {self.name}: {op.name!r} reads {source!r}, which no earlier operation gives; "
                        + nearest(source, seen or {"input"})
                    )
            seen.add(op.name)
        for layer in self.layers:
            distinct = _distinct(layer.weight)
            if not np.isfinite(distinct).all():
                bad = int((~np.isfinite(distinct)).sum())
                raise DchwError(
                    f"network {self.name}, layer {layer.name!r}: weights must be finite; {bad} of "
                    f"{distinct.size} are NaN or infinite; retrain or repair the checkpoint"
                )
        examples = {}
        for name, value in self.example_inputs.items():
            if name not in seen or self.operation(name).kind is not OperationKind.INPUT:
                raise DchwError(f"network {self.name}: example input {name!r} is not an input; {nearest(name, seen)}")
            examples[name] = _read_only(value)
        object.__setattr__(self, "example_inputs", MappingProxyType(examples))

    @cached_property
    def layers(self) -> tuple[Layer, ...]:
        """The operations with weights, in order."""
        return tuple(self._layer(op) for op in self.operations if op.weight is not None)

    def layer(self, name: str) -> Layer:
        """One layer by name."""
        for layer in self.layers:
            if layer.name == name:
                return layer
        raise DchwError(f"network {self.name}: no layer {name!r}; {nearest(name, [x.name for x in self.layers])}")

    def operation(self, name: str) -> Operation:
        """One operation by name."""
        if name not in self._by_name:
            raise DchwError(f"network {self.name}: no operation {name!r}; {nearest(name, self._by_name)}")
        return self._by_name[name]

    @cached_property
    def _by_name(self) -> dict[str, Operation]:
        return {op.name: op for op in self.operations}

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of the first input without its batch axis."""
        shape = self.operations[0].output_shape
        if shape is None:
            raise DchwError(f"network {self.name}: the shape of its input is unknown; give an example input")
        return shape

    def with_weights(
        self, weights: Mapping[str, FloatArray], biases: Mapping[str, FloatArray] | None = None
    ) -> Network:
        """A copy whose named layers carry other weights (and biases) of the same shapes."""
        biases = biases or {}
        unknown = [name for name in (*weights, *biases) if name not in {layer.name for layer in self.layers}]
        if unknown:
            raise DchwError(
                f"network {self.name}: no layer {unknown[0]!r}; {nearest(unknown[0], [x.name for x in self.layers])}"
            )
        operations = []
        for op in self.operations:
            changed = op
            for kind, given in (("weight", weights), ("bias", biases)):
                if op.name in given:
                    old, new = getattr(op, kind), np.asarray(given[op.name], dtype=np.float32)
                    if old is None or old.shape != new.shape:
                        raise DchwError(
                            f"network {self.name}, layer {op.name!r}: expected a {kind} of shape "
                            f"{None if old is None else old.shape}; got {new.shape}; correct the array"
                        )
                    changed = dataclasses.replace(changed, **cast(dict[str, Any], {kind: new}))
            operations.append(changed)
        return dataclasses.replace(self, operations=tuple(operations))

    def state_dict(self) -> dict[str, torch.Tensor]:
        """Weights and biases of all layers under their original parameter names, as torch tensors.

        What is no layer (normalisation, embeddings) is not in it, nor is a weight that the module computes from its
        parameters: load it with ``strict=False`` into a module that has such.
        """
        import torch

        parts: dict[str, list[tuple[int, FloatArray]]] = {}
        for op in self.operations:
            if op.weight is None or op.attributes.get("computed", False):
                continue
            parameter = op.parameter or f"{op.name}.weight"
            first = op.attributes.get("rows", (0, 0))[0]  # several layers may share a parameter, some rows each
            stored = op.weight.T if op.attributes.get("transposed", False) else op.weight
            parts.setdefault(parameter, []).append((first, stored))
            if op.bias is not None:
                bias = op.attributes.get("bias_parameter", parameter.removesuffix("weight") + "bias")
                parts.setdefault(bias, []).append((first, op.bias))
        return {
            name: torch.from_numpy(np.concatenate(list(dict(sorted(rows, key=lambda row: row[0])).values())))
            for name, rows in parts.items()
        }

    @classmethod
    def from_module(
        cls,
        module: torch.nn.Module,
        example_input: torch.Tensor | Array,
        *,
        name: str | None = None,
        fold_normalisation: bool = False,
        keep_example: bool = True,
    ) -> Network:
        """The graph of any ``torch.nn.Module``, nested ones included, captured on an example input (batch first)."""
        from dchw.importers.torch.module import network_from_module

        return network_from_module(
            module, example_input, name=name, fold_normalisation=fold_normalisation, keep_example=keep_example
        )

    @classmethod
    def from_arrays(
        cls,
        name: str,
        weights: Mapping[str, Array],
        *,
        inputs: Mapping[str, Array] | None = None,
        biases: Mapping[str, Array] | None = None,
        geometry: Mapping[str, Geometry] | None = None,
        activation: str | None = None,
        notes: Sequence[str] = (),
    ) -> Network:
        """A network of independent layers from arrays: each layer reads its own input.

        ``weights[layer]`` is [out, in] or [out, in/groups, kh, kw]; a convolution needs ``geometry[layer]``.
        ``inputs[layer]`` (without batch axis for one vector, or with one) becomes that layer's recorded input; a
        layer without one gets seeded activations when simulated. ``activation`` is applied after every layer.
        """
        from dchw.importers.arrays import network_from_arrays

        return network_from_arrays(
            name,
            weights,
            inputs=inputs or {},
            biases=biases or {},
            geometry=geometry or {},
            activation=activation,
            notes=notes,
        )

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (Network, _fields(self))

    def _layer(self, op: Operation) -> Layer:
        assert op.weight is not None
        source = self._shape_of(op.inputs[0])
        if op.kind is OperationKind.CONV2D:
            geometry = Geometry.of_convolution(op.attributes, op.weight.shape, source[-2:])
        else:
            # a linear layer over several positions (tokens) is a 1x1 convolution over them
            positions = math.prod(source[:-1]) if len(source) > 1 else 1
            geometry = Geometry(in_channels=op.weight.shape[1], out_channels=op.weight.shape[0], in_size=(positions, 1))
        return Layer(
            name=op.name,
            weight=op.weight,
            bias=op.bias,
            geometry=geometry,
            kind=op.kind,
            input=op.inputs[0],
            parameter=op.parameter or f"{op.name}.weight",
        )

    def _shape_of(self, name: str) -> tuple[int, ...]:
        shape = self.operation(name).output_shape
        if shape is None:
            raise DchwError(f"network {self.name}: the output shape of {name!r} is unknown; give an example input")
        return shape


def uncompressed(network: Network) -> list[tuple[str, str]]:
    """What the network holds besides its layers' weights: (name, why it is not compressed), in order."""
    out = []
    for op in network.operations:
        if op.kind is OperationKind.CONSTANT:
            out.append((op.name, op.attributes.get("reason", "used directly, not as the weights of a layer")))
        elif op.kind is OperationKind.NORMALISATION and "scale" in op.attributes:
            out.append((op.name, "a scale and a shift per channel, too few values to share"))
        elif op.kind is OperationKind.OTHER:
            target = op.attributes.get("target", "an unknown operation")
            reason = f"belongs to {target!r}, which is neither a linear layer nor a 2-D convolution"
            out += [(name, reason) for name in op.attributes.get("parameters", ())]
    return out


def placeholder(shape: Sequence[int]) -> FloatArray:
    """Zeros of a shape that take no memory: one value, broadcast, read-only."""
    return np.broadcast_to(np.zeros((), np.float32), tuple(shape))


def _read_only(value: Array) -> FloatArray:
    if isinstance(value, np.ndarray) and value.dtype == np.float32 and not value.flags.writeable:
        return value
    array = np.array(value, dtype=np.float32, order="C")
    array.flags.writeable = False
    return array


def _distinct(value: Array) -> Array:
    """The array without repeats along broadcast axes."""
    return value[tuple(slice(0, 1) if stride == 0 else slice(None) for stride in value.strides)]


def _fields(value: Any) -> dict[str, Any]:
    """Constructor arguments of an immutable value, with read-only mappings made plain so that they pickle."""
    plain = {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
    return {key: dict(item) if isinstance(item, MappingProxyType) else item for key, item in plain.items()}


def _rebuild(kind: Any, arguments: dict[str, Any]) -> Any:
    return kind(**arguments)
