"""Standards as data: they read back equal, cite their sources, and impossible ones say which fields disagree."""

from __future__ import annotations

import pytest

from dchw.config import build, dump_yaml
from dchw.dram.expression import evaluate
from dchw.dram.options import Controller
from dchw.dram.standard import Standard, standard, standard_names
from dchw.dram.state import channel_state
from dchw.quantities import ConfigError


def test_the_five_standards_ship():
    assert standard_names() == ("LPDDR4-3200", "LPDDR4X-4266", "LPDDR5-6400", "LPDDR5X-8533", "LPDDR6-10667")


@pytest.mark.parametrize("name", standard_names())
def test_a_dump_reads_back_equal_from_values_and_from_a_file(name, tmp_path):
    std = standard(name.lower())
    assert build(Standard, std.dump(), where="again") == std
    dump_yaml(std, tmp_path / "mine.yaml")
    assert standard(tmp_path / "mine.yaml") == std


@pytest.mark.parametrize(
    ("name", "gbps", "banks", "unverified"),
    [
        ("LPDDR4-3200", 6.4, 8, 0),
        ("LPDDR4X-4266", 8.529, 8, 0),
        ("LPDDR5-6400", 12.8, 16, 0),
        ("LPDDR5X-8533", 17.067, 16, 31),
        ("LPDDR6-10667", 14.222, 16, 0),
    ],
)
def test_peak_banks_and_unverified_values(name, gbps, banks, unverified):
    std = standard(name)
    assert std.peak_bytes_per_second / 1e9 == pytest.approx(gbps, rel=1e-4)
    assert std.organisation.banks == banks
    assert len(std.unverified) == unverified


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("timings.nRFC.cycles", 3200, "behaviour.refresh_cycle and behaviour.refresh_interval"),
        ("behaviour.burst", "nCL", "behaviour.burst and organisation.burst_beats"),
        ("clock.period", "1 ns", "clock: data_rate and period"),
        ("behaviour.activate_window", None, "commands.activate_second and behaviour.activate_window"),
        ("commands.sync_write", None, "sync_read and sync_write"),
        ("behaviour.bank_refresh_interval", None, "commands.refresh_bank and behaviour.bank_refresh_interval"),
        ("organisation.burst_size", "4 KiB", "burst_size and row_size"),
        ("organisation.ranks", 4, "ranks and banks"),
        ("behaviour.read_latency", "nBL_min - 1", "behaviour.burst and behaviour.read_latency"),
    ],
)
def test_an_impossible_combination_names_both_fields(path, value, message):
    with pytest.raises(ConfigError) as fault:
        standard("LPDDR5-6400").replace(path, value)
    assert message in str(fault.value)


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("behaviour.burst", "nBL_mim", "behaviour.burst: no timing 'nBL_mim'; did you mean 'nBL_min'?"),
        ("commands.read", "READ", "no such command"),
        ("organisation.rows", 1000, "rows: expected a power of two"),
        ("clock.source", "hearsay", "sources: no entry 'hearsay'"),
        ("clock.period", "fast", "expected a time with its unit"),
    ],
)
def test_a_wrong_value_says_what_was_expected(path, value, message):
    with pytest.raises(ConfigError) as fault:
        standard("LPDDR5-6400").replace(path, value)
    assert message in str(fault.value)


def test_an_unknown_standard_names_the_nearest():
    with pytest.raises(ConfigError, match="did you mean 'LPDDR5-6400'"):
        standard("LPDDR5-64000")


def test_refresh_and_standard_must_fit():
    with pytest.raises(ConfigError, match="refresh and standard: LPDDR6-10667 has no per-bank refresh"):
        channel_state("LPDDR6-10667", Controller(refresh="refpb"))


def test_watermarks_must_fit():
    with pytest.raises(ValueError, match="write_low and write_high"):
        Controller(write_low=0.9)


@pytest.mark.parametrize(
    ("text", "value"), [("a + b*2 - (c - 1)", 4 + 14 - 8), ("-a + 10", 6), ("3", 3), ("a-b-c", -12)]
)
def test_expressions(text, value):
    assert evaluate(text, {"a": 4, "b": 7, "c": 9}) == value


@pytest.mark.parametrize("text", ["", "a +", "(a", "a b", "__import__('os')", "a / 2", "a ** 2", "1.5", "unknown"])
def test_expressions_are_only_sums_and_products(text):
    with pytest.raises(ValueError):
        evaluate(text, {"a": 4})
