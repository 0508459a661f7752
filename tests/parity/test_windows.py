"""Is a run in windows the run of the whole program, wherever it is cut, on both engines? Are faults in that seen?"""

from __future__ import annotations

import inspect
from dataclasses import replace
from functools import partial
from random import Random
from types import ModuleType

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import dchw
from dchw.engines import reference
from dchw.engines.difference import first_difference
from dchw.engines.fast import carried_queues, firings, flat_lists, windowed
from dchw.engines.fast import engine as fast_engine
from dchw.engines.result import Timing
from dchw.formats import STORAGE_FORMATS
from dchw.lowering.lower import LoweredWindows, lower
from dchw.mapping.workload import map_network
from dchw.program.outline import Outlined, outline_of
from dchw.program.program import Program
from dchw.program.windows import Window
from dchw.quantities import SimulationError
from tests.mapping.layers import convolution, small_machine
from tests.parity.cutting import Cut
from tests.parity.forks import random_fork
from tests.parity.machines import Scale, random_program
from tests.parity.test_lpddr import random_lpddr_program
from tests.parity.test_planted_faults import congested
from tests.planting import in_plain_python

randoms = st.randoms(use_true_random=False)
programs = st.one_of(
    randoms.map(random_program),
    randoms.map(lambda rng: random_program(rng, Scale(nodes=9, firings=25, links=16))),
    randoms.map(random_lpddr_program),
    randoms.map(random_fork),
)
slow = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def run_whole(program: Program) -> Timing | None:
    try:
        return fast_engine.run(program)
    except SimulationError:  # a deadlock; malformed programs are not among these
        return None


def in_windows(cut: Cut) -> Timing | None:
    return windowed.run_windows(cut, calls=fast_engine.FIRINGS_PER_CALL)


@given(programs, st.integers(0, 2**32))
@slow
def test_the_fast_engine_runs_any_cut_as_the_whole(program: Program, seed: int) -> None:
    whole, cut = run_whole(program), in_windows(Cut(program, seed))
    if whole is None or cut is None:
        assert whole is cut
    else:
        assert first_difference(whole, cut, program) is None


@given(programs, st.integers(0, 2**32))
@settings(max_examples=50, deadline=None)
def test_a_digest_does_not_know_windows(program: Program, seed: int) -> None:
    assert Cut(program, seed).digest == replace(program).digest


@pytest.mark.parametrize("seed", range(12))
def test_a_layer_whose_first_firing_has_begun_in_the_window_before_began_then(seed: int) -> None:
    """Found by random machines: one that waited for a slot at a cut was said to begin where the one before ended."""
    program = random_fork(Random(1235))
    assert first_difference(run_whole(program), in_windows(Cut(program, seed)), program) is None


def test_queues_of_a_fork_with_and_without_initial_items_left_are_no_fork() -> None:
    """Found by random machines: one lane began with two items that hold no slot, and the other's slots were its."""
    program = random_fork(Random(301147))
    one, other = run_whole(program), in_windows(Cut(program, 0))
    assert one is not None
    assert other is not None
    assert first_difference(one, other, program) is None


@given(programs, st.integers(0, 2**32))
@settings(max_examples=75, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_the_reference_engine_runs_any_cut_as_the_whole(program: Program, seed: int) -> None:
    whole = run_whole(program)
    if whole is None:
        with pytest.raises(SimulationError, match="deadlock"):
            reference.run(Cut(program, seed))
    else:
        assert first_difference(whole, reference.run(Cut(program, seed)), program) is None


@pytest.mark.parametrize("placement", ["use", "load"])
@pytest.mark.parametrize("storage", STORAGE_FORMATS)
def test_networks_lowered_stage_by_stage_run_as_the_whole(storage: str, placement: str) -> None:
    network = convolution(rows=64, channels=16, size=12, density=0.9)
    target = small_machine(weight_sram__size_bytes="8 KiB", huffman__placement=placement)
    workload = map_network(network, target, storage)
    program, lowered = lower(workload), Outlined(LoweredWindows(workload, firings=1))
    cut = windowed.run_windows(lowered, calls=1000)
    assert cut is not None
    assert first_difference(fast_engine.run(program), cut, program) is None
    assert lowered.digest == program.digest
    whole, outline = outline_of(program), lowered.outline()
    assert {node.name: node.firings.tolist() for node in whole.firing} == {
        node.name: node.firings.tolist() for node in outline.firing
    }
    assert [node.name for node in whole.firing] == [node.name for node in outline.firing]
    assert (whole.asking, whole.layers) == (outline.asking, outline.layers)


def test_a_whole_network_and_its_reference_run_agree_in_windows() -> None:
    network = dchw.load(dchw.__path__[0] + "/../models/lenet_5.dchw")
    workload = map_network(network, dchw.machine("phone-lpddr5x"), "huffman")
    program, lowered = lower(workload), LoweredWindows(workload, firings=1)
    assert sum(1 for _ in lowered.windows()) == len(workload.stages)
    whole = fast_engine.run(program)
    assert first_difference(whole, fast_engine.run(lowered), program) is None


@pytest.mark.parametrize("storage", ["huffman", "csr", "dense-int8"])
def test_progress_knows_about_how_much_there_is(storage: str) -> None:
    network = dchw.load(dchw.__path__[0] + "/../models/lenet_5.dchw")
    lowered = LoweredWindows(map_network(network, dchw.machine("phone-lpddr5x"), storage), firings=1)
    computing = ("pe", "huffman", "activation_sram.broadcast")
    done = sum(times.firings for name, times in fast_engine.run(lowered).nodes.items() if name.startswith(computing))
    assert 0.8 * done < lowered.expected < 1.2 * done, (done, lowered.expected)


def test_what_is_recorded_is_recorded_whole() -> None:
    program = random_program(Random(1))
    cut = fast_engine.run(Cut(program, 3), record=True)
    assert first_difference(fast_engine.run(program, record=True), cut, program) is None


FAULTS = [  # in the kernels
    (firings, "if run.unfinished and _wanting(t):", "if False:"),
    (firings, "if x < 0 or link[x].given > link[x].taken:", "if x < 0 and link[x].given > link[x].taken:"),
    (firings, "if begun < firing == count:", "if False:"),
]
CARRIED = [  # in what goes from one set of tables to the next
    (windowed, "= node.finish, node.started, node.start", "= node.finish, 0, node.start"),
    (carried_queues, 'for name in ("taken", "peak"):', 'for name in ("taken",):'),
    (carried_queues, "np.maximum(given - 3 * depth - 1, 0)", "taken"),
    (carried_queues, "item + row.shifted", "item"),
    (carried_queues, "min(row.mask, to.mask)", "0"),
    (carried_queues, "yield self._taken_by[number], *firing[link.target]", "yield self._taken_by[number], 0, -1"),
    (flat_lists, "less - taken), out", "less), out"),
    (flat_lists, "row == range(less, less + count)", "row.start == less"),
    (windowed, "tables.port_free[:] = self._ports", "pass"),
    (windowed, 'for name in ("last", "grants", "waited")', 'for name in ("grants", "waited")'),
    (windowed, "+= cycles - left, stall", "+= cycles, stall"),
    (windowed, "- left, stall, idle", "- left, 0, idle"),
    (windowed, "run.memory, calls", "memory_state(run._piece), calls"),
]  # fmt: skip


def fair() -> Program:
    """As `congested`, with two clients of the arbiter that want it in every cycle."""
    program = congested()
    nodes = [
        replace(node, occupied=np.ones_like(node.occupied)) if "sink" in node.name else node  # type: ignore[union-attr]
        for node in program.nodes
    ]
    return replace(program, nodes=tuple(nodes))


def caught(run: object) -> bool:
    for seed in range(400):
        scale = Scale(nodes=7, firings=20, links=12)
        program = [congested, fair, partial(random_program, Random(seed), scale)][min(seed % 5, 2)]()
        whole = run_whole(program)
        if whole is None:
            continue
        try:
            cut = run(Cut(program, seed), calls=10**9)  # type: ignore[operator]
        except (SimulationError, IndexError, ValueError, AssertionError):
            return True
        if cut is None or first_difference(whole, cut, program) is not None:
            return True
    return False


@pytest.mark.parametrize(("module", "right", "wrong"), FAULTS)
def test_a_fault_in_when_to_ask_is_caught(
    module: object, right: str, wrong: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    space = in_plain_python(module, right, wrong)  # type: ignore[arg-type]
    monkeypatch.setattr(firings, "advance", space["advance"])
    assert caught(windowed.run_windows)


@pytest.mark.parametrize(("module", "right", "wrong"), CARRIED)
def test_a_fault_in_what_is_carried_is_caught(
    module: ModuleType, right: str, wrong: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = inspect.getsource(module)
    assert source.count(right) == 1, right
    space = {"__name__": module.__name__}
    monkeypatch.setattr("dchw.compile.config.DISABLE_JIT", True)  # what is cached of a kernel is without the fault
    exec(compile(source.replace(right, wrong), str(module.__file__), "exec"), space)
    for name in ("CarriedQueues", "FlatLists", "Pieces"):
        for user in (windowed, carried_queues):
            if hasattr(user, name) and name in space:
                monkeypatch.setattr(user, name, space[name])
    assert caught(space.get("run_windows", windowed.run_windows))


def test_a_promise_that_is_not_kept_is_caught() -> None:
    class Lying(Cut):
        def windows(self):
            for window in super().windows():
                into = {link.target: link.name for link in window.piece.links}
                coming = {name: into.get(name) for name in window.coming}
                yield Window(piece=window.piece, coming=coming)

    seen = 0
    for seed in range(200):
        program = random_program(Random(seed), Scale(nodes=7, firings=20, links=12))
        if run_whole(program) is None:
            continue
        try:
            assert in_windows(Lying(program, seed)) is not None
        except SimulationError as error:
            seen += "as was said before; got none" in str(error)
    assert seen > 20, seen


def test_a_piece_with_a_list_out_of_order_is_refused() -> None:
    class Wrong(Cut):
        def windows(self):
            for window in super().windows():
                nodes = tuple(
                    replace(node, occupied=0 * node.occupied) if hasattr(node, "layer") else node
                    for node in window.piece.nodes
                )
                yield replace(window, piece=replace(window.piece, nodes=nodes))

    with pytest.raises(SimulationError, match="expected at least one cycle per firing; got 0"):
        in_windows(Wrong(random_program(Random(1)), 0))
