"""A program's run with the fast engine: tables, kernels called until nothing is left, times. The plan: this package."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from dchw.engines.deadlock import deadlock_error
from dchw.engines.fast import firings
from dchw.engines.fast.flatten import flatten, kinds
from dchw.engines.fast.program_tables import Tables
from dchw.engines.fast.windowed import run_windows
from dchw.engines.memory import MemoryState, memory_state, memory_times
from dchw.engines.result import ArbiterTimes, IntArray, LinkFill, NodeTimes, Timing
from dchw.program.check import Facts, check
from dchw.program.program import Program
from dchw.program.windows import Windowed

FIRINGS_PER_CALL = 4_000_000
"""Firings between two calls of ``on_progress``; Ctrl-C is heard between them."""


def run(
    program: Program | Windowed,
    *,
    record: bool = False,
    window: tuple[int, int] | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> Timing:
    """Run a program; equal to the reference engine in everything it returns.

    ``record`` keeps every start and finish, those inside ``window`` (first cycle, end) if given. ``on_progress`` is
    called with firings done and firings in all. A program in windows is run window by window, one whose times are
    recorded in one piece. Raises SimulationError for a malformed program and for a deadlock.
    """
    if isinstance(program, Windowed):
        timing = None if record else run_windows(program, calls=FIRINGS_PER_CALL, on_progress=on_progress)
        if timing is not None:
            return timing
        program = program.whole()  # recorded times, and the story of a deadlock, need all of it
    facts = check(program)
    kept = (window or (0, 2**62)) if record else None
    tables, memory = flatten(program, facts, kept), memory_state(program)
    total = int(tables.node["count"].sum())
    while firings.advance(tables, memory, FIRINGS_PER_CALL) == firings.PAUSED:
        if on_progress is not None:
            on_progress(int(tables.run.done), total)
    given_all = tables.link["given"] == [link.items for link in program.links]
    if (tables.node["next"] < tables.node["count"]).any() or not given_all.all():
        finished = tables.node["next"].tolist()
        started = (tables.node["next"] + tables.node["started"]).tolist()
        names = [node.name for node in kinds(program)[0]]
        raise deadlock_error(
            program,
            dict(zip(names, finished, strict=True)),
            dict(zip(names, started, strict=True)),
            tables.link["given"].tolist(),
            tables.link["taken"].tolist(),
        )
    if on_progress is not None:
        on_progress(total, total)
    return _timing(program, facts, tables, memory, kept)


def _timing(
    program: Program, facts: Facts, tables: Tables, memory: MemoryState, window: tuple[int, int] | None
) -> Timing:
    firing, arbiters = kinds(program)
    cycles = max(int(tables.run.latest_answer), int(tables.node["finish"].max(initial=0)))
    layers = len(program.layers)
    first, last = np.full(layers, 2**62), np.full(layers, -1)
    by_layer = np.zeros((len(firing), layers, 3), np.int64)
    if tables.span.shape[0]:
        of_nodes = [facts.nodes[item.name].spans for item in firing]
        spans = np.array([span for of_node in of_nodes for span in of_node])
        owner = np.repeat(np.arange(len(firing)), [len(of_node) for of_node in of_nodes])
        layer = spans[:, 1]
        np.minimum.at(first, layer, tables.span["start"])
        np.maximum.at(last, layer, tables.span["finish"])
        by_layer[owner, layer, 0] = spans[:, 2]
        by_layer[owner, layer, 1], by_layer[owner, layer, 2] = tables.span["stall"], tables.span["idle"]
    totals = by_layer.sum(axis=1)
    totals[:, 2] += cycles - tables.node["finish"]
    nodes = {
        node.name: _node_times(len(node.occupied), total, cycles_of, tables, number, window)
        for number, (node, total, cycles_of) in enumerate(zip(firing, totals.tolist(), by_layer, strict=True))
    }
    grants = {}
    for number, item in enumerate(arbiters):
        row = tables.arbiter[number]
        channels = [tables.link[link] for link in program.links_into(item.name)]
        kept = tuple(tables.granted[link.granted_first : link.granted].copy() for link in channels)
        grants[item.name] = ArbiterTimes(
            grants=int(row.grants),
            waited=int(row.waited),
            grant=None if window is None else kept,
            before=None if window is None else tuple(int(link.granted_before) for link in channels),
        )
    return Timing(
        cycles=cycles,
        nodes=nodes,
        links={
            link.name: LinkFill(peak=peak, items=link.items)
            for link, peak in zip(program.links, tables.link["peak"].tolist(), strict=True)
        },
        layer_start=np.where(last < 0, -1, first),
        layer_finish=last,
        arbiters=grants,
        memory=memory_times(program, memory, cycles),
        program=program,
        window=window,
    )


def _node_times(
    firings: int,
    total: list[int],
    by_layer: IntArray,
    tables: Tables,
    number: int,
    window: tuple[int, int] | None,
) -> NodeTimes:
    busy, stall, idle = total
    if window is None:
        return NodeTimes(busy=busy, stall=stall, idle=idle, firings=firings, by_layer=by_layer)
    row = tables.node[number]
    kept = tables.recorded[row.record : row.record + row.recorded]
    return NodeTimes(
        busy=busy,
        stall=stall,
        idle=idle,
        firings=firings,
        by_layer=by_layer,
        first=int(row.first_recorded),
        start=kept[:, 0].copy(),
        finish=kept[:, 1].copy(),
        waited_for=kept[:, 2].astype(np.int32),
        stalled_by=kept[:, 3].astype(np.int32),
    )
