"""The DRAM device as kernels: when the rules allow a command, what a command forbids, and bank-state times.

``f`` and ``m`` are the fixed record and one channel's live record (``dchw.dram.records``).
"""

# mypy: disable-error-code="no-any-return"
from __future__ import annotations

from typing import Any

from dchw.compile import inlined, lean_kernel
from dchw.dram import records as at
from dchw.dram.lines import drive
from dchw.dram.queue import row_changed

_CHANNEL, _RANK = range(2)  # levels


@inlined
def earliest(f: Any, m: Any, command: int, bank: int) -> int:
    """First clock at which the rules allow a command to one bank."""
    return max(m.ready[command], m.bank_ready[command, bank])


@lean_kernel
def earliest_rank(f: Any, m: Any, command: int, rank: int) -> int:
    """First clock at which the rules allow a command to all banks of a rank."""
    first = 0
    for bank in range(rank * f.banks_per_rank, (rank + 1) * f.banks_per_rank):
        first = max(first, earliest(f, m, command, bank))
    return first


@lean_kernel
def _forbid(f: Any, m: Any, level: int, bank: int, command: int, until: int) -> None:
    """No such command before clock ``until`` to the node of a level that a bank belongs to."""
    if level == _CHANNEL:
        m.ready[command] = max(m.ready[command], until)
        return
    width = f.node_banks[level]
    first = f.node[bank, level] * width
    for b in range(first, first + width):
        m.bank_ready[command, b] = max(m.bank_ready[command, b], until)


@lean_kernel
def _apply_wide(f: Any, m: Any, rule: int, command: int, bank: int, clock: int) -> None:
    """A rule with a window, for sibling nodes, or after a command to all banks of a rank."""
    level = f.rule_level[rule]
    following = f.rule_following[rule]
    latency = f.rule_latency[rule]
    width = f.node_banks[level]
    if f.rule_sibling[rule]:
        for other in range(0, f.banks, width):
            if f.node[other, level] != f.node[bank, level]:
                _forbid(f, m, level, other, following, clock + latency)
        return
    window = f.rule_window[rule]
    h = f.rule_history[rule]
    end = bank + (f.banks_per_rank if f.whole_rank[command] else 1)
    for first in range(bank, end, width):
        node = f.node[first, level]
        since = clock
        if window > 1:
            # the rules of one window stand together; the first of them records the command
            if rule == f.rule_wide[command] or h != f.rule_history[rule - 1]:
                for k in range(window - 1, 0, -1):
                    m.history[h, node, k] = m.history[h, node, k - 1]
                m.history[h, node, 0] = clock
            since = m.history[h, node, window - 1]
        if since >= 0:
            _forbid(f, m, level, first, following, since + latency)


@inlined
def bind_bank(f: Any, m: Any, command: int, bank: int, clock: int) -> None:
    """What a command forbids to the bank it goes to, by rules of a bank alone."""
    for rule in range(f.rule_bank[command], f.rule_node[command]):
        following = f.rule_following[rule]
        m.bank_ready[following, bank] = max(m.bank_ready[following, bank], clock + f.rule_latency[rule])


@inlined
def _bind_node(f: Any, m: Any, command: int, bank: int, clock: int) -> None:
    """What a command forbids to the rank or the bank group of the bank it goes to, by their plain rules."""
    for rule in range(f.rule_node[command], f.rule_wide[command]):
        following, level, until = f.rule_following[rule], f.rule_level[rule], clock + f.rule_latency[rule]
        width = f.node_banks[level]
        first = f.node[bank, level] * width
        for b in range(first, first + width):
            m.bank_ready[following, b] = max(m.bank_ready[following, b], until)


@lean_kernel
def issue(f: Any, m: Any, command: int, bank: int, row: int, column: int, clock: int) -> None:
    """Record a command: what it forbids to others and until when, command bus and lines, its count and the trace.

    ``bank`` is the first bank of the rank where the command goes to all of them; ``row`` and ``column`` (-1 where
    none) are for the trace and the lines only.
    """
    for rule in range(f.rule_first[command], f.rule_bank[command]):
        following = f.rule_following[rule]
        m.ready[following] = max(m.ready[following], clock + f.rule_latency[rule])
    bind_bank(f, m, command, bank, clock)
    _bind_node(f, m, command, bank, clock)
    for rule in range(f.rule_wide[command], f.rule_first[command + 1]):
        _apply_wide(f, m, rule, command, bank, clock)
    m.bus_free = clock + f.clocks[command]
    m.counts[bank, command] += 1
    if f.code_beats[command] > 0:
        drive(f, m, command, bank, row, column, clock)
    if m.logged < f.trace_length:
        m.log[m.logged, 0] = clock
        m.log[m.logged, 1] = command
        m.log[m.logged, 2] = bank
        m.log[m.logged, 3] = row
        m.log[m.logged, 4] = column
        m.logged += 1


@inlined
def account_power(m: Any, rank: int, clock: int) -> None:
    """Bring the bank-state times of a rank up to ``clock``; a bank in refresh counts as open."""
    start = m.power_from[rank]
    m.open_bank_clocks[rank] += m.open_banks[rank] * (clock - start)
    if m.open_banks[rank] > 0:
        m.any_open_clocks[rank] += clock - start
    else:
        m.any_open_clocks[rank] += max(0, min(clock, m.refreshing_until[rank]) - start)
    m.power_from[rank] = clock


@inlined
def open_bank(f: Any, m: Any, bank: int, row: int, clock: int) -> None:
    """A bank's activation starts; ``row`` is OPENING where a second part follows."""
    rank = f.node[bank, _RANK]
    account_power(m, rank, clock)
    m.open_banks[rank] += 1
    m.open_row[bank] = row
    m.last_use[bank] = clock
    row_changed(m, bank)


@inlined
def close_bank(f: Any, m: Any, bank: int, clock: int) -> None:
    """A bank is precharged; nothing happens to a closed one."""
    if m.open_row[bank] != at.CLOSED:
        rank = f.node[bank, _RANK]
        account_power(m, rank, clock)
        m.open_banks[rank] -= 1
        m.precharged[rank] += 1
        m.open_row[bank] = at.CLOSED
        row_changed(m, bank)


@lean_kernel
def refresh_banks(f: Any, m: Any, rank: int, banks: int, clocks: int, clock: int) -> None:
    """Bank-state times of a refresh of some banks of a rank that lasts ``clocks``."""
    account_power(m, rank, clock)
    m.open_bank_clocks[rank] += banks * clocks
    m.refreshing_until[rank] = max(m.refreshing_until[rank], clock + clocks)
