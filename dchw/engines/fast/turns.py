"""Who is in line to go on: waking whoever waits for an item or a slot, and putting off what can go in larger steps."""

from __future__ import annotations

from dchw.compile import inlined, lean_kernel
from dchw.engines.fast.program_tables import (
    DEFERRED,
    IN_QUEUE,
    ITEM,
    NOT_QUEUED,
    SLOT,
    ArbiterRow,
    LinkRow,
    NodeRow,
    RunState,
)
from dchw.engines.named_rows import Rows


@lean_kernel
def wake_source(run: RunState, node: Rows[NodeRow], link: Rows[LinkRow], arbiter: Rows[ArbiterRow], x: int) -> None:
    row = link[x]
    if row.source < node.shape[0]:
        row.wanted &= ~SLOT
    wake(run, node, arbiter, row.source)


@lean_kernel
def wake_target(run: RunState, node: Rows[NodeRow], link: Rows[LinkRow], arbiter: Rows[ArbiterRow], x: int) -> None:
    row = link[x]
    if row.target < node.shape[0]:
        row.wanted &= ~ITEM
    wake(run, node, arbiter, row.target)


@lean_kernel
def wake(run: RunState, node: Rows[NodeRow], arbiter: Rows[ArbiterRow], at: int) -> None:
    # a firing node gets in line; an arbiter, which asks for everything always, decides anew; the memory looks itself
    nodes = node.shape[0]
    if at >= nodes:
        if at - nodes < arbiter.shape[0]:
            arbiter[at - nodes].dirty = 1
    elif node[at].lanes > 0:
        defer(run, node, at)
    elif node[at].queued != IN_QUEUE:
        run.deferrals -= 1 if node[at].queued == DEFERRED else 0
        _line_up(run, node, at)


@inlined
def _line_up(run: RunState, node: Rows[NodeRow], at: int) -> None:
    node[at].queued = IN_QUEUE
    node[(run.queue_head + run.queue_count) % node.shape[0]].in_line = at
    run.queue_count += 1


@lean_kernel
def defer(run: RunState, node: Rows[NodeRow], at: int) -> None:
    """Let a firing node run when no other can go on: forks, and sources whose targets do their firings on the way."""
    if node[at].queued == NOT_QUEUED:
        node[at].queued = DEFERRED
        run.deferrals += 1


@lean_kernel
def queue_deferred(run: RunState, node: Rows[NodeRow]) -> None:
    """Put the first deferred fork in line, or all other deferred nodes if there is none."""
    for forks in range(1, -1, -1):
        for at in range(node.shape[0]):
            if node[at].queued == DEFERRED and (node[at].lanes > 0) == (forks == 1):
                run.deferrals -= 1
                _line_up(run, node, at)
                if forks:
                    return
        if run.queue_count > 0:
            return
