"""Published accelerators: do the limits hold, does the short cut equal whole runs, and can the checks fail?"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dchw.machines.machine import machine
from dchw.validate import accelerators, eie, eie_runs
from tests.oracles import units as oracle

SMALL = eie_runs.EieLayer(
    name="small",
    inputs=300,
    outputs=700,
    weight_density=0.07,
    activation_density=0.4,
    theoretical_us=1.0,
    actual_us=1.1,
)


@pytest.mark.slow
def test_every_limit_holds() -> None:
    for check in accelerators.run():
        assert check.passed is True, f"{check.title}: {check.limits}"


def test_the_six_layers() -> None:
    layers = {layer.name: layer for layer in eie_runs.eie_layers()}
    assert list(layers) == ["Alex-6", "Alex-7", "Alex-8", "VGG-6", "VGG-7", "VGG-8"]
    assert (layers["VGG-6"].inputs, layers["VGG-6"].outputs) == (25088, 4096)
    assert layers["VGG-6"].weight_density == 0.04


@settings(max_examples=40)
@given(
    st.integers(1, 12).flatmap(
        lambda elements: st.lists(
            st.lists(st.integers(0, 7), min_size=elements, max_size=elements), min_size=1, max_size=25
        )
    ),
    st.integers(1, 10),
)
def test_recurrence_equals_a_loop_over_cycles(work: list[list[int]], depth: int) -> None:
    _, free = oracle.broadcast(work, depth)
    assert int(eie.broadcast_cycles(np.array(work, np.int64), depth)) == max(free)


@pytest.mark.parametrize("depth", [1, 2, 8])
def test_whole_runs_equal_the_recurrence(depth: int) -> None:
    target = machine("eie-64pe-45nm").replace("pe_array.queue_depth", depth)
    check = eie.whole_runs([SMALL], target)
    assert check.passed is True
    assert check.table["engine_cycles"][0] > check.table["entries"][0] * SMALL.activation_density / 64


def test_a_wrong_queue_depth_breaks_the_check(monkeypatch: pytest.MonkeyPatch) -> None:
    right = eie.broadcast_cycles
    monkeypatch.setattr(eie, "broadcast_cycles", lambda work, depth: right(work, depth + 1))
    assert eie.whole_runs([SMALL], machine("eie-64pe-45nm").replace("pe_array.queue_depth", 1)).passed is False


def test_entries_per_element_by_hand() -> None:
    # 2 elements, rows 0..79: element 0 has rows 0, 2, .. 78 (40 rows), element 1 the odd ones
    nonzeros = np.zeros((2, 80), np.bool_)
    nonzeros[0, 64] = True  # row 32 of element 0: 32 zeros before it are two fillers and a gap of 0
    nonzeros[0, 1] = True  # row 0 of element 1: no filler
    nonzeros[1, 62] = True  # row 31 of element 0: 31 zeros are one filler and a gap of 15
    np.testing.assert_array_equal(eie.entries_per_element(nonzeros, 2), [[3, 1], [2, 0]])
    assert eie.entries_per_element(nonzeros, 1).tolist() == [[1 + 1 + 3], [1 + 3]]  # gaps of 1 and 62, and of 62


def test_expected_entries_are_the_mean_of_random_ones() -> None:
    drawn = [
        eie.entries_per_element(eie.random_nonzeros(SMALL, np.random.default_rng(seed)), 8).sum() for seed in range(60)
    ]
    mean, error = np.mean(drawn), np.std(drawn) / np.sqrt(len(drawn))
    assert abs(mean - eie.expected_entries(SMALL, 8)) < 4 * error


def test_matching_finds_the_density() -> None:
    target = machine("eie-64pe-45nm")
    layer = eie.matched(SMALL, target)
    wanted = SMALL.theoretical_us * 1e-6 * target.clock_hz * 64
    assert eie.expected_entries(layer, 64) == pytest.approx(wanted, rel=1e-9)


def test_times_off_by_a_fifth_break_the_limits() -> None:
    target = machine("eie-64pe-45nm")
    layer = eie_runs.eie_layers()[-1]
    honest = eie.times([layer], target, seeds=1)
    assert honest.passed is True
    assert eie.times([replace(layer, actual_us=1.2 * layer.actual_us)], target, seeds=1).passed is False


def test_idle_share_falls_with_depth_and_is_largest_in_step() -> None:
    table = eie.idle_share([eie_runs.eie_layers()[-1]]).table
    shares = table[["in_step", *(f"depth_{depth}" for depth in eie.DEPTHS)]].iloc[0].to_numpy(float)
    assert (np.diff(shares) <= 0).all()
    assert shares[-1] >= 0


def test_the_example_has_its_number_of_weights() -> None:
    network = accelerators.mlp(0.95, 0)
    assert sum(layer.codes.size for layer in network.layers) == 535_040
    assert 1 - sum(layer.nonzeros for layer in network.layers) / 535_040 == pytest.approx(0.95, abs=1e-3)


def test_decoder_cycles_within_limits() -> None:
    check = accelerators.weight_decoder()
    assert check.passed is True
    dense, pruned = check.table["decoder_cycles"]
    # 535,040 weights at 8 and at 32 a cycle, two cycles to open each chunk, and the code tables
    assert 535_040 / 8 < dense < 535_040 / 8 * 1.03
    assert 535_040 / 32 * 0.99 < pruned < 535_040 / 32 * 1.03
