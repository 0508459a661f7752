"""The networks of a study's points: named, trained, compressed; each made once and kept by what it follows from.

In the study's folder lie compressed networks under the hash of what they were made of, and checkpoints of trainings
that are under way, all of it bounded. Two processes that want the same network at once do not both make it: one does,
the other waits for it.
"""

from __future__ import annotations

import hashlib
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dchw import showing
from dchw.compression.compressed import CompressedNetwork
from dchw.compression.recipe import Recipe, compress
from dchw.container.saving import save
from dchw.graph.network import Network
from dchw.importers.load import load_network
from dchw.quantities import DchwError
from dchw.studies.hashes import dchw_version, digest_of
from dchw.studies.locks import alone
from dchw.studies.points import NETWORK, RECIPE, Values
from dchw.studies.settings import RECIPE_PREFIX, StudySettings
from dchw.studies.shelf import make_private, shrink
from dchw.studies.trained import (
    SharedTraining,
    content_sha,
    data_of,
    is_training,
    kept,
    recipe_at,
    trained,
    training_changes,
    training_of,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from dchw.compression.compressed import CompressedLayer
    from dchw.graph.network import Layer

CACHE_BYTES = 2 << 30
"""Disk that trained and compressed networks may take in a study's folder; the least recently used go first."""
MOST_HELD = 8
"""Networks in memory."""


@dataclass
class StudyNetworks:
    """Gives every point its compressed network; what it holds in memory stays behind when it travels."""

    settings: StudySettings
    folder: Path
    """Where relative names are looked for first; then in the working folder."""
    data: Path | None = None
    """Folder of MNIST's files, for recipes that train on it."""
    cache: Path | None = None
    """Where networks are kept on disk; None keeps none."""
    data_shas: dict[str, str] = field(default_factory=dict)
    """Hashes of data sets by name, as far as they are known: the only thing that travels."""
    without_training: bool = False
    """True: a shipped network of the same architecture stands in for each that would be trained, for an estimate."""
    _shas: dict[str, str] = field(init=False, default_factory=dict, repr=False)
    _sources: dict[str, Network | CompressedNetwork] = field(init=False, default_factory=dict, repr=False)
    _trainings: dict[object, SharedTraining] = field(init=False, default_factory=dict, repr=False)
    _made: dict[str, CompressedNetwork] = field(init=False, default_factory=dict, repr=False)

    def place(self, name: str) -> str:
        """Where a named file or folder lies: beside the study, or in the working folder."""
        beside = self.folder / name
        return str(beside) if beside.exists() else name

    def sha(self, name: str) -> str:
        """Hash of a network's file; of a recipe and its data for one that is trained; of its name and this version for
        a built-in one."""
        if name not in self._shas:
            path = Path(self.place(name))
            if is_training(name):
                content = self._training(name, {}).key.encode()
            elif path.is_file():
                content = path.read_bytes()
            else:
                content = f"{name} {dchw_version()}".encode()
            self._shas[name] = hashlib.sha256(content).hexdigest()
        return self._shas[name]

    def source(self, name: str) -> Network | CompressedNetwork:
        """A network as it is named: dense or compressed. In place of one to be trained, a shipped one of its shape."""
        if name not in self._sources:
            place = self.place(name)
            architecture = recipe_at(place).architecture if is_training(name) else None
            self._sources[name] = load_network(architecture or place)
        return self._sources[name]

    def layers(self, values: Values) -> Sequence[Layer] | Sequence[CompressedLayer]:
        """The layers of a point's network, in shape."""
        return self.source(str(values[NETWORK])).layers

    def training(self, values: Values) -> SharedTraining | None:
        """The training that a point asks for, should it ask for one."""
        name = str(values[NETWORK])
        return self._training(name, training_changes(values)) if is_training(name) else None

    def is_kept(self, training: SharedTraining) -> bool:
        """Whether its network lies on disk."""
        return self.cache is not None and (self.cache / f"{training.key}.dchw").exists()

    def key(self, values: Values) -> str:
        """Hash of a point's compressed network: of its file, or of what it is made from and how."""
        training, name = self.training(values), str(values[NETWORK])
        origin = training.key if training is not None else self.sha(name)
        recipe_name, changes = str(values[RECIPE]), _recipe_changes(values)
        if not recipe_name and not changes:
            return origin
        recipe = self.settings.recipes.get(recipe_name, Recipe())
        seeded = [self.settings.weights, self.settings.seed] if self.settings.weights == "seeded" else []
        return digest_of([origin, recipe.dump(), changes, dchw_version(), *seeded])

    def compressed(self, values: Values) -> tuple[str, CompressedNetwork]:
        """A point's compressed network and the hash of its content."""
        key = self.key(values)
        if key not in self._made:
            made = self._compressed(key, values)
            while len(self._made) >= MOST_HELD:
                self._made.pop(next(iter(self._made)))
            self._made[key] = made
        return key, self._made[key]

    def _compressed(self, key: str, values: Values) -> CompressedNetwork:
        changes = _recipe_changes(values)
        if not values[RECIPE] and not changes:
            source = self._trained_or_named(values)
            if not isinstance(source, CompressedNetwork):
                raise DchwError(
                    f"{values[NETWORK]}: expected a compressed network or a recipe; got neither; add recipes"
                )
            return source

        def made() -> CompressedNetwork:
            recipe = self.settings.recipes.get(str(values[RECIPE]), Recipe())
            return self._compress(values, recipe.replace_all(changes) if changes else recipe)

        if self.cache is None:
            return made()
        place = self.cache / f"{key}.dchw"
        with alone(self.cache / "locks" / key):
            known = kept(place)
            if known is None:
                known = made()
                with suppress(DchwError):  # a full disk costs time, not the point
                    make_private(self.cache)
                    save(known, place)
        shrink(self.cache, CACHE_BYTES)
        return known

    def _compress(self, values: Values, recipe: Recipe) -> CompressedNetwork:
        source = self._trained_or_named(values)
        dense = source.decompress() if isinstance(source, CompressedNetwork) else source
        if self.settings.weights == "seeded":
            dense = _with_seeded_weights(dense, self.settings.seed)
        return compress(dense, recipe)

    def _trained_or_named(self, values: Values) -> Network | CompressedNetwork:
        training = self.training(values)
        if training is None or self.without_training:
            return self.source(str(values[NETWORK]))
        found = trained(training, self.data, self.cache)
        if self.cache is not None:
            shrink(self.cache, CACHE_BYTES)
        return found

    def _training(self, name: str, changes: Mapping[str, object]) -> SharedTraining:
        about = (name, *changes.items())
        if about not in self._trainings:
            place = self.place(name)
            recipe = recipe_at(place)
            assert recipe.dataset is not None
            if recipe.dataset not in self.data_shas:
                self.data_shas[recipe.dataset] = content_sha(data_of(recipe, self.data))
            self._trainings[about] = training_of(place, changes, self.data_shas[recipe.dataset])
        return self._trainings[about]

    def __repr__(self) -> str:
        return showing.line("StudyNetworks", *self.settings.networks)


def _recipe_changes(values: Values) -> dict[str, Any]:
    return {key.removeprefix(RECIPE_PREFIX): value for key, value in values.items() if key.startswith(RECIPE_PREFIX)}


def _with_seeded_weights(network: Network, seed: int) -> Network:
    """The network with normal weights in its layers."""
    rng = np.random.default_rng(seed)
    weights = {layer.name: rng.standard_normal(layer.weight.shape, dtype=np.float32) for layer in network.layers}
    return network.with_weights(weights)
