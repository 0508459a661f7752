"""What a terminal shows: no number cut at any width, names as text, one sentence for every error."""

from __future__ import annotations

import json
import re
from io import StringIO
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

import dchw
from dchw.cli import group, main, output
from dchw.cli.output import plain_text, print_table
from dchw.files import whole_file, write_frame
from dchw.quantities import DchwError

FRAME = pd.DataFrame(
    {
        "storage": ["dense-fp32", "phone-lpddr5x"],
        **{f"quantity_{i}_bytes": [10**9 + i, 1234.5 * i] for i in range(12)},
        "description": ["words that may go on to the next line", "more of them"],
    }
)


def shown(width: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, **options: object) -> str:
    monkeypatch.setenv("COLUMNS", str(width))
    print_table("title", FRAME, ["note"], **options)  # type: ignore[arg-type]
    return capsys.readouterr().out


@pytest.mark.parametrize("width", [40, 60, 80, 100, 120, 160, 400])
def test_no_number_and_no_name_is_cut(
    width: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    out = shown(width, capsys, monkeypatch)
    assert "…" not in out
    assert max(map(len, out.splitlines())) <= width
    for i in range(12):
        assert f"{10**9 + i:,}" in out
    assert out.count("dense-fp32") >= 1
    assert "phone-lpddr5x" in out


@given(
    heads=st.lists(st.text("ab c", min_size=1, max_size=18), min_size=1, max_size=10),
    digits=st.integers(1, 9),
    width=st.integers(30, 140),
)
def test_headings_break_before_a_number_is_cut(heads: list[str], digits: int, width: int) -> None:
    names = [f"{head.strip() or 'x'} {i}" for i, head in enumerate(heads)]
    cells = output._Cells.of(
        pd.DataFrame({"name": ["row"], **{name: [10**digits + i] for i, name in enumerate(names)}})
    )
    console = Console(width=width, file=StringIO())
    for block in cells.blocks(width):
        console.print(block.table(width))
    printed = console.file.getvalue()  # type: ignore[attr-defined]
    assert max(map(len, printed.splitlines())) <= width
    assert printed.count("┏") == printed.count("┓")
    assert all(f"{10**digits + i:,}" in printed for i in range(len(names)))


@pytest.mark.parametrize("path", [".", Path("/")])
def test_a_folder_is_no_file_to_write(path: str | Path) -> None:
    with pytest.raises(DchwError) as caught, whole_file(path):
        pass
    assert str(caught.value) == f"'{path}': expected the name of a file; got none; name one"


def test_the_columns_that_matter(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    out = shown(80, capsys, monkeypatch, main=("storage", "quantity 3 bytes"))
    assert "1,000,000,003" in out
    assert "1,000,000,004" not in out
    assert "12 more columns" in out


def test_names_from_files_are_text(tmp_path: Path) -> None:
    for name in ("[/b]", "n [b]", "a\x1b]0;x\x07\x1b[2Jb"):
        network = dchw.Network.from_arrays("n", weights={name: np.eye(4, dtype=np.float32)})
        path = tmp_path / "n [b].dchw"
        dchw.save(dchw.compress(network), path)
        for verb in ("inspect", "simulate"):
            result = CliRunner().invoke(group, [verb, str(path)], env={"COLUMNS": "200"})
            assert result.exit_code == 0, result.exception
            assert plain_text(name) in result.stdout
            assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f]", result.stdout)
            assert verb != "inspect" or "n [b].dchw" in result.stdout


@given(st.text())
def test_text_is_printable_and_tells_what_it_was(text: str) -> None:
    plain = plain_text(text)
    assert plain.isprintable()
    assert plain == text or not text.isprintable()


@pytest.mark.parametrize("option", ["--quiet", "--wide", "--verbose"])
@pytest.mark.parametrize("verb", ["machines"])
def test_every_verb_has_the_common_options(verb: str, option: str) -> None:
    assert CliRunner().invoke(group, [verb, option]).exit_code == 0


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (MemoryError("Unable to allocate 292. GiB"), "not enough memory: Unable to allocate 292. GiB; lower"),
        (OSError(28, "No space left on device", "x.csv"), "x.csv: No space left on device; free space"),
        (dchw.DchwError("a\x1bb"), r"dchw: a\x1bb"),
    ],
)
def test_errors_end_as_one_sentence(
    error: Exception, sentence: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails(**_: object) -> None:
        raise error

    monkeypatch.setattr(group, "main", fails)
    monkeypatch.setattr(output, "_settings", output.Settings())
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 1
    err = capsys.readouterr().err
    assert sentence in err
    assert err.count("\n") == 1


def test_a_table_is_written_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "x.csv"
    write_frame(FRAME, target)
    before = target.read_bytes()

    def half(self: pd.DataFrame, path: Path, **_: object) -> None:
        Path(path).write_text("half", encoding="utf-8")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pd.DataFrame, "to_csv", half)
    with pytest.raises(dchw.DchwError, match=r"x.csv: cannot be written \(No space left on device\); free space"):
        write_frame(FRAME, target)
    assert target.read_bytes() == before
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize("name", ["file/x.csv", ".", "x.txt"])
def test_places_that_are_none(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(dchw.DchwError, match=r"cannot be written|expected a name ending in"):
        write_frame(FRAME, tmp_path / name)


def test_a_run_says_its_rate_its_energy_and_the_range_of_that() -> None:
    plain = CliRunner().invoke(group, ["simulate", "lenet-300-100"])
    given = json.loads(CliRunner().invoke(group, ["simulate", "lenet-300-100", "--json"]).output)
    low, high = given["energy_range_pj"]
    assert low < given["energy_pj"] < high
    assert given["inferences_per_s"] == pytest.approx(1 / given["seconds"])
    assert given["inferences_per_j"] == pytest.approx(1e12 / given["energy_pj"])
    text = " ".join(plain.output.split())
    assert f"({low / 1e3:,.0f} to {high / 1e3:,.0f} with all figures low or high)" in text
    assert (
        f"{given['inferences_per_s']:,.0f} inferences a second, {given['inferences_per_j']:,.0f} for a joule." in text
    )
