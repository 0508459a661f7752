"""Without torch and plotly a .dchw is simulated, compared and swept; what needs them says which extra brings them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
BARE = """
import sys
for name in ("torch", "plotly", "matplotlib", "sklearn", "onnx"):
    sys.modules[name] = None  # as if it were not installed
sys.argv = ["dchw", *sys.argv[1:]]
from dchw.cli import main
main()
"""


def bare(*words: object) -> subprocess.CompletedProcess[str]:
    """A command in a process that finds none of the libraries that extras bring."""
    line = [sys.executable, "-c", BARE, *map(str, words)]
    return subprocess.run(line, capture_output=True, text=True, cwd=ROOT, timeout=600)


def test_a_run_a_table_and_a_study_need_no_extra(tmp_path: Path) -> None:
    study = tmp_path / "s.yaml"
    study.write_text("networks: lenet-300-100\nvary: {huffman.units: [8, 16]}\n")
    for words in (
        ("simulate", "lenet-300-100", "--storage", "shared", "--json"),
        ("compare", "lenet-300-100", "--storage", "shared", "--json"),
        ("sweep", study, "--out", tmp_path / "s", "--json"),
        ("list",),
    ):
        done = bare(*words)
        assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("words", "extra"),
    [
        (("report", "lenet-300-100", "--storage", "shared", "--out", "r.html"), "report"),
        (("train", "lenet-300-100", "--out", "x"), "torch"),
    ],
)
def test_what_needs_one_names_it(words: tuple[str, ...], extra: str, tmp_path: Path) -> None:
    done = bare(*(tmp_path / word if word in ("r.html", "x") else word for word in words))
    assert done.returncode == 1
    assert f"pip install 'dchw[{extra}]'" in done.stderr
    assert "Traceback" not in done.stderr
