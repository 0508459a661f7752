"""Stages of a workload: parts of a layer that fetch weights once each, with the operations behind the layer."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from dchw.formats import Coded, Entries, Need, PackedLayer, StorageFormat, Unpacked, storage_format
from dchw.graph.coverage import STORED_BYTES
from dchw.graph.geometry import Geometry
from dchw.graph.network import FloatArray, Network, OperationKind
from dchw.graph.operations import ROUTING
from dchw.machines.machine import Machine
from dchw.mapping.crossing_tensors import TensorPlanner
from dchw.mapping.rooms import tensor_room
from dchw.mapping.tiling import Sums, Tiling
from dchw.quantities import ceil_div
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
    input_span: tuple[int, int]
    """(first byte, bytes) of the layer's input that are fetched for this stage where the input lies in DRAM."""
    input_stays: bool
    """Whether the stage behind this one reads the same part of the input again."""
    input_blocks: int
    """Requests' worth of the activation SRAM that the layer's input may take."""
    covered: float
    """Share of the layer's outputs that are done with this stage."""
    side_by_side: int = 1
    """Groups of channels that every job broadcasts a column of, each to the elements that hold its rows; ``geometry``
    is then that of one product of all their rows."""

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

    def queues(self, elements: int) -> int:
        """Queues that a broadcast group of lanes is put into, over all groups of channels side by side."""
        if not self.form.positions:
            return self.side_by_side
        # consecutive rows lie on different elements: none of them holds two rows of one group
        return elements if self.side_by_side == 1 else self.rows

    def receivers(self, elements: int) -> int:
        """Processing elements that an activation is moved to, over all groups of channels side by side: those that
        hold a row of the product."""
        return min(elements, self.rows) if self.side_by_side == 1 else self.rows

    @property
    def blocks_of_chunks(self) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """int64[chunks]: block of columns in which each chunk is first needed, and the one in which it is last."""
        bounds = np.array(self.tiling.bounds(self.activity.shape[1]))
        first = np.searchsorted(bounds, self.packed.chunk_first_job, side="right") - 1
        last = np.searchsorted(bounds, np.maximum(self.packed.chunk_end_job, 1) - 1, side="right") - 1
        most = self.tiling.blocks - 1
        return np.clip(first, 0, most), np.clip(np.maximum(first, last), 0, most)

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

    @property
    def handed_sums(self) -> int:
        """Sums that elements hand over, those that are not complete included."""
        return self.output_values * (1 + self.partial_turns)

    @property
    def partial_turns(self) -> int:
        """How often the sums of a tile leave the elements before they are complete, and come back."""
        return 0 if self.tiling.sums is Sums.ACCUMULATORS else self.tiling.blocks - 1

    def sum_bytes(self, tile: int, sum_bits: int) -> int:
        """Bytes of a tile's partial sums."""
        return ceil_div(self.geometry.out_channels * self.tiling.pixels_in(tile) * sum_bits, 8)


def distinct_parts(works: Iterable[LayerWork]) -> list[LayerWork]:
    """One work for every part of rows: bands of pixels share their packed weights."""
    return list({id(work.packed): work for work in reversed(list(works))}.values())[::-1]


@dataclass(frozen=True, kw_only=True, eq=False)
class Stage:
    """A layer with the operations that follow it before the next one, and the tensors it moves to and from DRAM."""

    layer: LayerWork
    vector_values: int
    """Values read by the operations that follow, beyond the layer's own outputs."""
    product_macs: int
    """Multiply-accumulates of products of two activations among them."""
    layer_input: str
    """The tensor that the layer itself reads."""
    loads: Mapping[str, int]
    """Tensors read from DRAM for this stage and their bytes."""
    stores: Mapping[str, int]
    """Tensors, or this stage's share of them, written to DRAM and their bytes."""
    load_from: Mapping[str, int] = field(default_factory=dict)
    """First byte of a load within its tensor, where that is not 0."""
    held: Mapping[str, int] = field(default_factory=dict)
    """Tensors that lie in the activation SRAM whole meanwhile and their bytes; not the layer's input while it comes
    from DRAM, which is held in its own room."""
    completes: bool
    """Whether the layer is complete with this stage; False for all but the last of a layer cut into rows."""


def tensor_bytes(graph: Network, values: Mapping[str, FloatArray], machine: Machine) -> dict[str, int]:
    """Bytes of every operation's value: constants as they are stored, others in the machine's activation format."""
    bits = machine.formats.activations.bits
    sizes = {name: math.ceil(value.size * bits / 8) for name, value in values.items()}
    return sizes | {
        op.name: STORED_BYTES * values[op.name].size for op in graph.operations if op.kind is OperationKind.CONSTANT
    }


def group_stages(
    graph: Network,
    works: Mapping[str, list[LayerWork]],
    values: Mapping[str, FloatArray],
    machine: Machine,
    parameter_bytes: Mapping[str, int],
    released: Collection[str] = (),
) -> tuple[Stage, ...]:
    """The stages of every layer in order, each with the tensors, or its share of them, that it moves.

    ``parameter_bytes``: what operations read of parameters of their own, once, as they are worked; ``released``: layers
    with which no tensor begins to stay (`dchw.mapping.crossing_tensors`).
    """
    sizes = tensor_bytes(graph, values, machine)
    plan = TensorPlanner(graph, list(works), sizes, tensor_room(machine), released).plan()
    loads = [dict(tensors) for tensors in plan.loads]
    for name, size in parameter_bytes.items():
        loads[plan.stage_of[name]][f"{name} (parameters)"] = size
    inputs = {op.name: op.inputs[0] for op in graph.operations if op.name in works}
    stages = []
    for index, (name, parts) in enumerate(works.items()):
        done = 0.0
        spans = any(work.input_span[1] for work in parts)
        for number, work in enumerate(parts):
            last = number == len(parts) - 1
            mine, load_from = {}, {}
            for tensor, size in loads[index].items():
                if tensor == inputs[name] and spans:
                    load_from[tensor], size = work.input_span
                else:  # read behind the layer, with the outputs it belongs to
                    size = _share(size, done, work.covered)
                if size:
                    mine[tensor] = size
            stages.append(
                Stage(
                    layer=work,
                    vector_values=_vector_values(graph, plan.stage_of, index, name, values) if last else 0,
                    product_macs=_product_macs(graph, plan.stage_of, index, values) if last else 0,
                    layer_input=inputs[name],
                    loads=mine,
                    load_from=load_from,
                    stores={tensor: _share(size, done, work.covered) for tensor, size in plan.stores[index].items()},
                    held={t: s for t, s in plan.held[index].items() if t != inputs[name] or not spans},
                    completes=last,
                )
            )
            done = work.covered
    return tuple(stages)


def _share(size: int, before: float, after: float) -> int:
    """What lies between two shares of a tensor."""
    return round(size * after) - round(size * before)


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
