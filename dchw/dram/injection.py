"""Requests to a memory in the order of a trace: offered burst by burst, until all have completed.

``BACK_TO_BACK``: the next one as soon as its channel takes it, at most one burst per clock and channel.
``ONE_AT_A_TIME``: only after the one before has completed. ``TIMED``: no earlier than its cycle.

Kernels go in slices: a call ends after so much work, so that Ctrl-C is heard.

Work is counted in bursts offered and in what `dchw.dram.controller.run_on` counts.
"""

# mypy: disable-error-code="no-any-return"
from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from dchw.compile import lean_kernel
from dchw.dram.address import locate
from dchw.dram.controller import HOP, accept, pending, queue_of, run_idle, run_on
from dchw.dram.state import State

if TYPE_CHECKING:
    import numpy.typing as npt

    Ints = npt.NDArray[np.int64]

BACK_TO_BACK, ONE_AT_A_TIME, TIMED = range(3)
SLICE = 1 << 20
"""Work of one call: some tenths of a second at most."""
REQUEST, BURST, CLOCK = range(3)
"""Places of a cursor: the request in hand, its next burst (-1: not begun), the clock reached."""


@lean_kernel
def _settle_slice(s: State, work: int) -> int:
    """Run all channels until nothing is pending; the work left, 0 or less where that did not suffice."""
    f = s.fixed[0]
    for ch in range(len(s.live)):
        m = s.live[ch]
        while pending(s, ch) > 0:
            if work <= 0:
                return work
            work -= run_on(f, m, m.clock + HOP)
            m.out_tail = m.out_head
    return max(work, 1)


@lean_kernel
def _last_completion(s: State, clock: int) -> int:
    """The clock of the last completion of all channels, or ``clock`` if that is later."""
    for ch in range(len(s.live)):
        clock = max(clock, s.live[ch].last_completion)
    return clock


@lean_kernel
def offer_slice(
    s: State, bits: Ints, mode: int, cycle: Ints, address: Ints, size: Ints, is_write: Any, cursor: Ints, work: int
) -> bool:
    """Offer a chunk of requests from the cursor on, which moves; whether all are offered (and, one at a time, done)."""
    f = s.fixed[0]
    burst = 1 << bits[0]
    i, here, clock = cursor[REQUEST], cursor[BURST], cursor[CLOCK]
    while i < len(address) and work > 0:
        if here < 0:
            here = address[i] >> bits[0]
            if mode == TIMED:
                clock = max(clock, cycle[i])
        last = (address[i] + size[i] - 1) >> bits[0]
        while here <= last and work > 0:
            ch, bank, row, column = locate(bits, here * burst)
            m = s.live[ch]
            if m.last_accept == clock:
                clock += 1
            while m.clock < clock and work > 0:
                work -= run_on(f, m, clock)
            if m.clock < clock:
                break
            if not accept(f, m, clock, bank, row, column, is_write[i], 0):
                queue = queue_of(f, is_write[i])
                while m.waiting[queue] >= f.room[queue] and work > 0:
                    work -= run_on(f, m, m.clock + HOP)
                    m.out_tail = m.out_head
                clock = m.clock
                if m.waiting[queue] >= f.room[queue]:
                    break
                accept(f, m, clock, bank, row, column, is_write[i], 0)
            m.out_tail = m.out_head
            here += 1
            work -= 1
        if here <= last:
            break
        if mode == ONE_AT_A_TIME:
            work = _settle_slice(s, work)
            if work <= 0:
                break
            clock = _last_completion(s, clock)
        i += 1
        here = -1
    cursor[REQUEST], cursor[BURST], cursor[CLOCK] = i, here, clock
    return i == len(address)


def offer_all(
    s: State, bits: Ints, mode: int, cycle: Ints, address: Ints, size: Ints, is_write: Any, clock: int
) -> int:
    """Offer a chunk of requests from ``clock`` on; the clock of the last acceptance (or completion)."""
    cursor = np.array([0, -1, clock])
    while not offer_slice(s, bits, mode, cycle, address, size, is_write, cursor, SLICE):
        pass
    return int(cursor[CLOCK])


def finish(s: State) -> int:
    """Settle, then bring all channels to the last completion, which is returned."""
    while _settle_slice(s, SLICE) <= 0:
        pass
    clock = int(_last_completion(s, 0))
    while not run_idle(s, clock, SLICE):
        pass
    return clock
