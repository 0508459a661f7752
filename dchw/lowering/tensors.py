"""Activations between DRAM and the activation SRAM, block by block.

The tensors of a stage move side by side, each in the order in which the stage works through it. A block of the layer's
input is there before the broadcast has come as far as the block lies in its tensor; one of a tensor that is read behind
the layer, when the tile it belongs to leaves the array; one of a result is written once its tile is done. Where a part
of the input stays for the stage behind, its room is given back by the last stage that reads it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from dchw.lowering.context import Lowering, StageLowering
from dchw.lowering.weights import REQUEST_QUEUE
from dchw.machines.machine import Machine
from dchw.program.builder import Indices, LinkBuilder, NodeBuilder
from dchw.vocabulary import STREAMS, Stream


@dataclass(frozen=True, kw_only=True, eq=False)
class Fills:
    """Blocks of a stage's tensors on their way into the activation SRAM."""

    share: npt.NDArray[np.float64]
    """float64[blocks of the input]: how far into the layer's input each lies, never decreasing."""
    stays: bool
    """Whether they stay for the stage behind."""
    give_back: int
    """Blocks that stayed from stages before and whose room this one gives back."""
    behind: int
    """Blocks of tensors that are read behind the layer."""


@dataclass(frozen=True, kw_only=True, eq=False)
class _TensorBlocks:
    """Blocks of all tensors that a stage moves one way, sorted by when their turn comes."""

    address: Indices
    bursts: npt.NDArray[np.int32]
    turn: npt.NDArray[np.floating[Any]]
    whose: Indices
    """Index of each block's tensor."""


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
        # a tile's blocks behind the layer come after all that the tile needs before
        tiling, stays = at.work.tiling, at.work.input_stays
        tile = (blocks.turn * tiling.tiles).astype(np.int64)
        order = np.argsort(np.where(own, blocks.turn, (tiling.last_block + tile + 1) / tiling.passes), kind="stable")
        give_back = 0 if stays else self._held
        self._held = self._held + int(own.sum()) if stays else 0
        if order.size:
            self._fetch(at, blocks.address[order], blocks.bursts[order], own[order])
        return Fills(share=blocks.turn[own], stays=stays, give_back=give_back, behind=int((~own).sum()))

    def store(self, at: StageLowering, results: int) -> Indices:
        """Write a stage's tensors, which come in so many results of the vector unit; which of these completes each
        block, for whoever makes their firings to `hand_over`."""
        builder, nodes, stores = at.builder, at.nodes, at.stage.stores
        at.flow.activation_reads[Stream.OUTPUTS] += sum(self._words(size) for size in stores.values())
        starts = [self._allocate(size) for size in stores.values()]  # shares of a tensor lie one behind another
        for name, start in zip(stores, starts, strict=True):
            self._at.setdefault(name, start)
        blocks = self._side_by_side(starts, list(stores.values()), results)
        n = blocks.address.size
        completed_by = blocks.turn.astype(np.int64)
        if n == 0:
            return completed_by
        write = at.fire(nodes.output_dma, np.ones(n))
        _results(at).take(write)
        outstanding = builder.link(
            nodes.outputs_done, nodes.output_dma, what="outstanding", initial=self._machine.dma.outstanding
        )
        outstanding.take(write)
        at.flow.requests[Stream.OUTPUTS] += n
        builder.port("outputs").ask(blocks.address, blocks.bursts, True, STREAMS.index(Stream.OUTPUTS), at.layer)
        builder.link(nodes.output_dma, builder.memory, what="requests", depth=REQUEST_QUEUE).give(write)
        done = at.fire(nodes.outputs_done, np.ones(n))
        builder.link(builder.memory, nodes.outputs_done, what="acknowledgements").take(done)
        outstanding.give(done)
        if at.stage.completes:
            self._announce(at, list(stores), blocks.whose, done)
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
        address, bursts, whose = [np.empty(0, np.int64)], [np.empty(0, np.int32)], []
        turn: list[npt.NDArray[np.floating[Any]]] = [np.empty(0)]
        for index, (start, size) in enumerate(zip(starts, sizes, strict=True)):
            counts = machine.dma.block_bursts(size, machine.dram.burst_bytes)
            place = np.arange(counts.size, dtype=np.int64)
            address.append(start + place * step)
            bursts.append(counts)
            turn.append(place / counts.size if tiles is None else -(-(place + 1) * tiles // counts.size) - 1.0)
            whose += [index] * counts.size
        order = np.argsort(np.concatenate(turn), kind="stable")
        return _TensorBlocks(
            address=np.concatenate(address)[order],
            bursts=np.concatenate(bursts)[order],
            turn=np.concatenate(turn)[order],
            whose=np.array(whose, np.int64)[order],
        )

    def _fetch(
        self, at: StageLowering, address: Indices, bursts: npt.NDArray[np.int32], own: npt.NDArray[np.bool_]
    ) -> None:
        builder, nodes, machine = at.builder, at.nodes, self._machine
        request = at.fire(nodes.activation_dma, np.ones(address.size))
        for name in at.stage.loads:
            if name in self._stored:
                _stored_tensors(at).take(request[:1])
                self._stored.discard(name)
        outstanding = builder.link(
            nodes.activation_fill, nodes.activation_dma, what="outstanding", initial=machine.dma.outstanding
        )
        outstanding.take(request)
        at.flow.requests[Stream.ACTIVATIONS] += address.size
        builder.port("activations").ask(address, bursts, False, STREAMS.index(Stream.ACTIVATIONS), at.layer)
        builder.link(nodes.activation_dma, builder.memory, what="requests", depth=REQUEST_QUEUE).give(request)
        cycles = machine.activation_sram.fill_cycles(machine.dma.request_bytes)
        fill = at.fire(nodes.activation_fill, np.full(address.size, cycles))
        builder.link(builder.memory, nodes.activation_fill, what="activations").take(fill)
        outstanding.give(fill)
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
    behind = behind_room(at.machine)
    half = at.machine.activation_sram.size_bytes // 2 // at.machine.dma.request_bytes
    room = max(half - behind, 2) if reader is at.nodes.broadcast else behind
    return at.builder.link(reader, at.nodes.activation_dma, what="room", initial=room)


def behind_room(machine: Machine) -> int:
    """Blocks of tensors read behind a layer that have room: an eighth of half the activation SRAM, at least two."""
    return max(machine.activation_sram.size_bytes // 16 // machine.dma.request_bytes, 2)


def _stored_tensors(at: StageLowering) -> LinkBuilder:
    return at.builder.link(at.nodes.outputs_done, at.nodes.activation_dma, what="stored tensors")
