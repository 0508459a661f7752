"""A network of independent layers, each reading its own input, from plain arrays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

import numpy as np

from dchw.graph.forward import ACTIVATIONS
from dchw.graph.geometry import Geometry
from dchw.graph.network import Array, FloatArray, Network, Operation, OperationKind
from dchw.quantities import DchwError, nearest

_CONVOLUTION = MappingProxyType({3: OperationKind.CONV1D, 4: OperationKind.CONV2D, 5: OperationKind.CONV3D})
"""Kind of a convolution by the axes of its weight."""


def network_from_arrays(
    name: str,
    weights: Mapping[str, Array],
    *,
    inputs: Mapping[str, Array],
    biases: Mapping[str, Array],
    geometry: Mapping[str, Geometry],
    activation: str | None,
    notes: Sequence[str] = (),
) -> Network:
    """See `Network.from_arrays`. Every layer L becomes the operations ``L.input``, ``L`` and ``L.activation``.

    A linear layer whose geometry has an in_size above 1 works on that many positions: its input is [positions, in].
    """
    if not weights:
        raise DchwError(f"network {name}: expected the weights of at least one layer; got none; give some")
    for what, given in (("input", inputs), ("bias", biases), ("geometry", geometry)):
        for layer in given:
            if layer not in weights:
                raise DchwError(f"network {name}: no weights for the {what} of {layer!r}; {nearest(layer, weights)}")
    if activation is not None and activation not in ACTIVATIONS:
        raise DchwError(f"network {name}: activation {activation!r} is unknown; {nearest(activation, ACTIVATIONS)}")
    operations: list[Operation] = []
    examples: dict[str, FloatArray] = {}
    for layer, values in weights.items():
        weight = np.asarray(values)
        where = f"network {name}, layer {layer!r}"
        if not np.issubdtype(weight.dtype, np.number) or np.iscomplexobj(weight):
            raise DchwError(f"{where}: expected real numbers as weights; got {weight.dtype}; convert them to float32")
        shape = _input_shape(where, weight, geometry.get(layer))
        source = f"{layer}.input"
        operations.append(Operation(name=source, kind=OperationKind.INPUT, output_shape=shape))
        operations.append(_layer(where, layer, weight, biases.get(layer), source, shape, geometry.get(layer)))
        if activation is not None:
            operations.append(
                Operation(
                    name=f"{layer}.activation",
                    kind=OperationKind.ACTIVATION,
                    inputs=(layer,),
                    attributes={"function": activation},
                    output_shape=operations[-1].output_shape,
                )
            )
        if layer in inputs:
            examples[source] = _batched(where, inputs[layer], shape)
    return Network(name=name, operations=tuple(operations), example_inputs=examples, notes=tuple(notes))


def _input_shape(where: str, weight: Array, geometry: Geometry | None) -> tuple[int, ...]:
    """Shape of one input without batch axis, after checking the weight's shape against the geometry."""
    if 0 in weight.shape:
        raise DchwError(f"{where}: expected at least one weight; got shape {weight.shape}; leave the layer out")
    if weight.ndim == 2:
        if geometry is None:
            return (weight.shape[1],)
        expected: tuple[int, ...] = (geometry.out_channels, geometry.in_channels)
        positions = geometry.in_size[0] * geometry.in_size[1]
        shape: tuple[int, ...] = (geometry.in_channels,) if positions == 1 else (positions, geometry.in_channels)
    elif weight.ndim in _CONVOLUTION:
        if geometry is None:
            raise DchwError(f"{where}: a convolution {weight.shape} needs its geometry; give geometry={{layer: ...}}")
        expected = (geometry.out_channels, geometry.in_channels // geometry.groups, *geometry.kernel)
        shape = (geometry.in_channels, *geometry.in_size)
    else:
        raise DchwError(
            f"{where}: expected weights [out, in] or [out, in/groups, kh, kw] (or one or three sizes of a kernel); got "
            f"shape {weight.shape}; reshape them"
        )
    if weight.shape != expected:
        raise DchwError(f"{where}: its geometry asks for weights {expected}; got {weight.shape}; correct one of them")
    return shape


def _layer(
    where: str,
    name: str,
    weight: Array,
    bias: Array | None,
    source: str,
    shape: tuple[int, ...],
    geometry: Geometry | None,
) -> Operation:
    if bias is not None and np.shape(bias) != weight.shape[:1]:
        raise DchwError(
            f"{where}: expected a bias of {weight.shape[0]} values; got shape {np.shape(bias)}; give one per output"
        )
    if weight.ndim == 2:
        return Operation(
            name=name,
            kind=OperationKind.LINEAR,
            inputs=(source,),
            weight=weight,
            bias=bias,
            output_shape=(*shape[:-1], weight.shape[0]),
        )
    assert geometry is not None
    return Operation(
        name=name,
        kind=_CONVOLUTION[weight.ndim],
        inputs=(source,),
        attributes={
            "stride": geometry.stride,
            "padding": geometry.padding,
            "dilation": geometry.dilation,
            "groups": geometry.groups,
        },
        weight=weight,
        bias=bias,
        output_shape=(geometry.out_channels, *geometry.out_size),
    )


def _batched(where: str, value: Array, shape: tuple[int, ...]) -> FloatArray:
    given = np.asarray(value, dtype=np.float32)
    if given.shape == shape:
        given = given[None]
    if given.shape[1:] != shape or given.shape[0] == 0:
        raise DchwError(
            f"{where}: expected an input of shape {shape}, a batch axis before it or not; got {given.shape}; reshape it"
        )
    if not np.isfinite(given).all():
        raise DchwError(f"{where}: expected finite inputs; got NaN or infinity among them; repair the recording")
    return given
