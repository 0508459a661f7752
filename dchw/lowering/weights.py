"""Weights on their way from DRAM into the weight SRAM: blocks, chunks, and room given back when a chunk is used up.

Regions of a layer lie one behind another in DRAM: its tables together, every other from a block boundary on. Bytes of
a burst that two tables share count as the first one's. Blocks are asked for in the order in
which chunks need them (tables first, then chunk by chunk: pointers, gaps, codes), each block once per round. A chunk is
*delivered* when its last block is in; a block's room is free when every chunk with a byte in it is used up, block by
block in the order of asking. A layer that needs several passes and fits the buffer is fetched in one round and stays,
chunk by chunk, until its last pass; one that is decoded at load and kept decoded is fetched once. Otherwise every pass
is a round of its own.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from dchw.lowering.context import Lowering, StageLowering
from dchw.machines.machine import Machine
from dchw.mapping.resident_weights import chunk_rounds, decoded_once, dram_bytes, residents, tenants
from dchw.mapping.stages import LayerWork, distinct_parts
from dchw.program.builder import Firings, Indices, LinkBuilder, NodeBuilder, Row
from dchw.quantities import DchwError
from dchw.vocabulary import STREAMS, Stream

REQUEST_QUEUE = 4
"""Requests that may wait between a DMA channel and the memory controller."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Delivery:
    """How a layer's chunks reach those who use them."""

    rounds: int
    """0: weights are in the SRAM already; 1: fetched once; otherwise one round a pass."""
    tables: int | None
    """Firing of ``weight_sram.deliver`` that hands over the tables; None: there are none to wait for."""
    chunk_firing: Indices
    """int64[rounds, chunks]: firing of ``weight_sram.deliver`` that hands over each chunk."""
    release_firing: Indices | None
    """int64[rounds, chunks]: firing of ``weight_sram.release`` that waits for each chunk to be used up; None where the
    chunks hold no bytes (a layer, or a part of one, that keeps no weight), so that they take no room to give back."""

    def given_and_freed(self, rounds: Indices | int, chunks: Indices) -> tuple[Row, Row | None]:
        """Firings that hand over chunks in these rounds, and those that wait for them to be used up."""
        given = self.chunk_firing[rounds, chunks].astype(np.int32)
        return given, None if self.release_firing is None else self.release_firing[rounds, chunks].astype(np.int32)

    def rounds_of(self, passes: int) -> list[tuple[int, int, int]]:
        """(round, pass in which its chunks are taken, pass in which they are used up)."""
        if self.rounds == 1:
            return [(0, 0, passes - 1)]
        return [(index, index, index) for index in range(self.rounds)]

    def rounds_by_block(self, work: LayerWork) -> list[tuple[int, int, int, Indices]]:
        """As `rounds_of`, with the chunks concerned: block by block of columns where the layer is worked so."""
        chunks = np.arange(work.packed.chunks, dtype=np.int64)
        if work.tiling.blocks == 1 or self.rounds == 0:
            return [(*one, chunks) for one in self.rounds_of(work.tiling.passes)]
        tiles = work.tiling.tiles
        first, last = work.blocks_of_chunks
        both, which = np.unique(np.stack([first, last]), axis=1, return_inverse=True)
        return [
            (0, int(a) * tiles, (int(b) + 1) * tiles - 1, chunks[which.ravel() == index])
            for index, (a, b) in enumerate(both.T)
        ]


class WeightStream:
    """Lowers the weight side of one stage after another."""

    def __init__(self, lowering: Lowering) -> None:
        self._lowering = lowering
        self._machine = machine = lowering.machine
        stages = lowering.workload.stages
        self._at_load = lowering.workload.decodes_at_load
        parts = distinct_parts(stage.layer for stage in stages)
        self._pinned: frozenset[int] = frozenset()
        self._pinned_bytes = pinned_bytes = 0
        if lowering.warm:
            held = tenants([stage.layer for stage in stages], machine, at_load=self._at_load)
            self._pinned = residents(held, machine.weight_sram.size_bytes)
            pinned_bytes = sum(part.size_bytes for part in held if part.key in self._pinned)
            self._pinned_bytes = pinned_bytes
        room = machine.dma.staging_bytes if self._at_load else machine.weight_sram.size_bytes - pinned_bytes
        self._capacity = room // machine.dma.request_bytes
        self._address = 0
        self._at: dict[int, dict[Stream, int]] = {}
        self.end = sum(dram_bytes(work, machine) for work in parts)
        """First address behind all weights."""
        self.notes: tuple[str, ...] = ()
        if lowering.warm:
            kept = f"{len(self._pinned)} of {len(parts)} layers"
            self.notes = (f"warm: the weights of {kept} ({pinned_bytes:,} B) were in the weight SRAM already",)

    def lower(self, at: StageLowering) -> Delivery:
        """Append the fetching of one layer; how its chunks are delivered."""
        work, chunks = at.work, at.work.packed.chunks
        if id(work.packed) in self._pinned:
            none = np.empty((0, chunks), np.int64)
            return Delivery(rounds=0, tables=None, chunk_firing=none, release_firing=none)
        tables = _table_blocks(work, self._machine)
        blocks = _chunk_blocks(work, self._machine)
        passes = work.tiling.passes
        once = decoded_once(self._machine, work) if self._at_load else work.tiling.blocks > 1
        rounds = chunk_rounds(work, self._machine, at_load=self._at_load, held_bytes=self._pinned_bytes)
        self._check_room(work, tables, blocks, resident=rounds == 1 and passes > 1 and not once)
        base = self._place(work)
        deliver, tables_firing = at.nodes.deliver, None
        if tables.stream.size:
            tables_firing = int(at.fire(deliver, [1])[0])
            released = self._fetch(at, tables, base, np.full(tables.stream.size, tables_firing, np.int64))
            done = at.builder.link(deliver, at.nodes.release, what="tables handed over")
            done.give([tables_firing])
            done.take(released[:1])
        chunk_firing = np.empty((rounds, chunks), np.int64)
        release_firing = np.empty((rounds, chunks), np.int64) if blocks.stream.size else None
        for r in range(rounds):
            chunk_firing[r] = at.fire(deliver, np.ones(chunks, np.int32))
            if release_firing is None:
                continue
            released = self._fetch(at, blocks, base, chunk_firing[r][blocks.first_chunk])
            release_firing[r] = released[np.minimum(np.searchsorted(blocks.released_after, np.arange(chunks)),
                                                    released.size - 1)]  # fmt: skip
        return Delivery(rounds=rounds, tables=tables_firing, chunk_firing=chunk_firing, release_firing=release_firing)

    def used_up(self, delivery: Delivery, user: NodeBuilder, firings: Firings) -> None:
        """Note that ``user`` is done with a chunk at each of these firings of its, in the order of `free_behind`."""
        if delivery.release_firing is not None:
            self._used_up(user).give(firings)

    def free_behind(self, user: NodeBuilder, freed: Row | None) -> None:
        """Give room back once ``user`` is done with chunks; ``freed`` as `Delivery.given_and_freed` gives them."""
        if freed is not None:
            self._used_up(user).take(freed)

    def _used_up(self, user: NodeBuilder) -> LinkBuilder:
        return self._lowering.builder.link(user, self._lowering.nodes.release, what="chunks used up")

    def _fetch(self, at: StageLowering, blocks: _WeightBlocks, base: dict[Stream, int], wanted_by: Indices) -> Indices:
        """Ask for blocks and put them into the SRAM; the firings of the release node, one per block."""
        builder, nodes, machine = at.builder, at.nodes, self._machine
        n = blocks.stream.size
        ask = at.fire(nodes.weight_dma, np.ones(n, np.int32))
        outstanding = builder.link(
            nodes.weight_fill, nodes.weight_dma, what="outstanding", initial=machine.dma.outstanding
        )
        room = builder.link(nodes.release, nodes.weight_dma, what="room", initial=self._capacity)
        outstanding.take(ask)
        room.take(ask)
        starts = np.array([base.get(stream, 0) for stream in STREAMS], np.int64)
        address = starts[blocks.stream] + blocks.begin
        builder.port("weights").ask(address, blocks.bursts, False, blocks.stream, at.layer)
        self._note_blocks(at, blocks)
        builder.link(nodes.weight_dma, builder.memory, what="requests", depth=REQUEST_QUEUE).give(ask)
        fill = at.fire(nodes.weight_fill, np.full(n, machine.weight_sram.fill_cycles(machine.dma.request_bytes)))
        builder.link(builder.memory, nodes.weight_fill, what="weights").take(fill)
        outstanding.give(fill)
        stored = builder.link(nodes.weight_fill, nodes.deliver, what="blocks")
        stored.give(fill)
        stored.take(wanted_by)
        release = at.fire(nodes.release, np.ones(n, np.int32))
        room.give(release)
        return release

    def _note_blocks(self, at: StageLowering, blocks: _WeightBlocks) -> None:
        """Requests of every stream, and the words their answers fill: of the weight SRAM or of the staging buffer."""
        machine, kinds = self._machine, len(STREAMS)
        filled = -(-blocks.bursts.astype(np.int64) * machine.dram.burst_bytes * 8 // machine.weight_sram.word_bits)
        words = np.bincount(blocks.stream, weights=filled, minlength=kinds)
        into = at.flow.staged if self._at_load else at.flow.weight_writes
        for index in np.flatnonzero(requests := np.bincount(blocks.stream, minlength=kinds)):
            at.flow.requests[STREAMS[index]] += int(requests[index])
            into[STREAMS[index]] += int(words[index])

    def _place(self, work: LayerWork) -> dict[Stream, int]:
        packed, dma = work.packed, self._machine.dma
        if id(packed) not in self._at:
            base = self._at[id(packed)] = dict.fromkeys(packed.tables, self._address)
            self._address += dma.blocks(packed.table_bytes) * dma.request_bytes
            for stream in packed.chunk_bytes:
                base[stream] = self._address
                self._address += dma.blocks(packed.packed_bytes[stream]) * dma.request_bytes
        return self._at[id(packed)]

    def _check_room(self, work: LayerWork, tables: _WeightBlocks, blocks: _WeightBlocks, *, resident: bool) -> None:
        """Check the most blocks that must be in at once: up to a chunk's last, less those surely used up by then."""
        packed = work.packed
        chunks = np.arange(packed.chunks)
        needed = np.searchsorted(blocks.first_chunk, chunks, side="right")
        if work.tiling.blocks > 1 and not self._at_load:  # a block of columns stays until all tiles have gone by
            first, last = work.blocks_of_chunks
            finished = np.searchsorted(np.maximum.accumulate(last), first, side="left")
        else:
            ends = np.maximum.accumulate(packed.chunk_end_job)
            finished = np.searchsorted(ends, packed.chunk_first_job, side="right")
        freed = np.searchsorted(blocks.released_after, np.minimum(finished, chunks), side="left")
        most = blocks.stream.size if resident else int((needed - freed).max(initial=1))
        most = max(most, tables.stream.size, 2)
        if most > self._capacity:
            name, size = ("dma.staging_bytes", "staging") if self._at_load else ("weight_sram.size_bytes", "buffer")
            raise DchwError(
                f"layer {work.name!r}: its chunks need {most} blocks of {self._machine.dma.request_bytes} B at once, "
                f"but the {size} holds {self._capacity}; raise {name}, or lower huffman.chunk_entries or huffman.units"
            )


def pointers_apart(machine: Machine, work: LayerWork) -> bool:
    """Whether elements look pointers up in a memory of their own."""
    return machine.weight_sram.pointer_memory is not None and Stream.POINTERS in work.packed.regions


@dataclass(frozen=True, kw_only=True, eq=False)
class _WeightBlocks:
    """Blocks in the order of asking."""

    stream: npt.NDArray[np.int64]
    begin: npt.NDArray[np.int64]
    """First byte of the block from where its region begins, or from where the layer's tables begin."""
    bursts: npt.NDArray[np.int32]
    first_chunk: npt.NDArray[np.int64]
    """First chunk with a byte in the block; never decreasing."""
    released_after: npt.NDArray[np.int64]
    """Chunk after which this block and all before it are free; never decreasing."""


def _table_blocks(work: LayerWork, machine: Machine) -> _WeightBlocks:
    """Blocks of the tables, cut at bursts where the next table begins as well."""
    packed, burst = work.packed, machine.dram.burst_bytes
    ends = np.cumsum([packed.packed_bytes[stream] for stream in packed.tables])
    begin = np.arange(0, packed.table_bytes, burst)
    whose = np.searchsorted(ends, begin, side="right")
    first = np.flatnonzero((np.diff(whose, prepend=-1) > 0) | (begin % machine.dma.request_bytes == 0))
    streams = np.array([STREAMS.index(stream) for stream in packed.tables], np.int64)
    nothing = np.full(first.size, -1, np.int64)
    return _WeightBlocks(
        stream=streams[whose[first]],
        begin=begin[first],
        bursts=np.diff(first, append=begin.size).astype(np.int32),
        first_chunk=nothing,
        released_after=nothing,
    )


def _chunk_blocks(work: LayerWork, machine: Machine) -> _WeightBlocks:
    step = machine.dma.request_bytes
    columns = [np.empty((5, 0), np.int64)]  # all there is where no chunk holds a byte
    for stream, offsets in work.packed.chunk_bytes.items():
        bursts = machine.dma.block_bursts(work.packed.packed_bytes[stream], machine.dram.burst_bytes)
        begin = step * np.arange(bursts.size, dtype=np.int64)
        first = np.searchsorted(offsets[1:], begin, side="right")
        last = np.searchsorted(offsets[:-1], begin + step, side="left") - 1
        columns.append(np.stack([np.full(bursts.size, STREAMS.index(stream)), begin, bursts, first, last]))
    joined = np.concatenate(columns, axis=1)
    joined = joined[:, np.lexsort((joined[1], joined[0], joined[3]))]
    stream, begin, bursts, first, last = joined
    return _WeightBlocks(
        stream=stream,
        begin=begin,
        bursts=bursts.astype(np.int32),
        first_chunk=first,
        released_after=np.maximum.accumulate(last),
    )
