"""A design-space study: `dchw.study`, its plan before it runs, and its run that can be interrupted."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dchw import showing
from dchw.arguments import checked
from dchw.config import build, read_yaml
from dchw.quantities import ConfigError, DchwError
from dchw.studies.columns import METRICS, kinds_of
from dchw.studies.faults import faults
from dchw.studies.hashes import dchw_version
from dchw.studies.point_chunks import CHUNKS_OF_A_PROCESS, CHUNKS_OF_A_WORKER, Batch, Evaluator, Indices, chunked
from dchw.studies.points import Space
from dchw.studies.settings import SearchSettings, StudySettings
from dchw.studies.simulated import SimulatedPoints
from dchw.studies.store import INDEX, Kinds, Row, Store, held, open_store
from dchw.studies.trained import is_training

if TYPE_CHECKING:
    import pandas as pd

    from dchw.studies.plan import StudyPlan

OnProgress = Callable[[int, int], None]
MOST_KNEES = 8
"""Knees that are printed; a table with more lines is read in its report."""


@dataclass(frozen=True, kw_only=True)
class Study:
    """A checked study; made by `dchw.study`."""

    settings: StudySettings
    points: SimulatedPoints

    @property
    def space(self) -> Space:
        """Its points."""
        return self.points.space

    @property
    def kinds(self) -> Kinds:
        """Columns of its table, with their kind."""
        return kinds_of(self.space, METRICS)

    @property
    def identity(self) -> dict[str, object]:
        """What must be the same for a folder to be gone on with: the question, its inputs' content, this version."""
        return {
            "study": self.settings.dump(),
            "dchw": dchw_version(),
            "networks": {name: self.points.networks.sha(name) for name in self.settings.networks},
            "machines": {name: self.points.machine({"machine": name}).dump() for name in self.settings.machines},
        }

    def plan(self) -> StudyPlan:
        """What the study will take: a few points are run and thrown away, dear ones are mapped and estimated.

        Nothing is trained: a shipped network of the same architecture stands in, and trainings are counted apart.
        """
        from dchw.studies.plan import plan_of

        wanted = np.fromiter(self.space, np.int64)
        search = self.settings.search
        points = self.points.untrained() if any(map(is_training, self.settings.networks)) else self.points
        return plan_of(points, wanted, search.budget * len(self.settings.networks) if search else int(wanted.size))

    def run(
        self,
        out_dir: str | Path,
        *,
        workers: int = 1,
        scheduler: str | None = None,
        retry_failed: bool = False,
        on_progress: OnProgress | None = None,
    ) -> pd.DataFrame:
        """Run what is missing of the study and give its table.

        Parameters
        ----------
        out_dir
            Folder of the study, made if need be; ``results.parquet`` in it is the table. A folder that holds a part of
            this study is gone on with, one that holds another study is refused.
        workers
            Processes of this machine; 1 runs in this process.
        scheduler
            Address of an existing Dask cluster's scheduler (extra ``cluster``), instead of ``workers``. Its workers
            must see ``out_dir`` under the same name.
        retry_failed
            Run points again that ended in an error.
        on_progress
            Called with the points finished and the points in all.

        Returns
        -------
        pandas.DataFrame
            A row per point: ``index``, what varied, figures, ``bound_by``, ``error`` (missing where there is none), and
            what the row rests on. The same on any number of workers and after any interruption.

        Raises
        ------
        ConfigError
            Where the folder holds something else.
        DchwError
            Where the folder cannot be written, another start is at work in it, or the scheduler is lost. What was
            finished is kept.
        """
        folder = Path(out_dir)
        self.points.keep_in(folder / "cache")
        run_points(
            self.points,
            folder,
            self.identity,
            self.kinds,
            self.space,
            workers=workers,
            scheduler=scheduler,
            retry_failed=retry_failed,
            search=self.settings.search,
            seed=self.settings.seed,
            warm=self._warm_rows,
            leading=self.points.leading,
            on_progress=on_progress,
        )
        return read_results(folder)

    def _warm_rows(self) -> list[Row]:
        """Rows of the studies that a search starts from, as this study's."""
        from dchw.studies.front_search import warm_rows

        found: list[Row] = []
        for name in self.settings.search.warm_start if self.settings.search else ():
            frame = read_results(self.points.networks.place(name))
            found += warm_rows(frame, self.space, self.points.point_sha)
        return list({row[INDEX]: row for row in found}.values())

    def __repr__(self) -> str:
        count = f"{self.space.count:,} points"
        return showing.line("Study", self.settings.name, count, f"varies {', '.join(self.settings.vary) or 'nothing'}")


@checked
def study(settings: str | Path | Mapping[str, Any], *, data: str | Path | None = None) -> Study:
    """A design-space study from a YAML file or from plain values; `Study.run` runs it.

    Parameters
    ----------
    settings
        Path of a YAML file, or a mapping with the same keys: ``networks``, ``machines``, ``storages``, ``vary`` (values
        by key: ``huffman.units``, ``recipe.index_bits``, ``training.pruning.density``, ``batch``, ``warm``), ``set``,
        ``together``, ``derive``, ``only``, ``recipes``, ``seed``; see `dchw.studies.settings.StudySettings`. Relative
        names of files are looked for beside the YAML file, then in the working folder.
    data
        Folder of MNIST's files, for training recipes among the networks that train on it.

    Returns
    -------
    Study
        Checked: every network and machine is there and every key exists. ``plan()`` says what it will take,
        ``run(out_dir)`` gives a DataFrame with a row per point.

    Raises
    ------
    ConfigError
        Naming every fault at once, with line and nearest legal key.

    Examples
    --------
    >>> import dchw, numpy as np, tempfile
    >>> folder = tempfile.TemporaryDirectory()
    >>> weight = np.random.default_rng(0).standard_normal((64, 128), dtype=np.float32)
    >>> network = dchw.compress(dchw.Network.from_arrays("fc", weights={"fc": weight}), dchw.Recipe(density=0.1))
    >>> size = dchw.save(network, f"{folder.name}/fc.dchw")
    >>> st = dchw.study({"networks": f"{folder.name}/fc.dchw", "vary": {"huffman.units": [4, 8, 16]}})
    >>> frame = st.run(f"{folder.name}/units")
    >>> list(frame["huffman.units"]), bool(frame["error"].isna().all())
    ([4, 8, 16], True)
    >>> folder.cleanup()
    """
    if isinstance(settings, Mapping):
        where, folder = "study", Path()
        made = build(StudySettings, settings, where=where)
    else:
        path = Path(settings)
        where, folder = str(path), path.parent
        written, lines = read_yaml(path)
        made = build(StudySettings, {"name": path.stem, **written}, where=where, lines=lines)
    points = SimulatedPoints(made, folder.resolve(), None if data is None else Path(data).resolve())
    found = faults(made, points)
    if found:
        raise ConfigError("; ".join(f"{where}: {fault}" for fault in found))
    return Study(settings=made, points=points)


def run_points(
    evaluator: Evaluator,
    folder: Path,
    identity: Mapping[str, object],
    kinds: Kinds,
    space: Space,
    *,
    workers: int = 1,
    scheduler: str | None = None,
    retry_failed: bool = False,
    search: SearchSettings | None = None,
    seed: int = 0,
    warm: Callable[[], list[Row]] = list[Row],
    leading: Callable[[Indices], Indices] = lambda indices: indices[:0],
    on_progress: OnProgress | None = None,
) -> Store:
    """Run the points of a space that have no row yet, or search it, and merge once none is missing.

    For any evaluator: `Study.run` hands over simulated points. An interruption keeps what is finished and goes on up.
    ``warm`` gives the rows from which a search starts, once. ``leading`` gives those of the points that come before all
    others where there are several workers: one for each thing that is dear and shared, so that it is made but once and
    nobody waits for it.
    """
    from dchw.studies.cluster import run_on_cluster
    from dchw.studies.front_search import FrontSearch
    from dchw.studies.workers import run_here, run_on_cores

    if workers < 1:
        raise DchwError(f"workers: expected at least 1; got {workers}; give a number of processes")
    store = open_store(folder, identity, kinds, space.count)
    with held(folder):
        store.clean()
        kept = partial(store.finished, failed_too=not retry_failed)
        done = kept()
        if search is not None:
            if search.warm_start:
                store.take_over(warm)
            searching = FrontSearch(
                settings=search, space=space, store=store, evaluator=evaluator, seed=seed, retry_failed=retry_failed
            )
            total, finished, batches = searching.most_points, int(np.count_nonzero(done)), searching.batches
        else:
            wanted = np.ones(space.count, bool)
            if space.only:
                wanted = np.fromiter((space.holds(index) for index in range(space.count)), bool, space.count)
            missing = np.flatnonzero(wanted & ~done)
            total, finished = int(wanted.sum()), int(np.count_nonzero(wanted & done))

            def batches(workers: int) -> Iterator[Batch]:
                first = leading(missing) if workers > 1 else missing[:0]
                if first.size:
                    yield np.split(first, first.size)
                chunks = CHUNKS_OF_A_WORKER if scheduler is not None else CHUNKS_OF_A_PROCESS
                yield chunked(evaluator, np.setdiff1d(missing, first), space.block, workers, chunks)

        def on_points(count: int) -> None:
            nonlocal finished
            finished += count
            if on_progress is not None:
                on_progress(finished, total)

        if on_progress is not None:
            on_progress(finished, total)
        if scheduler is not None:
            run_on_cluster(evaluator, store, batches, on_points, scheduler, kept)
        elif workers == 1:
            run_here(evaluator, store, batches(1), on_points)
        else:
            run_on_cores(evaluator, store, batches(workers), on_points, workers, kept)
        store.merge({"dchw": dchw_version(), "study": str(identity.get("study", ""))})
    return store


def read_results(folder: str | Path) -> pd.DataFrame:
    """The finished points of a study's folder, in order, whether or not it has run to its end."""
    return study_of(folder).frame()


def study_of(folder: str | Path) -> Store:
    """The store of a study's folder; raises ConfigError where there is none."""
    import json

    about = Path(folder) / "study.json"
    try:
        identity = json.loads(about.read_text(encoding="utf-8"))
        settings = build(StudySettings, identity["study"], where=str(about))
    except (OSError, ValueError, KeyError, TypeError):
        raise ConfigError(
            f"{folder}: expected the folder of a study; got none; 'dchw sweep STUDY --out DIR' makes one"
        ) from None
    space = SimulatedPoints(settings, Path()).space
    return Store(folder=Path(folder), kinds=kinds_of(space, METRICS), count=space.count)
