"""From a workload to the program both engines run: one set of nodes for the machine, firings for every stage in turn.

    dma.weights -> memory -> weight_sram.fill -> weight_sram.deliver -> huffman[d] -> pe[p] -> vector -> dma.outputs
    dma.activations -> memory -> activation_sram.fill -> activation_sram.broadcast -> pe[p]         -> memory

Weights that need no decoding go from ``deliver`` straight to the processing elements; weights without positions go to
the one node ``pe_array`` that works all elements in lockstep. Where weights are decoded while they load, decode units
hand over whole chunks. What each stage adds is written in `dchw.lowering.weights` (DRAM to weight SRAM) and
`dchw.lowering.compute` (decoding, broadcast, multiplication, results).
"""

from __future__ import annotations

import numpy as np

from dchw.lowering.compute import lower_compute
from dchw.lowering.decoding import chunks_held
from dchw.lowering.weights import REQUEST_QUEUE, WeightStream
from dchw.mapping.stages import Stage
from dchw.mapping.workload import Workload
from dchw.program.builder import Indices, ProgramBuilder
from dchw.program.program import Program
from dchw.vocabulary import Stream

_STREAMS = list(Stream)


def lower(workload: Workload, *, warm: bool = False) -> Program:
    """The program of a whole workload. ``warm``: weights that fit stay in the weight SRAM from the run before."""
    machine = workload.machine
    builder = ProgramBuilder()
    names = tuple(dict.fromkeys(stage.layer.name for stage in workload.stages))
    weights = WeightStream(builder, workload, warm=warm)
    tensors = _Tensors(builder, workload, weights.end)
    held = 0
    if workload.decodes_at_load:
        held = chunks_held(machine, [stage.layer for stage in workload.stages])
    result: Indices | None = None
    for index, stage in enumerate(workload.stages):
        layer = names.index(stage.layer.name)
        delivery = weights.lower(index, stage.layer, layer)
        fills = tensors.load(stage, layer)
        new_input = result is not None and stage.layer.name != workload.stages[index - 1].layer.name
        previous = int(result[-1]) if result is not None and new_input else None
        result = lower_compute(builder, machine, stage, layer, weights, delivery, fills, previous, held)
        tensors.store(stage, layer, result)
    return builder.freeze(
        clock_hz=machine.clock_hz, layers=names, memory=machine.dram, notes=(*workload.notes, *weights.notes)
    )


class _Tensors:
    """Activations between DRAM and the activation SRAM, block by block."""

    def __init__(self, builder: ProgramBuilder, workload: Workload, base: int) -> None:
        self._builder = builder
        self._machine = workload.machine
        self._address = base
        self._at: dict[str, int] = {}
        self._stored: set[str] = set()
        self._again = {name for stage in workload.stages for name in stage.loads}

    def load(self, stage: Stage, layer: int) -> Indices:
        """Fetch a stage's tensors; the fill firing of every block, in order."""
        fills = [self._load(name, size, layer) for name, size in stage.loads.items()]
        return np.concatenate(fills) if fills else np.empty(0, np.int64)

    def store(self, stage: Stage, layer: int, results: Indices) -> None:
        """Write a stage's tensors; ``results`` are the vector firings of its passes, and block k of n leaves after
        the pass that completes its share."""
        for name, size in stage.stores.items():
            self._store(name, size, layer, results, completes=stage.completes)

    def _load(self, name: str, size: int, layer: int) -> Indices:
        builder, machine = self._builder, self._machine
        bursts = machine.dma.block_bursts(size, machine.dram.burst_bytes)
        request = builder.node("dma.activations", "dma").fire(np.ones(bursts.size), layer)
        if name in self._stored:
            ready = builder.link("dma.outputs.done", "dma.activations", what="stored tensors")
            ready.take(request[:1])
            self._stored.discard(name)
        builder.link(
            "activation_sram.fill", "dma.activations", what="outstanding", initial=machine.dma.outstanding
        ).take(request)
        room = machine.activation_sram.size_bytes // 2 // machine.dma.request_bytes
        builder.link("activation_sram.broadcast", "dma.activations", what="room", initial=max(room, 1)).take(request)
        port = builder.port("activations")
        step = machine.dma.request_bytes
        if name not in self._at:
            self._at[name] = self._allocate(size)
        address = self._at[name] + np.arange(bursts.size, dtype=np.int64) * step
        port.ask(address, bursts, False, _STREAMS.index(Stream.ACTIVATIONS), layer)
        builder.link("dma.activations", "memory", what="requests", depth=REQUEST_QUEUE).give(request)
        fill_cycles = machine.activation_sram.fill_cycles(step)
        fill = builder.node("activation_sram.fill", "activation_sram").fire(np.full(bursts.size, fill_cycles), layer)
        builder.link("memory", "activation_sram.fill", what="activations").take(fill)
        builder.link("activation_sram.fill", "dma.activations", what="outstanding").give(fill)
        builder.link("activation_sram.fill", "activation_sram.broadcast", what="blocks").give(fill)
        return fill

    def _store(self, name: str, size: int, layer: int, results: Indices, *, completes: bool) -> None:
        builder, machine = self._builder, self._machine
        bursts = machine.dma.block_bursts(size, machine.dram.burst_bytes)
        n = bursts.size
        write = builder.node("dma.outputs", "dma").fire(np.ones(n), layer)
        passes = results.size
        after = -(-(np.arange(1, n + 1) * passes) // n) - 1
        values = builder.link("vector", "dma.outputs", what="results")
        values.give(results[after])
        values.take(write)
        builder.link("dma.outputs.done", "dma.outputs", what="outstanding", initial=machine.dma.outstanding).take(write)
        start = self._allocate(size)  # shares of a tensor lie one behind another
        self._at.setdefault(name, start)
        address = start + np.arange(n, dtype=np.int64) * machine.dma.request_bytes
        builder.port("outputs").ask(address, bursts, True, _STREAMS.index(Stream.OUTPUTS), layer)
        builder.link("dma.outputs", "memory", what="requests", depth=REQUEST_QUEUE).give(write)
        done = builder.node("dma.outputs.done", "dma").fire(np.ones(n), layer)
        builder.link("memory", "dma.outputs.done", what="acknowledgements").take(done)
        builder.link("dma.outputs.done", "dma.outputs", what="outstanding").give(done)
        if completes and name in self._again:
            builder.link("dma.outputs.done", "dma.activations", what="stored tensors").give(done[-1:])
            self._stored.add(name)

    def _allocate(self, size: int) -> int:
        start = self._address
        self._address += self._machine.dma.blocks(size) * self._machine.dma.request_bytes
        return start
