"""What must hold of every run, checked after every run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from dchw.engines.result import Timing
from dchw.mapping.stages import LayerWork
from dchw.mapping.tiling import Sums
from dchw.mapping.workload import Workload
from dchw.program.outline import Outline
from dchw.program.program import Program
from dchw.quantities import SimulationError, ceil_div
from dchw.vocabulary import STREAMS, Event, Stream


def check_conservation(workload: Workload, program: Program | Outline, timing: Timing, *, warm: bool) -> None:
    """What must hold of every run; raises SimulationError for what does not.

    Every node's busy, stall and idle cycles add up to the total. The bytes of the DRAM commands that were issued are
    those of the requests; partial sums are what waits in DRAM, written and read; of each stream of weights crosses at
    least what is needed once, rounded up to bursts, and exactly that for layers worked in one pass.
    """
    for name, times in timing.nodes.items():
        if times.busy + times.stall + times.idle != timing.cycles:
            raise SimulationError(
                f"node {name}: expected busy + stall + idle = {timing.cycles}; got {times.busy} + {times.stall} + "
                f"{times.idle}; this is a fault of the simulator, please report it"
            )
    memory, node = timing.memory, program.memory
    if memory is None or node is None:
        return
    burst = workload.machine.dram.burst_bytes
    # a read of what still waits to be written is answered from the queue; a second write to it takes its place
    for event, instead, way in ((Event.DRAM_READ, "forwarded", 0), (Event.DRAM_WRITE, "merged", 1)):
        issued = (memory.commands.get(event, 0) + memory.commands.get(instead, 0)) * burst
        asked = int(memory.size_bytes[:, way].sum())
        if issued != asked:
            raise SimulationError(
                f"memory: expected {asked} bytes of {event} commands as requested; got {issued}; this is a fault of "
                "the simulator, please report it"
            )
    if warm:
        return
    for layer, name in enumerate(program.layers):
        works = [stage.layer for stage in workload.stages if stage.layer.name == name]
        once = all(work.tiling.passes == 1 for work in works)
        spilled = _partial_sums(works, workload.machine.formats.accumulators.bits, burst)
        for way, crossed in enumerate(memory.size_bytes[STREAMS.index(Stream.PARTIAL_SUMS), :, layer]):
            if crossed != spilled:
                raise SimulationError(
                    f"layer {name}: expected {spilled} bytes of partial sums {'from' if way == 0 else 'to'} DRAM; got "
                    f"{int(crossed)}; this is a fault of the simulator, please report it"
                )
        for streams, needed in _needed(works, burst).items():
            moved = sum(int(memory.size_bytes[STREAMS.index(stream), 0, layer]) for stream in streams)
            if moved < needed or (once and moved != needed):
                raise SimulationError(
                    f"layer {name}, {', '.join(streams)}: expected {'exactly' if once else 'at least'} {needed} bytes "
                    f"from DRAM; got {moved}; this is a fault of the simulator, please report it"
                )


def _partial_sums(works: Sequence[LayerWork], sum_bits: int, burst: int) -> int:
    """Bytes of whole bursts of the partial sums that a layer's parts leave in DRAM, each way."""
    total = 0
    for work in (work for work in works if work.tiling.sums is Sums.DRAM):
        tiles = (ceil_div(work.sum_bytes(tile, sum_bits), burst) * burst for tile in range(work.tiling.tiles))
        total += work.partial_turns * sum(tiles)
    return total


def _needed(works: Sequence[LayerWork], burst: int) -> Counter[tuple[Stream, ...]]:
    """Bytes of whole bursts that a layer's parts take once: of every stream, and of the tables, which share bursts."""
    needed: Counter[tuple[Stream, ...]] = Counter()
    tables = tuple(dict.fromkeys(stream for work in works for stream in work.packed.tables))
    for work in works:
        needed[tables] += ceil_div(work.packed.table_bytes, burst) * burst
        for stream in work.packed.chunk_bytes:
            needed[(stream,)] += ceil_div(work.packed.packed_bytes[stream], burst) * burst
    return needed
