"""Small modules for the training tests."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from dchw.training.datasets import Dataset, digits
from dchw.training.loop import Batches, Training


class Nested(nn.Module):
    """Layers two levels down, a convolution among them, and a root that owns none itself."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(1, 6, 5, stride=3), nn.ReLU(), nn.MaxPool2d(2))
        self.classifier = nn.ModuleDict({"hidden": nn.Linear(96, 20), "scores": nn.Linear(20, 10)})

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        hidden = torch.relu(self.classifier["hidden"](self.features(x).flatten(1)))
        scores: torch.Tensor = self.classifier["scores"](hidden)
        return scores


def nested(seed: int = 0) -> Nested:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return Nested()


def few_digits(count: int = 320) -> Dataset:
    """The first ``count`` training and 100 test digits."""
    data = digits()
    order = np.random.default_rng(0).permutation(len(data.train_labels))[:count]
    return Dataset(
        name="few digits",
        train_images=data.train_images[order],
        train_labels=data.train_labels[order],
        test_images=data.test_images[:100],
        test_labels=data.test_labels[:100],
    )


def batches(count: int = 320, seed: int = 0) -> Batches:
    return Batches.of(few_digits(count), seed=seed)


SHORT = Training(epochs=2, learning_rate=0.003, batch_size=32, warmup_steps=5)
