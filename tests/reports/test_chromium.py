"""Does a browser draw every figure, without an error and without asking the network for anything?"""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from dchw.reports import write_report
from dchw.reports.printing import unfolded, write_pdf
from tests.reports.runs import comparison

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
PROBE = """<script>
const seen = [];
window.addEventListener("error", (event) => seen.push(event.message));
window.addEventListener("load", () => setTimeout(() => {
  const drawn = document.querySelectorAll(".plot .cartesianlayer .subplot").length;
  const asked = performance.getEntriesByType("resource").map((entry) => entry.name);
  document.title = "errors=" + seen.length + " panels=" + drawn + " asked=" + asked.length;
}, 200));
</script></head>"""

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium on the path to open the report in"),
]


def browse(page: Path, folder: Path, *flags: str) -> str:
    assert CHROMIUM is not None
    quiet = ["--disable-background-networking", "--disable-component-update", "--disable-sync"]
    command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", *quiet, f"--user-data-dir={folder / 'profile'}"]
    command += ["--virtual-time-budget=8000", "--window-size=1100,6000", *flags, page.as_uri()]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = comparison()
    path = tmp_path_factory.mktemp("page") / "report.html"
    write_report(path, made.network, made.machine, made.results, made.frame, command="dchw report x", fps=30)
    text = path.read_text(encoding="utf-8")
    assert text.count("</head>") == 1
    path.write_text(text.replace("</head>", PROBE), encoding="utf-8")
    return path


def test_every_figure_is_drawn(page: Path, tmp_path: Path) -> None:
    title = re.search(r"<title>(.*?)</title>", browse(page, tmp_path, "--dump-dom"))
    assert title is not None
    # the roofline has a panel for each of four roofs
    assert title[1] == "errors=0 panels=14 asked=0"


@pytest.mark.parametrize("scheme", ["0", "1"], ids=["dark", "light"])
def test_a_screenshot_in_each_colour_scheme(page: Path, tmp_path: Path, scheme: str) -> None:
    shot = tmp_path / "shot.png"
    browse(page, tmp_path, f"--screenshot={shot}", f"--blink-settings=preferredColorScheme={scheme}")
    assert shot.read_bytes().startswith(b"\x89PNG")


def test_a_pdf_has_everything_unfolded(page: Path, tmp_path: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert len(re.findall(r"<details(?![^>]*open)", text)) > 0
    assert len(re.findall(r"<details(?![^>]*open)", unfolded(text))) == 0
    write_pdf(text, tmp_path / "report.pdf")
    sheet = (tmp_path / "report.pdf").read_bytes()
    assert sheet.startswith(b"%PDF")
    assert sheet.count(b"/Type /Page\n") >= 5
    assert [path.name for path in tmp_path.iterdir()] == ["report.pdf"]


def test_it_prints(page: Path, tmp_path: Path) -> None:
    sheet = tmp_path / "sheet.pdf"
    browse(page, tmp_path, f"--print-to-pdf={sheet}", "--no-pdf-header-footer")
    assert sheet.read_bytes().startswith(b"%PDF")
