"""Is anything lost on a real Dask cluster when its workers or its scheduler are killed?"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pytest

from dchw.quantities import DchwError
from tests.studies.synthetic import Synthetic, table
from tests.studies.test_survival import check_part, ended_well, let_go, readable, start, wait_for_rows

distributed = pytest.importorskip("distributed", reason="needs the extra 'cluster'")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(os.name == "nt", reason="signals of POSIX"),
    # a cluster that is killed on purpose leaves sockets and coroutines behind in this process's client
    pytest.mark.filterwarnings("ignore"),
]
COUNT = 60


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    return table(tmp_path_factory.mktemp("undisturbed") / "study", Synthetic(COUNT))


class Cluster:
    """A scheduler and its workers, each a process of its own, as a batch system would start them."""

    def __init__(self, scratch: Path) -> None:
        self._scratch = scratch
        self.scheduler = self._start("scheduler", "--port", "0", "--host", "127.0.0.1", "--no-dashboard")
        assert self.scheduler.stderr is not None
        self.address = ""
        for line in self.scheduler.stderr:
            found = re.search(rb"Scheduler at:\s+(tcp://\S+)", line)
            if found:
                self.address = found[1].decode()
                break
        threading.Thread(target=self.scheduler.stderr.read, daemon=True).start()
        self.workers: list[subprocess.Popen[bytes]] = []

    def add_worker(self) -> subprocess.Popen[bytes]:
        options = ["--nthreads", "1", "--no-nanny", "--no-dashboard", "--death-timeout", "60"]
        worker = self._start("worker", self.address, *options, "--local-directory", str(self._scratch))
        assert worker.stderr is not None
        threading.Thread(target=worker.stderr.read, daemon=True).start()
        self.workers.append(worker)
        return worker

    def wait_for(self, workers: int) -> None:
        with distributed.Client(self.address, timeout=60) as client:
            client.wait_for_workers(workers, timeout=60)

    def stop(self) -> None:
        for process in (*self.workers, self.scheduler):
            with suppress(ProcessLookupError):
                process.kill()
            process.wait(timeout=60)

    @staticmethod
    def _start(what: str, *words: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "distributed.cli.dask_" + what, *words]
        # dask itself tries no task again on another worker: the study does
        allowed = {"DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES": "0"}
        environment = {**os.environ, "PYTHONWARNINGS": "ignore", **allowed}
        return subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, env=environment)


@contextmanager
def cluster(scratch: Path, workers: int) -> Iterator[Cluster]:
    made = Cluster(scratch)
    try:
        for _ in range(workers):
            made.add_worker()
        made.wait_for(workers)
        yield made
    finally:
        made.stop()


def test_a_cluster_gives_the_same_table(tmp_path: Path, undisturbed: pd.DataFrame) -> None:
    with cluster(tmp_path, 2) as made:
        assert table(tmp_path / "s", Synthetic(COUNT), scheduler=made.address).equals(undisturbed)
        failing = table(tmp_path / "f", Synthetic(COUNT, fails=frozenset({7})), scheduler=made.address)
        assert failing["error"].notna().sum() == 1


def test_a_killed_worker_of_a_cluster(tmp_path: Path, undisturbed: pd.DataFrame) -> None:
    with cluster(tmp_path, 2) as made:
        process = start(tmp_path / "s", made.address)
        wait_for_rows(tmp_path / "s", process)
        made.workers[0].send_signal(signal.SIGKILL)
        let_go(tmp_path / "s")
        ended_well(process)
    pd.testing.assert_frame_equal(readable(tmp_path / "s"), undisturbed, check_exact=True)


def test_a_killed_scheduler(tmp_path: Path, undisturbed: pd.DataFrame) -> None:
    with cluster(tmp_path, 2) as made:
        process = start(tmp_path / "s", made.address)
        wait_for_rows(tmp_path / "s", process)
        made.scheduler.send_signal(signal.SIGKILL)
        _, said = process.communicate(timeout=120)
    assert process.returncode == 1, said
    assert b"finished points are kept, start the same command again" in said
    check_part(readable(tmp_path / "s"), undisturbed)
    with cluster(tmp_path, 1) as made:
        found = table(tmp_path / "s", Synthetic(COUNT), scheduler=made.address)
    pd.testing.assert_frame_equal(found, undisturbed, check_exact=True)


def test_a_point_that_kills_the_workers_of_a_cluster(tmp_path: Path, undisturbed: pd.DataFrame) -> None:
    with cluster(tmp_path, 1) as made:
        for _ in range(3):  # the point is tried on three workers, and one is needed for the rest
            made.add_worker()
        made.wait_for(4)
        points = Synthetic(COUNT, kills=frozenset({13}))
        found = table(tmp_path / "s", points, scheduler=made.address).set_index("index")
    assert found.loc[13, "error"] == ("3 workers died on it (KilledWorker); it may need more memory than they have")
    rest = found.drop(index=13).reset_index()
    same = undisturbed[undisturbed["index"] != 13].reset_index(drop=True)
    pd.testing.assert_frame_equal(rest, same, check_exact=True)


def test_a_scheduler_that_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dchw.studies.cluster.CONNECT_SECONDS", 1)
    with pytest.raises(DchwError, match="cannot be reached"):
        table(tmp_path / "s", Synthetic(COUNT), scheduler="tcp://127.0.0.1:1")


@dataclass
class Homesick(Synthetic):
    """Cannot be put together on a worker."""

    def __setstate__(self, state: object) -> None:
        raise ModuleNotFoundError("No module named 'dchw'")


def test_workers_that_cannot_work_are_no_points_fault(tmp_path: Path) -> None:
    with cluster(tmp_path, 1) as made, pytest.raises(DchwError, match=r"cannot work \(ModuleNotFoundError.*same dchw"):
        table(tmp_path / "s", Homesick(COUNT), scheduler=made.address)
    assert readable(tmp_path / "s").empty
