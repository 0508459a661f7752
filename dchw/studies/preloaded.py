"""What workers have in memory before they start; for the server that forks them (`dchw.studies.nursery`), and only it.

There a point of a small network that ships is run and forgotten: what it needs are the kernels, figures of units and
tables that most points need. Kernels that were never compiled are left to the workers, where Ctrl-C ends compiling.
pyarrow is left to them as well: it starts threads, and what forks has but one.
"""

from __future__ import annotations

import atexit
import gc
import os
import sys
from contextlib import suppress
from pathlib import Path

from dchw.compiling import told_of_compiling
from dchw.config import build
from dchw.studies.point_chunks import evaluate
from dchw.studies.settings import StudySettings
from dchw.studies.simulated import SimulatedPoints


class _NotCached(BaseException):
    """A kernel would have to be compiled; no error of a point, which would be caught."""


def _stop(done: int, in_all: int) -> None:
    raise _NotCached


def get_ready() -> None:
    """Load what a point needs, as far as it was compiled before."""
    points = SimulatedPoints(build(StudySettings, {"networks": "lenet-5"}, where="preloaded"), Path(__file__).parent)
    with suppress(_NotCached), told_of_compiling(_stop):
        evaluate(points, 0)
    gc.collect()
    gc.freeze()  # pages that no collection touches stay shared


if any("multiprocessing.forkserver" in word for word in sys.orig_argv):
    get_ready()
    # at the server's end, which workers do not reach: whoever reads what the command prints would wait for it
    atexit.register(os._exit, 0)
