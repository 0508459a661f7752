"""Networks that a study trains: a training recipe among its networks, and the fields of it that vary.

A training follows from its recipe, its seed and its data alone, so it is done once for all points that ask for it: kept
in the study's folder under a hash of those, and worked by one process at a time, for which the others wait. The dense
network that several recipes start from is a training of its own. What an interrupted one had done stands in its
checkpoint, from which it goes on. Torch works with one thread here, so that the bits depend on no number of cores.
"""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from dchw.container.saving import load, save
from dchw.extras import extras_named
from dchw.quantities import ConfigError, DchwError, FileFormatError
from dchw.studies.hashes import dchw_version, digest_of
from dchw.studies.locks import alone
from dchw.studies.settings import TRAINING_PREFIX
from dchw.studies.shelf import make_private

if TYPE_CHECKING:
    from torch import nn

    from dchw.compression.compressed import CompressedNetwork
    from dchw.training.datasets import Dataset
    from dchw.training.material import Material
    from dchw.training.recipe_file import TrainingRecipe

T = TypeVar("T")
_TRAINING = threading.Lock()
SEED = "seed"
"""What varies as ``training.seed``: the seed of pruning, retraining and fine-tuning. Default: the recipe's first."""


def is_training(name: str) -> bool:
    """Whether a network is named by its training recipe, a YAML file."""
    return Path(name).suffix.lower() in (".yaml", ".yml")


@dataclass(frozen=True, kw_only=True)
class SharedTraining:
    """One training that points ask for."""

    recipe: TrainingRecipe
    """With what the points change of it; its first seed is the one that is trained with."""
    data_sha: str
    """Hash of the data set's content."""

    @property
    def seed(self) -> int:
        """Of pruning, retraining and fine-tuning."""
        return self.recipe.seeds[0]

    @property
    def dense_key(self) -> str:
        """Hash of what the dense network follows from."""
        recipe = self.recipe
        dense = None if recipe.dense is None else recipe.dense.dump()
        return digest_of(["dense", recipe.architecture, dense, recipe.dense_seed, self.data_sha, _makers()])

    @property
    def key(self) -> str:
        """Hash of what the compressed network follows from; names and promises are no part of it."""
        from dchw.training.recipe_file import Method

        method = self.recipe.model_dump(mode="json", include=set(Method.model_fields))
        return digest_of([method, self.seed, self.dense_key])


def training_of(path: str, changes: Mapping[str, Any], data_sha: str) -> SharedTraining:
    """The training of a recipe's file with some of its fields changed; ``changes`` have the keys of the recipe.

    Raises ConfigError for what does not fit, and for a recipe that names no architecture, data set or dense training.
    """
    return SharedTraining(recipe=changed(recipe_at(path), changes), data_sha=data_sha)


def recipe_at(path: str) -> TrainingRecipe:
    """The training recipe in a file, which says all that a study needs to know."""
    with extras_named():
        from dchw.training.recipe_file import load_recipe

        recipe = load_recipe(path)
    lacking = [key for key in ("architecture", "dataset", "dense") if getattr(recipe, key) is None]
    if lacking:
        raise ConfigError(
            f"{path}: expected a training recipe with architecture, dataset and dense; it lacks {', '.join(lacking)}; "
            "add it, or train with 'dchw train' and name the .dchw file here"
        )
    return recipe


def changed(recipe: TrainingRecipe, changes: Mapping[str, Any]) -> TrainingRecipe:
    """The recipe with fields of other values."""
    plain = {key: value for key, value in changes.items() if key != SEED}
    if SEED in changes:
        plain["seeds"] = [changes[SEED]]
    return recipe.replace_all(plain) if plain else recipe


def training_changes(values: Mapping[str, object]) -> dict[str, Any]:
    """What a point changes of its network's training recipe, by the recipe's own keys."""
    return {
        key.removeprefix(TRAINING_PREFIX): value for key, value in values.items() if key.startswith(TRAINING_PREFIX)
    }


def data_of(recipe: TrainingRecipe, folder: Path | None) -> Dataset:
    """The images that a recipe names; ``folder`` holds MNIST's files."""
    from dchw.training.datasets import load_dataset

    assert recipe.dataset is not None
    with extras_named():
        return load_dataset(recipe.dataset, folder)


def content_sha(data: Dataset) -> str:
    """Hash of all images and labels."""
    found = hashlib.sha256()
    for part in (data.train_images, data.train_labels, data.test_images, data.test_labels):
        found.update(f"{part.dtype.str} {part.shape}".encode())
        found.update(part.tobytes())
    return found.hexdigest()


def trained(training: SharedTraining, data: Path | None, cache: Path | None) -> CompressedNetwork:
    """The compressed network of a training: from ``cache``, or trained, by one process of all that share the folder.

    Parameters
    ----------
    training
        What is trained.
    data
        Folder of MNIST's files, should the recipe name it.
    cache
        Where networks and checkpoints are kept; None keeps nothing.

    Raises
    ------
    DchwError
        Where the data set is not there, torch is not installed, or the training fails.
    """
    if cache is None:
        return _compressed(training, _dense(training, data, None), data, None)
    make_private(cache)
    place = cache / f"{training.key}.dchw"
    with alone(cache / "locks" / training.key):
        known = kept(place)
        if known is None:
            known = _compressed(training, _dense(training, data, cache), data, cache)
            with suppress(DchwError):  # a full disk costs time, not the point
                save(known, place)
    return known


def kept(place: Path) -> CompressedNetwork | None:
    """A compressed network that was kept; None where there is none, or a damaged one."""
    if not place.exists():
        return None
    try:
        with suppress(OSError):
            os.utime(place)
        return load(place)
    except DchwError:
        return None


def _dense(training: SharedTraining, data: Path | None, cache: Path | None) -> nn.Module:
    """The dense network that a training starts from, trained once."""
    from dchw.importers.safetensors_file import save_checkpoint
    from dchw.training.material import placed
    from dchw.training.session import load_dense, train_dense

    recipe = training.recipe

    def made(checkpoint: Path | None) -> nn.Module:
        return train_dense(recipe, _material(training, data), checkpoint=checkpoint)

    if cache is None:
        with _one_thread():
            return made(None)
    place = cache / f"{training.dense_key}.safetensors"
    with alone(cache / "locks" / training.dense_key):
        if place.exists():
            with suppress(DchwError), _one_thread():  # a damaged one is trained again
                assert recipe.architecture is not None
                return placed(load_dense(place, recipe.architecture), "cpu")
        module = _going_on(cache / f"{training.dense_key}.checkpoint", made)
        with suppress(DchwError):
            save_checkpoint(module, place, recipe.architecture, {})
    return module


def _compressed(training: SharedTraining, dense: nn.Module, data: Path | None, cache: Path | None) -> CompressedNetwork:
    from dchw.training.session import train_compressed

    def made(checkpoint: Path | None) -> CompressedNetwork:
        material = _material(training, data)
        return train_compressed(training.recipe, dense, material, seed=training.seed, checkpoint=checkpoint).compressed

    if cache is None:
        with _one_thread():
            return made(None)
    return _going_on(cache / f"{training.key}.checkpoint", made)


def _going_on(checkpoint: Path, made: Callable[[Path], T]) -> T:
    """What a training gives that goes on from its checkpoint; one that cannot be read is begun again."""
    with _one_thread():
        try:
            found = made(checkpoint)
        except FileFormatError:
            checkpoint.unlink(missing_ok=True)
            found = made(checkpoint)
    checkpoint.unlink(missing_ok=True)
    return found


def _material(training: SharedTraining, data: Path | None) -> Material:
    from dchw.training.material import built_in

    recipe, images = training.recipe, data_of(training.recipe, data)
    if content_sha(images) != training.data_sha:
        raise DchwError(
            f"data set {recipe.dataset}: expected the images that the study began with; got others; let all workers "
            "read the same files"
        )
    assert recipe.architecture is not None
    return built_in(recipe.architecture, images)


@contextmanager
def _one_thread() -> Iterator[None]:
    """One training at a time in a process, as its random generators are torch's own, on one thread."""
    from dchw.training.threads import one_thread

    with _TRAINING, one_thread():
        yield


def _makers() -> dict[str, str]:
    """Versions of what a training's bits depend on besides."""
    return {"dchw": dchw_version(), "torch": version("torch")}
