"""Requests to a memory in the order of a trace, as kernels: offered burst by burst, until all have completed.

``BACK_TO_BACK``: the next one as soon as its channel takes it, at most one burst per clock and channel.
``ONE_AT_A_TIME``: only after the one before has completed. ``TIMED``: no earlier than its cycle.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from dchw.compile import kernel
from dchw.dram import layout as at
from dchw.dram.address import locate
from dchw.dram.controller import accept, advance, pending, queue_of, run
from dchw.dram.state import State

if TYPE_CHECKING:
    import numpy.typing as npt

    Ints = npt.NDArray[np.int64]

BACK_TO_BACK, ONE_AT_A_TIME, TIMED = range(3)


@kernel
def settle(s: State, clock: int) -> int:
    """Run all channels until nothing is pending; the clock of the last completion (``clock`` if it is later)."""
    for ch in range(len(s.live)):
        m = s.live[ch]
        while pending(s, ch) > 0:
            advance(s, ch, at.FAR)
            m.out_tail = m.out_head
        clock = max(clock, m.last_completion)
    return clock


@kernel
def offer_all(
    s: State, bits: Ints, mode: int, cycle: Ints, address: Ints, size: Ints, is_write: Any, clock: int
) -> int:
    """Offer a chunk of requests from ``clock`` on; the clock of the last acceptance (or completion)."""
    f = s.fixed[0]
    burst = 1 << bits[0]
    for i in range(len(address)):
        if mode == TIMED:
            clock = max(clock, cycle[i])
        here = address[i] >> bits[0]
        last = (address[i] + size[i] - 1) >> bits[0]
        while here <= last:
            ch, bank, row, column = locate(bits, here * burst)
            m = s.live[ch]
            if m.last_accept == clock:
                clock += 1
            while m.clock < clock:
                run(f, m, clock)
            if not accept(f, m, clock, bank, row, column, is_write[i], 0):
                queue = queue_of(f, is_write[i])
                while m.waiting[queue] >= f.room[queue]:
                    run(f, m, at.FAR)
                    m.out_tail = m.out_head
                clock = m.clock
                accept(f, m, clock, bank, row, column, is_write[i], 0)
            m.out_tail = m.out_head
            here += 1
        if mode == ONE_AT_A_TIME:
            clock = settle(s, clock)
    return clock


def finish(s: State) -> int:
    """Settle, then bring all channels to the last completion, which is returned."""
    clock = int(settle(s, 0))
    for ch in range(len(s.live)):
        while s.live[ch].clock < clock:
            advance(s, ch, clock)
    return clock
