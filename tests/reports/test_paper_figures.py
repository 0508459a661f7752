"""Do the paper's figures have a column's width, embedded fonts and the same bytes every time?"""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from dchw.quantities import DchwError
from dchw.reports import build_tables
from dchw.reports.paper_figures import write_figures
from tests.reports.runs import comparison


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("matplotlib", reason="figures for papers need the extra 'plots'")
    made = comparison()
    target = tmp_path_factory.mktemp("figures")
    tables = build_tables(made.network, made.machine, made.results, made.frame)
    written = write_figures(tables, made.machine, target)
    assert sorted(path.name for path in written) == sorted(path.name for path in target.iterdir())
    write_figures(tables, made.machine, target / "again")
    return target


@pytest.mark.parametrize("name", ["energy", "layers", "traffic", "roofline", "activity", "timeline", "sensitivity"])
def test_one_column_wide(folder: Path, name: str) -> None:
    svg = (folder / f"{name}.svg").read_text(encoding="utf-8")
    width = re.search(r'<svg [^>]*?width="([\d.]+)pt"', svg)
    assert width is not None
    assert float(width[1]) == pytest.approx(3.3 * 72)
    pdf = (folder / f"{name}.pdf").read_bytes()
    box = re.search(rb"/MediaBox \[ 0 0 ([\d.]+) ", pdf)
    assert box is not None
    assert float(box[1]) == pytest.approx(3.3 * 72, abs=0.1)


@pytest.mark.parametrize("name", ["energy", "layers", "traffic", "roofline", "activity", "timeline", "sensitivity"])
def test_fonts_are_embedded_and_nothing_is_dated(folder: Path, name: str) -> None:
    pdf = (folder / f"{name}.pdf").read_bytes()
    assert b"/FontFile2" in pdf
    assert b"/Type3" not in pdf
    assert b"CreationDate" not in pdf
    for suffix in ("svg", "pdf"):
        assert (folder / f"{name}.{suffix}").read_bytes() == (folder / "again" / f"{name}.{suffix}").read_bytes()


def test_without_matplotlib_the_error_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    made = comparison()
    tables = build_tables(made.network, made.machine, made.results, made.frame)
    with pytest.raises(DchwError) as caught:
        write_figures(tables, made.machine, tmp_path)
    assert str(caught.value) == (
        "figures as SVG and PDF: expected matplotlib, which is not installed; pip install 'dchw[plots]'"
    )
