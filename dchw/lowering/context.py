"""What all parts of lowering share: the machine's nodes as handles, and the stage that is being appended.

Nodes are made when first asked for and serve every stage: only their lists of firings grow, so that a stage can be
lowered without the ones before it at hand. Links between them are each stated in one place, by the part of lowering
that lets items pass.
"""

from __future__ import annotations

from functools import cached_property

import numpy.typing as npt

from dchw.machines.machine import Machine
from dchw.mapping.stages import LayerWork, Stage
from dchw.mapping.workload import Workload
from dchw.program.builder import Indices, NodeBuilder, ProgramBuilder
from dchw.program.flow import Flow


class Nodes:
    """The nodes of a machine."""

    def __init__(self, builder: ProgramBuilder, machine: Machine) -> None:
        self._builder, self._machine = builder, machine
        self._elements: dict[int, NodeBuilder] = {}
        self._decoders: dict[int, NodeBuilder] = {}

    @cached_property
    def weight_dma(self) -> NodeBuilder:
        """Asks for weights."""
        return self._builder.node("dma.weights", self._machine.name_of(self._machine.dma))

    @cached_property
    def weight_fill(self) -> NodeBuilder:
        """Writes blocks of weights into the weight SRAM."""
        return self._builder.node("weight_sram.fill", self._machine.name_of(self._machine.weight_sram))

    @cached_property
    def deliver(self) -> NodeBuilder:
        """Hands over tables and chunks that are complete in the weight SRAM."""
        return self._builder.node("weight_sram.deliver", self._machine.name_of(self._machine.weight_sram))

    @cached_property
    def release(self) -> NodeBuilder:
        """Frees blocks of the weight SRAM that everybody is done with."""
        return self._builder.node("weight_sram.release", self._machine.name_of(self._machine.weight_sram))

    @cached_property
    def activation_dma(self) -> NodeBuilder:
        """Asks for tensors."""
        return self._builder.node("dma.activations", self._machine.name_of(self._machine.dma))

    @cached_property
    def activation_fill(self) -> NodeBuilder:
        """Writes blocks of tensors into the activation SRAM."""
        return self._builder.node("activation_sram.fill", self._machine.name_of(self._machine.activation_sram))

    @cached_property
    def broadcast(self) -> NodeBuilder:
        """Sends columns of activations to the array."""
        return self._builder.node("activation_sram.broadcast", self._machine.name_of(self._machine.activation_sram))

    @cached_property
    def array(self) -> NodeBuilder:
        """All processing elements in lockstep."""
        return self._builder.node("pe_array", self._machine.name_of(self._machine.pe_array))

    @cached_property
    def vector(self) -> NodeBuilder:
        """Takes sums and gives results."""
        return self._builder.node("vector", self._machine.name_of(self._machine.vector))

    @cached_property
    def output_dma(self) -> NodeBuilder:
        """Asks for results to be written."""
        return self._builder.node("dma.outputs", self._machine.name_of(self._machine.dma))

    @cached_property
    def outputs_done(self) -> NodeBuilder:
        """Takes note of results that are written."""
        return self._builder.node("dma.outputs.done", self._machine.name_of(self._machine.dma))

    def element(self, index: int) -> NodeBuilder:
        """One processing element that works on its own."""
        if index not in self._elements:
            unit = self._machine.name_of(self._machine.pe_array)
            self._elements[index] = self._builder.node(f"pe[{index}]", unit)
        return self._elements[index]

    def decoder(self, index: int) -> NodeBuilder:
        """One decode unit."""
        if index not in self._decoders:
            unit = self._machine.name_of(self._machine.huffman)
            self._decoders[index] = self._builder.node(f"{unit}[{index}]", unit)
        return self._decoders[index]


class Lowering:
    """A program in the making."""

    def __init__(self, workload: Workload, *, warm: bool) -> None:
        self.workload, self.warm = workload, warm
        self.machine = workload.machine
        self.builder = ProgramBuilder(memory=self.machine.name_of(self.machine.dram))
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
        self.chunk_latency = self.machine.weight_sram.access_cycles - 1
        """Latency of what is read from the weight SRAM."""
        self.layer: int = lowering.layers.index(stage.layer.name)
        """Index of the layer within the program."""
        self.flow: Flow = lowering.builder.flow(self.layer, stage.layer.form.values)
        """What the stage's firings do."""

    def fire(self, node: NodeBuilder, occupied: npt.ArrayLike) -> Indices:
        """Append firings of this stage to a node; their indices."""
        return node.fire(occupied, self.layer)
