"""A fully connected layer on a broadcast PE array, as a program and as the known-good recurrence.

One source broadcasts active columns to P bounded queues; decode units stream entries through buffers; each PE takes a
column at its first entry and an entry per cycle. An empty slice of a column costs one cycle without an entry.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from dchw.program.layer_runs import LayerRuns
from dchw.program.program import FiringNode, Link, Program

Ints = npt.NDArray[np.int64]


def broadcast_program(work: Ints, *, depth: int, decoders: int = 0, buffer: int = 16) -> Program:
    """``work[column, pe]`` entries; with ``decoders`` units that each serve ``P / decoders`` PEs in column order."""
    columns, elements = work.shape
    firings = np.maximum(work, 1)
    nodes = [_node("source", np.ones(columns, np.int32))]
    links = []
    for pe in range(elements):
        count = int(firings[:, pe].sum())
        nodes.append(_node(f"pe{pe}", np.ones(count, np.int32)))
        first = np.concatenate([[0], np.cumsum(firings[:, pe])[:-1]]).astype(np.int32)
        links.append(
            Link(name=f"column{pe}", source="source", target=f"pe{pe}", items=columns, depth=depth, taken_by=first)
        )
    for unit in range(decoders):
        served = np.arange(unit, elements, decoders)
        order = np.repeat(np.tile(served, columns), work[:, served].reshape(-1))
        nodes.append(_node(f"decoder{unit}", np.ones(order.size, np.int32)))
        for pe in served.tolist():
            given_by = np.flatnonzero(order == pe).astype(np.int32)
            starts = np.cumsum(firings[:, pe]) - firings[:, pe]
            slots = np.repeat(starts, work[:, pe])
            within = np.arange(slots.size) - np.repeat(np.cumsum(work[:, pe]) - work[:, pe], work[:, pe])
            links.append(
                Link(
                    name=f"entry{pe}", source=f"decoder{unit}", target=f"pe{pe}", items=given_by.size, depth=buffer,
                    given_by=given_by, taken_by=(slots + within).astype(np.int32),
                )
            )  # fmt: skip
    return Program(clock_hz=800_000_000, layers=("fc",), nodes=tuple(nodes), links=tuple(links))


def _node(name: str, occupied: npt.NDArray[np.int32]) -> FiringNode:
    return FiringNode(name=name, unit=name, occupied=occupied, layer=LayerRuns(((0, len(occupied)),)))


def recurrence(work: Ints, depth: int) -> int:
    """Cycles of the array without decoders, column by column: an oracle of its own, with no queue in it."""
    columns, elements = work.shape
    free = np.zeros(elements, np.int64)
    ring = np.zeros(depth, np.int64)
    push = -1
    for column in range(columns):
        push = max(push + 1, int(ring[column % depth]) + 1 if column >= depth else 0)
        start = np.maximum(free, push + 1)
        free = start + np.maximum(work[column], 1)
        ring[column % depth] = start.max()
    return int(max(free.max(), push + 1))


def random_work(rng: np.random.Generator, columns: int, rows: int, elements: int, density: float) -> Ints:
    """Entries of each (active column, PE) with independent zeros; no fillers."""
    return rng.binomial(rows // elements, density, (columns, elements)).astype(np.int64)
