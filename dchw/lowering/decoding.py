"""The decode units' share of a stage: code tables, chunks, entries handed over as they are decoded.

Decoding at use sends every entry of an active column to its element's queue, or, where the array works columns in
lockstep, the weights of one step of the array to it when the unit's last of them is decoded. Decoding at load hands
over whole chunks, for which the weight SRAM must have room. Half of that SRAM keeps one layer that fits it, decoded
once for all passes; the other half holds chunks on their way.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from dchw.formats.packing.column_order import ColumnOrder
from dchw.formats.packing.run_layout import run_layout
from dchw.lowering.chunks import ChunkSpans, ChunkUser, Passes, needed_chunks
from dchw.lowering.context import StageLowering
from dchw.lowering.weights import Delivery, WeightStream
from dchw.machines.machine import Machine
from dchw.machines.units.huffman_decoder import DecoderStyle, Placement
from dchw.mapping.resident_weights import decoded_once, kept_decoded, most_chunks
from dchw.mapping.stages import LayerWork
from dchw.program.builder import Firings, Indices, LinkBuilder, NodeBuilder, Row
from dchw.program.flow import Decoded
from dchw.program.open_figures import OpenFigure
from dchw.quantities import DchwError
from dchw.vocabulary import Stream

ENTRIES_WAITING = OpenFigure(lambda machine: machine.huffman.output_queue)
"""Entries behind a decode unit that wait for one element."""
STEPS_WAITING = OpenFigure(lambda machine: max(1, machine.huffman.output_queue // machine.pe_array.lanes))
"""Steps' worth of weights behind a decode unit: as many, at least one, as its queues hold when every lane takes one."""
LOOK_UP_LATENCY = OpenFigure(lambda machine: machine.codebook.latency_cycles - 1)
"""Of what passes the codebook on its way."""


def times_decoded(machine: Machine, work: LayerWork, delivery: Delivery) -> int:
    """How often the decode units go through a layer's chunks: at use once for every tile of pixels, block by block of
    columns; at load once if that is enough for all its passes, and not at all where it is in the SRAM from the run
    before."""
    if machine.huffman.placement is Placement.USE:
        return work.tiling.tiles
    if delivery.rounds == 0:
        return 0
    return 1 if decoded_once(machine, work) else work.tiling.passes


@dataclass(frozen=True, kw_only=True, eq=False)
class StepEnds:
    """The symbols that complete what a decode unit gives to one step of a lockstep array, in chunk order."""

    symbol: Indices
    job: Indices
    step: Indices
    """Step of the array within the column."""


def step_ends(work: LayerWork, rows_per_step: int) -> StepEnds:
    """Where steps of ``rows_per_step`` rows end in the decode units' chunks of a layer without positions."""
    layout = run_layout(work.geometry, work.packed.shape)
    symbol, job, step = ColumnOrder(layout, layout.cut_columns()).ends(rows_per_step)
    return StepEnds(symbol=symbol, job=job, step=step)


def _weights_covered(work: LayerWork) -> Indices:
    """int64[symbols]: weights each entry stands for, itself and the zeros before it since the entry before."""
    if not work.form.positions:
        return np.ones(work.coded.symbols, np.int64)
    entries = work.entries
    layout = run_layout(work.geometry, work.packed.shape)
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


class Decoding:
    """The decode units' share of a layer."""

    def __init__(
        self, at: StageLowering, weights: WeightStream, delivery: Delivery, held: int, ends: StepEnds | None
    ) -> None:
        """``ends``: what the lockstep array waits for; None where elements wait for entries, or for chunks only."""
        self._at, self._builder, self._machine, self._work = at, at.builder, at.machine, at.work
        machine, work = at.machine, at.work
        self.at_load = machine.huffman.placement is Placement.LOAD
        packed, self._ends = work.packed, ends
        if ends is not None:  # nobody waits for what is never broadcast
            broadcast = np.any(work.activity, axis=0)[ends.job]
            self._ends = StepEnds(**{name: column[broadcast] for name, column in vars(ends).items()})
        self._check_tables()
        self._check_block(held)
        self._resident = self.at_load and kept_decoded(machine, work)
        self._decodes = times_decoded(machine, work, delivery)
        self._held = held
        # [units, rounds]: firings of each unit before a round, less those that its entries count before the round's
        # block of columns; a unit without chunks has -1
        self._before = np.full((machine.huffman.units, self._decodes * work.tiling.blocks), -1, np.int64)
        self._chunk_last: dict[int, tuple[Indices, Indices]] = {}
        if self._decodes == 0:
            return  # decoded entries are in the SRAM from the run before
        order = np.argsort(packed.chunk_decoder, kind="stable")
        firings, before = self._schedule(order)
        block, last = work.blocks_of_chunks
        assert np.array_equal(block, last), "a chunk reaches over a block of columns: the layer is not packed in bands"
        rounds = self._rounds(delivery)
        bounds = np.flatnonzero(np.diff(packed.chunk_decoder[order], prepend=-1))
        for first, end in pairwise([*bounds.tolist(), order.size]):
            ids, own = order[first:end], firings[before[first] : before[end]]
            starts = before[first : end + 1] - before[first]
            in_blocks = starts[np.searchsorted(block[ids], np.arange(work.tiling.blocks + 1))]
            self._unit(ids, own, starts, in_blocks, weights, delivery, rounds)
        self._note_work()

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

    def _check_block(self, held: int) -> None:
        """At load, the chunks of a block of columns stay together."""
        if not self.at_load or kept_decoded(self._machine, self._work) or self._work.tiling.blocks == 1:
            return
        if (most := most_chunks(self._work)) > held:
            raise DchwError(
                f"layer {self._work.name!r}: a decode unit has {most} chunks of one block of its columns, and room for "
                f"{held} decoded ones of the network's widest entries; raise weight_sram.size_bytes, or give the layer "
                "more column_blocks in the machine's mapping"
            )

    def _schedule(self, order: Indices) -> tuple[npt.NDArray[np.int32], Indices]:
        """Firings of one pass of all units, chunk by chunk in ``order``: (occupied cycles, firings before each chunk).

        Sets the firing of each wanted entry, counted from its unit's first of a pass.
        """
        from dchw.lowering.entry_firings import group_cycles

        huffman, coded = self._machine.huffman, self._work.coded
        ready = np.empty(0, np.int64)
        longest = sum(int(bits.max(initial=0)) for bits in coded.bits.values())
        if not huffman.one_a_cycle(longest, self._machine.reader_supply):
            rate = huffman.style is DecoderStyle.RATE
            ready = huffman.schedule(
                coded.of(Stream.GAPS),
                coded.of(Stream.CODES),
                _weights_covered(self._work) if rate else ready,
                coded.chunk_offsets,
                1.0 - self._work.stored_weights / self._work.geometry.weights,
                self._machine.reader_supply,
            )
        self._group, occupied, before = group_cycles(
            ready,
            self._wanted,
            np.searchsorted(self._wanted, coded.chunk_offsets),
            coded.chunk_offsets,
            huffman.chunk_start_cycles,
            order,
            self._work.packed.chunk_decoder,
        )
        return occupied, before

    @cached_property
    def _wanted(self) -> Indices:
        """int64[wanted]: symbols that somebody waits for, rising; at load only whole chunks are waited for."""
        if self.at_load:
            return np.empty(0, np.int64)
        if self._ends is not None:
            return self._ends.symbol
        entries, active = self._work.entries, np.any(self._work.activity, axis=0)
        return np.flatnonzero(np.repeat(active[entries.run_job], entries.run_count))

    def _unit(
        self,
        ids: Indices,
        occupied: npt.NDArray[np.int32],
        before: Indices,
        bounds: Indices,
        weights: WeightStream,
        delivery: Delivery,
        rounds: Sequence[tuple[int, int, npt.NDArray[np.bool_]]],
    ) -> None:
        """Append one unit's firings: its chunks, cycles of each firing of a pass, firings before each chunk, and, as
        int64[blocks + 1], before each block of columns of those that go through all chunks once; ``rounds`` as
        `_rounds`."""
        at, huffman, work = self._at, self._machine.huffman, self._work
        unit = int(work.packed.chunk_decoder[ids[0]])
        node = at.nodes.decoder(unit)
        if self._resident:
            self._half(unit).take([node.count])
        symbols = work.packed.parameters.gap_symbols + work.packed.parameters.code_symbols
        cycles = np.array([huffman.table_load_cycles(symbols)], np.int32)
        passes = [occupied[first:end] for first, end in pairwise(bounds.tolist()) for _ in range(self._decodes)]
        every = self._builder.sheets.empty(1 + self._decodes * occupied.size)
        load = node.append(np.concatenate([cycles, *passes], out=every), at.layer)
        sizes = np.repeat(np.diff(bounds), self._decodes)
        self._before[unit] = load + 1 + np.cumsum(sizes) - sizes - np.repeat(bounds[:-1], self._decodes)
        self._chunk_last[unit] = (ids, before)
        link = at.builder.link(at.nodes.deliver, node, what="chunks", latency=at.chunk_latency)
        if delivery.tables is not None:
            link.take([load])
        for taken_in, used_in, here in rounds:
            mine = here[ids]
            link.take(self._firing(unit, taken_in, before[:-1][mine]))
            weights.used_up(delivery, node, self._firing(unit, used_in, before[1:][mine] - 1))

    def _rounds(self, delivery: Delivery) -> list[tuple[int, int, npt.NDArray[np.bool_]]]:
        """(round in which chunks are taken, the one in which they are used up, bool[chunks] which they are)."""
        count = self._work.packed.chunks
        if self._work.tiling.blocks == 1 or self.at_load:
            every = np.ones(count, np.bool_)
            return [(taken_in, used_in, every) for _, taken_in, used_in in delivery.rounds_of(self._decodes)]
        found = []
        for _, taken_in, used_in, chunks in delivery.rounds_by_block(self._work):
            here = np.zeros(count, np.bool_)
            here[chunks] = True
            found.append((taken_in, used_in, here))
        return found

    def _note_work(self) -> None:
        """What the units read, decode and, at load, write."""
        machine, work, flow, times = self._machine, self._work, self._at.flow, self._decodes
        coded, sram = work.coded, machine.weight_sram
        look_ups = machine.huffman.look_ups(coded.of(Stream.GAPS), coded.of(Stream.CODES), coded.chunk_offsets)
        for stream, bits in coded.bits.items():
            flow.decoded[stream] = Decoded(
                symbols=coded.symbols,
                bits=int(bits.sum(dtype=np.int64)),
                look_ups=look_ups,
                times=times,
            )
        symbols = work.packed.parameters.gap_symbols + work.packed.parameters.code_symbols
        flow.table_symbols += symbols * len(self._chunk_last)
        if self.at_load:
            flow.weight_writes[work.form.values] += sram.words(coded.symbols * work.entry_bits) * times
            flow.weight_writes[Stream.POINTERS] += sram.words(work.starts_bits) * times
            return
        for stream, offsets in work.packed.chunk_bytes.items():
            words = -(-8 * np.diff(offsets) // sram.word_bits)
            flow.weight_reads[stream] += int(words.sum()) * times

    def _firing(self, unit: int, index: int, group: Firings) -> Indices:
        """Firings of a decode unit in a round, counted by ``group`` from the first that goes through its chunks."""
        return np.add(group, self._before.item(unit, index), dtype=np.int64)

    @property
    def one_unit(self) -> bool:
        """Whether the entries of an element are all one unit's."""
        return self._work.packed.shape.section_decoders == 1

    def hand_overs(self) -> tuple[Row, Row, npt.NDArray[np.int32]]:
        """Which decode unit hands each entry over, and at which of the firings that go through its chunks once;
        int32[units, passes]: what to add to that in a pass."""
        unit, symbols = self._work.packed.chunk_decoder.astype(np.int32, copy=False), self._work.coded.symbols
        group = self._group
        if group.size < symbols:
            group = np.zeros(symbols, np.int32)
            group[self._wanted] = self._group
        return np.repeat(unit, np.diff(self._work.coded.chunk_offsets)), group, self._before.astype(np.int32)

    def hand_entries(self, element: NodeBuilder, unit: Row, given_by: Row, taken_by: Row) -> None:
        """Entries from the decode units to one element's queue, as they are decoded.

        ``unit``: the decode unit of each entry, or, with ``one_unit``, of all.
        """
        if self.one_unit:
            if given_by.size:
                self._hand(element, unit.item(0), given_by, taken_by)
            return
        for index in np.unique(unit).tolist():
            self._hand(element, index, given_by[unit == index], taken_by[unit == index])

    def _hand(self, element: NodeBuilder, unit: int, given_by: Row, taken_by: Row) -> None:
        queue = self._builder.link(
            self._at.nodes.decoder(unit),
            element,
            what="entries",
            depth=ENTRIES_WAITING,
            latency=LOOK_UP_LATENCY,
        )
        queue.give(given_by)
        queue.take(taken_by)

    def hand_steps(self, node: NodeBuilder, job_firing: Indices) -> None:
        """Weights from the decode units to a lockstep array, step by step.

        ``job_firing``: the firing of the first step of each active job, pass by pass.
        """
        from dchw.lowering.entry_firings import hand_steps

        assert self._ends is not None
        ends, active = self._ends, self._work.activity > 0
        firing_of = np.full(active.shape, -1, np.int32)
        firing_of[active] = job_firing
        before, chunks = self._before.astype(np.int32), self._work.coded.chunk_offsets
        offsets = np.searchsorted(ends.symbol, chunks)
        steps = np.append(0, np.cumsum(np.count_nonzero(active, axis=0)[ends.job]))  # in all passes, before each
        count = np.diff(steps[offsets])  # of each chunk
        for unit, (ids, _) in sorted(self._chunk_last.items()):
            total = int(count[ids].sum())
            if not total:
                continue
            given_by, taken_by = (self._builder.sheets.empty(total + 1) for _ in range(2))
            hand_steps(ids, offsets, ends.job, ends.step, self._group, before[unit], firing_of, given_by, taken_by)
            self._check_steps(given_by[:-1])
            link = self._builder.link(
                self._at.nodes.decoder(unit),
                node,
                what="steps",
                depth=STEPS_WAITING,
                latency=LOOK_UP_LATENCY,
            )
            link.give(given_by[:-1])
            link.take(taken_by[:-1])

    def _check_steps(self, given: Row) -> None:
        """What a unit completes in one firing has room behind it. ``given``: the firing of each step's last weight."""
        huffman, room = self._machine.huffman, STEPS_WAITING.of(self._machine)
        if huffman.most_per_cycle <= room * huffman.units:
            return
        most = int(np.unique(given, return_counts=True)[1].max())
        if most > room:
            enough = most * self._machine.pe_array.lanes
            raise DchwError(
                f"layer {self._work.name!r}: a decode unit completes the weights of {most} steps of the array in a "
                f"cycle, and its queues hold {room}; raise huffman.output_queue to {enough}"
            )

    def hand_chunks(self, user: ChunkUser, passes: Passes, ids: Indices) -> None:
        """Decoded chunks from the decode units to one user; room for them goes the other way."""
        packed, work = self._work.packed, self._work
        for unit in np.unique(packed.chunk_decoder[ids]):
            if int(unit) not in self._chunk_last:
                continue
            own, before = self._chunk_last[int(unit)]
            node = self._at.nodes.decoder(int(unit))
            decoded = self._builder.link(node, user.node, what="decoded chunks")
            room = self._builder.link(user.node, node, what="room for chunks", initial=self._held)
            for decode, taken_in, used_in, there in self._handed_over():
                wanted = np.flatnonzero((there & needed_chunks(work, passes, taken_in, used_in))[own])
                spans = ChunkSpans.of(passes, packed, np.array(taken_in), np.array(used_in), own[wanted])
                decoded.give(self._firing(int(unit), decode, before[1:][wanted] - 1))
                decoded.take(user.taken(spans))
                if not self._resident:
                    room.take(self._firing(int(unit), decode, before[:-1][wanted]))
                    room.give(user.done(spans))

    def _handed_over(self) -> list[tuple[int, int, int, npt.NDArray[np.bool_]]]:
        """Of chunks that are decoded at load: (which time they are decoded, the pass in which they are taken, the one
        in which they are used up, bool[chunks], which they are)."""
        tiling, every = self._work.tiling, np.ones(self._work.packed.chunks, np.bool_)
        if self._decodes != 1:
            return [(index, index, index, every) for index in range(self._decodes)]
        block, _ = self._work.blocks_of_chunks
        ends = [(index, index * tiling.tiles, (index + 1) * tiling.tiles - 1) for index in range(tiling.blocks)]
        return [(0, taken_in, used_in, block == index) for index, taken_in, used_in in ends]

    def finish(self, firing: int) -> None:
        """Give back the half of the weight SRAM in which the layer was kept, once its last result is out."""
        if self._resident:
            for unit in sorted(self._chunk_last):
                self._half(unit).give([firing])

    def _half(self, unit: int) -> LinkBuilder:
        nodes = self._at.nodes
        return self._builder.link(nodes.vector, nodes.decoder(unit), what="layers kept", initial=1)
