"""The request queues of a channel as kernels: per queue and bank a chain of requests, oldest first.

All requests of a queue and bank that need the same command may issue it at the same clock, so the scheduler needs to
know only the oldest of each sort. ``m.wanted`` holds these, in rows it can run through bank by bank: of each queue
the oldest requests for an open row, for a row of a closed bank, and for another row than the open one; and the
requests whose row was opened for them, of which a bank has one at most. Everything here keeps these rows up to date.
"""

# mypy: disable-error-code="no-any-return"
from __future__ import annotations

from typing import Any

from dchw.compile import inlined, lean_kernel
from dchw.dram import records as at


@inlined
def _want(m: Any, row: int, bank: int, order: int) -> None:
    before = m.wanted[row, bank]
    m.wanted[row, bank] = order
    change = (1 if order < at.FAR else 0) - (1 if before < at.FAR else 0)
    m.wanting[row] += change
    m.wanting_sum[row] += change * bank


@inlined
def _order(m: Any, slot: int) -> int:
    return at.FAR if slot < 0 else m.arrived[slot] * at.ORDER + m.bank[slot]


@inlined
def _want_hit(m: Any, which: int, bank: int) -> None:
    _want(m, which * at.WANTS + at.ACCESS, bank, _order(m, m.oldest_hit[which, bank]))


@inlined
def _want_other(m: Any, which: int, bank: int) -> None:
    # for another row than the open one: open it, or close the open one unless somebody waits for it
    order = _order(m, m.oldest_other[which, bank])
    row = m.open_row[bank]
    _want(m, which * at.WANTS + at.ACTIVATE, bank, order if row == at.CLOSED else at.FAR)
    _want(m, which * at.WANTS + at.PRECHARGE, bank, order if row >= 0 and m.opened_for[bank] < 0 else at.FAR)


@inlined
def enqueue(m: Any, which: int, slot: int) -> None:
    """Append a request to a queue."""
    bank = m.bank[slot]
    last = m.newest[which, bank]
    m.next[slot] = -1
    m.previous[slot] = last
    m.newest[which, bank] = slot
    if last < 0:
        m.oldest[which, bank] = slot
    else:
        m.next[last] = slot
    if m.row[slot] == m.open_row[bank]:
        if m.oldest_hit[which, bank] < 0:
            m.oldest_hit[which, bank] = slot
            _want_hit(m, which, bank)
    elif m.oldest_other[which, bank] < 0:
        m.oldest_other[which, bank] = slot
        _want_other(m, which, bank)
    m.waiting[which] += 1


@inlined
def dequeue(m: Any, which: int, slot: int) -> None:
    """Take a request off its queue, wherever it stands."""
    bank = m.bank[slot]
    after = m.next[slot]
    before = m.previous[slot]
    if before < 0:
        m.oldest[which, bank] = after
    else:
        m.next[before] = after
    if after < 0:
        m.newest[which, bank] = before
    else:
        m.previous[after] = before
    row = m.open_row[bank]
    if m.oldest_hit[which, bank] == slot:
        while after >= 0 and m.row[after] != row:
            after = m.next[after]
        m.oldest_hit[which, bank] = after
        _want_hit(m, which, bank)
    elif m.oldest_other[which, bank] == slot:
        while after >= 0 and m.row[after] == row:
            after = m.next[after]
        m.oldest_other[which, bank] = after
        _want_other(m, which, bank)
    m.waiting[which] -= 1


@lean_kernel
def row_changed(m: Any, bank: int) -> None:
    """Another row of a bank (or none) is open now: find its oldest hits and others again."""
    row = m.open_row[bank]
    for which in range(2):
        slot = m.oldest[which, bank]
        if slot < 0:
            continue
        hit = -1
        other = slot
        if row >= 0:
            other = -1
            while slot >= 0 and (hit < 0 or other < 0):
                if m.row[slot] == row:
                    if hit < 0:
                        hit = slot
                elif other < 0:
                    other = slot
                slot = m.next[slot]
        m.oldest_hit[which, bank] = hit
        m.oldest_other[which, bank] = other
        _want_hit(m, which, bank)
        _want_other(m, which, bank)


@lean_kernel
def row_is_wanted(m: Any, bank: int, besides: int) -> bool:
    """Whether a queued request other than slot ``besides`` wants the open row of a bank."""
    row = m.open_row[bank]
    for which in range(2):
        slot = m.oldest_hit[which, bank]
        while slot >= 0:
            if slot != besides and m.row[slot] == row:
                return True
            slot = m.next[slot]
    return False


@inlined
def pending_write(m: Any, bank: int, key: int) -> bool:
    """Whether a write to the address is accepted and its command not yet issued."""
    slot = m.oldest[at.WRITE_QUEUE, bank]
    while slot >= 0:
        if m.key[slot] == key:
            return True
        slot = m.next[slot]
    slot = m.opened_for[bank]
    return slot >= 0 and m.key[slot] == key and m.is_write[slot] == 1


@inlined
def queue_opened(m: Any, slot: int) -> None:
    """A row was opened for a request (``opened_for`` says so already): its access comes next."""
    bank = m.bank[slot]
    _want(m, at.OPENED_READS + m.is_write[slot], bank, _order(m, slot))


@inlined
def drop_opened(m: Any, slot: int) -> None:
    """The access that a row was opened for has issued; others may have the row closed."""
    bank = m.bank[slot]
    m.opened_for[bank] = -1
    _want(m, at.OPENED_READS + m.is_write[slot], bank, at.FAR)
    for which in range(2):
        if m.oldest_other[which, bank] >= 0:
            _want_other(m, which, bank)
