"""A whole training as files: the dense checkpoint and one compressed network per seed, each written when it is done."""

from __future__ import annotations

import copy
import hashlib
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from dchw import architectures
from dchw.container.saving import save
from dchw.graph.network import Network
from dchw.importers.load import load_network
from dchw.importers.safetensors_file import save_checkpoint
from dchw.quantities import DchwError
from dchw.training.checkpoint import Checkpoint, read
from dchw.training.course import COMPRESSION, DENSE, DONE, Course, Trained, finished
from dchw.training.export import chosen, network_of, parameters_of
from dchw.training.loop import Progress, no_progress
from dchw.training.material import Material
from dchw.training.recipe_file import TrainingRecipe
from dchw.training.train import check_device, plan_of


def train_dense(
    recipe: TrainingRecipe,
    material: Material,
    *,
    device: str = "cpu",
    checkpoint: Path | None = None,
    progress: Progress = no_progress,
) -> nn.Module:
    """The dense network of a recipe, trained from random weights with its ``dense_seed``."""
    with torch.random.fork_rng():
        torch.manual_seed(recipe.dense_seed)
        module = material.build()
    batches = material.batches(recipe.dense_seed)
    course = Course(
        module=module,
        method=recipe,
        batches=batches,
        loss=material.loss,
        device=device,
        name=recipe.name,
        examples=material.examples(batches, 1),
        checkpoint=Checkpoint(
            path=checkpoint, plan=plan_of(recipe, module, batches, seed=recipe.dense_seed, parts=("dense",))
        ),
        progress=progress,
    )
    course.run((DENSE, DONE))
    return module


def train_compressed(
    recipe: TrainingRecipe,
    dense: nn.Module,
    material: Material,
    *,
    seed: int,
    device: str = "cpu",
    checkpoint: Path | None = None,
    progress: Progress = no_progress,
) -> Trained:
    """Prune, retrain, share, fine-tune and code a copy of ``dense``; ``dense`` itself teaches it where asked."""
    module = copy.deepcopy(dense)
    batches = material.batches(seed)
    examples = material.examples(batches, max(recipe.example_images, 1))
    network = network_of(module, examples, name=material.name)
    parameters, skipped = chosen(parameters_of(module, network), recipe.skip)
    course = Course(
        module=module,
        method=recipe,
        batches=batches,
        loss=material.loss,
        evaluate=material.evaluate,
        device=device,
        name=f"{recipe.name}, seed {seed}",
        network_name=material.name,
        parameters=parameters,
        skipped=skipped,
        examples=examples,
        checkpoint=Checkpoint(path=checkpoint, plan=plan_of(recipe, module, batches, seed=seed, dense=_digest(dense))),
        progress=progress,
    )
    course.run(COMPRESSION)
    results = {"data_set": material.data, "seed": seed}
    if "shared" in course.values:
        results[material.measured] = round(course.values["shared"], 4)
    return finished(course, description={"training": recipe.name}, results=results)


def figures(trained: Trained, measured: str = "error_percent") -> dict[str, Any]:
    """What was measured of one compressed network, as plain values."""
    columns = {"dense": f"dense_{measured}", "pruned": f"pruned_{measured}", "shared": measured}
    values = {column: round(trained.values[what], 4) for what, column in columns.items() if what in trained.values}
    return {"seed": trained.seed, **values, "density": round(trained.density, 6)}


def train_files(
    recipe: TrainingRecipe,
    material: Material,
    out: Path,
    *,
    dense_checkpoint: Path | None,
    seeds: Sequence[int],
    device: str = "cpu",
    progress: Progress = no_progress,
) -> list[dict[str, Any]]:
    """Carry out a recipe; one row of figures per seed.

    Writes OUT.safetensors as soon as the dense network is trained (unless it came from ``dense_checkpoint`` or the
    module came trained) and OUT.dchw, or OUT-SEED.dchw for several seeds with the best of them as OUT.dchw, as soon as
    each is done. Until all are done, OUT.dense.checkpoint and OUT-SEED.checkpoint stand for the last finished epoch:
    called again with the same arguments, an interrupted training goes on from there.
    """
    check_device(device)
    out.parent.mkdir(parents=True, exist_ok=True)
    dense = _dense(recipe, material, out, dense_checkpoint, device, progress)
    fp32_bytes = 4 * sum(p.numel() for p in dense.parameters())
    rows = []
    for seed in seeds:
        trained = train_compressed(
            recipe,
            dense,
            material,
            seed=seed,
            device=device,
            checkpoint=checkpoint_of(out, seed),
            progress=progress,
        )
        path = compressed_file(out, seed, seeds)
        file_bytes = save(trained.compressed, path)
        rows.append(
            {
                "data_set": material.data,
                **figures(trained, material.measured),
                "file": str(path),
                "file_bytes": file_bytes,
                "ratio": round(fp32_bytes / file_bytes, 2),
            }
        )
    if len(seeds) > 1:
        shutil.copyfile(_best(rows, recipe, material.measured)["file"], out.with_name(f"{out.name}.dchw"))
    for path in _checkpoints(out, seeds):
        path.unlink(missing_ok=True)
    return rows


def checkpoint_of(out: Path, seed: int | None) -> Path:
    """Where the training of a seed stands while it lasts; None: that of the dense network."""
    return out.with_name(f"{out.name}.dense.checkpoint" if seed is None else f"{out.name}-{seed}.checkpoint")


def _checkpoints(out: Path, seeds: Sequence[int]) -> list[Path]:
    return [checkpoint_of(out, None), *(checkpoint_of(out, seed) for seed in seeds)]


def compressed_file(out: Path, seed: int, seeds: Sequence[int]) -> Path:
    """Where the compressed network of a seed goes."""
    return out.with_name(f"{out.name}-{seed}.dchw" if len(seeds) > 1 else f"{out.name}.dchw")


def left_behind(out: Path, seeds: Sequence[int]) -> str:
    """What an interrupted `train_files` has left on the disk, in a sentence."""
    states = []
    for path in _checkpoints(out, seeds):
        if path.exists():
            saved = read(path)["state"]
            epochs = saved["standing"]["epochs"]
            states.append((path, "finished" if saved["stage"] == DONE else f"{saved['stage']}, epoch {epochs}"))
    if not states:
        return "no epoch was finished, so nothing of this training is on disk; it would start anew"
    listed = "; ".join(f"{path} ({where})" for path, where in states)
    return f"on disk: {listed}; the same command goes on from there"


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


def _dense(
    recipe: TrainingRecipe,
    material: Material,
    out: Path,
    dense_checkpoint: Path | None,
    device: str,
    progress: Progress,
) -> nn.Module:
    if dense_checkpoint is not None:
        if material.architecture is None:
            raise DchwError(
                f"{dense_checkpoint}: a dense checkpoint goes with a built-in architecture; let the function that "
                "gives the module load its weights"
            )
        from dchw.training.material import placed

        return placed(load_dense(dense_checkpoint, material.architecture), device)
    if recipe.dense is None and material.architecture is not None:
        raise DchwError(
            f"recipe {recipe.name}: expected a section dense, or a dense checkpoint to start from; found neither; add "
            "the section or name the file with --dense"
        )
    dense = train_dense(recipe, material, device=device, checkpoint=checkpoint_of(out, None), progress=progress)
    if recipe.dense is not None:
        notes = {"data_set": material.data, "seed": str(recipe.dense_seed)}
        if material.evaluate is not None:
            notes[material.measured] = f"{material.evaluate(dense.eval()):.2f}"
        save_checkpoint(dense, out.with_name(f"{out.name}.safetensors"), material.architecture, notes)
    return dense


def _digest(module: nn.Module) -> str:
    found = hashlib.sha256()
    for name, value in sorted(module.state_dict().items()):
        found.update(name.encode())
        found.update(value.detach().cpu().contiguous().numpy().tobytes())
    return found.hexdigest()


def _best(rows: list[dict[str, Any]], recipe: TrainingRecipe, measured: str) -> dict[str, Any]:
    """The smallest file that keeps the promised error; without a promise or a keeper, the most accurate one."""
    promise = recipe.promise
    keepers = [row for row in rows if promise is not None and row.get(measured, 101.0) <= promise.error_percent]
    if keepers:
        return min(keepers, key=lambda row: (row["file_bytes"], row[measured]))
    return min(rows, key=lambda row: (row.get(measured, 0.0), row["file_bytes"]))
