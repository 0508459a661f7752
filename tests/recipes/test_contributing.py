"""Do the recipes of CONTRIBUTING.md lead where they say, through the files they name and no others?"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.recipes.changes import PAGE, RECIPES, ROOT, apply, files_of, named

TAKEN_UP = ("tests/formats/test_formats.py", "tests/dram/test_standard.py", "tests/machines/test_presets.py")
"""Tests that take up by themselves what is added."""


@pytest.fixture(scope="module")
def followed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of package and tests in which every recipe was followed."""
    root = tmp_path_factory.mktemp("followed")
    for part in ("dchw", "tests"):
        shutil.copytree(ROOT / part, root / part, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", root)
    for recipe in RECIPES:
        apply(recipe, root)
    return root


def run(root: Path, *arguments: str) -> str:
    environment = {**os.environ, "PYTHONPATH": str(root)}
    made = subprocess.run(
        [sys.executable, *arguments], cwd=root, env=environment, capture_output=True, text=True, check=False
    )
    assert made.returncode == 0, made.stdout[-2000:] + made.stderr[-2000:]
    return made.stdout


@pytest.fixture(scope="module")
def found(followed: Path) -> dict[str, Any]:
    """What a user sees of what was added."""
    return dict(json.loads(run(followed, "-m", "tests.recipes.followed").splitlines()[-1]))


@pytest.mark.parametrize("recipe", RECIPES)
def test_the_page_names_the_files_that_a_recipe_touches(recipe: str) -> None:
    table = files_of(recipe)
    for path in RECIPES[recipe]:
        assert any(named(path, pattern) for pattern in table), f"{path} is not in the page's row"


def test_the_page_has_no_recipe_that_is_not_tried() -> None:
    text = PAGE.read_text(encoding="utf-8")
    rows = text.split("## How to add ...")[1].split("\n\n")[1].splitlines()[2:]
    assert [row.split("|")[1].strip() for row in rows] == list(RECIPES)


@pytest.mark.slow
def test_a_format_is_compared_and_both_engines_agree(found: dict[str, Any]) -> None:
    rows = found["formats"]
    assert rows["palette"]["packed_bytes"] < rows["palette-bytes"]["packed_bytes"]
    assert rows["palette-bytes"]["energy_nj"] > 0
    assert found["format_cycles"]["fast"] == found["format_cycles"]["reference"]


@pytest.mark.slow
def test_a_unit_counts_and_costs_on_every_machine(found: dict[str, Any]) -> None:
    assert {"checksum_add", "leakage", "clock"} <= set(found["unit"]["events"])
    assert found["unit"]["area_mm2"] > 0


@pytest.mark.slow
def test_a_standard_is_replayed(found: dict[str, Any]) -> None:
    assert found["standard"]["seconds"] == pytest.approx(1.6 * found["standard"]["seconds_6400"], rel=0.05)


@pytest.mark.slow
def test_an_operator_is_computed(found: dict[str, Any]) -> None:
    pytest.importorskip("onnx", reason="needs the extra 'onnx'")
    assert found["operator"]["kinds"] == ["input", "activation"]
    assert found["operator"]["largest_error"] < 1e-6


@pytest.mark.slow
def test_a_preset_runs(found: dict[str, Any]) -> None:
    assert found["preset"]["listed"]
    assert found["preset"]["cycles"] > found["preset"]["cycles_of_four"]


@pytest.mark.slow
def test_a_section_stands_in_the_report(found: dict[str, Any]) -> None:
    pytest.importorskip("plotly", reason="needs the extra 'report'")
    assert found["section"] == {"on_the_page": True, "in_the_contents": True, "as_a_table": True}


@pytest.mark.slow
def test_tests_take_up_by_themselves_what_is_added(followed: Path) -> None:
    listed = run(followed, "-m", "pytest", "--collect-only", "-p", "no:cacheprovider", *TAKEN_UP)
    for name in ("palette-bytes", "LPDDR5-4000", "phone-one-channel"):
        assert name in listed
