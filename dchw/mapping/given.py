"""What a network is given: its inputs, or seeded values where there are none; and what operations read of parameters
of their own."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from dchw.compression.compressed import CompressedNetwork
from dchw.formats import PackShape, lay_out
from dchw.graph.coverage import STORED_BYTES, Place
from dchw.graph.network import Array, FloatArray, Network, Operation, OperationKind
from dchw.quantities import DchwError, ceil_div

VALUE_BITS = 32
"""Codebook values and biases travel as float32, so that the simulated outputs can be checked against float32."""
SYNTHETIC_DENSITY = 0.5
"""Share of non-zero values where activations must be made up."""


def parameter_bytes(network: CompressedNetwork, storage: str, shape: PackShape, batch: int) -> dict[str, int]:
    """Bytes that operations other than layers read of their own parameters, by operation.

    What is stored as it is comes whole, of an embedding table the rows that are looked up. Of a compressed table those
    rows' share of its packed bytes comes: as if every row could be found, which a format must allow.
    """
    held = {layer.name: layer for layer in network.layers}
    out: dict[str, int] = {}
    read = {name for op in network.graph.operations for name in op.inputs}
    for row in network.coverage.at(Place.STORED):
        assert row.operation is not None
        op = network.graph.operation(row.operation)
        # a constant that is read is a tensor like others
        if op.kind is not OperationKind.CONSTANT or op.name not in read:
            many = batch if op.kind is OperationKind.EMBEDDING else 1
            values = min(row.parameters, row.read * many)
            out[op.name] = out.get(op.name, 0) + STORED_BYTES * values
    for op in network.graph.operations:
        table = held.get(op.shares or op.name) if op.kind is OperationKind.EMBEDDING else None
        if table is not None:
            packed = lay_out(table, storage, shape, value_bits=VALUE_BITS)
            rows, looked_up = table.codes.shape[0], batch * math.prod((op.output_shape or (1,))[:-1])
            out[op.name] = ceil_div(packed.total_bytes * min(rows, looked_up), rows)
    return out


def network_inputs(
    graph: Network, inputs: Mapping[str, Array] | None, batch: int, rng: np.random.Generator
) -> tuple[dict[str, FloatArray], str]:
    origin = "given input" if inputs is not None else "example input"
    given = graph.example_inputs if inputs is None else inputs
    out = {}
    for op in graph.operations:
        if op.kind is OperationKind.CONSTANT:
            out[op.name] = np.asarray(op.attributes["value"], dtype=np.float32)[None]
        if op.kind is not OperationKind.INPUT:
            continue
        if op.name in given:
            array = np.asarray(given[op.name], dtype=np.float32)
            if op.output_shape is not None and array.shape[1:] != op.output_shape:
                raise DchwError(
                    f"network {graph.name}, input {op.name!r}: expected shape {op.output_shape} behind a batch axis; "
                    f"got {array.shape}; reshape it"
                )
            if inputs is None:
                array = _lengthened(array, batch, rng)
            if array.shape[0] < batch:
                raise DchwError(
                    f"network {graph.name}, input {op.name!r}: expected at least {batch} rows; got {array.shape[0]}; "
                    "lower the batch or give more inputs"
                )
            out[op.name] = array[:batch]
        elif inputs is not None:
            raise DchwError(f"network {graph.name}: input {op.name!r} is missing; give an array for it")
        else:
            origin = "synthetic"
            out[op.name] = synthetic(op, batch, rng)
    return out, origin


def moved_examples(graph: Network, batch: int) -> list[str]:
    """What to note where a batch is longer than the recorded example."""
    rows = min((array.shape[0] for array in graph.example_inputs.values()), default=batch)
    if rows >= batch:
        return []
    return [f"assumed: {batch - rows} of the {batch} inputs are like the recorded example, moved along its axes"]


def _lengthened(example: FloatArray, batch: int, rng: np.random.Generator) -> FloatArray:
    """A recorded example, and further inputs made of it: moved around along rows and columns, or along their one axis.

    As many values are zero in each, but at other places: were they equal, a batch would skip what a single input skips.
    """
    rows, sizes = [example[:batch]], example.shape[1:][-2:]
    for index in range(example.shape[0], batch):
        moved = tuple(int(rng.integers(size)) for size in sizes)
        rows.append(np.roll(example[index % example.shape[0]], moved, tuple(range(-len(sizes), 0)))[None])
    return np.concatenate(rows)


def synthetic(op: Operation, batch: int, rng: np.random.Generator) -> FloatArray:
    if op.output_shape is None:
        raise DchwError(f"operation {op.name!r}: its output shape is unknown; record the network with an example input")
    shape = (batch, *op.output_shape)
    values = rng.random(shape, dtype=np.float32) + np.float32(0.1)
    return np.asarray(values * (rng.random(shape) < SYNTHETIC_DENSITY), dtype=np.float32)
