"""The DRAM device as kernels: when the rules allow a command, what a command forbids, and bank-state times.

``f`` and ``m`` are the fixed array and one channel's row of the live array (``dchw.dram.layout``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from dchw.compile import kernel
from dchw.dram import layout as at

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Ints = NDArray[np.int64]


@kernel
def earliest(f: Ints, m: Ints, command: int, bank: int) -> int:
    """First clock at which the rules allow a command to one bank."""
    node = at.NODE + 4 * bank
    place = at.READY + command
    rank_and_channel = max(m[place], m[place + f[node + 1] * at.COMMANDS_MAX])
    group = m[place + f[node + 2] * at.COMMANDS_MAX]
    return max(rank_and_channel, max(group, m[place + f[node + 3] * at.COMMANDS_MAX]))  # type: ignore[no-any-return]


@kernel
def earliest_rank(f: Ints, m: Ints, command: int, rank: int) -> int:
    """First clock at which the rules allow a command to all banks of a rank."""
    first = 0
    for bank in range(rank * f[at.BANKS_PER_RANK], (rank + 1) * f[at.BANKS_PER_RANK]):
        first = max(first, earliest(f, m, command, bank))
    return first


@kernel
def _forbid(m: Ints, node: int, command: int, until: int) -> None:
    place = at.READY + node * at.COMMANDS_MAX + command
    if until > m[place]:
        m[place] = until


@kernel
def _apply_wide(f: Ints, m: Ints, rule: int, bank: int, whole_rank: bool, first_of_rule: bool, clock: int) -> None:
    """A rule with a window, for sibling nodes, or after a command to all banks of a rank."""
    level = f[rule + at.RULE_LEVEL]
    following = f[rule + at.RULE_FOLLOWING]
    latency = f[rule + at.RULE_LATENCY]
    node = f[at.NODE + 4 * bank + level]
    if f[rule + at.RULE_SIBLING]:
        first = f[at.SIBLINGS + 2 * node]
        for other in range(first, first + f[at.SIBLINGS + 2 * node + 1]):
            if other != node:
                _forbid(m, other, following, clock + latency)
        return
    last = node
    if whole_rank and level > 1:
        first_bank = (bank // f[at.BANKS_PER_RANK]) * f[at.BANKS_PER_RANK]
        node = f[at.NODE + 4 * first_bank + level]
        last = f[at.NODE + 4 * (first_bank + f[at.BANKS_PER_RANK] - 1) + level]
    window = f[rule + at.RULE_WINDOW]
    for this in range(node, last + 1):
        since = clock
        if window > 1:
            past = at.HISTORY + (f[rule + at.RULE_HISTORY] * at.NODES_MAX + this) * at.WINDOW_MAX
            if first_of_rule:
                for k in range(window - 1, 0, -1):
                    m[past + k] = m[past + k - 1]
                m[past] = clock
            since = m[past + window - 1]
        if since >= 0:
            _forbid(m, this, following, since + latency)


@kernel
def issue(f: Ints, m: Ints, command: int, bank: int, whole_rank: bool, row: int, clock: int) -> None:
    """Record a command: what it forbids to others and until when, the command bus, its count and the trace.

    ``bank`` is the first bank of the rank where the command goes to all of them (``whole_rank``).
    """
    history = -1
    end = at.RULES + f[at.RULE_FIRST + command + 1] * at.RULE_SIZE
    for rule in range(at.RULES + f[at.RULE_FIRST + command] * at.RULE_SIZE, end, at.RULE_SIZE):
        if whole_rank or f[rule + at.RULE_SIBLING] or f[rule + at.RULE_WINDOW] > 1:
            _apply_wide(f, m, rule, bank, whole_rank, f[rule + at.RULE_HISTORY] != history, clock)
            history = f[rule + at.RULE_HISTORY]
        else:
            node = f[at.NODE + 4 * bank + f[rule + at.RULE_LEVEL]]
            _forbid(m, node, f[rule + at.RULE_FOLLOWING], clock + f[rule + at.RULE_LATENCY])
    m[at.BUS_FREE] = clock + f[at.CLOCKS + command]
    m[at.COUNTS + bank * at.COMMANDS_MAX + command] += 1
    place = at.TRACE + m[at.TRACED] * at.TRACE_SIZE
    if place < len(m):
        m[place] = clock
        m[place + 1] = command
        m[place + 2] = bank
        m[place + 3] = row
        m[at.TRACED] += 1


@kernel
def account_power(m: Ints, rank: int, clock: int) -> None:
    """Bring the bank-state times of a rank up to ``clock``; a bank in refresh counts as open."""
    p = at.POWER + rank * at.POWER_SIZE
    start = m[p + at.POWER_FROM]
    m[p + at.OPEN_BANK_CLOCKS] += m[p + at.OPEN_BANKS] * (clock - start)
    if m[p + at.OPEN_BANKS] > 0:
        m[p + at.ANY_OPEN_CLOCKS] += clock - start
    else:
        m[p + at.ANY_OPEN_CLOCKS] += max(0, min(clock, m[p + at.REFRESHING_UNTIL]) - start)
    m[p + at.POWER_FROM] = clock


@kernel
def open_bank(f: Ints, m: Ints, bank: int, row: int, clock: int) -> None:
    """A bank's activation starts; ``row`` is OPENING where a second part follows."""
    rank = bank // f[at.BANKS_PER_RANK]
    account_power(m, rank, clock)
    m[at.POWER + rank * at.POWER_SIZE + at.OPEN_BANKS] += 1
    m[at.OPEN_ROW + bank] = row
    m[at.LAST_USE + bank] = clock


@kernel
def close_bank(f: Ints, m: Ints, bank: int, clock: int) -> None:
    """A bank is precharged; nothing happens to a closed one."""
    if m[at.OPEN_ROW + bank] != at.CLOSED:
        rank = bank // f[at.BANKS_PER_RANK]
        account_power(m, rank, clock)
        m[at.POWER + rank * at.POWER_SIZE + at.OPEN_BANKS] -= 1
        m[at.POWER + rank * at.POWER_SIZE + at.PRECHARGED] += 1
        m[at.OPEN_ROW + bank] = at.CLOSED


@kernel
def refresh_banks(f: Ints, m: Ints, rank: int, banks: int, clocks: int, clock: int) -> None:
    """Bank-state times of a refresh of some banks of a rank that lasts ``clocks``."""
    account_power(m, rank, clock)
    p = at.POWER + rank * at.POWER_SIZE
    m[p + at.OPEN_BANK_CLOCKS] += banks * clocks
    m[p + at.REFRESHING_UNTIL] = max(m[p + at.REFRESHING_UNTIL], clock + clocks)
