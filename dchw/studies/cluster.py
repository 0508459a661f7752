"""Chunks on an existing Dask cluster, which dask-jobqueue starts under Slurm, LSF or SGE (extra ``cluster``).

Workers write into the study's folder, so it must lie on a file system that all of them share. A chunk that is lost
with its worker is looked up there, and only what is missing of it goes on, the first point alone. A scheduler that
dies takes nothing finished with it: the same command goes on where it stopped.
"""

from __future__ import annotations

import pickle
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dchw.extras import extras_named
from dchw.quantities import DchwError
from dchw.studies.point_chunks import ATTEMPTS, Batch, Evaluator, Indices, record_killer, run_chunk
from dchw.studies.store import Kinds, Store
from dchw.studies.workers import Finished, OnPoints

CONNECT_SECONDS = 30


def run_on_cluster(
    evaluator: Evaluator,
    store: Store,
    batches: Callable[[int], Iterator[Batch]],
    on_points: OnPoints,
    scheduler: str,
    finished: Finished,
) -> None:
    """All chunks on the cluster whose scheduler has this address; ``on_points`` hears of a chunk when it is done.

    ``batches`` is asked for a number of workers: the threads that the cluster has when the study begins.
    """
    distributed = _distributed()
    try:
        client = distributed.Client(scheduler, timeout=CONNECT_SECONDS)
    except (OSError, TimeoutError, ValueError) as error:
        raise DchwError(f"scheduler {scheduler}: cannot be reached ({error}); check that it runs") from None
    try:
        tasks = _Tasks(
            client=client,
            distributed=distributed,
            evaluator=evaluator,
            store=store,
            on_points=on_points,
            finished=finished,
        )
        for batch in batches(max(sum(client.nthreads().values()), 1)):
            tasks.run(batch)
    except (distributed.client.FutureCancelledError, TimeoutError, OSError) as error:
        raise DchwError(
            f"scheduler {scheduler}: lost ({error}); finished points are kept, start the same command again"
        ) from None
    finally:
        client.close(timeout=1)


@dataclass(kw_only=True)
class _Tasks:
    client: Any
    distributed: Any
    evaluator: Evaluator
    store: Store
    on_points: OnPoints
    finished: Finished
    deaths: Counter[int] = field(default_factory=Counter)

    def run(self, batch: Batch) -> None:
        """A batch to its end, a task per chunk."""
        at = {self._submit(indices): indices for indices in batch}
        running = self.distributed.as_completed(list(at))
        for future in running:
            indices = at.pop(future)
            for again in self._left(future, indices):
                new = self._submit(again)
                at[new] = again
                running.add(new)

    def _submit(self, indices: Indices) -> Any:
        # the evaluator travels with every task: what is scattered once is lost with the worker that holds it
        work = pickle.dumps(self.evaluator)
        folder = self.store.folder.resolve()
        return self.client.submit(_chunk, work, folder, dict(self.store.kinds), indices, pure=False, retries=0)

    def _left(self, future: Any, indices: Indices) -> list[Indices]:
        """What of a chunk must run again, its first point alone."""
        if future.status == "cancelled":
            raise OSError("its tasks were cancelled")
        problem = future.exception() if future.status == "error" else None
        if isinstance(problem, DchwError):
            raise problem
        if problem is not None and not isinstance(problem, self.distributed.KilledWorker):
            raise DchwError(
                f"a worker of the cluster cannot work ({type(problem).__name__}: {problem}); its Python must have the "
                "same dchw installed as this one"
            )
        left = indices[:0] if problem is None else indices[~self.finished()[indices]]
        self.on_points(indices.size - left.size)
        if not left.size:
            return []
        first, again = int(left[0]), [left[1:]] if left.size > 1 else []
        self.deaths[first] += 1
        if self.deaths[first] < ATTEMPTS:
            return [left[:1], *again]
        record_killer(self.evaluator, self.store.folder, self.store.kinds, first, type(problem).__name__)
        self.on_points(1)
        return again


_OF_THREAD = threading.local()


def _chunk(work: bytes, folder: Path, kinds: Kinds, indices: Indices) -> None:
    """A chunk on a worker, each of whose threads keeps the evaluator of one study for what its points share."""
    if getattr(_OF_THREAD, "work", None) != work:
        _OF_THREAD.work, _OF_THREAD.evaluator = work, pickle.loads(work)
    run_chunk(_OF_THREAD.evaluator, folder, kinds, indices)


def _distributed() -> Any:
    with extras_named("a scheduler"):
        import distributed
    return distributed
