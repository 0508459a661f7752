"""Do the verbs write what they say, and repeat the command that was typed?"""

from __future__ import annotations

import html
import json
import re
from pathlib import Path

import pytest
from click.testing import CliRunner
from ruamel.yaml import YAML

import dchw
from dchw.cli import group
from dchw.quantities import DchwError
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


def test_report_writes_page_and_tables_and_the_command_that_made_them(packed: Path, tmp_path: Path) -> None:
    out, folder = tmp_path / "r.html", tmp_path / "tables"
    options = ["--storage", "dense-int8", "--storage", "huffman", "--fps", "30", "--warm"]
    content = json.loads(run("report", packed, "--out", out, "--csv", folder, *options, "--json"))
    assert content["kind"] == "report"
    assert content["files"][0] == str(out)
    assert all(Path(name).exists() for name in content["files"])
    assert (folder / "frames.csv").exists()
    page = out.read_text(encoding="utf-8")
    line = f"dchw report {packed} --out {out} --storage dense-int8 --storage huffman --warm --fps 30.0"
    assert html.escape(line) in page


def test_compare_and_simulate_give_the_energy_of_a_frame(packed: Path) -> None:
    one = json.loads(run("simulate", packed, "--fps", "30", "--dram-idle", "power-down", "--json"))
    rows = json.loads(
        run("compare", packed, "--storage", "huffman", "--fps", "30", "--dram-idle", "power-down", "--json")
    )["rows"]
    assert rows[0]["energy_per_frame_nj"] == pytest.approx(one["energy_per_frame_pj"] / 1e3)
    assert one["power_at_fps_mw"] == pytest.approx(one["energy_per_frame_pj"] * 30 * 1e-9)
    assert one["energy_per_frame_pj"] > one["energy_pj"]


def test_a_frame_rate_out_of_reach_is_one_sentence(packed: Path) -> None:
    with pytest.raises(DchwError, match=r"^frame rate 1e\+09: expected a run within"):
        run("simulate", packed, "--fps", "1e9")


def test_machines_writes_reference_tables(tmp_path: Path) -> None:
    ert, art = tmp_path / "ert.yaml", tmp_path / "art.yaml"
    run("machines", "eie-64pe-45nm", "--ert", ert, "--art", art)
    assert YAML(typ="safe").load(ert)["ERT"]["version"] == "0.4"
    assert YAML(typ="safe").load(art)["ART"]["tables"]


def test_reference_tables_need_a_machine(tmp_path: Path) -> None:
    done = CliRunner().invoke(group, ["machines", "--ert", str(tmp_path / "ert.yaml")])
    assert done.exit_code == 2
    assert "--ert and --art need the NAME of a machine" in done.stderr


def test_a_report_has_a_heading_and_a_list_of_its_sections(packed: Path, tmp_path: Path) -> None:
    out = tmp_path / "r.html"
    heading = ["--title", "A <study>", "--author", "A. Author", "--date", "1 May"]
    run("report", packed, "--out", out, "--storage", "dense-int8", "--storage", "shared", *heading)
    page = out.read_text(encoding="utf-8").split("</main>")[0]
    assert "<h1>A &lt;study&gt;</h1>" in page
    assert '<p class="by">A. Author, 1 May</p>' in page
    listed = re.findall(r'<li><a href="#(section-\d+)">', page)
    assert listed == re.findall(r'<h2 id="(section-\d+)">', page)
    assert len(listed) >= 7
    numbers = [int(text) for text in re.findall(r"<b>Figure (\d+)\.</b>", page)]
    assert numbers == list(range(1, len(numbers) + 1))


def test_a_pdf_without_a_browser_says_what_to_install(
    packed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(DchwError, match="apt-get install chromium"):
        run("report", packed, "--out", tmp_path / "r.pdf")
    assert not (tmp_path / "r.pdf").exists()
