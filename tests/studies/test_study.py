"""A study from its file to its table: what is refused, what is run, what the verb prints."""

from __future__ import annotations

import json
import re
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner

import dchw
from dchw.cli import group
from dchw.quantities import ConfigError
from dchw.studies import plan
from dchw.studies.expressions import Expression
from dchw.studies.reading import best, front, where
from dchw.studies.settings import Range
from dchw.studies.study import Study, read_results
from tests.reports.runs import tiny_network

YAML = """\
question: How many decode units?
networks: tiny.dchw
storages: [huffman, dense-int8]
vary:
  huffman.units: {from: 4, to: 16, factor: 2}
  pe_array.queue_depth: [2, 8]
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    dchw.save(tiny_network(), tmp_path / "tiny.dchw")
    path = tmp_path / "units.yaml"
    path.write_text(YAML)
    return path


def study(file: Path, **settings: object) -> Study:
    return dchw.study({"networks": str(file.parent / "tiny.dchw"), **settings})


def run(*words: object) -> str:
    done = CliRunner().invoke(group, [str(word) for word in words], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.stdout


def test_every_point_is_what_simulate_gives(file: Path, tmp_path: Path) -> None:
    frame = dchw.study(file).run(tmp_path / "out")
    asked = list(product(("huffman", "dense-int8"), (4, 8, 16), (2, 8)))
    assert list(zip(frame["storage"], frame["huffman.units"], frame["pe_array.queue_depth"], strict=True)) == asked
    network, base = tiny_network(), dchw.machine("phone-lpddr5x")
    for (storage, units, depth), row in zip(asked, frame.itertuples(), strict=True):
        target = base.replace_all({"huffman.units": units, "pe_array.queue_depth": depth})
        result = dchw.simulate(network, target, storage)
        assert (row.cycles, row.energy_pj) == (result.cycles, result.energy_pj)
        assert row.program_digest == result.timing.program_digest[:16]
    assert frame["point_sha256"].is_unique
    pd.testing.assert_frame_equal(frame, read_results(tmp_path / "out"), check_exact=True)
    pd.testing.assert_frame_equal(frame, pd.read_parquet(tmp_path / "out" / "results.parquet"), check_dtype=False)


def test_two_workers_give_the_same_table(file: Path, tmp_path: Path) -> None:
    one = dchw.study(file).run(tmp_path / "one")
    assert dchw.study(file).run(tmp_path / "two", workers=2).equals(one)


def test_a_finished_study_costs_nothing_again(file: Path, tmp_path: Path) -> None:
    asked = dchw.study(file)
    asked.run(tmp_path / "out")
    seen: list[tuple[int, int]] = []
    dchw.study(file).run(tmp_path / "out", on_progress=lambda done, total: seen.append((done, total)))
    assert seen == [(12, 12)]


def test_a_changed_network_is_another_study(file: Path, tmp_path: Path) -> None:
    dchw.study(file).run(tmp_path / "out")
    weight = np.random.default_rng(1).standard_normal((8, 8), dtype=np.float32)
    other = dchw.compress(dchw.Network.from_arrays("fc", weights={"fc": weight}))
    dchw.save(other, file.parent / "tiny.dchw")
    with pytest.raises(ConfigError, match=r"holds another study \(networks.tiny.dchw was"):
        dchw.study(file).run(tmp_path / "out")


def test_recipes_are_compressed_once_and_kept(file: Path, tmp_path: Path) -> None:
    asked = study(file, vary={"recipe.index_bits": [3, 4], "huffman.units": [8, 16]})
    frame = asked.run(tmp_path / "out")
    assert frame["error"].isna().all()
    assert frame.groupby("recipe.index_bits")["file_bytes"].nunique().tolist() == [1, 1]
    assert frame["network_sha256"].nunique() == 2
    assert len(list((tmp_path / "out" / "cache").glob("*.dchw"))) == 2
    recipe, base = dchw.Recipe(index_bits=3), dchw.machine("phone-lpddr5x")
    here = dchw.simulate(dchw.compress(tiny_network().decompress(), recipe), base.replace("huffman.units", 16))
    assert frame["cycles"].iloc[1] == here.cycles


def test_together_derived_and_only(file: Path, tmp_path: Path) -> None:
    asked = study(
        file,
        vary={"huffman.units": [4, 8, 16], "pe_array.queue_depth": [2, 4, 8], "huffman.output_queue": [4, 8]},
        together=[["huffman.units", "pe_array.queue_depth"]],
        derive={"pe_array.elements": "4 * huffman.units"},
        only=["huffman.units >= 8", "pe_array.elements < 64 or huffman.output_queue == 4", "area_mm2 < 0.001"],
    )
    frame = asked.run(tmp_path / "out")
    rows = list(zip(frame["huffman.units"], frame["pe_array.queue_depth"], frame["huffman.output_queue"], strict=True))
    assert rows == [(8, 4, 4), (8, 4, 8), (16, 8, 4)]
    assert frame["pe_array.elements"].tolist() == [32.0, 32.0, 64.0]
    assert not frame["meets"].any()
    target = dchw.machine("phone-lpddr5x").replace_all(
        {"huffman.units": 8, "pe_array.queue_depth": 4, "huffman.output_queue": 4, "pe_array.elements": 32}
    )
    assert frame["cycles"].iloc[0] == dchw.simulate(tiny_network(), target).cycles


def test_a_point_that_no_machine_can_be_stands_with_its_error(file: Path, tmp_path: Path) -> None:
    frame = study(file, vary={"huffman.units": [7, 8]}).run(tmp_path / "out")
    assert "divide one another; got 7 and 64" in frame["error"].iloc[0]
    assert pd.isna(frame["error"].iloc[1])
    assert pd.isna(frame["cycles"].iloc[0])
    assert frame["cycles"].iloc[1] > 0


def test_all_faults_at_once(file: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        study(
            file,
            machines=["phone-lpddr5y"],
            vary={"recipe.index_bit": [4], "batch": [1.5]},
            storages=["hufman"],
            colour="red",
        )
    text = str(caught.value)
    assert "storages.0: got 'hufman'; did you mean 'huffman'?" in text
    assert "colour: unknown key" in text
    with pytest.raises(ConfigError) as caught:
        study(
            file,
            networks=["nowhere.dchw"],
            machines=["phone-lpddr5y", "phone-lpddr5x"],
            vary={"recipe.index_bit": [4], "huffman.unit": [4], "clock": [5]},
            only=["aera_mm2 < 5"],
        )
    text = str(caught.value)
    for part in (
        "nowhere.dchw",
        "machine 'phone-lpddr5y': neither a preset nor a file",
        "vary.recipe.index_bit: index_bit: no such key; did you mean 'index_bits'?",
        "huffman.unit: no such key; did you mean 'units'?",
        "expected text with a unit, such as '5 Hz'",
        "only: 'aera_mm2 < 5': nothing varies or comes out under the name 'aera_mm2'",
    ):
        assert part in text


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"vary": {"huffman.units": [4, 4]}}, "expected values that differ"),
        ({"vary": {"batch": [1.5]}}, "vary.batch: expected values of type int; got 1.5"),
        ({"vary": {"huffman.units": []}}, "vary.huffman.units: expected at least one value; got none"),
        ({"vary": {"a": [1, 2], "b": [1]}, "together": [["a", "b"]]}, "expected lists of one length"),
        ({"vary": {"a": [1]}, "together": [["a", "c"]]}, "together: 'c' does not vary; use one of 'a'"),
        ({"vary": {"a": [1]}, "set": {"a": 2}}, "set.a: varied as well; keep one"),
        ({"vary": {"a": {"from": 4, "to": 2, "factor": 2}}}, "expected a range that rises; got 4 to 2"),
        ({"vary": {"a": {"from": 4, "to": 8}}}, "expected one of step and factor"),
        ({"vary": {"a": {"from": "4 KiB", "to": 8, "factor": 2}}}, "in units of one kind"),
        ({"vary": {"a": {"from": 0, "to": 1e9, "step": 1}}}, "expected at most 100,000 values"),
        ({"only": ["__import__('os')"]}, "expected arithmetic and comparisons of names and numbers"),
    ],
)
def test_what_does_not_hold_together_is_said(file: Path, settings: dict[str, object], sentence: str) -> None:
    with pytest.raises(ConfigError) as caught:
        study(file, **settings)
    assert sentence in str(caught.value)


def test_faults_in_a_file_have_lines(file: Path) -> None:
    file.write_text(YAML + "storage: huffman\n")
    with pytest.raises(ConfigError, match=r"units.yaml, line 7: storage: unknown key; did you mean 'storages'"):
        dchw.study(file)


def test_ranges() -> None:
    def values(**range_: object) -> list[object]:
        return list(Range.model_validate(range_).values)

    assert values(**{"from": 4, "to": 64, "factor": 2}) == [4, 8, 16, 32, 64]
    assert values(**{"from": 1, "to": 2, "step": 0.25}) == [1, 1.25, 1.5, 1.75, 2]
    assert values(**{"from": "64 KiB", "to": "1 MiB", "factor": 4}) == ["64 KiB", "256 KiB", "1 MiB"]
    assert values(**{"from": 1, "to": 10, "factor": 3}) == [1, 3, 9]


def test_expressions() -> None:
    names = {"a": 3, "b.c": "64 KiB", "w": "table"}
    for text, value in {
        "a + 1": 4,
        "2 * a ** 2": 18,
        "b.c / 1024": 64.0,
        "1 < a <= 3 and not a == 2": True,
        "w == 'table' or a > 5": True,
        "w in ['table', 'rate']": True,
        "max(a, 7) % 4": 3,
        "b.c == '64 KiB'": True,
    }.items():
        assert Expression(text).value(names) == value
    assert Expression("a + min(b.c, 2)").names == {"a", "b.c"}
    for text in ("a.__class__()", "(lambda: 1)()", "[x for x in a]", "f(1)", "a[0]", "a = 1", "", "1 if a else 2"):
        with pytest.raises(ConfigError, match="expected arithmetic and comparisons"):
            Expression(text)
    for text in ("a / 0", "a < w", "z + 1", "2 ** 1000"):
        with pytest.raises(ConfigError, match="has no value here"):
            Expression(text).value(names)


@pytest.mark.parametrize("objectives", [1, 2, 3, 4])
def test_the_front_is_what_a_slow_look_finds(objectives: int) -> None:
    rng = np.random.default_rng(objectives)
    for _ in range(40):
        points = rng.integers(0, rng.integers(2, 9), (int(rng.integers(0, 40)), objectives)).astype(float)
        points[rng.random(len(points)) < 0.05] = np.nan  # not on the front, and in nobody's way
        slow = [
            np.isfinite(point).all() and not any((other <= point).all() and (other < point).any() for other in points)
            for point in points
        ]
        assert front(points).tolist() == slow


def test_a_plan_and_its_verb(file: Path) -> None:
    found = dchw.study(file).plan()
    assert found.points == 12
    assert found.seconds > 0
    assert found.failed == ()
    assert run("sweep", file, "--dry-run").startswith("12 points, about ")
    assert json.loads(run("sweep", file, "--dry-run", "--json"))["points"] == 12


def test_the_verb_runs_goes_on_and_reads(file: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    printed = run("sweep", file, "--out", out)
    assert "A likely choice: " in printed
    assert "Error rates are not available" in printed
    frame = read_results(out)
    rows = json.loads(run("sweep", out, "--best", "energy_pj", "--where", "huffman.units<16", "--top", 2, "--json"))[
        "rows"
    ]
    wanted = best(where(frame, "huffman.units < 16"), "energy_pj", 2)
    assert [row["index"] for row in rows] == list(wanted["index"])
    assert run("sweep", out, "--csv", tmp_path / "t.csv")
    assert len(pd.read_csv(tmp_path / "t.csv")) == 12
    with pytest.raises(ConfigError, match=r"--best energy: no such metric; did you mean 'energy_"):
        run("sweep", out, "--best", "energy")
    with pytest.raises(ConfigError, match=r"no column 'aera_mm2'; did you mean 'area_mm2'"):
        run("sweep", out, "--where", "aera_mm2 < 5")


def test_networks_are_printed_by_their_names_where_these_differ(file: Path, tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    for name in ("other.dchw", "b/tiny.dchw"):
        dchw.save(tiny_network(), tmp_path / name)

    def printed(*names: str) -> str:
        asked = tmp_path / "asked.yaml"
        asked.write_text(f"networks: [{', '.join(names)}]\nvary: {{huffman.units: [8, 16]}}\n")
        return run("sweep", asked, "--out", tmp_path / "-".join(name.replace("/", "_") for name in names))

    assert re.search(r"│ tiny +│ +8 ", printed("tiny.dchw", "other.dchw"))
    same = printed("tiny.dchw", "b/tiny.dchw")
    assert "b/tiny.dchw" in same
    assert re.search(r"│ tiny.dchw +│ +8 ", same)


def test_what_is_no_study(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"expected the folder of a study; got none"):
        run("sweep", tmp_path)


def test_seeded_weights_have_the_densities_asked_for_and_say_so(tmp_path: Path) -> None:
    dchw.save(tiny_network(), tmp_path / "tiny.dchw")
    asked = {"networks": str(tmp_path / "tiny.dchw"), "storages": ["bitmask", "palette"], "weights": "seeded"}
    frame = dchw.study({**asked, "vary": {"recipe.density": [0.1, 0.8]}}).run(tmp_path / "out")
    assert frame["error"].isna().all()
    assert set(frame["weights"]) == {"seeded, SYNTHETIC"}
    assert frame["error_pct"].isna().all()
    sizes = {(row.storage, row["recipe.density"]): row.packed_bytes for _, row in frame.iterrows()}
    # a palette has a code for every weight, a bitmask for those that are left
    assert sizes["palette", 0.1] == pytest.approx(sizes["palette", 0.8], rel=0.15)
    assert sizes["bitmask", 0.1] < 0.6 * sizes["bitmask", 0.8]
    with pytest.raises(ConfigError, match="weights: seeded ones are compressed by a recipe; add recipes or vary one"):
        dchw.study(asked)


def test_a_plan_runs_a_few_points_and_estimates_dear_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dchw.save(tiny_network(), tmp_path / "tiny.dchw")
    vary = {"huffman.units": [4, 8, 7], "pe_array.queue_depth": [1, 2, 4], "recipe.density": [0.1, 0.2]}
    asked = dchw.study({"networks": str(tmp_path / "tiny.dchw"), "vary": vary})
    found = asked.plan()
    # of each density: everything, other lists, and the same lists
    assert (found.points, found.tried, found.estimated, found.failed) == (18, 6, 0, ())
    assert found.seconds > 0
    monkeypatch.setattr(plan, "ESTIMATED_FROM", 0.0)
    found = asked.plan()
    assert (found.points, found.tried, found.estimated) == (18, 0, 2)
    assert found.seconds > 0
    assert found.memory_bytes is not None
