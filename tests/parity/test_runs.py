"""The fast engine's short cuts: forks, queues between two nodes and long runs, taken when no times are recorded.

They are compared with the reference engine, which has none, on machines made of what they look for and of near misses,
and they are wrong here on purpose: every fault planted in them must be seen.
"""

from __future__ import annotations

import inspect
import re
from functools import cache
from random import Random

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dchw.quantities import SimulationError
from dchw.simulate import fast, fast_forks, fast_runs, reference
from dchw.simulate import fast_kernels as fk
from dchw.simulate import fast_tables as ft
from dchw.simulate.difference import first_difference
from dchw.simulate.program import Program
from dchw.simulate.result import Timing
from tests.parity.broadcast import broadcast_program, random_work
from tests.parity.forks import random_fork

machines = st.randoms(use_true_random=False).map(random_fork)
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
    programs += [random_fork(Random(seed), misses=False) for seed in range(60)]
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


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_in_a_short_cut_is_caught_by_name(fault, monkeypatch):
    name, right, wrong = FAULTS[fault]
    module = fast_forks if name == "fork_run" else fast_runs
    source = inspect.getsource(getattr(getattr(module, name), "py_func", getattr(module, name)))
    source = re.sub(r"^@\w+\n", "", source)
    assert source.count(right) == 1, source.count(right)
    space = dict(vars(module))
    exec(source.replace(right, wrong), space)
    for part in ("advance", "_fire"):
        monkeypatch.setattr(fk, part, getattr(getattr(fk, part), "py_func", getattr(fk, part)))
    monkeypatch.setattr(fk, name, space[name])
    for program, result in arrays():
        different = outcome(fast, program)
        difference = different if isinstance(different, str) else first_difference(result, different, program)
        if difference is not None:
            assert re.match(r"(link )?'[^']+': |run: deadlock after .* firings: '", difference), difference
            return
    pytest.fail(f"{fault}: not seen")
