"""Three networks that are no LeNet, on MNIST at half size: what ``dchw train --module networks:resnet_20`` trains.

The four files of MNIST lie in the folder that the environment variable DCHW_DATA names.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from dchw.training.datasets import mnist

SIDE = 14
TRAIN_IMAGES = 20_000
HELD_OUT_IMAGES = 10_000
"""The last of the 60,000 training images: no network trains on them, settings are chosen by them."""
BATCH = 64
SHIFT = 2
"""Pixels of the whole image, before it is halved, that a shifted batch moves an image by at most."""


class Residual(nn.Module):
    """Two 3x3 convolutions with batch normalisation around a short cut (He et al., CVPR 2016).

    Where the size changes the short cut takes every second pixel and adds channels of zeros (its option A).
    """

    def __init__(self, channels: int, out: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, out, 3, stride, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(out)
        self.conv2 = nn.Conv2d(out, out, 3, 1, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(out)
        self.stride, self.added = stride, out - channels

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        inner = self.norm2(self.conv2(torch.relu(self.norm1(self.conv1(x)))))
        if self.added:
            x = nn.functional.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, 0, self.added))
        return torch.relu(inner + x)


class Separable(nn.Module):
    """A depthwise and a pointwise convolution, each with batch normalisation (Howard et al., arXiv:1704.04861)."""

    def __init__(self, channels: int, out: int, stride: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(channels, channels, 3, stride, 1, groups=channels, bias=False)
        self.norm1 = nn.BatchNorm2d(channels)
        self.pointwise = nn.Conv2d(channels, out, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(out)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(self.norm2(self.pointwise(torch.relu(self.norm1(self.depthwise(x))))))


class Convolutional(nn.Module):
    """A 3x3 convolution, blocks, an average over the image and class scores."""

    def __init__(self, first: int, blocks: list[nn.Module], features: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, first, 3, 1, 1, bias=False)
        self.norm = nn.BatchNorm2d(first)
        self.blocks = nn.Sequential(*blocks)
        self.scores = nn.Linear(features, 10)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        x = self.blocks(torch.relu(self.norm(self.first(images))))
        return self.scores(x.mean((2, 3)))


class RowTransformer(nn.Module):
    """An image as a sequence of its rows: embedded, with learned positions, through two transformer layers."""

    def __init__(self, width: int = 64, layers: int = 2) -> None:
        super().__init__()
        self.embed = nn.Linear(SIDE, width)
        self.positions = nn.Parameter(0.02 * torch.randn(1, SIDE, width))
        self.layers = nn.Sequential(
            *(nn.TransformerEncoderLayer(width, 4, 2 * width, 0.0, batch_first=True) for _ in range(layers))
        )
        self.scores = nn.Linear(width, 10)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        rows = self.layers(self.embed(images.squeeze(1)) + self.positions)
        return self.scores(rows.mean(1))


def resnet_20() -> nn.Module:
    """Three stages of three blocks, 8, 16 and 32 channels: half of ResNet-20's."""
    blocks, channels = [], 8
    for out in (8, 16, 32):
        for number in range(3):
            blocks.append(Residual(channels, out, 2 if number == 0 and out > 8 else 1))
            channels = out
    return Convolutional(8, blocks, 32).to(memory_format=torch.channels_last)


def separable() -> nn.Module:
    """Five depthwise-separable blocks, 24 to 128 channels."""
    sizes = [(24, 48, 1), (48, 96, 2), (96, 96, 1), (96, 128, 2), (128, 128, 1)]
    return Convolutional(24, [Separable(*size) for size in sizes], 128).to(memory_format=torch.channels_last)


def row_transformer() -> nn.Module:
    """Two layers of width 64 with four heads."""
    return RowTransformer()


def train_batches() -> DataLoader:
    """The first training images in batches of 64, in a new order every epoch."""
    images, labels = _digits()[:2]
    return DataLoader(TensorDataset(images[:TRAIN_IMAGES], labels[:TRAIN_IMAGES]), BATCH, shuffle=True, drop_last=True)


class ShiftedBatches:
    """Every training image that is not held out, once an epoch, in batches of 128 and moved by up to two pixels.

    A move of one pixel before an image is halved is one of half a pixel after it. Order and moves come from torch's
    global generator, which the trainer seeds for every epoch.
    """

    size = 128

    def __init__(self) -> None:
        data = mnist(Path(os.environ["DCHW_DATA"]))
        count = len(data.train_images) - HELD_OUT_IMAGES
        images = nn.functional.pad(torch.from_numpy(data.train_images[:count].copy()), (SHIFT,) * 4)
        side = images.shape[-1] - 2 * SHIFT
        self._windows = images.unfold(2, side, 1).unfold(3, side, 1)
        self._labels = torch.from_numpy(data.train_labels[:count].copy())

    def __len__(self) -> int:
        return len(self._labels) // self.size

    def __iter__(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        order = torch.randperm(len(self._labels))
        down, right = torch.randint(2 * SHIFT + 1, (2, len(order)))
        for start in range(0, len(self) * self.size, self.size):
            part = slice(start, start + self.size)
            moved = self._windows[order[part], :, down[part], right[part]]
            yield _halved(moved), self._labels[order[part]]


def shifted_batches() -> ShiftedBatches:
    """All images that are not held out, a little moved: what the two convolutional networks learn."""
    return ShiftedBatches()


def error_percent(module: nn.Module) -> float:
    """Share of the 10,000 test images whose highest class score is not their label."""
    return _error(module, *_digits()[2:])


def held_out_percent(module: nn.Module) -> float:
    """The same of the 10,000 held-out training images: what settings are chosen by."""
    images, labels = _digits()[:2]
    return _error(module, images[-HELD_OUT_IMAGES:], labels[-HELD_OUT_IMAGES:])


def _error(module: nn.Module, images: torch.Tensor, labels: torch.Tensor) -> float:
    wrong = sum(
        int((module(images[i : i + 500]).argmax(1) != labels[i : i + 500]).sum()) for i in range(0, len(labels), 500)
    )
    return 100 * wrong / len(labels)


@cache
def _digits() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Training images and labels, test images and labels; images float32 in 0..1, each pixel the mean of four."""
    data = mnist(Path(os.environ["DCHW_DATA"]))
    return (
        _halved(torch.from_numpy(data.train_images.copy())),
        torch.from_numpy(data.train_labels.copy()),
        _halved(torch.from_numpy(data.test_images.copy())),
        torch.from_numpy(data.test_labels.copy()),
    )


def _halved(images: torch.Tensor) -> torch.Tensor:
    return nn.functional.avg_pool2d(images.float() / 255, 2)
