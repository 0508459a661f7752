"""Which rows of a study a page shows: all of a small one; of a large one a sample and the front, or a part of it.

Rows are read a window at a time. Of every point that ran three figures and a number are held, and only those that may
lie on the front once there are many, so that memory hardly grows with a study.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from dchw.studies import reading
from dchw.studies.points import NETWORK
from dchw.studies.store import ERROR, INDEX, Store

if TYPE_CHECKING:
    import pandas as pd

MOST_HELD = 1 << 18
"""Points whose figures are held before dominated ones are let go; twice what was left, where that is more."""
_GOLDEN = 2_654_435_769  # 2**32 over the golden ratio
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Shown:
    """The rows that are shown, and what they are a part of."""

    points: int
    """Rows of the study."""
    failed: int
    good: int
    """Rows that ran and meet the study's conditions."""
    first_error: str
    rows: pd.DataFrame
    """Good rows, in order: a sample, and what is shown of the front."""
    sample: pd.DataFrame
    """Those of the sample alone, which stand for all."""
    every: int
    """Of so many rows the sample has one, 1: all of them."""
    front: pd.DataFrame
    """Those of the rows that lie on the front of their network."""
    front_sizes: dict[str, int]
    """Points on the front of each network, shown or not; equal points count each."""


def shown_rows(store: Store, most_points: int, most_front: int) -> Shown:
    """Read a study and choose: about ``most_points`` rows evenly, and of each network's share of ``most_front`` points
    of its front, where it has more, evenly along the first objective, with the best in each objective and the one with
    the least product of them."""
    import pandas as pd

    points, failed, meeting, first_error = 0, 0, 0, ""
    every = max(-(-store.count // most_points), 1)
    samples, held = [], _Held()
    for frame in store.frames():
        points += len(frame)
        errors = frame[ERROR].dropna()
        failed += len(errors)
        first_error = first_error or (str(errors.iloc[0]) if len(errors) else "")
        good = reading.good_points(frame)
        meeting += len(good)
        samples.append(good[_sampled(good[INDEX].to_numpy(np.int64), every)])
        held.add(good)
    fronts = held.fronts()
    share = max(most_front // max(len(fronts), 1), len(reading.OBJECTIVES) + 1)
    chosen = np.concatenate([_part(*front, share) for front in fronts.values()] or [np.empty(0, np.int64)])
    rows = pd.concat([*samples, *_missing(store, chosen, samples)]) if samples else store.frame()
    rows = rows.drop_duplicates(INDEX).sort_values(INDEX).reset_index(drop=True)
    on_front = np.concatenate([indices for indices, _ in fronts.values()] or [np.empty(0, np.int64)])
    return Shown(
        points=points,
        failed=failed,
        good=meeting,
        first_error=first_error,
        rows=rows,
        sample=rows[_sampled(rows[INDEX].to_numpy(np.int64), every)],
        every=every,
        front=rows[rows[INDEX].isin(on_front)],
        front_sizes={name: indices.size for name, (indices, _) in fronts.items()},
    )


def _sampled(indices: Ints, every: int) -> npt.NDArray[np.bool_]:
    """One of so many numbers, spread evenly over each axis of a product and over every pair of them.

    Multiples of the golden ratio leave no gaps along any arithmetic progression (Weyl); every so many-th number would
    meet the same values of the axes that turn fastest over and over.
    """
    spread = (indices.astype(np.uint64) * np.uint64(_GOLDEN)) & np.uint64(0xFFFFFFFF)
    chosen: npt.NDArray[np.bool_] = spread * np.uint64(every) < np.uint64(1 << 32)
    return chosen


def _missing(store: Store, wanted: Ints, samples: list[pd.DataFrame]) -> Iterator[pd.DataFrame]:
    """Rows of wanted points that no sample holds."""
    sampled = np.concatenate([sample[INDEX].to_numpy() for sample in samples])
    left = np.setdiff1d(wanted, sampled)
    if left.size:
        for frame in store.frames():
            found = frame[frame[INDEX].isin(left)]
            if len(found):
                yield found


def _part(indices: Ints, figures: npt.NDArray[np.float64], most: int) -> Ints:
    """At most so many points of a front."""
    if indices.size <= most:
        return indices
    _, product = reading.relative_to_best(figures)
    best = [*figures.argmin(axis=0).tolist(), int(product.argmin())]
    along = np.argsort(figures[:, 0], kind="stable")
    even = along[np.linspace(0, indices.size - 1, most - len(best)).round().astype(np.int64)]
    part: Ints = indices[np.unique([*best, *even.tolist()])]
    return part


class _Held:
    """Network, number and objectives of points that may lie on a front."""

    def __init__(self) -> None:
        self._names: dict[str, int] = {}
        self._parts: list[tuple[Ints, Ints, npt.NDArray[np.float64]]] = []
        self._count, self._most = 0, MOST_HELD

    def add(self, good: pd.DataFrame) -> None:
        """The points of a window."""
        if good.empty:
            return
        names = good[NETWORK].astype(str)
        codes = names.map({name: self._names.setdefault(name, len(self._names)) for name in names.unique()})
        figures = good[list(reading.OBJECTIVES)].to_numpy(np.float64)
        self._parts.append((codes.to_numpy(np.int64), good[INDEX].to_numpy(np.int64), figures))
        self._count += len(good)
        if self._count > self._most:
            self._let_go()
            self._most = max(MOST_HELD, 2 * self._count)

    def fronts(self) -> dict[str, tuple[Ints, npt.NDArray[np.float64]]]:
        """By network, the numbers of the points on its front, rising, and their objectives."""
        if not self._parts:
            return {}
        self._let_go()
        codes, indices, figures = self._parts[0]
        return {name: (indices[codes == code], figures[codes == code]) for name, code in self._names.items()}

    def _let_go(self) -> None:
        codes, indices, figures = (np.concatenate(column) for column in zip(*self._parts, strict=True))
        keep = np.zeros(codes.size, bool)
        for code in self._names.values():
            mine = np.flatnonzero(codes == code)
            keep[mine[reading.front(figures[mine])]] = True
        self._parts = [(codes[keep], indices[keep], figures[keep])]
        self._count = int(keep.sum())
