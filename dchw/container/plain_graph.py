"""The graph of a network as compact plain values, so that the header of a small network's file stays small.

A graph is the list ``[name, operations, notes, number_format, left_out, inner_outputs]``, whose entries a file's
description has together with recipe and results (`dchw.container.envelope` gives their order). An operation is the list
``[kind, name, weight, attributes, inputs, shape, parameter]``; trailing entries that hold their default are left out.

- *kind*: place in `KINDS`, or its text if it is not there.
- *name*: text; 0 for an operation with weights, whose name is that of the next layer tensor in the file.
- *weight*: 0 for none; ``[out]`` for a linear layer, ``[out, kernel height, kernel width]`` for a convolution, the
  input side following from what the layer reads; the whole shape where that is unknown.
- *attributes*: a mapping without those that equal `DEFAULT_ATTRIBUTES`; arrays stand in tensors of their own, and
  infinite values are the texts ``inf`` and ``-inf``.
- *inputs*: 0 for the operation before (none for an input), otherwise how many operations back each input is.
- *shape*: 0 if `infer_shape` gives it, null if unknown, otherwise the output shape without its batch axis.
- *parameter*: 0 for ``NAME.weight``, otherwise text or null.

The inner outputs are places of operations.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from dchw.graph.coverage import LeftOut
from dchw.graph.geometry import Geometry
from dchw.graph.network import Array, FloatArray, Network, Operation, OperationKind, placeholder
from dchw.quantities import DchwError

Shape = tuple[int, ...]

KINDS = [
    "input",
    "constant",
    "linear",
    "conv2d",
    "max_pool2d",
    "average_pool2d",
    "global_average_pool",
    "mean",
    "add",
    "multiply",
    "concat",
    "slice",
    "pad",
    "activation",
    "normalisation",
    "matmul",
    "flatten",
    "reshape",
    "identity",
    "other",
    "conv1d",
    "conv3d",
    "recurrent",
    "embedding",
    "fold",
    "gather",
    "resize",
    "elementwise",
    "reduce",
]
"""Order of kinds in format version 1; never reordered, only lengthened."""

DEFAULT_ATTRIBUTES: Mapping[str, Mapping[str, Any]] = {
    "conv2d": {"stride": (1, 1), "padding": (0, 0), "dilation": (1, 1), "groups": 1},
    "max_pool2d": {"padding": (0, 0), "dilation": (1, 1), "ceil_mode": False},
    "average_pool2d": {"padding": (0, 0), "ceil_mode": False, "count_include_pad": True},
    "activation": {"function": "relu"},
    "concat": {"axis": 1},
}
"""Attributes that are left out when they have these values and come back when read; frozen in version 1."""

MOST_WEIGHTS = 2**30
"""Weights of a layer that a reader accepts: beyond it the header is taken for damaged."""


def encode_graph(network: Network) -> tuple[list[Any], dict[str, FloatArray]]:
    """Plain values of a graph, and the arrays among its attributes under ``OPERATION:ATTRIBUTE``."""
    arrays: dict[str, FloatArray] = {}
    places = {op.name: i for i, op in enumerate(network.operations)}
    shapes: dict[str, Shape | None] = {}
    operations = []
    for place, op in enumerate(network.operations):
        told = {}
        for key, value in op.attributes.items():
            if isinstance(value, np.ndarray):
                arrays[f"{op.name}:{key}"] = np.ascontiguousarray(value, dtype=np.float32)
            elif _tuples(plain(value)) != DEFAULT_ATTRIBUTES.get(op.kind, {}).get(key):
                told[key] = plain(value)
        sources = [shapes[name] for name in op.inputs]
        back = [place - places[name] for name in op.inputs]
        previous = [] if op.kind is OperationKind.INPUT else [1]
        inferred = infer_shape(op, sources)
        shapes[op.name] = op.output_shape
        shape: Any = 0 if op.output_shape == inferred else None if op.output_shape is None else list(op.output_shape)
        row: list[Any] = [
            KINDS.index(op.kind) if op.kind in KINDS else str(op.kind),
            op.name if op.weight is None else 0,
            0 if op.weight is None else _short_shape(op, sources),
            told or 0,
            0 if back == previous else back,
            shape,
            0 if op.parameter in (None, f"{op.name}.weight") else op.parameter,
        ]
        operations.append(_without_trailing(row))
    left_out = [[one.name, one.parameters, one.reason] for one in network.left_out]
    inner = [places[name] for name in network.inner_outputs]
    return [network.name, operations, list(network.notes), network.number_format, left_out, inner], arrays


def decode_graph(
    rows: Sequence[Any], layer_names: Sequence[str], arrays: Mapping[str, Array], examples: Mapping[str, Array]
) -> Network:
    """The network of `encode_graph` with zero-strided weights; raises for anything that does not hold together."""
    if not all(isinstance(row, list) for row in rows[1]):
        raise TypeError("expected operations as lists")
    name, operations, notes, number_format, left_out, inner = rows
    names = iter(layer_names)
    built: list[Operation] = []
    for row in operations:
        built.append(_operation(row, built, names, arrays))
    if next(names, None) is not None:
        raise DchwError("more layer tensors than layers in the graph")
    if not isinstance(name, str) or not isinstance(number_format, str) or not all(isinstance(x, str) for x in notes):
        raise TypeError("expected text")
    return Network(
        name=name,
        operations=tuple(built),
        example_inputs=dict(examples),
        notes=tuple(notes),
        number_format=number_format,
        left_out=tuple(
            LeftOut(name=str(one), parameters=_whole(count), reason=str(why)) for one, count, why in left_out
        ),
        inner_outputs=tuple(built[_whole(place)].name for place in inner),
    )


def _operation(row: list[Any], built: list[Operation], names: Iterator[str], arrays: Mapping[str, Array]) -> Operation:
    if not 1 <= len(row) <= 7:
        raise ValueError("expected an operation of one to seven entries")
    label, name, weight, attributes, back, shape, parameter = (row + [0] * 7)[:7]
    kind = OperationKind(label if isinstance(label, str) else KINDS[_whole(label)])
    if weight:
        name = next(names, None)
    if not isinstance(name, str):
        raise TypeError("expected the name of an operation")
    if back == 0:
        back = [] if kind is OperationKind.INPUT else [1]
    inputs = tuple(built[len(built) - _whole(distance, least=1)] for distance in back if distance <= len(built))
    if len(inputs) != len(back):
        raise ValueError("an operation reads one before the first")
    full = dict(DEFAULT_ATTRIBUTES.get(kind, {}))
    full |= {str(key): _tuples(value) for key, value in (attributes or {}).items()}
    prefix = f"{name}:"
    full |= {key.removeprefix(prefix): array for key, array in arrays.items() if key.rpartition(":")[0] == name}
    sources = [source.output_shape for source in inputs]
    weights = None
    if weight:
        dims = _full_shape(kind, [_whole(n, least=1) for n in weight], full, sources)
        weights = placeholder(dims)
    op = Operation(
        name=name,
        kind=kind,
        inputs=tuple(source.name for source in inputs),
        attributes=full,
        weight=weights,
        parameter=f"{name}.weight" if parameter == 0 and weight else parameter or None,
    )
    output = infer_shape(op, sources) if shape == 0 else None if shape is None else tuple(_whole(n) for n in shape)
    return Operation(**{**{f: getattr(op, f) for f in _FIELDS}, "output_shape": output})


_FIELDS = ("name", "kind", "inputs", "attributes", "weight", "parameter")


def infer_shape(op: Operation, sources: Sequence[Shape | None]) -> Shape | None:
    """Output shape without batch axis where a fixed rule gives it, else None. Part of the format: never changed."""
    if not sources or any(source is None for source in sources):
        return None
    first = sources[0]
    assert first is not None
    kind, attributes = op.kind, op.attributes
    if kind in (OperationKind.ACTIVATION, OperationKind.IDENTITY, OperationKind.ADD, OperationKind.NORMALISATION):
        return first
    if kind is OperationKind.FLATTEN:
        return (math.prod(first),)
    if kind is OperationKind.LINEAR and op.weight is not None:
        return (*first[:-1], op.weight.shape[0])
    if kind is OperationKind.CONV2D and op.weight is not None and len(first) == 3:
        geometry = Geometry(
            in_channels=first[0],
            out_channels=op.weight.shape[0],
            kernel=(op.weight.shape[2], op.weight.shape[3]),
            stride=attributes.get("stride", (1, 1)),
            padding=attributes.get("padding", (0, 0)),
            dilation=attributes.get("dilation", (1, 1)),
            groups=attributes.get("groups", 1),
            in_size=(first[1], first[2]),
        )
        return (geometry.out_channels, *geometry.out_size)
    if kind in (OperationKind.MAX_POOL2D, OperationKind.AVERAGE_POOL2D) and len(first) == 3:
        kernel, padding = attributes["kernel"], attributes.get("padding", (0, 0))
        stride = attributes.get("stride", kernel)
        up = [stride[i] - 1 if attributes.get("ceil_mode", False) else 0 for i in (0, 1)]
        return (first[0], *((first[1 + i] + 2 * padding[i] - kernel[i] + up[i]) // stride[i] + 1 for i in (0, 1)))
    if kind is OperationKind.GLOBAL_AVERAGE_POOL and len(first) == 3:
        return (first[0], *attributes.get("output", (1, 1)))
    if kind is OperationKind.CONCAT and attributes.get("axis") == 1:
        rest = {source[1:] for source in sources if source is not None}
        if len(rest) == 1:
            return (sum(source[0] for source in sources if source is not None), *first[1:])
    return None


def _short_shape(op: Operation, sources: Sequence[Shape | None]) -> list[int]:
    assert op.weight is not None
    shape = op.weight.shape
    short = [shape[0], *shape[2:]]
    try:
        if len(short) < len(shape) and _full_shape(op.kind, short, op.attributes, sources) == shape:
            return short
    except (DchwError, ValueError):
        pass
    return list(shape)


def _full_shape(
    kind: OperationKind, dims: list[int], attributes: Mapping[str, Any], sources: Sequence[Shape | None]
) -> Shape:
    rank = {OperationKind.CONV1D: 3, OperationKind.CONV2D: 4, OperationKind.CONV3D: 5}.get(kind, 2)
    if len(dims) == rank - 1:
        source = sources[0] if sources else None
        if source is None or not source:
            raise DchwError("a layer's input shape is unknown")
        width = source[-1] if rank == 2 else source[0] // attributes.get("groups", 1)
        dims = [dims[0], width, *dims[1:]]
    if len(dims) != rank or math.prod(dims) > MOST_WEIGHTS or min(dims) < 1:
        raise DchwError(f"a layer's weight shape {dims} cannot be")
    return tuple(dims)


def _without_trailing(row: list[Any]) -> list[Any]:
    while len(row) > 1 and row[-1] == 0 and row[-1] is not None:
        row.pop()
    return row


def _whole(value: Any, *, least: int = 0) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise ValueError(f"expected a whole number of at least {least}")
    return value


def plain(value: Any) -> Any:
    """Plain values for JSON: mappings, lists and Python numbers, endless ones as text."""
    if isinstance(value, tuple | list):
        return [plain(item) for item in value]
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, float) and math.isinf(value):
        return "inf" if value > 0 else "-inf"  # JSON has no word for it
    return value.item() if isinstance(value, np.generic) else value


def _tuples(value: Any) -> Any:
    if isinstance(value, str) and value in ("inf", "-inf"):
        return float(value)
    return tuple(_tuples(item) for item in value) if isinstance(value, list) else value
