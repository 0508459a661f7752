"""Carrying out a method on a module, stage by stage: train densely, prune, retrain, share and fine-tune, code.

After every epoch the whole standing goes to the checkpoint. What leads from one stage to the next depends on the
standing alone, so a training that goes on from its checkpoint ends with the same bits.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from dchw.compression.compressed import CompressedNetwork, ValueFormat
from dchw.quantities import DchwError
from dchw.training.batch_norm import Pair, fold, pairs_of
from dchw.training.batches import Batches, Inputs, seeded
from dchw.training.checkpoint import Checkpoint
from dchw.training.compaction import Compact, compact
from dchw.training.export import compressed_from_module, example_of, network_of
from dchw.training.loop import (
    FitState,
    Loss,
    Objective,
    Progress,
    fit,
    no_progress,
    standing_of,
    standing_state,
)
from dchw.training.module_weights import by_name, weights_of
from dchw.training.parametrizations import attach_masks, materialise, rebuild
from dchw.training.pruning import prune, remove_dead_weights
from dchw.training.recipe_file import Method
from dchw.training.sharing import begin_sharing, finetune, round_to_half

Evaluate = Callable[[nn.Module], float]
"""A number that says how good a module is."""

DENSE, PRUNE, RETRAIN, SHARE, DONE = STAGES = ("dense", "prune", "retrain", "share", "done")
COMPRESSION = (PRUNE, RETRAIN, SHARE, DONE)
_CHECKED_INPUTS = 100
"""On so many training inputs the compact form is compared with the module."""


@dataclass(frozen=True, kw_only=True)
class Epoch:
    """One epoch of a training."""

    stage: str
    """``dense``, ``prune``, ``retrain`` or ``share``."""
    epoch: int
    """From 1, within the stage."""
    loss: float
    """Mean over the epoch's batches, the teacher's part included."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Trained:
    """What a training gave and what was measured on the way."""

    module: nn.Module
    """The module with its shared weights, as ordinary parameters."""
    compressed: CompressedNetwork
    """The same weights as codes and codebooks; `dchw.save` writes it."""
    history: tuple[Epoch, ...]
    """Every epoch in order."""
    values: Mapping[str, float]
    """What ``evaluate`` gave for the ``dense``, the ``pruned`` and the ``shared`` module; empty without one."""
    seed: int
    density: float
    """Share of the compressed layers' weights that stay."""
    kept: tuple[str, ...] = ()
    """Parameters with two or more axes that are neither pruned nor shared: embeddings, positions, whatever the
    network's graph has as no layer."""

    def __repr__(self) -> str:
        values = ", ".join(f"{name} {value:.4g}" for name, value in self.values.items())
        return (
            f"Trained({self.compressed.name!r}, {len(self.history)} epochs, {100 * self.density:.3g} % of weights, "
            f"seed {self.seed}{', ' if values else ''}{values})"
        )


@dataclass(kw_only=True, eq=False)
class Course:
    """One training under way: the method, its data, and everything that changes from epoch to epoch."""

    module: nn.Module
    method: Method
    batches: Batches
    loss: Loss
    evaluate: Evaluate | None = None
    name: str
    """In front of every stage, for progress."""
    network_name: str | None = None
    """Of the compressed network; None: ``name``."""
    device: str = "cpu"
    parameters: tuple[str, ...] | None = None
    """Names of the parameters that are compressed; None: `weights_of` knows."""
    skipped: tuple[str, ...] = ()
    """Names of the layers' parameters that are not compressed: they end as values of float16."""
    examples: Inputs
    """What the graph is captured with, and what is kept of the data in the compressed file."""
    checkpoint: Checkpoint = field(default_factory=lambda: Checkpoint(path=None))
    progress: Progress = no_progress

    small: Compact | None = None
    teacher: nn.Module | None = None
    values: dict[str, float] = field(default_factory=dict)
    history: list[Epoch] = field(default_factory=list)
    folded: tuple[Pair, ...] = ()
    """Normalisations that are part of the layers before them by now."""
    _pending: dict[str, Any] | None = field(default=None, init=False)

    def run(self, stages: Sequence[str] = STAGES) -> None:
        """Go through the stages, from where the checkpoint stands if there is one."""
        self._check_settings()
        saved = self.checkpoint.load()
        if saved is not None:
            self._restore(saved)
            stages = [stage for stage in stages if STAGES.index(stage) >= STAGES.index(saved["stage"])]
        for stage in stages:
            # of a stage that had begun, the module is in its form already
            entered = self._pending is not None and self._pending["stage"] == stage
            getattr(self, f"_{stage}")(entered)
            self._pending = None

    def _dense(self, entered: bool) -> None:
        if self.method.dense is not None:
            self._fit(self.module, DENSE, self.method.dense, Objective(loss=self.loss))

    def _prune(self, entered: bool) -> None:
        if not entered:
            self._measure("dense", self.module)
            if self.method.distillation is not None:
                self.teacher = copy.deepcopy(self.module).requires_grad_(False)
            if self.method.fold_normalisation:
                self.module.eval()
                network = network_of(self.module, example_of(self.examples, 1), name=self.name)
                self.folded = pairs_of(self.module, network)
                fold(self.module, self.folded)
            attach_masks(self.module, self.parameters)
        standing, watched = self._standing(PRUNE)
        prune(
            self.module,
            self.batches,
            self.method.pruning,
            self._objective,
            task=self._task(PRUNE),
            standing=standing,
            watched=watched,
            after_epoch=lambda reached, seen: self._epoch_done(PRUNE, reached, seen),
            progress=self.progress,
        )
        if self.method.pruning.remove_dead:
            remove_dead_weights(self.module, self.batches, self._objective)

    def _retrain(self, entered: bool) -> None:
        if not entered:
            self.small = compact(self.module, self._checked_inputs())
        assert self.small is not None
        self._fit(self.small.module, RETRAIN, self.method.pruning.retraining, self._objective)
        if self.method.pruning.remove_dead:
            remove_dead_weights(self.small.module, self.batches, self._objective)

    def _share(self, entered: bool) -> None:
        assert self.small is not None
        if not entered:
            self._measure("pruned", self.small.module)
            begin_sharing(self.small.module, self.method.sharing)
        standing, _ = self._standing(SHARE)
        finetune(
            self.small.module,
            self.batches,
            self.method.sharing,
            self._objective,
            task=self._task(SHARE),
            standing=standing,
            after_epoch=lambda reached: self._epoch_done(SHARE, reached),
            progress=self.progress,
        )
        self.small.expand(self.module)
        self.small, self.teacher = None, None
        round_to_half(self.module, self.skipped)
        self._measure("shared", self.module)

    def _done(self, entered: bool) -> None:
        if not entered:
            self._save(DONE, FitState(), {})

    @property
    def _objective(self) -> Objective:
        return Objective(loss=self.loss, teacher=self.teacher, distillation=self.method.distillation)

    def _task(self, stage: str) -> str:
        words = {DENSE: "train dense", PRUNE: "prune", RETRAIN: "retrain", SHARE: "share and fine-tune"}
        return f"{self.name}: {words[stage]}"

    def _fit(self, module: nn.Module, stage: str, training: Any, objective: Objective) -> None:
        fit(
            module,
            self.batches,
            training,
            objective,
            stage=stage,
            task=self._task(stage),
            standing=self._standing(stage)[0],
            after_epoch=lambda reached: self._epoch_done(stage, reached),
            progress=self.progress,
        )

    def _measure(self, what: str, module: nn.Module) -> None:
        if self.evaluate is None:
            return
        module.eval()
        with seeded(self.batches.seed, f"evaluate {what}", 0, self.device), torch.no_grad():
            value = self.evaluate(module)
        try:
            self.values[what] = float(value)
        except (TypeError, ValueError):
            raise DchwError(
                f"evaluate: expected a number for the {what} module; got {type(value).__name__}; return a float"
            ) from None

    def _checked_inputs(self) -> Inputs:
        batch = next(self.batches.sample(_CHECKED_INPUTS))
        if isinstance(batch.inputs, torch.Tensor):
            return batch.inputs[:_CHECKED_INPUTS]
        return tuple(value[:_CHECKED_INPUTS] for value in batch.inputs)

    def _check_settings(self) -> None:
        """Faults of the method show before the training, not after it."""
        names = [weight.name for weight in weights_of(self.module, self.parameters)]
        self.method.pruning.final_densities(names)
        by_name(self.method.sharing.shared_values, names, "sharing: shared_values")
        by_name(self.method.sharing.init, names, "sharing: init", "linear")
        for key in ("codebook_format", "bias_format"):
            by_name(getattr(self.method.sharing, key), names, f"sharing: {key}", "float32")

    # The checkpoint -------------------------------------------------------------------------------------------

    def _epoch_done(self, stage: str, standing: FitState, watched: Mapping[str, Any] | None = None) -> None:
        self.history.append(Epoch(stage=stage, epoch=standing.epochs, loss=standing.losses[-1]))
        self._save(stage, standing, watched or {})

    def _save(self, stage: str, standing: FitState, watched: Mapping[str, Any]) -> None:
        if self.checkpoint.path is None:
            return
        self.checkpoint.save(
            {
                "stage": stage,
                "standing": standing_state(standing),
                "watched": dict(watched),
                "folded": [list(pair) for pair in self.folded],
                "module": self.module.state_dict(),
                "small": None if self.small is None else self.small.state(),
                "teacher": None if self.teacher is None else self.teacher.state_dict(),
                "batches": self.batches.state(),
                "examples": list(self.examples) if isinstance(self.examples, tuple) else self.examples,
                "values": dict(self.values),
                "history": [[epoch.stage, epoch.epoch, epoch.loss] for epoch in self.history],
            }
        )

    def _restore(self, saved: dict[str, Any]) -> None:
        try:
            if saved["teacher"] is not None:
                self.teacher = copy.deepcopy(self.module).requires_grad_(False)
                self.teacher.load_state_dict(saved["teacher"])
            self.folded = tuple((layer, normalisation) for layer, normalisation in saved["folded"])
            fold(self.module, self.folded)
            rebuild(self.module, saved["module"], self.parameters)
            if saved["small"] is not None:
                self.small = Compact.again(self.module, saved["small"])
            self.batches.restore(saved["batches"])
        except (RuntimeError, KeyError, ValueError) as error:
            raise DchwError(
                f"{self.checkpoint.path}: it does not fit the module or the batches ({str(error).splitlines()[0]}); "
                "name another file, or delete it to train from the start"
            ) from None
        examples = saved["examples"]
        self.examples = tuple(examples) if isinstance(examples, list) else examples
        self.values = dict(saved["values"])
        self.history = [Epoch(stage=stage, epoch=epoch, loss=loss) for stage, epoch, loss in saved["history"]]
        self._pending = saved

    def _standing(self, stage: str) -> tuple[FitState | None, dict[str, Any] | None]:
        if self._pending is None or self._pending["stage"] != stage:
            return None, None
        return standing_of(self._pending["standing"]), self._pending["watched"] or None


def finished(course: Course, *, description: Mapping[str, Any], results: Mapping[str, Any]) -> Trained:
    """The result of a course that has been run: the module with plain weights, and the compressed network."""
    weights = weights_of(course.module)
    names = [weight.name for weight in weights]
    kept = tuple(
        name
        for name, value in course.module.named_parameters()
        if value.dim() > 1 and ".parametrizations." not in f".{name}"
    )
    sharing, method = course.method.sharing, course.method
    codebook_formats = by_name(sharing.codebook_format, names, "sharing: codebook_format", ValueFormat.FLOAT32)
    bias_formats = by_name(sharing.bias_format, names, "sharing: bias_format", ValueFormat.FLOAT32)
    compressed = compressed_from_module(
        course.module,
        course.examples,
        method.storage,
        name=course.network_name or course.name,
        codebook_formats={weight.parameter: codebook_formats[weight.name] for weight in weights},
        skipped=course.skipped,
        bias_formats={weight.parameter: bias_formats[weight.name] for weight in weights},
        keep_examples=method.example_images > 0,
        results=results,
        description=description,
    )
    materialise(course.module)
    held = sum(layer.codes.size for layer in compressed.layers)
    return Trained(
        module=course.module,
        compressed=compressed,
        history=tuple(course.history),
        values=dict(course.values),
        seed=course.batches.seed,
        density=sum(layer.nonzeros for layer in compressed.layers) / held,
        kept=kept,
    )
