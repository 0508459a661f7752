"""Room for blocks: what `dchw.engines.fast.lanes` and `dchw.engines.fast.joins` do side by side, a column per link.

``room`` is int64[ROOM, links and BLOCK at least]; what a block leaves there means nothing to the next.
"""

# mypy: disable-error-code="no-any-return"
from __future__ import annotations

import numpy as np

from dchw.compile import inlined, lean_kernel
from dchw.engines.fast.ahead import fetch
from dchw.engines.fast.program_tables import Ints32
from dchw.engines.named_rows import Ints

BLOCK = 64
"""Most items of a block: with 64 lanes its times take 67 KB, which a second-level cache holds."""
FEWEST = 4
"""Items below which laying out a block does not pay."""
AHEAD, NEARBY = 64, 16
"""Numbers of a list: how far it is read ahead, and how many lie in a cache line."""
WORK, BEGIN, FREE, IDLE = 0, BLOCK, 2 * BLOCK, 2 * BLOCK + 1
"""Rows, a column per lane: an item's cycles there, its start, when the lane is free, how long it waited."""
SLOT_OF, HANDED, ROOM = 2 * BLOCK + 2, 2 * BLOCK + 3, 2 * BLOCK + 4
"""Rows, a column per item: when the slot it needs is visible, and when it is handed over. The last: rows in all."""


def room_for(links: int) -> Ints:
    """Room for so many links at most. Its rows begin in different sets of a cache, so that columns fit one."""
    return np.zeros((ROOM, max(BLOCK, links // NEARBY * NEARBY + NEARBY) + NEARBY // 2), np.int64)


@inlined
def read_ahead(lists: Ints32, at: int, count: int) -> None:
    """Have what lies behind the next ``count`` numbers of a list brought nearer."""
    for ahead in range(AHEAD, AHEAD + count, NEARBY):
        fetch(lists, at + ahead)


@lean_kernel
def one_each(lists: Ints32, by: int, item: int, firing: int, count: int) -> bool:
    """Whether ``count`` items behind one that a firing moves are moved by the firings behind it, one each.

    A list ends with a number that is no firing's, so that what lies behind its end makes no difference; behind the end
    of all lists nothing is looked at.
    """
    if by + item + count >= lists.size:
        return by < 0
    other = 0
    if by >= 0:
        for k in range(1, count + 1):
            other |= lists[np.uint64(by + item + k)] ^ (firing + k)
    return other == 0


@lean_kernel
def write_work(lists: Ints32, room: Ints, column: int, occupied: int, constant: int, firing: int, count: int) -> None:
    """Write a column of WORK: cycles of ``count`` firings from one on."""
    for k in range(count):
        room[WORK + k, column] = constant if constant else lists[np.uint64(occupied + firing + k)]
