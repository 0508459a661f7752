"""What a study will take before it is run: seconds and memory, tried on a few of its points or, where these are dear,
estimated from their mapping.

In each of a few blocks of neighbours, the first point shows what everything costs, the first one with other lists of
firings what such a step costs, and the point behind it what a step costs that changes none. Blocks that are not tried
cost what tried ones do, by their predicted cost.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from dchw.lowering.lower import WINDOW_FIRINGS
from dchw.run.estimate import BYTES_A_FIRING, peak_memory
from dchw.studies.point_chunks import Indices, evaluate
from dchw.studies.simulated import SimulatedPoints

PILOTS = 8
"""Blocks that are tried, at most."""
ESTIMATED_FROM = 50.0
"""Predicted cost from which on points are estimated and not run: runs of several seconds."""


@dataclass(frozen=True, kw_only=True)
class StudyPlan:
    """What a study will take."""

    points: int
    seconds: float
    """On one core."""
    memory_bytes: int | None
    """Most that a process holds, libraries included: this one on what was tried, a worker about as much. None where it
    is not known."""
    tried: int
    """Points that were run to find out."""
    estimated: int = 0
    """Points whose mapping alone was made to find out."""
    trainings: int = 0
    """Networks that have to be trained, whose time is not among the seconds."""
    failed: tuple[str, ...]
    """Errors of those among them that failed."""


def plan_of(points: SimulatedPoints, wanted: Indices, most: int) -> StudyPlan:
    """The plan of running at most ``most`` of the points ``wanted``, which are in rising order."""
    block = points.space.block
    blocks, firsts, counts = np.unique(wanted // block, return_index=True, return_counts=True)
    pilots = _Pilots(points)
    places = np.unique(np.linspace(0, blocks.size - 1, PILOTS).round().astype(int)) if blocks.size else blocks
    costs = np.array([points.cost(int(index)) for index in wanted[firsts]])
    seconds = [pilots.seconds(wanted[firsts[at] : firsts[at] + counts[at]], costs[at]) for at in places]
    total = float(np.sum(seconds) / (costs * counts)[places].sum() * (costs * counts).sum()) if seconds else 0.0
    return StudyPlan(
        points=min(wanted.size, most),
        seconds=total * min(wanted.size, most) / max(wanted.size, 1),
        memory_bytes=pilots.memory,
        tried=pilots.tried,
        estimated=pilots.estimated,
        trainings=int(points.leading(wanted).size),
        failed=tuple(dict.fromkeys(pilots.failed)),
    )


@dataclass
class _Pilots:
    points: SimulatedPoints
    memory: int | None = None
    tried: int = 0
    estimated: int = 0
    failed: list[str] = field(default_factory=list)

    def seconds(self, block: Indices, cost: float) -> float:
        """Of all points of a block, from a few of them."""
        if cost > ESTIMATED_FROM:
            return self._estimate(int(block[0])) * block.size
        order = self.points.order(block)
        lists = self.points.lists(order)
        changes = np.flatnonzero(np.diff(lists)) + 1
        steps = _behind(lists, changes)
        first = self._try(int(order[0]))
        change = self._try(int(order[changes[0]])) if changes.size else 0.0
        step = self._try(int(order[steps[0]])) if steps.size else 0.0
        return first + change * changes.size + step * (block.size - 1 - changes.size)

    def _try(self, index: int) -> float:
        start = time.perf_counter()
        row = evaluate(self.points, index)
        spent = time.perf_counter() - start
        self.tried += 1
        self.failed += [str(row["error"])] if row["error"] else []
        self._holds(peak_memory())
        return spent

    def _estimate(self, index: int) -> float:
        found = self.points.estimate(self.points.at(index))
        # the estimate is of a run in windows; a study holds a program in one piece, for the points that share its lists
        beyond = round(max(BYTES_A_FIRING.values()) * max(found.firings - WINDOW_FIRINGS, 0))
        self.estimated += 1
        self._holds(found.memory_bytes + beyond)
        return found.seconds

    def _holds(self, size: int | None) -> None:
        self.memory = size if self.memory is None or size is None else max(self.memory, size)


def _behind(lists: npt.NDArray[np.int64], changes: Indices) -> Indices:
    """Places of points whose lists are those of the point before them; the ones behind the first change lead."""
    same = np.flatnonzero(np.diff(lists) == 0) + 1
    return np.roll(same, -int(np.searchsorted(same, changes[0]))) if changes.size else same
