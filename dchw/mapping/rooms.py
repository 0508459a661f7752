"""How much of the chip's buffers a layer's weights, input and sums may take, by what they wait there for.

The activation SRAM is shared out once: tensors that stay from layer to layer (`dchw.mapping.crossing_tensors`), a part
for tensors that are read behind a layer, one for results on their way out, and for the layer's input and the sums of
its rows what is left. So the fewer tensors stay, the larger a band may be.
"""

from __future__ import annotations

from dchw.machines.machine import Machine

BEHIND = 16
"""One part in this many of the activation SRAM is for tensors read behind a layer, another for results on their way."""


def resident_room(machine: Machine, *, decoded: bool) -> int:
    """Bytes of weights that may stay while all tiles of a band go by.

    Coded chunks and plain weights may take all but an eighth, which is for their ends in whole requests: they leave
    chunk by chunk with the last tile, and the next part's follow. What was ``decoded`` at load takes half, because the
    other half holds chunks on their way.
    """
    size = machine.weight_sram.size_bytes
    return size // 2 if decoded else size - size // 8


def block_room(machine: Machine, *, decoded: bool) -> int:
    """Bytes of one block of columns: half of what there is less an eighth of it, for a block and the next share it.

    There is all of the SRAM, but half of it for what was ``decoded`` at load: the other half keeps whole layers.
    """
    half = machine.weight_sram.size_bytes // (4 if decoded else 2)
    return half - half // 8


def table_room(machine: Machine, *, decoded: bool) -> int:
    """Bytes of tables that a part may have: they are handed over together, and so wait for one another."""
    size = machine.dma.staging_bytes if decoded else machine.weight_sram.size_bytes
    return size - size // 8


def behind_blocks(machine: Machine) -> int:
    """Requests' worth of tensors read behind a layer that have room, at least two; as much is for results."""
    return max(machine.activation_sram.size_bytes // BEHIND // machine.dma.request_bytes, 2)


def tensor_room(machine: Machine) -> int:
    """Bytes of tensors that may stay from layer to layer: what the least room for a stream leaves."""
    return max(machine.activation_sram.size_bytes - 3 * behind_blocks(machine) * machine.dma.request_bytes, 0)


def input_blocks(machine: Machine, held_bytes: int = 0) -> int:
    """Requests' worth of a layer's input, and sums of its rows, that have room beside ``held_bytes`` of tensors."""
    least = behind_blocks(machine)
    left = (machine.activation_sram.size_bytes - held_bytes) // machine.dma.request_bytes
    return max(left - 2 * least, least)
