"""The training of ``dchw demo``: LeNet-300-100 on the bundled digits, in well under a minute on one core."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

from torch import nn

from dchw.compression.compressed import CompressedNetwork
from dchw.training.datasets import load_dataset
from dchw.training.loop import Progress, error_percent, no_progress
from dchw.training.material import built_in
from dchw.training.recipe_file import load_recipe
from dchw.training.session import figures, train_compressed, train_dense
from dchw.training.threads import one_thread

DEMO_RECIPE = "lenet-300-100"


def train_demo(
    progress: Progress = no_progress, seed: int = 0, on_stage: Callable[[str], None] = lambda line: None
) -> tuple[nn.Module, CompressedNetwork, dict[str, Any]]:
    """Train densely, prune and retrain, share and fine-tune; the dense module, the compressed network, the figures.

    The figures are those of `figures` (error rates on the digits' test images, density, seed) and ``data_set``.
    ``on_stage`` gets a line when the dense, the pruned and the shared network are done. Equal seeds give equal networks
    on equal machines. Raises DchwError without scikit-learn, which ships the digits.
    """
    recipe = load_recipe(DEMO_RECIPE).model_copy(update={"dense_seed": seed, "seeds": [seed]})
    data = load_dataset("digits")
    material = built_in(DEMO_RECIPE, data)
    stages = iter(("Trained", "Pruned and retrained", "Shared and fine-tuned"))

    def evaluate(module: nn.Module) -> float:
        error = error_percent(module, data.test_images, data.test_labels)
        on_stage(f"{next(stages)}: {error:.2f} % of {len(data.test_labels)} test digits wrong")
        return error

    material = dataclasses.replace(material, evaluate=evaluate)
    with one_thread():
        dense = train_dense(recipe, material, progress=progress)
        trained = train_compressed(recipe, dense, material, seed=seed, progress=progress)
    return dense, trained.compressed, {"data_set": material.data, **figures(trained)}
