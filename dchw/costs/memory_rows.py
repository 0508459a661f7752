"""The memory's rows of an energy account: commands shared out by layer and stream, background for the whole run."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from dchw.costs.rows import CostRow
from dchw.dram.energy import (
    CONTROLLER_AND_PHY,
    READ_IO,
    WRITE_IO,
    activity,
    controller_and_phy,
    energy_rows,
    scope,
)
from dchw.dram.options import FixedMemory
from dchw.engines.result import MemoryTimes
from dchw.machines.machine import Machine
from dchw.program.outline import Outline
from dchw.technology.figure import Figure
from dchw.vocabulary import STREAMS, Event


def dram_account(machine: Machine, memory: MemoryTimes | None, program: Outline) -> tuple[list[CostRow], str]:
    """The DRAM rows of a machine's cost report and their scope; bursts are shared out by layer and stream."""
    unit, part = machine.name_of(machine.dram), machine.dram.part
    face = machine.dram.face(unit)
    if isinstance(part, FixedMemory) or memory is None:
        return [], scope(part)
    stated = machine.dram.controller_and_phy

    def row(event: str, count: float, each: Figure, layer: str = "", stream: str = "") -> CostRow:
        return CostRow(unit=unit, face=face, event=event, layer=layer, stream=stream, count=count, each=each)

    rows: list[CostRow] = []
    ways: dict[str, int] = {Event.DRAM_READ: 0, READ_IO: 0, Event.DRAM_WRITE: 1, WRITE_IO: 1}
    for done in energy_rows(part, activity(part, memory.channels, memory.clocks)):
        if done.event not in ways:
            rows.append(row(done.event, done.count, done.each))
            continue
        moved = memory.size_bytes[:, ways[done.event], :]
        share = done.count / float(moved.sum())
        rows += [row(done.event, share * size, done.each, *at) for size, at in _places(moved, program)]
    if stated is not None:
        bits = 8 * memory.size_bytes.sum(axis=1)
        rows += [row(CONTROLLER_AND_PHY, n, controller_and_phy(stated), *at) for n, at in _places(bits, program)]
    return rows, scope(part, stated)


def _places(amounts: NDArray[np.int64], program: Outline) -> Iterator[tuple[float, tuple[str, str]]]:
    """What is not zero of an array by stream and layer, with the names of its layer and stream."""
    for number, layer in zip(*amounts.nonzero(), strict=True):
        yield float(amounts[number, layer]), (program.layers[layer], STREAMS[number].value)
