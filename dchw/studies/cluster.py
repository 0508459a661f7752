"""Chunks on an existing Dask cluster, which dask-jobqueue starts under Slurm, LSF or SGE (extra ``cluster``).

Workers write into the study's folder, so it must lie on a file system that all of them share. A chunk that is lost
with its worker is looked up there, and only what is missing of it goes on, the first point alone. A scheduler that
dies takes nothing finished with it: the same command goes on where it stopped.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from dchw.quantities import DchwError
from dchw.studies.chunks import ATTEMPTS, Evaluator, Indices, record_killer, run_chunk
from dchw.studies.store import Kinds, Store
from dchw.studies.workers import OnPoint

CONNECT_SECONDS = 30


def run_on_cluster(
    evaluator: Evaluator, store: Store, chunks: Iterable[Indices], on_point: OnPoint, scheduler: str
) -> None:
    """All chunks on the cluster whose scheduler has this address; ``on_point`` hears of a chunk when it is done."""
    distributed = _distributed()
    try:
        client = distributed.Client(scheduler, timeout=CONNECT_SECONDS)
    except (OSError, TimeoutError, ValueError) as error:
        raise DchwError(f"scheduler {scheduler}: cannot be reached ({error}); check that it runs") from None
    with client:
        try:
            _run(client, distributed, evaluator, store, chunks, on_point)
        except (distributed.client.FutureCancelledError, distributed.CommClosedError, TimeoutError, OSError) as error:
            raise DchwError(
                f"scheduler {scheduler}: lost ({error}); finished points are kept, start the same command again"
            ) from None


def _run(
    client: Any, distributed: Any, evaluator: Evaluator, store: Store, chunks: Iterable[Indices], on_point: OnPoint
) -> None:
    shared = client.scatter(evaluator, broadcast=True, hash=False)
    folder, kinds = store.folder.resolve(), dict(store.kinds)

    def submit(indices: Indices) -> Any:
        future = client.submit(_chunk, shared, folder, kinds, indices, pure=False, retries=0)
        at[future] = indices
        return future

    at: dict[Any, Indices] = {}
    deaths: Counter[int] = Counter()
    running = distributed.as_completed([submit(indices) for indices in chunks])
    for future in running:
        indices = at.pop(future)
        problem = future.exception() if future.status == "error" else None
        if future.status == "cancelled":
            raise OSError("its tasks were cancelled")
        if isinstance(problem, DchwError):
            raise problem
        left = indices if problem is not None else indices[:0]
        if problem is not None:
            left = indices[~store.finished()[indices]]
        for index in np.setdiff1d(indices, left):
            on_point(int(index))
        if left.size:
            first = int(left[0])
            deaths[first] += 1
            if deaths[first] >= ATTEMPTS:
                record_killer(evaluator, folder, kinds, first, type(problem).__name__)
                on_point(first)
            else:
                running.add(submit(left[:1]))
            if left.size > 1:
                running.add(submit(left[1:]))


def _chunk(evaluator: Evaluator, folder: Path, kinds: Kinds, indices: Indices) -> None:
    run_chunk(evaluator, folder, kinds, indices)


def _distributed() -> Any:
    try:
        import distributed
    except ImportError:
        raise DchwError(
            "a scheduler needs the extra 'cluster', which is not installed; run pip install 'dchw[cluster]'"
        ) from None
    return distributed
