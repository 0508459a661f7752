"""Where a front is likely to be: a surface through the points that ran, and the points that would add most to it.

Every objective's logarithm is a Gaussian process over the parameters (Matern 5/2, a length for every axis, chosen by
marginal likelihood, axis by axis; Rasmussen and Williams, Gaussian Processes for Machine Learning, 2006, chapters 2 and
5). Numbers in rising order lie on an axis by their place, other values are each at a corner of their own. The next
points are chosen one after another, each by the volume that its prediction, taken half a deviation on the good side,
adds to what known and chosen points dominate. A space of up to `MOST_CANDIDATES` points is looked at whole.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import numpy.typing as npt

from dchw.quantities import parse_magnitude
from dchw.studies.points import Axis, Space

MOST_CANDIDATES = 20_000
"""Points among which the next are chosen; drawn at random where a space has more."""
SAMPLES = 8_192
"""Places at which dominated volume is measured."""
OPTIMISM = 0.5
"""Deviations by which a prediction is taken to be better than its mean, so that what is not known is looked at."""
LENGTHS = (0.5, 1.0, 2.0, 4.0)
"""Lengths tried first, one for all axes, in units of an axis."""
FACTORS = (0.25, 0.5, 2.0, 4.0)
"""By which the length of one axis is then changed."""
ROUNDS = 3
"""Times that every axis has its turn."""
NOISE = 1e-6
"""Share of variance that is noise: simulated figures have none, and matrices need some."""
Floats = npt.NDArray[np.float64]


class Surface:
    """Proposes points of one network's space."""

    def __init__(self, space: Space, network: int, random: np.random.Generator) -> None:
        self._random = random
        size = space.count // len(space.axes[0])
        places = np.arange(size) if size <= MOST_CANDIDATES else random.integers(0, size, MOST_CANDIDATES)
        self._points = np.unique(places) + network * size
        self._space = space
        self._at = np.array([self._coordinates(int(index)) for index in self._points]).reshape(self._points.size, -1)
        wide = [1 if rises(axis) else len(axis) for axis in space.axes[1:]]
        self._axis = np.repeat(np.arange(len(wide)), wide)

    def propose(self, count: int, known: Mapping[int, tuple[float, ...]], is_new: Callable[[int], bool]) -> list[int]:
        """Up to ``count`` new points, given the objectives (less is better) of known ones."""
        free = np.array([is_new(int(index)) for index in self._points])
        if not known:
            return self._spread(count, free)
        rows = np.array([self._coordinates(index) for index in known])
        figures = np.log(np.maximum(np.array(list(known.values())), 1e-300))
        best, spread = figures.min(axis=0), np.ptp(figures, axis=0)
        figures = (figures - best) / np.where(spread > 0, spread, 1.0)
        predicted = np.stack([_predicted(rows, column, self._at, self._axis) for column in figures.T], axis=1)
        return self._adding_most(count, figures, predicted, free)

    def _adding_most(self, count: int, known: Floats, predicted: Floats, free: npt.NDArray[np.bool_]) -> list[int]:
        low = np.minimum(known.min(axis=0), predicted.min(axis=0))
        samples = low + (1.0 - low) * self._random.random((SAMPLES, known.shape[1]))
        open_ = ~_dominated(known, samples).any(axis=0)
        samples = samples[open_]
        covers, chosen = _dominated(predicted, samples), list[int]()
        for _ in range(min(count, int(free.sum()))):
            gains = np.where(free, covers.sum(axis=1), -1)
            at = int(np.argmax(gains))
            if gains[at] == 0:  # nothing is expected to add anything: look where little is known
                return chosen + self._spread(count - len(chosen), free)
            chosen.append(int(self._points[at]))
            free[at] = False
            covers = covers[:, ~covers[at]]
        return chosen

    def _spread(self, count: int, free: npt.NDArray[np.bool_]) -> list[int]:
        """Points far from one another and from those that were run."""
        distance = np.full(len(self._at), np.inf)
        for place in np.flatnonzero(~free):
            distance = np.minimum(distance, self._away(int(place)))
        chosen: list[int] = []
        for _ in range(min(count, int(free.sum()))):
            farthest = np.where(free, distance, -1.0)
            at = int(self._random.choice(np.flatnonzero(farthest == farthest.max())))
            chosen.append(int(self._points[at]))
            free[at] = False
            distance = np.minimum(distance, self._away(at))
        return chosen

    def _away(self, at: int) -> Floats:
        away: Floats = np.abs(self._at - self._at[at]).sum(axis=1)
        return away

    def _coordinates(self, index: int) -> list[float]:
        places = self._space.places(index)
        out: list[float] = []
        for axis, place in list(zip(self._space.axes, places, strict=True))[1:]:
            if rises(axis):
                out += [place / max(len(axis) - 1, 1)]
            else:
                out += [float(place == other) for other in range(len(axis))]
        return out


def rises(axis: Axis) -> bool:
    """Whether an axis is of numbers in rising order, so that neighbours are alike."""
    numbers = [parse_magnitude(choice[0]) for choice in axis.choices]
    known = [number for number in numbers if number is not None]
    return len(known) == len(numbers) and known == sorted(known)


def _dominated(points: Floats, samples: Floats) -> npt.NDArray[np.bool_]:
    """bool[points, samples]: which points are at least as good as a sample in everything."""
    out = np.ones((len(points), len(samples)), bool)
    for column, values in zip(points.T, samples.T, strict=True):
        out &= column[:, None] <= values
    return out


def _predicted(rows: Floats, figures: Floats, at: Floats, axis: npt.NDArray[np.int64]) -> Floats:
    """What an objective is likely to be at places, half a deviation on the good side; ``axis``: that of each column."""
    mean = figures.mean()
    scale = figures.std() or 1.0
    wanted = (figures - mean) / scale
    lengths = _lengths(rows, wanted, axis)
    factor, white, _ = _fitted(rows / lengths, wanted)
    across = np.linalg.solve(factor, _matern(rows / lengths, at / lengths))
    deviation = np.sqrt(np.maximum(1.0 - (across**2).sum(axis=0), 0.0))
    figure: Floats = (across.T @ white - OPTIMISM * deviation) * scale + mean
    return figure


def _lengths(rows: Floats, wanted: Floats, axis: npt.NDArray[np.int64]) -> Floats:
    """The length of each column, alike within an axis, under which the figures are likeliest."""

    def likelihood(lengths: Floats) -> float:
        return _fitted(rows / lengths, wanted)[2]

    best = max((np.full(axis.size, length) for length in LENGTHS), key=likelihood)
    for _ in range(ROUNDS):
        for place in range(int(axis.max(initial=-1)) + 1):
            tried = [np.where(axis == place, best * factor, best) for factor in FACTORS]
            best = max((best, *tried), key=likelihood)
    return best


def _fitted(rows: Floats, wanted: Floats) -> tuple[Floats, Floats, float]:
    """Cholesky factor of the covariance, figures freed of it, and the logarithm of their likelihood."""
    factor = np.asarray(np.linalg.cholesky(_matern(rows, rows) + NOISE * np.eye(len(rows))), np.float64)
    white = np.asarray(np.linalg.solve(factor, wanted), np.float64)
    return factor, white, -0.5 * float(white @ white) - float(np.log(np.diag(factor)).sum())


def _matern(one: Floats, other: Floats) -> Floats:
    squares = (one**2).sum(axis=1)[:, None] + (other**2).sum(axis=1)[None] - 2.0 * one @ other.T
    far = np.sqrt(5.0 * np.maximum(squares, 0.0))
    alike: Floats = (1.0 + far + far**2 / 3.0) * np.exp(-far)
    return alike
