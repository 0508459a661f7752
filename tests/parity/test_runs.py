"""The fast engine's short cuts: forks, queues between two nodes and long runs, taken when no times are recorded.

They are compared with the reference engine, which has none, on machines made of what they look for and of near misses,
and they are wrong here on purpose: every fault planted in them must be seen.
"""

from __future__ import annotations

import inspect
import re
from functools import cache
from random import Random
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dchw.quantities import SimulationError
from dchw.simulate import fast, fast_forks, fast_lanes, fast_runs, reference
from dchw.simulate import fast_kernels as fk
from dchw.simulate import fast_tables as ft
from dchw.simulate.difference import first_difference
from dchw.simulate.program import Program
from dchw.simulate.result import Timing
from tests.parity.broadcast import broadcast_program, random_work
from tests.parity.forks import random_fork

machines = st.randoms(use_true_random=False).flatmap(
    lambda rng: st.sampled_from([30, 150]).map(lambda most: random_fork(rng, most=most))
)
slow = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def outcome(engine, program: Program) -> Timing | str:
    try:
        return engine.run(program)
    except SimulationError as error:
        return str(error)


@given(machines)
@slow
def test_forks_and_near_misses_equal_the_reference_engine(program):
    one, other = outcome(reference, program), outcome(fast, program)
    if isinstance(one, str) or isinstance(other, str):
        assert one == other
    else:
        assert first_difference(one, other, program) is None


def test_a_lane_that_takes_several_items_at_once_ends_the_run():
    """Found by random machines: a lane whose firing takes the next item too was counted as having taken this one."""
    program = random_fork(Random(716))
    assert first_difference(reference.run(program), fast.run(program), program) is None


def shares(program: Program) -> tuple[float, float]:
    """Shares of all firings that are done with a fork, and in runs."""
    tables = fast.flatten(program)
    fk.advance(tables, 10**12)
    return tables.run[ft.WITH_FORKS] / tables.run[ft.DONE], tables.run[ft.IN_RUNS] / tables.run[ft.DONE]


def test_random_machines_reach_the_short_cuts_and_miss_them():
    """Machines that all took one way would prove nothing about the other."""
    with_forks = [shares(random_fork(Random(seed))) for seed in range(200)]
    assert sum(fork > 0.5 for fork, _ in with_forks) > 15
    assert sum(0 < fork <= 0.5 for fork, _ in with_forks) > 50
    assert sum(fork == 0 for fork, _ in with_forks) > 15
    assert sum(run > 0.2 for _, run in with_forks) > 50


@pytest.mark.parametrize("decoders", [0, 2, 8])
def test_a_broadcast_array_is_done_with_its_fork(decoders):
    work = random_work(np.random.default_rng(1), 200, 64, 8, 0.3)
    fork, run = shares(broadcast_program(work, depth=4, decoders=decoders))
    assert fork > 0.9
    assert fork + run > 0.97


@cache
def arrays() -> list[tuple[Program, Timing]]:
    """Broadcast arrays in which every queue is felt, and random ones, as the reference engine runs them."""
    programs = []
    for decoders, buffer, depth in ((0, 1, 2), (2, 3, 2), (4, 2, 1), (1, 2, 2)):
        work = random_work(np.random.default_rng(decoders), 30, 32, 4, 0.3)
        programs.append(broadcast_program(work, depth=depth, decoders=decoders, buffer=buffer))
    programs += [random_fork(Random(seed), misses=False, most=30 if seed < 60 else 100) for seed in range(100)]
    results = [(program, outcome(reference, program)) for program in programs]
    return [(program, result) for program, result in results if not isinstance(result, str)]


FAULTS = {
    "fork's queue one deeper": (
        "fork_run",
        "(fork_item - fork_depth) & fork_mask",
        "(fork_item - fork_depth - 1) & fork_mask",
    ),
    "fork's latency one longer": ("fork_run", "visible = free - 1 + fork_hold", "visible = free + fork_hold"),
    "fork occupied one longer": ("fork_run", "firing = fork_giver + 1", "firing, free = fork_giver + 1, free + 1"),
    "fork's stall one short": ("fork_run", "fork_stall += slot + 1 - free", "fork_stall += slot - free"),
    "lane's slot a cycle early": (
        "fork_run",
        "ring[column_place] = first_start + 1",
        "ring[column_place] = first_start",
    ),
    "lane occupied one longer": (
        "fork_run",
        "start += constant * (until - begun)",
        "start += constant * (until - begun) + 1",
    ),
    "lane's entry one longer": (
        "fork_run",
        "start += constant if constant else",
        "start += 1 + constant if constant else",
    ),
    "lane's idle forgotten": ("fork_run", "idle += seen - start", "idle += 0"),
    "lane's queue one deeper": (
        "fork_run",
        "slot = ring[base + ((item - depth) & mask)]",
        "slot = ring[base + ((item - depth - 1) & mask)]",
    ),
    "decoder's latency one shorter": ("fork_run", "seen = source_free - 1 + hold", "seen = source_free - 2 + hold"),
    "decoder occupied one longer": (
        "fork_run",
        "source_free += source_constant * (",
        "source_free += 1 + source_constant * (",
    ),
    "decoder's stall forgotten": ("fork_run", "source_stall += slot + 1 - source_free", "source_stall += 0"),
    "entry's slot a cycle late": ("fork_run", "ring[place] = start + 1", "ring[place] = start + 2"),
    "fork's fill one too many": ("fork_run", "most = max(link[column, PEAK], 1)", "most = max(link[column, PEAK], 2)"),
    "decoder's chunk not waited for": (
        "fork_run",
        "source_quiet = min(source_quiet, link[ends[place_in], NEXT_TAKER])",
        "pass",
    ),
    "lane's sums not handed over": (
        "fork_run",
        "begun < until <= node[target, QUIET]",
        "begun < until <= node[target, QUIET] + 1",
    ),
    "lanes' latency one longer": ("lanes_run", "visible, latest = free - 1 + hold", "visible, latest = free + hold"),
    "lanes' fork occupied one longer": (
        "lanes_run",
        "firing, giver = giver + 1, after",
        "firing, giver, free = giver + 1, after, free + 1",
    ),
    "lanes' earlier slots forgotten": ("lanes_run", "if k < depth <= item + k:", "if k < depth <= 0:"),
    "lanes' queue one deeper": ("lanes_run", "slot[done + depth] = latest + 1", "slot[done + depth] = 0"),
    "lanes' slot a cycle early": ("lanes_run", "slot[done + depth] = latest + 1", "slot[done + depth] = latest"),
    "lanes' stall one short": ("lanes_run", "stall += slot[done] + 1 - free", "stall += slot[done] - free"),
    "lanes' idle forgotten": ("lanes_run", "idle[p] += start - finish[p]", "idle[p] += 0"),
    "lanes' item one longer": ("lanes_run", "finish[p] = start + cycles[p]", "finish[p] = start + cycles[p] + 1"),
    "lanes' firings one short": ("_lay_out", "cycles = constant * (until - begun)", "cycles = constant"),
    "lanes' sums not handed over": ("_limit", "QUIET], lane", "QUIET] + 1, lane"),
    "lanes' entries not waited for": ("_limit", "quiet if x < 0 else min(quiet, link[x, NEXT_TAKER])", "quiet"),
    "lanes' slots not kept": (
        "_settle",
        "ring[base + ((item + k) & mask)] = room[BEGIN + k, column] + 1",
        "pass",
    ),
    "lanes' fill one too many": ("_settle", "max(link[x, PEAK], 1)", "max(link[x, PEAK], 2)"),
    "lanes' fill a cycle late": ("_settle", "if freed < room[HANDED, k]:", "if freed <= room[HANDED, k]:"),
    "run's slot a cycle early": ("take_run", "ring[place] = start + 1", "ring[place] = start"),
    "run's column forgotten": ("take_run", "start = max(start, other_visible)", "pass"),
    "run's source one longer": ("take_run", "visible = source_free + cycles - 1", "visible = source_free + cycles"),
    "run's queue one deeper": (
        "take_run",
        "slot = ring[base + ((item - depth) & mask)]",
        "slot = ring[base + ((item - depth - 1) & mask)]",
    ),
    "run's idle forgotten": ("take_run", "idle += start - finish", "idle += 0"),
    "giving ahead of a slot": (
        "give_run",
        "need[turn] = max(need[turn], ring[base + ((behind + turn) & mask)])",
        "pass",
    ),
    "giving one longer": ("give_run", "free = handover + 1", "free = handover + 2"),
    "giving's latency one longer": ("give_run", "need[turn] + hold", "need[turn] + hold + 1"),
}


MODULES = {"fork_run": fast_forks, "take_run": fast_runs, "give_run": fast_runs}


def kernels(module: ModuleType, right: str = "", wrong: str = "") -> dict[str, Any]:
    """The functions of a module in plain Python, calling one another, with one text in them replaced."""
    space = dict(vars(module))
    for kernel in vars(module).values():
        function = getattr(kernel, "py_func", kernel)
        if inspect.isfunction(function) and function.__module__ == module.__name__:
            source = re.sub(r"^@\w+\n", "", inspect.getsource(function))
            exec(source.replace(right, wrong) if right else source, space)
    return space


def planted(fault: str) -> tuple[str, Any]:
    """The function that the engine calls, with a fault in it or in what it calls."""
    name, right, wrong = FAULTS[fault]
    module = MODULES.get(name, fast_lanes)
    assert inspect.getsource(module).count(right) == 1, inspect.getsource(module).count(right)
    space = kernels(module, right, wrong)
    if module is not fast_lanes:
        return name, space[name]
    forks = kernels(fast_forks)
    forks["lanes_run"] = space["lanes_run"]
    return "fork_run", forks["fork_run"]


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_in_a_short_cut_is_caught_by_name(fault, monkeypatch):
    name, function = planted(fault)
    for part in ("advance", "_fire"):
        monkeypatch.setattr(fk, part, getattr(getattr(fk, part), "py_func", getattr(fk, part)))
    monkeypatch.setattr(fk, name, function)
    for program, result in arrays():
        different = outcome(fast, program)
        difference = different if isinstance(different, str) else first_difference(result, different, program)
        if difference is not None:
            assert re.match(r"(link )?'[^']+': |run: deadlock after .* firings: '", difference), difference
            return
    pytest.fail(f"{fault}: not seen")
