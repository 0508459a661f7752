"""The page of a study: what stands on it, what it refuses, and whether a browser draws it."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from click.testing import CliRunner

import dchw
from dchw.cli import group
from dchw.quantities import ConfigError
from dchw.reports import study_page as module
from dchw.reports.study_page import study_page, write_study_report
from dchw.studies import thinning
from dchw.studies.columns import METRICS
from dchw.studies.points import Values
from dchw.studies.reading import good_points
from dchw.studies.store import Row
from dchw.studies.study import Study, read_results, run_points
from tests.reports.runs import tiny_network
from tests.reports.test_chromium import CHROMIUM, browse

PROBE = """<script>
const seen = [];
window.addEventListener("error", (event) => seen.push(event.message));
window.addEventListener("load", () => setTimeout(() => {
  const box = document.querySelector("#filter");
  const all = document.querySelectorAll("#points tbody tr").length;
  box.value = "16"; box.dispatchEvent(new Event("input"));
  const some = document.querySelectorAll("#points tbody tr").length;
  const drawn = document.querySelectorAll(".js-plotly-plot .main-svg:first-of-type").length;
  document.title = "errors=" + seen.length + " figures=" + drawn + " rows=" + all + " filtered=" + some;
}, 300));
</script></head>"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    base = tmp_path_factory.mktemp("study")
    dchw.save(tiny_network(), base / "tiny.dchw")
    settings = {
        "question": "Units </script> & depth?",
        "networks": str(base / "tiny.dchw"),
        "vary": {"huffman.units": [4, 8, 16, 7], "pe_array.queue_depth": [2, 8]},
    }
    dchw.study(settings).run(base / "out")
    return base / "out"


def embedded(path: Path) -> dict[str, object]:
    found = re.search(r"^const content = (.*);$", path.read_text(encoding="utf-8"), re.MULTILINE)
    assert found is not None
    content: dict[str, object] = json.loads(found[1])
    return content


def test_the_page_holds_every_good_point_and_the_front(folder: Path, tmp_path: Path) -> None:
    page = write_study_report(tmp_path / "r.html", folder, command="dchw report out")
    content = embedded(tmp_path / "r.html")
    frame = read_results(folder)
    assert page.failed == 2
    assert len(page.shown) == len(good_points(frame)) == 6
    assert isinstance(content["rows"], list)
    assert len(content["rows"]) == 6
    figures = page.shown[page.objectives].to_numpy(float)
    slow = [not any((o <= p).all() and (o < p).any() for o in figures) for p in figures]
    assert content["front"] == np.flatnonzero(slow).tolist()
    text = (tmp_path / "r.html").read_text(encoding="utf-8")
    assert "A likely choice:" in text
    assert "2 points failed" in text
    assert "Units &lt;/script&gt; &amp; depth?" in text


def test_a_large_study_shows_its_front_and_a_sample(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = study_page(folder)
    monkeypatch.setattr(module, "MOST_POINTS", 2)
    page = study_page(folder)
    assert len(page.shown) < len(whole.shown)
    assert list(page.front["index"]) == list(whole.front["index"])
    assert page.points == 8
    assert page.good == 6


class TradeOff:
    """Points none of which dominates another: latency falls as energy and area rise."""

    def __init__(self, study: Study) -> None:
        self.study = study

    def at(self, index: int) -> Values:
        return self.study.space.at(index)

    def evaluate(self, values: Values) -> Row:
        depth = float(values["pe_array.queue_depth"])
        row: Row = {name: 1.0 if kind == "float" else 1 for name, kind in METRICS.items()}
        row |= {"latency_us": 1.0 + 90.0 / depth, "energy_pj": 100.0 + depth, "area_mm2": 1.0 + depth / 7}
        return {**row, "bound_by": "decode", "meets": True, "seed": 0}

    def cost(self, index: int) -> float:
        return 1.0

    def order(self, indices: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        return indices


def test_a_large_front_is_thinned_and_the_page_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The best in each objective, and the likely choice with the true size of the front, are there all the same."""
    dchw.save(tiny_network(), tmp_path / "tiny.dchw")
    vary = {"pe_array.queue_depth": {"from": 1, "to": 60, "step": 1}}
    study, folder = dchw.study({"networks": str(tmp_path / "tiny.dchw"), "vary": vary}), tmp_path / "out"
    run_points(TradeOff(study), folder, study.identity, study.kinds, study.space)
    whole = study_page(folder)
    assert whole.front_size == 60
    monkeypatch.setattr(module, "MOST_POINTS", 2)
    monkeypatch.setattr(module, "MOST_FRONT", 10)
    monkeypatch.setattr(thinning, "MOST_HELD", 0)
    page = write_study_report(tmp_path / "r.html", folder, command="dchw report out")
    assert page.front_size == len(whole.front) > len(page.front)
    for name in whole.objectives:
        assert page.front[name].min() == whole.front[name].min()
    assert [choice.index for choice in page.choices] == [choice.index for choice in whole.choices]
    assert f"of {page.front_size} points on the front" in page.choices[0].sentence
    text = (tmp_path / "r.html").read_text(encoding="utf-8")
    assert f"hold {len(page.shown)} of 60 points: one of 30, spread evenly, and {len(page.front)} of the 60" in text


@pytest.mark.parametrize("every", [1, 7, 250])
def test_a_sample_favours_no_value_of_any_axis(every: int) -> None:
    """Of a product of three axes, the fastest with a length that divides what is left out."""
    indices = np.arange(100_000)
    chosen = indices[thinning._sampled(indices, every)]
    assert chosen.size == pytest.approx(indices.size / every, rel=0.02)
    for turned in (1, 10, 1_000):
        counts = np.bincount(chosen // turned % 10, minlength=10)
        assert counts.max() < 1.3 * counts.min()


def test_a_study_of_many_values_has_bounded_figures(tmp_path: Path) -> None:
    dchw.save(tiny_network(), tmp_path / "tiny.dchw")
    vary = {"vector.values_per_cycle": {"from": 1, "to": 60, "step": 1}, "pe_array.queue_depth": [1, 2]}
    dchw.study({"networks": str(tmp_path / "tiny.dchw"), "vary": vary}).run(tmp_path / "out")
    page = write_study_report(tmp_path / "r.html", tmp_path / "out", command="dchw report out")
    heat = module.interaction_figure(page)["data"][0]
    assert sorted((len(heat["x"]), len(heat["y"]))) == [2, module.MOST_CELLS]
    text = (tmp_path / "r.html").read_text(encoding="utf-8")
    assert "60 values of vector.values_per_cycle share 20 cells" in text
    assert "1 to 3" in heat["x"] + heat["y"]


def test_the_verb_and_what_it_refuses(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "r.html"
    done = CliRunner().invoke(group, ["report", str(folder), "--out", str(out), "--json"], catch_exceptions=False)
    assert json.loads(done.stdout)["points"] == 8
    done = CliRunner().invoke(group, ["report", str(folder), "--machine", "phone-lpddr4x"])
    assert done.exit_code == 2
    assert "is a study, which has run already; leave it out" in done.stderr


def test_static_figures(folder: Path, tmp_path: Path) -> None:
    words = ["report", str(folder), "--out", str(tmp_path / "r.html"), "--figures", str(tmp_path / "f"), "--json"]
    done = CliRunner().invoke(group, words, catch_exceptions=False)
    wanted = {f"{name}.{suffix}" for name in ("front", "effects") for suffix in ("svg", "pdf", "png")}
    assert {Path(path).name for path in json.loads(done.stdout)["files"]} == {*wanted, "r.html"}
    drawn = (tmp_path / "f" / "front.svg").read_text(encoding="utf-8")
    assert "latency (us)" in drawn
    assert (tmp_path / "f" / "effects.png").read_bytes().startswith(b"\x89PNG")


def test_nothing_to_show(tmp_path: Path) -> None:
    dchw.save(tiny_network(), tmp_path / "tiny.dchw")
    dchw.study({"networks": str(tmp_path / "tiny.dchw"), "vary": {"huffman.units": [7]}}).run(tmp_path / "out")
    with pytest.raises(ConfigError, match=r"expected points that ran .*; the first failed with: phone-lpddr5x with"):
        study_page(tmp_path / "out")


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium on the path to open the page in")
def test_a_browser_draws_it_and_filters(folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "r.html"
    write_study_report(path, folder, command="dchw report out")
    path.write_text(path.read_text(encoding="utf-8").replace("</head>", PROBE, 1), encoding="utf-8")
    title = re.search(r"<title>(errors.*?)</title>", browse(path, tmp_path, "--dump-dom"))
    assert title is not None
    assert title[1] == "errors=0 figures=4 rows=6 filtered=2"
