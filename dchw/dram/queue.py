"""The request queues of a channel as kernels: per queue and bank a chain of requests, oldest first.

Of each chain the scheduler needs only the oldest request for the open row and the oldest for another one, because
all requests of either sort may issue at the same clock; both are kept up to date here.
"""

# mypy: disable-error-code="no-any-return"
from __future__ import annotations

from typing import Any

from dchw.compile import kernel
from dchw.dram import layout as at


@kernel
def enqueue(m: Any, which: int, slot: int) -> None:
    """Append a request to a queue."""
    bank = m.bank[slot]
    last = m.newest[which, bank]
    m.next[slot] = -1
    m.previous[slot] = last
    m.newest[which, bank] = slot
    if last < 0:
        m.oldest[which, bank] = slot
        place = m.busy_count[which]
        m.busy_place[which, bank] = place
        m.busy_banks[which, place] = bank
        m.busy_count[which] = place + 1
    else:
        m.next[last] = slot
    if m.row[slot] == m.open_row[bank]:
        if m.oldest_hit[which, bank] < 0:
            m.oldest_hit[which, bank] = slot
    elif m.oldest_other[which, bank] < 0:
        m.oldest_other[which, bank] = slot
    m.waiting[which] += 1


@kernel
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
    elif m.oldest_other[which, bank] == slot:
        while after >= 0 and m.row[after] == row:
            after = m.next[after]
        m.oldest_other[which, bank] = after
    m.waiting[which] -= 1
    if m.oldest[which, bank] < 0:
        n = m.busy_count[which] - 1
        place = m.busy_place[which, bank]
        moved = m.busy_banks[which, n]
        m.busy_banks[which, place] = moved
        m.busy_place[which, moved] = place
        m.busy_count[which] = n


@kernel
def row_changed(m: Any, bank: int) -> None:
    """Another row of a bank (or none) is open now: find its oldest hits and others again."""
    row = m.open_row[bank]
    for which in range(2):
        hit = -1
        other = -1
        slot = m.oldest[which, bank]
        while slot >= 0 and (hit < 0 or other < 0):
            if m.row[slot] == row:
                if hit < 0:
                    hit = slot
            elif other < 0:
                other = slot
            slot = m.next[slot]
        m.oldest_hit[which, bank] = hit
        m.oldest_other[which, bank] = other


@kernel
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


@kernel
def pending_write(m: Any, bank: int, key: int) -> bool:
    """Whether a write to the address is accepted and its command not yet issued."""
    slot = m.oldest[at.WRITE_QUEUE, bank]
    while slot >= 0:
        if m.key[slot] == key:
            return True
        slot = m.next[slot]
    if m.opened_for[bank] > 0:
        for place in range(m.n_opened):
            slot = m.opened[place]
            if m.key[slot] == key and m.is_write[slot]:
                return True
        slot = m.act2_slot
        return slot >= 0 and m.key[slot] == key and m.is_write[slot] == 1
    return False


@kernel
def queue_opened(m: Any, slot: int) -> None:
    """Put a request among those whose row was opened for them."""
    m.opened[m.n_opened] = slot
    m.n_opened += 1


@kernel
def drop_opened(m: Any, slot: int) -> None:
    """Take a request off those whose row was opened for them."""
    n = m.n_opened - 1
    place = 0
    while m.opened[place] != slot:
        place += 1
    m.opened[place] = m.opened[n]
    m.n_opened = n
