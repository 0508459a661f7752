"""Points of a study, simulated: which network, compressed how, on which machine; shared work done once."""

from __future__ import annotations

import hashlib
import json
import os
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache, cached_property
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from dchw import showing
from dchw.compression.compressed import CompressedNetwork
from dchw.compression.recipe import Recipe, compress
from dchw.config import build
from dchw.container.saving import load, save
from dchw.graph.network import Network
from dchw.importers.load import load_network
from dchw.lowering.lower import OPEN_FIGURES
from dchw.machines.machine import Machine, machine
from dchw.quantities import ConfigError, DchwError
from dchw.run.estimate import Estimate, estimate, relative_cost
from dchw.studies.columns import BOUND, MEETS, METRICS
from dchw.studies.expressions import Expression
from dchw.studies.point_stages import RunOptions, Stages
from dchw.studies.points import MACHINE, NETWORK, RECIPE, STORAGE, WEIGHTS, Space, Values, space_of
from dchw.studies.settings import RECIPE_PREFIX, RUN_KEYS, StudySettings
from dchw.studies.shelf import Shelf, make_private, shrink
from dchw.studies.store import Row
from dchw.studies.variants import varied
from dchw.studies.watching import Watch

CACHE_BYTES = 2 << 30
"""Disk that compressed networks may take in a study's folder; the least recently used go first."""


@cache
def dchw_version() -> str:
    """Version of this package, as rows name it."""
    try:
        return version("dchw")
    except PackageNotFoundError:
        return "unknown"


@dataclass
class SimulatedPoints:
    """Evaluates the points of a study; what it holds in memory stays behind when it travels."""

    settings: StudySettings
    folder: Path
    """Where relative names of networks and machines are looked for first; then in the working folder."""
    cache: Path | None = None
    """Folder for compressed networks, and of stages that took long."""
    space: Space = field(init=False)
    _stages: Stages = field(init=False, default_factory=Stages, repr=False)
    _machines: dict[str, Machine] = field(init=False, default_factory=dict, repr=False)
    _networks: dict[str, tuple[str, CompressedNetwork]] = field(init=False, default_factory=dict, repr=False)
    _shas: dict[str, str] = field(init=False, default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        self.space = space_of(self.settings, frozenset(METRICS) | {BOUND})
        self._after = [
            condition
            for condition in map(Expression, self.settings.only)
            if condition.names & (frozenset(METRICS) | {BOUND})
        ]

    def __getstate__(self) -> dict[str, Any]:
        return {"settings": self.settings.dump(), "folder": self.folder, "cache": self.cache}

    def __setstate__(self, state: dict[str, Any]) -> None:
        settings = build(StudySettings, state["settings"], where="study")
        self.__init__(settings, state["folder"], state["cache"])  # type: ignore[misc]

    def at(self, index: int) -> Values:
        """Values of a point."""
        return self.space.at(index)

    def cost(self, index: int) -> float:
        """Predicted cost of a point, in units of a small network's."""
        values = self.at(index)
        layers = self._source(str(values[NETWORK])).layers
        batch = int(values.get("batch", self.settings.batch))
        return relative_cost(layers, batch)

    def order(self, indices: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Points of equal programs, or of ones with equal lists, behind one another: only the latest are kept."""
        return self.space.turned(indices, self._open_keys)

    def lists(self, indices: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """A number that points have in common whose programs most likely have equal lists of firings."""
        return self.space.without(indices, self._open_keys)

    def estimate(self, values: Values) -> Estimate:
        """What a point will take, from its mapping alone."""
        _, network = self._compressed(values)
        run = self._run(values)
        return estimate(network, self.machine(values), run.storage, batch=run.batch, warm=run.warm)

    @cached_property
    def _open_keys(self) -> frozenset[str]:
        return frozenset(key for key in self.space.keys if _leaves_lists(key))

    def evaluate(self, values: Values) -> Row:
        """Figures of a point."""
        key, network = self._compressed(values)
        if self.cache is not None and self._stages.shelf is None:
            self._stages.shelf = Shelf(folder=self.cache / "stages")
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
        return _point_sha(self._compressed_key(values), self.machine(values), self._run(values))

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
            self._machines[name] = machine(self.place(name))
        other = {NETWORK, RECIPE, MACHINE, STORAGE, WEIGHTS, *RUN_KEYS}
        changes = {k: v for k, v in values.items() if k not in other and not k.startswith(RECIPE_PREFIX)}
        return varied(self._machines[name], changes).machine

    def network_sha(self, name: str) -> str:
        """Hash of a network's file; of its name and this version for a built-in one."""
        if name not in self._shas:
            path = Path(self.place(name))
            content = path.read_bytes() if path.is_file() else f"{name} {dchw_version()}".encode()
            self._shas[name] = hashlib.sha256(content).hexdigest()
        return self._shas[name]

    def place(self, name: str) -> str:
        """Where a named file or folder lies: beside the study, or in the working folder."""
        beside = self.folder / name
        return str(beside) if beside.exists() else name

    def _source(self, name: str) -> Network | CompressedNetwork:
        if f"source {name}" not in self.__dict__:
            self.__dict__[f"source {name}"] = load_network(self.place(name))
        found: Network | CompressedNetwork = self.__dict__[f"source {name}"]
        return found

    def _compressed(self, values: Values) -> tuple[str, CompressedNetwork]:
        """A point's compressed network and the hash of its content."""
        key, name = self._compressed_key(values), str(values[NETWORK])
        if key in self._networks:
            return self._networks[key]
        if key == self.network_sha(name):
            source = self._source(name)
            if not isinstance(source, CompressedNetwork):
                raise DchwError(f"{name}: expected a compressed network or a recipe; got neither; add recipes")
            made = source
        else:
            recipe = self.settings.recipes.get(str(values[RECIPE]), Recipe())
            made = self._cached(key) or self._compress(key, name, recipe, _recipe_changes(values))
        while len(self._networks) >= 8:
            self._networks.pop(next(iter(self._networks)))
        self._networks[key] = (key, made)
        return self._networks[key]

    def _compressed_key(self, values: Values) -> str:
        """Hash of a point's compressed network: of its file, or of what it is compressed from and how."""
        recipe_name, changes = str(values[RECIPE]), _recipe_changes(values)
        source_sha = self.network_sha(str(values[NETWORK]))
        if not recipe_name and not changes:
            return source_sha
        recipe = self.settings.recipes.get(recipe_name, Recipe())
        seeded = [self.settings.weights, self.settings.seed] if self.settings.weights == "seeded" else []
        return _sha([source_sha, recipe.dump(), changes, dchw_version(), *seeded])

    def _compress(self, key: str, name: str, recipe: Recipe, changes: dict[str, Any]) -> CompressedNetwork:
        source = self._source(name)
        dense = source.decompress() if isinstance(source, CompressedNetwork) else source
        if self.settings.weights == "seeded":
            dense = _with_seeded_weights(dense, self.settings.seed)
        made = compress(dense, recipe.replace_all(changes) if changes else recipe)
        if self.cache is not None:
            with suppress(DchwError):  # a full disk costs time, not the point
                make_private(self.cache)
                save(made, self.cache / f"{key}.dchw")
                shrink(self.cache, CACHE_BYTES)
        return made

    def _cached(self, key: str) -> CompressedNetwork | None:
        path = None if self.cache is None else self.cache / f"{key}.dchw"
        if path is None or not path.exists():
            return None
        try:
            with suppress(OSError):
                os.utime(path)
            return load(path)
        except DchwError:  # damaged or gone: made again
            return None

    def __repr__(self) -> str:
        return showing.line("SimulatedPoints", self.settings.name, f"{self.space.count:,} points")


def faults(settings: StudySettings, points: SimulatedPoints) -> list[str]:
    """What does not fit of a study's names: networks, machines, keys, names in conditions; all of it at once."""
    found = []
    for name in settings.networks:
        try:
            source = points._source(name)
            if isinstance(source, Network) and not settings.recipes and not _recipe_keys(settings):
                found.append(f"networks: {name} is not compressed; add recipes, or compress it first")
        except DchwError as error:
            found.append(f"networks: {error}")
    for key in _recipe_keys(settings):
        for value in settings.choices(key):
            try:
                Recipe().replace(key.removeprefix(RECIPE_PREFIX), value)
            except ConfigError as error:
                found.append(f"vary.{key}: {error}")
    if settings.weights == "seeded" and not settings.recipes and not _recipe_keys(settings):
        found.append("weights: seeded ones are compressed by a recipe; add recipes or vary one, such as recipe.density")
    found += _machine_faults(settings, points)
    known = {*points.space.keys, *METRICS, BOUND}
    keys = set(points.space.keys)
    for text in settings.only:
        unknown = Expression(text).names - known
        found += [f"only: {text!r}: nothing varies or comes out under the name {name!r}" for name in sorted(unknown)]
    for key, text in settings.derive.items():
        unknown = Expression(text).names - keys
        found += [f"derive.{key}: {text!r}: nothing varies under the name {name!r}" for name in sorted(unknown)]
    return found


def _leaves_lists(key: str) -> bool:
    """Whether a field most likely changes no list of a program: open figures, the memory, prices. It only orders."""
    return key in _open_fields() or key == "clock" or key.startswith(("dram.", "silicon."))


@cache
def _open_fields() -> frozenset[str]:
    """Fields that open figures are taken from, as these read them."""
    watch = Watch(machine("phone-lpddr5x"))
    for figure in OPEN_FIGURES:
        figure.of(watch.config)
    watch.close()
    return frozenset(watch.reads)


def _with_seeded_weights(network: Network, seed: int) -> Network:
    """The network with normal weights in its layers."""
    rng = np.random.default_rng(seed)
    weights = {layer.name: rng.standard_normal(layer.weight.shape, dtype=np.float32) for layer in network.layers}
    return network.with_weights(weights)


def _recipe_changes(values: Values) -> dict[str, Any]:
    return {key.removeprefix(RECIPE_PREFIX): value for key, value in values.items() if key.startswith(RECIPE_PREFIX)}


def _point_sha(key: str, target: Machine, run: RunOptions) -> str:
    return _sha([key, target.dump(), vars(run), dchw_version()])


def _recipe_keys(settings: StudySettings) -> list[str]:
    return [key for key in settings.vary if key.startswith(RECIPE_PREFIX)]


def _machine_faults(settings: StudySettings, points: SimulatedPoints) -> list[str]:
    found = []
    own = [key for key in settings.vary if key not in RUN_KEYS and not key.startswith(RECIPE_PREFIX)]
    for name in settings.machines:
        try:
            base = points.machine({MACHINE: name})
        except ConfigError as error:
            found.append(f"machines: {error}")
            continue
        asked = [(key, value) for key, value in settings.set.items()]
        asked += [(key, value) for key in own for value in settings.choices(key)]
        for key, value in asked:
            try:
                base.replace(key, value)
            except ConfigError as error:
                # what only fails beside other fields may fit once they change too: that is a point's matter
                if "(top)" not in str(error):
                    found.append(f"{key} = {value}: {error}")
        for key in settings.derive:
            try:
                base.replace(key, None)
            except ConfigError as error:
                if "no such" in str(error):
                    found.append(f"derive.{key}: {error}")
    return list(dict.fromkeys(found))


def _sha(content: object) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()[:32]
