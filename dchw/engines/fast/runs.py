"""Kernels for runs of firings of one node, taken in one go: nothing but few links move, and nobody looks at times.

They do what single firings do (`dchw.engines.fast.firings`), with the state of the links that move in local variables.
"""

# mypy: disable-error-code="no-any-return"
from __future__ import annotations

from typing import NamedTuple

import numpy as np

from dchw.compile import inlined
from dchw.engines.fast.program_tables import ITEM, SLOT, Ints32, Tables
from dchw.engines.fast.queues import following, give_item, place, queue_of, slot_visible, take_item

FAR_FIRING = 2**62
UNSEEN = -2


@inlined
def service(lists: Ints32, occupied: int, constant: int, firing: int, until: int) -> int:
    """Cycles that firings ``firing`` .. ``until`` of a node are occupied."""
    if constant:
        return constant * (until - firing)
    cycles = 0
    for at in range(occupied + firing, occupied + until):
        cycles += lists[np.uint64(at)]
    return cycles


class Giver(NamedTuple):
    """A node whose firings are done for the sake of what it gives to some links, as far as it moves nothing else."""

    quiet: int
    """The firing before which it moves nothing else; -1: it must do so now; UNSEEN: not looked at."""
    occupied: int
    constant: int
    by: int
    """Where ``lists`` say which firing gives item 0; -1: one each."""
    firing: int
    giver: int
    """The firing that gives the next item."""
    free: int
    """The finish before ``firing``, or its start if it has one."""
    stall: int
    """Cycles stalled."""


@inlined
def given_on(lists: Ints32, g: Giver, item: int) -> int:
    """The firing that gives the item behind the next one; ``g.giver`` itself where ``item`` cannot be given here."""
    return following(lists, g.by, item, g.giver) if g.giver < g.quiet else g.giver


@inlined
def give_next(lists: Ints32, g: Giver, after: int, slot: int) -> Giver:
    """T4: its firings up to the one that gives the next item, which needs a slot visible then; `given_on` is ``after``.

    The item is handed over in the cycle before ``free``.
    """
    cycles = g.constant
    if g.giver > g.firing:
        cycles = service(lists, g.occupied, g.constant, g.firing, g.giver + 1)
    elif cycles == 0:
        cycles = lists[np.uint64(g.occupied + g.firing)]
    busy_until = g.free + cycles - 1
    handover = max(busy_until, slot)
    return Giver(
        g.quiet, g.occupied, g.constant, g.by, g.giver + 1, after, handover + 1, g.stall + handover - busy_until
    )


@inlined
def source_of(t: Tables, x: int, at: int, fork: int) -> Giver:
    """The source of link ``x``, unless it is its target ``at`` or the ``fork`` in hand."""
    row = t.link[x]
    quiet = -1 if row.source in (at, fork) else free_until(t, row.source, x)
    if quiet < 0:
        return Giver(-1, 0, 0, -1, 0, 0, 0, 0)
    source = t.node[row.source]
    free = source.start if source.started else source.finish
    return Giver(quiet, source.occupied, source.constant, row.given_by, source.next, row.next_giver, free, 0)


@inlined
def take_run(
    t: Tables, at: int, fork: int, main: int, other: int, firing: int, quiet: int, finish: int
) -> tuple[int, int, int, int, bool, int]:
    """Firings before ``quiet`` that give nothing and take from two links only (-1: none), an item each at most.

    Where an item of ``main`` is not there yet and its source has nothing to do but to give it, the source's firing is
    done on the way: the two nodes and the queue between them are one recurrence then. Not so the ``fork`` in hand.

    Gives the next firing, its predecessor's finish, cycles idle, the first start (-1: no firing), whether an item is
    missing, and how many firings of the source were done.
    """
    node, link, ring, lists = t.node, t.link, t.ring, t.lists
    occupied, constant = node[at].occupied, node[at].constant
    busy, rare = link[max(main, 0)], link[max(other, 0)]
    q, other_q = queue_of(busy), queue_of(rare)
    by = item = given = peak = other_by = other_item = other_given = other_peak = 0
    next_main = next_other = FAR_FIRING
    if main >= 0:
        by, item, given = busy.taken_by, busy.taken, busy.given
        peak, next_main = busy.peak, busy.next_taker
    if other >= 0:
        other_by, other_item, other_given = rare.taken_by, rare.taken, rare.given
        other_peak, next_other = rare.peak, rare.next_taker
    source = Giver(UNSEEN, 0, 0, -1, 0, 0, 0, 0)
    pulled, idle, first, missing, going = 0, 0, -1, -1, True
    while going and firing < quiet:
        # a stretch: one firing that may take from ``other``, and those behind it that do not
        begun, start, begun_at, other_after, other_visible = firing, finish, finish, next_other, finish
        if next_other == firing:
            other_after = following(lists, other_by, other_item, firing)
            if other_after == firing:
                break
            if other_item >= other_given:
                missing = other
                break
            other_visible = ring[place(other_q, other_item)]
            start = max(start, other_visible)
        waited, until = start - finish, min(quiet, other_after)
        while firing < until:
            if next_main > firing:
                alone = min(until, next_main)
                if firing == begun:
                    begun_at = start
                start += service(lists, occupied, constant, firing, alone)
                firing = alone
                continue
            after = following(lists, by, item, firing)
            if after == firing:
                break
            if item < given:
                visible = ring[place(q, item)]
            else:
                if source.quiet == UNSEEN:
                    source = source_of(t, main, at, fork)
                given_after = given_on(lists, source, item)
                if given_after == source.giver:
                    missing = main
                    break
                source = give_next(lists, source, given_after, slot_visible(ring, q, item))
                visible = source.free - 1 + q.hold
                given += 1
            if visible > start:
                waited += visible - start
                start = visible
            peak = take_item(ring, q, item, visible, start, peak)
            item, next_main = item + 1, after
            if firing == begun:
                begun_at = start
            start += constant if constant else lists[np.uint64(occupied + firing)]
            firing += 1
        if firing == begun:
            break
        first = begun_at if first < 0 else first
        idle += waited
        finish, going = start, firing == until and not 0 <= source.quiet <= source.giver
        if next_other == begun:
            other_peak = take_item(ring, other_q, other_item, other_visible, begun_at, other_peak)
            other_item, next_other = other_item + 1, other_after
    if main >= 0:
        busy.taken, busy.peak, busy.next_taker = item, peak, next_main
    if other >= 0:
        rare.taken, rare.peak, rare.next_taker = other_item, other_peak, next_other
    if missing >= 0:
        link[missing].wanted |= ITEM
    if main >= 0 and given > busy.given:
        pulled = settle_source(t, main, given, source)
    return firing, finish, idle, first, missing >= 0, pulled


@inlined
def settle_source(t: Tables, x: int, given: int, source: Giver) -> int:
    """Bring the source of link ``x`` and what it gave up to date; how many firings it did."""
    row = t.link[x]
    node = t.node[row.source]
    done = source.firing - node.next
    row.given, row.next_giver = given, source.giver
    node.next, node.finish, node.started = source.firing, source.free, 0
    t.span[node.span].stall += source.stall
    return done


@inlined
def free_until(t: Tables, at: int, out: int) -> int:
    """The firing before which a node moves items of link ``out`` only; -1 if it must do something else first."""
    link, ends = t.link, t.ends
    if at >= t.node.shape[0]:
        return -1
    node = t.node[at]
    if node.span >= t.span.shape[0]:
        return -1
    here = t.span[node.span]
    if here.start < 0:
        return -1
    until = here.end - 1  # the last firing of a layer is for `dchw.engines.fast.firings`
    for end in range(node.into, node.out_of):
        x = np.uint64(ends[np.uint64(end)])
        until = min(until, link[x].next_taker)
    for end in range(node.out_of, node.stop):
        if until <= node.next:
            break
        x = np.uint64(ends[np.uint64(end)])
        if x != out:
            until = min(until, link[x].next_giver)
    return until if until > node.next else -1


@inlined
def give_run(t: Tables, at: int, firing: int, quiet: int, free: int) -> tuple[int, int, int, bool]:
    """Firings before ``quiet`` that take nothing and give one item each to the same links, as far as slots are known.

    ``free`` is the finish before ``firing``, or its start if it has one. Gives the next firing, its predecessor's
    finish, cycles stalled, and whether a slot is missing for the very first.
    """
    node, link, ends, ring, lists, handover = t.node[at], t.link, t.ends, t.ring, t.lists, t.scratch
    occupied, constant, out_of, stop = node.occupied, node.constant, node.out_of, node.stop
    count, missing = _room_to_give(t, out_of, stop, firing, min(quiet - firing, handover.shape[0]))
    if count == 0:
        return firing, free, 0, missing
    for turn in range(count):
        handover[turn] = 0
    for end in range(out_of, stop):
        row = link[ends[end]]
        if row.next_giver == firing and row.depth:
            q, item = queue_of(row), row.given
            for turn in range(count):
                handover[turn] = max(handover[turn], slot_visible(ring, q, item + turn))
    stall = 0
    for turn in range(count):
        busy_until = free + (constant if constant else lists[occupied + firing + turn]) - 1
        handover[turn] = max(busy_until, handover[turn])
        stall += handover[turn] - busy_until
        free = handover[turn] + 1
    for end in range(out_of, stop):
        row = link[ends[end]]
        if row.next_giver != firing:
            continue
        q, item, by = queue_of(row), row.given, row.given_by
        for turn in range(count):
            give_item(ring, q, item + turn, handover[turn])
        row.given = item + count
        row.next_giver = lists[by + item + count] if by >= 0 else firing + count
    return firing + count, free, stall, False


@inlined
def _room_to_give(t: Tables, out_of: int, stop: int, firing: int, most: int) -> tuple[int, bool]:
    """Firings from one on, of at most so many, that give an item each to the links that it gives to, and to no other.

    As far as slots are known; whether one is missing for the very first.
    """
    link, ends, lists, count = t.link, t.ends, t.lists, most
    for end in range(out_of, stop):
        row = link[ends[end]]
        if row.next_giver != firing:
            count = min(count, row.next_giver - firing)
        elif row.depth:
            room = max(row.taken, row.initial) + row.depth - row.given
            if room <= 0:
                row.wanted |= SLOT
                return 0, True
            count = min(count, room)
    seen = -1  # the list looked at last: links of a fork often share one
    for end in range(out_of, stop):
        row = link[ends[end]]
        item, by = row.given, row.given_by
        if row.next_giver == firing and by >= 0 and by + item != seen:
            seen = by + item
            single = 1
            while single < count and lists[seen + single] == firing + single:
                single += 1
            count = single if lists[seen + single] != firing + single - 1 else single - 1
            if count == 0:
                break
    return count, False
