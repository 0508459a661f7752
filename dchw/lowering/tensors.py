"""Activations between DRAM and the activation SRAM, block by block.

The tensors of a stage move side by side, each in the order in which the stage works through it. A block of the layer's
input is there before the broadcast has come as far as the block lies in its tensor; one of a tensor that is read behind
the layer, when the tile it belongs to leaves the array; one of a result is written once its tile is done. Where a part
of the input stays for the stage behind, its room is given back by the last stage that reads it.

What tensors that stay and waiting sums take of the activation SRAM is no room for an input: the first block of a stage
takes it away, where that is more than before, and the last broadcast of one before gives it back, where it is less.
Partial sums that wait in DRAM are written tile by tile, and read when the vector unit needs them again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt

from dchw.lowering.context import Lowering, StageLowering
from dchw.lowering.weights import REQUEST_QUEUE
from dchw.mapping.rooms import behind_blocks, input_blocks
from dchw.mapping.stages import Stage
from dchw.mapping.tiling import Sums
from dchw.program.builder import Indices, LinkBuilder, NodeBuilder
from dchw.quantities import ceil_div
from dchw.vocabulary import STREAMS, Stream


@dataclass(frozen=True, kw_only=True, eq=False)
class Fills:
    """Blocks of a stage's tensors on their way into the activation SRAM."""

    reached: Indices
    """int64[blocks of the input]: place in the stage with which each is first needed, never decreasing.

    Places are those of all passes: in each, ``places`` for opening it and for every column, skipped ones included. They
    are whole numbers, because a share of the way that is rounded may fall into the pass before.
    """
    places: int
    """Places of a column: several where one column's blocks are more than have room."""
    stays: bool
    """Whether they stay for the stage behind."""
    give_back: int
    """Blocks whose room this stage gives back at its end: that stayed, or that the next stage leaves to its input."""
    behind: Indices
    """Pass with whose sums each block is read that the vector unit reads; never decreasing."""


@dataclass(frozen=True, kw_only=True, eq=False)
class _TensorBlocks:
    """Blocks of all tensors that a stage moves one way, sorted by when their turn comes."""

    address: Indices
    bursts: npt.NDArray[np.int32]
    turn: npt.NDArray[np.floating[Any]]
    whose: Indices
    """Index of each block's tensor."""
    place: Indices
    """Index of each block in its tensor."""
    count: Indices
    """Blocks of its tensor."""


@dataclass(frozen=True, kw_only=True, eq=False)
class _AskedBlocks:
    """Blocks in the order of asking."""

    address: Indices
    bursts: npt.NDArray[np.int32]
    own: npt.NDArray[np.bool_]
    """Of the layer's input, which the broadcast reads; the others are read by the vector unit."""
    in_pass: Indices
    """Pass with whose sums the vector unit needs each."""
    sums: npt.NDArray[np.bool_]
    """Partial sums."""

    def ordered(self, order: Indices) -> _AskedBlocks:
        """In another order."""
        return _AskedBlocks(**{one.name: getattr(self, one.name)[order] for one in fields(self)})


class Tensors:
    """Lowers what stages load and store, one after another."""

    def __init__(self, lowering: Lowering, base: int) -> None:
        """``base``: first free address."""
        self._machine = lowering.machine
        self._address = base
        self._at: dict[str, int] = {}
        self._stored: set[str] = set()
        self._held = 0  # blocks of an input that stays for the stage behind
        self._extent: dict[str, int] = {}  # bytes up to the last that is ever loaded
        for stage in lowering.workload.stages:
            for name, size in stage.loads.items():
                self._extent[name] = max(self._extent.get(name, 0), stage.load_from.get(name, 0) + size)
        self._taken, self._left = _reservations(lowering.workload.stages, input_blocks(self._machine))
        self._sums_stage, self._sums_at = -1, list[int]()  # addresses of one stage's partial sums, tile by tile

    def load(self, at: StageLowering) -> Fills:
        """Fetch a stage's tensors."""
        stage, step = at.stage, self._machine.dma.request_bytes
        at.flow.activation_writes[Stream.ACTIVATIONS] += sum(self._words(size) for size in stage.loads.values())
        starts = []
        for name in stage.loads:
            if name not in self._at:
                self._at[name] = self._allocate(self._extent[name])
            starts.append(self._at[name] + stage.load_from.get(name, 0) // step * step)
        blocks = self._side_by_side(starts, list(stage.loads.values()))
        own = blocks.whose == (list(stage.loads).index(stage.layer_input) if stage.layer_input in stage.loads else -1)
        tiling, stays = at.work.tiling, at.work.input_stays
        in_pass = tiling.last_block + blocks.place * tiling.tiles // blocks.count
        columns = 1 + int(at.work.activity.shape[1])
        places = max(ceil_div(int(own.sum()), tiling.passes * columns * at.work.input_blocks), 1)
        reached = blocks.place * (tiling.passes * columns * places) // blocks.count
        sums = self._sums(at)
        joined = _AskedBlocks(
            address=np.append(blocks.address, sums.address),
            bursts=np.append(blocks.bursts, sums.bursts),
            own=np.append(own, np.zeros(sums.address.size, np.bool_)),
            in_pass=np.append(in_pass, sums.in_pass + tiling.tiles),
            sums=np.arange(blocks.address.size + sums.address.size) >= blocks.address.size,
        )
        # One queue asks for all: what is read with a pass's sums stands behind every block that the pass itself needs,
        # and before any that only the next does. Otherwise what has no room yet stands before what would free it.
        ends = (joined.in_pass + 1) * columns * places
        needed = np.where(joined.own, np.append(reached, np.zeros(sums.address.size, np.int64)), ends)
        order = np.lexsort((joined.own, needed))
        asked = joined.ordered(order)
        give_back = (0 if stays else self._held) + self._left[at.index]
        self._held = self._held + int(own.sum()) if stays else 0
        if order.size:
            self._fetch(at, asked)
        return Fills(
            reached=reached[own],
            places=places,
            stays=stays,
            give_back=give_back,
            behind=asked.in_pass[~asked.own].astype(np.int64),
        )

    def store(self, at: StageLowering, results: int) -> Indices:
        """Write a stage's tensors, which come in so many results of the vector unit; which of these completes each
        block, for whoever makes their firings to `hand_over`."""
        builder, nodes, stores = at.builder, at.nodes, at.stage.stores
        at.flow.activation_reads[Stream.OUTPUTS] += sum(self._words(size) for size in stores.values())
        starts = [self._allocate(size) for size in stores.values()]  # shares of a tensor lie one behind another
        for name, start in zip(stores, starts, strict=True):
            self._at.setdefault(name, start)
        tiling, sums = at.work.tiling, self._sums(at)
        slices = results // (tiling.passes - tiling.first_handover)
        blocks = self._side_by_side(starts, list(stores.values()), tiling.tiles * slices)
        completed = (tiling.last_block - tiling.first_handover) * slices + blocks.turn.astype(np.int64)
        completed_by = np.append((sums.in_pass + 1) * slices - 1, completed)
        address, bursts = np.append(sums.address, blocks.address), np.append(sums.bursts, blocks.bursts)
        n = address.size
        if n == 0:
            return completed_by
        write = at.fire(nodes.output_dma, np.ones(n))
        _results(at).take(write)
        outstanding = builder.link(
            nodes.outputs_done, nodes.output_dma, what="outstanding", initial=self._machine.dma.outstanding
        )
        outstanding.take(write)
        streams = np.full(n, STREAMS.index(Stream.OUTPUTS))
        streams[: sums.address.size] = STREAMS.index(Stream.PARTIAL_SUMS)
        at.flow.requests[Stream.OUTPUTS] += blocks.address.size
        builder.port("outputs").ask(address, bursts, True, streams, at.layer)
        builder.link(nodes.output_dma, builder.memory, what="requests", depth=REQUEST_QUEUE).give(write)
        done = at.fire(nodes.outputs_done, np.ones(n))
        builder.link(builder.memory, nodes.outputs_done, what="acknowledgements").take(done)
        outstanding.give(done)
        if sums.address.size:
            at.flow.requests[Stream.PARTIAL_SUMS] += sums.address.size
            at.flow.activation_reads[Stream.PARTIAL_SUMS] += self._sum_words(at)
            _stored_sums(at).give(done[np.flatnonzero(np.diff(sums.in_pass, append=-1))])
        if at.stage.completes:
            self._announce(at, list(stores), blocks.whose, done[sums.address.size :])
        return completed_by

    def _announce(self, at: StageLowering, names: Sequence[str], whose: Indices, done: Indices) -> None:
        """Tell those who load a tensor again that it is in DRAM."""
        last = {int(np.flatnonzero(whose == index)[-1]): name for index, name in enumerate(names)}
        for place, name in sorted(last.items()):
            if name in self._extent:
                _stored_tensors(at).give(done[place : place + 1])
                self._stored.add(name)

    def _side_by_side(self, starts: Sequence[int], sizes: Sequence[int], tiles: int | None = None) -> _TensorBlocks:
        """Blocks of several tensors; a turn is a share of the way, or the tile that completes a block's share."""
        machine, step = self._machine, self._machine.dma.request_bytes
        address, bursts = [np.empty(0, np.int64)], [np.empty(0, np.int32)]
        whose, places_in, counted = [np.empty(0, np.int64)], [np.empty(0, np.int64)], [np.empty(0, np.int64)]
        turn: list[npt.NDArray[np.floating[Any]]] = [np.empty(0)]
        for index, (start, size) in enumerate(zip(starts, sizes, strict=True)):
            counts = machine.dma.block_bursts(size, machine.dram.burst_bytes)
            place = np.arange(counts.size, dtype=np.int64)
            address.append(start + place * step)
            bursts.append(counts)
            turn.append(place / counts.size if tiles is None else -(-(place + 1) * tiles // counts.size) - 1.0)
            whose.append(np.full(counts.size, index, np.int64))
            places_in.append(place)
            counted.append(np.full(counts.size, counts.size, np.int64))
        order = np.argsort(np.concatenate(turn), kind="stable")
        return _TensorBlocks(
            address=np.concatenate(address)[order],
            bursts=np.concatenate(bursts)[order],
            turn=np.concatenate(turn)[order],
            whose=np.concatenate(whose)[order],
            place=np.concatenate(places_in)[order],
            count=np.concatenate(counted)[order],
        )

    def _sums(self, at: StageLowering) -> _AskedBlocks:
        """Blocks of the partial sums that wait in DRAM, by the pass that writes them."""
        tiling, machine = at.work.tiling, self._machine
        if tiling.sums is not Sums.DRAM:
            return _sums_of(np.empty(0, np.int64), np.empty(0, np.int32), np.empty(0, np.int64))
        if at.index != self._sums_stage:  # read and written at the same addresses
            sizes = [sum_bytes(at, tile) for tile in range(tiling.tiles)]
            self._sums_stage, self._sums_at = at.index, [self._allocate(size) for size in sizes]
        address, bursts, in_pass = [np.empty(0, np.int64)], [np.empty(0, np.int32)], [np.empty(0, np.int64)]
        for index in range(tiling.last_block):
            tile = index % tiling.tiles
            counts = machine.dma.block_bursts(sum_bytes(at, tile), machine.dram.burst_bytes)
            address.append(self._sums_at[tile] + machine.dma.request_bytes * np.arange(counts.size, dtype=np.int64))
            bursts.append(counts)
            in_pass.append(np.full(counts.size, index, np.int64))
        return _sums_of(np.concatenate(address), np.concatenate(bursts), np.concatenate(in_pass))

    def _sum_words(self, at: StageLowering) -> int:
        """Words of the activation SRAM through which partial sums go on one of their ways."""
        tiling = at.work.tiling
        return (tiling.blocks - 1) * sum(self._words(sum_bytes(at, tile)) for tile in range(tiling.tiles))

    def _fetch(self, at: StageLowering, asked: _AskedBlocks) -> None:
        builder, nodes, machine = at.builder, at.nodes, self._machine
        own, sums = asked.own, asked.sums
        request = at.fire(nodes.activation_dma, np.ones(own.size))
        for name in at.stage.loads:
            if name in self._stored:
                _stored_tensors(at).take(request[:1])
                self._stored.discard(name)
        if sums.any():
            at.flow.activation_writes[Stream.PARTIAL_SUMS] += self._sum_words(at)
            waiting = np.flatnonzero(sums)
            _stored_sums(at).take(request[waiting[np.diff(asked.in_pass[waiting], prepend=-1) > 0]])
        outstanding = builder.link(
            nodes.activation_fill, nodes.activation_dma, what="outstanding", initial=machine.dma.outstanding
        )
        outstanding.take(request)
        at.flow.requests[Stream.ACTIVATIONS] += int((~sums).sum())
        at.flow.requests[Stream.PARTIAL_SUMS] += int(sums.sum())
        streams = np.where(sums, STREAMS.index(Stream.PARTIAL_SUMS), STREAMS.index(Stream.ACTIVATIONS))
        builder.port("activations").ask(asked.address, asked.bursts, False, streams, at.layer)
        builder.link(nodes.activation_dma, builder.memory, what="requests", depth=REQUEST_QUEUE).give(request)
        cycles = machine.activation_sram.fill_cycles(machine.dma.request_bytes)
        fill = at.fire(nodes.activation_fill, np.full(own.size, cycles))
        builder.link(builder.memory, nodes.activation_fill, what="activations").take(fill)
        outstanding.give(fill)
        if own.any() and self._taken[at.index]:
            first = request[int(np.argmax(own))]
            room_for(at, nodes.broadcast).take(np.full(self._taken[at.index], first))
        for reader, mine in ((nodes.broadcast, own), (nodes.vector, ~own)):
            if mine.any():
                room_for(at, reader).take(request[mine])
                blocks_for(at, reader).give(fill[mine])

    def _words(self, size: int) -> int:
        return self._machine.activation_sram.words(8 * size)

    def _allocate(self, size: int) -> int:
        start = self._address
        self._address += self._machine.dma.blocks(size) * self._machine.dma.request_bytes
        return start


def hand_over(at: StageLowering, results: Indices, completed_by: Indices) -> None:
    """Let the results of a stage, vector firings, give the blocks that they complete (`Tensors.store`)."""
    if completed_by.size:
        _results(at).give(results[completed_by])


def _results(at: StageLowering) -> LinkBuilder:
    return at.builder.link(at.nodes.vector, at.nodes.output_dma, what="results")


def blocks_for(at: StageLowering, reader: NodeBuilder) -> LinkBuilder:
    """Blocks from the fill of the activation SRAM to the broadcast or the vector unit that reads them."""
    return at.builder.link(at.nodes.activation_fill, reader, what="blocks")


def room_for(at: StageLowering, reader: NodeBuilder) -> LinkBuilder:
    """Credits for blocks that the broadcast (the layer's input) or the vector unit (tensors behind it) reads."""
    room = input_blocks(at.machine) if reader is at.nodes.broadcast else behind_blocks(at.machine)
    return at.builder.link(reader, at.nodes.activation_dma, what="room", initial=room)


def sum_bytes(at: StageLowering, index: int) -> int:
    """Bytes of a pass's partial sums, as wide as accumulators are."""
    return at.work.sum_bytes(index, at.machine.formats.accumulators.bits)


def _sums_of(address: Indices, bursts: npt.NDArray[np.int32], in_pass: Indices) -> _AskedBlocks:
    n = address.size
    return _AskedBlocks(
        address=address, bursts=bursts, in_pass=in_pass, own=np.zeros(n, np.bool_), sums=np.ones(n, np.bool_)
    )


def _reservations(stages: Sequence[Stage], room: int) -> tuple[list[int], list[int]]:
    """Blocks of the ``room`` for inputs that each stage takes away at its beginning, and that it leaves at its end."""
    taken, left = [0] * len(stages), [0] * len(stages)
    before, last = 0, None
    for index, stage in enumerate(stages):
        if stage.layer_input not in stage.loads:
            continue
        wanted = max(room - stage.layer.input_blocks, 0)
        taken[index] = max(wanted - before, 0)
        if last is not None:
            left[last] = max(before - wanted, 0)
        before, last = wanted, index
    return taken, left


def _stored_tensors(at: StageLowering) -> LinkBuilder:
    return at.builder.link(at.nodes.outputs_done, at.nodes.activation_dma, what="stored tensors")


def _stored_sums(at: StageLowering) -> LinkBuilder:
    return at.builder.link(at.nodes.outputs_done, at.nodes.activation_dma, what="stored sums")
