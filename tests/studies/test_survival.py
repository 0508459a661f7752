"""Is anything lost, doubled or torn when workers, parents, disks and users misbehave?

Each test interrupts a run, looks at what can be read then, lets the same study go on and compares its table with the
one of a run that nothing disturbed.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pandas as pd
import pytest

from dchw.quantities import DchwError
from dchw.studies import workers
from dchw.studies.store import Store, held
from tests.studies.synthetic import KINDS, Synthetic, table

COUNT = 60
pytestmark = pytest.mark.skipif(os.name == "nt", reason="signals and locks of POSIX")


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    return table(tmp_path_factory.mktemp("undisturbed") / "study", Synthetic(COUNT))


def start(folder: Path, on: int | str, *, gated: bool = True) -> subprocess.Popen[bytes]:
    """A run that waits in its middle for `let_go`."""
    gate = [str(gate_of(folder))] if gated else []
    return start_program([sys.executable, "-m", "tests.studies.synthetic", str(folder), str(COUNT), str(on), *gate])


def gate_of(folder: Path) -> Path:
    return folder.with_suffix(".gate")


def let_go(folder: Path) -> None:
    gate_of(folder).touch()


def start_program(words: list[str]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(words, stderr=subprocess.PIPE)


def ended_well(process: subprocess.Popen[bytes]) -> None:
    _, said = process.communicate(timeout=60)
    assert process.returncode == 0, said


def wait_for_rows(folder: Path, process: subprocess.Popen[bytes], rows: int = 5) -> None:
    """Until some rows are on disk."""
    store = Store(folder=folder, kinds=KINDS, count=2 * COUNT)
    while process.poll() is None and not (folder / "parts").exists():
        time.sleep(0.01)
    while process.poll() is None and int(store.finished().sum()) < rows:
        time.sleep(0.01)
    assert process.poll() is None, process.communicate()[1]


def readable(folder: Path) -> pd.DataFrame:
    return Store(folder=folder, kinds=KINDS, count=2 * COUNT).frame()


def check_part(part: pd.DataFrame, undisturbed: pd.DataFrame, least: int = 5) -> None:
    """What is there is right, single and not everything."""
    assert least <= len(part) < len(undisturbed)
    assert part["index"].is_unique
    same = undisturbed.set_index("index").loc[part["index"]].reset_index()
    pd.testing.assert_frame_equal(part, same, check_exact=True)


def children(pid: int) -> list[int]:
    """Workers of a process: what the server that it started has forked."""
    parent_of = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError):
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
                parent_of[int(entry.name)] = int(fields[1])
    return [child for child, parent in parent_of.items() if parent_of.get(parent) == pid]


needs_proc = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc to find workers")


@needs_proc
def test_a_killed_worker(tmp_path: Path, undisturbed: pd.DataFrame) -> None:
    process = start(tmp_path / "s", 2)
    wait_for_rows(tmp_path / "s", process)
    os.kill(children(process.pid)[0], signal.SIGKILL)
    let_go(tmp_path / "s")
    ended_well(process)
    pd.testing.assert_frame_equal(readable(tmp_path / "s"), undisturbed, check_exact=True)


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_a_killed_and_an_interrupted_parent(
    tmp_path: Path, undisturbed: pd.DataFrame, workers: int, how: signal.Signals
) -> None:
    process = start(tmp_path / "s", workers)
    wait_for_rows(tmp_path / "s", process)
    process.send_signal(how)
    let_go(tmp_path / "s")
    process.communicate(timeout=60)
    assert process.returncode != 0
    check_part(readable(tmp_path / "s"), undisturbed)
    assert table(tmp_path / "s", Synthetic(COUNT)).equals(undisturbed)
    # one killed in the middle of writing leaves that half made, which goes once it is nobody's
    for half in (tmp_path / "s" / "parts").glob(".*.part*"):
        os.utime(half, (0, 0))
    assert table(tmp_path / "s", Synthetic(COUNT)).equals(undisturbed)
    assert list((tmp_path / "s" / "parts").iterdir()) == []


def test_two_starts_at_once(tmp_path: Path, undisturbed: pd.DataFrame) -> None:
    first = start(tmp_path / "s", 1)
    wait_for_rows(tmp_path / "s", first)
    with pytest.raises(DchwError, match=rf"another start is at work there \(process {first.pid}\); wait for it"):
        table(tmp_path / "s", Synthetic(COUNT))
    let_go(tmp_path / "s")
    ended_well(first)
    pd.testing.assert_frame_equal(readable(tmp_path / "s"), undisturbed, check_exact=True)


def test_two_starts_that_see_no_lock(
    tmp_path: Path, undisturbed: pd.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where a file system has no locks, both run; every point still stands in the table once."""
    other = start(tmp_path / "s", 1)
    wait_for_rows(tmp_path / "s", other)
    monkeypatch.setattr("dchw.studies.store.try_lock", lambda file: True)
    here = table(tmp_path / "s", Synthetic(COUNT))
    assert here.equals(undisturbed)
    let_go(tmp_path / "s")
    ended_well(other)
    pd.testing.assert_frame_equal(readable(tmp_path / "s"), undisturbed, check_exact=True)


@pytest.fixture
def small_disk() -> Iterator[Path]:
    disk = Path(tempfile.mkdtemp())  # outside pytest's folders: a mount that is left behind would block their removal
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(disk)], capture_output=True)
    if made.returncode:
        disk.rmdir()
        pytest.skip("may not mount a tmpfs")
    yield disk
    subprocess.run(["umount", "-l", str(disk)], check=True)
    disk.rmdir()


@pytest.mark.parametrize("workers", [1, 2])
def test_a_full_disk(small_disk: Path, undisturbed: pd.DataFrame, workers: int) -> None:
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(232 << 10))
    process = start(small_disk / "s", workers, gated=False)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 1
    assert b"cannot be written" in said
    assert b"free space" in said
    part = readable(small_disk / "s")
    check_part(part, undisturbed, least=1)
    ballast.unlink()
    assert table(small_disk / "s", Synthetic(COUNT)).equals(undisturbed)


def test_points_that_fail_stand_in_the_table(tmp_path: Path, undisturbed: pd.DataFrame) -> None:
    points = Synthetic(COUNT, fails=frozenset({7}), breaks=frozenset({11}))
    found = table(tmp_path / "s", points).set_index("index")
    assert found.loc[7, "error"] == "point 7 has no figure"
    assert found.loc[11, "error"] == "ZeroDivisionError: a fault of the simulator"
    assert found["error"].notna().sum() == 2
    assert pd.isna(found.loc[7, "figure"])
    assert found.loc[7, "a"] == 3
    # once its cause is gone, a failed point runs again only if asked
    again = table(tmp_path / "s", Synthetic(COUNT))
    assert again["error"].notna().sum() == 2
    assert table(tmp_path / "s", Synthetic(COUNT), retry_failed=True).equals(undisturbed)


def test_a_point_that_kills_its_workers_is_found(tmp_path: Path, undisturbed: pd.DataFrame) -> None:
    found = table(tmp_path / "s", Synthetic(COUNT, kills=frozenset({13})), workers=2).set_index("index")
    assert found.loc[13, "error"] == "3 workers died on it (exit code -9); it may need more memory than they have"
    rest = found.drop(index=13).reset_index()
    same = undisturbed[undisturbed["index"] != 13].reset_index(drop=True)
    pd.testing.assert_frame_equal(rest, same, check_exact=True)


def test_a_worker_that_dies_while_failed_points_run_again(tmp_path: Path, undisturbed: pd.DataFrame) -> None:
    """What failed before has a row, and still is not finished."""
    failed = frozenset({30, 60, 90})
    table(tmp_path / "s", Synthetic(COUNT, fails=failed))
    found = table(tmp_path / "s", Synthetic(COUNT, kills=frozenset({60})), workers=2, retry_failed=True)
    assert found.loc[found["error"].notna(), "index"].tolist() == [60]
    same = undisturbed[undisturbed["index"] != 60]
    pd.testing.assert_frame_equal(found[found["index"] != 60], same, check_exact=True)


def test_points_are_counted_once(tmp_path: Path) -> None:
    """Whatever a worker had finished without a word when it died."""
    told: list[tuple[int, int]] = []
    points = Synthetic(COUNT, kills=frozenset({13, 77}))
    table(tmp_path / "s", points, workers=2, on_progress=lambda done, total: told.append((done, total)))
    assert told == sorted(told)
    assert (told[0], told[-1]) == ((0, 2 * COUNT), (2 * COUNT, 2 * COUNT))


def test_one_worker_and_two_give_the_same(tmp_path: Path, undisturbed: pd.DataFrame) -> None:
    assert table(tmp_path / "s", Synthetic(COUNT), workers=2).equals(undisturbed)


def test_a_worker_goes_on_where_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What neighbours share is then at hand: stretches are cut so that chunks of one stand two places apart.

    22 chunks and not 24: the last of each stretch would be shorter than a point.
    """
    taken: list[tuple[int, int]] = []
    original = workers._Pool._assign

    def assign(pool: workers._Pool, worker: workers._Worker) -> None:
        before = set(pool.waiting)
        original(pool, worker)
        taken.extend((id(worker), number) for number in before - set(pool.waiting))

    monkeypatch.setattr(workers._Pool, "_assign", assign)
    table(tmp_path / "s", Synthetic(COUNT), workers=2)
    assert sorted(number for _, number in taken) == list(range(22))
    left = set(range(22))
    last: dict[int, int] = {}
    for worker, number in taken:
        follows = last.get(worker, -9) + 2
        assert number == (follows if follows in left else min(left))
        left.remove(number)
        last[worker] = number


def test_the_lock_is_let_go(tmp_path: Path) -> None:
    for _ in range(2):
        with held(tmp_path):
            pass
