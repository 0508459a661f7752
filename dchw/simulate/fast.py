"""The fast engine: the program as flat arrays, run by the kernels of `dchw.simulate.fast_kernels`.

It knows no units, only nodes and links. Memory is bounded by the program (its lists and unbounded links) and by rings
of twice the depth of each queue; a recorded run adds what falls into its window.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from dchw.simulate import fast_kernels as fk
from dchw.simulate import fast_tables as ft
from dchw.simulate.deadlock import deadlock_error
from dchw.simulate.memory import FAR, memory_state, memory_times
from dchw.simulate.program import UNBOUNDED, Arbiter, FiringNode, Policy, Program, check
from dchw.simulate.result import ArbiterTimes, IntArray, LinkFill, NodeTimes, Timing

FIRINGS_PER_CALL = 20_000_000
"""Firings between two calls of ``on_progress``."""


def run(
    program: Program,
    *,
    record: bool = False,
    window: tuple[int, int] | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> Timing:
    """Run a program; equal to the reference engine in everything it returns.

    ``record`` keeps every start and finish, those inside ``window`` (first cycle, end) if given. ``on_progress`` is
    called with firings done and firings in all. Raises SimulationError for a malformed program and for a deadlock.
    """
    check(program)
    kept = (window or (0, 2**62)) if record else None
    tables = flatten(program, kept)
    total = int(tables.node[:, ft.COUNT].sum())
    while fk.advance(tables, FIRINGS_PER_CALL) == fk.PAUSED:
        if on_progress is not None:
            on_progress(int(tables.run[ft.DONE]), total)
    given_all = tables.link[:, ft.GIVEN] == [link.items for link in program.links]
    if (tables.node[:, ft.NEXT] < tables.node[:, ft.COUNT]).any() or not given_all.all():
        finished = tables.node[:, ft.NEXT].tolist()
        started = (tables.node[:, ft.NEXT] + tables.node[:, ft.STARTED]).tolist()
        names = [node.name for node in _kinds(program)[0]]
        raise deadlock_error(
            program,
            dict(zip(names, finished, strict=True)),
            dict(zip(names, started, strict=True)),
            tables.link[:, ft.GIVEN].tolist(),
            tables.link[:, ft.TAKEN].tolist(),
        )
    if on_progress is not None:
        on_progress(total, total)
    ft.settle_peaks(tables)
    return _timing(program, tables, kept)


def flatten(program: Program, window: tuple[int, int] | None = None) -> ft.Tables:
    """A program and its initial state as the arrays that the kernels run on, recording what is inside the window."""
    firing, arbiters = _kinds(program)
    memory = [program.memory.name] if program.memory is not None else []
    names = [*(node.name for node in firing), *(node.name for node in arbiters), *memory]
    node, ends, occupied = _firing_rows(program, firing, window)
    channels = [
        list(zip(program.links_into(name), program.links_out_of(name), strict=True)) for name in names[len(firing) :]
    ]
    arbiter = np.zeros((len(arbiters), ft.ARBITER_SIZE), np.int64)
    ports = 0
    for row, item, pairs in zip(arbiter, arbiters, channels, strict=False):
        row[ft.CHANNELS], row[ft.CHANNEL_COUNT] = len(ends), len(pairs)
        ends += [end for pair in pairs for end in pair]
        row[ft.PORTS], row[ft.PORTS_END], ports = ports, ports + item.ports, ports + item.ports
        row[ft.HELD], row[ft.POLICY] = item.occupied, list(Policy).index(item.policy)
        row[ft.PERIOD], row[ft.DARK], row[ft.DARK_LENGTH] = item.blackout or (0, 0, 0)
        row[ft.LAST], row[ft.PENDING], row[ft.DIRTY] = len(pairs) - 1, FAR, 1
    run = np.zeros(ft.RUN_SIZE, np.int64)
    run[ft.MEMORY_LINKS] = len(ends)
    if memory:
        ends += [end for pair in channels[-1] for end in pair]
    link, lists, ring = _link_rows(program, {name: place for place, name in enumerate(names)})
    queue = np.flatnonzero(node[:, ft.QUEUED]).astype(np.int64)
    run[ft.QUEUE_COUNT] = queue.size
    run[ft.RECORDING] = window is not None
    run[ft.WINDOW_FROM], run[ft.WINDOW_TO] = window or (0, 0)
    granted = _grant_places(program, arbiters, window)
    return ft.Tables(
        run=run,
        node=node,
        link=link,
        ends=np.array(ends, np.int64),
        span=np.concatenate([np.zeros((0, ft.SPAN_SIZE), np.int64), *(_spans(item) for item in firing)]),
        arbiter=arbiter,
        port_free=np.zeros(ports, np.int64),
        queue=np.concatenate([queue, np.zeros(len(firing) + 1 - queue.size, np.int64)]),
        ring=ring,
        lists=lists,
        occupied=occupied,
        recorded=np.zeros((sum(_room(item, window) for item in firing), 4), np.int64),
        granted=np.zeros(int(granted[:, 1].max(initial=0)), np.int64),
        granted_place=granted,
        memory=memory_state(program),
    )


def _kinds(program: Program) -> tuple[list[FiringNode], list[Arbiter]]:
    firing = [node for node in program.nodes if isinstance(node, FiringNode)]
    return firing, [node for node in program.nodes if isinstance(node, Arbiter)]


def _firing_rows(
    program: Program, firing: list[FiringNode], window: tuple[int, int] | None
) -> tuple[IntArray, list[int], npt.NDArray[np.int32]]:
    node = np.zeros((len(firing), ft.NODE_SIZE), np.int64)
    ends: list[int] = []
    occupied = [np.zeros(0, np.int32)]
    spans = recorded = at = 0
    for row, item in zip(node, firing, strict=True):
        takes, gives = program.links_into(item.name), program.links_out_of(item.name)
        row[ft.INTO], row[ft.OUT_OF], row[ft.STOP] = np.cumsum([len(ends), len(takes), len(gives)])
        ends += takes + gives
        row[ft.COUNT], row[ft.SPAN], row[ft.SPAN_FIRST] = len(item.occupied), spans, spans
        spans += len(_spans(item))
        if row[ft.COUNT] and int(item.occupied.min()) == int(item.occupied.max()):
            row[ft.CONSTANT] = item.occupied[0]
        else:
            row[ft.OCCUPIED] = at
            occupied.append(np.ascontiguousarray(item.occupied, np.int32))
            at += len(item.occupied)
        row[ft.WAITED_FOR] = -1
        row[ft.RECORD], recorded = recorded, recorded + _room(item, window)
        row[ft.QUEUED] = row[ft.COUNT] > 0
    return node, ends, np.concatenate(occupied)


def _room(node: FiringNode, window: tuple[int, int] | None) -> int:
    # firings of a node that a window can hold: each takes a cycle
    return min(len(node.occupied), window[1] - window[0]) if window else 0


def _spans(node: FiringNode) -> IntArray:
    edges = np.flatnonzero(node.layer[1:] != node.layer[:-1]) + 1
    span = np.zeros((len(edges) + 1 if len(node.layer) else 0, ft.SPAN_SIZE), np.int64)
    if len(span):
        span[:, ft.SPAN_END] = [*edges, len(node.layer)]
        span[:, ft.SPAN_START] = -1
    return span


def _link_rows(program: Program, index: dict[str, int]) -> tuple[IntArray, npt.NDArray[np.int32], IntArray]:
    kinds = {node.name: node for node in program.nodes}
    link = np.zeros((len(program.links), ft.LINK_SIZE), np.int64)
    at = max([link.initial for link in program.links], default=0)  # so that no list begins before place 0
    lists = [np.zeros(at, np.int32)]
    places = 0
    for row, item in zip(link, program.links, strict=True):
        source = kinds[item.source]
        slots = item.items if item.depth == UNBOUNDED else min(2 * item.depth, item.items) + item.initial
        size = 1 << max(slots - 1, 0).bit_length()
        row[ft.RING], row[ft.MASK], places = places, size - 1, places + size
        row[ft.DEPTH], row[ft.INITIAL] = item.depth, item.initial
        row[ft.HOLD] = item.latency + (source.occupied if isinstance(source, Arbiter) else 1)
        row[ft.SOURCE], row[ft.TARGET] = index[item.source], index[item.target]
        row[ft.GIVEN] = row[ft.FREED] = item.initial
        for column, after, by, first in (
            (ft.GIVEN_BY, ft.NEXT_GIVER, item.given_by, item.initial),
            (ft.TAKEN_BY, ft.NEXT_TAKER, item.taken_by, 0),
        ):
            row[column] = -1
            if by is not None:
                row[column] = at - first
                row[after] = by[0] if len(by) else ft.NEVER_FIRES
                lists += [np.ascontiguousarray(by, np.int32), np.array([ft.NEVER_FIRES])]
                at += len(by) + 1
        row[ft.WANTED] |= 0 if isinstance(kinds[item.target], FiringNode) else ft.ITEM
        row[ft.WANTED] |= 0 if isinstance(source, FiringNode) else ft.SLOT
    return link, np.concatenate(lists), np.zeros(places, np.int64)


def _grant_places(program: Program, arbiters: list[Arbiter], window: tuple[int, int] | None) -> IntArray:
    places = np.zeros((len(program.links), 4), np.int64)
    at = 0
    for node in arbiters:
        for link in program.links_into(node.name):
            room = min(program.links[link].items, (window[1] - window[0]) * node.ports) if window else 0
            places[link] = at, at + room, at, 0
            at += room
    return places


def _timing(program: Program, tables: ft.Tables, window: tuple[int, int] | None) -> Timing:
    firing, arbiters = _kinds(program)
    cycles = max(int(tables.run[ft.LATEST_ANSWER]), int(tables.node[:, ft.FINISH].max(initial=0)))
    layers = len(program.layers)
    first, last = np.full(layers, 2**62), np.full(layers, -1)
    nodes = {}
    spans = [*tables.node[:, ft.SPAN_FIRST].tolist(), len(tables.span)]
    for node, row, (begin, end) in zip(firing, tables.node, pairwise(spans), strict=True):
        span = tables.span[begin:end]
        layer = node.layer[span[:, ft.SPAN_END] - 1].astype(np.int64)
        np.minimum.at(first, layer, span[:, ft.SPAN_START])
        np.maximum.at(last, layer, span[:, ft.SPAN_FINISH])
        by_layer = np.zeros((layers, 3), np.int64)
        if len(span):
            starts = np.concatenate([[0], span[:-1, ft.SPAN_END]])
            by_layer[layer, 0] = np.add.reduceat(node.occupied, starts, dtype=np.int64)
        by_layer[layer, 1], by_layer[layer, 2] = span[:, ft.SPAN_STALL], span[:, ft.SPAN_IDLE]
        nodes[node.name] = _node_times(row, by_layer, cycles, tables, window)
    grants = {}
    for item, row in zip(arbiters, tables.arbiter, strict=True):
        places = [tables.granted_place[link] for link in program.links_into(item.name)]
        kept = tuple(tables.granted[place[2] : place[0]].copy() for place in places)
        grants[item.name] = ArbiterTimes(
            grants=int(row[ft.GRANTS]),
            waited=int(row[ft.WAITED]),
            grant=None if window is None else kept,
            before=None if window is None else tuple(int(place[3]) for place in places),
        )
    return Timing(
        cycles=cycles,
        nodes=nodes,
        links={
            link.name: LinkFill(peak=int(row[ft.PEAK]), items=link.items)
            for link, row in zip(program.links, tables.link, strict=True)
        },
        layer_start=np.where(last < 0, -1, first),
        layer_finish=last,
        arbiters=grants,
        memory=memory_times(program, tables.memory, cycles),
        program_digest=program.digest,
        window=window,
    )


def _node_times(
    row: IntArray, by_layer: IntArray, cycles: int, tables: ft.Tables, window: tuple[int, int] | None
) -> NodeTimes:
    busy, stall, idle = (int(total) for total in by_layer.sum(axis=0))
    idle += cycles - int(row[ft.FINISH])
    firings = int(row[ft.COUNT])
    if window is None:
        return NodeTimes(busy=busy, stall=stall, idle=idle, firings=firings, by_layer=by_layer)
    kept = tables.recorded[row[ft.RECORD] : row[ft.RECORD] + row[ft.RECORDED]]
    return NodeTimes(
        busy=busy,
        stall=stall,
        idle=idle,
        firings=firings,
        by_layer=by_layer,
        first=int(row[ft.FIRST_RECORDED]),
        start=kept[:, 0].copy(),
        finish=kept[:, 1].copy(),
        waited_for=kept[:, 2].astype(np.int32),
        stalled_by=kept[:, 3].astype(np.int32),
    )
