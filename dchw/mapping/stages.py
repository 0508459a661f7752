"""Stages of a workload: each layer with the operations behind it, and which tensors cross to DRAM.

A tensor stays in the activation SRAM from the stage that makes it to the last that reads it, if everything live at its
making fits; otherwise it is written to DRAM and read again by every stage that needs it. Inputs come from DRAM, results
go there.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from dchw.formats import Coded, Entries, Need, PackedLayer, StorageFormat, Unpacked, storage_format
from dchw.graph.coverage import STORED_BYTES
from dchw.graph.geometry import Geometry
from dchw.graph.network import FloatArray, Network, OperationKind
from dchw.graph.operations import ROUTING
from dchw.machines.machine import Machine
from dchw.mapping.tiling import Tiling
from dchw.vocabulary import Stream


@dataclass(frozen=True, kw_only=True, eq=False)
class LayerWork:
    """What the machine does for one layer."""

    name: str
    geometry: Geometry
    packed: PackedLayer
    weights: Unpacked
    """What decoding the packed bits gave."""
    tiling: Tiling
    activity: npt.NDArray[np.uint16] | npt.NDArray[np.uint32]
    """[passes, jobs]: groups of lanes with a non-zero activation; 0: the column is not broadcast."""
    input_nonzeros: int
    """Non-zero values among the inputs of all jobs and pixels."""
    multiplications: int
    """Products of a stored non-zero weight and an output pixel, zero activations included."""

    @property
    def form(self) -> StorageFormat:
        """How the weights lie in DRAM."""
        return storage_format(self.packed.storage)

    def needs(self, need: Need) -> bool:
        """Whether a unit is involved in working this layer."""
        return need in self.form.needs

    @property
    def entries(self) -> Entries:
        """The decoded entries of a layer stored with positions."""
        assert isinstance(self.weights, Entries), f"{self.form.name} has no entries"
        return self.weights

    @property
    def coded(self) -> Coded:
        """What the decode units work through, for formats that need them."""
        assert self.weights.coded is not None, f"{self.form.name} needs decode units but says nothing of code words"
        return self.weights.coded

    @property
    def rows(self) -> int:
        """Output rows of one group: weights of a column."""
        return self.geometry.out_channels // self.geometry.groups

    @property
    def entry_bits(self) -> int:
        """Width of one entry or weight at fixed width, as an SRAM holds it uncoded."""
        return self.form.entry_bits(self.packed)

    @property
    def starts_bits(self) -> int:
        """Bits of the column starts that decode units write beside the entries they decode at load: a count for every
        run. 0 where the DRAM holds them."""
        if not self.form.positions or not self.needs(Need.DECODER) or Stream.POINTERS in self.packed.regions:
            return 0
        counts = self.entries.run_count
        return counts.size * int(counts.max(initial=0)).bit_length()

    @property
    def stored_weights(self) -> int:
        """Weights that are not pruned."""
        return self.multiplications // self.tiling.pixels

    @property
    def output_values(self) -> int:
        """Values the layer gives, over the whole batch."""
        return self.geometry.out_channels * self.tiling.pixels


@dataclass(frozen=True, kw_only=True, eq=False)
class Stage:
    """A layer with the operations that follow it before the next one, and the tensors it moves to and from DRAM."""

    layer: LayerWork
    vector_values: int
    """Values read by the operations that follow, beyond the layer's own outputs."""
    product_macs: int
    """Multiply-accumulates of products of two activations among them."""
    loads: Mapping[str, int]
    """Tensors read from DRAM for this stage and their bytes."""
    stores: Mapping[str, int]
    """Tensors, or this stage's share of them, written to DRAM and their bytes."""
    completes: bool
    """Whether the layer is complete with this stage; False for all but the last of a layer cut into rows."""


def group_stages(
    graph: Network,
    works: Mapping[str, list[LayerWork]],
    values: Mapping[str, FloatArray],
    machine: Machine,
    parameter_bytes: Mapping[str, int],
) -> tuple[Stage, ...]:
    """Group operations behind their layer and decide, by what is live, which tensors leave the chip.

    ``parameter_bytes``: what operations read of parameters of their own, once, as they are worked.
    """
    order = list(works)
    stage_of: dict[str, int] = {}
    for op in graph.operations:
        before = max((stage_of[name] for name in op.inputs), default=-1)
        stage_of[op.name] = order.index(op.name) if op.name in works else max(before, 0)
    readers: dict[str, list[int]] = {op.name: [] for op in graph.operations}
    for op in graph.operations:
        for name in op.inputs:
            readers[name].append(stage_of[op.name])
    result = {op.name for op in graph.operations if not readers[op.name]}
    bits = machine.formats.activations.bits
    sizes = {name: math.ceil(value.size * bits / 8) for name, value in values.items()}
    sizes |= {
        op.name: STORED_BYTES * values[op.name].size for op in graph.operations if op.kind is OperationKind.CONSTANT
    }
    kept: dict[str, int] = {}  # tensors on chip -> bytes
    loads: list[dict[str, int]] = [{} for _ in order]
    stores: list[dict[str, int]] = [{} for _ in order]
    on_dram = {op.name for op in graph.operations if op.kind in (OperationKind.INPUT, OperationKind.CONSTANT)}
    stays = {name for name, size in sizes.items() if 2 * size <= machine.activation_sram.size_bytes}
    for index in range(len(order)):
        for op in graph.operations:
            if stage_of[op.name] != index:
                continue
            for name in op.inputs:
                if name in on_dram and name not in kept and name not in loads[index]:
                    loads[index][name] = sizes[name]
        for name in loads[index]:
            if max(readers[name]) > index and sum(kept.values()) + sizes[name] <= machine.activation_sram.size_bytes:
                kept[name] = sizes[name]
        for name, stage in stage_of.items():
            if stage != index or name in on_dram:
                continue
            if name in result:
                stores[index][name] = sizes[name]
            elif max(readers[name]) > index:
                live = sum(size for other, size in kept.items() if max(readers[other]) >= index)
                if live + sizes[name] <= machine.activation_sram.size_bytes:
                    kept[name] = sizes[name]
                else:
                    stores[index][name] = sizes[name]
                    on_dram.add(name)
        kept = {name: size for name, size in kept.items() if max(readers[name]) > index}
    for name, size in parameter_bytes.items():
        loads[stage_of[name]][f"{name} (parameters)"] = size
        stays.add(f"{name} (parameters)")
    stages = []
    for index, name in enumerate(order):
        parts = works[name]
        for number, work in enumerate(parts):
            last = number == len(parts) - 1
            again = loads[index] if number == 0 else {t: size for t, size in loads[index].items() if t not in stays}
            stages.append(
                Stage(
                    layer=work,
                    vector_values=_vector_values(graph, stage_of, index, name, values) if last else 0,
                    product_macs=_product_macs(graph, stage_of, index, values) if last else 0,
                    loads=again,
                    stores={tensor: _share(size, number, len(parts)) for tensor, size in stores[index].items()},
                    completes=last,
                )
            )
    return tuple(stages)


def _share(size: int, number: int, parts: int) -> int:
    return size * (number + 1) // parts - size * number // parts


_FREE = ROUTING | {OperationKind.MATMUL}
"""Operations that read nothing through the vector unit: they rename or route values, or are counted as products."""


def _vector_values(
    graph: Network, stage_of: Mapping[str, int], index: int, layer: str, values: Mapping[str, FloatArray]
) -> int:
    total = 0
    for op in graph.operations:
        if op.name == layer and op.kind is OperationKind.RECURRENT:
            total += 2 * values[op.inputs[0]].size  # gates of the inputs and of the state
        if stage_of[op.name] != index or op.name == layer or op.kind in _FREE:
            continue
        if op.kind is OperationKind.ACTIVATION and op.inputs == (layer,):
            continue  # applied to the layer's outputs on their way
        total += sum(values[name].size for name in op.inputs)
    return total


def _product_macs(graph: Network, stage_of: Mapping[str, int], index: int, values: Mapping[str, FloatArray]) -> int:
    return sum(
        values[op.name].size * values[op.inputs[0]].shape[-1]
        for op in graph.operations
        if op.kind is OperationKind.MATMUL and stage_of[op.name] == index
    )
