"""Chunks on the cores of this machine: processes that may be killed, and a parent that may be killed as well.

Chunks come in batches. A batch is finished before the next one is asked for, so that a search can learn from it; a
study that enumerates its points is one batch.

A worker goes on with the chunk that follows its last one, where that is still to be had, as they share most.

Each worker has a pipe. It takes chunks from it and reports points on it; a pipe that closes tells the worker that its
parent is gone, and the parent that its worker is. What a dead worker had not finished goes on elsewhere, the point it
was at alone, so that a point which kills its worker is found and takes nobody with it.
"""

from __future__ import annotations

import multiprocessing
import pickle
import signal
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path

import numpy as np

from dchw.quantities import DchwError
from dchw.studies.point_chunks import ATTEMPTS, Batch, Evaluator, Indices, record_killer, run_chunk
from dchw.studies.store import Kinds

GRACE_SECONDS = 10.0
"""How long a worker may take to finish its point after a stop."""
_POINT, _CHUNK, _STOPPED = "point", "chunk", "stopped"
OnPoint = Callable[[int], None]


def run_here(evaluator: Evaluator, folder: Path, kinds: Kinds, batches: Iterator[Batch], on_point: OnPoint) -> None:
    """All chunks in this process."""
    for batch in batches:
        for indices in batch:
            run_chunk(evaluator, folder, kinds, indices, on_point)


def run_on_cores(
    evaluator: Evaluator, folder: Path, kinds: Kinds, batches: Iterator[Batch], on_point: OnPoint, workers: int
) -> None:
    """All chunks on ``workers`` processes; raises what stops a worker, once the others have kept what they finished."""
    pool = _Pool(evaluator=evaluator, folder=folder, kinds=kinds, on_point=on_point)
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
    folder: Path
    kinds: Kinds
    on_point: OnPoint
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
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        work = pickle.dumps((self.evaluator, self.folder, dict(self.kinds)))
        process = context.Process(target=_work, args=(theirs, work), daemon=True)
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

    def _hear(self, worker: _Worker, what: str, content: object) -> None:
        if what == _POINT:
            worker.left.remove(int(str(content)))
            self.on_point(int(str(content)))
        elif what == _CHUNK:
            worker.left = []
            self._assign(worker)
        else:
            raise DchwError(str(content))

    def _bury(self, worker: _Worker) -> None:
        """Put what a dead worker left back to work."""
        worker.process.join()
        worker.pipe.close()
        self.workers.remove(worker)
        if worker.left:
            at, rest = worker.left[0], worker.left[1:]
            self.deaths[at] += 1
            if rest:
                self._put_first(rest)
            if self.deaths[at] < ATTEMPTS:
                self._put_first([at])
            else:
                how = f"exit code {worker.process.exitcode}"
                record_killer(self.evaluator, self.folder, self.kinds, at, how)
                self.on_point(at)
        if self.waiting:
            self._hire()

    def _put_first(self, points: list[int]) -> None:
        self.waiting[min(0, *self.waiting, 0) - 1] = np.array(points, np.int64)


def _work(pipe: Connection, work: bytes) -> None:
    """A worker: chunks from the pipe until it closes."""
    # Ctrl-C reaches every process of a terminal: the parent decides when workers stop
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    evaluator, folder, kinds = pickle.loads(work)
    with suppress(EOFError, OSError):  # the parent is gone, or has said stop: what is finished is kept
        while True:
            chunk = pipe.recv()
            try:
                run_chunk(evaluator, folder, kinds, chunk, lambda index: pipe.send((_POINT, index)))
            except DchwError as error:
                pipe.send((_STOPPED, str(error)))
                return
            pipe.send((_CHUNK, None))
