"""What all parts of lowering share: the machine's nodes as handles, and the stage that is being appended.

Nodes are made when first asked for and serve every stage: only their lists of firings grow, so that a stage can be
lowered without the ones before it at hand. Links between them are each stated in one place, by the part of lowering
that lets items pass.
"""

from __future__ import annotations

from enum import StrEnum
from functools import cached_property

import numpy.typing as npt

from dchw.machines.machine import Machine
from dchw.machines.units.unit import Unit
from dchw.mapping.stages import LayerWork, Stage
from dchw.mapping.workload import Workload
from dchw.program.builder import Indices, NodeBuilder, ProgramBuilder
from dchw.program.flow import Flow
from dchw.program.open_figures import OpenFigure


class Role(StrEnum):
    """What a node does for its unit. It is named after both, as ``weight_sram.fill``."""

    ASK_WEIGHTS = "weights"
    FILL = "fill"
    DELIVER = "deliver"
    RELEASE = "release"
    ASK_ACTIVATIONS = "activations"
    BROADCAST = "broadcast"
    ASK_OUTPUTS = "outputs"
    OUTPUTS_DONE = "outputs.done"


ELEMENT = "pe"
"""What the node of one processing element is named after, with its index."""

CHUNK_LATENCY = OpenFigure(lambda machine: machine.weight_sram.access_cycles - 1)


def node_name(machine: Machine, unit: Unit, role: Role | None = None) -> str:
    """The name of the node that does this for a unit of a machine; of its only node without a role."""
    name = machine.name_of(unit)
    return name if role is None else f"{name}.{role}"


class Nodes:
    """The nodes of a machine."""

    def __init__(self, builder: ProgramBuilder, machine: Machine) -> None:
        self._builder, self._machine = builder, machine
        self._elements: dict[int, NodeBuilder] = {}
        self._decoders: dict[int, NodeBuilder] = {}

    def _node(self, unit: Unit, role: Role | None = None) -> NodeBuilder:
        return self._builder.node(node_name(self._machine, unit, role), self._machine.name_of(unit))

    @cached_property
    def weight_dma(self) -> NodeBuilder:
        """Asks for weights."""
        return self._node(self._machine.dma, Role.ASK_WEIGHTS)

    @cached_property
    def weight_fill(self) -> NodeBuilder:
        """Writes blocks of weights into the weight SRAM."""
        return self._node(self._machine.weight_sram, Role.FILL)

    @cached_property
    def deliver(self) -> NodeBuilder:
        """Hands over tables and chunks that are complete in the weight SRAM."""
        return self._node(self._machine.weight_sram, Role.DELIVER)

    @cached_property
    def release(self) -> NodeBuilder:
        """Frees blocks of the weight SRAM that everybody is done with."""
        return self._node(self._machine.weight_sram, Role.RELEASE)

    @cached_property
    def activation_dma(self) -> NodeBuilder:
        """Asks for tensors."""
        return self._node(self._machine.dma, Role.ASK_ACTIVATIONS)

    @cached_property
    def activation_fill(self) -> NodeBuilder:
        """Writes blocks of tensors into the activation SRAM."""
        return self._node(self._machine.activation_sram, Role.FILL)

    @cached_property
    def broadcast(self) -> NodeBuilder:
        """Sends columns of activations to the array."""
        return self._node(self._machine.activation_sram, Role.BROADCAST)

    @cached_property
    def array(self) -> NodeBuilder:
        """All processing elements in lockstep."""
        return self._node(self._machine.pe_array)

    @cached_property
    def vector(self) -> NodeBuilder:
        """Takes sums and gives results."""
        return self._node(self._machine.vector)

    @cached_property
    def output_dma(self) -> NodeBuilder:
        """Asks for results to be written."""
        return self._node(self._machine.dma, Role.ASK_OUTPUTS)

    @cached_property
    def outputs_done(self) -> NodeBuilder:
        """Takes note of results that are written."""
        return self._node(self._machine.dma, Role.OUTPUTS_DONE)

    def element(self, index: int) -> NodeBuilder:
        """One processing element that works on its own."""
        made = self._elements.get(index)
        if made is None:
            unit = self._machine.name_of(self._machine.pe_array)
            made = self._elements[index] = self._builder.node(f"{ELEMENT}[{index}]", unit)
        return made

    def decoder(self, index: int) -> NodeBuilder:
        """One decode unit."""
        made = self._decoders.get(index)
        if made is None:
            unit = self._machine.name_of(self._machine.huffman)
            made = self._decoders[index] = self._builder.node(f"{unit}[{index}]", unit)
        return made


class Lowering:
    """A program in the making."""

    def __init__(self, workload: Workload, *, warm: bool, first: Machine | None = None) -> None:
        """``first``: the machine that figures are taken from which decide no list; by default the workload's."""
        self.workload, self.warm = workload, warm
        self.machine = workload.machine
        self.builder = ProgramBuilder(memory=self.machine.name_of(self.machine.dram), machine=first or self.machine)
        self.nodes = Nodes(self.builder, self.machine)
        self.layers = tuple(dict.fromkeys(stage.layer.name for stage in workload.stages))


class StageLowering:
    """A stage that is being appended to a program."""

    def __init__(self, lowering: Lowering, stage: Stage, index: int) -> None:
        """``index``: of the stage within the workload."""
        self.stage, self.index = stage, index
        self.machine: Machine = lowering.machine
        self.builder: ProgramBuilder = lowering.builder
        """Where links are made."""
        self.nodes: Nodes = lowering.nodes
        """The machine's nodes."""
        self.work: LayerWork = stage.layer
        """What the machine does for the layer."""
        self.chunk_latency = CHUNK_LATENCY
        """Latency of what is read from the weight SRAM."""
        self.layer: int = lowering.layers.index(stage.layer.name)
        """Index of the layer within the program."""
        self.flow: Flow = lowering.builder.flow(self.layer, stage.layer.form.values)
        """What the stage's firings do."""

    def fire(self, node: NodeBuilder, occupied: npt.ArrayLike) -> Indices:
        """Append firings of this stage to a node; their indices."""
        return node.fire(occupied, self.layer)
