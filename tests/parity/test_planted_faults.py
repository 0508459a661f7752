"""Would parity notice? Every fault planted here is caught, and by the name of the node that did it.

Faults go into the program that one engine runs (a wrong table), or into the reference engine itself (a wrong rule).
"""

from __future__ import annotations

from dataclasses import replace
from random import Random

import numpy as np
import pytest

from dchw.config import build
from dchw.engines import reference
from dchw.engines.difference import first_difference
from dchw.engines.fast import engine as fast_engine
from dchw.engines.fast import firings
from dchw.engines.fast.flatten import flatten
from dchw.engines.fast.program_tables import NEVER_FIRES
from dchw.engines.memory import memory_state
from dchw.machines.units.dram import Dram
from dchw.program.layer_runs import LayerRuns
from dchw.program.program import Arbiter, FiringNode, Link, MemoryNode, Policy, Program, Requests
from dchw.quantities import SimulationError
from tests.parity.machines import random_program

N = 24


def node(name: str, *pattern: int) -> FiringNode:
    return FiringNode(
        name=name, unit=name, occupied=np.resize(np.array(pattern, np.int32), N), layer=LayerRuns(((0, N),))
    )


def congested() -> Program:
    """A pipeline with tight queues and a credit loop, two clients of an arbiter, and a memory that is too slow."""
    memory = build(
        Dram,
        {"fixed": {"bytes_per_cycle": 16, "latency": 5, "burst_size": "32 B", "clock": "500 MHz", "queue": 2}},
        where="dram",
    )
    requests = Requests(
        address=np.arange(N, dtype=np.int64) * 32,
        bursts=np.resize(np.array([1, 3], np.int32), N),
        is_write=np.zeros(N, np.bool_),
        stream=np.zeros(N, np.uint8),
        layer=np.zeros(N, np.int32),
    )
    nodes = (
        node("source", 1),
        node("middle", 1, 3),
        node("sink", 1, 4),
        node("left", 1),
        node("right", 1),
        Arbiter(name="port", unit="port", occupied=2, policy=Policy.ROUND_ROBIN, blackout=(11, 3, 2)),
        node("left sink", 1, 9),
        node("right sink", 1),
        MemoryNode(name="memory", unit="dram", memory=memory, requests=(requests,)),
        node("reader", 1),
        node("user", 2),
    )
    links = (
        Link(name="q0", source="source", target="middle", items=N, depth=2, latency=1),
        Link(name="q1", source="middle", target="sink", items=N, depth=1),
        Link(name="credit", source="sink", target="source", items=N + 3, initial=3),
        Link(name="left in", source="left", target="port", items=N, depth=1),
        Link(name="right in", source="right", target="port", items=N, depth=1),
        Link(name="left out", source="port", target="left sink", items=N, depth=2),
        Link(name="right out", source="port", target="right sink", items=N, depth=2),
        Link(name="ask", source="reader", target="memory", items=N, depth=2),
        Link(name="answer", source="memory", target="user", items=N, latency=1),
    )
    return Program(clock_hz=800_000_000, layers=("all",), nodes=nodes, links=links)


def with_link(program: Program, name: str, **changes: object) -> Program:
    links = tuple(replace(link, **changes) if link.name == name else link for link in program.links)
    return replace(program, links=links)


def with_node(program: Program, name: str, **changes: object) -> Program:
    nodes = tuple(replace(item, **changes) if item.name == name else item for item in program.nodes)
    return replace(program, nodes=nodes)


def slower(program: Program, name: str, firing: int) -> Program:
    occupied = program.node(name).occupied.copy()
    occupied[firing] += 1
    return with_node(program, name, occupied=occupied)


def slower_memory(program: Program) -> Program:
    return with_node(program, "memory", memory=program.memory.memory.replace("fixed.latency", 6))


FAULTS = {
    "queue one deeper": (lambda p: with_link(p, "q0", depth=3), "'source' firing "),
    "queue one shallower": (lambda p: with_link(p, "q0", depth=1), "'source' firing "),
    "tightest queue one deeper": (lambda p: with_link(p, "q1", depth=2), "'middle' firing "),
    "latency one longer": (lambda p: with_link(p, "q0", latency=2), "'middle' firing 0 starts at 2 against 3 (T3)"),
    "occupied one longer": (
        lambda p: slower(p, "middle", 5),
        "'middle' firing 5 is held by link 'q1' against none (T4)",
    ),
    "a credit too many": (lambda p: with_link(p, "credit", items=N + 4, initial=4), "'source' firing 4 starts at "),
    "a credit too few": (lambda p: with_link(p, "credit", items=N + 2, initial=2), "'source' firing 2 starts at "),
    "credit a cycle late": (lambda p: with_link(p, "credit", latency=1), "'source' firing 3 starts at "),
    "arbiter in fixed order": (lambda p: with_node(p, "port", policy=Policy.FIXED), "'port' channel "),
    "arbiter with two ports": (lambda p: with_node(p, "port", ports=2), "'port' channel "),
    "arbiter holds longer": (lambda p: with_node(p, "port", occupied=3), "'left sink' firing 0 starts at "),
    "blackout moved": (lambda p: with_node(p, "port", blackout=(11, 4, 2)), "'port' channel "),
    "arbiter queue deeper": (lambda p: with_link(p, "left in", depth=2), "'left' firing "),
    "arbiter out-link shallower": (lambda p: with_link(p, "left out", depth=1), "'port' channel "),
    "memory a clock slower": (slower_memory, "'memory' port 0 request 0 answered in memory clock "),
    "request queue deeper": (lambda p: with_link(p, "ask", depth=3), "'reader' firing "),
    "answer a cycle late": (lambda p: with_link(p, "answer", latency=2), "'user' firing 0 starts at "),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_wrong_table_is_caught_by_name(fault):
    change, name = FAULTS[fault]
    program = congested()
    right, wrong = reference.run(program, record=True), fast_engine.run(change(program), record=True)
    difference = first_difference(right, wrong, program)
    assert difference is not None
    assert difference.startswith(name), difference


def test_the_machine_without_a_fault_shows_none():
    program = congested()
    assert first_difference(reference.run(program, record=True), fast_engine.run(program, record=True), program) is None


def test_a_lost_item_is_a_deadlock_that_names_who_waits():
    program = congested()
    given_by = np.append(0, np.arange(N - 1)).astype(np.int32)
    tables = flatten(with_link(program, "q1", depth=2, given_by=given_by))
    tables.lists[tables.lists == N - 2] = NEVER_FIRES  # the last item of q1 is never given
    assert firings.advance(tables, memory_state(program), 10**9) == firings.STUCK
    behind = program.links_into("sink")[0]
    assert tables.link[behind].given == N - 1
    short = Program(
        clock_hz=1, layers=("all",), nodes=(node("a", 1), node("b", 1)),
        links=(Link(name="q", source="a", target="b", items=N, depth=1),
               Link(name="back", source="b", target="a", items=N)),
    )  # fmt: skip
    for engine in (reference, fast_engine):
        with pytest.raises(SimulationError) as caught:
            engine.run(short)
        assert str(caught.value) == (
            "run: deadlock after 0 of 48 firings: 'a' firing 0 waits for item 0 of 'back' from 'b' (0 items waiting); "
            "'b' firing 0 waits for item 0 of 'q' from 'a' (0 of 1 slots held); "
            "check queue depths, credits and the order in which chunks are asked for"
        )


def plant(monkeypatch: pytest.MonkeyPatch, method: str, wrong: object) -> str:
    program = congested()
    right = fast_engine.run(program, record=True)
    monkeypatch.setattr(reference._Queue, method, wrong)
    return first_difference(right, reference.run(program, record=True), program) or ""


def test_a_slot_freed_a_cycle_early_is_caught(monkeypatch):
    take = reference._Queue.take

    def early(self, cycle):
        take(self, cycle - 1 if self.link.name == "q0" else cycle)

    assert plant(monkeypatch, "take", early).startswith("'source' firing ")


def test_a_credit_a_cycle_early_is_caught(monkeypatch):
    put = reference._Queue.put

    def early(self, cycle, visible):
        put(self, cycle, visible - 1 if self.link.name == "credit" else visible)

    assert plant(monkeypatch, "put", early).startswith("'source' firing ")


def test_slots_held_until_the_giving_are_caught(monkeypatch):
    """A firing treated as one act, its inputs taken when it hands over: the classical mistake."""
    take = reference._Queue.take

    def late(self, cycle):
        take(self, cycle + 2 if self.link.name == "q0" else cycle)

    assert plant(monkeypatch, "take", late).startswith("'source' firing ")


def test_a_wrong_winner_is_caught(monkeypatch):
    program = congested()
    right = fast_engine.run(program, record=True)
    monkeypatch.setattr(reference, "_winner", lambda policy, eligible, *rest: max(eligible))
    difference = first_difference(right, reference.run(program, record=True), program)
    assert difference is not None
    assert difference.startswith("'port' channel "), difference


def test_most_links_of_random_machines_feel_their_depth_and_latency():
    """Aimed at each bounded link that ever held somebody up: a deeper queue must show."""
    seen = felt = 0
    for seed in range(500):
        program = random_program(Random(seed))
        try:
            right = fast_engine.run(program, record=True)
        except SimulationError:
            continue
        blamed = {int(x) for times in right.nodes.values() for x in times.stalled_by if x >= 0}
        for index in blamed:
            link = program.links[index]
            wrong = fast_engine.run(with_link(program, link.name, depth=link.depth + 1), record=True)
            seen += 1
            felt += first_difference(right, wrong, program) is not None
    assert seen > 60
    assert felt > 0.9 * seen  # the rest ties with another queue that frees its slot in the same cycle
