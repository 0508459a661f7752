"""The memory's rows of an energy account: commands shared out by layer and stream, background for the whole run."""

from __future__ import annotations

from typing import Any

from dchw.costs.rows import CostRow
from dchw.dram.energy import READ_IO, WRITE_IO, activity, energy_rows, scope
from dchw.dram.options import FixedMemory
from dchw.engines.result import MemoryTimes
from dchw.machines.machine import Machine
from dchw.program.program import Program
from dchw.vocabulary import Event, Stream


def dram_account(machine: Machine, memory: MemoryTimes | None, program: Program) -> tuple[list[CostRow], str]:
    """The DRAM rows of a machine's cost report and their scope; bursts are shared out by layer and stream."""
    unit, part = machine.name_of(machine.dram), machine.dram.part
    face = machine.dram.face(unit)
    if isinstance(part, FixedMemory) or memory is None:
        return [], scope(part)
    rows: list[CostRow] = []
    ways: dict[str, int] = {Event.DRAM_READ: 0, READ_IO: 0, Event.DRAM_WRITE: 1, WRITE_IO: 1}
    streams = [stream.value for stream in Stream]
    for row in energy_rows(part, activity(part, memory.channels, memory.clocks)):
        each: Any = row.each
        if row.event not in ways:
            rows.append(CostRow(unit=unit, face=face, event=row.event, layer="", stream="", count=row.count, each=each))
            continue
        moved = memory.size_bytes[:, ways[row.event], :]
        for number, layer in zip(*moved.nonzero(), strict=True):
            share = row.count * float(moved[number, layer]) / float(moved.sum())
            name = program.layers[layer]
            rows.append(
                CostRow(
                    unit=unit,
                    face=face,
                    event=row.event,
                    layer=name,
                    stream=streams[number],
                    count=share,
                    each=each,
                )
            )
    return rows, scope(part)
