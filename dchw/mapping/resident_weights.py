"""Which weights stay in the weight SRAM from one inference to the next.

Every byte that stays is read from DRAM once less; but what stays takes room from the layers that stream by, and a layer
of several passes that no longer fits beside it is fetched once a pass. So several sizes of the room for streaming are
tried; for each, the parts that cost most per byte stay, as long as they fit, and the size with the least traffic is
taken (greedy: not always the best there is).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dchw.formats import Need
from dchw.machines.machine import Machine
from dchw.machines.units.huffman_decoder import Placement
from dchw.mapping.rooms import resident_room
from dchw.mapping.stages import LayerWork
from dchw.quantities import DchwError, ceil_div

RESERVE = 4
"""Where not all parts stay, at least one part in this many of the weight SRAM is for streaming the others."""


@dataclass(frozen=True, kw_only=True)
class Tenant:
    """A part of a layer that may stay."""

    key: int
    """Identity of its packed weights."""
    layer: str
    size_bytes: int
    """What it takes in the weight SRAM."""
    passes: tuple[int, ...]
    """Per stage: in how many passes the part is worked; 1 where it is fetched once however little room there is."""
    streaming_bytes: int = 0
    """Room without which it cannot stream by: for a block of columns that stays and the next one."""

    def fetches(self, room_bytes: int) -> int:
        """How often it crosses the DRAM beside others when so much room is left for streaming."""
        return len(self.passes) if self.size_bytes <= room_bytes else sum(self.passes)


def tenants(works: Sequence[LayerWork], machine: Machine, *, at_load: bool) -> list[Tenant]:
    """The distinct parts of a workload's stages; ``at_load``: they lie in the SRAM decoded.

    What is decoded while it loads takes half of the SRAM to stay for its passes and half on its way
    (`dchw.mapping.rooms.resident_room`), so that nothing else stays unless all does.
    """
    found: dict[int, list[LayerWork]] = {}
    for work in works:
        found.setdefault(id(work.packed), []).append(work)
    return [
        Tenant(
            key=key,
            layer=mine[0].name,
            size_bytes=decoded_bytes(mine[0]) if at_load else dram_bytes(mine[0], machine),
            passes=tuple(1 if at_load or work.tiling.blocks > 1 else work.tiling.passes for work in mine),
            streaming_bytes=machine.weight_sram.size_bytes if at_load else _streaming_bytes(mine, machine),
        )
        for key, mine in found.items()
    ]


def residents(parts: Sequence[Tenant], size_bytes: int) -> frozenset[int]:
    """Keys of the parts that stay in a weight SRAM of so many bytes."""
    if sum(part.size_bytes for part in parts) <= size_bytes:
        return frozenset(part.key for part in parts)
    least = size_bytes // RESERVE
    wanted = (size for part in parts for size in (part.size_bytes, part.streaming_bytes))
    rooms = {least, size_bytes, *(size for size in wanted if least < size < size_bytes)}
    plans = [_stay(parts, size_bytes - room, room) for room in sorted(rooms)]
    allowed = [plan for room, plan in zip(sorted(rooms), plans, strict=True) if _streams(parts, plan[1], room)]
    return min(allowed, key=lambda plan: plan[0])[1] if allowed else frozenset()


def _streams(parts: Sequence[Tenant], kept: frozenset[int], room: int) -> bool:
    """Whether all that does not stay can stream by."""
    return all(part.streaming_bytes <= room for part in parts if part.key not in kept)


def _streaming_bytes(works: Sequence[LayerWork], machine: Machine) -> int:
    """For two blocks of columns, their ends in whole requests and the tables; at most the SRAM, in which they fit."""
    most = 0
    for work in works:
        packed, blocks = work.packed, work.tiling.blocks
        if blocks > 1:
            ends = 4 * len(packed.chunk_bytes) * machine.dma.request_bytes
            even = 2 * ceil_div(packed.total_bytes * 5, 4 * blocks) + packed.table_bytes + ends
            most = max(most, even, _largest_block(work, machine.dma.request_bytes) * machine.dma.request_bytes)
    return min(most, machine.weight_sram.size_bytes)


def block_fits(work: LayerWork, machine: Machine) -> bool:
    """Whether the weight SRAM holds every block of columns, which stays while all tiles of a band go by.

    Of a block that is decoded at load, a decode unit holds no more chunks than half of those for which it has room:
    the entries of another layer may be twice as wide.
    """
    if work.needs(Need.DECODER) and machine.huffman.placement is Placement.LOAD:
        return kept_decoded(machine, work) or 2 * most_chunks(work) <= chunks_held(machine, [work])
    request = machine.dma.request_bytes
    return _largest_block(work, request) <= machine.weight_sram.size_bytes // request


def most_chunks(work: LayerWork) -> int:
    """Chunks of a block of columns in one decode unit, of the block and the unit with the most."""
    block, _ = work.blocks_of_chunks
    return int(np.bincount(work.packed.chunk_decoder.astype(np.int64) * work.tiling.blocks + block).max(initial=0))


def chunks_held(machine: Machine, works: Sequence[LayerWork]) -> int:
    """Decoded chunks that one decode unit may have in its part of the weight SRAM, with decoding at load.

    Half of the SRAM holds chunks on their way, and blocks of columns; layers that fit the other half are decoded once
    and kept.
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


def _largest_chunk(work: LayerWork) -> int:
    return int(np.diff(work.coded.chunk_offsets).max(initial=1))


def _largest_block(work: LayerWork, request: int) -> int:
    """Requests' worth of the chunks of a block of columns, of the block with the most."""
    first, last = work.blocks_of_chunks
    begin = np.searchsorted(np.maximum.accumulate(last), first, side="left")  # of those that stay until then
    held = np.zeros(first.size, np.int64)
    for offsets in work.packed.chunk_bytes.values():
        held += -(-offsets[1:] // request) - offsets[begin] // request
    return int(held.max(initial=0))


def _stay(parts: Sequence[Tenant], left: int, room: int) -> tuple[int, frozenset[int]]:
    """(bytes that still cross the DRAM, keys of what stays) where ``room`` bytes are kept for streaming."""
    kept, traffic = set(), 0
    for part in sorted(parts, key=lambda part: -part.fetches(room)):
        if part.size_bytes <= left:
            kept.add(part.key)
            left -= part.size_bytes
        else:
            traffic += part.size_bytes * part.fetches(room)
    return traffic, frozenset(kept)


def dram_bytes(work: LayerWork, machine: Machine) -> int:
    """Bytes of a part's tables together and of every other region, each in whole requests."""
    packed = work.packed
    sizes = (packed.table_bytes, *(packed.packed_bytes[stream] for stream in packed.chunk_bytes))
    return sum(machine.dma.blocks(size) * machine.dma.request_bytes for size in sizes)


def chunk_rounds(work: LayerWork, machine: Machine, *, at_load: bool, held_bytes: int = 0) -> int:
    """How often a stage's chunks cross the DRAM: once, or once a pass where they do not stay for all of its passes.

    ``held_bytes`` of the weight SRAM are taken by weights from the run before; ``at_load``: weights are decoded on
    their way, and wait in the staging buffer.
    """
    once = decoded_once(machine, work) if at_load else work.tiling.blocks > 1
    room = machine.dma.staging_bytes if at_load else machine.weight_sram.size_bytes - held_bytes
    fits = dram_bytes(work, machine) <= room // machine.dma.request_bytes * machine.dma.request_bytes
    return 1 if once or fits else work.tiling.passes


def decoded_bytes(work: LayerWork) -> int:
    """Bytes of a layer's entries at fixed width and its column starts, as the SRAM holds them, decoded at load."""
    return ceil_div(work.packed.entries * work.entry_bits + work.starts_bits, 8)


def kept_decoded(machine: Machine, work: LayerWork) -> bool:
    """Whether a layer, decoded at load, is decoded once and stays in half of the weight SRAM for all its passes."""
    return decoded_bytes(work) <= resident_room(machine, decoded=True)


def decoded_once(machine: Machine, work: LayerWork) -> bool:
    """Whether decode units go through a layer's chunks once, at load, for all its passes: it is kept, or every block of
    its columns stays while its tiles go by."""
    return work.tiling.blocks > 1 or kept_decoded(machine, work)
