"""Decoding, broadcast, multiplication and results of one stage, as firings.

Every pass broadcasts the columns with a non-zero activation, in job order; a processing element works through its
entries of each and hands its sums over at the end. Entries that come one by one from a decode unit are a firing each;
a run that the element reads from the weight SRAM by itself is one firing of its entries' cycles together. A column in
which the element has no entry is one firing of one cycle. Weights without positions are worked by all elements in
lockstep: a column is one firing, or one for each step of the array where decode units feed it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from dchw.formats import Need, PackedLayer
from dchw.lowering.decoding import ChunkUser, Decoding, needed_chunks, step_ends
from dchw.lowering.weights import Delivery, WeightStream
from dchw.machines.machine import Machine
from dchw.machines.units.huffman_decoder import Placement
from dchw.mapping.stages import LayerWork, Stage
from dchw.program.builder import Indices, ProgramBuilder
from dchw.quantities import DchwError, ceil_div


def lower_compute(
    builder: ProgramBuilder,
    machine: Machine,
    stage: Stage,
    layer: int,
    weights: WeightStream,
    delivery: Delivery,
    fills: Indices,
    previous: int | None,
    held: int,
) -> Indices:
    """Append a stage; the vector firing that completes each pass.

    ``fills`` are the firings that brought the stage's tensors into the activation SRAM; ``previous`` is the vector
    firing that completes what the stage needs from the one before, None where it needs nothing; ``held`` is
    `chunks_held` of the whole workload.
    """
    work = stage.layer
    broadcast = _broadcast(builder, machine, work, layer, fills, previous)
    decoding = None
    if work.needs(Need.DECODER):
        at_use = machine.huffman.placement is Placement.USE
        ends = step_ends(work, _step_rows(machine, work)) if at_use and not work.form.positions else None
        decoding = Decoding(builder, machine, work, layer, weights, delivery, held, ends)
    if work.form.positions:
        results = _sparse(builder, machine, work, layer, weights, delivery, broadcast, decoding)
    else:
        results = [_lockstep(builder, machine, work, layer, weights, delivery, broadcast, decoding)]
    done = _collect(builder, machine, stage, layer, results)
    if decoding is not None:
        decoding.finish(int(done[-1]))
    return done


@dataclass(frozen=True, kw_only=True, eq=False)
class _Handover:
    """A node that hands over its sums once a pass."""

    node: str
    firings: Indices


def _broadcast(
    builder: ProgramBuilder, machine: Machine, work: LayerWork, layer: int, fills: Indices, previous: int | None
) -> Indices:
    """Firings of the broadcast: one that opens each pass, then one per active job; those of the jobs, in order."""
    sram, array = machine.activation_sram, machine.pe_array
    vector_bits = array.lanes * machine.formats.activations.bits
    per_group = ceil_div(vector_bits, sram.banks * sram.word_bits)
    passes = work.tiling.passes
    cycles = np.ones((passes, work.activity.shape[1] + 1), np.int32)
    cycles[:, 1:] = work.activity.astype(np.int32) * per_group
    firings = np.cumsum(cycles.ravel() > 0).reshape(cycles.shape) - 1
    node = builder.node("activation_sram.broadcast", "activation_sram")
    first = node.fire(cycles[cycles > 0], layer)[0]
    opens, closes = first + firings[:, 0], first + firings[:, -1]
    if previous is not None:
        ready = builder.link("vector", "activation_sram.broadcast", what="inputs complete")
        ready.give([previous])
        ready.take(opens[:1])
    if fills.size:
        wanted = np.arange(fills.size) * passes // fills.size
        most = int(np.bincount(wanted).max())
        room = max(sram.size_bytes // 2 // machine.dma.request_bytes, 1)
        if most > room:
            raise DchwError(
                f"layer {work.name!r}: one pass needs {most} blocks of its input at once, but half of the "
                f"activation SRAM holds {room}; raise activation_sram.size_bytes or lower pe_array.tile"
            )
        builder.link("activation_sram.fill", "activation_sram.broadcast", what="blocks").take(opens[wanted])
        builder.link("activation_sram.broadcast", "dma.activations", what="room").give(closes[wanted])
    return np.asarray(first + firings[:, 1:][work.activity > 0], dtype=np.int64)


def _active_jobs(work: LayerWork) -> list[Indices]:
    return [np.flatnonzero(row) for row in work.activity]


def _by_pass(work: LayerWork, job_firing: Indices) -> list[Indices]:
    return np.split(job_firing, np.cumsum(np.count_nonzero(work.activity, axis=1))[:-1])


def _drop_chunks(weights: WeightStream, delivery: Delivery, work: LayerWork) -> None:
    """Give the room of chunks that nobody needs back as soon as they are in."""
    for index, taken_in, used_in in delivery.rounds_of(work.tiling.passes):
        unused = np.setdiff1d(np.arange(work.packed.chunks), needed_chunks(work, taken_in, used_in))
        weights.used_up(delivery, "weight_sram.deliver", index, unused, delivery.chunk_firing[index][unused])


def _take_chunks(
    builder: ProgramBuilder,
    weights: WeightStream,
    delivery: Delivery,
    work: LayerWork,
    user: ChunkUser,
    ids: Indices,
    latency: int,
) -> None:
    """Let a user take its chunks from ``weight_sram.deliver`` and give their room back."""
    packed = work.packed
    for index, taken_in, used_in in delivery.rounds_of(work.tiling.passes):
        mine = np.intersect1d(ids, needed_chunks(work, taken_in, used_in), assume_unique=True)
        first, end = packed.chunk_first_job[mine], packed.chunk_end_job[mine]
        take, _ = user.span(taken_in, first, end)
        _, done = user.span(used_in, first, end)
        link = builder.link("weight_sram.deliver", user.node, what="chunks", latency=latency)
        link.give(delivery.chunk_firing[index][mine])
        link.take(take)
        weights.used_up(delivery, user.node, index, mine, done)


def _lockstep(
    builder: ProgramBuilder,
    machine: Machine,
    work: LayerWork,
    layer: int,
    weights: WeightStream,
    delivery: Delivery,
    broadcast: Indices,
    decoding: Decoding | None,
) -> _Handover:
    array = machine.pe_array
    steps = 1 if decoding is None or decoding.at_load else ceil_div(work.rows, _step_rows(machine, work))
    parts, starts, at = [], [], 0
    for index in range(work.tiling.passes):
        pixels = work.tiling.pixels_in(index)
        groups = work.activity[index][work.activity[index] > 0].astype(np.int64)
        cycles = _column_cycles(machine, work, groups, pixels) if steps == 1 else _step_cycles(machine, work, groups)
        parts += [np.repeat(cycles, steps), np.array([array.drain_cycles(work.tiling.rows, pixels)])]
        starts.append(at + steps * np.arange(groups.size))
        at += steps * groups.size + 1
    node = builder.node("pe_array", "pe_array")
    first = node.fire(np.concatenate(parts), layer)[0]
    job_firing = [part + first for part in starts]
    last = first + np.cumsum([steps * part.size + 1 for part in starts]) - 1
    queue = builder.link("activation_sram.broadcast", node.name, what="columns", depth=array.queue_depth)
    queue.give(broadcast)
    queue.take(np.concatenate(job_firing))
    user = ChunkUser(node=node.name, job_firing=job_firing, active=_active_jobs(work), last=last)
    chunks = np.arange(work.packed.chunks)
    if decoding is None:
        latency = machine.weight_sram.access_cycles - 1
        _take_chunks(builder, weights, delivery, work, user, chunks, latency)
        _drop_chunks(weights, delivery, work)
        _wait_for_tables(builder, delivery, node.name, int(first))
    elif decoding.at_load:
        decoding.hand_chunks(user, chunks)
    else:
        decoding.hand_steps(node.name, job_firing, user.active, _spread(machine, work))
    return _Handover(node=node.name, firings=last)


def _spread(machine: Machine, work: LayerWork) -> int:
    """Rows that one element works at a time in lockstep, in lanes that the pixels of a full pass leave free."""
    return max(1, machine.pe_array.lanes // work.tiling.tile)


def _step_rows(machine: Machine, work: LayerWork) -> int:
    """Rows that all elements work at a time in lockstep."""
    return machine.pe_array.elements * _spread(machine, work)


def _column_cycles(machine: Machine, work: LayerWork, groups: Indices, pixels: int) -> Indices:
    """Cycles of each column of a pass: multiplying, reading its weights from the SRAM, looking them up."""
    sram = machine.weight_sram
    supply = ceil_div(work.rows * work.entry_bits, sram.banks * sram.word_bits)
    least = max(supply, _look_up_cycles(machine, work, work.rows))
    return np.maximum(groups * machine.pe_array.dense_cycles(work.rows, pixels), least)


def _step_cycles(machine: Machine, work: LayerWork, groups: Indices) -> Indices:
    """Cycles of each step of a column whose weights come from the decode units. The last, smaller pass keeps the steps
    of a full one, because that is how the units group what they hand over."""
    return np.maximum(groups, _look_up_cycles(machine, work, min(work.rows, _step_rows(machine, work))))


def _look_up_cycles(machine: Machine, work: LayerWork, rows: int) -> int:
    """Cycles in which so many weights of a column are looked up; every element looks up its own."""
    if not work.needs(Need.CODEBOOK):
        return 0
    return machine.codebook.column_cycles(ceil_div(rows, machine.pe_array.elements))


def _wait_for_tables(builder: ProgramBuilder, delivery: Delivery, node: str, firing: int) -> None:
    """Biases and scales must be there before the first multiplication."""
    if delivery.tables is not None:
        link = builder.link("weight_sram.deliver", node, what="tables")
        link.give([delivery.tables])
        link.take([firing])


def _sparse(
    builder: ProgramBuilder,
    machine: Machine,
    work: LayerWork,
    layer: int,
    weights: WeightStream,
    delivery: Delivery,
    broadcast: Indices,
    decoding: Decoding | None,
) -> list[_Handover]:
    from dchw.lowering.firings import element_firings

    entries = work.entries
    array = machine.pe_array
    runs = _Runs(work, array.elements)
    by_itself = decoding is None or decoding.at_load
    floor = _entry_cycles(machine, work, fetched_by_element=by_itself)
    drain = np.array(
        [array.drain_cycles(work.tiling.rows, work.tiling.pixels_in(i)) for i in range(work.tiling.passes)], np.int32
    )
    active = _active_jobs(work)
    handovers = []
    for element in range(array.elements):
        begin, length = runs.of(element)
        occupied, job_firing, index, firing, drained = element_firings(
            work.activity, begin, length, entries.row, floor, array.hazard_cycles, drain, by_itself
        )
        node = builder.node(f"pe[{element}]", "pe_array")
        first = node.fire(occupied, layer)[0]
        queue = builder.link("activation_sram.broadcast", node.name, what="columns", depth=array.queue_depth)
        queue.give(broadcast)
        queue.take(job_firing + first)
        user = ChunkUser(
            node=node.name, job_firing=_by_pass(work, job_firing + first), active=active, last=drained + first
        )
        ids = _chunks_of(work.packed, element)
        if decoding is None:
            _take_chunks(builder, weights, delivery, work, user, ids, machine.weight_sram.access_cycles - 1)
            _wait_for_tables(builder, delivery, node.name, int(first))
        elif decoding.at_load:
            decoding.hand_chunks(user, ids)
        else:
            decoding.hand_entries(node.name, index, firing + first, np.searchsorted(drained, firing))
        handovers.append(_Handover(node=node.name, firings=drained + first))
    if decoding is None:
        _drop_chunks(weights, delivery, work)
    return handovers


def _entry_cycles(machine: Machine, work: LayerWork, *, fetched_by_element: bool) -> int:
    """Cycles an entry takes at least: its codebook slot and, where elements read the SRAM themselves, its bits."""
    least = machine.codebook.slot_cycles if work.needs(Need.CODEBOOK) else 1
    if fetched_by_element:
        bits, every = machine.weight_sram.reader_bits_per_cycle(machine.pe_array.elements)
        least = max(least, ceil_div(work.entry_bits * every, bits))
    return least


def _chunks_of(packed: PackedLayer, element: int) -> Indices:
    """Chunks that hold runs of one processing element, in order."""
    section = element * packed.shape.sections // packed.shape.elements
    return np.flatnonzero(packed.chunk_decoder // packed.shape.section_decoders == section)


class _Runs:
    """Where each processing element's runs lie in the entry arrays."""

    def __init__(self, work: LayerWork, elements: int) -> None:
        entries = work.entries
        jobs = work.activity.shape[1]
        self._begin = np.zeros((elements, jobs), np.int32)
        self._length = np.zeros((elements, jobs), np.int32)
        self._begin[entries.run_element, entries.run_job] = np.cumsum(entries.run_count) - entries.run_count
        self._length[entries.run_element, entries.run_job] = entries.run_count

    def of(self, element: int) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32]]:
        """int32[jobs] first entry and int32[jobs] number of entries of each run of one element."""
        return self._begin[element], self._length[element]


def _collect(builder: ProgramBuilder, machine: Machine, stage: Stage, layer: int, results: list[_Handover]) -> Indices:
    """The vector unit takes each pass's sums, and the operations behind the layer their share of it."""
    work, passes = stage.layer, stage.layer.tiling.passes
    pixels = np.array([work.tiling.pixels_in(index) for index in range(passes)])
    behind = stage.vector_values * np.cumsum(pixels) // work.tiling.pixels
    values = pixels * work.geometry.out_channels + np.diff(behind, prepend=0)
    node = builder.node("vector", "vector")
    firings = node.fire([machine.vector.cycles(int(value)) for value in values], layer)
    for handover in results:
        link = builder.link(handover.node, node.name, what="sums", depth=1)
        link.give(handover.firings)
        link.take(firings)
    if stage.product_macs:
        last = node.fire([ceil_div(stage.product_macs, machine.pe_array.macs_per_cycle)], layer)
        firings = np.append(firings[:-1], last)
    return firings
