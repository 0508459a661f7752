"""Where workers come from: are they ready when they start, of this package, and does nobody hear of the server?"""

from __future__ import annotations

import gc
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import ClassVar

import pytest

import dchw
from dchw.studies import workers
from dchw.studies.points import Values
from dchw.studies.store import Row
from tests.studies.synthetic import Synthetic, table

ROOT = Path(dchw.__file__).parents[1]
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="workers are forked on Linux alone")


def in_a_worker(code: str, folder: Path, **options: object) -> str:
    """What ``code`` prints in a process of the nursery, of a program that lies in ``folder``."""
    program = folder / "program.py"
    program.write_text(
        "import os, sys\n"
        "from dchw.studies.nursery import nursery\n"
        f"def work():\n    {code}\n"
        'if __name__ == "__main__":\n'
        "    process = nursery().Process(target=work)\n"
        "    process.start()\n"
        "    process.join()\n"
        "    sys.exit(process.exitcode)\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, str(program)],
        capture_output=True,
        text=True,
        env=environment,
        **options,  # type: ignore[call-overload]
    )
    assert done.returncode == 0, done.stderr
    return str(done.stdout).strip()


def test_workers_are_ready_and_were_forked_by_a_single_thread(tmp_path: Path) -> None:
    code = (
        'parent = open(f"/proc/{os.getppid()}/status").read();'
        ' print("dchw.studies.simulated" in sys.modules, parent.partition("Threads:")[2].split()[0])'
    )
    assert in_a_worker(code, tmp_path) == "True 1"


def test_workers_have_the_package_of_who_starts_them(tmp_path: Path) -> None:
    """Another one lies in the working folder, where a new interpreter would look first."""
    other = tmp_path / "here" / "dchw"
    other.mkdir(parents=True)
    (other / "__init__.py").touch()
    found = in_a_worker("import dchw; print(dchw.__file__)", tmp_path, cwd=other.parent)
    assert found == str(ROOT / "dchw" / "__init__.py")


def test_a_worker_of_another_copy_does_not_work() -> None:
    ours, theirs = multiprocessing.Pipe()
    before = signal.getsignal(signal.SIGINT)
    try:
        workers._work(theirs, b"", "/elsewhere/dchw/studies/workers.py")
    finally:
        signal.signal(signal.SIGINT, before)
    what, said = ours.recv()
    assert what == "stopped"
    assert "expected the package of /elsewhere" in said


def test_an_interrupted_start_says_one_sentence(tmp_path: Path) -> None:
    """Ctrl-C reaches all processes of a terminal, the server while it gets ready among them."""
    (tmp_path / "study.yaml").write_text("networks: lenet-300-100\nvary:\n  huffman.units: [4, 8]\n")
    words = [sys.executable, "-m", "dchw", "sweep", str(tmp_path / "study.yaml"), "--out", str(tmp_path / "out")]
    process = subprocess.Popen(
        [*words, "--workers", "2"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    while process.poll() is None and not _runs_a_server(process.pid):
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert said.strip() == "dchw: stopped; no file was written"
    # interrupted within a text that it evaluates, a namedtuple's for one, Python ends by the signal whatever follows
    assert process.returncode in (130, -signal.SIGINT)


class Watching(Synthetic):
    """Notes how many objects the garbage collector leaves alone while points are evaluated."""

    kept: ClassVar[list[int]] = []

    def evaluate(self, values: Values) -> Row:
        self.kept.append(gc.get_freeze_count())
        return super().evaluate(values)


def test_one_process_leaves_what_is_loaded_alone_as_workers_do_and_only_meanwhile(tmp_path: Path) -> None:
    assert gc.get_freeze_count() == 0
    table(tmp_path / "s", Watching(2))
    assert min(Watching.kept) > 1000
    assert gc.get_freeze_count() == 0


def _runs_a_server(pid: int) -> bool:
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            parent = (entry / "stat").read_text().rpartition(")")[2].split()[1]
            if int(parent) == pid and b"forkserver" in (entry / "cmdline").read_bytes():
                return True
        except OSError:
            continue
    return False
