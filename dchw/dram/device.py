"""The DRAM device as kernels: when the rules allow a command, what a command forbids, and bank-state times.

``f`` and ``m`` are the fixed record and one channel's live record (``dchw.dram.layout``).
"""

# mypy: disable-error-code="no-any-return"
from __future__ import annotations

from typing import Any

from dchw.compile import kernel
from dchw.dram import layout as at
from dchw.dram.queue import row_changed


@kernel
def earliest(f: Any, m: Any, command: int, bank: int) -> int:
    """First clock at which the rules allow a command to one bank."""
    rank_and_channel = max(m.ready[0, command], m.ready[f.node[bank, 1], command])
    return max(rank_and_channel, max(m.ready[f.node[bank, 2], command], m.ready[f.node[bank, 3], command]))


@kernel
def earliest_rank(f: Any, m: Any, command: int, rank: int) -> int:
    """First clock at which the rules allow a command to all banks of a rank."""
    first = 0
    for bank in range(rank * f.banks_per_rank, (rank + 1) * f.banks_per_rank):
        first = max(first, earliest(f, m, command, bank))
    return first


@kernel
def _forbid(m: Any, node: int, command: int, until: int) -> None:
    if until > m.ready[node, command]:
        m.ready[node, command] = until


@kernel
def _apply_wide(f: Any, m: Any, rule: int, command: int, bank: int, clock: int) -> None:
    """A rule with a window, for sibling nodes, or after a command to all banks of a rank."""
    level = f.rule_level[rule]
    following = f.rule_following[rule]
    latency = f.rule_latency[rule]
    node = f.node[bank, level]
    if f.rule_sibling[rule]:
        for other in range(f.first_sibling[node], f.first_sibling[node] + f.siblings[node]):
            if other != node:
                _forbid(m, other, following, clock + latency)
        return
    last = node
    if f.whole_rank[command] and level > 1:
        last = f.node[bank + f.banks_per_rank - 1, level]
    window = f.rule_window[rule]
    h = f.rule_history[rule]
    for this in range(node, last + 1):
        since = clock
        if window > 1:
            # the rules of one window stand together; the first of them records the command
            if h != f.rule_history[rule - 1]:
                for k in range(window - 1, 0, -1):
                    m.history[h, this, k] = m.history[h, this, k - 1]
                m.history[h, this, 0] = clock
            since = m.history[h, this, window - 1]
        if since >= 0:
            _forbid(m, this, following, since + latency)


@kernel
def issue(f: Any, m: Any, command: int, bank: int, row: int, clock: int) -> None:
    """Record a command: what it forbids to others and until when, the command bus, its count and the trace.

    ``bank`` is the first bank of the rank where the command goes to all of them; ``row`` is for the trace only.
    """
    for rule in range(f.rule_first[command], f.rule_first[command + 1]):
        if f.whole_rank[command] or f.rule_sibling[rule] or f.rule_window[rule] > 1:
            _apply_wide(f, m, rule, command, bank, clock)
        else:
            _forbid(m, f.node[bank, f.rule_level[rule]], f.rule_following[rule], clock + f.rule_latency[rule])
    m.bus_free = clock + f.clocks[command]
    m.counts[bank, command] += 1
    if m.logged < f.trace_length:
        m.log[m.logged, 0] = clock
        m.log[m.logged, 1] = command
        m.log[m.logged, 2] = bank
        m.log[m.logged, 3] = row
        m.logged += 1


@kernel
def account_power(m: Any, rank: int, clock: int) -> None:
    """Bring the bank-state times of a rank up to ``clock``; a bank in refresh counts as open."""
    start = m.power_from[rank]
    m.open_bank_clocks[rank] += m.open_banks[rank] * (clock - start)
    if m.open_banks[rank] > 0:
        m.any_open_clocks[rank] += clock - start
    else:
        m.any_open_clocks[rank] += max(0, min(clock, m.refreshing_until[rank]) - start)
    m.power_from[rank] = clock


@kernel
def open_bank(f: Any, m: Any, bank: int, row: int, clock: int) -> None:
    """A bank's activation starts; ``row`` is OPENING where a second part follows."""
    rank = bank // f.banks_per_rank
    account_power(m, rank, clock)
    m.open_banks[rank] += 1
    m.open_row[bank] = row
    m.last_use[bank] = clock
    row_changed(m, bank)


@kernel
def close_bank(f: Any, m: Any, bank: int, clock: int) -> None:
    """A bank is precharged; nothing happens to a closed one."""
    if m.open_row[bank] != at.CLOSED:
        rank = bank // f.banks_per_rank
        account_power(m, rank, clock)
        m.open_banks[rank] -= 1
        m.precharged[rank] += 1
        m.open_row[bank] = at.CLOSED
        row_changed(m, bank)


@kernel
def refresh_banks(f: Any, m: Any, rank: int, banks: int, clocks: int, clock: int) -> None:
    """Bank-state times of a refresh of some banks of a rank that lasts ``clocks``."""
    account_power(m, rank, clock)
    m.open_bank_clocks[rank] += banks * clocks
    m.refreshing_until[rank] = max(m.refreshing_until[rank], clock + clocks)
