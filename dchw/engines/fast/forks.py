"""The kernels for a fork: one node that feeds many, each through a queue of the same depth.

While every target waits for the fork's next item and nothing else, the fork, its queues and what its targets do until
they need another item are one recurrence; it is that of a broadcast array, found in any program by its links alone.
Where the targets need nothing but the fork's items they are done side by side, a block of items at a time
(`dchw.engines.fast.lanes`); otherwise item by item, each with whoever serves it (`dchw.engines.fast.served`). A target
that has something else to do ends it.
"""

# mypy: disable-error-code="no-any-return"
from __future__ import annotations

from dchw.compile import inlined, lean_kernel
from dchw.engines.fast.lanes import lanes_run
from dchw.engines.fast.program_tables import ITEM, LaneRow, LinkRow, NodeRow, Tables
from dchw.engines.fast.served import fork_of, put_fork, serve
from dchw.engines.fast.turns import wake
from dchw.engines.named_rows import Rows

FEW = 16
"""Items done one by one before the next block side by side is tried; twice as many whenever that was in vain."""
MOST = 1 << 20
"""Firings of targets and their sources, about, that are done in one go."""


@lean_kernel
def in_step(node: Rows[NodeRow], link: Rows[LinkRow], lane: Rows[LaneRow], at: int) -> bool:
    """Whether every target of a fork waits for its next item, with nothing to do before."""
    p, end = node[at].lane, node[at].lane + node[at].lanes
    while p < end and _waits(node, link, lane, p):
        p += 1
    return p == end


@lean_kernel
def lead(t: Tables, at: int) -> bool:
    """Let a fork and its targets go on together while they are `in_step`; whether the fork did anything.

    Stops behind the first item that some target cannot deal with here, where something is not known yet, and after
    a bounded amount of work.
    """
    node, link, lane = t.node[at], t.link, t.lane
    begin, end, begun = node.lane, node.lane + node.lanes, node.next
    if not in_step(t.node, link, lane, at):
        return False
    for p in range(begin, end):
        link[lane[p].items].wanted &= ~ITEM
    done, smooth, most = 0, True, FEW
    while smooth and node.next < node.count and done < MOST:
        before, fork = node.next, fork_of(t, at)
        _, fork, fired = lanes_run(t, at, link[lane[begin].items].given, fork)
        if fork.firing > before:
            put_fork(t, at, fork)
            most = FEW
        else:
            fired, smooth = serve(t, at, most)
            most *= 2
        done += fired
        if node.next == before:
            break
    for p in range(begin, end):
        if _waits(t.node, link, lane, p):
            link[lane[p].items].wanted |= ITEM
        else:
            wake(t.run, t.node, t.arbiter, lane[p].node)
    t.run.done += done
    t.run.with_forks += done
    return node.next > begun


@inlined
def _waits(node: Rows[NodeRow], link: Rows[LinkRow], lane: Rows[LaneRow], p: int) -> bool:
    """Whether a lane's target waits for the fork's next item, with nothing to do before."""
    row, target = link[lane[p].items], node[lane[p].node]
    return row.taken == row.given and row.next_taker == target.next and not target.started
