"""Is the page self-contained and complete, and does it say what the results say?"""

from __future__ import annotations

import html
import json
import math
import re
import subprocess
import sys
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from dchw.graph.coverage import LeftOut
from dchw.graph.operations import Operation, OperationKind
from dchw.quantities import DchwError
from dchw.reports import ReportTables, build_tables, page_rows, write_report, write_tables
from dchw.reports.figures import draw
from dchw.reports.report_tables import BUS, WHOLE_RUN
from dchw.reports.style import number, prefix, quantity, whole
from tests.reports.runs import comparison

FORMATS = ["dense-fp32", "dense-fp16", "dense-int8", "csr", "relative", "shared", "huffman"]
COMMAND = "dchw report 'a <b>.dchw' --fps 30"


def tables(fps: float | None = 30) -> ReportTables:
    made = comparison()
    return build_tables(made.network, made.machine, made.results, made.frame, fps=fps)


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> str:
    made = comparison()
    path = tmp_path_factory.mktemp("report") / "deep" / "report.html"
    errors = dict.fromkeys(FORMATS, 1.25)
    write_report(path, made.network, made.machine, made.results, made.frame, command=COMMAND, error_pct=errors, fps=30)
    assert [p.name for p in path.parent.iterdir()] == ["report.html"]  # nothing unfinished is left
    return path.read_text(encoding="utf-8")


class Outline(HTMLParser):
    """What a page would load, and the cells of its tables."""

    def __init__(self) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.scripts = 0
        self.open: list[str] = []
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        self.loads += [str(values[key]) for key in ("src", "href", "data", "srcset", "action") if key in values]
        self.loads += [tag] * (tag in {"link", "iframe", "object", "embed", "base", "img"})
        self.scripts += tag == "script"
        if tag not in {"meta", "br", "link", "img"}:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if not {"script", "style"} & set(self.open):
            self.text.append(data)


def outline(page: str) -> Outline:
    found = Outline()
    found.feed(page)
    found.close()
    return found


def specs(page: str) -> dict[str, Any]:
    found = re.findall(r'<script type="application/json" id="spec-(\w+)">(.*?)</script>', page, re.S)
    return {key: json.loads(text) for key, text in found}


def test_the_page_loads_nothing_and_closes_every_element(page: str) -> None:
    found = outline(page)
    assert [name for name in found.loads if not name.startswith("#")] == []
    assert found.open == []
    styles = " ".join(re.findall(r"<style>(.*?)</style>", page, re.S))
    assert "url(" not in styles
    assert "@import" not in styles


def test_plotly_is_there_once(page: str) -> None:
    from plotly.offline import get_plotlyjs

    assert page.count(get_plotlyjs()) == 1


def test_names_and_command_are_escaped(page: str) -> None:
    assert "tiny & <small>" not in page
    assert html.escape("tiny & <small>") in page
    assert html.escape(COMMAND, quote=True).replace("&#x27;", "&#39;") in page


def test_all_storage_formats_and_sections_are_on_the_page(page: str) -> None:
    text = " ".join(outline(page).text)
    assert all(name in text for name in FORMATS)
    for heading in ("What was run", "Before and after", "Energy", "DRAM traffic", "Time", "Assumptions and sources"):
        assert heading in text
    assert comparison().results["huffman"].costs.scope in text
    assert "Error rate" in text


def test_equal_results_give_equal_bytes(tmp_path: Path) -> None:
    made = comparison()
    paths = [tmp_path / "a.html", tmp_path / "b.html"]
    for path in paths:
        write_report(path, made.network, made.machine, made.results, made.frame, command=COMMAND)
    assert paths[0].read_bytes() == paths[1].read_bytes()


def test_numbers_of_the_first_table_are_those_of_the_comparison(page: str) -> None:
    rows = re.findall(r'<tr[^>]*><th scope="row">([^<]+)</th><td class="unit">([^<]*)</td>(.*?)</tr>', page)
    cells = {label: (unit, re.findall(r">([^<]+)</td>", rest)) for label, unit, rest in rows}
    frame = comparison().frame
    assert cells["DRAM read"] == ("B", [*map(whole, frame["dram_read_bytes"]), *cells["DRAM read"][1][len(frame) :]])
    assert cells["Cycles"][1][: len(frame)] == [whole(value) for value in frame["cycles"]]
    unit, shown = cells["Energy: total"]
    factor, name = prefix(frame["energy_nj"] * 1e-9)
    assert unit == f"{name}J"
    assert shown[: len(frame)] == [number(value * 1e-9 / factor) for value in frame["energy_nj"]]
    base = list(frame["storage"]).index(frame.attrs["baseline"])
    ratios = [frame["energy_nj"].iloc[row] / frame["energy_nj"].iloc[-1] for row in (base, 0)]
    assert shown[len(frame) :][:2] == [f"{number(ratio)}×" for ratio in ratios]


def test_the_tiles_are_of_the_row_that_the_verdict_is_about(page: str) -> None:
    made = comparison()
    (said,) = re.findall(r'<p class="against"><code>(.*?)</code> against <code>(.*?)</code>', page)
    assert made.frame.attrs["verdict"][0].startswith(f"{said[0]} takes ")
    assert said[1] == made.frame.attrs["baseline"]
    rows = made.frame.set_index("storage")
    (ratio,) = re.findall(r'<span class="ratio">([^<]*)</span> <span class="what">(?:less|more) energy', page)
    larger = sorted(rows.loc[name, "energy_nj"] for name in said)
    assert float(ratio.rstrip("×")) == pytest.approx(larger[1] / larger[0], rel=0.06)


def test_a_table_of_many_formats_is_set_small_in_print(page: str) -> None:
    assert page.count('<figure class="wide many">') == 1
    assert "fp16x\u200bfp16\u200b→fp32" in page


def test_every_table_adds_up_to_the_results() -> None:
    made, found = comparison(), tables()
    for name, result in made.results.items():
        total = result.energy_pj
        for frame in (found.energy, found.components, found.layer_energy, found.units):
            assert frame[frame["storage"] == name]["energy_pj"].sum() == pytest.approx(total)
        traffic = found.traffic[found.traffic["storage"] == name]["dram_bytes"].sum()
        assert traffic == result.dram_bytes
        layers = found.layers[found.layers["storage"] == name]
        assert layers["dram_read_bytes"].sum() == result.dram_read_bytes
        assert layers["added_cycles"].sum() == layers["finish_cycle"].max() <= result.cycles
        area = found.units[found.units["storage"] == name]["area_mm2"].sum()
        assert area == pytest.approx(result.costs.area_mm2)
        shares = found.activity[found.activity["storage"] == name]
        assert shares[["busy_share", "stall_share", "idle_share"]].sum(axis=1).tolist() == pytest.approx(
            [1] * len(shares)
        )
        assert (shares["idle_share"] >= 0).all()
        assert BUS in set(shares["kind"])


def test_figures_draw_the_tables_totals(page: str) -> None:
    drawn, found = specs(page), tables()
    for key, frame, value in (
        ("components", found.components, "energy_pj"),
        ("traffic", found.traffic, "dram_bytes"),
    ):
        sums = frame.groupby("storage")[value].sum()
        bars = [trace for trace in drawn[key]["data"] if trace["type"] == "bar"]
        heights = {name: sum(trace["x"][trace["y"].index(name)] for trace in bars) for name in FORMATS}
        scale = heights["huffman"] / sums["huffman"]
        assert heights == pytest.approx({name: sums[name] * scale for name in FORMATS}, rel=1e-4)


def test_no_stack_tells_its_segments_apart_by_colour_alone(page: str) -> None:
    for key, spec in specs(page).items():
        looks = {}
        for trace in spec["data"]:
            if trace["type"] == "bar" and "name" in trace:
                looks[trace["name"]] = (trace["marker"]["color"], trace["marker"]["pattern"]["shape"])
        assert len(set(looks.values())) == len(looks), key


def test_every_source_of_a_row_is_listed_with_its_number(page: str) -> None:
    found = tables()
    assert list(found.sources["number"]) == list(range(1, len(found.sources) + 1))
    numbered = dict(zip(found.sources["number"].astype(str), found.sources["source"], strict=True))
    for row in found.energy.itertuples():
        assert {numbered[n] for n in row.sources.split(", ")} == set(row.source.split("; "))
    for source in found.sources["source"]:
        assert html.escape(source, quote=True).replace("&#x27;", "&#39;") in page


def test_costs_of_no_layer_are_named_so() -> None:
    energy = tables().energy
    assert (energy["layer"] != "").all()
    assert set(energy[energy["event"] == "leakage"]["layer"]) == {WHOLE_RUN}


def test_synthetic_weights_and_activations_are_labelled(tmp_path: Path) -> None:
    made = comparison()
    graph = replace(made.network.graph, notes=("SYNTHETIC weights (seed 0): published shapes",))
    network = replace(made.network, graph=graph)
    results = {
        name: replace(result, workload=replace(result.workload, activations="synthetic"))
        for name, result in made.results.items()
    }
    path = tmp_path / "report.html"
    write_report(path, network, made.machine, results, made.frame, command=COMMAND)
    text = path.read_text(encoding="utf-8")
    assert '<span class="label">SYNTHETIC WEIGHTS</span>' in text
    assert '<span class="label">SYNTHETIC ACTIVATIONS</span>' in text
    assert "<b>SYNTHETIC WEIGHTS, SYNTHETIC ACTIVATIONS.</b>" in text


def test_nothing_is_labelled_synthetic_that_is_not(page: str) -> None:
    assert '<span class="label">' not in page


def test_two_formats_are_enough(tmp_path: Path) -> None:
    made = comparison()
    results = {name: made.results[name] for name in ("dense-int8", "shared")}
    frame = made.frame[made.frame["storage"].isin(results)].reset_index(drop=True)
    path = tmp_path / "report.html"
    write_report(path, made.network, made.machine, results, frame, command=COMMAND)
    assert "from <code>dense-int8</code> to <code>shared</code>" in path.read_text(encoding="utf-8")


def test_results_must_match_the_comparison(tmp_path: Path) -> None:
    made = comparison()
    with pytest.raises(
        DchwError, match=r"report: expected one result per row of the comparison, dense-fp32, .*; got none"
    ):
        write_report(tmp_path / "r.html", made.network, made.machine, {}, made.frame, command=COMMAND)


def test_a_place_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    made = comparison()
    (tmp_path / "file").write_text("")
    with pytest.raises(DchwError, match="cannot be written"):
        write_report(
            tmp_path / "file" / "r.html", made.network, made.machine, made.results, made.frame, command=COMMAND
        )
    with pytest.raises(DchwError, match="cannot be written"):
        write_tables(tables(), tmp_path / "file", ".csv")


def test_a_frame_rate_that_no_format_reaches_is_an_error() -> None:
    with pytest.raises(DchwError, match=r"frame rate 1e\+08: expected a run within"):
        tables(fps=1e8)


@pytest.mark.parametrize(("suffix", "read"), [(".csv", pd.read_csv), (".parquet", pd.read_parquet)])
def test_tables_come_back_from_disk(tmp_path: Path, suffix: str, read: Any) -> None:
    found = tables()
    written = write_tables(found, tmp_path / "out", suffix)
    assert {path.stem for path in written} == set(found.named())
    again = read(tmp_path / "out" / f"energy{suffix}")
    assert again["energy_pj"].sum() == pytest.approx(found.energy["energy_pj"].sum())
    assert list(again.columns) == list(found.energy.columns)


def test_figures_are_plain_json() -> None:
    for drawing in draw(tables(), comparison().machine).values():
        json.dumps(drawing.spec, allow_nan=False)


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (1234.5, "1 230"), (0.034567, "0.0346"), (9.996, "10.0"), (1.5e-7, "1.50e-07"), (math.nan, "–")],
)
def test_numbers_are_rounded_to_three_digits(value: float, text: str) -> None:
    assert number(value).replace("\u202f", " ") == text


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [(1.5e-9, "J", "1.50 nJ"), (43808, "B", "43.8 kB"), (0, "J", "0 J"), (2.5, "s", "2.50 s")],
)
def test_quantities_get_a_prefix(value: float, unit: str, text: str) -> None:
    assert quantity(value, unit) == text


def test_importing_the_report_needs_no_drawing_library() -> None:
    script = "import sys, dchw.reports; print(*sorted({'matplotlib', 'plotly', 'torch'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_what_is_in_no_layer_stands_on_the_page(tmp_path: Path) -> None:
    made = comparison()
    graph = made.network.graph
    lost = LeftOut(name="head.rel_pos", parameters=1200, reason="the forward pass does not read it")
    table = Operation(
        name="scale <1>", kind=OperationKind.CONSTANT, attributes={"value": np.ones(6)}, output_shape=(6,)
    )
    network = replace(made.network, graph=replace(graph, operations=(*graph.operations, table), left_out=(lost,)))
    path = tmp_path / "report.html"
    write_report(path, network, made.machine, made.results, made.frame, command=COMMAND)
    text = html.unescape(path.read_text(encoding="utf-8"))
    assert network.coverage.share < 1
    assert network.coverage.sentence() in text
    found = re.search(r"Parameters in no layer.*?</table>", text, re.DOTALL)
    assert found is not None
    for part in ("head.rel_pos", whole(1200), lost.reason, "scale <1>", "used directly, not as the weights of a layer"):
        assert part in found[0]


def test_every_point_of_the_rooflines_lies_under_its_roof() -> None:
    """Read from the drawing itself: every trace of markers against the line of its own panel."""
    spec = draw(tables(), comparison().machine)["roofline"].spec
    roofs = {trace["xaxis"]: trace for trace in spec["data"] if "roof" in trace.get("name", "")}
    assert len(roofs) == 4
    points = 0
    for trace in spec["data"]:
        if "markers" not in trace["mode"]:
            continue
        (low, ridge, _), (at_low, peak, _) = roofs[trace["xaxis"]]["x"], roofs[trace["xaxis"]]["y"]
        for x, y in zip(trace["x"], trace["y"], strict=True):
            assert y <= min(peak, at_low / low * x) * (1 + 1e-4)
            points += 1
        assert ridge * at_low / low == pytest.approx(peak)
    assert points >= 8


def test_what_bounds_each_layer_and_where_the_bytes_go_is_said(page: str) -> None:
    built = tables()
    ends = built.comparison["storage"].iloc[[0, -1]]
    for words in built.bounds[built.bounds["storage"].isin(ends)]["words"]:
        assert words in page
    last = built.streams[built.streams["storage"] == ends.iloc[-1]]
    assert whole(last["packed_bytes"].sum()) in page
    assert page_rows.traffic_gap(built) in page
    assert int(last["packed_bytes"].sum()) == int(built.comparison["packed_bytes"].iloc[-1])
