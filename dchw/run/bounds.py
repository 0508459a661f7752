"""What bounds a layer and a run: how long each resource was at work, and how far behind the next one follows.

Every firing of a node occupies it for known cycles, so a layer cannot take less time than its busiest node works for
it (rule T2); the DRAM moves a layer's bytes no faster than its peak. The resource with the most such cycles is what the
layer is *bound by*; divided by the layer's own cycles they are its share, and divided by the cycles of the next
resource they say how much faster the layer could become if only that resource were widened. A share well below one
means that neither is saturated: latency, or waiting for the layer before, takes the rest. A run is bound by what its
layers are bound by, each with the share of the run's cycles that is its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from dchw import showing
from dchw.engines.result import Timing
from dchw.formats import Need
from dchw.machines.machine import Machine
from dchw.mapping.stages import LayerWork
from dchw.mapping.workload import Workload
from dchw.program.outline import Outline, outline_of
from dchw.program.program import Program
from dchw.quantities import ceil_div

Cycles = npt.NDArray[np.float64]
DRAIN = "drain"
"""What binds an array that hands its sums over for longer than it multiplies: no unit, but a part of its work."""
LATENCY_SHARE = 0.6
"""Below this share of its own cycles even the busiest resource does not bind: the layer waits on latencies."""

AS_BUSY = 1.05
"""Below this many times "would allow" would print 1.0x: widening the one resource would leave the other."""


@dataclass(frozen=True, kw_only=True)
class Bound:
    """What holds a layer, or a whole run, back."""

    layer: str
    """Empty for the whole run."""
    own_cycles: int
    """Cycles by which the layer moved the end of the run on: those of all layers add up to the run's."""
    work_cycles: Mapping[str, float]
    """Cycles each resource worked for it, most first: the busiest node of a unit, or bytes at the DRAM's peak."""
    layers: Mapping[str, float] = field(default_factory=dict)
    """Of a whole run: what its layers are bound by, with the share of the run's cycles, most first."""

    @property
    def resource(self) -> str:
        """The resource with the most work."""
        return next(iter(self.work_cycles), "nothing")

    @property
    def share(self) -> float:
        """Share of the own cycles in which that resource worked; above 1 where it began before the layer's turn."""
        return next(iter(self.work_cycles.values()), 0.0) / max(self.own_cycles, 1)

    @property
    def bound_by(self) -> str:
        """The resource, or ``latency`` where even the busiest worked less than `LATENCY_SHARE` of the time.

        Of a run: what its layers are bound by for most of the time.
        """
        if self.layers:
            return next(iter(self.layers))
        return self.resource if self.share >= LATENCY_SHARE else "latency"

    @property
    def next_resource(self) -> str:
        """The resource that would bind if this one were widened."""
        return list(self.work_cycles)[1] if len(self.work_cycles) > 1 else "nothing"

    @property
    def headroom(self) -> float:
        """How many times faster the next resource would allow the layer to be, 1 where that is as busy.

        Work done before the layer's turn saves none of its own cycles, so no more than these are divided.
        """
        work = list(self.work_cycles.values())
        if len(work) < 2 or not work[1]:
            return float("inf")
        return max(1.0, min(work[0], float(max(self.own_cycles, 1))) / work[1])

    def __str__(self) -> str:
        name = f"{self.layer}: " if self.layer else ""
        if len(self.layers) > 1 and (self.share < LATENCY_SHARE or self.bound_by != self.resource):
            return ", ".join(f"{word} for {share:.0%} of the time" for word, share in self.layers.items())
        if self.bound_by == "latency":
            return f"{name}latency: the busiest resource, {self.resource}, works {self.share:.0%} of the time"
        allows = ""
        if self.headroom < AS_BUSY:
            allows = f"; {self.next_resource} is as busy"
        elif self.headroom < float("inf"):
            allows = f"; {self.next_resource} would allow {self.headroom:.1f}x"
        return f"{name}{self.resource}, at work {min(self.share, 1.0):.0%} of the time{allows}"

    def __repr__(self) -> str:
        return showing.line("Bound", self.layer or "the run", str(self))


def layer_bounds(workload: Workload, program: Program | Outline, timing: Timing) -> tuple[Bound, ...]:
    """One `Bound` a layer, in the program's order."""
    return _layer_bounds(_work(workload, outline_of(program), timing), program.layers, timing)


def _layer_bounds(resources: Mapping[str, Cycles], layers: Sequence[str], timing: Timing) -> tuple[Bound, ...]:
    ends = np.maximum.accumulate(np.maximum(timing.layer_finish, 0))
    own = np.diff(ends, prepend=0)
    if own.size:
        own[-1] += timing.cycles - ends[-1]  # results on their way out
    return tuple(
        Bound(
            layer=name,
            own_cycles=int(own[index]),
            work_cycles=_ordered({resource: float(cycles[index]) for resource, cycles in resources.items()}),
        )
        for index, name in enumerate(layers)
    )


def run_bound(workload: Workload, program: Program | Outline, timing: Timing) -> Bound:
    """The `Bound` of the whole run: each resource's work over all layers, and what they are bound by."""
    resources = _work(workload, outline_of(program), timing)
    totals = {resource: float(cycles.sum()) for resource, cycles in resources.items()}
    shares: dict[str, float] = {}
    for bound in _layer_bounds(resources, program.layers, timing):
        shares[bound.bound_by] = shares.get(bound.bound_by, 0.0) + bound.own_cycles / max(timing.cycles, 1)
    return Bound(layer="", own_cycles=timing.cycles, work_cycles=_ordered(totals), layers=_ordered(shares))


def _ordered(work: Mapping[str, float]) -> dict[str, float]:
    return dict(sorted(((k, v) for k, v in work.items() if v > 0), key=lambda item: -item[1]))


def _work(workload: Workload, program: Outline, timing: Timing) -> dict[str, Cycles]:
    """Cycles of every layer per resource."""
    layers, machine = len(program.layers), workload.machine
    found: dict[str, Cycles] = {}
    for node in program.firing:
        busy = timing.nodes[node.name].by_layer[:, 0].astype(np.float64)
        word = machine.units[node.unit].bounding(node.unit).name
        found[word] = np.maximum(found.get(word, np.zeros(layers)), busy)
    array = found.pop(machine.resource(machine.pe_array).name, None)
    if array is not None:
        for index, name in enumerate(program.layers):
            works = workload.works(name)
            word = _array_word(machine, works, array[index])
            found.setdefault(word, np.zeros(layers))[index] = array[index]
    if timing.memory is not None:
        moved = timing.memory.size_bytes.sum(axis=(0, 1)).astype(np.float64)
        found[machine.resource(machine.dram).name] = moved / machine.dram.peak_bytes_per_cycle(machine.clock_hz)
    return found


def _array_word(machine: Machine, works: Sequence[LayerWork], busy: float) -> str:
    """What an element's cycles went into: its multipliers, or what feeds and empties it."""
    array = machine.pe_array
    drain = sum(
        array.drain_cycles(work.tiling.rows, work.tiling.pixels_in(index))
        for work in works
        for index in range(work.tiling.passes)
    )
    if 2 * drain > busy:
        return DRAIN
    work = works[0]
    multiplying, looking_up, fetching = (
        machine.resource(unit).name for unit in (array, machine.codebook, machine.weight_sram)
    )
    active = work.activity[work.activity > 0]
    groups = float(np.median(active)) if active.size else 1.0
    by_itself = not work.needs(Need.DECODER)
    if not work.form.positions:
        look_ups = machine.codebook.column_cycles(work.tiling.rows) if work.needs(Need.CODEBOOK) else 0
        width = machine.weight_sram.banks * machine.weight_sram.word_bits
        supply = ceil_div(work.rows * work.entry_bits, width) if by_itself else 0
        computing = groups * array.dense_cycles(work.rows, work.tiling.pixels_in(0))
        if max(look_ups, supply) <= computing:
            return multiplying
        return looking_up if look_ups >= supply else fetching
    look_up = machine.codebook.slot_cycles if work.needs(Need.CODEBOOK) else 1
    bits, every = machine.weight_sram.reader_bits_per_cycle(array.elements)
    fetch = ceil_div(work.entry_bits * every, bits) if by_itself else 1
    if max(look_up, fetch) <= groups:
        return multiplying
    return looking_up if look_up >= fetch else fetching
