"""Points of a study, simulated: which network, compressed how, on which machine; shared work done once."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from dchw import showing
from dchw.config import build
from dchw.lowering.lower import OPEN_FIGURES
from dchw.machines.machine import Machine, machine
from dchw.run.estimate import Estimate, estimate, relative_cost
from dchw.studies.columns import BOUND, MEETS, METRICS
from dchw.studies.expressions import Expression
from dchw.studies.hashes import dchw_version, digest_of
from dchw.studies.networks import StudyNetworks
from dchw.studies.point_stages import RunOptions, Stages
from dchw.studies.points import MACHINE, NETWORK, RECIPE, STORAGE, WEIGHTS, Space, Values, space_of
from dchw.studies.settings import RECIPE_PREFIX, RUN_KEYS, TRAINING_PREFIX, StudySettings
from dchw.studies.shelf import Shelf
from dchw.studies.store import Row
from dchw.studies.trained import is_training
from dchw.studies.variants import varied
from dchw.studies.watching import Watch


@dataclass
class SimulatedPoints:
    """Evaluates the points of a study; what it holds in memory stays behind when it travels."""

    settings: StudySettings
    folder: Path
    """Where relative names of networks and machines are looked for first; then in the working folder."""
    data: Path | None = None
    """Folder of MNIST's files, for networks that the study trains."""
    space: Space = field(init=False)
    networks: StudyNetworks = field(init=False, repr=False)
    _stages: Stages = field(init=False, default_factory=Stages, repr=False)
    _machines: dict[str, Machine] = field(init=False, default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        self.space = space_of(self.settings, frozenset(METRICS) | {BOUND})
        self.networks = StudyNetworks(self.settings, self.folder, self.data)
        self._after = [
            condition
            for condition in map(Expression, self.settings.only)
            if condition.names & (frozenset(METRICS) | {BOUND})
        ]

    def __getstate__(self) -> dict[str, Any]:
        known = {"cache": self.networks.cache, "data_shas": self.networks.data_shas}
        return {"settings": self.settings.dump(), "folder": self.folder, "data": self.data, "networks": known}

    def __setstate__(self, state: dict[str, Any]) -> None:
        settings = build(StudySettings, state["settings"], where="study")
        self.__init__(settings, state["folder"], state["data"])  # type: ignore[misc]
        self.keep_in(state["networks"]["cache"])
        self.networks.data_shas = state["networks"]["data_shas"]

    def keep_in(self, cache: Path | None) -> None:
        """Keep trained and compressed networks, and stages that took long, in this folder."""
        self.networks.cache = cache
        self._stages.shelf = None if cache is None else Shelf(folder=cache / "stages")

    def untrained(self) -> SimulatedPoints:
        """The same points with shipped networks in place of those that would be trained, for an estimate."""
        made = SimulatedPoints(self.settings, self.folder, self.data)
        made.networks.without_training = True
        return made

    def leading(self, indices: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """A point for each training that these points ask for and that is not on disk, in rising order."""
        if not any(map(is_training, self.settings.networks)):
            return indices[:0]
        firsts: dict[str, int] = {}
        for index in indices[np.unique(indices // self.space.block, return_index=True)[1]]:
            training = self.networks.training(self.at(int(index)))
            if training is not None and not self.networks.is_kept(training):
                firsts.setdefault(training.key, int(index))
        return np.array(sorted(firsts.values()), np.int64)

    def at(self, index: int) -> Values:
        """Values of a point."""
        return self.space.at(index)

    def cost(self, index: int) -> float:
        """Predicted cost of a point, in units of a small network's."""
        values = self.at(index)
        return relative_cost(self.networks.layers(values), int(values.get("batch", self.settings.batch)))

    def order(self, indices: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Points of equal programs, or of ones with equal lists, behind one another: only the latest are kept."""
        prices = frozenset(filter(_prices_only, self._open_keys))
        return self.space.turned(indices, self._open_keys, prices)

    def lists(self, indices: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """A number that points have in common whose programs most likely have equal lists of firings."""
        return self.space.without(indices, self._open_keys)

    def estimate(self, values: Values) -> Estimate:
        """What a point will take, from its mapping alone."""
        _, network = self.networks.compressed(values)
        run = self._run(values)
        return estimate(network, self.machine(values), run.storage, batch=run.batch, warm=run.warm)

    @cached_property
    def _open_keys(self) -> frozenset[str]:
        return frozenset(key for key in self.space.keys if _leaves_lists(key))

    def evaluate(self, values: Values) -> Row:
        """Figures of a point."""
        key, network = self.networks.compressed(values)
        target, run = self.machine(values), self._run(values)
        row: Row = {
            "seed": self.settings.seed,
            "dchw_version": dchw_version(),
            "network_sha256": key,
            "point_sha256": _point_sha(key, target, run),
            **self._stages.row(key, network, target, run),
        }
        row[MEETS] = all(bool(condition.value({**values, **row})) for condition in self._after)
        return row

    def point_sha(self, values: Values) -> str:
        """Hash of what a point's figures follow from: network, machine, run and this version."""
        return _point_sha(self.networks.key(values), self.machine(values), self._run(values))

    def _run(self, values: Values) -> RunOptions:
        return RunOptions(
            storage=str(values[STORAGE]),
            batch=int(values.get("batch", self.settings.batch)),
            warm=bool(values.get("warm", self.settings.warm)),
            seed=self.settings.seed,
            arithmetic=self.settings.arithmetic,
        )

    def machine(self, values: Values) -> Machine:
        """The machine of a point."""
        name = str(values[MACHINE])
        if name not in self._machines:
            self._machines[name] = machine(self.networks.place(name))
        other = {NETWORK, RECIPE, MACHINE, STORAGE, WEIGHTS, *RUN_KEYS}
        own = (RECIPE_PREFIX, TRAINING_PREFIX)
        changes = {k: v for k, v in values.items() if k not in other and not k.startswith(own)}
        return varied(self._machines[name], changes).machine

    def __repr__(self) -> str:
        return showing.line("SimulatedPoints", self.settings.name, f"{self.space.count:,} points")


def _leaves_lists(key: str) -> bool:
    """Whether a field most likely changes no list of a program: open figures, the memory, prices. It only orders."""
    return key in _open_fields() or key == "clock" or key.startswith("dram.") or _prices_only(key)


def _prices_only(key: str) -> bool:
    """Whether a field most likely changes no run."""
    return key.startswith("silicon.")


@cache
def _open_fields() -> frozenset[str]:
    """Fields that open figures are taken from, as these read them."""
    watch = Watch(machine("phone-lpddr5x"))
    for figure in OPEN_FIGURES:
        figure.of(watch.config)
    watch.close()
    return frozenset(watch.reads)


def _point_sha(key: str, target: Machine, run: RunOptions) -> str:
    return digest_of([key, target.dump(), vars(run), dchw_version()])
