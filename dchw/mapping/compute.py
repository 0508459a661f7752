"""Decoding, broadcast, multiplication and results of one stage, as firings.

Every pass broadcasts the columns with a non-zero activation, in job order; a processing element works through its
entries of each (one firing per entry, or one without an entry where it has none) and hands its sums over at the end.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from dchw.hardware.machine import Machine
from dchw.mapping.builder import Indices, LinkBuilder, ProgramBuilder
from dchw.mapping.weights import Delivery, WeightStream, decoded_bytes
from dchw.mapping.workload import LayerWork, Stage
from dchw.quantities import DchwError, ceil_div
from dchw.storage import Entries, Need, PackedLayer, storage_format
from dchw.storage.layout import RunLayout
from dchw.units.huffman_decoder import DecoderStyle, Placement


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
    if work.dense:
        results = [_dense(builder, machine, work, layer, weights, delivery, broadcast)]
        return _collect(builder, machine, stage, layer, results)
    decoding = None
    if work.packed.storage == "huffman":
        decoding = _Decoding(builder, machine, work, layer, weights, delivery, held)
    results = _sparse(builder, machine, work, layer, weights, delivery, broadcast, decoding)
    done = _collect(builder, machine, stage, layer, results)
    if decoding is not None:
        decoding.finish(int(done[-1]))
    return done


def chunks_held(machine: Machine, works: Sequence[LayerWork]) -> int:
    """Decoded chunks that one decode unit may have in its part of the weight SRAM, with decoding at load.

    Half of the SRAM holds chunks on their way; layers that fit the other half are decoded once and kept.
    """
    streamed = [work for work in works if not kept_decoded(machine, work)]
    largest = max((_largest_chunk(work) * work.entry_bits for work in streamed), default=1)
    held = machine.weight_sram.size_bytes * 4 // machine.huffman.units // max(largest, 1)
    if held < 2:
        raise DchwError(
            f"huffman: decoded chunks of up to {largest} bits need room for two in each of {machine.huffman.units} "
            "parts of half the weight SRAM; raise weight_sram.size_bytes or lower huffman.chunk_entries"
        )
    return held


def kept_decoded(machine: Machine, work: LayerWork) -> bool:
    """Whether a layer, decoded at load, is decoded once and stays in half of the weight SRAM for all its passes."""
    return decoded_bytes(work) * 2 <= machine.weight_sram.size_bytes


def _largest_chunk(work: LayerWork) -> int:
    assert isinstance(work.weights, Entries)
    return int(np.diff(work.weights.chunk_offsets).max(initial=1))


@dataclass(frozen=True, kw_only=True, eq=False)
class _Handover:
    """A node that hands over its sums once a pass."""

    node: str
    firings: Indices


@dataclass(frozen=True, kw_only=True, eq=False)
class _User:
    """Who works through the chunks of a layer: the firing of each active job, pass by pass."""

    node: str
    job_firing: list[Indices]
    """Per pass: firing of each active job."""
    active: list[Indices]
    """Per pass: the active jobs."""
    last: Indices
    """Firing that ends each pass."""

    def span(self, index: int, first_job: Indices, end_job: Indices) -> tuple[Indices, Indices]:
        """In one pass, the firing that first needs each chunk and the one after which it is used up.

        A chunk without an active job is taken and used up by the firing that comes next.
        """
        starts = np.append(self.job_firing[index], self.last[index])
        take = starts[np.searchsorted(self.active[index], first_job)]
        done = starts[np.searchsorted(self.active[index], end_job)] - 1
        return take, np.maximum(take, done)


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
    return first + firings[:, 1:][work.activity > 0]


def _active_jobs(work: LayerWork) -> list[Indices]:
    return [np.flatnonzero(row) for row in work.activity]


def _by_pass(work: LayerWork, job_firing: Indices) -> list[Indices]:
    return np.split(job_firing, np.cumsum(np.count_nonzero(work.activity, axis=1))[:-1])


def _needed(work: LayerWork, taken_in: int, used_in: int) -> Indices:
    """Chunks that somebody waits for in a round, in order.

    A chunk without an active job is not needed in its pass. One that is kept for several passes counts as needed.
    """
    packed = work.packed
    if taken_in != used_in:
        return np.arange(packed.chunks)
    active = np.flatnonzero(work.activity[taken_in])
    first, end = np.searchsorted(active, packed.chunk_first_job), np.searchsorted(active, packed.chunk_end_job)
    return np.flatnonzero(first < end)


def _drop_chunks(weights: WeightStream, delivery: Delivery, work: LayerWork) -> None:
    """Give the room of chunks that nobody needs back as soon as they are in."""
    for index, taken_in, used_in in delivery.rounds_of(work.tiling.passes):
        unused = np.setdiff1d(np.arange(work.packed.chunks), _needed(work, taken_in, used_in))
        weights.used_up(delivery, "weight_sram.deliver", index, unused, delivery.chunk_firing[index][unused])


def _take_chunks(
    builder: ProgramBuilder,
    weights: WeightStream,
    delivery: Delivery,
    work: LayerWork,
    user: _User,
    ids: Indices,
    latency: int,
) -> None:
    """Let a user take its chunks from ``weight_sram.deliver`` and give their room back."""
    packed = work.packed
    for index, taken_in, used_in in delivery.rounds_of(work.tiling.passes):
        mine = np.intersect1d(ids, _needed(work, taken_in, used_in), assume_unique=True)
        first, end = packed.chunk_first_job[mine], packed.chunk_end_job[mine]
        take, _ = user.span(taken_in, first, end)
        _, done = user.span(used_in, first, end)
        link = builder.link("weight_sram.deliver", user.node, what="chunks", latency=latency)
        link.give(delivery.chunk_firing[index][mine])
        link.take(take)
        weights.used_up(delivery, user.node, index, mine, done)


def _dense(
    builder: ProgramBuilder,
    machine: Machine,
    work: LayerWork,
    layer: int,
    weights: WeightStream,
    delivery: Delivery,
    broadcast: Indices,
) -> _Handover:
    array, sram = machine.pe_array, machine.weight_sram
    rows = work.geometry.out_channels // work.geometry.groups
    passes = work.tiling.passes
    job_bits = rows * work.entry_bits
    supply = ceil_div(job_bits, sram.banks * sram.word_bits)
    parts, starts, at = [], [], 0
    for index in range(passes):
        pixels = work.tiling.pixels_in(index)
        groups = work.activity[index][work.activity[index] > 0].astype(np.int64)
        cycles = np.maximum(groups * array.dense_cycles(rows, pixels), supply)
        parts += [cycles, np.array([array.drain_cycles(work.tiling.rows, pixels)])]
        starts.append(np.arange(at, at + groups.size))
        at += groups.size + 1
    node = builder.node("pe_array", "pe_array")
    first = node.fire(np.concatenate(parts), layer)[0]
    job_firing = [part + first for part in starts]
    last = first + np.cumsum([part.size + 1 for part in starts]) - 1
    queue = builder.link("activation_sram.broadcast", node.name, what="columns", depth=array.queue_depth)
    queue.give(broadcast)
    queue.take(np.concatenate(job_firing))
    user = _User(node=node.name, job_firing=job_firing, active=_active_jobs(work), last=last)
    _take_chunks(builder, weights, delivery, work, user, np.arange(work.packed.chunks), sram.access_cycles - 1)
    _drop_chunks(weights, delivery, work)
    _wait_for_tables(builder, delivery, node.name, int(first))
    return _Handover(node=node.name, firings=last)


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
    decoding: _Decoding | None,
) -> list[_Handover]:
    from dchw.mapping.firings import element_firings

    entries = work.weights
    assert isinstance(entries, Entries)
    array = machine.pe_array
    runs = _Runs(work, array.elements)
    floor = _entry_cycles(machine, work, fetched_by_element=decoding is None or decoding.at_load)
    drain = np.array(
        [array.drain_cycles(work.tiling.rows, work.tiling.pixels_in(i)) for i in range(work.tiling.passes)], np.int32
    )
    active = _active_jobs(work)
    handovers = []
    for element in range(array.elements):
        begin, length = runs.of(element)
        occupied, job_firing, index, firing, drained = element_firings(
            work.activity, begin, length, entries.row, floor, array.hazard_cycles, drain
        )
        node = builder.node(f"pe[{element}]", "pe_array")
        first = node.fire(occupied, layer)[0]
        queue = builder.link("activation_sram.broadcast", node.name, what="columns", depth=array.queue_depth)
        queue.give(broadcast)
        queue.take(job_firing + first)
        user = _User(node=node.name, job_firing=_by_pass(work, job_firing + first), active=active, last=drained + first)
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
    least = machine.codebook.slot_cycles if Need.CODEBOOK in storage_format(work.packed.storage).needs else 1
    if fetched_by_element:
        bits, every = machine.weight_sram.reader_bits_per_cycle(machine.pe_array.elements)
        least = max(least, ceil_div(work.entry_bits * every, bits))
    return least


def _chunks_of(packed: PackedLayer, element: int) -> Indices:
    """Chunks that hold runs of one processing element, in order."""
    lane = element * packed.shape.lanes // packed.shape.elements
    return np.flatnonzero(packed.chunk_decoder // packed.shape.lane_decoders == lane)


def _weights_covered(work: LayerWork) -> Indices:
    """int64[entries]: weights each entry stands for, itself and the zeros before it since the entry before."""
    entries = work.weights
    assert isinstance(entries, Entries)
    layout = RunLayout(geometry=work.geometry, shape=work.packed.shape)
    slot = np.full((work.geometry.groups, work.packed.shape.elements), 0, np.int64)
    np.put_along_axis(slot, layout.element.astype(np.int64), np.arange(layout.slots)[None], axis=1)
    group = entries.job // work.geometry.columns
    at = slot[group, entries.element]
    position = (entries.row - layout.first_row[group, at]) // work.packed.shape.elements
    run = np.repeat(np.arange(entries.run_count.size), entries.run_count)
    run_group = entries.run_job // work.geometry.columns
    sizes = layout.rows_on[run_group, slot[run_group, entries.run_element]].astype(np.int64)
    place = (np.cumsum(sizes) - sizes)[run] + position
    first_run = np.repeat(entries.chunk_run_offsets[:-1], np.diff(entries.chunk_offsets))
    before = np.append(-1, place[:-1])
    starts = entries.chunk_offsets[:-1][np.diff(entries.chunk_offsets) > 0]
    before[starts] = (np.cumsum(sizes) - sizes)[first_run[starts]] - 1
    return np.asarray(place - before, dtype=np.int64)


class _Runs:
    """Where each processing element's runs lie in the entry arrays."""

    def __init__(self, work: LayerWork, elements: int) -> None:
        entries = work.weights
        assert isinstance(entries, Entries)
        jobs = work.activity.shape[1]
        key = entries.element.astype(np.int64) * jobs + entries.job
        starts = np.flatnonzero(np.diff(key, prepend=-1))
        self._begin = np.zeros((elements, jobs), np.int32)
        self._length = np.zeros((elements, jobs), np.int32)
        self._begin.ravel()[key[starts]] = starts
        self._length.ravel()[key[starts]] = np.diff(starts, append=key.size)

    def of(self, element: int) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32]]:
        """int32[jobs] first entry and int32[jobs] number of entries of each run of one element."""
        return self._begin[element], self._length[element]


class _Decoding:
    """The decode units' share of a layer."""

    def __init__(
        self,
        builder: ProgramBuilder,
        machine: Machine,
        work: LayerWork,
        layer: int,
        weights: WeightStream,
        delivery: Delivery,
        held: int,
    ) -> None:
        self._builder, self._machine, self._work = builder, machine, work
        self.at_load = machine.huffman.placement is Placement.LOAD
        entries = work.weights
        assert isinstance(entries, Entries)
        packed = work.packed
        passes = work.tiling.passes
        self._check_tables()
        self._resident = self.at_load and kept_decoded(machine, work)
        decodes = 1 if self._resident or (delivery.rounds == 0 and self.at_load) else passes
        self._decodes = decodes
        self._decoder_of = np.repeat(packed.chunk_decoder, np.diff(entries.chunk_offsets))
        self._group = np.empty(entries.job.size, np.int64)
        self._held = held
        self._first: dict[int, int] = {}
        self._per_pass: dict[int, int] = {}
        self._chunk_last: dict[int, tuple[Indices, Indices]] = {}
        if self.at_load and delivery.rounds == 0:
            return  # decoded entries are in the SRAM from the run before
        rate = machine.huffman.style is DecoderStyle.RATE
        self._covered = _weights_covered(work) if rate else np.ones(entries.job.size, np.int64)
        for unit in np.unique(packed.chunk_decoder):
            self._unit(int(unit), layer, weights, delivery)

    def _check_tables(self) -> None:
        parameters, huffman = self._work.packed.parameters, self._machine.huffman
        if parameters.code_limit > huffman.window_bits:
            raise DchwError(
                f"layer {self._work.name!r}: code words of up to {parameters.code_limit} bits do not fit the decode "
                f"units' window of {huffman.window_bits}; raise huffman.window_bits or lower the code limit"
            )
        symbols = parameters.gap_symbols + parameters.code_symbols
        if symbols > huffman.table_entries:
            raise DchwError(
                f"layer {self._work.name!r}: its code tables list {symbols} symbols, the decode units hold "
                f"{huffman.table_entries}; raise huffman.table_entries or lower index_bits or codebook_bits"
            )

    def _unit(self, unit: int, layer: int, weights: WeightStream, delivery: Delivery) -> None:
        from dchw.mapping.firings import group_cycles

        builder, huffman, work = self._builder, self._machine.huffman, self._work
        entries = work.weights
        assert isinstance(entries, Entries)
        ids = np.flatnonzero(work.packed.chunk_decoder == unit)
        mine = np.flatnonzero(self._decoder_of == unit)
        offsets = np.append(0, np.cumsum(np.diff(entries.chunk_offsets)[ids])).astype(np.int64)
        ready = huffman.schedule(
            entries.gap_bits[mine],
            entries.code_bits[mine],
            self._covered[mine],
            offsets,
            1.0 - np.count_nonzero(~entries.is_filler) / work.geometry.weights,
            self._machine.reader_supply,
        )
        group, occupied, before = group_cycles(ready, offsets, huffman.chunk_start_cycles)
        node = builder.node(f"huffman[{unit}]", "huffman")
        if self._resident:
            self._half(unit).take([node.count])
        symbols = work.packed.parameters.gap_symbols + work.packed.parameters.code_symbols
        load = node.fire([huffman.table_load_cycles(symbols)], layer)[0]
        node.fire(np.tile(occupied, self._decodes), layer)
        self._group[mine] = group
        self._first[unit] = int(load) + 1
        self._per_pass[unit] = occupied.size
        self._chunk_last[unit] = (ids, before)
        link = builder.link(
            "weight_sram.deliver", node.name, what="chunks", latency=self._machine.weight_sram.access_cycles - 1
        )
        if delivery.tables is not None:
            link.give([delivery.tables])
            link.take([load])
        for index, taken_in, used_in in delivery.rounds_of(self._decodes):
            link.give(delivery.chunk_firing[index][ids])
            link.take(self._firing(unit, taken_in, before[:-1]))
            weights.used_up(delivery, node.name, index, ids, self._firing(unit, used_in, before[1:] - 1))

    def _firing(self, unit: int, index: npt.ArrayLike, group: Indices) -> Indices:
        return np.asarray(self._first[unit] + np.asarray(index) * self._per_pass[unit] + group, dtype=np.int64)

    def hand_entries(self, element: str, index: npt.NDArray[np.int32], firing: Indices, in_pass: Indices) -> None:
        """Entries from the decode units to one element's queue, as they are decoded."""
        decoder = self._decoder_of[index]
        for unit in np.unique(decoder):
            mine = decoder == unit
            queue = self._builder.link(
                f"huffman[{unit}]",
                element,
                what="entries",
                depth=self._machine.huffman.output_queue,
                latency=self._machine.codebook.latency_cycles - 1,
            )
            queue.give(self._firing(int(unit), in_pass[mine], self._group[index[mine]]))
            queue.take(firing[mine])

    def hand_chunks(self, user: _User, ids: Indices) -> None:
        """Decoded chunks from the decode units to one element; room for them goes the other way."""
        packed, work = self._work.packed, self._work
        for unit in np.unique(packed.chunk_decoder[ids]):
            if int(unit) not in self._first:
                continue
            own, before = self._chunk_last[int(unit)]
            name = f"huffman[{unit}]"
            decoded = self._builder.link(name, user.node, what="decoded chunks")
            room = self._builder.link(user.node, name, what="room for chunks", initial=self._held)
            for decode in range(self._decodes):
                use = work.tiling.passes - 1 if self._decodes == 1 else decode
                wanted = np.flatnonzero(np.isin(own, _needed(work, decode, use)))
                first, end = packed.chunk_first_job[own[wanted]], packed.chunk_end_job[own[wanted]]
                take, _ = user.span(decode, first, end)
                _, done = user.span(use, first, end)
                decoded.give(self._firing(int(unit), decode, before[1:][wanted] - 1))
                decoded.take(take)
                if not self._resident:
                    room.take(self._firing(int(unit), decode, before[:-1][wanted]))
                    room.give(done)

    def finish(self, firing: int) -> None:
        """Give back the half of the weight SRAM in which the layer was kept, once its last result is out."""
        if self._resident:
            for unit in self._first:
                self._half(unit).give([firing])

    def _half(self, unit: int) -> LinkBuilder:
        return self._builder.link("vector", f"huffman[{unit}]", what="layers kept", initial=1)


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
