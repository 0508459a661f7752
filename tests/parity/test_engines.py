"""Do the two engines agree on everything, and do both follow the rules?

Three implementations run the same random programs: the reference engine (processes), the fast engine (recurrences)
and a loop over cycles that knows only the text of the rules.
"""

from __future__ import annotations

from random import Random

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dchw.engines import reference
from dchw.engines.difference import first_difference
from dchw.engines.fast import engine as fast_engine
from dchw.engines.result import Timing
from dchw.program.program import FiringNode, Program
from dchw.quantities import SimulationError
from tests.oracles.engine import Machine, StuckError
from tests.parity.machines import Scale, random_program

programs = st.randoms(use_true_random=False).map(random_program)
larger = st.randoms(use_true_random=False).map(lambda rng: random_program(rng, Scale(nodes=9, firings=25, links=16)))
quick = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def outcome(engine, program: Program, **options) -> Timing | str:
    """A recorded run, or the text of the deadlock."""
    try:
        return engine.run(program, record=True, **options)
    except SimulationError as error:
        return str(error)


def assert_equal(one: Timing | str, other: Timing | str, program: Program) -> None:
    if isinstance(one, str) or isinstance(other, str):
        assert one == other
    else:
        assert first_difference(one, other, program) is None


@given(programs)
@quick
def test_the_reference_engine_follows_the_rules_cycle_by_cycle(program):
    machine = Machine(program)
    result = outcome(reference, program)
    try:
        cycles = machine.run()
    except StuckError:
        assert isinstance(result, str)
        assert result.startswith("run: deadlock after ")
        return
    assert not isinstance(result, str), result
    assert result.cycles == cycles
    for name, log in machine.log.items():
        times = result.nodes[name]
        rows = list(zip(times.start, times.finish, times.waited_for, times.stalled_by, strict=True))
        assert rows == log, name
        assert times.busy + times.stall + times.idle == cycles
    for name, grants in machine.grants.items():
        assert [channel.tolist() for channel in result.arbiters[name].grant] == grants
    for link, queue in zip(program.links, machine.queues, strict=True):
        assert result.links[link.name].peak == queue.peak, link.name
    if program.memory is not None:
        done = machine.state[program.memory.name]["done"]
        assert [port.tolist() for port in result.memory.answered] == done


@given(programs)
@quick
def test_engines_agree(program):
    assert_equal(outcome(reference, program), outcome(fast_engine, program), program)


@given(larger)
@quick
def test_engines_agree_on_larger_machines(program):
    assert_equal(outcome(reference, program), outcome(fast_engine, program), program)


@given(programs, st.randoms(use_true_random=False))
@settings(max_examples=60, deadline=None)
def test_the_order_of_processes_cannot_show(program, rng):
    order = list(range(len(program.nodes)))
    rng.shuffle(order)
    assert_equal(outcome(reference, program), outcome(reference, program, order=order), program)


@given(programs, st.integers(0, 30), st.integers(1, 30))
@settings(max_examples=60, deadline=None)
def test_a_window_keeps_what_happens_inside_it(program, begin, length):
    window = (begin, begin + length)
    whole, part = outcome(fast_engine, program), outcome(fast_engine, program, window=window)
    if isinstance(whole, str):
        assert part == whole
        return
    assert_equal(part, outcome(reference, program, window=window), program)
    for name, times in whole.nodes.items():
        inside = (times.finish > begin) & (times.start < begin + length)
        kept = part.nodes[name]
        np.testing.assert_array_equal(kept.start, times.start[inside])
        np.testing.assert_array_equal(kept.waited_for, times.waited_for[inside])
        assert not inside.any() or np.flatnonzero(inside)[0] == kept.first


@given(programs | larger)
@quick
def test_recording_changes_nothing_else(program):
    """Unrecorded runs take short cuts: whole runs of firings at once."""
    try:
        plain = fast_engine.run(program)
    except SimulationError as error:
        assert_equal(outcome(fast_engine, program), str(error), program)
        return
    recorded = fast_engine.run(program, record=True)
    assert first_difference(plain, recorded, program) is None
    assert plain.cycles == recorded.cycles
    assert all(times.start is None for times in plain.nodes.values())


def test_random_machines_hit_what_parity_is_about():
    """Easy machines would prove nothing: most must stall, some must deadlock, all kinds of nodes must occur."""
    stalled = deadlocked = arbitrated = asked = blocked_by_memory = 0
    for seed in range(300):
        program = random_program(Random(seed))
        result = outcome(fast_engine, program)
        if isinstance(result, str):
            deadlocked += 1
            continue
        stalled += any(times.stall for times in result.nodes.values())
        arbitrated += any(grants.waited for grants in result.arbiters.values())
        asked += result.memory is not None
        if result.memory is not None:
            into = program.links_into(program.memory.name)
            blocked_by_memory += any(np.isin(times.stalled_by, into).any() for times in result.nodes.values())
    assert stalled > 60, stalled
    assert 15 < deadlocked < 200, deadlocked
    assert arbitrated > 30, arbitrated
    assert asked > 30, asked
    assert blocked_by_memory > 5, blocked_by_memory


def test_progress_reaches_all_firings():
    program = random_program(Random(1))
    total = sum(len(node.occupied) for node in program.nodes if isinstance(node, FiringNode))
    for engine in (reference, fast_engine):
        seen: list[tuple[int, int]] = []
        engine.run(program, on_progress=lambda *count: seen.append(count))  # noqa: B023
        assert seen[-1] == (total, total)


def test_a_malformed_program_is_refused_by_both():
    program = random_program(Random(1))
    wrong = Program(clock_hz=0, layers=program.layers, nodes=program.nodes, links=program.links)
    for engine in (reference, fast_engine):
        with pytest.raises(SimulationError, match=r"clock_hz: expected a positive frequency; got 0"):
            engine.run(wrong)
