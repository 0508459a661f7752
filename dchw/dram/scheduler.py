"""Which command a channel issues next, and when: the *earliest-issuable* one.

Where several could issue at the same clock, in this order:

1. the read or write whose clock synchronisation was sent (nothing may come between);
2. the second part of an activation that anything else would make late;
3. requests whose row was opened for them, oldest first;
4. the refresh at the head of the maintenance list, or the precharge it needs;
5. with no refresh waiting: requests of the queue being served (reads, or writes while draining), oldest first, each by
   the command it needs next (column access to its open row, activate, precharge);
6. the second part of an activation, early, in an idle clock;
7. the precharge of a row unused for too long.

``plan`` fills in the plan fields: clock, kind and command, and the request (its list and place) or bank it is for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from dchw.compile import kernel
from dchw.dram import layout as at
from dchw.dram.device import earliest, earliest_rank

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Ints = NDArray[np.int64]

# kinds of plan; from SECOND on they are not for a request on a list
NOTHING, SYNCED, OPENED, QUEUED, SERVE, SECOND, MAINTAIN, UNUSED, REFRESH_DUE = range(9)


@kernel
def _propose(m: Ints, clock: int, kind: int, which: int, place: int, command: int) -> None:
    m[at.PLAN_TIME] = clock
    m[at.PLAN_KIND] = kind
    m[at.PLAN_LIST] = which
    m[at.PLAN_PLACE] = place
    m[at.PLAN_COMMAND] = command


@kernel
def _slot(m: Ints, which: int, place: int) -> int:
    return m[at.LISTS + which * at.QUEUE_MAX + place]  # type: ignore[no-any-return]


@kernel
def access_of(f: Ints, m: Ints, slot: int) -> int:
    """The column command of a request."""
    return f[at.WR] if m[slot + at.IS_WRITE] else f[at.RD]  # type: ignore[no-any-return]


@kernel
def is_access(f: Ints, command: int) -> bool:
    """Whether a command is a plain read or write."""
    return command == f[at.RD] or command == f[at.WR]  # type: ignore[no-any-return]


@kernel
def needs_sync(f: Ints, m: Ints, clock: int) -> bool:
    """Whether the data clock has stopped by ``clock``, so that an access must be announced first."""
    return f[at.SYNC_RD] >= 0 and clock >= m[at.SYNC_EXPIRY]  # type: ignore[no-any-return]


@kernel
def _data_slot(f: Ints, m: Ints, clock: int) -> int:
    """First clock from ``clock`` on at which a burst may start beside the rest of the chip."""
    busy = f[at.SHARE_BUSY]
    if busy > 0:
        for _ in range(2):
            # with a synchronisation first, the access comes later and must lie outside as well
            lead = f[at.SYNC_GAP] if needs_sync(f, m, clock) else 0
            phase = (clock + lead) % f[at.SHARE_PERIOD]
            if phase < busy:
                clock += busy - phase
    return clock


@kernel
def serves_writes(f: Ints, m: Ints) -> bool:
    """Whether the write queue is to be served, given which was served before and how full both are."""
    if m[at.WRITE_MODE]:
        return m[at.N_WRITE] >= f[at.WRITE_LOW] or m[at.N_READ] == 0  # type: ignore[no-any-return]
    return m[at.N_WRITE] > f[at.WRITE_HIGH] or m[at.N_READ] == 0  # type: ignore[no-any-return]


@kernel
def _next_command(f: Ints, m: Ints, slot: int) -> int:
    """The command a request needs next; -1 while it must wait for the row of another."""
    bank = m[slot + at.BANK]
    row = m[at.OPEN_ROW + bank]
    if row == m[slot + at.ROW]:
        return access_of(f, m, slot)
    if row == at.CLOSED:
        return f[at.ACT] if m[at.ACT2_SLOT] < 0 else -1
    if row == at.OPENING or m[at.OPENED_FOR + bank] > 0:
        return -1
    return f[at.PRE]  # type: ignore[no-any-return]


@kernel
def _request_time(f: Ints, m: Ints, slot: int, command: int, base: int) -> int:
    clock = max(base, earliest(f, m, command, m[slot + at.BANK]))
    if is_access(f, command):
        return _data_slot(f, m, clock)
    return clock


@kernel
def _plan_queue(f: Ints, m: Ints, which: int, base: int) -> None:
    hits = 0
    others = 0
    for place in range(m[at.N_READ + which]):
        slot = _slot(m, which, place)
        # all hits of a bank may issue at the same clock, and so may all others: only the oldest of each matters
        bit = 1 << m[slot + at.BANK]
        if m[at.OPEN_ROW + m[slot + at.BANK]] == m[slot + at.ROW]:
            if hits & bit:
                continue
            hits |= bit
        else:
            if others & bit:
                continue
            others |= bit
        command = _next_command(f, m, slot)
        if command >= 0:
            clock = _request_time(f, m, slot, command, base)
            if clock < m[at.PLAN_TIME]:
                _propose(m, clock, QUEUED, which, place, command)
                if clock <= base:
                    return


@kernel
def _plan_opened(f: Ints, m: Ints, base: int) -> None:
    oldest = at.FAR
    for place in range(m[at.N_OPENED]):
        slot = _slot(m, at.OPENED_LIST, place)
        command = access_of(f, m, slot)
        clock = _request_time(f, m, slot, command, base)
        arrived = m[slot + at.ARRIVED]
        if clock < m[at.PLAN_TIME] or (clock == m[at.PLAN_TIME] and arrived < oldest):
            _propose(m, clock, OPENED, at.OPENED_LIST, place, command)
            oldest = arrived


@kernel
def _plan_maintenance(f: Ints, m: Ints, base: int) -> None:
    target = m[at.MAINTENANCE + m[at.MAINT_HEAD]]
    if f[at.REFRESH] == at.ALL_BANK:
        command = f[at.REFA]
        for bank in range(target * f[at.BANKS_PER_RANK], (target + 1) * f[at.BANKS_PER_RANK]):
            if m[at.OPENED_FOR + bank] > 0:
                return
            if m[at.OPEN_ROW + bank] != at.CLOSED:
                command = f[at.PREA]
        clock = max(base, earliest_rank(f, m, command, target))
    else:
        if m[at.OPENED_FOR + target] > 0:
            return
        command = f[at.REFB] if m[at.OPEN_ROW + target] == at.CLOSED else f[at.PRE]
        clock = max(base, earliest(f, m, command, target))
    if clock < m[at.PLAN_TIME]:
        _propose(m, clock, MAINTAIN, 0, target, command)


@kernel
def row_is_wanted(m: Ints, bank: int, row: int, besides: int) -> bool:
    """Whether an accepted request other than slot ``besides`` wants a row."""
    for which in range(3):
        for place in range(m[at.N_READ + which]):
            slot = _slot(m, which, place)
            if slot != besides and m[slot + at.BANK] == bank and m[slot + at.ROW] == row:
                return True
    return False


@kernel
def _plan_unused(f: Ints, m: Ints, base: int) -> None:
    for bank in range(f[at.BANKS]):
        row = m[at.OPEN_ROW + bank]
        if row >= 0 and m[at.OPENED_FOR + bank] == 0:
            clock = max(m[at.LAST_USE + bank] + f[at.ROW_TIMEOUT], max(base, earliest(f, m, f[at.PRE], bank)))
            if clock < m[at.PLAN_TIME] and not row_is_wanted(m, bank, row, -1):
                _propose(m, clock, UNUSED, 0, bank, f[at.PRE])


@kernel
def _plan_second(f: Ints, m: Ints, base: int) -> None:
    second = max(base, earliest(f, m, f[at.ACT2], m[m[at.ACT2_SLOT] + at.BANK]))
    clock = m[at.PLAN_TIME]
    if clock <= second:
        command = m[at.PLAN_COMMAND]
        held = f[at.CLOCKS + command]
        if is_access(f, command) and needs_sync(f, m, clock):
            held += f[at.SYNC_GAP]
        if clock + held <= m[at.ACT2_DEADLINE]:
            return
    _propose(m, second, SECOND, 0, 0, f[at.ACT2])


@kernel
def plan(f: Ints, m: Ints, now: int) -> None:
    """Find the next command from clock ``now`` on, given what has been accepted."""
    m[at.PLAN_STALE] = 0
    m[at.NEW_SLOT] = -1
    _propose(m, at.FAR, NOTHING, 0, 0, 0)
    if f[at.KIND] == at.FIXED:
        if m[at.N_READ] > 0:
            free = -(-m[at.SERVICE_FREE] // f[at.SERVICE_UNIT])
            _propose(m, max(now, free), SERVE, at.READ_LIST, 0, 0)
        return
    base = max(now, m[at.BUS_FREE])
    if m[at.SYNC_LIST] >= 0:
        slot = _slot(m, m[at.SYNC_LIST], m[at.SYNC_PLACE])
        command = access_of(f, m, slot)
        clock = max(base, earliest(f, m, command, m[slot + at.BANK]))
        _propose(m, clock, SYNCED, m[at.SYNC_LIST], m[at.SYNC_PLACE], command)
    else:
        _plan_opened(f, m, base)
        if m[at.MAINT_COUNT] > 0:
            if m[at.PLAN_TIME] > base:
                _plan_maintenance(f, m, base)
        elif m[at.PLAN_TIME] > now and not (m[at.ACT2_SLOT] >= 0 and now >= m[at.ACT2_DEADLINE]):
            # the queues are looked at in this clock: which one is served may change now, and only now
            m[at.WRITE_MODE] = 1 if serves_writes(f, m) else 0
            if m[at.PLAN_TIME] > base:
                _plan_queue(f, m, at.WRITE_LIST if m[at.WRITE_MODE] else at.READ_LIST, base)
        if m[at.ACT2_SLOT] >= 0:
            _plan_second(f, m, base)
        if f[at.POLICY] == at.TIMEOUT_ROWS and m[at.PLAN_TIME] > base:
            _plan_unused(f, m, base)
    if m[at.NEXT_REFRESH] <= m[at.PLAN_TIME]:
        _propose(m, m[at.NEXT_REFRESH], REFRESH_DUE, 0, 0, 0)


@kernel
def replan(f: Ints, m: Ints, now: int) -> None:
    """Bring the plan up to date with one newly accepted request: the plan that ``plan`` would find, found faster."""
    slot = m[at.NEW_SLOT]
    kind = m[at.PLAN_KIND]
    m[at.NEW_SLOT] = -1
    if f[at.KIND] == at.FIXED or f[at.POLICY] == at.TIMEOUT_ROWS:
        plan(f, m, now)
        return
    if kind == SYNCED or m[at.MAINT_COUNT] > 0:
        return
    if m[at.PLAN_TIME] == now and kind in (OPENED, REFRESH_DUE):
        return
    if kind == SECOND or (1 if serves_writes(f, m) else 0) != m[at.WRITE_MODE]:
        plan(f, m, now)
        return
    which = at.WRITE_LIST if m[slot + at.IS_WRITE] else at.READ_LIST
    if (which == at.WRITE_LIST) != (m[at.WRITE_MODE] == 1):
        return
    command = _next_command(f, m, slot)
    if command >= 0:
        clock = _request_time(f, m, slot, command, max(now, m[at.BUS_FREE]))
        if clock < m[at.PLAN_TIME]:
            _propose(m, clock, QUEUED, which, m[at.N_READ + which] - 1, command)
