"""Without torch and plotly a .dchw is simulated, compared and swept; what needs them says which extra brings them."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from dchw.extras import EXTRAS

ROOT = Path(__file__).parents[1]
BARE = """
import sys
for name in sys.argv[1].split(","):
    sys.modules[name] = None  # as if it were not installed
sys.argv = ["dchw", *sys.argv[2:]]
from dchw.cli import main
main()
"""
LEAN = "torch,plotly,matplotlib,sklearn,onnx"
NETWORK = "models/lenet_300_100.dchw"
SEARCH = """question: Where is the front?
networks: [lenet-300-100]
vary: {huffman.units: [8, 16], pe_array.queue_depth: [4, 8]}
search: {sampler: tpe, budget: 2}
"""

RECIPE = """name: short
architecture: lenet-300-100
dataset: digits
seeds: [0]
dense: {epochs: 1, learning_rate: 0.002}
pruning: {density: 0.2, training: {epochs: 1, learning_rate: 0.002}, retraining: {epochs: 1, learning_rate: 0.002}}
sharing: {shared_values: 15, init: linear, training: {epochs: 1, learning_rate: 0.001}}
"""


def bare(hidden: str, *words: object) -> subprocess.CompletedProcess[str]:
    """A command in a process that does not find some libraries."""
    line = [sys.executable, "-c", BARE, hidden, *map(str, words)]
    return subprocess.run(line, capture_output=True, text=True, cwd=ROOT, timeout=600)


@pytest.mark.slow
def test_a_run_a_table_and_a_study_need_no_extra(tmp_path: Path) -> None:
    study = tmp_path / "s.yaml"
    study.write_text("networks: lenet-300-100\nvary: {huffman.units: [8, 16]}\n")
    for words in (
        ("simulate", "lenet-300-100", "--storage", "shared", "--json"),
        ("compare", "lenet-300-100", "--storage", "shared", "--json"),
        ("sweep", study, "--out", tmp_path / "s", "--json"),
        ("list",),
    ):
        done = bare(LEAN, *words)
        assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("hidden", "words", "extra"),
    [
        (LEAN, ("report", "lenet-300-100", "--storage", "shared", "--out", "TMP/r.html"), "report"),
        ("matplotlib", ("report", "lenet-300-100", "--out", "TMP/r.html", "--figures", "TMP/f"), "plots"),
        ("plotly", ("compare", "lenet-300-100", "--report", "TMP/r.html"), "report"),
        ("matplotlib", ("estimate", "lenet-300-100", "--cliff", "TMP/c.svg", "--storage", "shared"), "plots"),
        (LEAN, ("train", "lenet-300-100", "--out", "TMP/x"), "torch"),
        ("sklearn", ("train", "TMP/digits.yaml", "--out", "TMP/x"), "demo"),
        ("torch", ("demo", "--out", "TMP/d"), "demo"),
        ("plotly", ("demo", "--out", "TMP/d"), "demo"),
        ("sklearn", ("demo", "--out", "TMP/d"), "demo"),
        ("torch", ("compress", "TMP/net.pth", "TMP/o.dchw"), "torch"),
        ("onnx", ("compress", "TMP/net.onnx", "TMP/o.dchw"), "onnx"),
        ("tflite", ("compress", "TMP/net.tflite", "TMP/o.dchw"), "tflite"),
        ("optuna", ("sweep", "TMP/search.yaml", "--out", "TMP/s"), "search"),
        ("distributed", ("sweep", "TMP/s.yaml", "--out", "TMP/s", "--scheduler", "tcp://127.0.0.1:1"), "cluster"),
        ("ethosu,zstandard", ("inspect", NETWORK, "--peers"), "peers"),
    ],
)
def test_what_needs_one_names_it_before_it_works(
    hidden: str, words: tuple[str, ...], extra: str, tmp_path: Path
) -> None:
    (tmp_path / "s.yaml").write_text("networks: lenet-300-100\nvary: {huffman.units: [8, 16]}\n")
    (tmp_path / "search.yaml").write_text(SEARCH)
    (tmp_path / "digits.yaml").write_text(RECIPE)
    for name in ("net.pth", "net.onnx", "net.tflite"):
        (tmp_path / name).write_bytes(b"\x80\x02}q\x00.")
    done = bare(hidden, *(word.replace("TMP", str(tmp_path)) for word in words))
    assert done.returncode == 1
    assert done.stderr.count("\n") <= 1, done.stderr
    assert done.stderr.rstrip().endswith(f"pip install 'dchw[{extra}]'")
    assert not list(tmp_path.rglob("*.html"))


def test_an_extra_brings_what_it_is_named_for() -> None:
    """The extra that a sentence names must install the library, and one of a larger job all that it needs."""
    offered = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]

    def brought(extra: str) -> set[str]:
        lines = offered[extra]
        inner = [more for line in lines if (own := re.fullmatch(r"dchw\[(.+)\]", line)) for more in own[1].split(",")]
        names = {re.split(r"[><=\[]", line)[0].lower() for line in lines}
        return names.union(*map(brought, inner))

    others = {"sklearn": "scikit-learn", "ethosu": "ethos-u-vela"}  # distributions of another name
    for library, extra in EXTRAS.items():
        assert others.get(library, library) in brought(extra), f"{library} is not in dchw[{extra}]"
    assert {"torch", "plotly", "scikit-learn"} <= brought("demo")
    assert {"tflite", "onnx"} <= brought("tflite")
