"""A report as PDF: the HTML page, printed by a headless Chromium with everything in it unfolded."""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from pathlib import Path

from dchw.files import whole_file
from dchw.quantities import DchwError

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome", "msedge")
"""Names of browsers that print by themselves, in the order they are looked for."""
MOST_SECONDS = 180


def chromium() -> str:
    """The browser on the path; raises DchwError with what to install where there is none."""
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None:
        raise DchwError(
            "report: a PDF is printed by Chromium; none is on the path; install it (Debian: apt-get install chromium), "
            "or write .html and print it from a browser"
        )
    return found


def unfolded(page: str) -> str:
    """The page with every fold open, so that what a reader would click on is printed."""
    return re.sub(r"<details(?![^>]*\bopen\b)", "<details open", page)


def write_pdf(page: str, path: str | Path) -> None:
    """Print a page of HTML as ``path``, whole or not at all; raises DchwError where the browser does not."""
    browser = chromium()
    with tempfile.TemporaryDirectory(prefix="dchw-print-") as folder, whole_file(path) as beside:
        source = Path(folder, "page.html")
        source.write_text(unfolded(page), encoding="utf-8")
        line = [browser, "--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"]
        line += [f"--user-data-dir={Path(folder, 'profile')}", "--virtual-time-budget=10000"]
        line += ["--no-pdf-header-footer", f"--print-to-pdf={beside.absolute()}", source.as_uri()]
        try:
            done = subprocess.run(line, capture_output=True, text=True, timeout=MOST_SECONDS)
            fault = "" if beside.exists() else (done.stderr.strip().splitlines() or [f"status {done.returncode}"])[-1]
        except (OSError, subprocess.TimeoutExpired) as error:
            fault = str(error)
        if fault:
            raise DchwError(f"{path}: {browser} did not print it ({fault}); write .html and print it from a browser")
