"""Does every machine that ships load, say where it comes from, and run a small network?"""

from __future__ import annotations

import pytest

import dchw
from dchw.costs import unit_costs
from dchw.machines.machine import machine, preset_names
from dchw.vocabulary import Event
from tests.mapping.layers import convolution, fully_connected

NETWORKS = {"fc": fully_connected(90, 120), "conv": convolution(rows=24)}
PRESETS = ("eie-64pe-45nm", "embedded-lpddr4", "ethos-u85-like", "phone-lpddr4x", "phone-lpddr5x")


def test_the_presets() -> None:
    assert set(PRESETS) <= set(preset_names())


@pytest.mark.parametrize("name", preset_names())
def test_says_its_origin(name: str) -> None:
    preset = machine(name)
    assert preset.name == name
    assert len(preset.source) > 80
    assert len(preset.description) > 20


@pytest.mark.parametrize("name", preset_names())
@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("storage", ["huffman", "dense-int8"])
def test_runs_a_small_network(name: str, network: str, storage: str) -> None:
    result = dchw.simulate(NETWORKS[network], name, storage)
    assert result.cycles > 0
    assert result.energy_pj > 0
    assert result.dram_bytes > 0


def test_warm_weights_stay_in_every_preset() -> None:
    for name in preset_names():
        warm = dchw.simulate(NETWORKS["fc"], name, "huffman", warm=True)
        assert warm.dram_bytes < dchw.simulate(NETWORKS["fc"], name, "huffman").dram_bytes


def test_decode_rates_are_arms() -> None:
    # ethos-u-vela 5.2.0: 8 weights a cycle at 50 % zeros or fewer, 32 at 90 % or more
    rate = machine("ethos-u85-like").huffman.rate
    assert rate is not None
    assert [rate.at(zeros) for zeros in (0.0, 0.5, 0.7, 0.9, 0.95)] == [8, 8, pytest.approx(20), 32, 32]


def test_bandwidths_are_what_the_sources_say() -> None:
    per_cycle = {name: machine(name).dram.peak_bytes_per_cycle(machine(name).clock_hz) for name in PRESETS}
    # MT/s x 2 bytes x channels, at a machine clock of 1 GHz; clock periods of the standards are whole picoseconds
    assert per_cycle["embedded-lpddr4"] == pytest.approx(6.4, rel=0.01)
    assert per_cycle["ethos-u85-like"] == pytest.approx(12.8, rel=0.01)
    assert per_cycle["phone-lpddr4x"] == pytest.approx(34.1, rel=0.01)
    assert per_cycle["phone-lpddr5x"] == pytest.approx(68.3, rel=0.01)


def test_compute_at_16_nm_is_not_cheaper_than_at_7_nm() -> None:
    """One scaling method for both phones: studies across them compare parts, not methods."""
    old, new = (unit_costs(dchw.machine(f"phone-{part}"), "huffman") for part in ("lpddr4x", "lpddr5x"))
    for event in (Event.MAC, Event.ACCUMULATOR_ACCESS, Event.INDEX_ACCUMULATE):
        assert old["pe_array"].energy_pj[event].nominal >= new["pe_array"].energy_pj[event].nominal
