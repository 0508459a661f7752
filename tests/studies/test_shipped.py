"""The studies that ship: each is whole, asks a question, and its points run."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

import dchw
from dchw.cli import group
from dchw.studies.point_chunks import evaluate

FILES = sorted((Path(__file__).parents[2] / "notebooks" / "studies").glob("*.yaml"))


def test_there_are_some() -> None:
    assert len(FILES) >= 4


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_study_that_ships(path: Path) -> None:
    asked = dchw.study(path)
    assert asked.settings.question.endswith("?")
    assert len(path.read_text().splitlines()) < 15
    last = evaluate(asked.points, asked.space.count - 1)
    assert last["error"] is None
    assert f"**{path.stem}**" in (path.parent / "README.md").read_text()


def test_readme_shows_what_is_printed(tmp_path: Path) -> None:
    """The answer of the first study, on 80 columns: a change of it is one of README too."""
    file = next(path for path in FILES if path.stem == "decode_units")
    words = ["sweep", str(file), "--out", str(tmp_path / "units")]
    done = CliRunner().invoke(group, words, catch_exceptions=False, env={"COLUMNS": "80"})
    printed = [line.rstrip() for line in done.stdout.splitlines()]
    end = next(place for place, line in enumerate(printed) if line.startswith("huffman.units, network"))
    readme = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
    assert "\n".join(["```", *printed[:end], "```"]) in readme
