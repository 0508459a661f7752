"""From a program to the tables that the kernels run on. It knows no units, only nodes and links."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import zip_longest

import numpy as np

from dchw.engines.fast.flat_lists import FlatLists
from dchw.engines.fast.program_tables import (
    DEFERRED,
    IN_QUEUE,
    ITEM,
    NEVER_FIRES,
    NOT_QUEUED,
    SLOT,
    ArbiterRow,
    JoinRow,
    LaneRow,
    LinkRow,
    NodeRow,
    RunState,
    SpanRow,
    Tables,
)
from dchw.engines.fast.room import room_for
from dchw.engines.memory import FAR
from dchw.engines.named_rows import Ints, table
from dchw.program.check import Facts, check
from dchw.program.program import UNBOUNDED, Arbiter, FiringNode, Policy, Program

LONGEST_GIVING = 256
"""Most firings that give in one go."""
FEW_LINKS = 2
"""In-links that `dchw.engines.fast.runs` deals with."""


def flatten(
    program: Program,
    facts: Facts | None = None,
    window: tuple[int, int] | None = None,
    lists: FlatLists | None = None,
    without_slot: Sequence[int] | None = None,
) -> Tables:
    """A program in its initial state as tables; kernels record what finishes and starts inside a window, if given.

    ``facts`` are what `check` found out about the program. Its memory is no part of the tables. ``lists``: where its
    lists lie already, from `first_place` on. ``without_slot``: how many of each link's initial items hold no slot, if
    not all.
    """
    facts = facts or check(program)
    firing, arbiters = kinds(program)
    names = [*(node.name for node in firing), *(node.name for node in arbiters)]
    names += [program.memory.name] if program.memory is not None else []
    if lists is None:
        at = first_place(program)
        lists = (
            _room_for(facts, at)
            if program.known is None
            else program.known.of((FlatLists, at), lambda: _room_for(facts, at))
        )
    nodes, ends, spans = _firing_nodes(program, facts, firing, window, lists)
    choosing = [_arbiter(node) for node in arbiters]
    run = RunState()
    ports = 0
    for row in choosing:
        row.ports, row.ports_end = ports, ports + row.ports_end
        ports = row.ports_end
    for row, name in zip_longest(choosing, names[len(firing) :]):
        pairs = list(zip(program.links_into(name), program.links_out_of(name), strict=True))
        if row is None:
            run.memory_links = len(ends)
        else:
            row.channels, row.channel_count, row.last = len(ends), len(pairs), len(pairs) - 1
        ends += [end for pair in pairs for end in pair]
    extra = [link.initial for link in program.links] if without_slot is None else without_slot
    links, places = _links(program, facts, {name: place for place, name in enumerate(names)}, lists, extra)
    _mark_apart(nodes, links, ends)
    grants = _keep_grants(program, arbiters, links, window)
    lanes, joins = _lanes(nodes, links, ends), _joins(nodes, links, ends)
    for node in nodes:
        node.queued = (DEFERRED if node.lanes else IN_QUEUE) if node.count else NOT_QUEUED
    in_line = [at for at, node in enumerate(nodes) if node.queued == IN_QUEUE]
    for place, at in enumerate(in_line):
        nodes[place].in_line = at
    run.queue_count, run.deferrals = len(in_line), sum(node.queued == DEFERRED for node in nodes)
    run.recording = window is not None
    run.window_from, run.window_to = window or (0, 0)
    return Tables(
        run=table(RunState, [run])[0],
        node=table(NodeRow, nodes),
        link=table(LinkRow, links),
        ends=np.array(ends, np.int64),
        lane=table(LaneRow, lanes),
        join=table(JoinRow, joins),
        span=table(SpanRow, spans),
        arbiter=table(ArbiterRow, choosing),
        port_free=np.zeros(ports, np.int64),
        ring=_ring(links, places),
        lists=lists.used,
        scratch=np.zeros(LONGEST_GIVING, np.int64),
        room=room_for(max([max(node.lanes, node.joins) for node in nodes], default=0)),
        recorded=np.zeros((sum(_room(item, window) for item in firing), 4), np.int64),
        granted=np.zeros(grants, np.int64),
    )


def first_place(program: Program) -> int:
    """Where a program's lists begin, so that no link's begins before place 0 when its initial items are counted."""
    return max([link.initial for link in program.links], default=0)


def _room_for(facts: Facts, at: int) -> FlatLists:
    rows = [node.occupied for node in facts.nodes.values() if not node.constant]
    rows += [row for link in facts.links for row in (link.given_by, link.taken_by) if row is not None]
    return FlatLists.of(rows, at)


def _firing_nodes(
    program: Program, facts: Facts, firing: list[FiringNode], window: tuple[int, int] | None, lists: FlatLists
) -> tuple[list[NodeRow], list[int], list[SpanRow]]:
    nodes: list[NodeRow] = []
    ends: list[int] = []
    spans: list[SpanRow] = []
    kept = 0
    for item in firing:
        known = facts.nodes[item.name]
        takes, gives = program.links_into(item.name), program.links_out_of(item.name)
        row = NodeRow()
        row.into, row.out_of = len(ends), len(ends) + len(takes)
        row.stop = row.out_of + len(gives)
        row.count, row.constant = len(item.occupied), known.constant
        if len(item.occupied) and not known.constant:
            row.occupied = lists.add(known.occupied, item.name)
        busiest = sorted(takes, key=lambda link: -program.links[link].items)
        row.main, row.other = [*busiest, -1, -1][:2]
        row.waited_for, row.span, row.record = -1, len(spans), kept
        nodes.append(row)
        ends += takes + gives
        spans += [_span(end) for end, _, _ in known.spans]
        kept += _room(item, window)
    return nodes, ends, spans


def _span(end: int) -> SpanRow:
    row = SpanRow()
    row.start, row.end = -1, end
    return row


def _room(node: FiringNode, window: tuple[int, int] | None) -> int:
    # firings of a node that a window can hold: each takes a cycle
    return min(len(node.occupied), window[1] - window[0]) if window else 0


def _arbiter(node: Arbiter) -> ArbiterRow:
    row = ArbiterRow()
    row.ports_end, row.held, row.policy = node.ports, node.occupied, list(Policy).index(node.policy)
    row.period, row.dark, row.dark_length = node.blackout or (0, 0, 0)
    row.pending, row.dirty = FAR, 1
    return row


def _links(
    program: Program, facts: Facts, index: dict[str, int], lists: FlatLists, without_slot: Sequence[int]
) -> tuple[list[LinkRow], int]:
    kinds = {node.name: node for node in program.nodes}
    rows: list[LinkRow] = []
    places = 0
    for item, known, extra in zip(program.links, facts.links, without_slot, strict=True):
        source, target, depth, initial = kinds[item.source], kinds[item.target], item.depth, item.initial
        # no more than are looked at: what the loops of a fork go through in turn must fit a first-level cache
        held = item.items if depth == UNBOUNDED else min(2 * depth, item.items) + extra
        size = 1 << max(held - 1, 0).bit_length()
        row = LinkRow()
        row.ring, row.mask, row.depth, row.initial, row.given = places, size - 1, depth, extra, initial
        row.hold = item.latency + (source.occupied if isinstance(source, Arbiter) else 1)
        row.source, row.target = index[item.source], index[item.target]
        row.wanted = (0 if isinstance(target, FiringNode) else ITEM) | (0 if isinstance(source, FiringNode) else SLOT)
        row.given_by = row.taken_by = row.served = -1
        if known.given_by is not None:
            row.given_by = lists.add(known.given_by, item.source) - initial
            row.next_giver = known.given_by.item(0) if len(known.given_by) else int(NEVER_FIRES)
        if known.taken_by is not None:
            row.taken_by = lists.add(known.taken_by, item.target)
            row.next_taker = known.taken_by.item(0) if len(known.taken_by) else int(NEVER_FIRES)
        rows.append(row)
        places += size
    return rows, places


def _ring(links: list[LinkRow], places: int) -> Ints:
    """Places for the times of items, of which those that are there at first were visible always.

    Nothing else is looked at before it is written, and there are too many places to clear them for each window.
    """
    ring = new_places(places)
    for row in links:
        if row.initial:
            ring[row.ring : row.ring + min(row.initial, row.mask + 1)] = 0
    return ring


def new_places(count: int) -> Ints:
    """int64[count], whatever stands there."""
    return np.empty(count, np.int64)


def _mark_apart(nodes: list[NodeRow], links: list[LinkRow], ends: list[int]) -> None:
    for node in nodes:
        if node.stop - node.out_of == 1 and not any(links[x].depth for x in ends[node.into : node.out_of]):
            links[ends[node.out_of]].apart = 1


def _lanes(nodes: list[NodeRow], links: list[LinkRow], ends: list[int]) -> list[LaneRow]:
    """Find forks: out-links of one node with one depth, latency, list of givers, and numbers of items that were given
    before and that hold no slot, each a busy link of its target."""
    lanes: list[LaneRow] = []
    for number, node in enumerate(nodes):
        alike: dict[tuple[int, ...], dict[int, int]] = {}
        for x in ends[node.out_of : node.stop]:
            out = links[x]
            if out.target < len(nodes) and x in (nodes[out.target].main, nodes[out.target].other):
                same = out.depth, out.hold, out.given_by, out.mask, out.initial, out.given
                alike.setdefault(same, {}).setdefault(out.target, x)
        fork = max(alike.values(), key=len, default={})
        if len(fork) > 1:
            node.lane, node.lanes = len(lanes), len(fork)
            for target, x in fork.items():
                links[x].forked = 1
                other = nodes[target].main + nodes[target].other - x
                row = LaneRow()
                row.items, row.node, row.other, row.fork = x, target, other, number
                lanes.append(row)
    _servers(nodes, links, lanes)
    return lanes


def _joins(nodes: list[NodeRow], links: list[LinkRow], ends: list[int]) -> list[JoinRow]:
    """Find nodes that wait for many others, each through one link: more than `dchw.engines.fast.runs` waits for."""
    joins: list[JoinRow] = []
    for node in nodes:
        into = ends[node.into : node.out_of]
        if len(into) > FEW_LINKS and len({links[x].source for x in into}) == len(into):
            node.join, node.joins = len(joins), len(into)
            for x in into:
                row = JoinRow()
                row.link = x
                joins.append(row)
    return joins


def _servers(nodes: list[NodeRow], links: list[LinkRow], lanes: list[LaneRow]) -> None:
    """Find who gives lanes their other items, and nothing to do with the fork itself: no fork and no target of it."""
    targets = {(lane.fork, lane.node) for lane in lanes}
    beside: dict[tuple[int, int], int] = {}
    for number, lane in enumerate(lanes):
        source = links[lane.other].source if lane.other >= 0 else -1
        alien = 0 <= source < len(nodes) and nodes[source].lanes == 0 and (lane.fork, source) not in targets
        lane.server, lane.beside, lane.first = (source if alien else -1), number, number
        if alien:
            links[lane.other].served = number
            before = beside.setdefault((lane.fork, source), number)
            lane.beside, lanes[before].beside, lane.first = lanes[before].beside, number, before


def _keep_grants(
    program: Program, arbiters: list[Arbiter], links: list[LinkRow], window: tuple[int, int] | None
) -> int:
    # room for the grants of each in-link of an arbiter inside a window; in all
    at = 0
    for node in arbiters:
        for link in program.links_into(node.name):
            room = min(program.links[link].items, (window[1] - window[0]) * node.ports) if window else 0
            links[link].granted = links[link].granted_first = at
            at += room
    return at


def kinds(program: Program) -> tuple[list[FiringNode], list[Arbiter]]:
    """A program's firing nodes and its arbiters, each in program order."""
    firing = [node for node in program.nodes if isinstance(node, FiringNode)]
    return firing, [node for node in program.nodes if isinstance(node, Arbiter)]
