"""From a workload to the program both engines run: one set of nodes for the machine, firings for every stage in turn.

    dma.weights -> memory -> weight_sram.fill -> weight_sram.deliver -> huffman[d] -> pe[p] -> vector -> dma.outputs
    dma.activations -> memory -> activation_sram.fill -> activation_sram.broadcast -> pe[p]         -> memory

Weights that need no decoding go from ``deliver`` straight to the processing elements; weights without positions go to
the one node ``pe_array`` that works all elements in lockstep. Where weights are decoded while they load, decode units
hand over whole chunks. What each stage adds is written in `dchw.lowering.weights` (DRAM to weight SRAM) and
`dchw.lowering.compute` (decoding, broadcast, multiplication, results).
"""

from __future__ import annotations

from dchw.lowering.compute import lower_compute
from dchw.lowering.context import Lowering, StageLowering
from dchw.lowering.decoding import chunks_held
from dchw.lowering.tensors import Tensors
from dchw.lowering.weights import WeightStream
from dchw.mapping.workload import Workload
from dchw.program.builder import Indices
from dchw.program.program import Program


def lower(workload: Workload, *, warm: bool = False) -> Program:
    """The program of a whole workload. ``warm``: weights that fit stay in the weight SRAM from the run before."""
    lowering = Lowering(workload, warm=warm)
    weights = WeightStream(lowering)
    tensors = Tensors(lowering, weights.end)
    held = 0
    if workload.decodes_at_load:
        held = chunks_held(workload.machine, [stage.layer for stage in workload.stages])
    result: Indices | None = None
    for index, stage in enumerate(workload.stages):
        at = StageLowering(lowering, stage, index)
        delivery = weights.lower(at)
        fills = tensors.load(at)
        new_input = result is not None and stage.layer.name != workload.stages[index - 1].layer.name
        previous = int(result[-1]) if result is not None and new_input else None
        result = lower_compute(at, weights, delivery, fills, previous, held)
        tensors.store(at, result)
    return lowering.builder.freeze(
        clock_hz=workload.machine.clock_hz,
        layers=lowering.layers,
        memory=workload.machine.dram,
        notes=(*workload.notes, *weights.notes),
    )
