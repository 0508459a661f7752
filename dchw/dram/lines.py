"""Command and address lines as kernels: rising edges, and beats that a line is high.

``f`` and ``m`` are the fixed record and one channel's live record (``dchw.dram.records``). A command drives its code
(``dchw.dram.codes``) from its first clock on; behind it all lines are low until the next command.
"""

# mypy: disable-error-code="no-any-return"
from __future__ import annotations

from typing import Any

from dchw.compile import lean_kernel
from dchw.dram import records as at


@lean_kernel
def drive(f: Any, m: Any, command: int, bank: int, row: int, column: int, clock: int) -> None:
    """Put a command onto the lines; ``row`` and ``column`` -1 count as 0. What is still on them is cut off."""
    account_lines(f, m, clock)
    per_group = f.node_banks[2]
    address = (max(column, 0) * f.code_columns) << at.COLUMN_AT
    address |= (bank % per_group) << at.BANK_AT
    address |= (bank % f.banks_per_rank // per_group) << at.GROUP_AT
    address |= max(row, 0) << at.ROW_AT
    word = f.code_ones[command]
    for k in range(f.code_variable[command]):
        word |= ((address >> f.code_from[command, k]) & 1) << f.code_to[command, k]
    m.word = word
    m.word_beats = f.code_beats[command]
    m.word_from = clock * f.code_rate


@lean_kernel
def account_lines(f: Any, m: Any, clock: int) -> None:
    """Bring edges and levels up to ``clock``, which must not lie before that of an earlier call."""
    until = clock * f.code_rate
    while m.word_beats > 0 and m.word_from < until:
        m.word_beats -= 1
        level = (m.word >> (m.word_beats * f.code_lines)) & ((1 << f.code_lines) - 1)
        m.line_rises += _ones(level & ~m.line_level)
        m.line_highs += _ones(level)
        m.line_level = level
        m.word_from += 1
    if m.word_from < until:
        m.line_level = 0


@lean_kernel
def _ones(level: int) -> int:
    count = 0
    while level:
        level &= level - 1
        count += 1
    return count
