"""Where workers come from: on Linux a server that has imported the package and loaded its kernels, and forks them.

A process that imports the package and loads its kernels is ready after a second or two, of processor time that every
worker would take for itself. The server (`multiprocessing.forkserver`) takes it once, beside the process that plans the
study; the workers that it forks start at once and share its memory. It runs no thread when it forks, so that forking
is safe there. Elsewhere every worker starts anew.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.context import BaseContext

_FORKS = (
    sys.platform == "linux"
    and "forkserver" in multiprocessing.get_all_start_methods()
    and not sys.flags.ignore_environment  # see `_same_imports`
)
"""Elsewhere what libraries of the system do in threads of their own makes forks unsafe, or there are none."""
PRELOADED = "dchw.studies.preloaded"


def open_nursery() -> None:
    """Start the server unless it runs; it gets ready while this process goes on."""
    if not _FORKS:
        return
    from multiprocessing import forkserver, resource_tracker

    resource_tracker.ensure_running()  # first, as it lets interrupts through once it runs
    forkserver.set_forkserver_preload([PRELOADED])
    with no_interrupts(), _same_imports():
        forkserver.ensure_running()


def nursery() -> BaseContext:
    """Makes workers' processes."""
    open_nursery()
    return multiprocessing.get_context("forkserver" if _FORKS else "spawn")


@contextmanager
def no_interrupts() -> Iterator[None]:
    """Ctrl-C is heard behind it. Processes started meanwhile never hear of it, though it reaches all of a terminal."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def _same_imports() -> Iterator[None]:
    """Processes started meanwhile look for modules where this one does, and not in the working folder before: else the
    server might import another copy of the package. Before workers start, `multiprocessing` sees to it, too late."""
    asked = {"PYTHONPATH": os.pathsep.join(sys.path), "PYTHONSAFEPATH": "1"}
    before = {name: os.environ.get(name) for name in asked}
    os.environ.update(asked)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
