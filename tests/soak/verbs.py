"""The verbs of the command line as a soak runs them: small jobs, what they write, and whether they can go on."""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import signal
import sys
import time
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import dchw
from dchw.cli import VERBS, main

ROOT = Path(__file__).parents[2]
_SOURCE = str(ROOT / "models/lenet_300_100_frontier.dchw")
_STUDY = """question: How many decode units?
networks: [{source}]
vary:
  huffman.units: [4, 8, 16, 32]
  huffman.output_queue: [2, 8]
"""
_RECIPE = """name: short
architecture: lenet-300-100
dataset: digits
seeds: [0]
dense: {epochs: 3, learning_rate: 0.002}
pruning:
  density: 0.2
  training: {epochs: 3, learning_rate: 0.002}
  retraining: {epochs: 2, learning_rate: 0.002}
sharing: {shared_values: 15, init: linear, training: {epochs: 2, learning_rate: 0.001}}
"""


class Job:
    """A verb at work in a process of its own."""

    def __init__(self, pid: int, said: Path) -> None:
        self._pid, self._said = pid, said
        self.returncode: int | None = None

    def wait(self, seconds: float) -> bool:
        """Whether it ends within so many seconds."""
        until = time.monotonic() + seconds
        while self.returncode is None:
            found, status = os.waitpid(self._pid, os.WNOHANG)
            if found:
                self.returncode = os.waitstatus_to_exitcode(status)
            elif time.monotonic() > until:
                return False
            else:
                time.sleep(0.002)
        return True

    def send(self, number: signal.Signals) -> None:
        """A signal to it and whatever it has started."""
        if self.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._pid, number)

    @property
    def said(self) -> str:
        """What it wrote on standard error so far."""
        return self._said.read_text(encoding="utf-8", errors="replace") if self._said.exists() else ""


def _be(words: Sequence[str], folder: Path, said: Path, stdout: Path) -> NoReturn:
    # in the copy: become the command line, and end without running what the original would at its end
    status = 70
    try:
        os.setsid()
        for number, path in ((1, stdout), (2, said)):
            os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT, 0o644), number)
        os.chdir(folder)
        sys.argv = ["dchw", *words]
        main()
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else 0
        try:
            sys.stdout.flush()
        except OSError:  # as Python itself says at its end
            os.write(2, b"dchw: output: No space left on device")
            status = status or 1
    except BaseException:
        traceback.print_exc()
    finally:
        with contextlib.suppress(OSError):
            sys.stderr.flush()
        os._exit(status)


def warm_up() -> None:
    """Load what the verbs need, kernels too, so that a trial costs no more than its work."""
    for verb in VERBS:
        importlib.import_module(f"dchw.cli.{'names' if verb == 'list' else verb}")
    for name in ("torch", "plotly.offline", "matplotlib.figure", "pandas", "pyarrow.parquet", "sklearn.datasets"):
        importlib.import_module(name)
    network = dchw.load(_SOURCE)
    for storage in ("dense-int8", "shared", "huffman"):
        dchw.simulate(network, "phone-lpddr5x", storage)


@dataclass(frozen=True, kw_only=True)
class Verb:
    """One command line. Its outputs are all files it leaves in the folder it is run in."""

    name: str
    words: Sequence[str]
    goes_on: bool = False
    """Whether the same command takes up what an interrupted one left."""
    prints: bool = False
    """Whether it only prints."""

    def start(self, folder: Path, said: Path, stdout: Path = Path(os.devnull)) -> Job:
        """The verb at work in a folder, as a copy of this process that has all it needs loaded already.

        ``said`` takes its standard error.
        """
        pid = os.fork()
        if pid == 0:
            _be(self.words, folder, said, stdout)
        return Job(pid, said)

    def read(self, folder: Path) -> dict[str, bytes]:
        """What lies in a folder by relative name; of a study its rows, for its files hold times and identities."""
        found = {
            str(path.relative_to(folder)): path.read_bytes()
            for path in sorted(folder.rglob("*"))
            if path.is_file() and not any(part.startswith(".") for part in path.relative_to(folder).parts)
        }
        return {name: data for name, data in found.items() if not name.startswith("study/")}


def rows_of_study(folder: Path) -> bytes:
    """The rows of the finished study in a folder, as text."""
    import pandas as pd

    table = pd.read_parquet(folder / "study/results.parquet")
    return json.dumps(table.astype(str).to_dict("records")).encode()


def verbs(inputs: Path) -> list[Verb]:
    """Every verb; ``inputs`` is a folder for the files that they read."""
    study, recipe, trace = inputs / "study.yaml", inputs / "short.yaml", inputs / "requests.trace"
    study.write_text(_STUDY.format(source=_SOURCE), encoding="utf-8")
    recipe.write_text(_RECIPE, encoding="utf-8")
    trace.write_text("".join(f"{'LD' if i % 3 else 'ST'} 0x{64 * (i * 7919 % 65536):x}\n" for i in range(200_000)))
    two = ("--storage", "dense-int8", "--storage", "shared")
    return [
        Verb(
            name="compress",
            words=["compress", str(ROOT / "models/lenet_300_100.safetensors"), "o.dchw", "--density", "0.1"],
        ),
        Verb(
            name="simulate",
            words=["simulate", _SOURCE, "--out", "o.csv", "--timeline", "o.pftrace.gz", "--dram-trace", "o.trace"],
        ),
        Verb(name="compare", words=["compare", _SOURCE, *two, "--csv", "o.csv", "--report", "o.html"]),
        Verb(
            name="report",
            words=["report", _SOURCE, *two, "--out", "o.html", "--csv", "csv", "--parquet", "pq", "--figures", "fig"],
        ),
        Verb(name="replay", words=["replay", str(trace), "--dram", "LPDDR5-6400", "--csv", "o.csv"]),
        Verb(name="machines", words=["machines", "phone-lpddr5x", "--ert", "ert.yaml", "--art", "art.yaml"]),
        Verb(name="sweep", words=["sweep", str(study), "--out", "study", "--csv", "o.csv"], goes_on=True),
        Verb(name="train", words=["train", str(recipe), "--out", "net"], goes_on=True),
        Verb(name="demo", words=["demo", "--out", "demo"]),
        Verb(name="inspect", words=["inspect", _SOURCE], prints=True),
        Verb(name="list", words=["list"], prints=True),
        Verb(name="schema", words=["schema", "machine"], prints=True),
        Verb(name="validate", words=["validate", "compression"], prints=True),
    ]


def torn(found: Mapping[str, bytes], whole: Mapping[str, bytes], before: Mapping[str, bytes]) -> list[str]:
    """Names of files that are neither whole, as a run to the end leaves them, nor what was there before."""
    return [name for name, data in found.items() if data not in (whole.get(name), before.get(name))]
