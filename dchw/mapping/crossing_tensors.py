"""Which tensors cross to DRAM.

A tensor stays in the activation SRAM from the layer that makes it to the last that reads it, if everything live at its
making fits; otherwise it is written to DRAM and read again by every layer that needs it. Inputs come from DRAM, results
go there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from dchw.graph.network import Network, OperationKind


@dataclass(frozen=True, kw_only=True)
class TensorPlan:
    """What every layer, with the operations behind it, reads from DRAM and writes there."""

    stage_of: Mapping[str, int]
    """Index of the layer that each operation is worked with."""
    loads: tuple[Mapping[str, int], ...]
    """Per layer: tensors read from DRAM and their bytes."""
    stores: tuple[Mapping[str, int], ...]
    """Per layer: tensors written to DRAM and their bytes."""


def plan_tensors(graph: Network, layers: Sequence[str], sizes: Mapping[str, int], sram_bytes: int) -> TensorPlan:
    """Decide by what is live. ``sizes`` gives the bytes of every operation's value."""
    stage_of: dict[str, int] = {}
    for op in graph.operations:
        before = max((stage_of[name] for name in op.inputs), default=-1)
        stage_of[op.name] = layers.index(op.name) if op.name in layers else max(before, 0)
    readers: dict[str, list[int]] = {op.name: [] for op in graph.operations}
    for op in graph.operations:
        for name in op.inputs:
            readers[name].append(stage_of[op.name])
    result = {op.name for op in graph.operations if not readers[op.name]}
    kept: dict[str, int] = {}  # tensors on chip -> bytes
    loads: list[dict[str, int]] = [{} for _ in layers]
    stores: list[dict[str, int]] = [{} for _ in layers]
    on_dram = {op.name for op in graph.operations if op.kind in (OperationKind.INPUT, OperationKind.CONSTANT)}
    for index in range(len(layers)):
        for op in graph.operations:
            if stage_of[op.name] != index:
                continue
            for name in op.inputs:
                if name in on_dram and name not in kept and name not in loads[index]:
                    loads[index][name] = sizes[name]
        for name in loads[index]:
            if max(readers[name]) > index and sum(kept.values()) + sizes[name] <= sram_bytes:
                kept[name] = sizes[name]
        for name, stage in stage_of.items():
            if stage != index or name in on_dram:
                continue
            if name in result:
                stores[index][name] = sizes[name]
            elif max(readers[name]) > index:
                live = sum(size for other, size in kept.items() if max(readers[other]) >= index)
                if live + sizes[name] <= sram_bytes:
                    kept[name] = sizes[name]
                else:
                    stores[index][name] = sizes[name]
                    on_dram.add(name)
        kept = {name: size for name, size in kept.items() if max(readers[name]) > index}
    return TensorPlan(stage_of=stage_of, loads=tuple(loads), stores=tuple(stores))
