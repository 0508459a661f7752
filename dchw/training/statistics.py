"""What flows through the layers of a module: input sizes per channel, constant inputs, outputs that nothing reads."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from dchw.training.module_weights import weights_of

Watched = nn.Linear | nn.Conv2d
"""Layers whose inputs and outputs are seen."""


@dataclass(kw_only=True, eq=False)
class ChannelStatistics:
    """Of one layer, over the batches seen. Channels are features of a linear layer, maps of a convolution."""

    batches: int = 0
    positions: int = 1
    """How often one input uses each weight: output pixels of a convolution, tokens of a linear layer, otherwise 1."""
    mean_square: torch.Tensor | None = None
    """float32[in channels]: mean of the squared input."""
    mean: torch.Tensor | None = None
    """float32[in channels]"""
    varies: torch.Tensor | None = None
    """bool[in channels]: whether the input took two values."""
    read: torch.Tensor | None = None
    """bool[out channels]: whether the loss had a gradient with respect to the output for any image."""

    def see_input(self, layer: Watched, x: torch.Tensor) -> None:
        axes = _other_axes(layer, x)
        mean, square, low, high = x.mean(axes), (x * x).mean(axes), x.amin(axes), x.amax(axes)
        if self.mean is None or self.mean_square is None or self.varies is None:
            self.mean, self.mean_square, self.varies = mean, square, low != high
        else:
            # a channel that is constant within a batch but not across batches shows in its mean
            self.varies = self.varies | (low != high) | ((mean - self.mean).abs() > 1e-6 * self.mean.abs())
            self.mean = self.mean + (mean - self.mean) / (self.batches + 1)
            self.mean_square = self.mean_square + (square - self.mean_square) / (self.batches + 1)
        self.batches += 1

    def see_gradient(self, layer: Watched, gradient: torch.Tensor) -> None:
        read = gradient.abs().amax(_other_axes(layer, gradient)) != 0
        self.read = read if self.read is None else self.read | read


class ChannelWatch:
    """Collects `ChannelStatistics` of every watched layer from the forward and backward passes while it is ``on``."""

    def __init__(self) -> None:
        self.on = True
        self.layers: dict[str, ChannelStatistics] = {}

    def clear(self) -> None:
        """Forget what was seen."""
        self.layers = {name: ChannelStatistics() for name in self.layers}

    @property
    def has_seen(self) -> bool:
        """Whether there was a batch since the last `clear`."""
        return any(seen.batches for seen in self.layers.values())

    def state(self) -> dict[str, Any]:
        """What was seen so far, as plain values and tensors."""
        return {"on": self.on, "layers": {name: dict(vars(seen)) for name, seen in self.layers.items()}}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from where `state` was taken."""
        self.on = state["on"]
        self.layers = {name: ChannelStatistics(**seen) for name, seen in state["layers"].items()}

    def _attach(self, name: str, layer: Watched) -> torch.utils.hooks.RemovableHandle:
        self.layers[name] = ChannelStatistics()

        def see(_: nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
            if not self.on:
                return
            self.layers[name].positions = output[0].numel() // layer.weight.shape[0]
            self.layers[name].see_input(layer, inputs[0].detach())
            if output.requires_grad:
                output.register_hook(lambda gradient: self.layers[name].see_gradient(layer, gradient))  # type: ignore[no-untyped-call]

        return layer.register_forward_hook(see)


@contextmanager
def watch(module: nn.Module) -> Iterator[ChannelWatch]:
    """Watch every linear and 2-D convolutional layer of a module for as long as the context lasts.

    Other weights (attention's projections, recurrent units, ...) have no entry.
    """
    watching = ChannelWatch()
    handles = [watching._attach(w.name, w.layer) for w in weights_of(module) if w.layer is not None]
    try:
        yield watching
    finally:
        for handle in handles:
            handle.remove()


def per_weight(layer: Watched, per_input: torch.Tensor) -> torch.Tensor:
    """A value per input channel, shaped so that it broadcasts over the layer's weight."""
    if isinstance(layer, nn.Linear):
        return per_input[None, :]
    # group g of a grouped convolution reads channels g * in/groups ...; its weights' second axis counts within it
    inside = layer.in_channels // layer.groups
    grouped = per_input.reshape(layer.groups, inside).repeat_interleave(layer.out_channels // layer.groups, 0)
    return grouped[:, :, None, None]


def _other_axes(layer: Watched, x: torch.Tensor) -> tuple[int, ...]:
    channel = x.dim() - 1 if isinstance(layer, nn.Linear) else x.dim() - 3
    return tuple(axis for axis in range(x.dim()) if axis != channel)
