"""Small modules for the training tests."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from dchw.training.batches import ImageBatches
from dchw.training.datasets import Dataset, digits
from dchw.training.loop import Training


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


def batches(count: int = 320, seed: int = 0) -> ImageBatches:
    return ImageBatches.of(few_digits(count), seed=seed)


SHORT = Training(epochs=2, learning_rate=0.003, batch_size=32, warmup_steps=5)


class Normalised(nn.Module):
    """A convolution with batch normalisation and dropout."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 6, 3, bias=False)
        self.norm = nn.BatchNorm2d(6)
        self.dropout = nn.Dropout(0.2)
        self.scores = nn.Linear(6 * 36, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        scores: torch.Tensor = self.scores(self.dropout(torch.relu(self.norm(self.conv(x)))).flatten(1))
        return scores


class Attentive(nn.Module):
    """A transformer layer over the rows of an image, with learned positions."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(8, 12)
        self.positions = nn.Parameter(0.1 * torch.randn(1, 8, 12))
        self.layer = nn.TransformerEncoderLayer(12, 2, 16, 0.1, batch_first=True)
        self.scores = nn.Linear(12, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        scores: torch.Tensor = self.scores(self.layer(self.embed(x.squeeze(1)) + self.positions).mean(1))
        return scores


class Tied(nn.Module):
    """Two layers that have one weight."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last, self.scores = nn.Linear(64, 64), nn.Linear(64, 64), nn.Linear(64, 4)
        self.last.weight = self.first.weight

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        scores: torch.Tensor = self.scores(torch.relu(self.last(torch.relu(self.first(x.flatten(1))))))
        return scores


def plain_batches(count: int = 4, size: int = 16) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Small random images; the class is the brightest quarter."""
    generator = torch.Generator().manual_seed(7)
    images = torch.rand(count, size, 1, 8, 8, generator=generator)
    quarters = images.reshape(count, size, 4, 16).mean(3)
    return [(images[i], quarters[i].argmax(1)) for i in range(count)]
