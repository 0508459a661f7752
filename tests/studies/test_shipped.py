"""The studies that ship: each is whole, asks a question, and its points run."""

from __future__ import annotations

from pathlib import Path

import pytest

import dchw
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
