"""A workload: a compressed network packed for a machine and carried through with real activations.

Mapping packs every layer in one storage format, decodes the packed bits again, multiplies what it decoded with the
layer's input and hands the result on through the graph. What each processing element will do, cycle by cycle, is
settled by that: which entries, for which activations, in how many passes. Time comes later (`dchw.lowering.lower`).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np

from dchw import showing
from dchw.compression.compressed import CompressedLayer, CompressedNetwork
from dchw.formats import DEFAULT_FORMAT, Need, PackedLayer, PackShape, pack, storage_format, unpack, weight_matrix
from dchw.graph import forward
from dchw.graph.coverage import STORED_BYTES, Coverage, Place
from dchw.graph.geometry import Geometry
from dchw.graph.network import Array, FloatArray, Network, Operation, OperationKind
from dchw.graph.operations import CONVOLUTIONS
from dchw.graph.recurrent import steps
from dchw.graph.sliding_windows import patches
from dchw.machines.machine import Machine
from dchw.machines.silicon import NumberFormat
from dchw.machines.units.huffman_decoder import Placement
from dchw.mapping.arithmetic import Arithmetic, as_bytes, products
from dchw.mapping.crossing_tensors import plan_tensors
from dchw.mapping.demand import demand_of
from dchw.mapping.parts import Part, activity_of, as_worked, row_parts, stage_works
from dchw.mapping.passing import ForwardPass
from dchw.mapping.search import Explanation, LoopSearch
from dchw.mapping.stages import LayerWork, Stage, distinct_parts, group_stages, tensor_bytes
from dchw.mapping.tiling import step_tiling
from dchw.quantities import DchwError, ceil_div, nearest

VALUE_BITS = 32
"""Codebook values and biases travel as float32, so that the simulated outputs can be checked against float32."""
SYNTHETIC_DENSITY = 0.5
"""Share of non-zero values where activations must be made up."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Workload:
    """A whole network as a machine will run it."""

    network: str
    given: Machine
    """The machine as it was given."""
    machine: Machine
    """That machine with the arithmetic of the storage format as its ``formats`` (`Machine.working`)."""
    storage: str
    batch: int
    stages: tuple[Stage, ...]
    outputs: Mapping[str, FloatArray]
    """What the simulated hardware computed: the outputs of the operations that nothing else reads."""
    activations: str
    """Where the activations came from: ``example input``, ``given input`` or ``synthetic``."""
    seed: int = 0
    """Seed of synthetic activations, where there are any."""
    arithmetic: Arithmetic = Arithmetic.FLOAT32
    mapping: tuple[Explanation, ...] = ()
    """The order of loops of every layer, and what others would have cost."""
    notes: tuple[str, ...] = ()
    tensor_bytes: Mapping[str, int] = field(default_factory=dict)
    """Bytes of every operation's value as the machine holds it."""
    coverage: Coverage = field(default_factory=lambda: Coverage(rows=()))
    """Which of the network's parameters this accounts for."""

    def works(self, layer: str) -> list[LayerWork]:
        """The parts in which a layer is worked."""
        return [stage.layer for stage in self.stages if stage.layer.name == layer]

    @property
    def decodes_at_load(self) -> bool:
        """Whether weights pass the decode units on their way into the weight SRAM."""
        return self.machine.huffman.placement is Placement.LOAD and self.stages[0].layer.needs(Need.DECODER)

    @property
    def packed_bytes(self) -> int:
        """Bytes of all weight regions and tables, padding to bursts not included."""
        return sum(work.packed.total_bytes for work in distinct_parts(stage.layer for stage in self.stages))

    def __repr__(self) -> str:
        size = f"{showing.in_bytes(self.packed_bytes)} packed"
        return showing.line(
            "Workload", f"{self.network} / {self.storage} on {self.machine.name}", f"{len(self.stages)} stages", size
        )


def map_network(
    network: CompressedNetwork,
    machine: Machine,
    storage: str = DEFAULT_FORMAT,
    *,
    inputs: Mapping[str, Array] | None = None,
    batch: int = 1,
    seed: int = 0,
    arithmetic: Arithmetic = Arithmetic.FLOAT32,
    passing: ForwardPass | None = None,
) -> Workload:
    """Pack, decode and carry through a network, multiplying in the arithmetic asked for.

    ``passing`` holds the values of runs that differ in nothing but ``storage`` and ``machine``, so that what decodes to
    equal weights is multiplied once.

    ``inputs`` maps INPUT operations to arrays with a batch axis; without it the first ``batch`` rows of the recorded
    example are used, and where there is none, seeded values (half of them zero) that are labelled synthetic.
    """
    graph, as_given, machine = network.graph, machine, machine.working(storage_format(storage))
    passing = ForwardPass() if passing is None else passing
    values, origin = passing.start(lambda: _inputs(graph, inputs, batch, np.random.default_rng(seed)))
    shape = PackShape(
        elements=machine.pe_array.elements,
        decoders=machine.huffman.units,
        chunk_entries=machine.huffman.chunk_entries,
        pointers=machine.pointers,
    )
    layers = {layer.name: layer for layer in network.uses}
    fetched = _inputs_from_dram(graph, list(layers), machine, batch)
    held = {layer.name: layer for layer in network.layers}
    works: dict[str, list[LayerWork]] = {}
    explanations: list[Explanation] = []
    parameters = _parameter_bytes(network, storage, shape, batch)
    notes = [*graph.notes, *_multiplied(machine, storage, arithmetic)]
    if arithmetic is Arithmetic.NONE:
        notes.append("timing only: nothing is computed, and half of every layer's input values are zero (synthetic)")
    not_computed: list[Operation] = []
    rng = np.random.default_rng(seed + 1)
    for op in graph.operations:
        if op.name in values:
            continue
        if op.name in layers:
            given = [values[name] for name in op.inputs]
            parts, out, explanation = _run_layer(
                layers[op.name],
                _with_projection(op, graph, held),
                given,
                machine,
                storage,
                shape,
                batch,
                arithmetic,
                passing,
                fetched[op.name],
            )
            explanations += [explanation] if explanation is not None else []
            if parts:
                works[op.name] = parts
            elif layers[op.name].bias is not None:
                parameters[op.name] = VALUE_BITS // 8 * layers[op.name].geometry.out_channels
            values[op.name] = passing.value(op.name, (), partial(_synthetic, op, batch, rng)) if out is None else out
        elif op.kind is OperationKind.OTHER:
            values[op.name] = passing.value(op.name, (), partial(_synthetic, op, batch, rng))
            not_computed.append(op)
        else:
            given = [values[name] for name in op.inputs]
            values[op.name] = passing.value(op.name, given, partial(forward.apply, _with_table(op, held), given))
    if network.coverage.reasons:
        notes.append(network.coverage.sentence())
    notes += _not_computed(not_computed) + _steps_note(network.graph)
    _check_given(machine, [one.layer for one in explanations])
    if not works:
        raise DchwError(f"network {network.name}: expected at least one compressed layer; got none; compress it first")
    read = {name for op in graph.operations for name in op.inputs}
    return Workload(
        network=network.name,
        given=as_given,
        machine=machine,
        storage=storage,
        batch=batch,
        stages=group_stages(graph, works, values, machine, parameters),
        outputs={op.name: values[op.name] for op in graph.operations if op.name not in read},
        activations="synthetic" if arithmetic is Arithmetic.NONE else origin,
        seed=seed,
        arithmetic=arithmetic,
        mapping=tuple(explanations),
        notes=tuple(notes),
        tensor_bytes=tensor_bytes(graph, values, machine),
        coverage=network.coverage,
    )


def _check_given(machine: Machine, searched: Sequence[str]) -> None:
    """Refuse orders that are given for no layer."""
    for order in machine.mapping:
        if not any(order.fits(name) for name in searched):
            raise DchwError(
                f"machine {machine.name}, mapping of {order.layers!r}: expected the name or a pattern of "
                f"layers whose order is searched; got none of the network's; {nearest(order.layers, searched)}"
            )


def _multiplied(machine: Machine, storage: str, arithmetic: Arithmetic) -> list[str]:
    """What a reader must know of a row's arithmetic beyond its name."""
    form = storage_format(storage)
    if form.integers and not machine.formats.is_int8:
        return [f"{machine.name} has no int8 multipliers: weights dequantised on the way, {machine.formats} multiplied"]
    if form.integers:
        return [f"{machine.formats} multiplied: every layer's input is int8, one scale a tensor"]
    if machine.formats.weights is NumberFormat.INT8 and arithmetic is Arithmetic.FLOAT32:
        return [f"timed and priced as {machine.formats}; outputs computed with the decoded weights in float32"]
    return []


def _not_computed(operations: Sequence[Operation]) -> list[str]:
    if not operations:
        return []
    kinds = Counter(op.attributes.get("target", "unknown") for op in operations)
    named = ", ".join(f"{kind} ({count})" if count > 1 else kind for kind, count in kinds.items())
    which = operations[0].name if len(operations) == 1 else f"{len(operations)} operations"
    return [f"{which} not computed here ({named}): the values behind are synthetic, half of them zero"]


def _steps_note(graph: Network) -> list[str]:
    recurrent = [op for op in graph.operations if op.kind is OperationKind.RECURRENT]
    if not recurrent:
        return []
    return [
        f"{len(recurrent)} recurrent layers are worked step by step, all weights in every step; a step does not wait "
        "for the gates of the one before"
    ]


def _with_table(op: Operation, held: Mapping[str, CompressedLayer]) -> Operation:
    """An embedding whose table is compressed, with the table's shared values; anything else as it is."""
    table = held.get(op.shares or op.name) if op.kind is OperationKind.EMBEDDING else None
    return op if table is None else replace(op, weight=table.weight)


def _with_projection(op: Operation, graph: Network, held: Mapping[str, CompressedLayer]) -> Operation:
    """A recurrent layer with the weights that make the state of its next step; anything else as it is."""
    if op.projection is None:
        return op
    layer = graph.operation(op.projection)
    holder = held.get(layer.shares or layer.name)
    weight = graph.resolved(layer).weight if holder is None else holder.weight
    return replace(op, attributes={**op.attributes, "projection_weight": weight})


def _parameter_bytes(network: CompressedNetwork, storage: str, shape: PackShape, batch: int) -> dict[str, int]:
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
            packed = pack(table, storage, shape, value_bits=VALUE_BITS)
            rows, looked_up = table.codes.shape[0], batch * math.prod((op.output_shape or (1,))[:-1])
            out[op.name] = ceil_div(packed.total_bytes * min(rows, looked_up), rows)
    return out


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


def _inputs_from_dram(graph: Network, layers: list[str], machine: Machine, batch: int) -> dict[str, int]:
    """Bytes of every layer's input where it comes from DRAM, 0 where the layer before leaves it on the chip.

    Shapes that the graph does not state count as nothing that stays.
    """
    bits = machine.formats.activations.bits
    sizes = {
        op.name: machine.activation_sram.size_bytes + 1
        if op.output_shape is None
        else ceil_div(batch * math.prod(op.output_shape) * bits, 8)
        for op in graph.operations
    }
    plan = plan_tensors(graph, layers, sizes, machine.activation_sram.size_bytes)
    inputs = {op.name: op.inputs[0] for op in graph.operations if op.name in layers}
    return {name: plan.loads[index].get(inputs[name], 0) for index, name in enumerate(layers)}


def _run_layer(
    layer: CompressedLayer,
    op: Operation,
    inputs: Sequence[FloatArray],
    machine: Machine,
    storage: str,
    shape: PackShape,
    batch: int,
    arithmetic: Arithmetic,
    passing: ForwardPass,
    input_bytes: int,
) -> tuple[list[LayerWork], FloatArray | None, Explanation | None]:
    """What the machine does for a layer: its parts of rows and bands of pixels, in the order that was searched."""
    whole = as_worked(layer, machine.pe_array.elements)
    packed = pack(whole, storage, shape, value_bits=VALUE_BITS)
    if not layer.nonzeros and packed.entries == 0:
        # nothing to fetch and nothing to multiply: the operations behind it read its biases
        return [], forward.apply(replace(op, weight=layer.weight, bias=layer.bias), inputs), None
    if layer.sequential:
        return (*_run_steps(layer, op, inputs, machine, packed, batch, arithmetic, input_bytes), None)
    x = inputs[0]
    if _as_bytes(machine, storage, arithmetic):
        x = passing.value(f"{op.name} as int8", (x,), partial(as_bytes, x))
    columns = _columns(x, layer.geometry, op)
    search = LoopSearch(demand_of(layer, packed, machine, batch, input_bytes), machine)
    explanation = search.explain()
    choice = explanation.choice
    parts = []
    for part, groups in row_parts(layer, choice.part_rows, machine.pe_array.elements):
        regions = (
            packed
            if choice.part_rows >= layer.geometry.out_channels
            else pack(part, storage, shape, value_bits=VALUE_BITS)
        )
        parts.append(Part(layer=part, groups=groups, packed=regions, weights=unpack(regions)))
    works = stage_works(parts, columns, search, choice, machine)
    if arithmetic is Arithmetic.NONE:
        return works, None, explanation
    matrices = [weight_matrix(part.weights) for part in parts]
    matrix = matrices[0] if len(parts) == 1 else np.concatenate(matrices)
    bias = None if parts[0].weights.bias is None else np.concatenate([part.weights.bias for part in parts])

    def multiply() -> FloatArray:
        return _shaped(products(matrix, bias, columns, layer.geometry.groups, arithmetic), op, x, layer.geometry)

    out = passing.value(layer.name, (x,), multiply, (matrix,) if bias is None else (matrix, bias))
    return works, out, explanation


def _as_bytes(machine: Machine, storage: str, arithmetic: Arithmetic) -> bool:
    """Whether inputs of layers are rounded to int8: bytes are multiplied with bytes, and values are computed."""
    return storage_format(storage).integers and machine.formats.is_int8 and arithmetic is Arithmetic.FLOAT32


def _run_steps(
    layer: CompressedLayer,
    op: Operation,
    inputs: Sequence[FloatArray],
    machine: Machine,
    packed: PackedLayer,
    batch: int,
    arithmetic: Arithmetic,
    input_bytes: int,
) -> tuple[list[LayerWork], FloatArray | None]:
    """A recurrent layer: every step is a pass that reads all weights and multiplies the state before the step."""
    weights = unpack(packed)
    as_held = as_bytes if _as_bytes(machine, packed.storage, arithmetic) else np.asarray
    if arithmetic is Arithmetic.NONE:
        states = np.zeros((batch, layer.geometry.output_pixels, layer.geometry.in_channels), np.float32)
        states[:, :, ::2] = 1.0
        out = None
    else:

        def product(matrix: FloatArray, bias: FloatArray | None, h: FloatArray) -> FloatArray:
            return products(matrix, bias, np.ascontiguousarray(as_held(h).T)[None], 1, arithmetic).T

        projection = op.attributes.get("projection_weight")
        project = None if projection is None else partial(product, projection, None)
        out, states = steps(op.attributes, inputs, partial(product, weight_matrix(weights), weights.bias), project)
    columns = np.ascontiguousarray(states.transpose(2, 1, 0)).reshape(layer.geometry.in_channels, -1)
    tiling = step_tiling(layer.name, layer.geometry, batch, machine.pe_array)
    work = LayerWork(
        name=layer.name,
        geometry=layer.geometry,
        packed=packed,
        weights=weights,
        tiling=tiling,
        activity=activity_of(columns, tiling, machine, packed),
        input_nonzeros=int(np.count_nonzero(columns)),
        multiplications=layer.nonzeros * tiling.pixels,
        input_span=(0, input_bytes),
        input_stays=False,
        covered=1.0,
    )
    return [work], out


def _columns(x: FloatArray, geometry: Geometry, op: Operation) -> FloatArray:
    """float32[groups, columns, pixels]: the batch's output pixels side by side."""
    if op.kind in CONVOLUTIONS:
        columns = patches(x, geometry)
        return np.ascontiguousarray(columns.transpose(1, 2, 0, 3)).reshape(geometry.groups, geometry.columns, -1)
    return np.ascontiguousarray(x.reshape(-1, geometry.in_channels).T)[None]


def _shaped(out: FloatArray, op: Operation, x: FloatArray, geometry: Geometry) -> FloatArray:
    if op.kind in CONVOLUTIONS:
        shaped = out.reshape(geometry.out_channels, x.shape[0], *geometry.out_size).swapaxes(0, 1)
    else:
        shaped = out.T.reshape(*x.shape[:-1], geometry.out_channels)
    return np.ascontiguousarray(shaped)
