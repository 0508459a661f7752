"""Chunks on the cores of this machine: processes that may be killed, and a parent that may be killed as well.

Chunks come in batches. A batch is finished before the next one is asked for, so that a search can learn from it; a
study that enumerates its points is one batch.

A worker goes on with the chunk that follows its last one, where that is still to be had, as they share most.

Each worker has a pipe. It takes chunks from it and reports points on it, now and then and not one by one; a pipe that
closes tells the worker that its parent is gone, and the parent that its worker is. What a dead worker had not finished
by what lies on disk goes on elsewhere, the point it was at alone, so that a point which kills its worker is found and
takes nobody with it.
"""

from __future__ import annotations

import gc
import pickle
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess

import numpy as np
import numpy.typing as npt

from dchw.quantities import DchwError
from dchw.studies.nursery import no_interrupts, nursery
from dchw.studies.point_chunks import ATTEMPTS, Batch, Evaluator, Indices, record_killer, run_chunk
from dchw.studies.store import Store

GRACE_SECONDS = 10.0
"""How long a worker may take to finish its point after a stop."""
REPORT_SECONDS = 0.1
"""Between two reports of a worker, at least: a message costs both sides a hundredth of a small point."""
_POINTS, _CHUNK, _STOPPED = "points", "chunk", "stopped"
OnPoints = Callable[[int], None]
"""Hears of so many more finished points."""
Finished = Callable[[], npt.NDArray[np.bool_]]
"""bool[count]: points that are finished by what lies on disk."""


def run_here(evaluator: Evaluator, store: Store, batches: Iterator[Batch], on_points: OnPoints) -> None:
    """All chunks in this process."""
    _load_tables()
    with _settled():
        for batch in batches:
            for indices in batch:
                run_chunk(evaluator, store.folder, store.kinds, indices, lambda index: on_points(1))


def run_on_cores(
    evaluator: Evaluator,
    store: Store,
    batches: Iterator[Batch],
    on_points: OnPoints,
    workers: int,
    finished: Finished,
) -> None:
    """All chunks on ``workers`` processes; raises what stops a worker, once the others have kept what they finished."""
    pool = _Pool(evaluator=evaluator, store=store, on_points=on_points, finished=finished)
    try:
        for batch in batches:
            pool.run(batch, workers)
    finally:
        pool.stop()


@dataclass(eq=False)
class _Worker:
    process: BaseProcess
    pipe: Connection
    busy: bool = False
    left: list[int] = field(default_factory=list)
    """Points of its chunk that it has not reported, in order."""
    next: int = -1
    """Number of the chunk that follows its last one."""


@dataclass
class _Pool:
    evaluator: Evaluator
    store: Store
    on_points: OnPoints
    finished: Finished
    waiting: dict[int, Indices] = field(default_factory=dict)
    """Chunks by number; what dead workers left is numbered below zero, and goes first."""
    workers: list[_Worker] = field(default_factory=list)
    deaths: Counter[int] = field(default_factory=Counter)
    count: int = 1
    """Workers that a batch was cut for."""

    def run(self, batch: Batch, count: int) -> None:
        """Work a batch to its end on at most ``count`` workers, which stay for the next one."""
        self.waiting.update(enumerate(batch))
        self.count = count
        for worker in self.workers:
            worker.next = -1
            self._assign(worker)
        while len(self.workers) < count and self.waiting:
            self._hire()
        _load_tables()
        while any(worker.busy for worker in self.workers):
            for pipe in wait([worker.pipe for worker in self.workers]):
                worker = next(w for w in self.workers if w.pipe is pipe)
                try:
                    self._hear(worker, *worker.pipe.recv())
                except (EOFError, OSError):
                    self._bury(worker)

    def stop(self) -> None:
        """Let workers keep what they have, then end them."""
        for worker in self.workers:
            worker.pipe.close()
        for worker in self.workers:
            worker.process.join(GRACE_SECONDS)
            if worker.process.is_alive():
                worker.process.kill()
                worker.process.join()
        self.workers = []

    def _hire(self) -> None:
        context = nursery()
        ours, theirs = context.Pipe()
        work = pickle.dumps((self.evaluator, self.store.folder, dict(self.store.kinds)))
        process = context.Process(target=_work, args=(theirs, work, __file__), daemon=True)  # type: ignore[attr-defined]
        process.start()
        theirs.close()
        worker = _Worker(process=process, pipe=ours)
        self.workers.append(worker)
        self._assign(worker)

    def _assign(self, worker: _Worker) -> None:
        worker.busy = bool(self.waiting)
        if worker.busy:
            first = min(self.waiting)
            number = worker.next if first >= 0 and worker.next in self.waiting else first
            chunk = self.waiting.pop(number)
            worker.next = number + self.count if number >= 0 else worker.next
            worker.left = chunk.tolist()
            with suppress(OSError):  # a worker that died meanwhile is found by its closed pipe
                worker.pipe.send(chunk)

    def _hear(self, worker: _Worker, what: str, content: str | int) -> None:
        if what == _STOPPED:
            raise DchwError(str(content))
        done = int(content)
        del worker.left[:done]
        if what == _CHUNK:
            self._assign(worker)
        self.on_points(done)

    def _bury(self, worker: _Worker) -> None:
        """Put what a dead worker left back to work."""
        worker.process.join()
        worker.pipe.close()
        self.workers.remove(worker)
        left = [index for index, done in zip(worker.left, self.finished()[worker.left], strict=True) if not done]
        self.on_points(len(worker.left) - len(left))
        if left:
            at, rest = left[0], left[1:]
            self.deaths[at] += 1
            if rest:
                self._put_first(rest)
            if self.deaths[at] < ATTEMPTS:
                self._put_first([at])
            else:
                how = f"exit code {worker.process.exitcode}"
                record_killer(self.evaluator, self.store.folder, self.store.kinds, at, how)
                self.on_points(1)
        if self.waiting:
            self._hire()

    def _put_first(self, points: list[int]) -> None:
        self.waiting[min(0, *self.waiting, 0) - 1] = np.array(points, np.int64)


@contextmanager
def _settled() -> Iterator[None]:
    """What is loaded by now is not gone through for garbage again; workers are forked with it in that state."""
    if gc.get_freeze_count():  # whoever calls has done it
        yield
        return
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def _load_tables() -> None:
    """Import what results are merged with: before points are done, or while workers do them and this process waits.

    Python may lose a Ctrl-C that comes in the middle of an import.
    """
    with no_interrupts():
        import pandas  # noqa: F401
        import pyarrow.parquet  # noqa: F401


def _work(pipe: Connection, work: bytes, source: str) -> None:
    """A worker: chunks from the pipe until it closes. ``source``: this file, as the parent has it."""
    # Ctrl-C reaches every process of a terminal: the parent decides when workers stop
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with suppress(EOFError, OSError):  # the parent is gone, or has said stop: what is finished is kept
        if source != __file__:
            pipe.send((_STOPPED, f"workers: expected the package of {source}; got that of {__file__}; use one worker"))
            return
        evaluator, folder, kinds = pickle.loads(work)
        while True:
            chunk, reports = pipe.recv(), _Reports(pipe)
            try:
                run_chunk(evaluator, folder, kinds, chunk, reports.finished)
            except DchwError as error:
                pipe.send((_STOPPED, str(error)))
                return
            pipe.send((_CHUNK, reports.kept))


class _Reports:
    """Tells the parent how many more points of a chunk are finished."""

    def __init__(self, pipe: Connection) -> None:
        self._pipe, self._last = pipe, time.monotonic()
        self.kept = 0
        """Finished points that it was not told of."""

    def finished(self, index: int) -> None:
        """One more is finished; say so, unless something was said a moment ago."""
        self.kept += 1
        now = time.monotonic()
        if now - self._last >= REPORT_SECONDS:
            self._pipe.send((_POINTS, self.kept))
            self.kept, self._last = 0, now
