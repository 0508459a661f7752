"""``--set KEY=VALUE`` and lists of it: what is accepted, what is refused, what stands in the table."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest
from click.testing import CliRunner

import dchw
from dchw.cli import group
from dchw.quantities import ConfigError, DchwError
from dchw.studies.variants import parse_settings, variants
from tests.reports.runs import tiny_network


@pytest.fixture
def packed(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.dchw"
    dchw.save(tiny_network(), path)
    return path


def run(*words: object) -> str:
    done = CliRunner().invoke(group, [str(word) for word in words], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.stdout


def test_values_are_yaml_and_may_be_lists() -> None:
    found = parse_settings(["huffman.units=4, 8", "clock=800 MHz,1 GHz", "x=true", "y=[1, 2],[3]", "z=LPDDR5-6400"])
    assert found == {
        "huffman.units": [4, 8],
        "clock": ["800 MHz", "1 GHz"],
        "x": [True],
        "y": [[1, 2], [3]],
        "z": ["LPDDR5-6400"],
    }


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        (["huffman.units"], r"change 'huffman.units': expected KEY=VALUE with a value in YAML; write huffman.units=4"),
        (["huffman.units="], r"expected KEY=VALUE"),
        (["a=1]"], r"expected KEY=VALUE"),
        (["a=1", "a=2"], r"--set a: expected once; got it twice; list its values as a=A,B"),
        (["a=1,1"], r"--set a: expected values that differ; got 1,1; drop the twins"),
    ],
)
def test_what_is_no_setting_is_said(settings: list[str], sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        parse_settings(settings)


def test_all_combinations_each_checked_whole() -> None:
    made = variants("phone-lpddr5x", {"pe_array.elements": [48], "huffman.units": [48, 24]})
    assert [(v.machine.pe_array.elements, v.machine.huffman.units) for v in made] == [(48, 48), (48, 24)]
    assert made[1].changes == {"pe_array.elements": 48, "huffman.units": 24}


def test_the_nearest_key_and_the_machine_are_named() -> None:
    with pytest.raises(ConfigError, match=r"phone-lpddr5x with huffman.unit=4: huffman.unit: no such key; .*'units'"):
        variants("phone-lpddr5x", {"huffman.unit": [4]})
    with pytest.raises(ConfigError, match=r"huffmann: no such section; did you mean 'huffman'"):
        variants("phone-lpddr5x", {"huffmann.units": [4]})
    with pytest.raises(ConfigError, match=r"with huffman.units=7: .*divide one another"):
        variants("phone-lpddr5x", {"huffman.units": [7]})


def test_too_many_for_one_line() -> None:
    with pytest.raises(ConfigError, match=r"at most 10,000 combinations; got 1,000,000; write a study file"):
        variants("phone-lpddr5x", {"huffman.units": range(1000), "huffman.output_queue": range(1000)})


@pytest.mark.parametrize("verb", ["simulate", "compare"])
def test_a_setting_changes_the_machine(packed: Path, verb: str) -> None:
    here = dchw.simulate(dchw.load(packed), dchw.machine("phone-lpddr5x").replace("huffman.units", 1)).cycles
    content = json.loads(run(verb, packed, "--set", "huffman.units=1", "--storage", "huffman", "--json"))
    assert (content["rows"][0] if verb == "compare" else content)["cycles"] == here


@pytest.mark.parametrize("verb", ["simulate", "report"])
def test_one_run_takes_one_value(packed: Path, verb: str) -> None:
    with pytest.raises(DchwError, match=r"--set huffman.units: expected one value; got 2; 'dchw compare'"):
        run(verb, packed, "--set", "huffman.units=1,2")


@pytest.mark.parametrize("option", ["--machine", "--storage", "--batch"])
def test_a_second_value_is_never_ignored(packed: Path, option: str) -> None:
    done = CliRunner().invoke(group, ["simulate", str(packed), option, "4", option, "5"])
    assert done.exit_code == 2
    assert f"{option}: expected one value; got 2; give one" in done.stderr


def test_a_list_is_swept_and_its_knee_named(packed: Path, tmp_path: Path) -> None:
    table = tmp_path / "table.csv"
    out = run("compare", packed, "--set", "huffman.units=1,2,4,8", "--csv", table)
    assert "huffman.units: " in out
    assert "bound by" in out
    rows = pd.read_csv(table)
    assert list(rows["huffman.units"]) == [1, 2, 4, 8]
    network = dchw.load(packed)
    for units, cycles in zip(rows["huffman.units"], rows["cycles"], strict=True):
        target = dchw.machine("phone-lpddr5x").replace("huffman.units", units)
        assert dchw.simulate(network, target).cycles == cycles


def test_machines_and_networks_side_by_side(packed: Path, tmp_path: Path) -> None:
    twin = tmp_path / "twin.dchw"
    twin.write_bytes(packed.read_bytes())
    words = ["--machine", "embedded-lpddr4", "--machine", "phone-lpddr5x", "--storage", "huffman", "--json"]
    rows = json.loads(run("compare", packed, twin, *words))["rows"]
    assert [(row["network"], row["machine"]) for row in rows] == [
        (str(path), name) for path in (packed, twin) for name in ("embedded-lpddr4", "phone-lpddr5x")
    ]
    assert rows[0]["cycles"] == rows[2]["cycles"] != rows[1]["cycles"]


def test_every_machine_of_a_table_has_its_verdict(packed: Path) -> None:
    machines = ["embedded-lpddr4", "phone-lpddr5x"]
    words = [word for name in machines for word in ("--machine", name)]
    words += ["--storage", "dense-int8", "--storage", "huffman-int8"]
    verdicts = json.loads(run("compare", packed, *words, "--json"))["verdicts"]
    network = dchw.load(packed)
    for name, said in zip(machines, verdicts, strict=True):
        alone = dchw.compare(network, name, storages=["dense-int8", "huffman-int8"])
        assert said == f"{network.name} on {name}: {' '.join(alone.attrs['verdict'])}"
    shown = " ".join(run("compare", packed, *words).split())
    assert all(said in shown for said in verdicts)
    # one format alone is nothing to judge, and a table of many combinations is opened by none
    assert json.loads(run("compare", packed, *words[:-2], "--json"))["verdicts"] == []
    many = ["--set", "huffman.units=1,2,4,8", *words]
    assert len(json.loads(run("compare", packed, *many, "--json"))["verdicts"]) == 8
    assert "takes" not in run("compare", packed, *many).split("┏")[0]


def test_a_page_of_many_is_refused(packed: Path, tmp_path: Path) -> None:
    done = CliRunner().invoke(group, ["compare", str(packed), str(packed), "--report", str(tmp_path / "r.html")])
    assert done.exit_code == 2
    assert "--report is of one network on one machine" in done.stderr
