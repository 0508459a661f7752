"""Layers from a plain collection of named tensors, such as a checkpoint without a graph."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from dchw.graph.geometry import Geometry
from dchw.graph.network import Array, Network, Operation, OperationKind, placeholder
from dchw.importers.arrays import network_from_arrays
from dchw.importers.reparametrised import computed_weights
from dchw.quantities import DchwError, nearest

PartialGeometry = Geometry | Mapping[str, Any]
"""A layer's geometry, or a mapping of those of its fields that the weight's shape does not tell."""

_EMBEDDING = re.compile(r"(^|[._])(\w*embed(ding|dings|s)?|wte|wpe)([._]|$)", re.IGNORECASE)
_FROM_SHAPE = ("in_channels", "out_channels", "kernel")


def network_from_tensors(
    name: str,
    tensors: Mapping[str, Array],
    *,
    geometry: Mapping[str, PartialGeometry] | None = None,
    unreadable: Mapping[str, str] | None = None,
    notes: Sequence[str] = (),
    partial: bool = False,
) -> Network:
    """A network of independent layers, in the order of ``tensors``, named as they are without ``.weight``.

    2-D arrays are linear layers [out, in], 4-D ones convolutions where ``geometry`` has them (at least ``in_size``), as
    are 3-D and 5-D ones whose whole `Geometry` it has, from an ONNX file for instance.
    Everything else becomes a CONSTANT with the reason why it is not compressed; ``unreadable`` adds some that have a
    reason but no array. Masks and weight norm are worked out (`dchw.importers.reparametrised`).

    Raises DchwError where convolutions would be lost because their geometry is not known; with ``partial`` they are
    stored as they are and not computed. Arrays that are read-only and float32, such as memory-mapped ones, are kept
    without a copy.
    """
    geometry = geometry or {}
    tensors, computed = computed_weights(tensors)
    weights: dict[str, Array] = {}
    biases: dict[str, Array] = {}
    parameters: dict[str, str] = {}
    geometries: dict[str, Geometry] = {}
    left = [_constant(key, placeholder(()), reason) for key, reason in (unreadable or {}).items()]
    used: set[str] = set()
    for key, tensor in tensors.items():
        layer = key.removesuffix(".weight")
        if (key in used and key not in parameters.values()) or _reason(key, tensor, layer in geometry):
            continue
        weights[layer], parameters[layer] = tensor, key
        if layer in geometry:
            geometries[layer] = _geometry(name, layer, tensor, geometry[layer])
        bias = f"{key.removesuffix('weight')}bias"
        if key.split(".")[-1] == "weight" and bias in tensors and tensors[bias].shape == tensor.shape[:1]:
            biases[layer] = tensors[bias]
            used.add(bias)
        used.add(key)
    for layer in geometry:
        if layer not in weights:
            raise DchwError(f"{name}: geometry for {layer!r}, which is no layer here; {nearest(layer, weights)}")
    if not partial:
        _refuse_losses(name, tensors, geometry, unreadable or {})
    left += [
        _constant(key, tensor, _reason(key, tensor, False) or "belongs to no layer")
        for key, tensor in tensors.items()
        if key not in used
    ]
    if not weights:
        raise DchwError(
            f"{name}: expected at least one 2-D weight, or a 4-D one with its geometry; got none among "
            f"{len(tensors)} tensors; give geometry={{layer: ...}} or another file"
        )
    network = network_from_arrays(
        name, weights, inputs={}, biases=biases, geometry=geometries, activation=None, notes=(*notes, *computed)
    )
    operations = [
        dataclasses.replace(op, parameter=parameters[op.name]) if op.weight is not None else op
        for op in network.operations
    ]
    return dataclasses.replace(network, operations=(*operations, *left))


def _refuse_losses(
    name: str, tensors: Mapping[str, Array], geometry: Mapping[str, Any], unreadable: Mapping[str, str]
) -> None:
    """Convolutions without geometry, and arrays that cannot be read, are most of a network: say so and stop."""
    lost = {}
    for key, tensor in tensors.items():
        layer = key.removesuffix(".weight")
        # other numbers of axes are convolutions too where a bias lies beside them; without one they may be anything
        biased = key.endswith(".weight") and tensors.get(f"{layer}.bias", tensor).shape == tensor.shape[:1]
        unknown = tensor.ndim == 4 or (tensor.ndim in (3, 5) and biased)
        if unknown and layer not in geometry and tensor.size:
            lost[key] = tensor.size
    if not lost and not unreadable:
        return
    total = sum(tensor.size for tensor in tensors.values())
    listed = [f"{key} ({size:,})" for key, size in lost.items()] + [f"{key} ({why})" for key, why in unreadable.items()]
    shown = ", ".join(listed[:5]) + (f" and {len(listed) - 5} more" if len(listed) > 5 else "")
    share = f", {100 * sum(lost.values()) / total:.1f} % of the weights," if lost else ""
    raise DchwError(
        f"{name}: {len(listed)} of {len(tensors) + len(unreadable)} tensors{share} would not be computed, for a file "
        f"of weights says nothing of their geometry: {shown}; give --onnx FILE, --geometry FILE.json (in_size, "
        "stride, padding per layer) or the module to Network.from_module, or --partial (partial=True) to store them "
        "as they are"
    )


def _reason(key: str, tensor: Array, has_geometry: bool) -> str | None:
    """Why a tensor is no layer; None if it is one."""
    if tensor.size == 0:
        return "empty"
    if tensor.ndim == 2:
        return "an embedding table, which is looked up, not multiplied" if _EMBEDDING.search(key) else None
    if tensor.ndim in (3, 5) and has_geometry:
        return None
    if tensor.ndim == 4:
        return None if has_geometry else "a convolution whose geometry is not known; give at least its in_size"
    if tensor.ndim <= 1:
        return "a vector (bias, scale or shift), too few values to share"
    return f"has {tensor.ndim} axes, and nothing says that it is a convolution"


def _geometry(name: str, layer: str, weight: Array, given: PartialGeometry) -> Geometry:
    if isinstance(given, Geometry):
        return given
    fields = [f.name for f in dataclasses.fields(Geometry) if f.name not in _FROM_SHAPE]
    known: dict[str, Any] = {}
    for key, value in given.items():
        where = f"{name}, layer {layer!r}"
        if key not in fields:
            raise DchwError(f"{where}: unknown geometry field {key!r}; {nearest(key, fields)}")
        sides = [value, value] if isinstance(value, int) and key != "groups" else value
        whole = isinstance(sides, int) if key == "groups" else isinstance(sides, list | tuple) and len(sides) == 2
        if not whole or not all(isinstance(x, int) for x in (sides if key != "groups" else [sides])):
            raise DchwError(f"{where}: expected whole numbers (height, width) for {key}; got {value!r}; correct it")
        known[key] = sides if key == "groups" else (sides[0], sides[1])
    kernel = (weight.shape[2], weight.shape[3]) if weight.ndim == 4 else (1, 1)
    if weight.ndim == 4 and "in_size" not in known:
        raise DchwError(f"{name}, layer {layer!r}: its geometry needs in_size, height and width of the input; add it")
    inputs = weight.shape[1] * max(1, known.get("groups", 1))
    try:
        return Geometry(in_channels=inputs, out_channels=weight.shape[0], kernel=kernel, **known)
    except DchwError as error:
        raise DchwError(f"{name}, layer {layer!r}: {error}") from error


def _constant(key: str, value: Array, reason: str) -> Operation:
    return Operation(
        name=key,
        kind=OperationKind.CONSTANT,
        attributes={"value": np.asarray(value), "reason": reason},
        output_shape=tuple(value.shape),
    )
