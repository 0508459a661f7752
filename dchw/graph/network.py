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
from functools import cached_property
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from dchw import showing
from dchw.extras import extras_named
from dchw.graph.coverage import Coverage, LeftOut, coverage
from dchw.graph.geometry import Geometry
from dchw.graph.operations import (
    CONVOLUTIONS,
    PRODUCTS,
    Array,
    FloatArray,
    Layer,
    Operation,
    OperationKind,
    fields_of,
    placeholder,
    read_only,
    rebuild,
)
from dchw.late import maker
from dchw.quantities import DchwError, nearest

if TYPE_CHECKING:
    import torch

__all__ = ["Array", "FloatArray", "Layer", "Network", "Operation", "OperationKind", "placeholder"]


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
    left_out: tuple[LeftOut, ...] = ()
    """Parameters of the source that no operation holds."""
    inner_outputs: tuple[str, ...] = ()
    """Operations whose values are outputs of the network although other operations read them too."""

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
        for name in self.inner_outputs:
            if name not in seen:
                raise DchwError(f"network {self.name}: output {name!r} is no operation; {nearest(name, seen)}")
        self._check_weights()
        _ = self.layers, self.uses  # every one has a geometry
        examples = {}
        for name, value in self.example_inputs.items():
            if name not in seen or self.operation(name).kind is not OperationKind.INPUT:
                raise DchwError(f"network {self.name}: example input {name!r} is not an input; {nearest(name, seen)}")
            examples[name] = read_only(value)
        object.__setattr__(self, "example_inputs", MappingProxyType(examples))

    def _check_weights(self) -> None:
        """Weights are finite, fit what they read, and are there for every operation that shares them."""
        for op in self.operations:
            for what, values in (("weights", op.weight), ("bias", op.bias)):
                distinct = None if values is None else _distinct(values)
                if distinct is not None and not np.isfinite(distinct).all():
                    raise DchwError(
                        f"network {self.name}, layer {op.name!r}: {what} must be finite; "
                        f"{int((~np.isfinite(distinct)).sum())} of {distinct.size} are NaN or infinite; "
                        "retrain or repair the checkpoint"
                    )
            projection = self._by_name.get(op.projection or "")
            if op.projection is not None and (projection is None or projection.kind is not OperationKind.LINEAR):
                raise DchwError(
                    f"network {self.name}: the projection of {op.name!r} is {op.projection!r}, which is no linear "
                    "layer; name one"
                )
            holder = self._by_name.get(op.shares or "")
            if op.shares is not None and (op.weight is not None or holder is None or holder.weight is None):
                raise DchwError(
                    f"network {self.name}: {op.name!r} shares the weights of {op.shares!r}, which has none; name an "
                    "operation that has"
                )

    @cached_property
    def layers(self) -> tuple[Layer, ...]:
        """The operations that hold weights, in order: each parameter once, however often it is used.

        Beside those that multiply weights they are the embedding tables that are to be compressed.
        """
        return tuple(self._layer(op, op) for op in self.operations if op.weight is not None)

    @cached_property
    def uses(self) -> tuple[Layer, ...]:
        """Every operation that multiplies weights, in order, with its own geometry.

        A layer that is used again appears under the name of each using operation; its ``holder`` is the layer. A table
        that is only looked up is not among them.
        """
        pairs = [(op, self._by_name[op.shares] if op.shares else op) for op in self.operations if op.kind in PRODUCTS]
        return tuple(self._layer(op, holder) for op, holder in pairs if holder.weight is not None)

    @cached_property
    def coverage(self) -> Coverage:
        """Where every parameter went: in a layer, stored as it is, or left out."""
        return coverage(self.operations, self.left_out)

    @cached_property
    def outputs(self) -> tuple[str, ...]:
        """The operations whose values the network gives, in order: those that nothing reads, and `inner_outputs`."""
        read = {source for op in self.operations for source in op.inputs}.difference(self.inner_outputs)
        return tuple(op.name for op in self.operations if op.name not in read)

    @cached_property
    def fixed(self) -> frozenset[str]:
        """Operations that no input reaches: a batch has their value once, with a batch axis of 1."""
        found: set[str] = set()
        for op in self.operations:
            if op.kind is OperationKind.CONSTANT or (op.inputs and found.issuperset(op.inputs)):
                found.add(op.name)
        return frozenset(found)

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

    def resolved(self, op: Operation) -> Operation:
        """An operation with the weights it uses in it, be they its own or another's."""
        if op.projection is not None:
            projection = self.resolved(self._by_name[op.projection]).weight
            op = dataclasses.replace(op, attributes={**op.attributes, "projection_weight": projection})
        if op.shares is None:
            return op
        holder = self._by_name[op.shares]
        bias = holder.bias if op.kind is not OperationKind.EMBEDDING and op.attributes.get("bias", True) else None
        return dataclasses.replace(op, weight=holder.weight, bias=bias)

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
        with extras_named():
            import torch

        parts: dict[str, list[tuple[int, FloatArray]]] = {}
        for op in self.operations:
            weight = self.resolved(op).weight
            if weight is None or op.kind is OperationKind.EMBEDDING or op.attributes.get("computed", False):
                continue
            if op.attributes.get("folded", False):
                raise DchwError(
                    f"network {self.name}, layer {op.name!r}: a batch normalisation is folded into its weights, which "
                    "no longer fit the module; import it with fold_normalisation=False"
                )
            parameter = op.parameter or f"{op.name}.weight"
            first = op.attributes.get("rows", (0, 0))[0]  # several layers may share a parameter, some rows each
            stored = _as_parameter(weight, self._by_name[op.shares or op.name].attributes)
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
        fold_normalisation: bool = True,
        keep_example: bool = True,
    ) -> Network:
        """The graph of any ``torch.nn.Module``, nested ones included, captured on an example input (batch first)."""
        network: Network = maker("Network.from_module")(
            module, example_input, name=name, fold_normalisation=fold_normalisation, keep_example=keep_example
        )
        return network

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
        network: Network = maker("Network.from_arrays")(
            name,
            weights,
            inputs=inputs or {},
            biases=biases or {},
            geometry=geometry or {},
            activation=activation,
            notes=notes,
        )
        return network

    def __reduce__(self) -> tuple[Any, ...]:
        return rebuild, (Network, fields_of(self))

    def _layer(self, op: Operation, holder: Operation) -> Layer:
        assert holder.weight is not None
        shape = holder.weight.shape
        source = self._shape_of(op.inputs[0])
        try:
            if op.kind in CONVOLUTIONS:
                geometry = Geometry.of_convolution(op.attributes, shape, source[1:])
            else:
                # a linear layer over several positions (tokens, steps) is a 1x1 convolution over them
                table = op.kind is OperationKind.EMBEDDING
                positions = math.prod(source if table else source[:-1])
                geometry = Geometry(in_channels=shape[1], out_channels=shape[0], in_size=(max(1, positions), 1))
        except DchwError as error:
            raise DchwError(f"network {self.name}, layer {op.name!r}: {error}") from error
        return Layer(
            name=op.name,
            weight=holder.weight,
            bias=holder.bias if op.attributes.get("bias", True) else None,
            geometry=geometry,
            kind=op.kind,
            input=op.inputs[0],
            parameter=holder.parameter or f"{holder.name}.weight",
            holder=holder.name,
            sequential=op.kind is OperationKind.RECURRENT,
        )

    def _shape_of(self, name: str) -> tuple[int, ...]:
        shape = self.operation(name).output_shape
        if shape is None:
            raise DchwError(f"network {self.name}: the output shape of {name!r} is unknown; give an example input")
        return shape

    def __repr__(self) -> str:
        weights = sum(layer.weight.size for layer in self.layers)
        names = [layer.name for layer in self.layers]
        shown = names if len(names) <= 5 else [*names[:3], "...", names[-1]]
        return showing.line("Network", self.name, f"{weights:,} weights in {len(names)} layers ({', '.join(shown)})")

    def _repr_html_(self) -> str:
        rows = [
            (layer.name, layer.kind.value, list(layer.weight.shape), f"{layer.weight.size:,}") for layer in self.layers
        ]
        return showing.table(f"Network {self.name}", ("layer", "kind", "shape", "weights"), rows)


def _as_parameter(weight: FloatArray, attributes: Mapping[str, Any]) -> FloatArray:
    """A layer's weight as it lies in the state dict it came from."""
    if attributes.get("transposed", False):
        return weight.T
    if "origin" in attributes:
        split, order, shape = attributes["origin"]
        return np.ascontiguousarray(weight.reshape(split).transpose(order)).reshape(shape)
    return weight


def _distinct(value: Array) -> Array:
    """The array without repeats along broadcast axes."""
    return value[tuple(slice(0, 1) if stride == 0 else slice(None) for stride in value.strides)]
