"""Search for a study's front where its space is too big to enumerate: a sampler proposes, the study's store remembers.

Points are asked for in generations. What a generation gave is read back from the store and told in the order of
asking, so that a search is a function of its seed and its rows: no matter how many workers ran it, and after any
interruption it is replayed from the rows on disk and goes on as if nothing had happened. Nothing else needs keeping:
the store's journals, one file per process and merged at the end, hold on file systems without locks.

Each network is searched for itself, as fronts of networks do not compete.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dchw.extras import extras_named
from dchw.quantities import ConfigError, DchwError
from dchw.studies.columns import MEETS
from dchw.studies.point_chunks import Batch, Evaluator, chunked
from dchw.studies.points import Axis, Space, Values
from dchw.studies.settings import SearchSettings
from dchw.studies.store import ERROR, INDEX, Row, Store
from dchw.studies.surface import Surface, rises

if TYPE_CHECKING:
    import pandas as pd

FRUITLESS = 10
"""Proposals per wanted point that may be known or not allowed, before a point is drawn among the rest."""
CHUNKS_OF_A_WORKER = 2
"""Chunks of a generation per worker."""
MOST_DRAWN = 1_000_000
"""Points of a network among which one is drawn where the sampler runs dry; in a larger space the search ends there."""


@dataclass(kw_only=True)
class FrontSearch:
    """One search over a space; ``batches`` gives its generations."""

    settings: SearchSettings
    space: Space
    store: Store
    evaluator: Evaluator
    seed: int
    retry_failed: bool = False
    _rows: dict[int, Row] = field(init=False, default_factory=dict)
    _seen: set[Path] = field(init=False, default_factory=set)

    @property
    def most_points(self) -> int:
        """Points that its table has at most: those it starts from and its budget."""
        networks = len(self.space.axes[0])
        known = self.store.warm_indices().size
        return min(known + networks * self.settings.budget, self.space.count)

    def batches(self, workers: int) -> Iterator[Batch]:
        """Generations of points that have no row yet; each must have its rows before the next is taken."""
        self._read()
        if self.retry_failed:
            self._rows = {index: row for index, row in self._rows.items() if row[ERROR] is None}
        for network in range(len(self.space.axes[0])):
            yield from self._of_network(network, workers)

    def _of_network(self, network: int, workers: int) -> Iterator[Batch]:
        kind = _Surfaced if self.settings.sampler == "surface" else _Proposals
        proposals = kind(self.settings, self.space, network, self.seed)
        warm = [int(index) for index in self.store.warm_indices() if self.space.places(int(index))[0] == network]
        for index in warm:
            proposals.known(index, self._rows[index])
        spent = 0
        budget = min(self.settings.budget, self._points_of_a_network - len(warm))
        while spent < budget:
            asked = proposals.generation(min(self.settings.generation, budget - spent))
            if not asked:
                return
            missing = np.array(sorted(index for index in asked if index not in self._rows), np.int64)
            if missing.size:
                yield list(chunked(self.evaluator, missing, self.space.block, workers, CHUNKS_OF_A_WORKER))
                self._read()
            for index in asked:
                proposals.tell(index, self._rows[index])
            spent += len(asked)
            self._check(network, proposals)

    @property
    def _points_of_a_network(self) -> int:
        return self.space.count // len(self.space.axes[0])

    def _read(self) -> None:
        for frame in self.store.new_frames(self._seen):
            for row in frame.astype(object).where(frame.notna(), None).to_dict("records"):
                self._rows[int(row[INDEX])] = {str(k): v for k, v in row.items()}

    def _check(self, network: int, proposals: _Proposals | _Surfaced) -> None:
        """An objective that no point has would leave nothing to search for."""
        if proposals.compared == 0 and proposals.lacking:
            name = self.space.axes[0].choices[network][0]
            lacking = ", ".join(sorted(proposals.lacking))
            raise ConfigError(
                f"search.objectives: {lacking} of {name} is not available: it was not measured on the network as it is "
                "stored here; leave it out, or train the network with 'dchw train'"
            )


class _Proposals:
    """Optuna's study of one network: asks for points of the space and is told what they gave."""

    def __init__(self, settings: SearchSettings, space: Space, network: int, seed: int) -> None:
        optuna = _optuna()
        self._optuna, self._space, self._network = optuna, space, network
        self._objectives = list(settings.objectives)
        self._random = np.random.default_rng([seed, network])
        self._distributions = {axis.name: _distribution(optuna, axis) for axis in space.axes[1:] if len(axis) > 1}
        with _quiet(optuna):
            self._study = optuna.create_study(
                directions=["minimize"] * len(self._objectives), sampler=_sampler(optuna, settings, seed)
            )
        self._trials: dict[int, Any] = {}
        self._done: set[int] = set()
        self.compared = 0
        """Points that have every objective."""
        self.lacking: set[str] = set()
        """Objectives that some point lacked though it ran."""

    def generation(self, count: int) -> list[int]:
        """Up to ``count`` points that were not asked for before, in the order of asking; none when all were."""
        asked: list[int] = []
        for _ in range(FRUITLESS * count):
            if len(asked) == count:
                return asked
            index, trial = self._ask()
            if self._is_new(index):
                self._trials[index] = trial
                asked.append(index)
            else:
                self._study.tell(trial, state=self._optuna.trial.TrialState.FAIL)
        return asked + self._drawn(count - len(asked))

    def _is_new(self, index: int) -> bool:
        return index not in self._done and index not in self._trials and self._space.holds(index)

    def tell(self, index: int, row: Row) -> None:
        """What a point that was asked for gave."""
        self._done.add(index)
        self._finish(self._trials.pop(index), row)

    def known(self, index: int, row: Row) -> None:
        """A point that was run before this search."""
        self._done.add(index)
        self._finish(self._enqueued(index), row)

    def _ask(self) -> tuple[int, Any]:
        with _quiet(self._optuna):
            trial = self._study.ask(self._distributions)
        places = [self._network, *(int(trial.params.get(axis.name, 0)) for axis in self._space.axes[1:])]
        return self._space.index(places), trial

    def _drawn(self, count: int) -> list[int]:
        """Points at random among those that nobody asked for, where the sampler finds no new ones."""
        size = self._space.count // len(self._space.axes[0])
        first = self._network * size
        rest = first + self._random.permutation(size) if size <= MOST_DRAWN else np.empty(0, np.int64)
        drawn = [int(index) for index in rest if self._is_new(int(index))][:count]
        self._trials |= {index: self._enqueued(index) for index in drawn}
        return drawn

    def _enqueued(self, index: int) -> Any:
        places = self._space.places(index)[1:]
        self._study.enqueue_trial(
            {axis.name: place for axis, place in zip(self._space.axes[1:], places, strict=True) if len(axis) > 1}
        )
        return self._study.ask(self._distributions)

    def _finish(self, trial: Any, row: Row) -> None:
        states = self._optuna.trial.TrialState
        figures = [row.get(name) for name in self._objectives]
        ran = row[ERROR] is None
        self.lacking |= {name for name, figure in zip(self._objectives, figures, strict=True) if ran and figure is None}
        if not ran or None in figures:
            self._study.tell(trial, state=states.FAIL)
            return
        self.compared += 1
        if MEETS in row:
            trial.set_constraint("conditions on results", 0.0 if row[MEETS] else 1.0)
        self._study.tell(trial, [float(str(figure)) for figure in figures])


class _Surfaced:
    """Proposals of one network from a surface through what ran; in shape as `_Proposals`, without optuna."""

    def __init__(self, settings: SearchSettings, space: Space, network: int, seed: int) -> None:
        self._objectives, self._space = list(settings.objectives), space
        self._surface = Surface(space, network, np.random.default_rng([seed, network]))
        self._done: set[int] = set()
        self._figures: dict[int, tuple[float, ...]] = {}
        self.compared = 0
        """Points that have every objective and meet the conditions."""
        self.lacking: set[str] = set()
        """Objectives that some point lacked though it ran."""

    def generation(self, count: int) -> list[int]:
        """Up to ``count`` points that were not asked for before; none when all were."""
        asked = self._surface.propose(
            count, self._figures, lambda index: index not in self._done and self._space.holds(index)
        )
        self._done.update(asked)
        return asked

    def tell(self, index: int, row: Row) -> None:
        """What a point gave. One that failed, or does not meet the conditions, is no part of the surface."""
        self._done.add(index)
        if row[ERROR] is not None:
            return
        figures = [row.get(name) for name in self._objectives]
        self.lacking |= {name for name, figure in zip(self._objectives, figures, strict=True) if figure is None}
        if None not in figures and row.get(MEETS, True):
            self.compared += 1
            self._figures[index] = tuple(float(str(figure)) for figure in figures)

    known = tell


def _sampler(optuna: Any, settings: SearchSettings, seed: int) -> Any:
    samplers, generation = optuna.samplers, settings.generation
    if settings.sampler == "tpe":
        return samplers.TPESampler(seed=seed, multivariate=True, constant_liar=True, n_startup_trials=generation)
    if settings.sampler == "random":
        return samplers.RandomSampler(seed=seed)
    return samplers.NSGAIISampler(seed=seed, population_size=generation)


def _distribution(optuna: Any, axis: Axis) -> Any:
    """Numbers in rising order are steps that are near or far from one another; anything else is only different."""
    if rises(axis):
        return optuna.distributions.IntDistribution(0, len(axis) - 1)
    return optuna.distributions.CategoricalDistribution(tuple(range(len(axis))))


@contextmanager
def _quiet(optuna: Any) -> Iterator[None]:
    """Without optuna's log and its notes that multivariate sampling and constraints may change one day."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        yield


def _optuna() -> Any:
    with extras_named("a search"):
        import optuna
    return optuna


def warm_rows(frame: pd.DataFrame, space: Space, point_sha: Callable[[Values], str]) -> list[Row]:
    """The rows of another table that are points of this space too, under this space's indices.

    A row counts where its ``point_sha256`` is the point's: same network, machine and run, so that its figures are too.
    """
    rows: list[Row] = []
    for row in frame.astype(object).where(frame.notna(), None).to_dict("records"):
        index = space.find({str(key): value for key, value in row.items()})
        if index is None or row[ERROR] is not None:
            continue
        try:
            same = point_sha(space.at(index)) == row["point_sha256"]
        except DchwError:
            same = False
        if same:
            rows.append({**{str(k): v for k, v in row.items()}, **space.at(index), INDEX: index})
    return rows
