"""Taking channels that pruning has emptied out of a chain of layers, so that retraining costs less.

The compact module computes the same function; what it learns goes back into the original's shapes with `expand`.
"""

from __future__ import annotations

import copy
import itertools
from dataclasses import dataclass

import torch
from torch import nn

from dchw.training.parametrizations import (
    Compressible,
    attach_masks,
    codes_and_codebook,
    compressible_layers,
    materialise,
    share_weights,
)

_TOLERANCE = 1e-4
"""Largest relative difference of class scores between a module and its compact form: sums change their order."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Compact:
    """A smaller module, and where its channels were."""

    module: nn.Module
    """Masked like the original, without the channels that nothing feeds or nothing reads."""
    rows: dict[str, torch.Tensor]
    """int64: output channels of the original layer that are still there."""
    columns: dict[str, torch.Tensor]
    """int64: input channels (features of a linear layer) that are still there."""

    def expand(self, original: nn.Module) -> None:
        """Give ``original`` the shared weights and the biases that the compact module has now, in its own shapes.

        Every layer of the compact module must be shared. Biases of channels that are gone become zero.
        """
        codebooks = {}
        small = dict(compressible_layers(self.module))
        for name, layer in compressible_layers(original):
            codes, codebook = codes_and_codebook(small[name], name)
            rows, columns = self.rows[name], self.columns[name]
            full = torch.zeros(layer.weight.shape, dtype=torch.int64)
            full[rows[:, None], columns[None, :]] = torch.from_numpy(codes)
            codebooks[name] = full.numpy(), codebook
            bias = small[name].bias
            if layer.bias is not None and bias is not None:
                with torch.no_grad():
                    layer.bias.zero_()
                    layer.bias[rows.to(layer.bias.device)] = bias
        share_weights(original, codebooks)


def compact(module: nn.Module, images: torch.Tensor) -> Compact:
    """The compact form of a masked module whose layers form a chain in module order.

    It is checked on ``images`` (float32, with a batch axis); a module that computes something else in its compact
    form, because its layers form no chain, keeps all its channels.
    """
    masks = attach_masks(module)
    layers = dict(compressible_layers(module))
    compacted = _narrowed(module, layers, masks)
    module.eval()
    with torch.no_grad():
        expected = module(images)
        try:
            got = compacted.module.eval()(images)
        except RuntimeError:  # shapes no longer fit: not a chain
            got = None
    limit = _TOLERANCE * float(expected.abs().max())
    if got is not None and got.shape == expected.shape and float((got - expected).abs().max()) <= limit:
        return compacted
    whole = {name: torch.arange(layer.weight.shape[0]) for name, layer in layers.items()}
    inputs = {name: torch.arange(layer.weight.shape[1]) for name, layer in layers.items()}
    return _selected(module, masks, whole, inputs)


def _narrowed(module: nn.Module, layers: dict[str, Compressible], masks: dict[str, torch.Tensor]) -> Compact:
    names = list(layers)
    rows = {name: torch.arange(layer.weight.shape[0]) for name, layer in layers.items()}
    columns = {name: torch.arange(layer.weight.shape[1]) for name, layer in layers.items()}
    for name, following in itertools.pairwise(names):
        outputs = masks[name].shape[0]
        features = masks[following].shape[1]
        if features % outputs or _grouped(layers[name]) or _grouped(layers[following]):
            continue
        per_channel = features // outputs  # pixels of a map that a linear layer reads, otherwise 1
        feeds = masks[name].flatten(1).any(1)
        read = masks[following].flatten(2).any(2).any(0) if masks[following].dim() == 4 else masks[following].any(0)
        # a channel with a bias alone still counts where it is read
        live = (feeds | (read.reshape(outputs, per_channel).any(1))).nonzero().reshape(-1).cpu()
        rows[name] = live
        columns[following] = (live[:, None] * per_channel + torch.arange(per_channel)).reshape(-1)
    return _selected(module, masks, rows, columns)


def _selected(
    module: nn.Module,
    masks: dict[str, torch.Tensor],
    rows: dict[str, torch.Tensor],
    columns: dict[str, torch.Tensor],
) -> Compact:
    small = copy.deepcopy(module)
    materialise(small)
    small_layers = dict(compressible_layers(small))
    for name, layer in small_layers.items():
        keep_rows, keep_columns = rows[name].to(layer.weight.device), columns[name].to(layer.weight.device)
        layer.weight = nn.Parameter(layer.weight.detach()[keep_rows][:, keep_columns].contiguous())
        if layer.bias is not None:
            layer.bias = nn.Parameter(layer.bias.detach()[keep_rows].clone())
        if isinstance(layer, nn.Linear):
            layer.out_features, layer.in_features = layer.weight.shape
        elif not _grouped(layer):
            layer.out_channels, layer.in_channels = layer.weight.shape[:2]
    for name, mask in attach_masks(small).items():
        mask.copy_(masks[name][rows[name]][:, columns[name]])
    return Compact(module=small, rows=rows, columns=columns)


def _grouped(layer: Compressible) -> bool:
    return isinstance(layer, nn.Conv2d) and layer.groups != 1
