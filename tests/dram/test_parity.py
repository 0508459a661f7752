"""The event-driven controller against one that looks at every clock; command traces against an independent checker."""

from __future__ import annotations

import random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dchw.dram.options import Controller
from dchw.dram.standard import standard, standard_names
from tests.dram.driving import Asked, request_lists, run_kernels, run_oracle, setups
from tests.oracles.dram import faults

_SLOW = settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)


@_SLOW
@given(st.data())
def test_every_command_and_completion_equals_the_per_clock_controller(data):
    std, options = data.draw(setups())
    asked = data.draw(request_lists(std.organisation.ranks * std.organisation.banks))
    memory, done = run_kernels(std, options, asked)
    slow = run_oracle(std, options, asked)
    ran = [command for command in memory.trace(0) if command[0] <= slow.clock]
    assert ran == slow.trace
    assert sorted(done) == sorted(slow.completions)
    live = memory.state.live[0]
    assert (live.hits, live.misses, live.conflicts) == (slow.hits, slow.misses, slow.conflicts)


def _mixture(kind: str, std, count: int) -> list[Asked]:
    rng = random.Random(f"{kind} {std.name}")
    banks = std.organisation.ranks * std.organisation.banks
    out = []
    for number in range(count):
        if kind == "random":
            out.append(Asked(rng.randrange(banks), rng.randrange(64), rng.randrange(64), rng.random() < 0.3, 0))
        elif kind == "gather":  # short runs at scattered places, read only
            place = random.Random(number // 4)
            out.append(Asked(place.randrange(banks), place.randrange(8), place.randrange(60) + number % 4, False, 0))
        else:  # a stream, a writer behind it, and pauses
            column = number // 2
            bank = (number % 2 * 3 + column // 64) % banks
            out.append(Asked(bank, column // 640, column % 64, number % 2 == 1, 300 * (rng.random() < 0.01)))
    return out


@pytest.mark.parametrize("kind", ["random", "gather", "mixed"])
@pytest.mark.parametrize("name", standard_names())
def test_no_rule_is_broken_between_any_pair_of_commands(name, kind):
    std = standard(name)
    std = std.replace("timings.nREFI.cycles", std.role_cycles("refresh_cycle") + 500)
    memory, done = run_kernels(std, Controller(), _mixture(kind, std, 500))
    trace = memory.trace(0)
    assert len(done) == 500
    assert len(trace) > 500
    assert faults(std, trace) == []


@pytest.mark.parametrize(
    ("name", "planted"),
    [
        ("LPDDR5-6400", "nRCD"),
        ("LPDDR5-6400", "nRP"),
        ("LPDDR5-6400", "nFAW"),
        ("LPDDR4-3200", "nWTR"),
        ("LPDDR5-6400", "nWTRL"),  # nWTRS is hidden there by the clock synchronisation it makes necessary
        ("LPDDR5-6400", "nRFC"),
    ],
)
def test_a_timing_one_clock_short_is_caught(name, planted):
    """tRCD, tRP, tFAW, tWTR, tRFC: the controller runs with the fault; the checker knows the true standard."""
    true = standard(name).replace("timings.nREFI.cycles", 700)
    if planted == "nFAW":  # four times tRRD is as long as tFAW in every shipped standard, so tRRD hides it
        true = true.replace("timings.nRRDS.cycles", 2).replace("timings.nRRDL.cycles", 2)
    wrong = true.replace(f"timings.{planted}.cycles", true.timings[planted].cycles - 1)
    asked, all_bank = _mixture("random", true, 600), Controller(refresh="refab")
    assert faults(true, run_kernels(true, all_bank, asked)[0].trace(0)) == []
    found = faults(true, run_kernels(wrong, all_bank, asked)[0].trace(0))
    assert found
    for fault in found:
        assert planted in fault[fault.index("(") + 1 : fault.index(")")].split(" ")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda t: [(c + 9 * (n == "ACT2"), n, *place) for c, n, *place in t], "is late"),
        (lambda t: [x for x in t if x[1] != "CAS_RD"], "the data clock has stopped"),
        (lambda t: [x for x in t if x[1] != "ACT2"], "is not open"),
        (lambda t: [(c, n, b, r + (n == "RD"), k) for c, n, b, r, k in t], "is not open"),
    ],
)
def test_the_checker_sees_more_than_distances(change, says):
    std = standard("LPDDR5-6400")
    memory, _ = run_kernels(std, Controller(refresh="noref"), [Asked(0, 3, 0, False, 0)])
    trace = memory.trace(0)
    assert faults(std, trace) == []
    assert any(says in fault for fault in faults(std, sorted(change(trace))))
