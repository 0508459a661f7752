"""How much of the weight SRAM a layer's weights may take, by what they wait there for."""

from __future__ import annotations

from dchw.machines.machine import Machine


def resident_room(machine: Machine, *, decoded: bool) -> int:
    """Bytes of weights that may stay while all tiles of a band go by.

    Coded chunks and plain weights may take all but an eighth, which is for their ends in whole requests: they leave
    chunk by chunk with the last tile, and the next part's follow. What was ``decoded`` at load takes half, because the
    other half holds chunks on their way.
    """
    size = machine.weight_sram.size_bytes
    return size // 2 if decoded else size - size // 8


def block_room(machine: Machine) -> int:
    """Bytes of one block of columns: half of the SRAM less an eighth of it, for a block and the next share it."""
    half = machine.weight_sram.size_bytes // 2
    return half - half // 8
