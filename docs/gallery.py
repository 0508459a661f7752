"""The figures of the documentation and of README: each function writes one file and gives the call that does so.

``python docs/gallery.py`` draws README's pictures into ``docs/pictures``; the report's needs Chromium.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
STUDY = ROOT / "notebooks/studies/decode_units.yaml"


@cache
def _figures() -> Path:
    """Figures of a report on LeNet-300-100."""
    import dchw
    from dchw.reports import build_tables
    from dchw.reports.paper_figures import write_figures

    network = dchw.load_network("lenet-300-100")
    results: dict[str, dchw.SimResult] = {}
    frame = dchw.compare(network, "phone-lpddr5x", on_result=results.__setitem__)  # type: ignore[arg-type]
    folder = Path(tempfile.mkdtemp(prefix="dchw-figures-"))
    phone = dchw.machine("phone-lpddr5x")
    write_figures(build_tables(network, phone, results, frame), phone, folder)  # type: ignore[arg-type]
    return folder


def _copy(name: str, target: Path) -> str:
    shutil.copy(_figures() / f"{name}.svg", target)
    return "dchw report lenet-300-100 --figures DIR"


def energy(target: Path) -> str:
    """Energy of every storage format by component."""
    return _copy("energy", target)


def traffic(target: Path) -> str:
    """DRAM traffic of every storage format by stream."""
    return _copy("traffic", target)


def roofline(target: Path) -> str:
    """Layers against the machine's roofs."""
    return _copy("roofline", target)


def sensitivity(target: Path) -> str:
    """What the total would be, one assumption at a time."""
    return _copy("sensitivity", target)


def cliff(target: Path) -> str:
    """DRAM bytes of an inference against the size of the weight SRAM, dense and Huffman-coded."""
    import dchw

    dchw.cliff(dchw.load_network("lenet-300-100"), "phone-lpddr5x").write(target)
    return "dchw estimate lenet-300-100 --cliff FILE.svg"


@cache
def _study() -> Any:
    import dchw

    with tempfile.TemporaryDirectory() as folder:
        return dchw.study(STUDY).run(Path(folder, "units"))


def knee(target: Path) -> str:
    """Latency and energy against the number of decode units, with the bound of every point."""
    from matplotlib.figure import Figure

    from dchw.reports.paper_figures import styled
    from dchw.reports.style import BLUE, ORANGE

    frame = _study()
    networks = list(dict.fromkeys(frame["network"]))
    with styled():
        figure = Figure(figsize=(6.6, 2.6), layout="constrained")
        for axes, network in zip(figure.subplots(1, len(networks), squeeze=False)[0], networks, strict=True):
            part = frame[frame["network"] == network]
            units = part["huffman.units"]
            axes.plot(units, part["latency_us"], "o-", color=BLUE)
            for x, y, bound in zip(units, part["latency_us"], part["bound_by"], strict=True):
                axes.annotate(
                    bound, (x, y), textcoords="offset points", xytext=(0, 6), ha="center", fontsize=6, color=BLUE
                )
            axes.set_xscale("log", base=2)
            axes.set_xticks(list(units), [str(value) for value in units])
            axes.set_ylim(0)
            axes.set_xlabel("decode units")
            axes.set_ylabel("latency (us)", color=BLUE)
            axes.set_title(Path(network).stem.replace("_", "-"))
            beside = axes.twinx()
            beside.plot(units, part["energy_pj"] / 1e6, "s--", color=ORANGE)
            beside.set_ylim(0)
            beside.set_ylabel("energy (uJ)", color=ORANGE)
        figure.savefig(target, metadata={"Date": None})
    return "dchw sweep notebooks/studies/decode_units.yaml --out units"


def report(target: Path) -> str:
    """The head of a report, as Chromium shows it."""
    from dchw.reports.printing import chromium

    with tempfile.TemporaryDirectory() as folder:
        page = Path(folder, "report.html")
        line = [sys.executable, "-m", "dchw", "report", "lenet-300-100", "--out", str(page)]
        subprocess.run(line, check=True, cwd=ROOT, capture_output=True)
        shot = [chromium(), "--headless", "--no-sandbox", "--hide-scrollbars", "--window-size=1100,572"]
        shot += ["--virtual-time-budget=8000", f"--screenshot={target}", page.as_uri()]
        subprocess.run(shot, check=True, capture_output=True)
    return "dchw report lenet-300-100 --out report.html"


if __name__ == "__main__":
    pictures = Path(__file__).parent / "pictures"
    pictures.mkdir(exist_ok=True)
    knee(pictures / "knee.svg")
    report(pictures / "report.png")
