"""The memory controller as compiled kernels that run a channel on demand, in clocks of the DRAM.

Time skips from one issued command to the next: ``plan`` (``dchw.dram.scheduler``) finds the next command and its
clock, ``_execute`` issues it.

Meaning of clocks. A request accepted at clock c is first considered at clock c + 1. ``advance(s, ch, until)`` has run
all clocks up to the one it returns. Reads complete with their last data beat, writes when their command issues;
completions are put into the ring when the command issues. Splitting a run into calls of any length changes nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from dchw.compile import kernel
from dchw.dram import layout as at
from dchw.dram.device import close_bank, earliest, issue, open_bank, refresh_banks
from dchw.dram.scheduler import (
    MAINTAIN,
    REFRESH_DUE,
    SECOND,
    SERVE,
    SYNCED,
    UNUSED,
    is_access,
    needs_sync,
    plan,
    replan,
    row_is_wanted,
)

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from dchw.dram.state import State

    Ints = NDArray[np.int64]


@kernel
def _account_occupancy(m: Ints, clock: int) -> None:
    # a request counts from the clock after its acceptance to the clock of its removal
    start = m[at.OCCUPANCY_FROM]
    reads = m[at.N_READ]
    writes = m[at.N_WRITE]
    m[at.READ_OCCUPANCY] += reads * (clock - start)
    m[at.WRITE_OCCUPANCY] += writes * (clock - start)
    while (clock >> m[at.OCCUPANCY_SHIFT]) >= at.OCCUPANCY_BINS:
        # double the width of all bins
        for first in (at.OCCUPANCY, at.OCCUPANCY + at.OCCUPANCY_BINS):
            for b in range(at.OCCUPANCY_BINS // 2):
                m[first + b] = m[first + 2 * b] + m[first + 2 * b + 1]
            for b in range(at.OCCUPANCY_BINS // 2, at.OCCUPANCY_BINS):
                m[first + b] = 0
        m[at.OCCUPANCY_SHIFT] += 1
    shift = m[at.OCCUPANCY_SHIFT]
    while start < clock:
        b = start >> shift
        end = min(clock, (b + 1) << shift)
        m[at.OCCUPANCY + b] += reads * (end - start)
        m[at.OCCUPANCY + at.OCCUPANCY_BINS + b] += writes * (end - start)
        start = end
    m[at.OCCUPANCY_FROM] = clock


@kernel
def _remove(f: Ints, m: Ints, which: int, place: int, clock: int) -> bool:
    """Take a request off its list; true if that made room in a full queue."""
    if which != at.OPENED_LIST:
        _account_occupancy(m, clock)
    n = m[at.N_READ + which] - 1
    first = at.LISTS + which * at.QUEUE_MAX
    for k in range(first + place, first + n):
        m[k] = m[k + 1]
    m[at.N_READ + which] = n
    return (which == at.READ_LIST and n == f[at.READ_QUEUE] - 1) or (
        which == at.WRITE_LIST and n == f[at.WRITE_QUEUE] - 1
    )


@kernel
def _complete(m: Ints, tag: int, clock: int) -> None:
    head = m[at.OUT_HEAD]
    if head - m[at.OUT_TAIL] >= at.RING:
        raise OverflowError("completions of a memory channel were not collected")
    m[at.OUT + 2 * (head % at.RING)] = tag
    m[at.OUT + 2 * (head % at.RING) + 1] = clock
    m[at.OUT_HEAD] = head + 1
    m[at.LAST_COMPLETION] = max(m[at.LAST_COMPLETION], clock)


@kernel
def _record_latency(m: Ints, clocks: int) -> None:
    m[at.LATENCY + min(clocks, at.LATENCY_BINS - 1)] += 1
    m[at.LATENCY_SUM] += clocks
    m[at.LATENCY_MAX] = max(m[at.LATENCY_MAX], clocks)
    m[at.LATENCY_MIN] = min(m[at.LATENCY_MIN], clocks)


@kernel
def _finish(f: Ints, m: Ints, which: int, place: int, slot: int, clock: int) -> None:
    """The column command has issued (or the service ends) at ``clock``: schedule the completion, free the slot."""
    _remove(f, m, which, place, m[at.CLOCK])
    done = clock
    if m[slot + at.IS_WRITE] == 0:
        done += f[at.READ_LATENCY]
        _record_latency(m, done - m[slot + at.ARRIVED])
    _complete(m, m[slot + at.TAG], done)
    m[at.FREE + m[at.N_FREE]] = slot
    m[at.N_FREE] += 1


@kernel
def _count_row(f: Ints, m: Ints, slot: int, command: int) -> None:
    """Hit, miss or conflict: what the bank was like when the first command for a request issued."""
    if m[slot + at.COUNTED] == 0:
        m[slot + at.COUNTED] = 1
        if command == f[at.ACT]:
            m[at.MISSES] += 1
        elif command == f[at.PRE]:
            m[at.CONFLICTS] += 1
        else:
            m[at.HITS] += 1


@kernel
def _access(f: Ints, m: Ints, which: int, place: int, slot: int, command: int, clock: int) -> None:
    """Issue a column command, with automatic precharge where the policy closes rows and nobody wants this one."""
    bank = m[slot + at.BANK]
    row = m[slot + at.ROW]
    is_write = m[slot + at.IS_WRITE]
    _count_row(f, m, slot, command)
    if which == at.OPENED_LIST:
        m[at.OPENED_FOR + bank] -= 1
    closing = f[at.WRA] if is_write else f[at.RDA]
    closes = f[at.POLICY] == at.CLOSED_ROWS and closing >= 0 and earliest(f, m, closing, bank) <= clock
    if closes and m[at.OPENED_FOR + bank] == 0 and not row_is_wanted(m, bank, row, slot):
        issue(f, m, closing, bank, False, row, clock)
        close_bank(f, m, bank, clock)
    else:
        issue(f, m, command, bank, False, row, clock)
        m[at.LAST_USE + bank] = clock
    lasting = f[at.WRITE_LATENCY] if is_write else f[at.READ_LATENCY]
    m[at.SYNC_EXPIRY] = max(m[at.SYNC_EXPIRY], clock + lasting + f[at.POSTAMBLE])
    _finish(f, m, which, place, slot, clock)


@kernel
def _refresh(f: Ints, m: Ints, command: int, target: int, clock: int) -> None:
    """Issue a refresh or the precharge it needs."""
    per_rank = f[at.BANKS_PER_RANK]
    if f[at.REFRESH] == at.ALL_BANK:
        first = target * per_rank
        issue(f, m, command, first, True, -1, clock)
        if command == f[at.PREA]:
            for bank in range(first, first + per_rank):
                close_bank(f, m, bank, clock)
            return
        refresh_banks(f, m, target, per_rank, f[at.REFRESH_CYCLE], clock)
    else:
        issue(f, m, command, target, False, -1, clock)
        if command == f[at.PRE]:
            close_bank(f, m, target, clock)
            return
        refresh_banks(f, m, target // per_rank, 1, f[at.BANK_REFRESH_CYCLE], clock)
    m[at.MAINT_HEAD] = (m[at.MAINT_HEAD] + 1) % at.MAINTENANCE_MAX
    m[at.MAINT_COUNT] -= 1


@kernel
def _refresh_due(f: Ints, m: Ints) -> None:
    """Put the refreshes of an interval onto the maintenance list: all ranks, or in each the bank whose turn it is."""
    for rank in range(f[at.RANKS]):
        target = rank
        if f[at.REFRESH] != at.ALL_BANK:
            target = rank * f[at.BANKS_PER_RANK] + m[at.REFRESH_BANK]
        if m[at.MAINT_COUNT] >= at.MAINTENANCE_MAX:
            raise OverflowError("refreshes of a memory channel pile up")
        m[at.MAINTENANCE + (m[at.MAINT_HEAD] + m[at.MAINT_COUNT]) % at.MAINTENANCE_MAX] = target
        m[at.MAINT_COUNT] += 1
    m[at.REFRESH_BANK] = (m[at.REFRESH_BANK] + 1) % f[at.BANKS_PER_RANK]
    m[at.NEXT_REFRESH] += f[at.REFRESH_EVERY]


@kernel
def _row_opened(m: Ints, slot: int) -> None:
    m[at.LISTS + at.OPENED_LIST * at.QUEUE_MAX + m[at.N_OPENED]] = slot
    m[at.N_OPENED] += 1


@kernel
def _execute_bankwise(f: Ints, m: Ints, kind: int, target: int, command: int, clock: int) -> None:
    """Plans that are not for a queued request: refresh, second part of an activation, unused rows."""
    if kind == REFRESH_DUE:
        m[at.CLOCK] = clock - 1  # the clock itself still takes a command
        _refresh_due(f, m)
    elif kind == MAINTAIN:
        _refresh(f, m, command, target, clock)
    elif kind == UNUSED:
        issue(f, m, command, target, False, -1, clock)
        close_bank(f, m, target, clock)
    else:
        slot = m[at.ACT2_SLOT]
        bank = m[slot + at.BANK]
        issue(f, m, command, bank, False, m[slot + at.ROW], clock)
        m[at.OPEN_ROW + bank] = m[slot + at.ROW]
        m[at.ACT2_SLOT] = -1
        _row_opened(m, slot)


@kernel
def _execute(f: Ints, m: Ints) -> bool:
    """Do what was planned; true if a caller can observe it (a completion is known, a full queue has room)."""
    clock = m[at.PLAN_TIME]
    kind = m[at.PLAN_KIND]
    which = m[at.PLAN_LIST]
    place = m[at.PLAN_PLACE]
    command = m[at.PLAN_COMMAND]
    m[at.PLAN_STALE] = 1
    m[at.CLOCK] = clock
    if kind >= SECOND:
        _execute_bankwise(f, m, kind, place, command, clock)
        return False
    slot = m[at.LISTS + which * at.QUEUE_MAX + place]
    if kind == SERVE:
        m[at.SERVICE_FREE] = max(clock * f[at.SERVICE_UNIT], m[at.SERVICE_FREE]) + f[at.SERVICE]
        _finish(f, m, which, place, slot, -(-m[at.SERVICE_FREE] // f[at.SERVICE_UNIT]))
        return True
    bank = m[slot + at.BANK]
    if is_access(f, command):
        if kind != SYNCED and needs_sync(f, m, clock):
            sync = f[at.SYNC_WR] if m[slot + at.IS_WRITE] else f[at.SYNC_RD]
            issue(f, m, sync, bank, False, m[slot + at.ROW], clock)
            m[at.SYNC_LIST] = which
            m[at.SYNC_PLACE] = place
            return False
        m[at.SYNC_LIST] = -1
        _access(f, m, which, place, slot, command, clock)
        return True
    _count_row(f, m, slot, command)
    issue(f, m, command, bank, False, m[slot + at.ROW], clock)
    if command == f[at.PRE]:
        close_bank(f, m, bank, clock)
        return False
    # an activation takes the request off its queue; it waits for its row among the opened ones
    freed = _remove(f, m, which, place, clock)
    m[at.OPENED_FOR + bank] += 1
    if f[at.ACT2] >= 0:
        open_bank(f, m, bank, at.OPENING, clock)
        m[at.ACT2_SLOT] = slot
        m[at.ACT2_DEADLINE] = clock + f[at.ACTIVATE_WINDOW]
    else:
        open_bank(f, m, bank, m[slot + at.ROW], clock)
        _row_opened(m, slot)
    return freed


@kernel
def _run(f: Ints, m: Ints, until: int, to_the_end: bool) -> None:
    while m[at.CLOCK] < until:
        if m[at.PLAN_STALE]:
            plan(f, m, m[at.CLOCK] + 1)
        elif m[at.NEW_SLOT] >= 0:
            replan(f, m, m[at.CLOCK] + 1)
        if m[at.PLAN_TIME] > until:
            m[at.CLOCK] = until
        elif _execute(f, m) and not to_the_end:
            return


@kernel
def advance(s: State, ch: int, until: int) -> int:
    """Run a channel up to and including clock ``until``, or to the first clock at which something observable happens.

    Observable are a completion becoming known (it is in the ring, its clock may lie ahead) and a full queue getting
    room. Returns the clock reached; calling again continues. Idle time costs nothing but its refreshes.
    """
    m = s.live[ch]
    _run(s.fixed, m, until, False)
    return m[at.CLOCK]  # type: ignore[no-any-return]


@kernel
def _pending_write(m: Ints, key: int) -> bool:
    """Whether a write to the address is accepted and its command not yet issued."""
    for which in (at.WRITE_LIST, at.OPENED_LIST):
        for place in range(m[at.N_READ + which]):
            slot = m[at.LISTS + which * at.QUEUE_MAX + place]
            if m[slot + at.KEY] == key and m[slot + at.IS_WRITE]:
                return True
    slot = m[at.ACT2_SLOT]
    return slot >= 0 and m[slot + at.KEY] == key and m[slot + at.IS_WRITE] == 1  # type: ignore[no-any-return]


@kernel
def _accept(m: Ints, clock: int, is_write: bool) -> None:
    m[at.LAST_ACCEPT] = clock
    if m[at.FIRST_ACCEPT] < 0:
        m[at.FIRST_ACCEPT] = clock
    if is_write:
        m[at.WRITES] += 1
    else:
        m[at.READS] += 1


@kernel
def _offer(f: Ints, m: Ints, clock: int, bank: int, row: int, column: int, is_write: bool, tag: int) -> bool:
    if m[at.LAST_ACCEPT] == clock:
        return False
    key = (row * f[at.BANKS] + bank) * (1 << 24) + column
    which = at.READ_LIST
    room = f[at.READ_QUEUE]
    if f[at.KIND] == at.DRAM:
        if is_write:
            which = at.WRITE_LIST
            room = f[at.WRITE_QUEUE]
        if _pending_write(m, key):
            _accept(m, clock, is_write)
            _complete(m, tag, clock + 1)
            if is_write:
                m[at.MERGED] += 1
            else:
                m[at.FORWARDED] += 1
                _record_latency(m, 1)
            return True
    n = m[at.N_READ + which]
    if n >= room:
        return False
    _account_occupancy(m, clock)
    m[at.N_FREE] -= 1
    slot = m[at.FREE + m[at.N_FREE]]
    m[slot + at.BANK] = bank
    m[slot + at.ROW] = row
    m[slot + at.KEY] = key
    m[slot + at.ARRIVED] = clock
    m[slot + at.TAG] = tag
    m[slot + at.IS_WRITE] = 1 if is_write else 0
    m[slot + at.COUNTED] = 0
    m[at.LISTS + which * at.QUEUE_MAX + n] = slot
    m[at.N_READ + which] = n + 1
    m[at.NEW_SLOT] = slot
    _accept(m, clock, is_write)
    return True


@kernel
def offer(s: State, ch: int, clock: int, bank: int, row: int, column: int, is_write: bool, tag: int) -> bool:
    """Offer a request of one burst at a clock; true if accepted. A channel accepts at most one per clock.

    Runs the channel up to ``clock`` first; offers at clocks it has passed are a caller's mistake (ValueError). A read
    of an address with a waiting write is answered from it at the next clock; a write to such an address joins it.
    """
    m = s.live[ch]
    if m[at.CLOCK] < clock:
        _run(s.fixed, m, clock, True)
    if m[at.CLOCK] > clock:
        raise ValueError("a request was offered at a clock its memory channel has passed")
    return _offer(s.fixed, m, clock, bank, row, column, is_write, tag)


@kernel
def pending(s: State, ch: int) -> int:
    """Requests accepted whose command has not issued."""
    m = s.live[ch]
    waiting = m[at.N_READ] + m[at.N_WRITE] + m[at.N_OPENED]
    return waiting + (1 if m[at.ACT2_SLOT] >= 0 else 0)  # type: ignore[no-any-return]
