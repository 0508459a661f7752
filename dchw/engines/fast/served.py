"""The kernel for a fork whose targets are served besides: item by item, each target with whoever gives it the rest.

A processing element takes entries from a decode unit beside the columns of the broadcast, and a decode unit serves
several elements in turn. With each item of the fork every target is done until it waits for the next one; where it
lacks something of its other in-link, the source of that goes on until it has given it, and ahead as far as queues have
room. What else a source moves (a chunk, a credit) is a single firing on the way, if all that it needs is known.

While items are handed over, what changes of targets, sources and the queues between them stands in rows of its own,
few and side by side (`dchw.engines.fast.program_tables.ServedRow`); it is put where it belongs at the end.
"""

# mypy: disable-error-code="no-any-return"
from __future__ import annotations

import numpy as np

from dchw.compile import inlined, lean_kernel
from dchw.engines.fast.lanes import BLOCK
from dchw.engines.fast.lanes import SLOT as SLOTS
from dchw.engines.fast.program_tables import NEVER_FIRES, SLOT, ServedRow, ServerRow, Tables
from dchw.engines.fast.queues import (
    Queue,
    following,
    give_item,
    place,
    queue_of,
    slot_known,
    slot_visible,
    take_item,
)
from dchw.engines.fast.runs import Giver, give_next, given_on, service
from dchw.engines.fast.singles import fire_once
from dchw.engines.fast.turns import defer, wake_source

NEVER = int(NEVER_FIRES)
READY, MISSING, BUSY = range(3)
"""How a target stands: it waits for the fork's next item, for an item of its other link, or has something else to do.
"""


@lean_kernel
def serve(t: Tables, at: int, most: int) -> tuple[int, bool]:
    """About ``most`` items of fork ``at``, whose targets are in step, and what these do with them.

    What else the fork moves, a block it waits for or room it gives back, is a single firing on the way. Gives the
    firings of targets and their sources, and whether all targets wait for the next item then.
    """
    node, link, lane, served = t.node[at], t.link, t.lane, t.served
    ring, slots = t.ring, t.room[SLOTS]
    begin, end = node.lane, node.lane + node.lanes
    one = link[lane[begin].items]
    if one.depth > BLOCK:
        return 0, True
    _load(t, at)
    fork, item = fork_of(t, at), one.given
    _find_slots(t, begin, end, item)
    upto, smooth = item + most, True
    while smooth and item < upto:
        after = given_on(t.lists, fork, item)
        if after != fork.giver:
            fork = give_next(t.lists, fork, after, slots[item % BLOCK] if one.depth > 0 else 0)
            several, item = False, item + 1
            visible = fork.free - 1 + one.hold
        else:
            put_fork(t, at, fork)
            for p in range(begin, end):
                items = link[lane[p].items]
                items.given, items.next_giver, items.taken = item, fork.giver, served[p].taken
            if not fire_once(t, at):
                break
            fork = fork_of(t, at)
            if one.given == item:
                continue
            several, item = one.given > item + 1, one.given
            visible = ring[place(queue_of(one), item - 1)]
        latest = 0
        for p in range(begin, end):
            served[p].given, served[p].visible = item, visible
        for p in range(begin, end):
            smooth = _deal(t, p) and smooth
            latest = max(latest, ring[np.uint64(served[p].ring + ((item - 1) & served[p].mask))])
        if several and smooth:
            _find_slots(t, begin, end, item)
        elif one.depth > 0:
            slots[(item - 1 + one.depth) % BLOCK] = latest
    put_fork(t, at, fork)
    return _store(t, begin, end, fork.giver), smooth


@inlined
def fork_of(t: Tables, at: int) -> Giver:
    """A fork as one that gives to its lanes, as far as it does nothing else and no layer begins or ends."""
    node, link, ends, lane = t.node[at], t.link, t.ends, t.lane
    one, quiet = link[lane[node.lane].items], 0
    if node.next < node.count and t.span[node.span].start >= 0:
        quiet = t.span[node.span].end - 1
        for end in range(node.into, node.out_of):
            quiet = min(quiet, link[ends[end]].next_taker)
        for end in range(node.out_of, node.stop):
            if link[ends[end]].forked == 0:
                quiet = min(quiet, link[ends[end]].next_giver)
    free = node.start if node.started else node.finish
    return Giver(quiet, node.occupied, node.constant, one.given_by, node.next, one.next_giver, free, 0)


@inlined
def put_fork(t: Tables, at: int, fork: Giver) -> None:
    """Bring a fork up to date with what it gave; its queues are not."""
    node = t.node[at]
    if fork.firing > node.next:
        t.run.done += fork.firing - node.next
        t.run.with_forks += fork.firing - node.next
        node.next, node.finish, node.started = fork.firing, fork.free, 0
        t.span[node.span].stall += fork.stall


@inlined
def _find_slots(t: Tables, begin: int, end: int, item: int) -> None:
    """When the slots of the next items are visible, for as many as a queue has."""
    slots = t.room[SLOTS]
    for ahead in range(item, item + t.link[t.lane[begin].items].depth):
        slots[ahead % BLOCK] = 0
        for p in range(begin, end):
            q = queue_of(t.link[t.lane[p].items])
            slots[ahead % BLOCK] = max(slots[ahead % BLOCK], slot_visible(t.ring, q, ahead))


@inlined
def _deal(t: Tables, p: int) -> bool:
    """What a lane's target does with the items it was given; whether it waits for the next one then."""
    while True:
        state = _work(t, p)
        if state == READY:
            return True
        if not (_pull(t, p) if state == MISSING else _fire_target(t, p)):
            return False


@inlined
def _work(t: Tables, p: int) -> int:
    """Firings of a lane's target as far as its items are there; how it stands then."""
    ring, lists, row = t.ring, t.lists, t.served[p]
    q = Queue(row.ring, row.mask, row.depth, row.initial, row.hold)
    other_q = _other_queue(row)
    firing, finish, idle = row.next, row.finish, row.idle
    taken, taker, other_taken, other_taker = row.taken, row.next_taker, row.other_taken, row.other_taker
    peak, other_peak = row.peak, row.other_peak
    while True:
        takes, takes_other = taker == firing, other_taker == firing
        state = BUSY
        if takes and taken == row.given:
            state = READY
            break
        if firing >= row.quiet:
            break
        after, other_after, start = taker, other_taker, finish
        if takes:
            after = following(lists, row.taken_by, taken, firing)
            if after == firing:
                break
            start = max(start, row.visible)
        if takes_other:
            if other_taken == row.other_given:
                state = MISSING
                break
            other_after = following(lists, row.other_taken_by, other_taken, firing)
            if other_after == firing:
                break
            visible = ring[np.uint64(row.other_ring + (other_taken & row.other_mask))]
            start = max(start, visible)
            other_peak = take_item(ring, other_q, other_taken, visible, start, other_peak)
            other_taken, other_taker = other_taken + 1, other_after
        if takes:
            peak = take_item(ring, q, taken, row.visible, start, peak)
            taken, taker = taken + 1, after
        idle += start - finish
        finish = start + (row.constant if row.constant else lists[np.uint64(row.occupied + firing)])
        firing += 1
    row.next, row.finish, row.idle = firing, finish, idle
    row.taken, row.next_taker, row.other_taken, row.other_taker = taken, taker, other_taken, other_taker
    row.peak, row.other_peak = peak, other_peak
    return state


@inlined
def _pull(t: Tables, p: int) -> bool:
    """Let the source of a lane's other items go on until it has given the next one; whether it came so far.

    Then it gives on to whoever it serves, as long as it has nothing else to do and slots are known.
    """
    s = t.lane[p].server
    if s < 0:
        return False
    served, server, given = t.served, t.server[s], 0
    wanted = served[p].other_given + 1
    while given < BLOCK:
        giver, y, after = _next_gift(t, s)
        if after == giver:
            if served[p].other_given >= wanted or not _fire_source(t, s):
                break
            continue
        if not _has_slot(served[y]):
            if served[p].other_given >= wanted:
                break
            _work(t, y)
            if not _has_slot(served[y]):
                break
        _hand_on(t, server, served[y], giver, after)
        given += 1
    return served[p].other_given >= wanted


@inlined
def _go_ahead(t: Tables, s: int) -> bool:
    """Let a source give on to whoever it serves; whether it waits for a slot then, and has nothing else to do."""
    server = t.server[s]
    for _ in range(BLOCK):
        giver, y, after = _next_gift(t, s)
        if after == giver:
            return False
        if not _has_slot(t.served[y]):
            t.link[t.lane[y].other].wanted |= SLOT
            server.free += service(t.lists, server.occupied, server.constant, server.next, giver)
            server.next = giver
            return True
        _hand_on(t, t.server[s], t.served[y], giver, after)
    return False


@inlined
def _next_gift(t: Tables, s: int) -> tuple[int, int, int]:
    """A source's firing that gives to its lanes next, to which lane, and its next one behind that gives to this lane;
    the same firing where it must do something else first, or gives more than one item."""
    served, server = t.served, t.server[s]
    giver, y, alone = NEVER, server.begin, True
    for lane in range(server.begin, server.end):
        firing = served[lane].other_giver
        if firing <= giver:
            alone = firing < giver
            giver, y = firing, lane
    if not alone or giver >= server.quiet:
        return giver, y, giver
    return giver, y, following(t.lists, served[y].other_given_by, served[y].other_given, giver)


@inlined
def _hand_on(t: Tables, server: ServerRow, row: ServedRow, giver: int, after: int) -> None:
    """A source's firings up to the one that gives a lane its next other item, for which there is a slot."""
    cycles = server.constant
    if giver > server.next or cycles == 0:
        cycles = service(t.lists, server.occupied, server.constant, server.next, giver + 1)
    q = _other_queue(row)
    busy_until = server.free + cycles - 1
    handover = max(busy_until, slot_visible(t.ring, q, row.other_given))
    give_item(t.ring, q, row.other_given, handover)
    row.other_given, row.other_giver = row.other_given + 1, after
    server.stall += handover - busy_until
    server.next, server.free = giver + 1, handover + 1


@inlined
def _other_queue(row: ServedRow) -> Queue:
    return Queue(row.other_ring, row.other_mask, row.other_depth, row.other_initial, row.other_hold)


@inlined
def _has_slot(row: ServedRow) -> bool:
    return slot_known(_other_queue(row), row.other_given, row.other_taken)


@lean_kernel
def _fire_source(t: Tables, s: int) -> bool:
    """A single firing of a source; whether what is known was enough."""
    _store_source(t, s)
    fired = fire_once(t, t.server[s].node)
    t.server[s].moved += fired
    _load_source(t, s)
    return fired


@lean_kernel
def _fire_target(t: Tables, p: int) -> bool:
    """A single firing of a lane's target; whether what is known was enough."""
    row, lane = t.served[p], t.lane[p]
    row.fired += _store_target(t, p)
    if lane.server >= 0:
        t.link[lane.other].given = row.other_given
    fired = fire_once(t, lane.node)
    _load_target(t, p)
    return fired


@lean_kernel
def _load(t: Tables, at: int) -> None:
    """Fill the rows of a fork's lanes and of their sources."""
    begin, end = t.node[at].lane, t.node[at].lane + t.node[at].lanes
    if not t.node[at].led:
        for p in range(begin, end):
            _fill_row(t, p)
        t.node[at].led = 1
    for p in range(begin, end):
        row, x = t.served[p], t.lane[p].other
        row.given, row.fired = t.link[t.lane[p].items].given, 0
        if x >= 0:
            row.other_given, row.other_giver = t.link[x].given, t.link[x].next_giver
        _load_target(t, p)
    for p in range(begin, end):
        s = t.lane[p].server
        if s >= 0 and t.server[s].begin == p:
            t.server[s].fired, t.server[s].moved = 0, 0
            _load_source(t, s)


@lean_kernel
def _fill_row(t: Tables, p: int) -> None:
    """What never changes of a lane's row."""
    lane, row = t.lane[p], t.served[p]
    node, queue = t.node[lane.node], t.link[lane.items]
    row.occupied, row.constant, row.taken_by = node.occupied, node.constant, queue.taken_by
    row.ring, row.mask, row.depth, row.initial, row.hold = (
        queue.ring, queue.mask, queue.depth, queue.initial, queue.hold
    )  # fmt: skip
    row.other_taker = row.other_giver = NEVER
    if lane.other >= 0:
        other = t.link[lane.other]
        row.other_ring, row.other_mask, row.other_depth = other.ring, other.mask, other.depth
        row.other_initial, row.other_hold = other.initial, other.hold
        row.other_taken_by, row.other_given_by = other.taken_by, other.given_by


@inlined
def _load_target(t: Tables, p: int) -> None:
    link, ends, row, lane = t.link, t.ends, t.served[p], t.lane[p]
    node, queue = t.node[lane.node], link[lane.items]
    row.next, row.finish, row.idle = node.next, node.finish, 0
    row.taken, row.next_taker, row.peak = queue.taken, queue.next_taker, queue.peak
    if lane.other >= 0:
        other = link[lane.other]
        row.other_taken, row.other_taker, row.other_peak = other.taken, other.next_taker, other.peak
        if lane.server < 0:
            row.other_given = other.given
    row.quiet = 0 if node.started else node.quiet
    if row.quiet <= node.next < node.count and not node.started and t.span[node.span].start >= 0:
        # before this firing it takes from the two links only, gives nothing, and no layer ends
        row.quiet = t.span[node.span].end - 1
        for end in range(node.into, node.out_of):
            if ends[end] not in (lane.items, lane.other):
                row.quiet = min(row.quiet, link[ends[end]].next_taker)
        for end in range(node.out_of, node.stop):
            row.quiet = min(row.quiet, link[ends[end]].next_giver)
    node.quiet = row.quiet


@inlined
def _store_target(t: Tables, p: int) -> int:
    """Put what became of a lane's target where it belongs; its firings."""
    row, lane = t.served[p], t.lane[p]
    node, queue = t.node[lane.node], t.link[lane.items]
    fired = row.next - node.next
    if fired > 0:
        node.next, node.finish = row.next, row.finish
        t.span[node.span].idle += row.idle
    queue.given, queue.taken, queue.next_taker, queue.peak = row.given, row.taken, row.next_taker, row.peak
    for untaken in range(row.taken, row.given):
        t.ring[np.uint64(row.ring + (untaken & row.mask))] = row.visible
    if lane.other >= 0:
        other = t.link[lane.other]
        other.taken, other.next_taker, other.peak = row.other_taken, row.other_taker, row.other_peak
    return fired


@inlined
def _load_source(t: Tables, s: int) -> None:
    link, ends, served, server = t.link, t.ends, t.served, t.server[s]
    node = t.node[server.node]
    server.occupied, server.constant, server.next, server.stall = node.occupied, node.constant, node.next, 0
    server.free = node.start if node.started else node.finish
    for p in range(server.begin, server.end):
        other = link[t.lane[p].other]
        served[p].other_given, served[p].other_giver = other.given, other.next_giver
    server.quiet = 0
    if node.span < t.span.shape[0] and t.span[node.span].start >= 0:
        # before this firing it gives to lanes only, and no layer ends
        server.quiet = t.span[node.span].end - 1
        for end in range(node.into, node.out_of):
            server.quiet = min(server.quiet, link[ends[end]].next_taker)
        for end in range(node.out_of, node.stop):
            if link[ends[end]].server != s + 1:
                server.quiet = min(server.quiet, link[ends[end]].next_giver)


@inlined
def _store_source(t: Tables, s: int) -> None:
    server, served = t.server[s], t.served
    node = t.node[server.node]
    if server.next > node.next:
        server.fired += server.next - node.next
        node.next, node.finish, node.started = server.next, server.free, 0
        t.span[node.span].stall += server.stall
    for p in range(server.begin, server.end):
        other = t.link[t.lane[p].other]
        other.given, other.next_giver, other.taken = served[p].other_given, served[p].other_giver, served[p].other_taken


@lean_kernel
def _store(t: Tables, begin: int, end: int, giver: int) -> int:
    """Put what became of a fork's lanes and their sources where it belongs; their firings.

    ``giver``: the fork's firing that gives the next item.
    """
    node, link, lane, fired = t.node, t.link, t.lane, 0
    for p in range(begin, end):
        row, queue, x = t.served[p], link[lane[p].items], lane[p].other
        row.fired += _store_target(t, p)
        fired += row.fired
        queue.next_giver = giver
        if x >= 0 and lane[p].server < 0 and row.fired > 0 and link[x].wanted & SLOT:
            if link[x].source < node.shape[0]:
                link[x].wanted &= ~SLOT
                defer(t.run, node, link[x].source)
            else:
                wake_source(t.run, node, link, t.arbiter, x)
    for p in range(begin, end):
        s = lane[p].server
        if s >= 0 and t.server[s].begin == p:
            fired += _store_server(t, s)
    return fired


@inlined
def _store_server(t: Tables, s: int) -> int:
    """Let a source whose lanes got on give ahead, and put what became of it where it belongs; its firings."""
    server, node = t.server[s], t.node[t.server[s].node]
    moved = server.moved + server.fired + server.next - node.next
    for p in range(server.begin, server.end):
        moved += t.served[p].fired
    if moved == 0:
        return 0
    for p in range(server.begin, server.end):
        t.link[t.lane[p].other].wanted &= ~SLOT
    waits = _go_ahead(t, s)
    _store_source(t, s)
    if not waits:
        defer(t.run, t.node, server.node)
    elif not node.started:  # it takes nothing, so it has begun
        node.start, node.started, node.waited_for = node.finish, 1, -1
    return server.fired
