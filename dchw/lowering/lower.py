"""From a workload to the program both engines run: one set of nodes for the machine, firings for every stage in turn.

    dma.weights -> memory -> weight_sram.fill -> weight_sram.deliver -> huffman[d] -> pe[p] -> vector -> dma.outputs
    dma.activations -> memory -> activation_sram.fill -> activation_sram.broadcast -> pe[p]         -> memory

Weights that need no decoding go from ``deliver`` straight to the processing elements; weights without positions go to
the one node ``pe_array`` that works all elements in lockstep. Where weights are decoded while they load, decode units
hand over whole chunks. What each stage adds is written in `dchw.lowering.weights` and `dchw.lowering.feeding` (DRAM to
weight SRAM, and on), `dchw.lowering.tensors`, and `dchw.lowering.compute` (decoding, broadcast, multiplication,
results).

What moves blocks between DRAM and SRAM does so for the whole network: little, because it fires once a block. What
computes fires once an entry and pass, and is lowered stage by stage, window by window, where a run wants it so.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from dchw.lowering.broadcast import COLUMNS_WAITING, inputs_complete, results_of
from dchw.lowering.compute import lower_compute, starts
from dchw.lowering.context import CHUNK_LATENCY, Lowering, StageLowering
from dchw.lowering.decoding import ENTRIES_WAITING, LOOK_UP_LATENCY, STEPS_WAITING
from dchw.lowering.feeding import feed
from dchw.lowering.lockstep import step_rows
from dchw.lowering.tensors import Fills, Tensors, hand_over
from dchw.lowering.weights import Delivery, WeightStream
from dchw.machines.machine import Machine
from dchw.mapping.resident_weights import chunks_held
from dchw.mapping.stages import LayerWork
from dchw.mapping.workload import Workload
from dchw.program.builder import Indices
from dchw.program.known_lists import KnownLists
from dchw.program.open_figures import program_on
from dchw.program.program import Program
from dchw.program.windows import Window, Windowed
from dchw.quantities import ceil_div

OPEN_FIGURES = (CHUNK_LATENCY, COLUMNS_WAITING, ENTRIES_WAITING, LOOK_UP_LATENCY, STEPS_WAITING)
"""The figures of links that decide no list."""
WINDOW_FIRINGS = 1 << 22
"""Firings of a window, at least: a stage is lowered as a whole, and stages are until there are so many. Four times as
many where elements read entries by themselves, which need no lists of what was given: the most that VGG-16 takes moves
by 3 % at most (``dchw simulate vgg16-synthetic --storage csr``: 1,230 and 1,224 MB, ``shared``: 1,060 and 1,090)."""


def lower(workload: Workload, *, warm: bool = False) -> Program:
    """The program of a whole workload. ``warm``: weights that fit stay in the weight SRAM from the run before."""
    return replace(OpenProgram(workload, workload.machine, warm=warm).program, known=None)  # nobody shares its lists


class OpenProgram:
    """A program lowered once for machines that differ in what decides no list of it: depths and latencies that are
    open, the memory behind equal requests, and the clock."""

    def __init__(self, workload: Workload, first: Machine, *, warm: bool) -> None:
        """``first``: the machine whose figures ``program`` has; lists are those of the workload's machine."""
        stages = _Stages(workload, warm, first)
        for index in range(len(workload.stages)):
            stages.compute(stages.move(index))
        made = stages.builder.freeze(
            clock_hz=first.clock_hz, layers=stages.layers, memory=first.dram, notes=stages.notes
        )
        self._figures = stages.builder.open_links
        self.program = replace(made, known=KnownLists())
        """On the first machine."""

    def on(self, machine: Machine) -> Program:
        """The program on a machine from which equal lists follow; it shares them with ``program``."""
        return program_on(self.program, self._figures, machine, clock_hz=machine.clock_hz, memory=machine.dram)


def check_moves(workload: Workload, *, warm: bool = False) -> None:
    """Raise DchwError where what moves between DRAM and SRAM cannot be lowered; what computes is left out."""
    stages = _Stages(workload, warm)
    for index in range(len(workload.stages)):
        stages.move(index)


def window_firings(workload: Workload) -> int:
    """Firings of a window, at least, by what a firing of the workload's format holds."""
    by_themselves = workload.stages[0].layer.form.positions and not workload.decodes_at_use
    return 4 * WINDOW_FIRINGS if by_themselves else WINDOW_FIRINGS


def fits_one_window(workload: Workload) -> bool:
    """Whether a workload fires, about, less often than one window may: windows would save no memory then."""
    least = window_firings(workload)
    return most_firings(workload) < least or expected_firings(workload) < least


def expected_firings(workload: Workload) -> int:
    """About how many firings there will be: those that compute, one an entry where entries come one by one."""
    return sum(_computing(stage.layer, workload) for stage in workload.stages)


def largest_window(workload: Workload) -> int:
    """About how many firings that compute the largest window holds, at once in memory."""
    most = held = 0
    for stage in workload.stages:
        held += _computing(stage.layer, workload)
        most = max(most, held)
        if held >= window_firings(workload):
            held = 0
    return most


def most_firings(workload: Workload) -> int:
    """What `expected_firings` is at most, from sizes alone: worked out for every run, so that it must cost little."""
    most = 0
    for stage in workload.stages:
        passes, jobs = stage.layer.activity.shape
        columns, entries = jobs * (1 + workload.machine.pe_array.elements), stage.layer.packed.entries
        most += passes * (columns + 2 * entries)
    return most


class LoweredWindows(Windowed):
    """The same program window by window, so that memory does not grow with the work of a network."""

    def __init__(self, workload: Workload, *, warm: bool = False, firings: int | None = None) -> None:
        """``firings``: how many a window has at least."""
        self.workload, self.warm = workload, warm
        self.firings = window_firings(workload) if firings is None else firings
        self.clock_hz = workload.machine.clock_hz
        self.layers = tuple(dict.fromkeys(stage.layer.name for stage in workload.stages))
        self.notes: tuple[str, ...] = ()

    @cached_property
    def expected(self) -> int:
        """About how many firings there will be (`expected_firings`); asked for while the run goes on."""
        return expected_firings(self.workload)

    def whole(self) -> Program:
        """The program in one piece, lowered anew."""
        return lower(self.workload, warm=self.warm)

    def windows(self) -> Iterator[Window]:
        """The windows, lowered one at a time as they are asked for."""
        stages = _Stages(self.workload, self.warm)
        self.notes = stages.notes
        moves = [stages.move(index) for index in range(len(self.workload.stages))]
        coming: list[dict[str, str | None]] = [{}]  # from the last stage on: who fires behind it, waiting for what
        for move in moves[:0:-1]:
            coming.append({**coming[-1], **starts(move.at, move.delivery, move.fills, stages.new_input(move.at.index))})
        begun = 0
        for number, move in enumerate(moves):
            stages.compute(move)
            last = number == len(moves) - 1
            if last or stages.builder.firings - begun >= self.firings:
                begun = stages.builder.firings
                yield stages.builder.window(
                    layers=self.layers,
                    clock_hz=self.clock_hz,
                    memory=self.workload.machine.dram,
                    coming=coming[len(moves) - 1 - number],
                )


def _computing(work: LayerWork, workload: Workload) -> int:
    passes = np.count_nonzero(work.activity, axis=0)  # in which each column is broadcast
    columns, elements = int(passes.sum()), workload.machine.pe_array.elements
    at_use = workload.decodes_at_use
    if not work.form.positions:
        if not at_use:
            return 2 * columns
        step = step_rows(workload.machine, work)
        given = min(workload.machine.huffman.units, step, work.rows)  # units that give weights to a step of the array
        return columns * (1 + (1 + given) * ceil_div(work.rows, step))
    if not at_use:
        return (1 + elements) * columns
    run_job, run_count = work.entries.run_job, work.entries.run_count
    entries = np.bincount(run_job, run_count, passes.size)
    empty = elements - np.bincount(run_job[run_count > 0], minlength=passes.size)
    return columns + int((passes * (2 * entries + empty)).sum())  # decoded, and worked


@dataclass(frozen=True, kw_only=True, eq=False)
class _Move:
    """What a stage moves between DRAM and SRAM, lowered."""

    at: StageLowering
    delivery: Delivery
    fills: Fills
    completed_by: Indices
    """Result of the stage that completes each block it stores."""


class _Stages:
    """Lowers stages in order: for each what it moves, and, then or later, what it computes."""

    def __init__(self, workload: Workload, warm: bool, first: Machine | None = None) -> None:
        self._workload = workload
        self._lowering = lowering = Lowering(workload, warm=warm, first=first)
        self.builder, self.layers = lowering.builder, lowering.layers
        self._weights = WeightStream(lowering)
        self._tensors = Tensors(lowering, self._weights.end)
        self.notes = (*workload.notes, *self._weights.notes)
        self._held = 0
        if workload.decodes_at_load:
            self._held = chunks_held(workload.machine, [stage.layer for stage in workload.stages])

    def move(self, index: int) -> _Move:
        """Append what a stage moves."""
        at = StageLowering(self._lowering, self._workload.stages[index], index)
        self.builder.rank = (index, 0)
        delivery = self._weights.lower(at)
        feed(at, self._weights, delivery)
        fills = self._tensors.load(at)
        self.builder.rank = (index, 2)
        completed_by = self._tensors.store(at, results_of(at, fills.behind))
        return _Move(at=at, delivery=delivery, fills=fills, completed_by=completed_by)

    def compute(self, move: _Move) -> None:
        """Append what a stage computes, behind the stages before it."""
        self.builder.rank = (move.at.index, 1)
        at, new_input = move.at, self.new_input(move.at.index)
        done = lower_compute(at, self._weights, move.delivery, move.fills, new_input, self._held)
        hand_over(at, done, move.completed_by)
        if self.new_input(at.index + 1):
            inputs_complete(at).give(done[-1:])

    def new_input(self, index: int) -> bool:
        """Whether a stage needs the results of the one before: the first of every layer but the first."""
        stages = self._workload.stages
        return 0 < index < len(stages) and stages[index].layer.name != stages[index - 1].layer.name
