"""Kills, Ctrl-C and full disks, in every verb of the command line."""

from __future__ import annotations

import os
import random
import re
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.soak.tally import Tally, WrongError
from tests.soak.verbs import Job, Verb, rows_of_study, torn, verbs, warm_up

LONGEST = 900
"""Seconds that any command may take; one that takes longer hangs."""
DEAR_SECONDS = 15.0
"""A verb that takes longer has its turn less often, in proportion."""
_STOPPED = re.compile(r"dchw: stopped; (?:written and whole: (?P<files>.*)|no file was written|(?P<own>.*))")


@dataclass(frozen=True, kw_only=True)
class Whole:
    """What a verb leaves when nothing happens to it."""

    files: dict[str, bytes]
    rows: bytes
    """Of a study."""
    seconds: float


class Stage:
    """The verbs, each run to its end once when it is first asked for."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        inputs = folder / "inputs"
        inputs.mkdir()
        self.verbs = verbs(inputs)
        warm_up()
        self._whole: dict[str, Whole] = {}

    def whole(self, verb: Verb) -> Whole:
        if verb.name not in self._whole:
            folder = self._folder / f"whole-{verb.name}"
            folder.mkdir()
            start = time.monotonic()
            _finish(verb, folder)
            took = time.monotonic() - start
            rows = rows_of_study(folder) if verb.name == "sweep" else b""
            self._whole[verb.name] = Whole(files=verb.read(folder), rows=rows, seconds=took)
        return self._whole[verb.name]

    def seconds(self, verb: Verb) -> float:
        """Of a run to the end, as far as it is known."""
        return self._whole[verb.name].seconds if verb.name in self._whole else DEAR_SECONDS


def _finish(verb: Verb, folder: Path) -> None:
    job = _done(verb.start(folder, _aside(folder)))
    if job.returncode:
        raise WrongError(f"exit {job.returncode}: {job.said[-600:]}")


def _aside(folder: Path) -> Path:
    """A file beside a folder, for what a verb says; empty."""
    path = folder.with_name(f"{folder.name}.said")
    path.write_text("")
    return path


def _done(job: Job) -> Job:
    if not job.wait(LONGEST):
        job.send(signal.SIGKILL)
        job.wait(LONGEST)
        raise WrongError(f"not done after {LONGEST} s")
    return job


def _check_left(verb: Verb, folder: Path, whole: Whole, before: dict[str, bytes]) -> None:
    found = {name: data for name, data in verb.read(folder).items() if name in whole.files or not verb.goes_on}
    if bad := torn(found, whole.files, before):
        raise WrongError(f"torn: {bad}")
    if lost := sorted(before.keys() - found.keys()):
        raise WrongError(f"a file that was there before is gone: {lost}")


def _check_goes_on(verb: Verb, folder: Path, whole: Whole) -> str:
    if not verb.goes_on:
        return ""
    _finish(verb, folder)
    if verb.read(folder) != whole.files or (whole.rows and rows_of_study(folder) != whole.rows):
        raise WrongError("gone on with, it ends in other files")
    return " and went on"


def kill_trial(stage: Stage, verb: Verb, rng: random.Random, folder: Path) -> str:
    """The verb stopped at a random moment by a kill that cannot be caught, or by Ctrl-C."""
    whole = stage.whole(verb)
    before = {name: b"older" for name in whole.files if not verb.goes_on and rng.random() < 0.3}
    for name, data in before.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    gently = rng.random() < 0.5
    job = verb.start(folder, _aside(folder))
    job.wait(rng.uniform(0.0, 1.1) * whole.seconds)
    job.send(signal.SIGINT if gently else signal.SIGKILL)
    said = _done(job).said
    _check_left(verb, folder, whole, before)
    if "Traceback" in said:
        raise WrongError(f"a traceback: {said[-1500:]}")
    found = _STOPPED.search(said)
    if found:
        named = [] if found["files"] is None else found["files"].split(", ")
        real = [name for name in named if not (folder / name).exists()]
        if real:
            raise WrongError(f"said to be on disk, and is not: {real}")
        if found["own"] is None:
            new = [n for n, d in verb.read(folder).items() if before.get(n) != d and n in whole.files]
            unsaid = [name for name in new if name not in named]
            if unsaid:
                raise WrongError(f"on disk, and not said: {unsaid}; said {said[-300:]!r}")
    went_on = _check_goes_on(verb, folder, whole)
    if job.returncode == 0:
        return "was done"
    return f"nothing torn{went_on}"


def full_trial(stage: Stage, verb: Verb, rng: random.Random, folder: Path) -> str:
    """The verb on a disk that fills up; where it can go on, with room made afterwards."""
    whole = stage.whole(verb)
    if verb.prints or not whole.files:
        return _print_to_full(verb, folder)
    needed = sum(map(len, whole.files.values()))
    with _small_disk(folder, max(4096, int(rng.uniform(0, 1.3) * needed))) as grow:
        job = _done(verb.start(folder, _aside(folder)))
        _check_sentence(job)
        _check_left(verb, folder, whole, {})
        if job.returncode == 0:
            return "had room"
        grow()
        return f"a sentence{_check_goes_on(verb, folder, whole)}"


def _print_to_full(verb: Verb, folder: Path) -> str:
    job = _done(verb.start(folder, _aside(folder), Path("/dev/full")))
    _check_sentence(job)
    if job.returncode == 0:
        raise WrongError("its output was lost, and it ended with status 0")
    return "a sentence"


def _check_sentence(job: Job) -> None:
    said = job.said
    if "Traceback" in said or "Error:" in said.replace("OSError:", "Error:"):
        raise WrongError(f"a traceback: {said[-1500:]}")
    if job.returncode not in (0, 1) or (job.returncode and "dchw: " not in said):
        raise WrongError(f"exit {job.returncode} without a sentence: {said[-600:]!r}")


@contextmanager
def _small_disk(folder: Path, size: int) -> Iterator[object]:
    """A tmpfs of so many bytes on a folder; gives what makes it large."""
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder], check=True)
    try:
        yield lambda: subprocess.run(["mount", "-o", "remount,size=256m", folder], check=True)
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


def can_mount() -> bool:
    """Whether this process may mount a tmpfs."""
    if shutil.which("mount") is None or not hasattr(os, "geteuid") or os.geteuid() != 0:
        return False
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4096", "tmpfs", folder], capture_output=True)
        if done.returncode == 0:
            subprocess.run(["umount", folder], check=True)
        return done.returncode == 0


def soak_kills(tally: Tally, until: float, seed: int) -> None:
    """Verbs in turn, stopped at random, until the time is over."""
    _soak(tally, until, seed, "stopped", lambda verb: not verb.prints, kill_trial)


def soak_full_disks(tally: Tally, until: float, seed: int) -> None:
    """Verbs in turn on full disks until the time is over."""
    mounts = can_mount()
    if not mounts:
        tally.add("full disks of verbs that write", "not run: may not mount a tmpfs")
    _soak(tally, until, seed, "full disk", lambda verb: mounts or verb.prints, full_trial)


def _soak(tally, until, seed, kind, fits, trial) -> None:  # type: ignore[no-untyped-def]
    rng = random.Random(seed)
    with tempfile.TemporaryDirectory() as where:
        stage = Stage(Path(where))
        chosen = [verb for verb in stage.verbs if fits(verb)]
        while time.monotonic() < until:
            rng.shuffle(chosen)
            for verb in chosen:
                if time.monotonic() >= until:
                    break
                if rng.random() > DEAR_SECONDS / stage.seconds(verb):
                    continue
                with tempfile.TemporaryDirectory(dir=where) as folder:
                    tally.tried(
                        f"{kind}: {verb.name}", f"seed {seed}", lambda v=verb, f=folder: trial(stage, v, rng, Path(f))
                    )
