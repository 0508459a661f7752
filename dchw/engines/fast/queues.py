"""A link as a ring of places: what taking (T3) and giving (T4) an item do to it, and how full it was. Once each.

Kernels of this package differ in how many items they move in one go. What moving one means stands here. Where a place
is looked up for every item, it is unsigned: compiled code need not ask whether it counts from the end.
"""

# mypy: disable-error-code="no-any-return"
from __future__ import annotations

from typing import NamedTuple

import numpy as np

from dchw.compile import inlined, lean_kernel
from dchw.engines.fast.program_tables import Ints32, JoinRow, LaneRow, LinkRow, Tables
from dchw.engines.named_rows import Ints


class Queue(NamedTuple):
    """What never changes of a link, for loops to keep at hand: the fields of `LinkRow` of these names."""

    ring: int
    mask: int
    depth: int
    initial: int
    hold: int


@inlined
def queue_of(row: LinkRow | JoinRow) -> Queue:
    """The queue of a link."""
    return Queue(row.ring, row.mask, row.depth, row.initial, row.hold)


@inlined
def in_ring(q: Queue, ring: int) -> Queue:
    """A queue of the same kind elsewhere: those of a fork differ in nothing but where they lie."""
    return Queue(ring, q.mask, q.depth, q.initial, q.hold)


@inlined
def other_queue(lane: LaneRow) -> Queue:
    """The queue of a lane's other items."""
    return Queue(lane.other_ring, lane.other_mask, lane.other_depth, lane.other_initial, lane.other_hold)


@inlined
def place(q: Queue, item: int) -> np.uint64:
    """Where ``ring`` holds an item's visible time and, once it is taken, that of its slot."""
    return np.uint64(q.ring + (item & q.mask))


@inlined
def following(lists: Ints32, by: int, item: int, firing: int) -> int:
    """The firing that moves the item behind one that ``firing`` moves; where the list begins, -1: one each."""
    return lists[np.uint64(by + item + 1)] if by >= 0 else firing + 1


@inlined
def take_item(ring: Ints, q: Queue, item: int, visible: int, start: int, peak: int) -> int:
    """T3 for one item, visible at a time and taken at ``start``; most slots held since then, from ``peak`` before."""
    if item >= q.initial and (peak != q.depth or q.depth == 0):
        peak = fill(ring, q, item, visible - q.hold, item, max(peak, 1))
    ring[place(q, item)] = start + 1
    return peak


@inlined
def fill(ring: Ints, q: Queue, item: int, held_from: int, taken: int, peak: int) -> int:
    """Most slots held once item's is, from ``peak`` of the items before; those from ``taken`` on are held for ever.

    Slots are freed in order: more than ``peak`` are held with this item's if the one ``peak`` before it is free later
    than this item's is held.
    """
    while item - peak >= q.initial and (item - peak >= taken or ring[place(q, item - peak)] > held_from):
        peak += 1
    return peak


@inlined
def slot_visible(ring: Ints, q: Queue, item: int) -> int:
    """T4: when the slot that an item needs is visible to the giving node; 0 where it needs none that was held."""
    needs = item - q.depth
    return ring[place(q, needs)] if q.depth > 0 and needs >= q.initial else 0


@inlined
def slot_known(q: Queue, item: int, taken: int) -> bool:
    """Whether the item whose slot an item needs is taken, so that `slot_visible` is known."""
    return q.depth == 0 or item - q.depth < max(taken, q.initial)


@inlined
def give_item(ring: Ints, q: Queue, item: int, handover: int) -> None:
    """T4 for one item, handed over in a cycle."""
    ring[place(q, item)] = handover + q.hold


@lean_kernel
def settle_peaks(t: Tables) -> None:
    """Count items that were given and never taken into the links' peaks."""
    for x in range(t.link.shape[0]):
        row = t.link[x]
        q = queue_of(row)
        for item in range(max(row.taken, q.initial), row.given - row.surplus):
            row.peak = fill(t.ring, q, item, t.ring[place(q, item)] - q.hold, row.taken, row.peak)
