"""Folding batch normalisation into the layer before it, and recording that."""

from __future__ import annotations

import dataclasses
from collections import Counter

import numpy as np

from dchw.graph.network import Network
from dchw.graph.operations import CONVOLUTIONS, Operation, OperationKind


def fold_batch_normalisation(network: Network) -> Network:
    """The same function with every batch normalisation that directly follows a layer folded into it.

    One is left alone where the layer's output is read elsewhere too or an output of the network, its weights are
    shared, or its channels are not the layer's outputs. The folded layer's weights are no longer those of the module,
    which ``notes`` says.
    """
    normalisations = foldable(network)
    renamed: dict[str, str] = {}
    operations: list[Operation] = []
    notes = list(network.notes)
    for op in network.operations:
        if op.name in renamed:
            continue
        changed = dataclasses.replace(op, inputs=tuple(renamed.get(source, source) for source in op.inputs))
        normalisation = normalisations.get(op.name)
        if normalisation is not None:
            assert op.weight is not None
            scale, shift = normalisation.attributes["scale"], normalisation.attributes["shift"]
            weight = op.weight * scale.reshape(-1, *(1,) * (op.weight.ndim - 1))
            bias = shift if op.bias is None else op.bias * scale + shift
            changed = dataclasses.replace(
                changed,
                weight=weight.astype(np.float32),
                bias=bias.astype(np.float32),
                attributes={**op.attributes, "folded": True},
            )
            renamed[normalisation.name] = op.name
        operations.append(changed)
    if renamed:
        notes.append(f"{len(renamed)} batch normalisations are folded into the layers before them")
    outputs = tuple(renamed.get(name, name) for name in network.inner_outputs)
    return dataclasses.replace(network, operations=tuple(operations), notes=tuple(notes), inner_outputs=outputs)


def foldable(network: Network) -> dict[str, Operation]:
    """The batch normalisations that can be folded, by the name of the layer that each directly follows."""
    readers = Counter(source for op in network.operations for source in op.inputs)
    shared = {op.shares for op in network.operations}  # other uses would change too
    operations = {op.name: op for op in network.operations}
    return {
        op.inputs[0]: op
        for op in network.operations
        if op.kind is OperationKind.NORMALISATION
        and op.attributes["form"] == "batch"
        and readers[op.inputs[0]] == 1
        and op.inputs[0] not in shared
        and op.inputs[0] not in network.inner_outputs
        and _per_channel(operations[op.inputs[0]])
    }


def _per_channel(op: Operation) -> bool:
    if op.weight is None:
        return False
    if op.kind in CONVOLUTIONS:
        return True
    return op.kind is OperationKind.LINEAR and op.output_shape is not None and len(op.output_shape) == 1
