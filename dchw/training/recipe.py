"""What a user writes to have a network trained and compressed: one YAML file per recipe."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Literal

from pydantic import Field

from dchw.architectures import ARCHITECTURES
from dchw.compression.recipe import Recipe
from dchw.config import Config, NonNegative, Positive, load_yaml, parse_change
from dchw.quantities import ConfigError, nearest
from dchw.training.loop import Distillation, Training
from dchw.training.pruning import Pruning
from dchw.training.sharing import Sharing

SUFFIX = ".yaml"


class Promise(Config):
    """What the recipe reaches on its data set's test images; checked after training."""

    error_percent: float = Field(ge=0, le=100)
    file_bytes: Positive


class TrainingRecipe(Config):
    """From random weights to a compressed network: train densely, prune and retrain, share and fine-tune, code."""

    name: str = Field(pattern=r"[A-Za-z0-9][A-Za-z0-9_.-]*")
    architecture: Literal["lenet-300-100", "lenet-5"]
    dataset: Literal["mnist", "digits"]
    seeds: list[NonNegative] = Field(default=[0], min_length=1)
    """Seeds of pruning, retraining and fine-tuning; each gives one compressed network."""
    dense_seed: NonNegative = 0
    """Seed of the dense network that all of them start from."""
    dense: Training
    pruning: Pruning
    sharing: Sharing
    distillation: Distillation | None = None
    """With it the dense network teaches the pruned and the shared one."""
    storage: Recipe = Recipe()
    """How the codes are stored; what concerns pruning and sharing (density, threshold, init, seed) stays unset."""
    example_images: NonNegative = 0
    """Test images kept in the file, so that a simulation uses real activations."""
    promise: Promise | None = None


def load_recipe(name_or_path: str) -> TrainingRecipe:
    """A recipe from a YAML file, or the built-in one of an architecture's name, made for the bundled digits."""
    path = Path(name_or_path)
    if path.suffix == SUFFIX or path.exists():
        return load_yaml(TrainingRecipe, path)
    if name_or_path in ARCHITECTURES:
        return load_yaml(TrainingRecipe, Path(__file__).parent / f"{name_or_path}{SUFFIX}")
    raise ConfigError(
        f"recipe {name_or_path!r}: expected a YAML file or a built-in name; {nearest(name_or_path, ARCHITECTURES)}"
    )


def with_changes(recipe: TrainingRecipe, changes: Iterable[str]) -> TrainingRecipe:
    """The recipe with ``KEY=VALUE`` changes, keys dotted, values in YAML: ``pruning.density=0.02``."""
    for change in changes:
        recipe = recipe.replace(*parse_change(change, "pruning.density=0.02"))
    return recipe
