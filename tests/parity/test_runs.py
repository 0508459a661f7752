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

from dchw.compile import kernel
from dchw.engines import reference
from dchw.engines.difference import first_difference
from dchw.engines.fast import engine as fast_engine
from dchw.engines.fast import firings, forks, joins, lanes, queues, runs, singles
from dchw.engines.fast import flatten as flatten_module
from dchw.engines.fast.ahead import fetch
from dchw.engines.fast.flatten import flatten
from dchw.engines.memory import memory_state
from dchw.engines.result import Timing
from dchw.program.program import Program
from dchw.quantities import SimulationError
from tests.parity.broadcast import broadcast_program, random_work
from tests.parity.forks import FEW, FEW_OR_MANY, random_fork, stopping_fork
from tests.parity.joins import random_join
from tests.planting import in_plain_python

machines = st.builds(
    random_fork, st.randoms(use_true_random=False), most=st.sampled_from([4, 30, 150]),
    amounts=st.sampled_from([FEW, FEW_OR_MANY]),
)  # fmt: skip
joined = st.builds(
    random_join, st.randoms(use_true_random=False), most=st.sampled_from([4, 30, 150]), steady=st.booleans()
)
slow = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def outcome(engine, program: Program) -> Timing | str:
    try:
        return engine.run(program)
    except SimulationError as error:
        return str(error)


@given(machines | joined)
@slow
def test_forks_joins_and_near_misses_equal_the_reference_engine(program):
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
    firings.advance(tables, memory_state(program), 10**12)
    return tables.run.with_forks / tables.run.done, tables.run.in_runs / tables.run.done


@pytest.mark.compiled
def test_random_machines_reach_the_short_cuts_and_miss_them():
    """Machines that all took one way would prove nothing about the other."""
    with_forks = [shares(random_fork(Random(seed), most=30 if seed < 200 else 100)) for seed in range(240)]
    assert sum(fork > 0.5 for fork, _ in with_forks) > 18
    assert sum(0 < fork <= 0.5 for fork, _ in with_forks) > 50
    assert sum(fork == 0 for fork, _ in with_forks) > 18
    assert sum(run > 0.2 for _, run in with_forks) > 60


@pytest.mark.parametrize("decoders", [0, 2, 8])
def test_a_broadcast_array_is_done_with_its_fork(decoders):
    work = random_work(np.random.default_rng(1), 200, 64, 8, 0.3)
    fork, run = shares(broadcast_program(work, depth=4, decoders=decoders))
    assert fork > 0.9
    assert fork + run > 0.97


@pytest.mark.compiled
def test_random_joins_reach_the_short_cut_and_miss_it(monkeypatch):
    """What is done in runs with the kernel for joins, beyond what is without it."""
    programs = [random_join(Random(seed), most=30 if seed < 100 else 100) for seed in range(120)]
    with_joins = [shares(program)[1] for program in programs]
    monkeypatch.setattr(flatten_module, "FEW_LINKS", 10**6)
    gained = [share - shares(program)[1] for program, share in zip(programs, with_joins, strict=True)]
    assert sum(share > 0.1 for share in gained) > 18
    assert sum(0 < share <= 0.1 for share in gained) > 18
    assert sum(share == 0 for share in gained) > 9


def test_what_is_fetched_ahead_need_not_exist():
    """Lists end, and are read up to their end: bringing nearer what lies behind changes nothing."""

    @kernel
    def fetched(lists):
        for at in (0, lists.size, 10**12, -(10**12)):
            fetch(lists, at)
        return lists.sum()

    assert fetched(np.arange(5, dtype=np.int32)) == 10


@cache
def programs() -> list[Program]:
    """Broadcast arrays in which every queue is felt, random ones and near misses."""
    made = []
    for decoders, buffer, depth in ((0, 1, 2), (2, 3, 2), (4, 2, 1), (1, 2, 2)):
        work = random_work(np.random.default_rng(decoders), 30, 32, 4, 0.3)
        made.append(broadcast_program(work, depth=depth, decoders=decoders, buffer=buffer))
    made += [random_fork(Random(seed), misses=False, most=30 if seed < 60 else 100) for seed in range(100)]
    made += [random_join(Random(seed), misses=seed < 30, most=30 if seed < 60 else 100) for seed in range(90)]
    made += [random_join(Random(seed), misses=seed < 10, most=30, steady=True) for seed in range(40)]
    made += [random_fork(Random(seed)) for seed in range(100)]
    made.append(random_fork(Random(121), amounts=FEW))  # comes to a standstill with servers held
    assert len(made) == STANDSTILL + 1
    return made


@cache
def right_outcome(number: int) -> Timing | str:
    return outcome(reference, programs()[number])


FORKS, JOINS, LANES, RUNS, SINGLES, QUEUES = forks, joins, lanes, runs, singles, queues
FAULTS = {
    "slot a cycle early": (QUEUES, "ring[place(q, item)] = start + 1", "ring[place(q, item)] = start"),
    "slot a cycle late": (QUEUES, "ring[place(q, item)] = start + 1", "ring[place(q, item)] = start + 2"),
    "queue one deeper": (QUEUES, "needs = item - q.depth", "needs = item - q.depth - 1"),
    "latency one longer": (QUEUES, "= handover + q.hold", "= handover + q.hold + 1"),
    "fill one too many": (QUEUES, "max(peak, 1)", "max(peak, 2)"),
    "fill a cycle late": (QUEUES, "> held_from", ">= held_from"),
    "fill of a full queue only": (QUEUES, "peak != q.depth or", "peak == q.depth or"),
    "giver one longer": (RUNS, "busy_until = g.free + cycles - 1", "busy_until = g.free + cycles"),
    "giver's slot forgotten": (RUNS, "handover = max(busy_until, slot)", "handover = busy_until"),
    "giver's stall forgotten": (RUNS, "g.stall + handover - busy_until", "g.stall"),
    "giver's last firing only": (RUNS, "if g.giver > g.firing:", "if False:"),
    "giver's own work forgotten": (RUNS, "if g.giver < g.quiet else", "if g.giver <= g.quiet else"),
    "fork's slots of one lane only": (FORKS, "slot = max(slot, slot_visible(", "slot = max(0, slot_visible("),
    "fork's block one longer": (FORKS, "min(BLOCK, q.depth)", "min(BLOCK, q.depth + 1)"),
    "fork's items handed over early": (FORKS, "handed[count] = fork.free - 1", "handed[count] = fork.free - 2"),
    "fork's stall forgotten": (FORKS, "stall += fork.stall", "stall += 0"),
    "fork's blocks not waited for": (FORKS, "until = min(until, link[ends[end]].next_taker)", "pass"),
    "fork's other links forgotten": (FORKS, "until = min(until, link[x].next_giver)", "pass"),
    "lane's column not waited for": (FORKS, "visible = ring[place(q, item)]", "visible = 0"),
    "lane's column forgotten": (FORKS, "item, taker = item + 1, after", "item, taker = item, after"),
    "lane's entry not waited for": (FORKS, "start = max(start, other_visible)", "pass"),
    "lane's firing one longer": (FORKS, "finish = start + (constant", "finish = start + 1 + (constant"),
    "lane's idle forgotten": (FORKS, "idle += start - finish", "idle += 0"),
    "lane's sums not handed over": (FORKS, "while firing < quiet:", "while firing < quiet + 1:"),
    "lane's peak forgotten": (FORKS, "peak = take_item(ring, q,", "_ = take_item(ring, q,"),
    "lane left behind not woken": (FORKS, "wake(t.run, node, t.arbiter, lane.node)", "pass"),
    "entries' peak forgotten": (FORKS, "other_peak = take_item(", "_ = take_item("),
    "lane's several items taken for one": (FORKS, "if after == firing or other_after == firing:", "if False:"),
    "server's entry a cycle early": (
        FORKS,
        "give_item(ring, q, item, g.free - 1)",
        "give_item(ring, q, item, g.free - 2)",
    ),
    "server's slot forgotten": (FORKS, "slot_visible(ring, q, item))", "0)"),
    "server's queue one deeper": (FORKS, "q.initial) + q.depth if", "q.initial) + q.depth + 1 if"),
    "server's stall forgotten": (FORKS, "stall += g.stall", "stall += 0"),
    "server held, not started": (FORKS, "giver, free, 1, free", "giver, free, 0, free"),
    "server's own work forgotten": (
        FORKS,
        "_next_served(t.lane, p, server.serves)",
        "_next_served(t.lane, p, server.serves + 1)",
    ),
    "server gives one of two": (FORKS, "min(until, others), lane[other]", "until, lane[other]"),
    "server's several items given for one": (FORKS, "or after == g.giver:", "or False:"),
    "server's chunk forgotten": (SINGLES, "if upto > row.given:", "if upto > row.given + 1:"),
    "single firing's idle forgotten": (SINGLES, "span.idle += start", "span.idle += 0 * start"),
    "single firing's stall forgotten": (SINGLES, "span.stall += handover - busy_until", "span.stall += 0"),
    "single firing's layer not left": (SINGLES, "node.span += 1", "node.span += 0"),
    "decoder's latency one shorter": (RUNS, "visible = source.free - 1 + q.hold", "visible = source.free - 2 + q.hold"),
    "decoder's chunk not waited for": (RUNS, "until = min(until, link[x].next_taker)", "pass"),
    "decoder's other target not waited for": (RUNS, "until = min(until, link[x].next_giver)", "pass"),
    "lanes' latency one longer": (
        LANES,
        "visible, latest = fork.free - 1 + q.hold",
        "visible, latest = fork.free + q.hold",
    ),
    "lanes' items given before a cycle early": (LANES, "item + done)], 0", "item + done)] - 1, 0"),
    "lanes' earlier slots forgotten": (LANES, "if k < depth:", "if k < 0:"),
    "lanes' queue one deeper": (LANES, "slot[done + depth] = latest + 1", "slot[done + depth] = 0"),
    "lanes' slot a cycle early": (LANES, "slot[done + depth] = latest + 1", "slot[done + depth] = latest"),
    "lanes' idle forgotten": (LANES, "idle[p] += start - finish[p]", "idle[p] += 0"),
    "lanes' item one longer": (LANES, "finish[p] = start + cycles[p]", "finish[p] = start + cycles[p] + 1"),
    "lanes' firings one short": (
        LANES,
        "service(lists, occupied, constant, begun, until)",
        "service(lists, occupied, constant, begun, begun + 1)",
    ),
    "lanes' sums not handed over": (LANES, "min(lane.quiet, ", "min(lane.quiet + 1, "),
    "lanes' entries not waited for": (LANES, "min(lane.quiet, lane.other_taker)", "lane.quiet"),
    "lanes' slots not kept": (
        LANES,
        "max(count - q.mask - 1, 0) if lane.peak == q.depth",
        "count if lane.peak == q.depth",
    ),
    "run's item not waited for": (RUNS, "if visible > start:", "if visible > start + 1:"),
    "run's column forgotten": (RUNS, "start = max(start, other_visible)", "pass"),
    "run's column taken late": (RUNS, "other_visible, begun_at, other_peak", "other_visible, start, other_peak"),
    "run's firing one longer": (
        RUNS,
        "start += constant if constant else lists[np.uint64(occupied + firing)]",
        "start += 1 + constant if constant else lists[np.uint64(occupied + firing)]",
    ),
    "run's firings without items one longer": (
        RUNS,
        "start += service(lists, occupied, constant, firing, alone)",
        "start += 1 + service(lists, occupied, constant, firing, alone)",
    ),
    "run's idle forgotten": (RUNS, "waited += visible - start", "waited += 0"),
    "run's idle for a column forgotten": (RUNS, "waited, until = start - finish,", "waited, until = 0,"),
    "join's item not waited for": (JOINS, "start = max(start, visible)\n    for", "start = max(start, 0)\n    for"),
    "join's latency one longer": (JOINS, "= source.free - 1 + q.hold", "= source.free + q.hold"),
    "join's slot not waited for": (JOINS, "after, slot_visible(ring, q, row.given))", "after, 0)"),
    "join's slot a cycle early": (
        JOINS,
        " ring[place(q, row.taken)], start, row.peak)",
        " ring[place(q, row.taken)], start - 1, row.peak)",
    ),
    "join's idle forgotten": (JOINS, "[node.occupied + firing]), start - finish", "[node.occupied + firing]), 0"),
    "join's firing one longer": (
        JOINS,
        "return 1, start, start + (node.constant",
        "return 1, start, start + 1 + (node.constant",
    ),
    "join's peak forgotten": (
        JOINS,
        "link.peak = row.taken, row.next_taker, row.peak",
        "link.peak = row.taken, row.next_taker, 0",
    ),
    "join's stall forgotten": (JOINS, "row.giver, row.free, row.stall)", "row.giver, row.free, 0)"),
    "join's sums not handed over": (JOINS, "while firing < quiet:", "while firing <= quiet:"),
    "join's source not woken": (JOINS, "if fired and link.wanted & SLOT:", "if not fired and link.wanted & SLOT:"),
    "join's several items taken for one": (
        JOINS,
        "row.taken, firing) == firing:",
        "row.taken, firing) == -firing - 1:",
    ),
    "joined links' slots forgotten": (JOINS, "handover = max(busy_until, slots[j])", "handover = busy_until"),
    "joined links' earlier slots forgotten": (JOINS, "in range(min(kind.depth, count)):", "in range(0):"),
    "joined links' slot a cycle early": (JOINS, ":even] = start + 1", ":even] = start"),
    "joined links' slots not kept": (JOINS, "= room[_START, k] + 1", "= 0"),
    "joined links' latency one longer": (JOINS, "latest + hold)", "latest + hold + 1)"),
    "joined links' stall forgotten": (JOINS, "stall[j] += handover - busy_until", "stall[j] += 0"),
    "joined links' idle forgotten": (JOINS, "waited += start - finish", "waited += 0"),
    "joined links' firing one longer": (
        JOINS,
        "finish = start + (node.constant",
        "finish = start + 1 + (node.constant",
    ),
    "joined links' chunk not waited for": (
        JOINS,
        "row.quiet - row.giver)\n        if",
        "row.quiet + 1 - row.giver)\n        if",
    ),
    "joined links' columns not waited for": (JOINS, "max(start, visible) if visible", "start if visible"),
    "joined links' columns not taken": (JOINS, "firing + done, start)", "firing + done + 1, start)"),
    "joined links' last firing forgotten": (
        JOINS,
        "start + (node.constant if node.constant else t.lists[node.occupied + firing + done])",
        "start + 1",
    ),
    "joined links' several items taken for one": (
        JOINS,
        "return one_each(lists, row.taken_by,",
        "return True or one_each(lists, row.taken_by,",
    ),
    "giving ahead of a slot": (
        RUNS,
        "handover[turn] = max(handover[turn], slot_visible(ring, q, item + turn))",
        "pass",
    ),
    "giving one longer": (RUNS, "free = handover[turn] + 1", "free = handover[turn] + 2"),
    "giving's latency one longer": (
        RUNS,
        "give_item(ring, q, item + turn, handover[turn])",
        "give_item(ring, q, item + turn, handover[turn] + 1)",
    ),
}


STANDSTILL = 334
"""The last of the programs; of others that end so nothing is asked."""
SEEN_BY = {
    "fork's other links forgotten": 237,
    "lane's several items taken for one": 263,
    "server's several items given for one": 265,
    "server held, not started": STANDSTILL,
    "lanes' sums not handed over": 91,
    "join's sums not handed over": 104,
    "join's several items taken for one": 113,
    **dict.fromkeys((name for name in FAULTS if name.startswith("joined links'")), 196),
    "joined links' several items taken for one": 128,
    "joined links' columns not waited for": 194,
    "joined links' columns not taken": 194,
    "joined links' chunk not waited for": 212,
}
"""The program that is tried first, where the first ones do not see a fault: plain Python takes long for many."""


def with_fault(fault: str) -> dict[str, Any]:
    """What the engine calls, in plain Python and with a fault in one of its modules."""
    faulty, right, wrong = FAULTS[fault]
    plain: dict[str, Any] = {}
    for module in (QUEUES, RUNS, SINGLES, LANES, FORKS, JOINS, firings):  # each with those before it
        made = in_plain_python(module, right, wrong) if module is faulty else in_plain_python(module)
        made |= {name: kernel for name, kernel in plain.items() if name in made}
        plain |= {name: value for name, value in made.items() if getattr(value, "__module__", "") == module.__name__}
    return plain


@pytest.mark.compiled
@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_in_a_short_cut_is_caught_by_name(fault, monkeypatch):
    """By the name of a node or link; who merely sleeps waits for nothing, and a standstill names nobody then."""
    monkeypatch.setattr(firings, "advance", with_fault(fault)["advance"])
    for number in (SEEN_BY.get(fault, 0), *range(STANDSTILL + 1)):
        result = right_outcome(number)
        if isinstance(result, str) and number != STANDSTILL:
            continue
        difference = difference_of(programs()[number], result)
        if difference is not None:
            assert re.match(r"(link )?'[^']+': |layer_finish: |run: deadlock after .* firings: [';]", difference), (
                difference
            )
            return
    pytest.fail(f"{fault}: not seen")


def difference_of(program: Program, right: Timing | str) -> str | None:
    found = outcome(fast_engine, program)
    if isinstance(right, str) or isinstance(found, str):
        return None if right == found else str(found)
    return first_difference(right, found, program)
