"""From a program to the tables that the kernels run on, and from these to a run's times.

It knows no units, only nodes and links. How the kernels work: `dchw.engines.fast`.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from dchw.engines.deadlock import deadlock_error
from dchw.engines.fast import firings as fk
from dchw.engines.fast import tables as ft
from dchw.engines.fast.lanes import BLOCK, ROOM
from dchw.engines.memory import FAR, memory_state, memory_times
from dchw.engines.result import ArbiterTimes, IntArray, LinkFill, NodeTimes, Timing
from dchw.program.check import Facts, check
from dchw.program.program import UNBOUNDED, Arbiter, FiringNode, Policy, Program

FIRINGS_PER_CALL = 4_000_000
"""Firings between two calls of ``on_progress``; Ctrl-C is heard between them."""
LONGEST_GIVING = 256
"""Most firings that give in one go."""
_END = np.array([ft.NEVER_FIRES])


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
    facts = check(program)
    kept = (window or (0, 2**62)) if record else None
    tables = _tables(program, facts, kept)
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
    return _timing(program, facts, tables, kept)


def flatten(program: Program, window: tuple[int, int] | None = None) -> ft.Tables:
    """A program and its initial state as the arrays that the kernels run on, recording what is inside the window."""
    return _tables(program, check(program), window)


def _tables(program: Program, facts: Facts, window: tuple[int, int] | None) -> ft.Tables:
    firing, arbiters = _kinds(program)
    memory = [program.memory.name] if program.memory is not None else []
    names = [*(node.name for node in firing), *(node.name for node in arbiters), *memory]
    lists = _Lists(max([link.initial for link in program.links], default=0))  # so that none begins before place 0
    node_rows, ends, span = _firing_rows(program, facts, firing, window, lists)
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
    link_rows, places = _link_rows(program, facts, {name: place for place, name in enumerate(names)}, lists)
    lane = _lanes(node_rows, link_rows, ends)
    node, link = _rows(node_rows, ft.NODE_SIZE), _rows(link_rows, ft.LINK_SIZE)
    node[(node[:, ft.LANES] > 0) & (node[:, ft.COUNT] > 0), ft.QUEUED] = ft.DEFERRED
    queue = np.flatnonzero(node[:, ft.QUEUED] == ft.IN_QUEUE).astype(np.int64)
    run[ft.QUEUE_COUNT], run[ft.DEFERRALS] = queue.size, np.count_nonzero(node[:, ft.QUEUED] == ft.DEFERRED)
    run[ft.RECORDING] = window is not None
    run[ft.WINDOW_FROM], run[ft.WINDOW_TO] = window or (0, 0)
    granted = _grant_places(program, arbiters, window)
    return ft.Tables(
        run=run,
        node=node,
        link=link,
        ends=np.array(ends, np.int64),
        lane=lane,
        span=span,
        arbiter=arbiter,
        port_free=np.zeros(ports, np.int64),
        queue=np.concatenate([queue, np.zeros(len(firing) + 1 - queue.size, np.int64)]),
        ring=np.zeros(places, np.int64),
        lists=lists.joined(),
        scratch=np.zeros(LONGEST_GIVING, np.int64),
        room=np.zeros((ROOM, max(BLOCK, int(node[:, ft.LANES].max(initial=0)))), np.int64),
        recorded=np.zeros((sum(_room(item, window) for item in firing), 4), np.int64),
        granted=np.zeros(int(granted[:, 1].max(initial=0)), np.int64),
        granted_place=granted,
        memory=memory_state(program),
    )


class _Lists:
    """Lists of firings and of occupied cycles one behind another; shared ones, or equal ones of one owner, once."""

    def __init__(self, at: int) -> None:
        self._parts = [np.zeros(at, np.int32)]
        self._at = at
        # with the lists themselves, so that nothing else gets their ids
        self._shared: dict[int, tuple[npt.NDArray[np.int32], int]] = {}
        self._owned: dict[tuple[str, int], tuple[npt.NDArray[np.int32], int]] = {}

    def add(self, values: npt.NDArray[np.int32], owner: str) -> int:
        """Where a list begins; behind it stands NEVER_FIRES."""
        if id(values) not in self._shared:
            other, place = self._owned.setdefault((owner, len(values)), (values, self._at))
            if other is values or not np.array_equal(other, values):
                place = self._at
                self._parts += [values, _END]
                self._at += len(values) + 1
            self._shared[id(values)] = values, place
        return self._shared[id(values)][1]

    def joined(self) -> npt.NDArray[np.int32]:
        return np.concatenate(self._parts)


def _rows(rows: list[list[int]], size: int) -> IntArray:
    return np.array(rows, np.int64).reshape(-1, size)


def _kinds(program: Program) -> tuple[list[FiringNode], list[Arbiter]]:
    firing = [node for node in program.nodes if isinstance(node, FiringNode)]
    return firing, [node for node in program.nodes if isinstance(node, Arbiter)]


def _firing_rows(
    program: Program, facts: Facts, firing: list[FiringNode], window: tuple[int, int] | None, lists: _Lists
) -> tuple[list[list[int]], list[int], IntArray]:
    node = [[0] * ft.NODE_SIZE for _ in firing]
    ends: list[int] = []
    spans: list[int] = []
    recorded = 0
    for row, item in zip(node, firing, strict=True):
        known = facts.nodes[item.name]
        takes, gives = program.links_into(item.name), program.links_out_of(item.name)
        row[ft.INTO : ft.STOP + 1] = len(ends), len(ends) + len(takes), len(ends) + len(takes) + len(gives)
        ends += takes + gives
        row[ft.COUNT], row[ft.SPAN], row[ft.SPAN_FIRST] = len(item.occupied), len(spans), len(spans)
        spans += [end for end, _, _ in known.spans]
        row[ft.CONSTANT] = known.constant
        if len(item.occupied) and not known.constant:
            row[ft.OCCUPIED] = lists.add(known.occupied, item.name)
        busiest = sorted(takes, key=lambda link: -program.links[link].items)
        row[ft.MAIN], row[ft.OTHER] = [*busiest, -1, -1][:2]
        row[ft.WAITED_FOR] = -1
        row[ft.RECORD], recorded = recorded, recorded + _room(item, window)
        row[ft.QUEUED] = ft.IN_QUEUE if row[ft.COUNT] else ft.NOT_QUEUED
    span = np.zeros((len(spans), ft.SPAN_SIZE), np.int64)
    span[:, ft.SPAN_START], span[:, ft.SPAN_END] = -1, spans
    return node, ends, span


def _room(node: FiringNode, window: tuple[int, int] | None) -> int:
    # firings of a node that a window can hold: each takes a cycle
    return min(len(node.occupied), window[1] - window[0]) if window else 0


def _link_rows(program: Program, facts: Facts, index: dict[str, int], lists: _Lists) -> tuple[list[list[int]], int]:
    kinds = {node.name: node for node in program.nodes}
    rows = []
    places = 0
    for item, known in zip(program.links, facts.links, strict=True):
        source, depth, initial = kinds[item.source], item.depth, item.initial
        slots = item.items if depth == UNBOUNDED else min(2 * depth, item.items) + initial
        size = 1 << max(slots - 1, 0).bit_length()
        given_by = taken_by = -1
        next_giver = next_taker = 0
        if known.given_by is not None:
            given_by = lists.add(known.given_by, item.source) - initial
            next_giver = int(known.given_by[0] if len(known.given_by) else ft.NEVER_FIRES)
        if known.taken_by is not None:
            taken_by = lists.add(known.taken_by, item.target)
            next_taker = int(known.taken_by[0] if len(known.taken_by) else ft.NEVER_FIRES)
        wanted = 0 if isinstance(kinds[item.target], FiringNode) else ft.ITEM
        wanted |= 0 if isinstance(source, FiringNode) else ft.SLOT
        row = [0] * ft.LINK_SIZE
        row[: ft.TARGET + 1] = (
            places, size - 1, depth, initial, item.latency + (source.occupied if isinstance(source, Arbiter) else 1),
            given_by, taken_by, index[item.source], index[item.target],
        )  # fmt: skip
        row[ft.GIVEN], row[ft.NEXT_GIVER], row[ft.NEXT_TAKER], row[ft.WANTED] = initial, next_giver, next_taker, wanted
        rows.append(row)
        places += size
    return rows, places


def _lanes(node: list[list[int]], link: list[list[int]], ends: list[int]) -> IntArray:
    """Find forks: out-links of one node with one depth, latency and list of givers, each a busy link of its target."""
    lanes: list[tuple[int, ...]] = []
    for row in node:
        alike: dict[tuple[int, ...], dict[int, int]] = {}
        for x in ends[row[ft.OUT_OF] : row[ft.STOP]]:
            out = link[x]
            target = out[ft.TARGET]
            if out[ft.INITIAL] == 0 and target < len(node) and x in (node[target][ft.MAIN], node[target][ft.OTHER]):
                same = out[ft.DEPTH], out[ft.HOLD], out[ft.GIVEN_BY], out[ft.MASK]
                alike.setdefault(same, {}).setdefault(target, x)
        fork = max(alike.values(), key=len, default={})
        if len(fork) > 1:
            row[ft.LANE], row[ft.LANES] = len(lanes), len(fork)
            for target, x in fork.items():
                link[x][ft.FORKED] = 1
                other = node[target][ft.MAIN] + node[target][ft.OTHER] - x
                lanes.append((x, link[x][ft.RING], target, other))
    return np.array(lanes, np.int64).reshape(-1, ft.LANE_SIZE)


def _grant_places(program: Program, arbiters: list[Arbiter], window: tuple[int, int] | None) -> IntArray:
    places = np.zeros((len(program.links), 4), np.int64)
    at = 0
    for node in arbiters:
        for link in program.links_into(node.name):
            room = min(program.links[link].items, (window[1] - window[0]) * node.ports) if window else 0
            places[link] = at, at + room, at, 0
            at += room
    return places


def _timing(program: Program, facts: Facts, tables: ft.Tables, window: tuple[int, int] | None) -> Timing:
    firing, arbiters = _kinds(program)
    cycles = max(int(tables.run[ft.LATEST_ANSWER]), int(tables.node[:, ft.FINISH].max(initial=0)))
    layers = len(program.layers)
    first, last = np.full(layers, 2**62), np.full(layers, -1)
    by_layer = np.zeros((len(firing), layers, 3), np.int64)
    if len(tables.span):
        of_nodes = [facts.nodes[item.name].spans for item in firing]
        spans = np.array([span for of_node in of_nodes for span in of_node])
        owner = np.repeat(np.arange(len(firing)), [len(of_node) for of_node in of_nodes])
        layer = spans[:, 1]
        np.minimum.at(first, layer, tables.span[:, ft.SPAN_START])
        np.maximum.at(last, layer, tables.span[:, ft.SPAN_FINISH])
        by_layer[owner, layer, 0] = spans[:, 2]
        by_layer[owner, layer, 1], by_layer[owner, layer, 2] = tables.span[:, [ft.SPAN_STALL, ft.SPAN_IDLE]].T
    totals = by_layer.sum(axis=1)
    totals[:, 2] += cycles - tables.node[:, ft.FINISH]
    nodes = {
        node.name: _node_times(len(node.occupied), total, cycles_of, tables, number, window)
        for number, (node, total, cycles_of) in enumerate(zip(firing, totals.tolist(), by_layer, strict=True))
    }
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
            link.name: LinkFill(peak=peak, items=link.items)
            for link, peak in zip(program.links, tables.link[:, ft.PEAK].tolist(), strict=True)
        },
        layer_start=np.where(last < 0, -1, first),
        layer_finish=last,
        arbiters=grants,
        memory=memory_times(program, tables.memory, cycles),
        program=program,
        window=window,
    )


def _node_times(
    firings: int,
    total: list[int],
    by_layer: IntArray,
    tables: ft.Tables,
    number: int,
    window: tuple[int, int] | None,
) -> NodeTimes:
    busy, stall, idle = total
    if window is None:
        return NodeTimes(busy=busy, stall=stall, idle=idle, firings=firings, by_layer=by_layer)
    row = tables.node[number]
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
