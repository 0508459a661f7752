"""The one training loop: batches, a learning-rate schedule, any loss, a teacher if wanted; it goes on after a stop."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import torch
from pydantic import Field
from torch import nn
from torch.nn import functional

from dchw.config import Config, NonNegative
from dchw.quantities import DchwError
from dchw.training.batches import Batch, Batches, Batching, call, class_scores, seeded
from dchw.training.datasets import Images, Labels
from dchw.training.schedules import learning_rate as scheduled

Loss = Callable[[Any, Any], torch.Tensor]
"""From what the module returns and a batch's targets to a tensor of one value."""


class Training(Batching):
    """One stretch of training with Adam (Kingma and Ba, arXiv:1412.6980), its betas at their published 0.9, 0.999."""

    epochs: NonNegative
    """Passes over the training data."""
    learning_rate: float = Field(gt=0)
    """Peak; it warms up linearly and decays along a cosine."""
    final_rate: float = Field(default=0.0, ge=0, le=1)
    """Where the decay ends, as a share of the peak."""
    warmup_steps: NonNegative = 100
    """Updates in which the rate rises linearly to its peak."""


class Distillation(Config):
    """Learning from the class scores of a teacher (Hinton, Vinyals and Dean, arXiv:1503.02531)."""

    temperature: float = Field(gt=0)
    """Divides the scores of teacher and student before they are compared."""
    weight: float = Field(ge=0, le=1)
    """Share of the teacher's part in the loss; the given loss has the rest."""


class Progress(Protocol):
    """Told after every epoch (and pruning or sharing step) what is going on; a command line draws bars from it."""

    def __call__(self, task: str, done: int, total: int) -> None: ...


def no_progress(task: str, done: int, total: int) -> None:
    """Progress that nobody watches."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Objective:
    """What training lowers."""

    loss: Loss = functional.cross_entropy
    teacher: nn.Module | None = None
    distillation: Distillation | None = None

    def of(self, module: nn.Module, batch: Batch) -> torch.Tensor:
        """The loss on a batch; raises DchwError for a loss that is no tensor of one value."""
        outputs = call(module, batch.inputs)
        loss = self.loss(outputs, batch.targets)
        if not isinstance(loss, torch.Tensor) or loss.numel() != 1:
            shape = tuple(loss.shape) if isinstance(loss, torch.Tensor) else type(loss).__name__
            raise DchwError(f"loss: expected a tensor of one value; got {shape}; reduce it, by .mean() for one")
        if batch.scores is None or self.distillation is None:
            return loss
        distance = _distance(outputs, batch.scores, self.distillation.temperature)
        return (1 - self.distillation.weight) * loss + self.distillation.weight * distance


@dataclass(kw_only=True, eq=False)
class FitState:
    """How far a stretch of training has come: what it needs, besides module and batches, to go on."""

    epochs: int = 0
    optimizer: dict[str, Any] | None = None
    losses: list[float] = field(default_factory=list)
    """Mean loss of every epoch."""


def fit(
    module: nn.Module,
    batches: Batches,
    training: Training,
    objective: Objective,
    *,
    stage: str,
    task: str | None = None,
    standing: FitState | None = None,
    after_step: Callable[[int, int], None] | None = None,
    after_epoch: Callable[[FitState], None] | None = None,
    progress: Progress = no_progress,
) -> FitState:
    """Train every parameter of ``module`` that requires a gradient; the last epoch's values stay.

    ``after_step(step, steps)`` runs after each update, counted from 1; ``after_epoch`` after each epoch, with where it
    stands. Given such a standing, with module and batches as they were then, training goes on to the same end, bit for
    bit: the global random generators of an epoch depend on the batches' seed, ``stage`` and its number alone.
    Raises DchwError when the loss is no longer finite.
    """
    task = task or stage
    standing = standing or FitState()
    per_epoch = batches.steps(training)
    steps = training.epochs * per_epoch
    trained = [value for _, value in sorted(module.named_parameters()) if value.requires_grad]
    optimizer = torch.optim.Adam(trained, lr=training.learning_rate)
    if standing.optimizer is not None:
        optimizer.load_state_dict(standing.optimizer)
    module.train()
    step = standing.epochs * per_epoch
    device = str(next(iter(trained)).device) if trained else "cpu"
    for epoch in range(standing.epochs, training.epochs):
        losses = []
        with seeded(batches.seed, stage, epoch, device):
            for batch in batches.epoch(epoch, training, objective.teacher if objective.distillation else None):
                rate = training.learning_rate * scheduled(step, steps, training.warmup_steps, training.final_rate)
                for group in optimizer.param_groups:
                    group["lr"] = rate
                loss = objective.of(module, batch)
                optimizer.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                optimizer.step()
                step += 1
                losses.append(float(loss.detach()))
                if not math.isfinite(losses[-1]):
                    raise DchwError(
                        f"{task}: the loss of step {step}, epoch {epoch + 1}, is {losses[-1]}; expected a finite one; "
                        f"lower the learning rate (now {training.learning_rate:g}) or check the data"
                    )
                if after_step is not None:
                    after_step(step, steps)
        mean = math.fsum(losses) / max(len(losses), 1)
        standing = FitState(epochs=epoch + 1, optimizer=optimizer.state_dict(), losses=[*standing.losses, mean])
        if after_epoch is not None:
            after_epoch(standing)
        progress(task, epoch + 1, training.epochs)
    module.eval()
    return standing


def error_percent(module: nn.Module, images: Images, labels: Labels, *, device: str = "cpu") -> float:
    """Share of images whose highest class score is not their label, in percent."""
    module.eval()
    pixels, truth = torch.from_numpy(np.array(images)), torch.from_numpy(np.array(labels))
    scores = torch.cat([out.cpu() for out in class_scores(module, pixels, device)])
    return 100 * float((scores.argmax(1) != truth).sum()) / max(len(truth), 1)


def standing_state(standing: FitState) -> dict[str, Any]:
    """A standing as plain values and tensors."""
    return {"epochs": standing.epochs, "optimizer": standing.optimizer, "losses": list(standing.losses)}


def standing_of(state: Mapping[str, Any]) -> FitState:
    """The standing that `standing_state` described."""
    return FitState(epochs=state["epochs"], optimizer=state["optimizer"], losses=list(state["losses"]))


def _distance(outputs: torch.Tensor, scores: torch.Tensor, temperature: float) -> torch.Tensor:
    """Kullback-Leibler divergence of softened scores, times temperature squared so that gradients keep their size."""
    student = functional.log_softmax(outputs / temperature, 1)
    teacher = functional.softmax(scores / temperature, 1)
    return temperature**2 * functional.kl_div(student, teacher, reduction="batchmean")
