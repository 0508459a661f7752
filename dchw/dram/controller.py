"""The memory controller as compiled kernels that run a channel on demand, in clocks of the DRAM.

Time skips from one issued command to the next: ``plan`` (``dchw.dram.scheduler``) finds the next command and its
clock, ``_execute`` issues it.

Meaning of clocks. A request accepted at clock c is first considered at clock c + 1. ``advance(s, ch, until)`` has run
all clocks up to the one it returns. Reads complete with their last data beat, writes when their command issues;
completions are put into the ring when the command issues. Splitting a run into calls of any length changes nothing.
"""

# mypy: disable-error-code="no-any-return"
from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dchw.compile import inlined, lean_kernel
from dchw.dram import records as at
from dchw.dram.device import bind_bank, close_bank, earliest, issue, open_bank, refresh_banks
from dchw.dram.queue import dequeue, drop_opened, enqueue, pending_write, queue_opened, row_changed, row_is_wanted
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
)

if TYPE_CHECKING:
    from dchw.dram.state import State

HOP = 1 << 24
"""Clocks that a channel runs on in one step where it might run for ever: idle ones take about a millisecond."""


@inlined
def _account_occupancy(m: Any, clock: int) -> None:
    # a request counts from the clock after its acceptance to the clock of its removal
    start = m.occupancy_from
    m.occupancy_from = clock
    while (clock >> m.occupancy_shift) >= at.OCCUPANCY_BINS:
        _widen_bins(m)
    shift = m.occupancy_shift
    while start < clock:
        b = start >> shift
        end = min(clock, (b + 1) << shift)
        for q in range(2):
            if m.waiting[q] > 0:
                m.occupancy[q, b] += m.waiting[q] * (end - start)
        start = end


@lean_kernel
def _widen_bins(m: Any) -> None:
    for q in range(2):
        for b in range(at.OCCUPANCY_BINS // 2):
            m.occupancy[q, b] = m.occupancy[q, 2 * b] + m.occupancy[q, 2 * b + 1]
        for b in range(at.OCCUPANCY_BINS // 2, at.OCCUPANCY_BINS):
            m.occupancy[q, b] = 0
    m.occupancy_shift += 1


@inlined
def _remove(f: Any, m: Any, which: int, slot: int, clock: int) -> bool:
    """Take a request off its list; true if that made room in a full queue."""
    if which == at.OPENED:
        drop_opened(m, slot)
        return False
    _account_occupancy(m, clock)
    dequeue(m, which, slot)
    return m.waiting[which] == f.room[which] - 1


@inlined
def _complete(m: Any, tag: int, clock: int) -> None:
    head = m.out_head
    if head - m.out_tail >= at.RING:
        raise OverflowError("completions of a memory channel were not collected")
    m.out[head % at.RING, 0] = tag
    m.out[head % at.RING, 1] = clock
    m.out_head = head + 1
    m.last_completion = max(m.last_completion, clock)


@inlined
def _record_latency(m: Any, clocks: int) -> None:
    m.latency[min(clocks, at.LATENCY_BINS - 1)] += 1
    m.latency_sum += clocks
    m.latency_max = max(m.latency_max, clocks)


@inlined
def _finish(f: Any, m: Any, which: int, slot: int, clock: int) -> None:
    """The column command has issued (or the service ends) at ``clock``: schedule the completion, free the slot."""
    _remove(f, m, which, slot, m.clock)
    done = clock
    if m.is_write[slot] == 0:
        done += f.read_latency
        _record_latency(m, done - m.arrived[slot])
    _complete(m, m.tag[slot], done)
    m.free[m.n_free] = slot
    m.n_free += 1


@inlined
def _count_row(f: Any, m: Any, slot: int, command: int) -> None:
    """Hit, miss or conflict: what the bank was like when the first command for a request issued."""
    if m.counted[slot] == 0:
        m.counted[slot] = 1
        if command == f.act:
            m.misses += 1
        elif command == f.pre:
            m.conflicts += 1
        else:
            m.hits += 1


@inlined
def _access(f: Any, m: Any, which: int, slot: int, command: int, clock: int) -> None:
    """Issue a column command, with automatic precharge where the policy closes rows and nobody wants this one."""
    bank = m.bank[slot]
    row = m.row[slot]
    column = m.key[slot] & ((1 << at.COLUMN_BITS) - 1)
    is_write = m.is_write[slot]
    _count_row(f, m, slot, command)
    closing = f.wra if is_write else f.rda
    closes = f.policy == at.CLOSED_ROWS and closing >= 0 and earliest(f, m, closing, bank) <= clock
    if closes and (which == at.OPENED or m.opened_for[bank] < 0) and not row_is_wanted(m, bank, slot):
        issue(f, m, closing, bank, row, column, clock)
        close_bank(f, m, bank, clock)
    else:
        issue(f, m, command, bank, row, column, clock)
        m.last_use[bank] = clock
    lasting = f.write_latency if is_write else f.read_latency
    m.sync_expiry = max(m.sync_expiry, clock + lasting + f.postamble)
    _finish(f, m, which, slot, clock)


@lean_kernel
def _refresh(f: Any, m: Any, command: int, target: int, clock: int) -> None:
    """Issue a refresh or the precharge it needs."""
    per_rank = f.banks_per_rank
    if f.refresh == at.ALL_BANK:
        first = target * per_rank
        issue(f, m, command, first, f.none, f.none, clock)
        if command == f.prea:
            for bank in range(first, first + per_rank):
                close_bank(f, m, bank, clock)
            return
        refresh_banks(f, m, target, per_rank, f.refresh_cycle, clock)
    else:
        issue(f, m, command, target, f.none, f.none, clock)
        if command == f.pre:
            close_bank(f, m, target, clock)
            return
        if f.partner > 0:
            bind_bank(f, m, command, target + f.partner, clock)
        refresh_banks(f, m, target // per_rank, f.refreshed_banks, f.bank_refresh_cycle, clock)
    m.maint_head = (m.maint_head + 1) % at.MAINTENANCE_MAX
    m.maint_count -= 1


@lean_kernel
def _refresh_due(f: Any, m: Any) -> None:
    """Put the refreshes of an interval onto the maintenance list: all ranks, or in each the bank whose turn it is.

    Where two banks are refreshed at once the list has the first of them.
    """
    for rank in range(f.ranks):
        target = rank
        if f.refresh != at.ALL_BANK:
            target = rank * f.banks_per_rank + m.refresh_bank
        if m.maint_count >= at.MAINTENANCE_MAX:
            raise OverflowError("refreshes of a memory channel pile up")
        m.maintenance[(m.maint_head + m.maint_count) % at.MAINTENANCE_MAX] = target
        m.maint_count += 1
    m.refresh_bank = (m.refresh_bank + 1) % (f.banks_per_rank // f.refreshed_banks)
    m.next_refresh += f.refresh_every


@lean_kernel
def _execute_bankwise(f: Any, m: Any, kind: int, target: int, command: int, clock: int) -> None:
    """Plans that are not for a queued request: refresh, second part of an activation, unused rows."""
    if kind == REFRESH_DUE:
        m.clock = clock - 1  # the clock itself still takes a command
        _refresh_due(f, m)
    elif kind == MAINTAIN:
        _refresh(f, m, command, target, clock)
    elif kind == UNUSED:
        issue(f, m, command, target, f.none, f.none, clock)
        close_bank(f, m, target, clock)
    else:
        slot = m.act2_slot
        bank = m.bank[slot]
        issue(f, m, command, bank, m.row[slot], f.none, clock)
        m.open_row[bank] = m.row[slot]
        row_changed(m, bank)
        m.act2_slot = -1
        queue_opened(m, slot)


@inlined
def _execute(f: Any, m: Any) -> bool:
    """Do what was planned; true if a caller can observe it (a completion is known, a full queue has room)."""
    clock = m.plan_time
    kind = m.plan_kind
    which = m.plan_list
    target = m.plan_target
    command = m.plan_command
    m.plan_stale = 1
    m.clock = clock
    if kind >= SECOND:
        _execute_bankwise(f, m, kind, target, command, clock)
        return False
    slot = target
    if kind == SERVE:
        m.service_free = max((m.arrived[slot] + 1) * f.service_unit, m.service_free) + f.service
        _finish(f, m, which, slot, -(-m.service_free // f.service_unit))
        return True
    bank = m.bank[slot]
    if is_access(f, command):
        if kind != SYNCED and needs_sync(f, m, clock):
            sync = f.sync_wr if m.is_write[slot] else f.sync_rd
            issue(f, m, sync, bank, m.row[slot], f.none, clock)
            m.sync_list = which
            m.sync_slot = slot
            return False
        m.sync_list = -1
        _access(f, m, which, slot, command, clock)
        return True
    _count_row(f, m, slot, command)
    issue(f, m, command, bank, m.row[slot], f.none, clock)
    if command == f.pre:
        close_bank(f, m, bank, clock)
        return False
    # an activation takes the request off its queue; it waits for its row among the opened ones
    freed = _remove(f, m, which, slot, clock)
    m.opened_for[bank] = slot
    if f.act2 >= 0:
        open_bank(f, m, bank, at.OPENING, clock)
        m.act2_slot = slot
        m.act2_deadline = clock + f.activate_window
    else:
        open_bank(f, m, bank, m.row[slot], clock)
        queue_opened(m, slot)
    return freed


@inlined
def _look_ahead(f: Any, m: Any) -> None:
    """Have a plan, now that every request of the clock reached is in."""
    if m.plan_stale:
        plan(f, m, m.clock + 1)
    elif m.new_slot >= 0:
        replan(f, m, m.clock + 1)


@lean_kernel
def run(f: Any, m: Any, until: int) -> None:
    """``advance`` on the records of one channel."""
    while m.clock < until:
        _look_ahead(f, m)
        if m.plan_time > until:
            m.clock = until
        elif _execute(f, m):
            return


@lean_kernel
def advance(s: State, ch: int, until: int) -> int:
    """Run a channel up to and including clock ``until``, or to the first clock at which something observable happens.

    Observable are a completion becoming known (it is in the ring, its clock may lie ahead) and a full queue getting
    room. Returns the clock reached; calling again continues. Idle time costs nothing but its refreshes.
    """
    m = s.live[ch]
    run(s.fixed[0], m, until)
    return m.clock


@inlined
def due(s: State, ch: int) -> int:
    """The clock in which something happens next in a channel, to which nothing more is offered in the clock it has
    reached; a clock that is past where completions wait to be taken."""
    m = s.live[ch]
    if m.out_head != m.out_tail:
        return m.clock
    _look_ahead(s.fixed[0], m)
    return m.plan_time


@inlined
def run_on(f: Any, m: Any, until: int) -> int:
    """Run a channel on towards a clock, by ``HOP`` clocks at most; the work that was, 1 per call and 1,024 clocks."""
    before = m.clock
    run(f, m, min(until, before + HOP))
    return 1 + ((m.clock - before) >> 10)


@lean_kernel
def run_idle(s: State, clock: int, work: int) -> bool:
    """Bring idle channels on to a clock, as far as so much work goes: their refreshes count; whether they are there."""
    for ch in range(len(s.live)):
        m = s.live[ch]
        while m.clock < clock:
            if work <= 0:
                return False
            work -= run_on(s.fixed[0], m, clock)
    return True


@inlined
def _note(m: Any, clock: int, is_write: bool) -> None:
    m.last_accept = clock
    if m.first_accept < 0:
        m.first_accept = clock
    if is_write:
        m.writes += 1
    else:
        m.reads += 1


@inlined
def queue_of(f: Any, is_write: bool) -> int:
    """The queue that takes a request."""
    return at.WRITE_QUEUE if is_write and f.kind == at.DRAM else at.READ_QUEUE


@inlined
def accept(f: Any, m: Any, clock: int, bank: int, row: int, column: int, is_write: bool, tag: int) -> bool:
    """``offer`` on the records of one channel that has been run up to ``clock``."""
    if m.last_accept == clock:
        return False
    key = ((row * f.banks + bank) << at.COLUMN_BITS) + column
    which = queue_of(f, is_write)
    if f.kind == at.DRAM and pending_write(m, bank, key):
        _note(m, clock, is_write)
        _complete(m, tag, clock + 1)
        if is_write:
            m.merged += 1
        else:
            m.forwarded += 1
            _record_latency(m, 1)
        return True
    if m.waiting[which] >= f.room[which]:
        return False
    _account_occupancy(m, clock)
    m.n_free -= 1
    slot = m.free[m.n_free]
    m.bank[slot] = bank
    m.row[slot] = row
    m.key[slot] = key
    m.arrived[slot] = clock
    m.tag[slot] = tag
    m.is_write[slot] = 1 if is_write else 0
    m.counted[slot] = 0
    enqueue(m, which, slot)
    m.new_slot = slot
    _note(m, clock, is_write)
    return True


@inlined
def offer(s: State, ch: int, clock: int, bank: int, row: int, column: int, is_write: bool, tag: int) -> bool:
    """Offer a request of one burst at a clock; true if accepted. A channel accepts at most one per clock.

    Runs the channel up to ``clock`` first; offers at clocks it has passed are a caller's mistake (ValueError). A read
    of an address with a waiting write is answered from it at the next clock; a write to such an address joins it.
    """
    m = s.live[ch]
    while m.clock < clock:
        run(s.fixed[0], m, clock)
    if m.clock > clock:
        raise ValueError("a request was offered at a clock its memory channel has passed")
    return accept(s.fixed[0], m, clock, bank, row, column, is_write, tag)


@lean_kernel
def completions(s: State, ch: int) -> int:
    """Completions of a channel that wait to be taken."""
    m = s.live[ch]
    return m.out_head - m.out_tail


@lean_kernel
def take_completion(s: State, ch: int) -> tuple[int, int]:
    """Tag and completion clock of the next completion in the order they became known; there must be one."""
    m = s.live[ch]
    place = m.out_tail % at.RING
    m.out_tail += 1
    if m.out_tail == m.out_head:
        m.out_head = m.out_tail = 0  # few places are used over and over: they stay in a cache
    return m.out[place, 0], m.out[place, 1]


@lean_kernel
def pending(s: State, ch: int) -> int:
    """Requests accepted whose command has not issued."""
    m = s.live[ch]
    waiting = m.waiting[at.READ_QUEUE] + m.waiting[at.WRITE_QUEUE]
    opened = m.wanting[at.OPENED_READS] + m.wanting[at.OPENED_WRITES]
    return waiting + opened + (1 if m.act2_slot >= 0 else 0)
