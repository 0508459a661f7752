"""Standards as data: they read back equal, cite their sources, and impossible ones say which fields disagree."""

from __future__ import annotations

import re
from importlib.resources import files

import pytest

from dchw.config import build, dump_yaml
from dchw.dram.expression import evaluate
from dchw.dram.idle import idle_mw
from dchw.dram.options import Controller
from dchw.dram.standard import Standard, standard, standard_names
from dchw.dram.state import channel_state
from dchw.quantities import ConfigError


def test_the_standards_ship():
    shipped = {"LPDDR4-3200", "LPDDR4X-4266", "LPDDR5-6400", "LPDDR5X-8533", "LPDDR6-8533", "LPDDR6-10667"}
    assert shipped <= set(standard_names())


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
        ("LPDDR4X-4266", 8.529, 8, 2),
        ("LPDDR5-6400", 12.8, 16, 0),
        ("LPDDR5X-8533", 17.067, 16, 16),
        ("LPDDR6-8533", 11.378, 16, 3),
        ("LPDDR6-10667", 14.222, 16, 9),
    ],
)
def test_peak_banks_and_unverified_values(name, gbps, banks, unverified):
    std = standard(name)
    assert std.peak_bytes_per_second / 1e9 == pytest.approx(gbps, rel=1e-4)
    assert std.organisation.banks == banks
    assert len(std.unverified) == unverified


CITED = re.compile(r"JESD209-\S+ (Tables? \d|page \d)")
NOT_CITED = re.compile(r"not known here|no table of the standard|^added here")


@pytest.mark.parametrize("name", standard_names())
def test_every_rule_cites_its_table_or_says_that_it_is_not_known(name):
    """Of a rule whose own source is silent, what the standard says of all its rules holds."""
    std = standard(name)
    for rule in std.constraints.rules:
        source = std.sources[rule.source or std.constraints.source]
        assert CITED.search(source) or NOT_CITED.search(source), (rule, source)
        if CITED.search(source) is None and "not known here" not in source:
            assert not rule.verified, rule  # named in results, with its effect, where it binds
    cited = [rule for rule in std.constraints.rules if CITED.search(std.sources[rule.source or std.constraints.source])]
    assert len(cited) >= 5


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
        ("commands.refresh_bank", None, "defaults.refresh and commands.refresh_bank"),
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
    bare = standard("LPDDR6-10667").dump()
    bare["commands"] |= {"refresh_bank": None, "refreshed_banks": 1}
    bare["behaviour"] |= {"bank_refresh_interval": None, "bank_refresh_cycle": None}
    bare["defaults"] |= {"refresh": "refab"}
    with pytest.raises(ConfigError, match="refresh and standard: LPDDR6-10667 has no per-bank refresh"):
        channel_state(build(Standard, bare, where="bare"), Controller(refresh="refpb"))


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (
            "organisation",
            {"bank_groups": 1, "banks_per_group": 1},
            "two banks cannot be refreshed where a rank has one",
        ),
        ("rule", {"level": "bank_group"}, "a refresh of two banks binds banks, ranks or channels"),
        ("rule", {"level": "bank", "window": 2}, "a refresh of two banks binds banks, ranks or channels"),
        ("commands", {"refresh_bank": None}, "refreshed_banks and refresh_bank"),
    ],
)
def test_a_refresh_of_two_banks_must_be_possible(path, value, message):
    two = standard("LPDDR6-10667").dump()
    if path == "rule":
        rule = {"preceding": ["REFdb"], "following": ["ACT1"], "latency": "nRFCdb"}
        two["constraints"]["rules"] = [*two["constraints"]["rules"], rule | value]
    else:
        two[path] |= value
    with pytest.raises(ConfigError) as fault:
        build(Standard, two, where="two")
    assert message in str(fault.value)


def test_watermarks_must_fit():
    with pytest.raises(ConfigError, match="write_low and write_high"):
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


def test_a_file_says_only_what_differs_from_the_one_it_extends(tmp_path):
    (tmp_path / "base.yaml").write_text("extends: lpddr5-6400\nname: MINE\ntimings:\n  nCL: {cycles: 20}\n")
    (tmp_path / "mine.yaml").write_text("extends: base.yaml\ncodes: null\nsources: {timing: a data sheet}\n")
    mine, base = standard(tmp_path / "mine.yaml"), standard("LPDDR5-6400")
    assert (mine.name, mine.timings["nCL"].cycles, mine.codes) == ("MINE", 20, None)
    assert mine.sources == base.sources | {"timing": "a data sheet"}
    assert mine.constraints == base.constraints
    assert mine.timings["nCL"].source == base.timings["nCL"].source


def test_a_section_of_another_kind_replaces_the_whole(tmp_path):
    energy = standard("LPDDR4-3200").dump()["energy"] | {"source": "assumed"}
    (tmp_path / "mine.yaml").write_text(f"extends: LPDDR5-6400\nname: MINE\nenergy: {energy}\n".replace("None", "null"))
    assert standard(tmp_path / "mine.yaml").energy.dump() == energy


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("extends: LPDDR5-64000\n", "extends: expected a shipped standard or a YAML file; did you mean 'LPDDR5-6400'"),
        ("extends: none.yaml\n", "none.yaml: cannot be read"),
        ("extends: mine.yaml\n", "extends: mine.yaml is extended by this very file; break the circle"),
        ("extends: LPDDR5-6400\ntimings:\n  nCL: {cycles: -1}\n", "mine.yaml, line 3: timings.nCL.cycles"),
        ("extends: LPDDR5-6400\nbehavior: {}\n", "behavior: unknown key; did you mean 'behaviour'"),
    ],
)
def test_a_file_that_cannot_extend_says_why(tmp_path, text, message):
    (tmp_path / "mine.yaml").write_text(text)
    with pytest.raises(ConfigError) as fault:
        standard(tmp_path / "mine.yaml")
    assert message in str(fault.value)


def test_idle_power_is_the_files_own_or_anothers(tmp_path):
    (tmp_path / "mine.yaml").write_text("extends: LPDDR4-3200\nname: MINE\nidle: {rails: {VDD2: {IDD6: 5 mA}}}\n")
    own, usual = (idle_mw(standard(name), "self-refresh") for name in (tmp_path / "mine.yaml", "LPDDR4-3200"))
    assert own.nominal - usual.nominal == pytest.approx(4.5 * 1.1)
    assert own.source.startswith("MINE idle currents (DRAMSys")
    (tmp_path / "mine.yaml").write_text("extends: LPDDR4-3200\nidle: {kind: stand-in, standard: LPDDR5-6400}\n")
    with pytest.raises(ConfigError, match="expected a standard with idle currents; got LPDDR5-6400"):
        idle_mw(standard(tmp_path / "mine.yaml"), "self-refresh")


def test_a_rule_of_a_family_is_stated_once():
    folder = files("dchw.dram").joinpath("standards")
    texts = {path.name: path.read_text(encoding="utf-8") for path in folder.iterdir() if path.name.endswith(".yaml")}
    families = {"LPDDR4X-4266": "LPDDR4-3200", "LPDDR5X-8533": "LPDDR5-6400", "LPDDR6-8533": "LPDDR6-10667"}
    for grown, base in families.items():
        assert "preceding:" in texts[f"{base.lower()}.yaml"]
        assert "preceding:" not in texts[f"{grown.lower()}.yaml"]
        assert standard(grown).constraints.rules == standard(base).constraints.rules


@pytest.mark.parametrize("name", standard_names())
def test_idle_power_stands_in_the_standard(name):
    """Nothing outside a standard's file knows which family it is of."""
    assert standard(name).idle is not None
