"""Points in chunks of about equal predicted cost, and what a worker does with one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from dchw.quantities import DchwError
from dchw.studies.points import Values
from dchw.studies.store import ERROR, INDEX, Kinds, Row, Writer

CHUNKS_OF_A_WORKER, CHUNKS_OF_A_PROCESS = 8, 12
"""Chunks per worker of a cluster and per process of this machine: enough to even out what the prediction misses, few
enough for a cluster's scheduler."""
SHRINK = 0.7
"""Cost of a worker's next chunk, of that of the one before: the first ones are large, so that what points share is
shared; the last ones, of 2.6 % of a worker's points or of 0.6 % of a process's, are all that the others may have to
wait for at the end."""
ATTEMPTS = 3
"""Workers that may die on a point before it is recorded as the one that kills them."""
Indices = npt.NDArray[np.int64]
Batch = Iterable[Indices]
"""Chunks that may run at once."""


class Evaluator(Protocol):
    """Turns points into rows; travels to workers once and keeps there what points share."""

    def at(self, index: int) -> Values:
        """Values of a point."""

    def evaluate(self, values: Values) -> Row:
        """Figures of a point; raises for a point that has none."""

    def cost(self, index: int) -> float:
        """Predicted cost of a point, in any unit."""

    def order(self, indices: Indices) -> Indices:
        """Rising points in the order in which those behind one another share most; blocks stay one behind another."""


def evaluate(evaluator: Evaluator, index: int) -> Row:
    """The row of a point; what went wrong with it stands in its ``error``."""
    row: Row = {INDEX: index}
    try:
        values = evaluator.at(index)
        row.update(values)
        row.update(evaluator.evaluate(values))
        row[ERROR] = None
    except DchwError as error:
        row[ERROR] = str(error)
    except Exception as error:  # a fault of the simulator must not cost the other points
        row[ERROR] = f"{type(error).__name__}: {error}"
    return row


def run_chunk(
    evaluator: Evaluator,
    folder: Path,
    kinds: Kinds,
    indices: Indices,
    on_point: Callable[[int], None] = lambda index: None,
) -> None:
    """Evaluate the points of a chunk, keeping each as it finishes, and whatever ends this, what is finished."""
    writer = Writer(folder, kinds)
    try:
        for index in indices:
            writer.append(evaluate(evaluator, int(index)))
            on_point(int(index))
    finally:
        writer.close()


def record_killer(evaluator: Evaluator, folder: Path, kinds: Kinds, index: int, how: str) -> None:
    """The row of a point on which workers died."""
    row: Row = {INDEX: index, **evaluator.at(index)}
    row[ERROR] = f"{ATTEMPTS} workers died on it ({how}); it may need more memory than they have"
    writer = Writer(folder, kinds)
    writer.append(row)
    writer.close()


def chunked(
    evaluator: Evaluator, missing: Indices, block: int, workers: int, each_worker: int = CHUNKS_OF_A_WORKER
) -> Iterator[Indices]:
    """Missing points, given in rising order, cut so that each worker gets ``each_worker`` chunks of shrinking cost,
    each in the order of the evaluator.

    Cost is predicted once per ``block`` of neighbours, which differ in their machine alone. Every worker has a stretch
    of the order; the first chunks of all stretches come first, so that behind a chunk of a stretch the next one stands
    ``workers`` places on.
    """
    if not missing.size:
        return
    blocks, counts = np.unique(missing // block, return_counts=True)
    costs = np.array([evaluator.cost(int(b) * block) for b in blocks])
    each = np.repeat(costs, counts)
    share = (np.cumsum(each) - each / 2) / each.sum() * workers
    stretch = np.floor(share).astype(np.int64)
    shrinking = np.cumsum(SHRINK ** np.arange(each_worker))
    turn = np.searchsorted(shrinking[:-1] / shrinking[-1], share - stretch)
    firsts = np.flatnonzero(np.diff(stretch * each_worker + turn, prepend=-1))
    chunks = np.split(evaluator.order(missing), firsts[1:])
    for place in np.lexsort((stretch[firsts], turn[firsts])):
        yield chunks[place]
