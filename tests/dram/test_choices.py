"""What is open about a standard is said with its effect: unverified timings, rules of no table, addresses, refresh."""

from __future__ import annotations

import json

import numpy as np
import pytest
from click.testing import CliRunner

import dchw
from dchw.cli import group
from dchw.dram.effects import of_alternatives, share_of_peak, without_unverified_rules
from dchw.dram.energy import energy_each
from dchw.dram.options import Controller, FixedMemory
from dchw.dram.replay import replay
from dchw.dram.standard import standard, standard_names
from dchw.quantities import ConfigError
from dchw.vocabulary import Event

STREAM = (np.arange(40_000, dtype=np.int64) * 32, np.zeros(40_000, bool))


@pytest.mark.parametrize(
    ("name", "least"),
    [
        ("LPDDR4-3200", 0.91),
        ("LPDDR4X-4266", 0.95),
        ("LPDDR5-6400", 0.95),
        ("LPDDR5X-8533", 0.95),
        ("LPDDR6-8533", 0.9),
        ("LPDDR6-10667", 0.9),
    ],
)
def test_a_stream_is_near_peak_with_the_defaults_of_its_standard(name, least):
    run = replay(STREAM, name)
    assert run.share_of_peak >= least
    assert (run.mapping, run.controller.refresh) == (standard(name).defaults.mapping, standard(name).defaults.refresh)
    assert run.share_of_peak >= replay(STREAM, name, mapping="robaracoch", refresh="refab").share_of_peak


def test_what_is_asked_for_comes_before_the_default():
    run = replay(STREAM, "LPDDR5-6400", mapping="mop4clxor", controller=Controller(refresh="refab"))
    assert (run.mapping, run.controller.refresh) == ("mop4clxor", "refab")
    assert run.notes[0].startswith("DRAM addresses mop4clxor, refresh refab (as asked for; LPDDR5-6400 by default ro-")


def test_the_effect_of_other_timings_is_that_of_replaying_with_them():
    std = standard("LPDDR5X-8533")
    order, refresh = std.defaults.mapping, std.defaults.refresh
    (effect,) = of_alternatives(std, order, refresh)
    other = std
    for timing, cycles in std.alternatives[0].timings.items():
        other = other.replace(f"timings.{timing}.cycles", cycles)
    places = np.random.default_rng(0).integers(0, 1 << 28, 1 << 14) // 32 * 32
    for percent, is_write in ((effect.random, np.zeros(1 << 14, bool)), (effect.mixed, np.arange(1 << 14) % 2 == 1)):
        before, after = (replay((places, is_write), part).cycles for part in (std, other))
        assert percent == pytest.approx(100 * (after / before - 1))
    assert effect.random < -10  # the finding this answers: 15 % of random reads rest on tRRD and tFAW
    assert abs(effect.stream) < 1


def test_every_unverified_timing_is_named_with_the_effect_of_others():
    run = replay(STREAM, "LPDDR5X-8533")
    (said,) = [note for note in run.notes if "timings of LPDDR5X-8533 were not compared" in note]
    assert said.startswith(f"{len(run.part.unverified)} of {len(run.part.timings)} ")
    (listed,) = set(run.notes) - set(run.brief_notes)
    assert all(f" {name} {run.part.timings[name].cycles}" in listed for name in run.part.unverified)
    assert listed.count(",") == len(run.part.unverified)
    (effect,) = of_alternatives(run.part, run.mapping, "refpb")
    assert str(effect) in said
    assert "tRRD 3.75 and tFAW 15 ns" in said
    rows = run.to_frame().query("kind == 'unverified_timing_cycles'")
    assert dict(zip(rows["name"], rows["value"], strict=True)) == {
        name: run.part.timings[name].cycles for name in run.part.unverified
    }


def test_a_verified_standard_of_one_rank_has_only_its_choices_to_tell():
    assert len(replay(STREAM, "LPDDR5-6400").notes) == 1
    assert replay(STREAM, FixedMemory(clock="1 GHz", bytes_per_cycle=32, latency=10)).notes == ()


@pytest.mark.parametrize("name", standard_names())
def test_rules_of_no_table_are_announced_where_two_ranks_make_them_bind(name):
    two = standard(name).replace("organisation.ranks", 2)
    assert not standard(name).unverified_rules
    assert len(two.unverified_rules) == sum(rule.sibling for rule in two.constraints.rules)
    (said,) = [note for note in replay(STREAM, two).notes if "in no table" in note]
    assert "added here: keeps data bursts of two ranks apart" in said
    assert str(without_unverified_rules(two, two.defaults.mapping, two.defaults.refresh)) in said
    assert without_unverified_rules(standard(name), "robaracoch", "refab") == (0, 0, 0)


def test_shares_are_those_of_a_longer_stream():
    for name in standard_names():
        long = replay(STREAM, name).share_of_peak
        assert share_of_peak(standard(name), *_defaults(name)) == pytest.approx(long, abs=0.02)


def _defaults(name):
    return standard(name).defaults.mapping, standard(name).defaults.refresh


def test_runs_and_machines_say_it_too(tmp_path):
    network = dchw.Network.from_arrays("one", weights={"fc": np.ones((64, 64), np.float32)})
    run = dchw.simulate(dchw.compress(network, dchw.Recipe(density=0.5)), "phone-lpddr5x")
    assert run.memory.notes == run.notes[-len(run.memory.notes) :]
    assert run.memory.brief_notes == run.brief_notes[-len(run.memory.brief_notes) :]
    assert any("16 of 31 timings of LPDDR5X-8533 were not compared" in note for note in run.notes)
    assert any("nRRDS 6" in note for note in run.notes)
    (tmp_path / "t.trace").write_text("LD 0x0\n")
    asked = CliRunner().invoke(group, ["replay", str(tmp_path / "t.trace"), "--dram", "LPDDR5X-8533", "--json"])
    assert json.loads(asked.stdout)["notes"] == list(replay(tmp_path / "t.trace", "LPDDR5X-8533").notes)


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (
            "alternatives",
            [{"timings": {"nRRD": 4}, "source": "kept"}],
            "expected timings with verified: false; got 'nRRD'",
        ),
        ("alternatives", [{"timings": {"nRRDS": 4}, "source": "hearsay"}], "sources: no entry 'hearsay'"),
        ("commands.refresh_bank", None, "defaults.refresh and commands.refresh_bank"),
    ],
)
def test_choices_must_fit_their_standard(path, value, message):
    with pytest.raises(ConfigError) as fault:
        standard("LPDDR5X-8533").replace(path, value)
    assert message in str(fault.value)


def test_currents_of_another_rate_have_a_range_that_reflects_it():
    """LPDDR4X-4266 on LPDDR4-3200's IDD4: as listed at the low end, above standby by 4266/3200 at the high one."""
    each = energy_each(standard("LPDDR4X-4266"))
    for event in (Event.DRAM_READ, Event.DRAM_WRITE, "dram_read_io", "dram_write_io"):
        assert each[event].high == pytest.approx(each[event].low * 4266 / 3200)
        assert each[event].nominal == (each[event].low if event.endswith("io") else each[event].high)
    assert each[Event.ROW_ACTIVATE].low == each[Event.ROW_ACTIVATE].high
    published = energy_each(standard("LPDDR4-3200"))[Event.DRAM_READ]
    assert published.low == published.high
    # the charge of a burst is that of LPDDR4: what is left is rounding of tCK
    assert each[Event.DRAM_READ].nominal == pytest.approx(published.nominal, rel=2e-3)
