"""Networks and machines on one page: does every column say what a report of it alone would?"""

from __future__ import annotations

import html
import re
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from click.testing import CliRunner

import dchw
from dchw.cli import group
from dchw.quantities import DchwError
from dchw.reports.side_by_side_page import MOST_COLUMNS, Column, write_side_by_side
from dchw.reports.style import whole
from tests.reports.runs import comparison, tiny_network
from tests.reports.test_chromium import CHROMIUM, PROBE, browse

MACHINES = ("phone-lpddr5x", "embedded-lpddr4")


def column(machine: str, fps: float | None = None) -> Column:
    made = comparison(machine)
    return Column.of(made.network, made.machine, made.results, made.frame, fps=fps)


def written(folder: Path, columns: list[Column]) -> str:
    write_side_by_side(folder / "x.html", columns, command="dchw report 'a <b>.dchw' c")
    return (folder / "x.html").read_text(encoding="utf-8")


def text_of(page: str) -> str:
    return html.unescape(re.sub(r"<[^>]+>", " ", page.split("</main>")[0]))


def cells(page: str, label: str) -> list[list[str]]:
    """The cells of every table line under a label."""
    lines = re.findall(rf'<th scope="row">{re.escape(label)}</th>(.*?)</tr>', page)
    return [[html.unescape(cell) for cell in re.findall(r"<td[^>]*>([^<]*)", line)] for line in lines]


def check_columns(page: str) -> None:
    """Every column's verdict, streams, bounds and figures are those of its own comparison."""
    for place, name in enumerate(MACHINES):
        made = comparison(name)
        frame = made.frame.set_index("storage")
        base = made.frame.attrs["baseline"]
        best = str(frame["energy_nj"].drop(base).idxmin())
        said = re.search(rf"<h3>[^<]* on {name}</h3>(.*?)</div>", page, re.DOTALL)
        assert said is not None
        assert re.findall(r"<p>(.*?)</p>", html.unescape(said[1])) == made.frame.attrs["verdict"]
        assert cells(page, "Storage format")[0][1:][2 * place :][:2] == [base, best]
        for at, storage in enumerate((base, best), 2 * place):
            assert cells(page, "Cycles")[0][1:][at] == whole(frame.loc[storage, "cycles"])
            for stream, size in made.results[storage].stream_bytes().items():
                if size:
                    line = cells(page, stream.value.replace("_", " "))[0]
                    assert line[at].partition(" (")[0] == whole(size), stream
        layers = made.results[best].layers_frame().set_index("layer")
        for layer in layers.index:
            assert cells(page, layer)[-1][3 * place] == layers.loc[layer, "bound_by"]


def test_every_column_is_its_own_comparison(tmp_path: Path) -> None:
    check_columns(written(tmp_path, [column(name) for name in MACHINES]))


def test_columns_that_change_places_are_noticed(tmp_path: Path) -> None:
    one, other = (column(name) for name in MACHINES)
    page = written(tmp_path, [replace(one, tables=other.tables), replace(other, tables=one.tables)])
    with pytest.raises(AssertionError):
        check_columns(page)


def test_names_are_text_and_the_page_loads_nothing(tmp_path: Path) -> None:
    page = written(tmp_path, [column(name) for name in MACHINES])
    assert "tiny & <small>" in text_of(page)
    assert "tiny & <small>" not in page
    assert "a &lt;b&gt;.dchw" in page
    assert not re.findall(r'<(?:link|img|script)[^>]+(?:src|href)="(?!#)', page.split("</main>")[0])


def test_the_best_value_is_marked_network_by_network(tmp_path: Path) -> None:
    page = written(tmp_path, [column(name) for name in MACHINES])
    found = re.search(r'<th scope="row">Cycles</th><td class="unit"></td>(.*?)</tr>', page)
    assert found is not None
    values = [int(text.replace("\u202f", "")) for text in re.findall(r">([\d\u202f]+)</td>", found[1])]
    marked = ["least" in word for word in re.findall(r'<td class="([^"]*)"', found[1])]
    assert marked == [value == min(values) for value in values]


def test_tables_are_joined_behind_network_and_machine(tmp_path: Path) -> None:
    tables = write_side_by_side(tmp_path / "x.html", [column(name, fps=30) for name in MACHINES], command="x")
    assert list(tables.comparison.columns[:3]) == ["network", "machine", "storage"]
    assert set(tables.comparison["machine"]) == set(MACHINES)
    alone = comparison(MACHINES[1]).frame["cycles"].tolist()
    assert tables.comparison.loc[tables.comparison["machine"] == MACHINES[1], "cycles"].tolist() == alone
    assert "Energy of a frame" in (tmp_path / "x.html").read_text(encoding="utf-8")


@pytest.mark.parametrize("count", [1, MOST_COLUMNS + 1])
def test_too_few_and_too_many_columns_are_refused(count: int, tmp_path: Path) -> None:
    with pytest.raises(DchwError, match=f"expected 2 to {MOST_COLUMNS} columns side by side; got {count}"):
        write_side_by_side(tmp_path / "x.html", [column(MACHINES[0])] * count, command="x")
    assert not (tmp_path / "x.html").exists()


def test_two_columns_of_one_name_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DchwError, match="twice; rename one"):
        write_side_by_side(tmp_path / "x.html", [column(MACHINES[0])] * 2, command="x")


def test_the_verb_takes_files_and_machines(tmp_path: Path) -> None:
    for name in ("a", "b"):
        dchw.save(tiny_network(), tmp_path / f"{name}.dchw")
    words = ["report", str(tmp_path / "a.dchw"), str(tmp_path / "b.dchw"), "--out", str(tmp_path / "x.html")]
    words += ["--storage", "dense-int8", "--storage", "shared", "--csv", str(tmp_path / "csv")]
    words += [word for name in MACHINES for word in ("--machine", name)]
    done = CliRunner().invoke(group, words, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    table = pd.read_csv(tmp_path / "csv" / "comparison.csv")
    assert len(table) == 8
    assert set(table["network"]) == {str(tmp_path / "a.dchw"), str(tmp_path / "b.dchw")}  # both are named alike
    refused = CliRunner().invoke(group, [*words, "--figures", str(tmp_path / "f")])
    assert refused.exit_code == 2
    assert "write a report of each" in refused.output


def test_the_library_puts_runs_side_by_side(tmp_path: Path) -> None:
    runs = [comparison(name).results[storage] for name in MACHINES for storage in ("dense-int8", "shared")]
    tables = dchw.report(runs, tmp_path / "x.html")
    assert tables.comparison[["machine", "storage"]].to_numpy().tolist() == [
        [name, storage] for name in MACHINES for storage in ("dense-int8", "shared")
    ]
    with pytest.raises(DchwError, match="expected one run a storage format; got two of shared"):
        dchw.report([*runs, replace(runs[-1])], tmp_path / "y.html")


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium on the path to open the report in")
def test_a_browser_draws_it(tmp_path: Path) -> None:
    page = written(tmp_path, [column(name) for name in MACHINES])
    path = tmp_path / "probe.html"
    path.write_text(page.replace("</head>", PROBE, 1), encoding="utf-8")
    title = re.search(r"<title>(.*?)</title>", browse(path, tmp_path, "--dump-dom"))
    assert title is not None
    assert title[1] == "errors=0 panels=3 asked=0"
