"""Nobody sleeps who could go on: checked whenever the fast engine stops to let a shared node decide, and at the end.

A firing node that is not woken is worse than late: what it would give is missing when arbiters and the memory decide.
"""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dchw.compile import kernel
from dchw.engines.fast import engine as fast_engine
from dchw.engines.fast import firings, forks
from dchw.engines.fast.flatten import flatten
from dchw.engines.fast.program_tables import Tables
from dchw.engines.fast.shared import decide, deliver, grant, next_memory_clock
from dchw.engines.memory import FAR, clock_from, cycle_during, memory_state, step
from dchw.program.program import Program
from dchw.quantities import SimulationError
from tests.parity.forks import FEW, FEW_OR_MANY, random_fork
from tests.parity.machines import random_program
from tests.planting import in_plain_python

machines = st.one_of(
    st.randoms(use_true_random=False).map(random_program),
    st.builds(
        random_fork, st.randoms(use_true_random=False), most=st.sampled_from([4, 30]),
        amounts=st.sampled_from([FEW, FEW_OR_MANY]),
    ),
)  # fmt: skip
slow = settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@kernel
def sleeper(t: Tables) -> int:
    """The first firing node that has firings left and all it needs to start the next one, or to hand it over; or -1."""
    node, link, lists = t.node, t.link, t.lists
    for at in range(node.shape[0]):
        firing = node[at].next
        if firing == node[at].count:
            continue
        blocked = False
        started = node[at].started
        begin = node[at].out_of if started else node[at].into
        end = node[at].stop if started else node[at].out_of
        for place in range(begin, end):
            x = t.ends[place]
            if started:
                upto, by, next_at = link[x].given + 1, link[x].given_by, link[x].next_giver
            else:
                upto, by, next_at = link[x].taken + 1, link[x].taken_by, link[x].next_taker
            if next_at != firing:
                continue
            while by >= 0 and lists[by + upto] == firing:
                upto += 1
            if started:
                needs = upto - 1 - link[x].depth
                blocked |= link[x].depth > 0 and needs >= max(link[x].initial, link[x].taken)
            else:
                blocked |= upto > link[x].given
        if not blocked:
            return at
    return -1


def asleep(program: Program) -> list[int]:
    """Firing nodes found asleep, as `firings.advance` goes from one decision to the next."""
    t, memory = flatten(program), memory_state(program)
    found = []
    while True:
        firings._fire(t, 10**12)
        found += [at for at in [int(sleeper(t))] if at >= 0]
        cycle = FAR
        for a in range(len(t.arbiter)):
            t.arbiter[a].dirty = 0
            t.arbiter[a].pending = decide(t, a)
            cycle = min(cycle, int(t.arbiter[a].pending))
        clock = next_memory_clock(t, memory)
        if clock != FAR and cycle_during(memory.node, clock) <= cycle:
            if step(memory, FAR if cycle == FAR else clock_from(memory.node, cycle + 1)):
                deliver(t, memory)
        elif cycle == FAR:
            return found
        else:
            for a in range(len(t.arbiter)):
                while t.arbiter[a].pending == cycle:
                    grant(t, a, cycle)
                    t.arbiter[a].pending = decide(t, a)


@given(machines)
@slow
def test_no_node_sleeps_that_could_go_on(program):
    try:
        fast_engine.run(program)
    except SimulationError as error:
        if "deadlock" not in str(error):
            return  # malformed on purpose
    assert asleep(program) == []


@pytest.mark.parametrize("program", [random_fork(Random(seed), amounts=FEW) for seed in (475, 477)])
def test_the_checker_sees_a_node_that_nobody_woke(program, monkeypatch):
    """A planted fault: lanes done with their fork do not say that they wait for its next item."""
    assert asleep(program) == []
    plain = in_plain_python(firings)
    plain["fork_run"] = in_plain_python(forks, "row.wanted |= ITEM", "pass")["fork_run"]
    monkeypatch.setattr(firings, "_fire", plain["_fire"])
    assert asleep(program) != []
