"""The fast engine's short cuts: forks, queues between two nodes and long runs, taken when no times are recorded.

They are compared with the reference engine, which has none, on machines made of what they look for and of near misses,
and they are wrong here on purpose: every fault planted in them must be seen.
"""

from __future__ import annotations

import re
from functools import cache
from random import Random
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dchw.engines import reference
from dchw.engines.difference import first_difference
from dchw.engines.fast import engine as fast_engine
from dchw.engines.fast import firings, forks, lanes, runs
from dchw.engines.fast.flatten import flatten
from dchw.engines.result import Timing
from dchw.program.program import Program
from dchw.quantities import SimulationError
from tests.parity.broadcast import broadcast_program, random_work
from tests.parity.forks import FEW, FEW_OR_MANY, random_fork, stopping_fork
from tests.planting import in_plain_python

machines = st.builds(
    random_fork, st.randoms(use_true_random=False), most=st.sampled_from([4, 30, 150]),
    amounts=st.sampled_from([FEW, FEW_OR_MANY]),
)  # fmt: skip
slow = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def outcome(engine, program: Program) -> Timing | str:
    try:
        return engine.run(program)
    except SimulationError as error:
        return str(error)


@given(machines)
@slow
def test_forks_and_near_misses_equal_the_reference_engine(program):
    one, other = outcome(reference, program), outcome(fast_engine, program)
    if isinstance(one, str) or isinstance(other, str):
        assert one == other
    else:
        assert first_difference(one, other, program) is None


def test_a_lane_that_takes_several_items_at_once_ends_the_run():
    """Found by random machines: a lane whose firing takes the next item too was counted as having taken this one."""
    program = random_fork(Random(716))
    assert first_difference(reference.run(program), fast_engine.run(program), program) is None


def test_a_lane_that_waited_for_its_decoder_is_woken_by_the_fork_later():
    """Found by random machines: done with the fork meanwhile, it had not said that it waits for the fork as well."""
    program = stopping_fork()
    assert first_difference(reference.run(program), fast_engine.run(program), program) is None


def shares(program: Program) -> tuple[float, float]:
    """Shares of all firings that are done with a fork, and in runs."""
    tables = flatten(program)
    firings.advance(tables, 10**12)
    return tables.run.with_forks / tables.run.done, tables.run.in_runs / tables.run.done


def test_random_machines_reach_the_short_cuts_and_miss_them():
    """Machines that all took one way would prove nothing about the other."""
    with_forks = [shares(random_fork(Random(seed), most=30 if seed < 200 else 100)) for seed in range(240)]
    assert sum(fork > 0.5 for fork, _ in with_forks) > 18
    assert sum(0 < fork <= 0.5 for fork, _ in with_forks) > 60
    assert sum(fork == 0 for fork, _ in with_forks) > 18
    assert sum(run > 0.2 for _, run in with_forks) > 60


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


FORKS, LANES, RUNS = forks, lanes, runs
FAULTS = {
    "fork's queue one deeper": (FORKS, "(item + count - depth) & mask, 0", "(item + count - depth - 1) & mask, 0"),
    "fork's block one longer": (FORKS, "min(BLOCK, depth)", "min(BLOCK, depth + 1)"),
    "fork's latency one longer": (FORKS, "room[HANDED, dealt] - 1 + hold)", "room[HANDED, dealt] + hold)"),
    "fork occupied one longer": (
        FORKS,
        "firing, giver = giver + 1, after",
        "firing, giver, free = giver + 1, after, free + 1",
    ),
    "fork's stall one short": (FORKS, " stall += slot + 1 - free", " stall += slot - free"),
    "fork's fill one too many": (FORKS, "fill = max(fill, 1)", "fill = max(fill, 2)"),
    "lane's slot a cycle early": (FORKS, "& mask)] = first_start + 1", "& mask)] = first_start"),
    "lane occupied one longer": (
        FORKS,
        "start += service(lists, occupied, constant, begun, until)",
        "start += 1 + service(lists, occupied, constant, begun, until)",
    ),
    "lane's entry one longer": (FORKS, "start += constant if constant else", "start += 1 + constant if constant else"),
    "lane's wait for its item forgotten": (
        FORKS,
        "waited, first_start = start - finish, start",
        "waited, first_start = 0, start",
    ),
    "lane's idle forgotten": (FORKS, "waited += seen - start", "waited += 0"),
    "lane's queue one deeper": (
        FORKS,
        "slot = ring[base + ((item - depth_other) & mask_other)]",
        "slot = ring[base + ((item - depth_other - 1) & mask_other)]",
    ),
    "lane's sums not handed over": (FORKS, "begun < until <= quiet", "begun < until <= quiet + 1"),
    "lane's half-done item forgotten": (FORKS, "~more if partly else more", "more"),
    "items left behind seen early": (FORKS, "room[HANDED, k] - 1 + hold", "room[HANDED, k] - 2 + hold"),
    "decoder's latency one shorter": (
        FORKS,
        "seen = source_free - 1 + hold_other",
        "seen = source_free - 2 + hold_other",
    ),
    "decoder occupied one longer": (FORKS, "source_free += service(", "source_free += 1 + service("),
    "decoder's stall forgotten": (FORKS, "source_stall += slot + 1 - source_free", "source_stall += 0"),
    "decoder's chunk not waited for": (RUNS, "until = min(until, link[ends[end]].next_taker)", "pass"),
    "decoder's other target not waited for": (RUNS, "until = min(until, link[ends[end]].next_giver)", "pass"),
    "entry's slot a cycle late": (FORKS, "ring[place] = start + 1", "ring[place] = start + 2"),
    "lanes' latency one longer": (LANES, "visible, latest = free - 1 + hold", "visible, latest = free + hold"),
    "lanes' fork occupied one longer": (
        LANES,
        "firing, giver = giver + 1, after",
        "firing, giver, free = giver + 1, after, free + 1",
    ),
    "lanes' earlier slots forgotten": (LANES, "if k < depth <= item + k:", "if k < depth <= 0:"),
    "lanes' queue one deeper": (LANES, "slot[done + depth] = latest + 1", "slot[done + depth] = 0"),
    "lanes' slot a cycle early": (LANES, "slot[done + depth] = latest + 1", "slot[done + depth] = latest"),
    "lanes' stall one short": (LANES, "stall += slot[done] + 1 - free", "stall += slot[done] - free"),
    "lanes' idle forgotten": (LANES, "idle[p] += start - finish[p]", "idle[p] += 0"),
    "lanes' item one longer": (LANES, "finish[p] = start + cycles[p]", "finish[p] = start + cycles[p] + 1"),
    "lanes' firings one short": (
        LANES,
        "service(lists, occupied, constant, begun, until)",
        "service(lists, occupied, constant, begun, begun + 1)",
    ),
    "lanes' sums not handed over": (LANES, ".quiet, lane", ".quiet + 1, lane"),
    "lanes' entries not waited for": (LANES, "quiet if x < 0 else min(quiet, link[x].next_taker)", "quiet"),
    "lanes' slots not kept": (
        LANES,
        "ring[base + ((item + k) & mask)] = room[BEGIN + k, column] + 1",
        "pass",
    ),
    "lanes' fill one too many": (LANES, "max(link[x].peak, 1)", "max(link[x].peak, 2)"),
    "lanes' fill a cycle late": (LANES, "if freed < room[HANDED, k]:", "if freed <= room[HANDED, k]:"),
    "run's slot a cycle early": (RUNS, "ring[place] = start + 1", "ring[place] = start"),
    "run's column forgotten": (RUNS, "start = max(start, other_visible)", "pass"),
    "run's source one longer": (RUNS, "visible = source_free + cycles - 1", "visible = source_free + cycles"),
    "run's queue one deeper": (
        RUNS,
        "slot = ring[base + ((item - depth) & mask)]",
        "slot = ring[base + ((item - depth - 1) & mask)]",
    ),
    "run's idle forgotten": (RUNS, "idle += start - finish", "idle += 0"),
    "giving ahead of a slot": (
        RUNS,
        "need[turn] = max(need[turn], ring[base + ((behind + turn) & mask)])",
        "pass",
    ),
    "giving one longer": (RUNS, "free = handover + 1", "free = handover + 2"),
    "giving's latency one longer": (RUNS, "need[turn] + hold", "need[turn] + hold + 1"),
}


def with_fault(fault: str) -> dict[str, Any]:
    """The short cuts that the engine calls, in plain Python and with a fault in one of them or in what they call."""
    faulty, right, wrong = FAULTS[fault]
    runs, lanes, forks = (
        in_plain_python(module, right, wrong) if module is faulty else in_plain_python(module)
        for module in (RUNS, LANES, FORKS)
    )
    lanes["service"] = runs["service"]
    forks |= {name: runs[name] for name in ("service", "free_until")} | {"lanes_run": lanes["lanes_run"]}
    return {"fork_run": forks["fork_run"], "take_run": runs["take_run"], "give_run": runs["give_run"]}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_in_a_short_cut_is_caught_by_name(fault, monkeypatch):
    plain = in_plain_python(firings)
    plain |= with_fault(fault)  # in place: the functions of the module find them there
    monkeypatch.setattr(firings, "advance", plain["advance"])
    for program, result in arrays():
        different = outcome(fast_engine, program)
        difference = different if isinstance(different, str) else first_difference(result, different, program)
        if difference is not None:
            assert re.match(r"(link )?'[^']+': |run: deadlock after .* firings: '", difference), difference
            return
    pytest.fail(f"{fault}: not seen")
