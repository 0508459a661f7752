"""Where two runs of one program first differ: node, firing, rule and both values."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction

import numpy as np

from dchw.engines.result import ArbiterTimes, MemoryTimes, NodeTimes, Timing
from dchw.program.program import Arbiter, FiringNode, Program

_COLUMNS = (
    ("start", "starts at", "T3"),
    ("waited_for", "waits for link", "T3"),
    ("finish", "finishes at", "T4"),
    ("stalled_by", "is held by link", "T4"),
)


def first_difference(a: Timing, b: Timing, program: Program) -> str | None:
    """One sentence on the earliest thing that differs between two runs, or None if they are equal in everything.

    Recorded runs are compared firing by firing, grant by grant and answer by answer; the earliest cycle wins, among
    equal ones the first node in the program's order. Totals, fills and counters are compared after that.
    """
    found = [item for node in program.nodes for item in _in_node(node.name, a, b, program)]
    if found:
        return min(found, key=lambda item: item[0])[1]
    return next(_in_totals(a, b), None)


def _in_node(name: str, a: Timing, b: Timing, program: Program) -> Iterator[tuple[int, str]]:
    node = program.node(name)
    if isinstance(node, FiringNode):
        yield from _in_firings(name, a.nodes[name], b.nodes[name], program)
    elif isinstance(node, Arbiter):
        yield from _in_grants(name, a.arbiters[name], b.arbiters[name])
    elif a.memory is not None and b.memory is not None:
        ratio = node.memory.clocks_per_cycle(program.clock_hz)
        yield from _in_requests(name, a.memory, b.memory, ratio)


def _in_firings(name: str, a: NodeTimes, b: NodeTimes, program: Program) -> Iterator[tuple[int, str]]:
    if a.start is None or b.start is None:
        return
    if a.first != b.first:
        yield 0, f"{name!r}: first recorded firing is {a.first} against {b.first}"
        return
    size = min(len(a.start), len(b.start))
    differs = np.array([getattr(a, name)[:size] != getattr(b, name)[:size] for name, _, _ in _COLUMNS])
    places = np.flatnonzero(differs.any(axis=0))
    if len(places):
        at = int(places[0])
        column, verb, rule = _COLUMNS[int(np.argmax(differs[:, at]))]
        values = [getattr(times, column)[at] for times in (a, b)]
        if "link" in verb:
            values = [repr(program.links[index].name) if index >= 0 else "none" for index in values]
        assert a.finish is not None
        assert b.finish is not None
        cycle = min(a.start[at], b.start[at]) if rule == "T3" else min(a.finish[at], b.finish[at]) - 1
        yield int(cycle), f"{name!r} firing {a.first + at} {verb} {values[0]} against {values[1]} ({rule})"
    elif len(a.start) != len(b.start):
        yield 2**62, f"{name!r}: {len(a.start)} recorded firings against {len(b.start)}"


def _in_grants(name: str, a: ArbiterTimes, b: ArbiterTimes) -> Iterator[tuple[int, str]]:
    for channel, (one, other) in enumerate(zip(a.grant or (), b.grant or (), strict=False)):
        size = min(len(one), len(other))
        places = np.flatnonzero(one[:size] != other[:size])
        if len(places):
            at = int(places[0])
            yield (
                int(min(one[at], other[at])),
                f"{name!r} channel {channel} grants item {at} at {one[at]} against {other[at]} (T6)",
            )
        elif len(one) != len(other):
            yield 2**62, f"{name!r} channel {channel}: {len(one)} recorded grants against {len(other)} (T6)"


def _in_requests(name: str, a: MemoryTimes, b: MemoryTimes, clocks_per_cycle: Fraction) -> Iterator[tuple[int, str]]:
    for column in ("offered", "accepted", "answered"):
        for port, (one, other) in enumerate(zip(getattr(a, column), getattr(b, column), strict=True)):
            places = np.flatnonzero(one != other)
            if len(places):
                at = int(places[0])
                yield (
                    int(min(one[at], other[at]) / clocks_per_cycle),
                    f"{name!r} port {port} request {at} {column} in memory clock {one[at]} against {other[at]} (T8)",
                )


def _in_totals(a: Timing, b: Timing) -> Iterator[str]:
    for name, one in a.nodes.items():
        other = b.nodes[name]
        for column in ("firings", "busy", "stall", "idle"):
            if getattr(one, column) != getattr(other, column):
                yield f"{name!r}: {column} {getattr(one, column)} against {getattr(other, column)} (T10)"
        if not np.array_equal(one.by_layer, other.by_layer):
            yield f"{name!r}: cycles by layer differ (T10)"
    for name, grants in a.arbiters.items():
        other_grants = b.arbiters[name]
        if (grants.grants, grants.waited) != (other_grants.grants, other_grants.waited):
            yield f"{name!r}: {grants} against {other_grants} (T6)"
    for name, fill in a.links.items():
        if fill != b.links[name]:
            yield f"link {name!r}: {fill} against {b.links[name]} (T5)"
    if a.memory is not None and b.memory is not None and dict(a.memory.commands) != dict(b.memory.commands):
        yield f"memory commands: {dict(a.memory.commands)} against {dict(b.memory.commands)} (T8)"
    for column in ("layer_start", "layer_finish"):
        if not np.array_equal(getattr(a, column), getattr(b, column)):
            yield f"{column}: {getattr(a, column)} against {getattr(b, column)} (T10)"
    if a.cycles != b.cycles:
        yield f"run: {a.cycles} cycles against {b.cycles} (T10)"
