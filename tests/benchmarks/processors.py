"""Seconds that a command takes, by the clock and of processors; what it leaves running is waited for and counted."""

from __future__ import annotations

import ctypes
import os
import resource
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress

_ADOPT_ORPHANS = 36
"""Linux' PR_SET_CHILD_SUBREAPER: what a command leaves behind, such as the server that forks its workers, becomes this
process's child and can be waited for."""


def spent(command: Sequence[str], environment: Mapping[str, str] | None = None) -> tuple[float, float]:
    """Seconds of the clock until a command ends, and of processors until all that it started has ended (Linux)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_ADOPT_ORPHANS, 1, 0, 0, 0)
    before, start = _of_children(), time.perf_counter()
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    seconds = time.perf_counter() - start
    with suppress(ChildProcessError):
        while True:
            os.waitpid(-1, 0)
    assert done.returncode == 0, done.stderr
    return seconds, _of_children() - before


def _of_children() -> float:
    return sum(resource.getrusage(resource.RUSAGE_CHILDREN)[:2])
