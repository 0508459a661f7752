"""Activations between DRAM and the activation SRAM, block by block."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from dchw.lowering.context import Lowering, StageLowering
from dchw.lowering.weights import REQUEST_QUEUE, STREAMS
from dchw.program.builder import Indices, LinkBuilder
from dchw.vocabulary import Stream


class Tensors:
    """Lowers what stages load and store, one after another."""

    def __init__(self, lowering: Lowering, base: int) -> None:
        """``base``: first free address."""
        self._machine = lowering.machine
        self._address = base
        self._at: dict[str, int] = {}
        self._stored: set[str] = set()
        self._again = {name for stage in lowering.workload.stages for name in stage.loads}

    def load(self, at: StageLowering) -> Indices:
        """Fetch a stage's tensors; the fill firing of every block, in order."""
        fills = [self._load(at, name, size) for name, size in at.stage.loads.items()]
        return np.concatenate(fills) if fills else np.empty(0, np.int64)

    def store(self, at: StageLowering, results: Indices) -> None:
        """Write a stage's tensors; ``results`` are the vector firings of its passes, and block k of n leaves after
        the pass that completes its share."""
        for name, size in at.stage.stores.items():
            self._store(at, name, size, results)

    def _load(self, at: StageLowering, name: str, size: int) -> Indices:
        builder, nodes, machine = at.builder, at.nodes, self._machine
        bursts = machine.dma.block_bursts(size, machine.dram.burst_bytes)
        request = at.fire(nodes.activation_dma, np.ones(bursts.size))
        if name in self._stored:
            _stored_tensors(at).take(request[:1])
            self._stored.discard(name)
        outstanding = builder.link(
            nodes.activation_fill, nodes.activation_dma, what="outstanding", initial=machine.dma.outstanding
        )
        outstanding.take(request)
        input_room(at).take(request)
        if name not in self._at:
            self._at[name] = self._allocate(size)
        self._ask(at, "activations", self._at[name], bursts, Stream.ACTIVATIONS)
        builder.link(nodes.activation_dma, builder.memory, what="requests", depth=REQUEST_QUEUE).give(request)
        cycles = machine.activation_sram.fill_cycles(machine.dma.request_bytes)
        fill = at.fire(nodes.activation_fill, np.full(bursts.size, cycles))
        builder.link(builder.memory, nodes.activation_fill, what="activations").take(fill)
        outstanding.give(fill)
        input_blocks(at).give(fill)
        return fill

    def _store(self, at: StageLowering, name: str, size: int, results: Indices) -> None:
        builder, nodes, machine = at.builder, at.nodes, self._machine
        bursts = machine.dma.block_bursts(size, machine.dram.burst_bytes)
        n = bursts.size
        write = at.fire(nodes.output_dma, np.ones(n))
        after = -(-(np.arange(1, n + 1) * results.size) // n) - 1
        values = builder.link(nodes.vector, nodes.output_dma, what="results")
        values.give(results[after])
        values.take(write)
        outstanding = builder.link(
            nodes.outputs_done, nodes.output_dma, what="outstanding", initial=machine.dma.outstanding
        )
        outstanding.take(write)
        start = self._allocate(size)  # shares of a tensor lie one behind another
        self._at.setdefault(name, start)
        self._ask(at, "outputs", start, bursts, Stream.OUTPUTS)
        builder.link(nodes.output_dma, builder.memory, what="requests", depth=REQUEST_QUEUE).give(write)
        done = at.fire(nodes.outputs_done, np.ones(n))
        builder.link(builder.memory, nodes.outputs_done, what="acknowledgements").take(done)
        outstanding.give(done)
        if at.stage.completes and name in self._again:
            _stored_tensors(at).give(done[-1:])
            self._stored.add(name)

    def _ask(self, at: StageLowering, port: str, start: int, bursts: npt.NDArray[np.int32], stream: Stream) -> None:
        address = start + np.arange(bursts.size, dtype=np.int64) * self._machine.dma.request_bytes
        writes = stream is Stream.OUTPUTS
        at.builder.port(port).ask(address, bursts, writes, STREAMS.index(stream), at.layer)

    def _allocate(self, size: int) -> int:
        start = self._address
        self._address += self._machine.dma.blocks(size) * self._machine.dma.request_bytes
        return start


def input_blocks(at: StageLowering) -> LinkBuilder:
    """Blocks of a stage's tensors, from the fill of the activation SRAM to the broadcast that reads them."""
    return at.builder.link(at.nodes.activation_fill, at.nodes.broadcast, what="blocks")


def input_room(at: StageLowering) -> LinkBuilder:
    """Credits for blocks of tensors: half of the activation SRAM."""
    return at.builder.link(at.nodes.broadcast, at.nodes.activation_dma, what="room", initial=room_blocks(at))


def room_blocks(at: StageLowering) -> int:
    """Blocks that half of the activation SRAM holds, at least one."""
    machine = at.machine
    return max(machine.activation_sram.size_bytes // 2 // machine.dma.request_bytes, 1)


def _stored_tensors(at: StageLowering) -> LinkBuilder:
    return at.builder.link(at.nodes.outputs_done, at.nodes.activation_dma, what="stored tensors")
