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

``plan`` fills in the plan fields: clock, kind and command, and the request (its list and slot), bank or rank it is for.
"""

# mypy: disable-error-code="no-any-return"
from __future__ import annotations

from typing import Any

from dchw.compile import inlined, lean_kernel
from dchw.dram import records as at
from dchw.dram.device import earliest, earliest_rank
from dchw.dram.queue import row_is_wanted

# kinds of plan; from SECOND on they are not for a request on a list
NOTHING, SYNCED, OPENED, QUEUED, SERVE, SECOND, MAINTAIN, UNUSED, REFRESH_DUE = range(9)


@inlined
def _propose(m: Any, clock: int, kind: int, which: int, target: int, command: int) -> None:
    m.plan_time = clock
    m.plan_kind = kind
    m.plan_list = which
    m.plan_target = target
    m.plan_command = command


@inlined
def access_of(f: Any, m: Any, slot: int) -> int:
    """The column command of a request."""
    return f.wr if m.is_write[slot] else f.rd


@inlined
def is_access(f: Any, command: int) -> bool:
    """Whether a command is a plain read or write."""
    return command == f.rd or command == f.wr


@inlined
def needs_sync(f: Any, m: Any, clock: int) -> bool:
    """Whether the data clock has stopped by ``clock``, so that an access must be announced first."""
    return f.sync_rd >= 0 and clock >= m.sync_expiry


@lean_kernel
def _outside(f: Any, clock: int) -> int:
    """First clock from ``clock`` on in a slot that does not belong to the rest of the chip."""
    slot = clock // f.burst
    while (slot + 1) * f.others_up // f.others_down > slot * f.others_up // f.others_down:
        slot += 1
    return max(clock, slot * f.burst)


@inlined
def _data_slot(f: Any, m: Any, clock: int) -> int:
    """First clock from ``clock`` on for an access, or for its announcement, so that the access lies outside."""
    if f.others_up == 0:
        return clock
    if f.sync_rd < 0:
        return _outside(f, clock)
    if clock < m.sync_expiry:
        slot = _outside(f, clock)
        if slot < m.sync_expiry:
            return slot
        clock = m.sync_expiry
    return _outside(f, clock + f.sync_gap) - f.sync_gap


@inlined
def serves_writes(f: Any, m: Any) -> bool:
    """Whether the write queue is to be served, given which was served before and how full both are."""
    if m.write_mode:
        return m.waiting[at.WRITE_QUEUE] >= f.write_low or m.waiting[at.READ_QUEUE] == 0
    return m.waiting[at.WRITE_QUEUE] > f.write_high or m.waiting[at.READ_QUEUE] == 0


@inlined
def _access_time(f: Any, m: Any, command: int, bank: int, base: int) -> int:
    return _data_slot(f, m, max(base, earliest(f, m, command, bank)))


@inlined
def _other_command(f: Any, m: Any, bank: int) -> int:
    """What a request for another row than the open one needs next; -1 while it must wait for others."""
    row = m.open_row[bank]
    if row == at.CLOSED:
        return f.act if m.act2_slot < 0 else -1
    if row == at.OPENING or m.opened_for[bank] >= 0:
        return -1
    return f.pre


@inlined
def _best(f: Any, m: Any, row: int, command: int, base: int) -> tuple[int, int]:
    """First clock from ``base`` on for a command to any of the banks it is wanted of, and the order of the oldest
    request that it can be for then; FAR without one."""
    if m.wanting[row] == 0:
        return at.FAR, at.FAR
    bound = max(base, m.ready[command])
    if m.wanting[row] == 1:
        bank = m.wanting_sum[row]
        return max(bound, m.bank_ready[command, bank]), m.wanted[row, bank]
    return _best_of_many(f, m, row, command, bound)


@lean_kernel
def _best_of_many(f: Any, m: Any, row: int, command: int, bound: int) -> tuple[int, int]:
    """`_best` where several banks want the command and the channel's rules allow it from a clock on."""
    oldest = _oldest(f, m, row, command, bound)
    if oldest < at.FAR:
        return bound, oldest
    soonest = at.FAR
    for bank in range(f.banks):
        soonest = min(soonest, m.bank_ready[command, bank] if m.wanted[row, bank] < at.FAR else at.FAR)
    return soonest, _oldest(f, m, row, command, soonest)


@lean_kernel
def _oldest(f: Any, m: Any, row: int, command: int, clock: int) -> int:
    """Order of the oldest request that wants a command of a bank which rules allow by ``clock``; FAR without one."""
    oldest = at.FAR
    for bank in range(f.banks):
        order = m.wanted[row, bank]
        oldest = min(oldest, order if m.bank_ready[command, bank] <= clock else at.FAR)
    return oldest


@inlined
def _best_access(f: Any, m: Any, row: int, command: int, base: int) -> tuple[int, int]:
    """`_best` for an access, which needs a slot on the data bus."""
    clock, oldest = _best(f, m, row, command, base)
    if clock == at.FAR or f.others_up == 0:
        return clock, oldest
    clock = _data_slot(f, m, clock)
    return clock, _oldest(f, m, row, command, clock)


@inlined
def _plan_queue(f: Any, m: Any, which: int, base: int) -> None:
    first = which * at.WANTS
    command = f.wr if which == at.WRITE_QUEUE else f.rd
    access = command
    clock, oldest = _best_access(f, m, first + at.ACCESS, command, base)
    if m.act2_slot < 0:
        act_clock, order = _best(f, m, first + at.ACTIVATE, f.act, base)
        if act_clock < clock or (act_clock == clock and order < oldest):
            clock, oldest, command = act_clock, order, f.act
    pre_clock, order = _best(f, m, first + at.PRECHARGE, f.pre, base)
    if pre_clock < clock or (pre_clock == clock and order < oldest):
        clock, oldest, command = pre_clock, order, f.pre
    if clock >= m.plan_time:  # anything planned before comes first at the same clock
        return
    bank = oldest % at.ORDER
    slot = m.oldest_hit[which, bank] if command == access else m.oldest_other[which, bank]
    _propose(m, clock, QUEUED, which, slot, command)


@inlined
def _plan_opened(f: Any, m: Any, base: int) -> None:
    if m.wanting[at.OPENED_READS] + m.wanting[at.OPENED_WRITES] == 0:
        return
    read_clock, _ = _best(f, m, at.OPENED_READS, f.rd, base)
    write_clock, _ = _best(f, m, at.OPENED_WRITES, f.wr, base)
    clock = _data_slot(f, m, min(read_clock, write_clock))
    if clock >= m.plan_time:
        return
    oldest = at.FAR
    command = f.rd
    if read_clock <= clock:
        oldest = _oldest(f, m, at.OPENED_READS, f.rd, clock)
    if write_clock <= clock:
        order = _oldest(f, m, at.OPENED_WRITES, f.wr, clock)
        if order < oldest:
            oldest, command = order, f.wr
    _propose(m, clock, OPENED, at.OPENED, m.opened_for[oldest % at.ORDER], command)


@lean_kernel
def _plan_maintenance(f: Any, m: Any, base: int) -> None:
    target = m.maintenance[m.maint_head]
    if f.refresh == at.ALL_BANK:
        command = f.refa
        for bank in range(target * f.banks_per_rank, (target + 1) * f.banks_per_rank):
            if m.opened_for[bank] >= 0:
                return
            if m.open_row[bank] != at.CLOSED:
                command = f.prea
        clock = max(base, earliest_rank(f, m, command, target))
    else:
        partner = target + f.partner  # the bank itself where one is refreshed at a time
        if m.opened_for[target] >= 0 or m.opened_for[partner] >= 0:
            return
        command = f.refb
        if m.open_row[target] != at.CLOSED:
            command = f.pre
        elif m.open_row[partner] != at.CLOSED:
            command, target = f.pre, partner
        clock = max(base, earliest(f, m, command, target))
        if command == f.refb:
            clock = max(clock, earliest(f, m, command, partner))
    if clock < m.plan_time:
        _propose(m, clock, MAINTAIN, 0, target, command)


@lean_kernel
def _plan_unused(f: Any, m: Any, base: int) -> None:
    for bank in range(f.banks):
        row = m.open_row[bank]
        if row >= 0 and m.opened_for[bank] < 0:
            clock = max(m.last_use[bank] + f.row_timeout, max(base, earliest(f, m, f.pre, bank)))
            if clock < m.plan_time and not row_is_wanted(m, bank, -1):
                _propose(m, clock, UNUSED, 0, bank, f.pre)


@inlined
def _plan_second(f: Any, m: Any, second: int) -> None:
    """The second part of an activation at ``second``, unless something planned by then leaves time for it."""
    if m.plan_kind != NOTHING:
        held = f.clocks[m.plan_command]
        if is_access(f, m.plan_command) and needs_sync(f, m, m.plan_time):
            held += f.sync_gap
        if m.plan_time + held <= m.act2_deadline:
            return
    _propose(m, second, SECOND, 0, 0, f.act2)


@lean_kernel
def plan(f: Any, m: Any, now: int) -> None:
    """Find the next command from clock ``now`` on, given what has been accepted."""
    m.plan_stale = 0
    m.new_slot = -1
    _propose(m, at.FAR, NOTHING, 0, 0, 0)
    if f.kind == at.FIXED_RATE:
        if m.waiting[at.READ_QUEUE] > 0:
            free = -(-m.service_free // f.service_unit)
            _propose(m, max(now, free), SERVE, at.READ_QUEUE, m.oldest[at.READ_QUEUE, 0], 0)
        return
    if m.next_refresh <= now:
        _propose(m, now, REFRESH_DUE, 0, 0, 0)
        return
    base = max(now, m.bus_free)
    if m.sync_list >= 0:
        slot = m.sync_slot
        command = access_of(f, m, slot)
        clock = max(base, earliest(f, m, command, m.bank[slot]))
        _propose(m, clock, SYNCED, m.sync_list, slot, command)
    else:
        second = at.FAR
        if m.act2_slot >= 0:
            # only what issues by then can come before the second part of an activation
            second = max(base, earliest(f, m, f.act2, m.bank[m.act2_slot]))
            m.plan_time = second + 1
        _plan_opened(f, m, base)
        if m.maint_count > 0:
            if m.plan_time > base:
                _plan_maintenance(f, m, base)
        elif m.plan_time > now and not (m.act2_slot >= 0 and now >= m.act2_deadline):
            # the queues are looked at in this clock: which one is served may change now, and only now
            m.write_mode = 1 if serves_writes(f, m) else 0
            if m.plan_time > base:
                _plan_queue(f, m, at.WRITE_QUEUE if m.write_mode else at.READ_QUEUE, base)
        if m.act2_slot >= 0:
            _plan_second(f, m, second)
        if f.policy == at.TIMEOUT_ROWS and m.plan_time > base:
            _plan_unused(f, m, base)
    if m.next_refresh <= m.plan_time:
        _propose(m, m.next_refresh, REFRESH_DUE, 0, 0, 0)


@lean_kernel
def replan(f: Any, m: Any, now: int) -> None:
    """Bring the plan up to date with one newly accepted request: the plan that ``plan`` would find, found faster."""
    slot = m.new_slot
    kind = m.plan_kind
    m.new_slot = -1
    if f.kind == at.FIXED_RATE or f.policy == at.TIMEOUT_ROWS:
        plan(f, m, now)
        return
    if kind == SYNCED or m.maint_count > 0:
        return
    if m.plan_time == now and kind in (OPENED, REFRESH_DUE):
        return
    if kind == SECOND or (1 if serves_writes(f, m) else 0) != m.write_mode:
        plan(f, m, now)
        return
    which = at.WRITE_QUEUE if m.is_write[slot] else at.READ_QUEUE
    if (which == at.WRITE_QUEUE) != (m.write_mode == 1):
        return
    bank = m.bank[slot]
    base = max(now, m.bus_free)
    if m.open_row[bank] == m.row[slot]:
        command = access_of(f, m, slot)
        clock = _access_time(f, m, command, bank, base)
    else:
        command = _other_command(f, m, bank)
        clock = max(base, earliest(f, m, command, bank)) if command >= 0 else at.FAR
    if clock < m.plan_time:
        _propose(m, clock, QUEUED, which, slot, command)
