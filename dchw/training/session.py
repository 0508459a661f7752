"""A whole training as files: the dense checkpoint and one compressed network per seed, each written when it is done."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from dchw import architectures
from dchw.container.files import save
from dchw.graph.network import Network
from dchw.importers.load import load_network
from dchw.importers.safetensors_file import save_checkpoint
from dchw.quantities import DchwError
from dchw.training.datasets import hold_out, load_dataset
from dchw.training.loop import Progress, error_percent, no_progress
from dchw.training.recipe import TrainingRecipe
from dchw.training.run import train_compressed, train_dense


def train_files(
    recipe: TrainingRecipe,
    out: Path,
    *,
    dataset: str,
    folder: Path | None,
    dense_checkpoint: Path | None,
    seeds: Sequence[int],
    held_out: bool = False,
    device: str = "cpu",
    progress: Progress = no_progress,
) -> list[dict[str, Any]]:
    """Carry out a recipe; one row of figures per seed.

    Writes OUT.safetensors as soon as the dense network is trained (unless it came from ``dense_checkpoint``) and
    OUT.dchw, or OUT-SEED.dchw for several seeds with the best of them as OUT.dchw, as soon as each is done: an
    interrupted training keeps what it finished.
    """
    _check_device(device)
    data = load_dataset(dataset, folder)
    data = hold_out(data) if held_out else data
    out.parent.mkdir(parents=True, exist_ok=True)
    if dense_checkpoint is None:
        dense = train_dense(recipe, data, device=device, progress=progress)
        error = error_percent(dense, data.test_images, data.test_labels, device=device)
        notes = {"data_set": data.name, "seed": str(recipe.dense_seed), "error_percent": f"{error:.2f}"}
        save_checkpoint(dense, out.with_name(f"{out.name}.safetensors"), recipe.architecture, notes)
    else:
        dense = load_dense(dense_checkpoint, recipe.architecture).to(device)
    rows = []
    for seed in seeds:
        trained = train_compressed(recipe, dense, data, seed=seed, device=device, progress=progress)
        path = out.with_name(f"{out.name}-{seed}.dchw" if len(seeds) > 1 else f"{out.name}.dchw")
        file_bytes = save(trained.compressed, path)
        fp32_bytes = 4 * sum(p.numel() for p in dense.parameters())
        rows.append(
            {
                "data_set": data.name,
                **trained.to_dict(),
                "file": str(path),
                "file_bytes": file_bytes,
                "ratio": round(fp32_bytes / file_bytes, 2),
            }
        )
    if len(seeds) > 1:
        shutil.copyfile(_best(rows, recipe)["file"], out.with_name(f"{out.name}.dchw"))
    return rows


def _best(rows: list[dict[str, Any]], recipe: TrainingRecipe) -> dict[str, Any]:
    """The smallest file that keeps the promised error; without a promise or a keeper, the most accurate one."""
    promise = recipe.promise
    keepers = [row for row in rows if promise is not None and row["error_percent"] <= promise.error_percent]
    if keepers:
        return min(keepers, key=lambda row: (row["file_bytes"], row["error_percent"]))
    return min(rows, key=lambda row: (row["error_percent"], row["file_bytes"]))


def load_dense(path: Path, architecture: str) -> nn.Module:
    """A module with the weights of a dense checkpoint; raises DchwError when they are another architecture's."""
    module = architectures.build(architecture)
    network = load_network(path)
    if not isinstance(network, Network):
        raise DchwError(f"{path}: expected a dense checkpoint; got a compressed network; name a .safetensors file")
    state = network.state_dict()
    expected = {name: tuple(value.shape) for name, value in module.state_dict().items()}
    if {name: tuple(value.shape) for name, value in state.items()} != expected:
        raise DchwError(
            f"{path}: expected a checkpoint of {architecture} with {', '.join(expected)}; its parameters differ; "
            "name a checkpoint of that architecture"
        )
    module.load_state_dict(state)
    return module


def _check_device(device: str) -> None:
    try:
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise DchwError(
            f"device {device!r}: expected one that torch can use here; {str(error).splitlines()[0]}; use cpu"
        ) from None
