"""Kernels for one firing of a node: T3 and T4 as they stand, whatever links it moves."""

from __future__ import annotations

from dchw.compile import inlined, lean_kernel
from dchw.engines.fast.program_tables import ITEM, SLOT, Ints32, Tables
from dchw.engines.fast.queues import give_item, place, queue_of, slot_known, slot_visible, take_item
from dchw.engines.fast.turns import wake_source, wake_target


@lean_kernel
def fire_once(t: Tables, at: int) -> bool:
    """The next firing of a node, as far as what it needs is known: whether it finished. No times are recorded."""
    node = t.node[at]
    firing = node.next
    if firing == node.count:
        return False
    span = t.span[node.span]
    if not node.started:
        start, waited_for = take(t, at, firing, node.finish)
        if start < 0:
            return False
        span.idle += start - node.finish
        if span.start < 0:
            span.start = start
        node.started, node.start, node.waited_for = 1, start, waited_for
    busy_until = node.start + (node.constant if node.constant else t.lists[node.occupied + firing]) - 1
    handover, _ = give(t, at, firing, busy_until)
    if handover < 0:
        return False
    span.stall += handover - busy_until
    node.finish, node.next, node.started = handover + 1, firing + 1, 0
    t.run.done += 1
    if firing + 1 == span.end:
        span.finish = handover + 1
        if firing + 1 < node.count:
            node.span += 1
        else:
            t.run.exhausted += 1
    return True


@inlined
def _behind(lists: Ints32, by: int, item: int, firing: int) -> int:
    """The item behind the last one that a firing moves, from the first one and where its list begins on (-1: none)."""
    upto = item + 1
    if by >= 0:
        while lists[by + upto] == firing:
            upto += 1
    return upto


@inlined
def take(t: Tables, at: int, firing: int, finish: int) -> tuple[int, int]:
    """T3: take all items of a firing; its start, and the link it waited for (-1: none). -1: an item is not known."""
    node, link, ends, ring, lists = t.node, t.link, t.ends, t.ring, t.lists
    into, out_of = node[at].into, node[at].out_of
    start, waited_for = finish, -1
    for end in range(into, out_of):
        x = ends[end]
        row = link[x]
        if row.next_taker != firing:
            continue
        upto = _behind(lists, row.taken_by, row.taken, firing)
        if upto > row.given:
            row.wanted |= ITEM
            return -1, -1
        row.upto = upto
        visible = ring[place(queue_of(row), upto - 1)]
        if visible > start:
            start, waited_for = visible, x
    for end in range(into, out_of):
        # each place in the ring turns from the item's time into its slot's
        x = ends[end]
        row = link[x]
        if row.next_taker != firing:
            continue
        upto, by = row.upto, row.taken_by
        row.next_taker = lists[by + upto] if by >= 0 else firing + 1
        q, peak = queue_of(row), row.peak
        for item in range(row.taken, upto):
            peak = take_item(ring, q, item, ring[place(q, item)], start, peak)
        row.peak, row.taken = peak, upto
        if row.wanted & SLOT:
            wake_source(t.run, node, link, t.arbiter, x)
    return start, waited_for


@inlined
def give(t: Tables, at: int, firing: int, busy_until: int) -> tuple[int, int]:
    """T4: give all items of a firing; when, and the link that stalled it (-1: none). -1: a slot is not known."""
    node, link, ends, ring, lists = t.node, t.link, t.ends, t.ring, t.lists
    out_of, stop = node[at].out_of, node[at].stop
    handover, stalled_by = busy_until, -1
    for end in range(out_of, stop):
        x = ends[end]
        row = link[x]
        if row.next_giver != firing:
            continue
        upto = _behind(lists, row.given_by, row.given, firing)
        row.upto = upto
        q = queue_of(row)
        if not slot_known(q, upto - 1, row.taken):
            row.wanted |= SLOT
            return -1, -1
        visible = slot_visible(ring, q, upto - 1)
        if visible > handover:
            handover, stalled_by = visible, x
    for end in range(out_of, stop):
        x = ends[end]
        row = link[x]
        if row.next_giver != firing:
            continue
        upto, by = row.upto, row.given_by
        row.next_giver = lists[by + upto] if by >= 0 else firing + 1
        q = queue_of(row)
        for item in range(row.given, upto):
            give_item(ring, q, item, handover)
        row.given = upto
        if row.wanted & ITEM:
            wake_target(t.run, node, link, t.arbiter, x)
    return handover, stalled_by
