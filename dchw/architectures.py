"""The two LeNets of the Deep Compression paper, as torch modules, with the layer names it uses.

Shapes are those of Caffe's MNIST examples (Han, Mao and Dally, ICLR 2016, tables 2 and 3): 266,610 and 431,080
parameters, biases included. Unlike Caffe's ``lenet.prototxt``, LeNet-5 has a ReLU after each convolution too.
"""

from __future__ import annotations

from collections.abc import Callable
from types import MappingProxyType

import torch
from torch import nn

from dchw.quantities import DchwError, nearest

INPUT_SHAPE = (1, 28, 28)
"""Channels, height and width of one input image of every architecture here, without the batch axis."""


class LeNet300100(nn.Module):
    """Two hidden layers of 300 and 100 neurons; a batch of 1x28x28 images in, ten class scores out."""

    def __init__(self) -> None:
        super().__init__()
        self.ip1 = nn.Linear(784, 300)
        self.ip2 = nn.Linear(300, 100)
        self.ip3 = nn.Linear(100, 10)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        hidden = torch.relu(self.ip1(images.flatten(1)))
        hidden = torch.relu(self.ip2(hidden))
        scores: torch.Tensor = self.ip3(hidden)
        return scores


class LeNet5(nn.Module):
    """Two 5x5 convolutions with max pooling and two fully connected layers; input and output as LeNet300100."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 20, 5)
        self.conv2 = nn.Conv2d(20, 50, 5)
        self.ip1 = nn.Linear(800, 500)
        self.ip2 = nn.Linear(500, 10)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        features = nn.functional.max_pool2d(torch.relu(self.conv1(images)), 2)
        features = nn.functional.max_pool2d(torch.relu(self.conv2(features)), 2)
        hidden = torch.relu(self.ip1(features.flatten(1)))
        scores: torch.Tensor = self.ip2(hidden)
        return scores


ARCHITECTURES: MappingProxyType[str, Callable[[], nn.Module]] = MappingProxyType(
    {"lenet-300-100": LeNet300100, "lenet-5": LeNet5}
)
"""Name in checkpoints and on the command line -> what builds it."""


def build(name: str) -> nn.Module:
    """A freshly initialised module (torch's default initialisation, from torch's global seed)."""
    if name not in ARCHITECTURES:
        raise DchwError(f"architecture {name!r} is unknown; {nearest(name, ARCHITECTURES)}")
    return ARCHITECTURES[name]()
