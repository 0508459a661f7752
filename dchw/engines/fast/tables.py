"""What the fast engine's kernels run on: a program and its state as flat arrays, and moving single items in them."""

# mypy: disable-error-code="no-any-return"
from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from dchw.compile import inlined, lean_kernel
from dchw.engines.memory import MemoryState

Ints = npt.NDArray[np.int64]
Ints32 = npt.NDArray[np.int32]

# Columns of ``node``: a firing node. ``ends`` of links INTO .. OUT_OF take, OUT_OF .. STOP give. CONSTANT is the
# occupied time of all firings, or 0: see ``lists`` from OCCUPIED on. NEXT is the firing in hand, since START if
# STARTED. MAIN and OTHER are the in-links that move most items (-1: none); before firing QUIET no other link moves and
# no layer ends. A fork's targets are ``lane`` from LANE on.
INTO, OUT_OF, STOP, COUNT, OCCUPIED, CONSTANT, MAIN, OTHER, LANE, LANES = range(10)
NEXT, FINISH, STARTED, START, WAITED_FOR, SPAN, QUEUED, QUIET = range(10, 18)
SPAN_FIRST, RECORD, RECORDED, FIRST_RECORDED, NODE_SIZE = range(18, 23)
NOT_QUEUED, IN_QUEUE, DEFERRED = range(3)  # QUEUED: a deferred node runs when no other can go on
# Columns of ``lane``: link from the fork, its ring, its target, the target's other busy in-link (-1: none).
LANE_ITEMS, LANE_RING, LANE_NODE, LANE_OTHER, LANE_SIZE = range(5)
# Columns of ``link``. A place in ``ring`` holds an item's visible time, and once it is taken its slot's; there are
# twice as many as slots, so that both are at hand when a peak is looked at. HOLD is from the cycle a slot is held to
# the item's visible time. GIVEN_BY and TAKEN_BY are where ``lists`` says which firing moves item 0 (-1: item k counts
# as firing k's). NEXT_GIVER and NEXT_TAKER are the firings that move the next item. SOURCE and TARGET are firing
# nodes, or arbiters counted on behind them, or (last) the memory. FORKED links are lanes of a fork.
RING, MASK, DEPTH, INITIAL, HOLD, GIVEN_BY, TAKEN_BY, SOURCE, TARGET = range(9)
GIVEN, TAKEN, NEXT_GIVER, NEXT_TAKER, UPTO, PEAK, WANTED, FORKED, LINK_SIZE = range(9, 18)
ITEM, SLOT = 1, 2  # bits of WANTED: whose end waits for it
# Columns of ``span``: firings of one node that belong to one layer.
SPAN_END, SPAN_START, SPAN_FINISH, SPAN_STALL, SPAN_IDLE, SPAN_SIZE = range(6)
# Columns of ``arbiter``: channel c is ends[CHANNELS + 2 c] -> ends[CHANNELS + 2 c + 1]; its ports are
# port_free[PORTS .. PORTS_END]. PENDING is the cycle of the next grant as far as known.
CHANNELS, CHANNEL_COUNT, PORTS, PORTS_END, HELD, POLICY, PERIOD, DARK, DARK_LENGTH = range(9)
LAST, PENDING, DIRTY, GRANTS, WAITED, ARBITER_SIZE = range(9, 15)
FIXED, ROUND_ROBIN, OLDEST = range(3)
# Places of ``run``. Of all firings DONE, those done in runs and those done with a fork.
QUEUE_HEAD, QUEUE_COUNT, DEFERRALS, DONE, RECORDING, WINDOW_FROM, WINDOW_TO, LATEST_ANSWER = range(8)
MEMORY_LINKS, IN_RUNS, WITH_FORKS, RUN_SIZE = range(8, 12)
NEVER_FIRES = np.int32(2**31 - 1)
"""Ends every list of firings."""


class Tables(NamedTuple):
    """The program and its state as flat arrays; see the column names of this module."""

    run: Ints
    node: Ints
    link: Ints
    ends: Ints
    lane: Ints
    span: Ints
    arbiter: Ints
    port_free: Ints
    queue: Ints
    ring: Ints
    lists: Ints32
    scratch: Ints  # room of `runs.give_run`
    room: Ints  # and of `lanes.lanes_run`
    recorded: Ints  # [firings, 4]: start, finish, waited for, stalled by
    granted: Ints  # grants of one link: granted[granted_place[link, 0] .. granted_place[link, 1]]
    granted_place: Ints  # [link, 4]: next, end, first; grants before the window
    memory: MemoryState


@lean_kernel
def take(t: Tables, x: int, cycle: int) -> None:
    # a shared node takes a link's head at a cycle, as firing nodes do in `dchw.engines.fast.firings`
    link, ring = t.link, t.ring
    item = link[x, TAKEN]
    place = link[x, RING] + (item & link[x, MASK])
    if item >= link[x, INITIAL]:
        held_from = ring[place] - link[x, HOLD]
        link[x, PEAK] = peak_at(ring, link[x, RING], link[x, MASK], link[x, INITIAL], item, held_from, link[x, PEAK])
    ring[place] = cycle + 1
    link[x, TAKEN] += 1
    if link[x, WANTED] & SLOT:
        wake_source(t.run, t.node, link, t.arbiter, t.queue, x)


@inlined
def peak_at(ring: Ints, base: int, mask: int, initial: int, item: int, held_from: int, peak: int) -> int:
    """Most slots of a link held at any time, when all items before ``item`` are taken and ``peak`` is known of them."""
    return risen(ring, base, mask, initial, item, held_from, max(peak, 1))


@inlined
def risen(ring: Ints, base: int, mask: int, initial: int, item: int, held_from: int, peak: int) -> int:
    """As `peak_at`, for a peak of at least 1.

    Slots are freed in order: more than ``peak`` are held with this item's if the one ``peak`` before it is free later
    than this item's is held.
    """
    while item - peak >= initial and ring[base + ((item - peak) & mask)] > held_from:
        peak += 1
    return peak


@lean_kernel
def give(t: Tables, x: int, cycle: int) -> None:
    # a shared node hands an item over at a cycle
    link = t.link
    t.ring[link[x, RING] + (link[x, GIVEN] & link[x, MASK])] = cycle + link[x, HOLD]
    link[x, GIVEN] += 1
    if link[x, WANTED] & ITEM:
        wake_target(t.run, t.node, link, t.arbiter, t.queue, x)


@lean_kernel
def wake_source(run: Ints, node: Ints, link: Ints, arbiter: Ints, queue: Ints, x: int) -> None:
    if link[x, SOURCE] < node.shape[0]:
        link[x, WANTED] &= ~SLOT
    wake(run, node, arbiter, queue, link[x, SOURCE])


@lean_kernel
def wake_target(run: Ints, node: Ints, link: Ints, arbiter: Ints, queue: Ints, x: int) -> None:
    if link[x, TARGET] < node.shape[0]:
        link[x, WANTED] &= ~ITEM
    wake(run, node, arbiter, queue, link[x, TARGET])


@lean_kernel
def wake(run: Ints, node: Ints, arbiter: Ints, queue: Ints, at: int) -> None:
    # a firing node gets in line; an arbiter, which asks for everything always, decides anew; the memory looks itself
    nodes = node.shape[0]
    if at >= nodes:
        if at - nodes < arbiter.shape[0]:
            arbiter[at - nodes, DIRTY] = 1
    elif node[at, LANES] > 0:
        defer(run, node, at)
    elif node[at, QUEUED] != IN_QUEUE:
        run[DEFERRALS] -= 1 if node[at, QUEUED] == DEFERRED else 0
        node[at, QUEUED] = IN_QUEUE
        queue[(run[QUEUE_HEAD] + run[QUEUE_COUNT]) % queue.shape[0]] = at
        run[QUEUE_COUNT] += 1


@lean_kernel
def defer(run: Ints, node: Ints, at: int) -> None:
    """Let a firing node run when no other can go on: forks, and sources whose targets do their firings on the way."""
    if node[at, QUEUED] == NOT_QUEUED:
        node[at, QUEUED] = DEFERRED
        run[DEFERRALS] += 1


@lean_kernel
def queue_deferred(run: Ints, node: Ints, queue: Ints) -> None:
    """Put the first deferred fork in line, or all other deferred nodes if there is none."""
    for forks in range(1, -1, -1):
        for at in range(node.shape[0]):
            if node[at, QUEUED] == DEFERRED and (node[at, LANES] > 0) == (forks == 1):
                node[at, QUEUED] = IN_QUEUE
                run[DEFERRALS] -= 1
                queue[(run[QUEUE_HEAD] + run[QUEUE_COUNT]) % queue.shape[0]] = at
                run[QUEUE_COUNT] += 1
                if forks:
                    return
        if run[QUEUE_COUNT] > 0:
            return


@lean_kernel
def record(t: Tables, at: int, firing: int, start: int, finish: int, waited_for: int, stalled_by: int) -> None:
    node = t.node
    if finish <= t.run[WINDOW_FROM]:
        node[at, FIRST_RECORDED] = firing + 1
    if finish <= t.run[WINDOW_FROM] or start >= t.run[WINDOW_TO]:
        return
    row = t.recorded[node[at, RECORD] + node[at, RECORDED]]
    row[0], row[1], row[2], row[3] = start, finish, waited_for, stalled_by
    node[at, RECORDED] += 1


@lean_kernel
def settle_peaks(t: Tables) -> None:
    """Count items that were given and never taken into the links' peaks."""
    link, ring = t.link, t.ring
    for x in range(link.shape[0]):
        base, mask, initial, peak = link[x, RING], link[x, MASK], link[x, INITIAL], link[x, PEAK]
        for item in range(max(link[x, TAKEN], initial), link[x, GIVEN]):
            held_from = ring[base + (item & mask)] - link[x, HOLD]
            while item - peak >= initial and (
                item - peak >= link[x, TAKEN] or ring[base + ((item - peak) & mask)] > held_from
            ):
                peak += 1
        link[x, PEAK] = peak
