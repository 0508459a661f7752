"""A memory of one or more channels: kernels by byte address, and the same as a Python object."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from dchw.compile import kernel
from dchw.dram import layout as at
from dchw.dram.address import address_map, locate
from dchw.dram.controller import advance, offer, pending
from dchw.dram.options import Controller, FixedMemory
from dchw.dram.standard import Standard, standard
from dchw.dram.state import State, channel_state

if TYPE_CHECKING:
    import numpy.typing as npt

    Ints = npt.NDArray[np.int64]


@kernel
def offer_address(s: State, bits: Ints, clock: int, address: int, is_write: bool, tag: int) -> bool:
    """``offer`` to the channel an address belongs to (``bits`` is its ``address_map``)."""
    channel, bank, row, column = locate(bits, address)
    return offer(s, channel, clock, bank, row, column, is_write, tag)


@kernel
def completions(s: State, ch: int) -> int:
    """Completions of a channel that wait to be taken."""
    m = s.live[ch]
    return m.out_head - m.out_tail  # type: ignore[no-any-return]


@kernel
def take_completion(s: State, ch: int) -> tuple[int, int]:
    """Tag and completion clock of the next completion in the order they became known; there must be one."""
    m = s.live[ch]
    place = m.out_tail % at.RING
    m.out_tail += 1
    return m.out[place, 0], m.out[place, 1]


class MemorySystem:
    """A memory driven from Python, clock by clock; see ``dchw.dram.controller`` for what clocks mean.

    ``state`` and ``bits`` are what the kernels of this module take.
    """

    def __init__(
        self,
        source: str | Path | Standard | FixedMemory,
        controller: Controller | None = None,
        *,
        mapping: str = "robaracoch",
        channels: int = 1,
        trace_length: int = 0,
    ) -> None:
        self.part = source if isinstance(source, FixedMemory) else standard(source)
        self.controller = controller or Controller()
        self.bits = address_map(self.part, mapping, channels)
        self.state = channel_state(self.part, self.controller, channels=channels, trace_length=trace_length)

    @property
    def channels(self) -> int:
        """Number of channels."""
        return len(self.state.live)

    def locate(self, address: int) -> tuple[int, int, int, int]:
        """Channel, bank, row and column of a byte address."""
        channel, bank, row, column = locate(self.bits, address)
        return int(channel), int(bank), int(row), int(column)

    def offer(self, clock: int, address: int, is_write: bool, tag: int) -> bool:
        """Offer one burst at a clock; true if its channel accepted it."""
        return bool(offer_address(self.state, self.bits, clock, address, is_write, tag))

    def advance(self, channel: int, until: int) -> int:
        """Run a channel up to a clock or to the first observable thing; the clock reached."""
        return int(advance(self.state, channel, until))

    def completions(self, channel: int) -> list[tuple[int, int]]:
        """Take all (tag, completion clock) that became known."""
        taken = [take_completion(self.state, channel) for _ in range(completions(self.state, channel))]
        return [(int(tag), int(clock)) for tag, clock in taken]

    def pending(self, channel: int) -> int:
        """Requests accepted whose command has not issued."""
        return int(pending(self.state, channel))

    def trace(self, channel: int) -> list[tuple[int, str, int, int, int]]:
        """Commands of a channel so far, as far as they were kept: clock, name, bank, row, column (-1 where none)."""
        if isinstance(self.part, FixedMemory):
            return []
        names = list(self.part.commands.clocks)
        m = self.state.live[channel]
        return [(clock, names[command], *place) for clock, command, *place in m.log[: m.logged].tolist()]
