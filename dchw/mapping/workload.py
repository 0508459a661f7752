"""A workload: a compressed network packed for a machine and carried through with real activations.

Mapping packs every layer in one storage format, decodes the packed bits again, multiplies what it decoded with the
layer's input and hands the result on through the graph. What each processing element will do, cycle by cycle, is
settled by that: which entries, for which activations, in how many passes. Time comes later (`dchw.lowering.lower`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np

from dchw import showing
from dchw.compression.compressed import CompressedLayer, CompressedNetwork
from dchw.formats import DEFAULT_FORMAT, Need, PackShape, forget_collected, storage_format
from dchw.graph import forward
from dchw.graph.coverage import Coverage
from dchw.graph.network import Array, FloatArray, Network, Operation, OperationKind
from dchw.machines.machine import Machine
from dchw.machines.silicon import NumberFormat
from dchw.machines.units.huffman_decoder import Placement
from dchw.mapping.arithmetic import Arithmetic
from dchw.mapping.crossing_tensors import tensor_planner
from dchw.mapping.given import VALUE_BITS, moved_examples, network_inputs, parameter_bytes, synthetic
from dchw.mapping.layer import Layers
from dchw.mapping.orders import Explanation
from dchw.mapping.passing import ForwardPass
from dchw.mapping.stages import LayerWork, Stage, distinct_parts, group_stages, tensor_bytes
from dchw.quantities import DchwError, nearest


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
    """What the simulated hardware computed: the values that the network gives (`Network.outputs`)."""
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
    def origin(self) -> str:
        """Where the activations came from, in words."""
        made = self.activations == "synthetic"
        return "synthetic activations, half of them zero" if made else f"activations from the {self.activations}"

    @property
    def decodes_at_load(self) -> bool:
        """Whether weights pass the decode units on their way into the weight SRAM."""
        return self.machine.huffman.placement is Placement.LOAD and self.stages[0].layer.needs(Need.DECODER)

    @property
    def decodes_at_use(self) -> bool:
        """Whether decode units give weights to the elements that multiply them."""
        return self.stages[0].layer.needs(Need.DECODER) and not self.decodes_at_load

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
    on_layer: Callable[[int, int], None] | None = None,
) -> Workload:
    """Pack, decode and carry through a network, multiplying in the arithmetic asked for.

    ``passing`` holds the values of runs that differ in nothing but ``storage`` and ``machine``, so that what decodes to
    equal weights is multiplied once.

    ``inputs`` maps INPUT operations to arrays with a batch axis; without it the first ``batch`` rows of the recorded
    example are used, more than it has are made of it (`dchw.mapping.given`) and noted; where there is none, seeded
    values (half of them zero) that are labelled synthetic.

    ``on_layer`` is called before the first layer and after each, with layers mapped and layers in all.
    """
    graph, as_given, machine = network.graph, machine, machine.working(storage_format(storage))
    passing = ForwardPass(keeps=False) if passing is None else passing
    values, origin = passing.start(lambda: network_inputs(graph, inputs, batch, np.random.default_rng(seed)))
    shape = PackShape(
        elements=machine.pe_array.elements,
        decoders=machine.huffman.units,
        chunk_entries=machine.huffman.chunk_entries,
        pointers=machine.pointers,
    )
    layers = {layer.name: layer for layer in network.uses}
    planner = tensor_planner(graph, [op.name for op in graph.operations if op.name in layers], machine, batch)
    run = Layers(machine=machine, storage=storage, shape=shape, batch=batch, arithmetic=arithmetic, passing=passing)
    held = {layer.name: layer for layer in network.layers}
    works: dict[str, list[LayerWork]] = {}
    explanations: list[Explanation] = []
    parameters = parameter_bytes(network, storage, shape, batch)
    notes = [*graph.notes, *_multiplied(machine, storage, arithmetic)]
    if inputs is None and arithmetic is not Arithmetic.NONE:
        notes += moved_examples(graph, batch)
    if arithmetic is Arithmetic.NONE:
        notes.append("timing only: nothing is computed, and half of every layer's input values are zero (synthetic)")
    not_computed: list[Operation] = []
    rng = np.random.default_rng(seed + 1)
    mapped, told = 0, on_layer or (lambda done, total: None)
    told(mapped, len(layers))
    for op in graph.operations:
        if op.name in values:
            continue
        examples = 1 if op.name in graph.fixed else batch
        if op.name in layers:
            given = [values[name] for name in op.inputs]
            parts, out, explanation, released = replace(run, batch=examples).run(
                layers[op.name], _with_projection(op, graph, held), given, planner.advance()
            )
            if released:
                planner.release()
            explanations += [explanation] if explanation is not None else []
            if parts:
                works[op.name] = parts
            elif layers[op.name].bias is not None:
                parameters[op.name] = VALUE_BITS // 8 * layers[op.name].geometry.out_channels
            values[op.name] = passing.value(op.name, (), partial(synthetic, op, examples, rng)) if out is None else out
            mapped += 1
            told(mapped, len(layers))
        elif op.kind is OperationKind.OTHER:
            values[op.name] = passing.value(op.name, (), partial(synthetic, op, examples, rng))
            not_computed.append(op)
        else:
            given = [values[name] for name in op.inputs]
            values[op.name] = passing.value(op.name, given, partial(forward.apply, _with_table(op, held), given))
    if not passing.keeps:
        forget_collected()
    if network.coverage.reasons:
        notes.append(network.coverage.sentence())
    notes += _not_computed(not_computed) + _steps_note(network.graph)
    _check_given(machine, [one.layer for one in explanations])
    if not works:
        raise DchwError(f"network {network.name}: expected at least one compressed layer; got none; compress it first")
    return Workload(
        network=network.name,
        given=as_given,
        machine=machine,
        storage=storage,
        batch=batch,
        stages=group_stages(graph, works, values, machine, parameters, planner.released),
        outputs={name: values[name] for name in graph.outputs},
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
