"""Folding batch normalisation into the weights of a module before they are pruned and shared.

In inference a batch normalisation is a factor and a summand per channel. Folded into the layer before it, the factor
costs nothing and the summand is the layer's bias; folded after sharing, every channel would have values of its own.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import nn

from dchw.graph.network import Network
from dchw.importers.fold import foldable

Pair = tuple[str, str]
"""Paths in a module of a layer and of the batch normalisation that follows it."""
_LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
_NORMALISATIONS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


def pairs_of(module: nn.Module, network: Network) -> tuple[Pair, ...]:
    """The batch normalisations of a module that can be folded, in order; ``network`` is its graph, not folded.

    Both parts must be modules of torch's own: a linear layer or convolution (no transposed one) and a batch
    normalisation with running statistics.
    """
    parts, parameters = dict(module.named_modules()), {layer.name: layer.parameter for layer in network.layers}
    pairs = []
    for layer, normalisation in foldable(network).items():
        path = parameters[layer].rpartition(".")[0]
        norm = parts.get(normalisation.name)
        if (
            isinstance(parts.get(path), _LAYERS)
            and isinstance(norm, _NORMALISATIONS)
            and norm.running_var is not None
            and parameters[layer].endswith("weight")
        ):
            pairs.append((path, normalisation.name))
    return tuple(pairs)


def fold(module: nn.Module, pairs: Iterable[Pair]) -> None:
    """Fold normalisations into the layers before them, in place; in inference the module computes what it did.

    A layer without a bias gets one; the normalisation's place is taken by an `nn.Identity`.
    """
    for path, normalisation in pairs:
        layer, norm = module.get_submodule(path), module.get_submodule(normalisation)
        assert isinstance(layer, _LAYERS)
        assert isinstance(norm, _NORMALISATIONS)
        mean, variance = norm.running_mean, norm.running_var
        assert mean is not None
        assert variance is not None
        with torch.no_grad():
            scale = torch.rsqrt(variance + norm.eps)
            if norm.weight is not None:
                scale = scale * norm.weight
            bias = -mean if layer.bias is None else layer.bias - mean
            bias = bias * scale if norm.bias is None else bias * scale + norm.bias
            layer.weight.mul_(scale.reshape(-1, *(1,) * (layer.weight.dim() - 1)))
            layer.bias = nn.Parameter(bias)
        parent, _, name = normalisation.rpartition(".")
        setattr(module.get_submodule(parent), name, nn.Identity())
