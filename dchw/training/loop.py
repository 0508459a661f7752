"""The one training loop: minibatches, a learning-rate schedule, optional augmentation and distillation."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import torch
from pydantic import Field
from torch import nn
from torch.nn import functional

from dchw.config import Config, NonNegative, Positive
from dchw.quantities import DchwError
from dchw.training.augmentation import Augmentation, augment
from dchw.training.datasets import Dataset, Images, Labels
from dchw.training.schedules import learning_rate as scheduled

_EVALUATION_BATCH = 1_000


class Training(Config):
    """One stretch of training with Adam (Kingma and Ba, arXiv:1412.6980), its betas at their published 0.9, 0.999."""

    epochs: NonNegative
    learning_rate: float = Field(gt=0)
    """Peak; it warms up linearly and decays along a cosine."""
    final_rate: float = Field(default=0.0, ge=0, le=1)
    """Where the decay ends, as a share of the peak."""
    batch_size: Positive = 128
    warmup_steps: NonNegative = 100
    augmentation: Augmentation = Augmentation()
    augmented_copies: NonNegative = 0
    """0: every epoch draws new changes; n: n changed copies of the data set are made, one per epoch in turn, which
    saves resampling and the teacher's forward pass when there are more epochs than copies."""


class Distillation(Config):
    """Learning from the class scores of a teacher (Hinton, Vinyals and Dean, arXiv:1503.02531)."""

    temperature: float = Field(gt=0)
    weight: float = Field(ge=0, le=1)
    """Share of the teacher's part in the loss; the labels' cross entropy has the rest."""


class Progress(Protocol):
    """Told after every epoch (and pruning or sharing step) what is going on; a command line draws bars from it."""

    def __call__(self, task: str, done: int, total: int) -> None: ...


def no_progress(task: str, done: int, total: int) -> None:
    """Progress that nobody watches."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Batches:
    """Training images and labels on a device, and the one generator that orders and changes them.

    Changed copies that a training uses more than once are kept here, so that the next training finds them.
    """

    images: torch.Tensor
    labels: torch.Tensor
    generator: torch.Generator
    copies: dict[tuple[Augmentation, nn.Module | None, int], tuple[torch.Tensor, torch.Tensor | None]] = field(
        default_factory=dict
    )

    def of_epoch(
        self, epoch: int, training: Training, teacher: nn.Module | None
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """An epoch's images and the teacher's class scores for them."""
        cycle = training.augmented_copies if training.augmentation.changes else 1
        key = training.augmentation, teacher, epoch % cycle if cycle else epoch
        if key in self.copies:
            return self.copies[key]
        images, scores = augment(self.images, training.augmentation, self.generator), None
        if teacher is not None:
            teacher.eval()
            scores = torch.cat(list(_forward(teacher, images, str(images.device))))
        if cycle:
            self.copies[key] = images, scores
        return images, scores

    @classmethod
    def of(cls, data: Dataset, *, seed: int, device: str = "cpu") -> Batches:
        """The training images of a data set; equal seeds give equal batches on every device."""
        return cls(
            images=torch.from_numpy(np.array(data.train_images)).to(device),
            labels=torch.from_numpy(np.array(data.train_labels)).to(device),
            generator=torch.Generator().manual_seed(seed),
        )


def fit(
    module: nn.Module,
    batches: Batches,
    training: Training,
    *,
    task: str,
    teacher: nn.Module | None = None,
    distillation: Distillation | None = None,
    after_step: Callable[[int, int], None] | None = None,
    progress: Progress = no_progress,
) -> None:
    """Train every parameter of ``module`` that requires a gradient; the last epoch's values stay.

    The last, incomplete batch of an epoch is left out. ``after_step(step, steps)`` runs after each update, counted
    from 1. Images enter the module as float32 in 0..1.
    """
    count, size = len(batches.labels), min(training.batch_size, len(batches.labels))
    if not count:
        raise DchwError(f"{task}: expected training images; the data set has none; give another one")
    steps = training.epochs * (count // size)
    optimizer = torch.optim.Adam([p for p in module.parameters() if p.requires_grad], lr=training.learning_rate)
    module.train()
    step = 0
    for epoch in range(training.epochs):
        images, scores = batches.of_epoch(epoch, training, teacher)
        order = torch.randperm(count, generator=batches.generator).to(images.device)
        for start in range(0, count - size + 1, size):
            chosen = order[start : start + size]
            for group in optimizer.param_groups:
                group["lr"] = training.learning_rate * scheduled(
                    step, steps, training.warmup_steps, training.final_rate
                )
            outputs = module(as_input(images[chosen]))
            loss = functional.cross_entropy(outputs, batches.labels[chosen])
            if scores is not None and distillation is not None:
                loss = (1 - distillation.weight) * loss + distillation.weight * _distance(
                    outputs, scores[chosen], distillation.temperature
                )
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            step += 1
            if after_step is not None:
                after_step(step, steps)
        progress(task, epoch + 1, training.epochs)
    module.eval()


def error_percent(module: nn.Module, images: Images, labels: Labels, *, device: str = "cpu") -> float:
    """Share of images whose highest class score is not their label, in percent."""
    module.eval()
    pixels, truth = torch.from_numpy(np.array(images)), torch.from_numpy(np.array(labels))
    scores = torch.cat([out.cpu() for out in _forward(module, pixels, device)])
    return 100 * float((scores.argmax(1) != truth).sum()) / max(len(truth), 1)


def as_input(images: torch.Tensor) -> torch.Tensor:
    """uint8 grey levels as a network sees them: float32 in 0..1."""
    return images.float() / 255


def _forward(module: nn.Module, images: torch.Tensor, device: str) -> Iterable[torch.Tensor]:
    with torch.no_grad():
        for start in range(0, len(images), _EVALUATION_BATCH):
            yield module(as_input(images[start : start + _EVALUATION_BATCH].to(device)))


def _distance(outputs: torch.Tensor, scores: torch.Tensor, temperature: float) -> torch.Tensor:
    """Kullback-Leibler divergence of softened scores, times temperature squared so that gradients keep their size."""
    student = functional.log_softmax(outputs / temperature, 1)
    teacher = functional.softmax(scores / temperature, 1)
    return temperature**2 * functional.kl_div(student, teacher, reduction="batchmean")
