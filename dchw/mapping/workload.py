"""A workload: a compressed network packed for a machine and carried through with real activations.

Mapping packs every layer in one storage format, decodes the packed bits again, multiplies what it decoded with the
layer's input and hands the result on through the graph. What each processing element will do, cycle by cycle, is
settled by that: which entries, for which activations, in how many passes. Time comes later (`dchw.mapping.lower`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from dchw import functional
from dchw.compress.compressed import CompressedLayer, CompressedNetwork
from dchw.events import Stream
from dchw.hardware.machine import Machine
from dchw.mapping.tiling import Tiling, tile_layer
from dchw.network import Array, FloatArray, Geometry, Network, Operation, OperationKind
from dchw.quantities import DchwError, ceil_div
from dchw.storage import DenseWeights, PackedLayer, PackShape, Unpacked, pack, unpack, weight_matrix

VALUE_BITS = 32
"""Codebook values and biases travel as float32, so that the simulated outputs can be checked against float32."""
SYNTHETIC_DENSITY = 0.5
"""Share of non-zero values where activations must be made up."""


@dataclass(frozen=True, kw_only=True, eq=False)
class LayerWork:
    """What the machine does for one layer."""

    name: str
    geometry: Geometry
    packed: PackedLayer
    weights: Unpacked
    """What decoding the packed bits gave."""
    tiling: Tiling
    activity: npt.NDArray[np.uint16]
    """uint16[passes, jobs]: groups of lanes with a non-zero activation; 0: the column is not broadcast."""
    input_nonzeros: int
    """Non-zero values among the inputs of all jobs and pixels."""
    multiplications: int
    """Products of a stored non-zero weight and an output pixel, zero activations included."""

    @property
    def dense(self) -> bool:
        """Whether weights lie without positions, so that the array works in its dense mode."""
        return isinstance(self.weights, DenseWeights)

    @property
    def entry_bits(self) -> int:
        """Width of one entry (dense: one weight) at fixed width, as an SRAM holds it uncoded."""
        parameters = self.packed.parameters
        if isinstance(self.weights, DenseWeights):
            return 8 * self.packed.packed_bytes[Stream.WEIGHTS] // self.geometry.weights
        if parameters.code_bits:
            return parameters.index_bits + parameters.code_bits
        return int(self.weights.gap_bits[0]) + int(self.weights.code_bits[0]) if self.weights.job.size else 1

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


@dataclass(frozen=True, kw_only=True, eq=False)
class Workload:
    """A whole network as a machine will run it."""

    network: str
    machine: Machine
    storage: str
    batch: int
    stages: tuple[Stage, ...]
    outputs: Mapping[str, FloatArray]
    """What the simulated hardware computed: the outputs of the operations that nothing else reads."""
    activations: str
    """Where the activations came from: ``example input``, ``given input`` or ``synthetic``."""
    notes: tuple[str, ...] = ()

    @property
    def packed_bytes(self) -> int:
        """Bytes of all weight regions and tables, padding to bursts not included."""
        return sum(stage.layer.packed.total_bytes for stage in self.stages)


def map_network(
    network: CompressedNetwork,
    machine: Machine,
    storage: str = "huffman",
    *,
    inputs: Mapping[str, Array] | None = None,
    batch: int = 1,
    seed: int = 0,
) -> Workload:
    """Pack, decode and carry through a network.

    ``inputs`` maps INPUT operations to arrays with a batch axis; without it the first ``batch`` rows of the recorded
    example are used, and where there is none, seeded values (half of them zero) that are labelled synthetic.
    """
    graph = network.graph
    values, origin = _inputs(graph, inputs, batch, np.random.default_rng(seed))
    shape = PackShape(
        elements=machine.pe_array.elements,
        decoders=machine.huffman.units,
        chunk_entries=machine.huffman.chunk_entries,
    )
    layers = {layer.name: layer for layer in network.layers}
    works: dict[str, list[LayerWork]] = {}
    notes = list(graph.notes)
    rng = np.random.default_rng(seed + 1)
    for op in graph.operations:
        if op.name in values:
            continue
        if op.name in layers:
            works[op.name], values[op.name] = _run_layer(
                layers[op.name], op, values[op.inputs[0]], machine, storage, shape, batch
            )
        elif op.kind is OperationKind.OTHER:
            values[op.name] = _synthetic(op, batch, rng)
            notes.append(f"{op.name} is not computed: the values behind it are synthetic, half of them zero")
        else:
            values[op.name] = functional.apply(op, [values[name] for name in op.inputs])
    if not works:
        raise DchwError(f"network {network.name}: expected at least one compressed layer; got none; compress it first")
    read = {name for op in graph.operations for name in op.inputs}
    return Workload(
        network=network.name,
        machine=machine,
        storage=storage,
        batch=batch,
        stages=_stages(graph, works, values, machine),
        outputs={op.name: values[op.name] for op in graph.operations if op.name not in read},
        activations=origin,
        notes=tuple(notes),
    )


def _inputs(
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
            out[op.name] = _synthetic(op, batch, rng)
    return out, origin


def _synthetic(op: Operation, batch: int, rng: np.random.Generator) -> FloatArray:
    if op.output_shape is None:
        raise DchwError(f"operation {op.name!r}: its output shape is unknown; record the network with an example input")
    shape = (batch, *op.output_shape)
    values = rng.random(shape, dtype=np.float32) + np.float32(0.1)
    return np.asarray(values * (rng.random(shape) < SYNTHETIC_DENSITY), dtype=np.float32)


def _run_layer(
    layer: CompressedLayer, op: Operation, x: FloatArray, machine: Machine, storage: str, shape: PackShape, batch: int
) -> tuple[list[LayerWork], FloatArray]:
    """What the machine does for a layer, cut into rows where its weights would be fetched again every pass."""
    works, outputs = [], []
    columns = _columns(x, layer.geometry, op)
    for part, groups in _row_tiles(layer, machine, storage, shape, batch):
        work, out = _multiply(part, columns[groups], machine, storage, shape, batch)
        works.append(work)
        outputs.append(out)
    return works, _shaped(np.concatenate(outputs), op, x, layer.geometry)


def _row_tiles(
    layer: CompressedLayer, machine: Machine, storage: str, shape: PackShape, batch: int
) -> list[tuple[CompressedLayer, slice]]:
    """The layer whole, or in parts of rows that each fit half of the weight SRAM, with the groups each part reads.

    Only layers of several passes are cut: their weights would otherwise come from DRAM once per pass.
    """
    geometry = layer.geometry
    whole = slice(0, geometry.groups)
    half = machine.weight_sram.size_bytes // 2
    if tile_layer(layer.name, geometry, batch, machine.pe_array).passes == 1:
        return [(layer, whole)]
    packed = pack(layer, storage, shape, value_bits=VALUE_BITS)
    unit = geometry.out_channels // geometry.groups if geometry.groups > 1 else machine.pe_array.elements
    steps = ceil_div(geometry.out_channels, unit)
    parts = min(ceil_div(packed.total_bytes + packed.total_bytes // 8, half), steps)
    if packed.total_bytes <= half or parts == 1:
        return [(layer, whole)]
    bounds = [min(geometry.out_channels, index * steps // parts * unit) for index in range(parts)]
    bounds.append(geometry.out_channels)
    return [_rows_of(layer, first, end) for first, end in pairwise(bounds)]


def _rows_of(layer: CompressedLayer, first: int, end: int) -> tuple[CompressedLayer, slice]:
    geometry = layer.geometry
    if geometry.groups == 1:
        groups, part = slice(0, 1), replace(geometry, out_channels=end - first)
    else:
        rows, channels = geometry.out_channels // geometry.groups, geometry.in_channels // geometry.groups
        groups = slice(first // rows, end // rows)
        count = groups.stop - groups.start
        part = replace(geometry, out_channels=end - first, in_channels=channels * count, groups=count)
    bias = None if layer.bias is None else layer.bias[first:end]
    return replace(layer, codes=layer.codes[first:end], bias=bias, geometry=part), groups


def _multiply(
    layer: CompressedLayer, columns: FloatArray, machine: Machine, storage: str, shape: PackShape, batch: int
) -> tuple[LayerWork, FloatArray]:
    """Pack, decode, and multiply what was decoded: float32[out_channels, pixels]."""
    geometry = layer.geometry
    packed = pack(layer, storage, shape, value_bits=VALUE_BITS)
    weights = unpack(packed)
    tiling = tile_layer(layer.name, geometry, batch, machine.pe_array)
    matrix = weight_matrix(weights)
    rows = geometry.out_channels // geometry.groups
    out = np.empty((geometry.out_channels, tiling.pixels), np.float32)
    for group in range(geometry.groups):
        at = slice(group * rows, (group + 1) * rows)
        out[at] = matrix[at] @ columns[group]
    if weights.bias is not None:
        out += weights.bias[:, None]
    flat = columns.reshape(-1, tiling.pixels)
    work = LayerWork(
        name=layer.name,
        geometry=geometry,
        packed=packed,
        weights=weights,
        tiling=tiling,
        activity=_activity(flat, tiling, machine.pe_array.lanes),
        input_nonzeros=int(np.count_nonzero(flat)),
        multiplications=layer.nonzeros * tiling.pixels,
    )
    return work, out


def _columns(x: FloatArray, geometry: Geometry, op: Operation) -> FloatArray:
    """float32[groups, columns, pixels]: the batch's output pixels side by side."""
    if op.kind is OperationKind.CONV2D:
        columns = functional.patches(x, geometry)
        return np.ascontiguousarray(columns.transpose(1, 2, 0, 3)).reshape(geometry.groups, geometry.columns, -1)
    return np.ascontiguousarray(x.reshape(-1, geometry.in_channels).T)[None]


def _shaped(out: FloatArray, op: Operation, x: FloatArray, geometry: Geometry) -> FloatArray:
    if op.kind is OperationKind.CONV2D:
        shaped = out.reshape(geometry.out_channels, x.shape[0], *geometry.out_size).transpose(1, 0, 2, 3)
    else:
        shaped = out.T.reshape(*x.shape[:-1], geometry.out_channels)
    return np.ascontiguousarray(shaped)


def _activity(columns: FloatArray, tiling: Tiling, lanes: int) -> npt.NDArray[np.uint16]:
    jobs = columns.shape[0]
    out = np.empty((tiling.passes, jobs), np.uint16)
    for index in range(tiling.passes):
        tile = columns[:, index * tiling.tile : (index + 1) * tiling.tile] != 0
        starts = np.arange(0, tile.shape[1], lanes)
        out[index] = np.logical_or.reduceat(tile, starts, axis=1).sum(axis=1)
    return out


def _stages(
    graph: Network, works: Mapping[str, list[LayerWork]], values: Mapping[str, FloatArray], machine: Machine
) -> tuple[Stage, ...]:
    """Group operations behind their layer and decide, by what is live, which tensors leave the chip."""
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


_FREE = (OperationKind.FLATTEN, OperationKind.RESHAPE, OperationKind.IDENTITY, OperationKind.CONSTANT,
         OperationKind.INPUT, OperationKind.SLICE, OperationKind.CONCAT, OperationKind.MATMUL)  # fmt: skip
"""Operations that read nothing through the vector unit: they rename or route values, or are counted as products."""


def _vector_values(
    graph: Network, stage_of: Mapping[str, int], index: int, layer: str, values: Mapping[str, FloatArray]
) -> int:
    total = 0
    for op in graph.operations:
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
