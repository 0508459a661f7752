"""Taking channels that pruning has emptied out of a chain of layers, so that retraining costs less.

The compact module computes the same function; what it learns goes back into the original's shapes with `expand`.
"""

from __future__ import annotations

import copy
import itertools
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from dchw.training.batches import Inputs, call
from dchw.training.module_weights import Weight, weights_of
from dchw.training.parametrizations import attach_masks, codes_and_codebook, materialise, rebuild, share_weights

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
        """Give ``original`` the shared weights and everything else the compact module has learned, in its own shapes.

        Every weight of the compact module must be shared. Biases of channels that are gone become zero.
        """
        codebooks = {}
        small = {weight.name: weight for weight in weights_of(self.module)}
        biases = set()
        for weight in weights_of(original):
            codes, codebook = codes_and_codebook(small[weight.name])
            rows, columns = self.rows[weight.name], self.columns[weight.name]
            full = torch.zeros(weight.value.shape, dtype=torch.int64)
            full[rows[:, None], columns[None, :]] = torch.from_numpy(codes)
            codebooks[weight.name] = full.numpy(), codebook
            bias = small[weight.name].bias
            if weight.bias is not None and bias is not None:
                with torch.no_grad():
                    weight.bias.zero_()
                    weight.bias[rows.to(weight.bias.device)] = bias
                biases.add(id(weight.bias))
        _copy_rest(self.module, original, biases)
        share_weights(original, codebooks)

    def state(self) -> dict[str, Any]:
        """What `again` needs, as tensors."""
        return {"rows": dict(self.rows), "columns": dict(self.columns), "module": self.module.state_dict()}

    @classmethod
    def again(cls, original: nn.Module, state: dict[str, Any]) -> Compact:
        """The compact form of a masked module from what `state` gave, masked or shared as it was then."""
        small = _selected(original, attach_masks(original), state["rows"], state["columns"])
        parameters = [weight.parameter for weight in weights_of(original)]
        materialise(small.module)
        rebuild(small.module, state["module"], parameters)
        return small


def compact(module: nn.Module, inputs: Inputs) -> Compact:
    """The compact form of a masked module whose layers form a chain in module order.

    It is checked on ``inputs``; a module that computes something else in its compact form, because its layers form no
    chain, keeps all its channels, as does one with other weights than those of linear layers and 2-D convolutions.
    """
    masks = attach_masks(module)
    weights = weights_of(module)
    whole = {weight.name: torch.arange(weight.value.shape[0]) for weight in weights}
    inside = {weight.name: torch.arange(weight.value.shape[1]) for weight in weights}
    module.eval()
    if all(weight.layer is not None for weight in weights):
        rows, columns = _live(weights, masks)
        if all(len(rows[name]) == len(whole[name]) for name in whole):
            return _selected(module, masks, whole, inside)
        compacted = _selected(module, masks, rows, columns)
        if _agree(module, compacted.module.eval(), inputs):
            return compacted
    return _selected(module, masks, whole, inside)


def _agree(module: nn.Module, small: nn.Module, inputs: Inputs) -> bool:
    with torch.no_grad():
        expected = call(module, inputs)
        try:
            got = call(small, inputs)
        except Exception:  # shapes no longer fit: not a chain; what a module raises then is its own affair
            return False
    if not isinstance(expected, torch.Tensor) or got.shape != expected.shape:
        return False
    return float((got - expected).abs().max()) <= _TOLERANCE * float(expected.abs().max())


def _live(
    weights: list[Weight], masks: dict[str, torch.Tensor]
) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """Rows and columns that something feeds and something reads, if every layer reads the one before it."""
    rows = {weight.name: torch.arange(weight.value.shape[0]) for weight in weights}
    columns = {weight.name: torch.arange(weight.value.shape[1]) for weight in weights}
    for weight, after in itertools.pairwise(weights):
        name, following = weight.name, after.name
        outputs, features = masks[name].shape[0], masks[following].shape[1]
        if features % outputs or _grouped(weight) or _grouped(after):
            continue
        per_channel = features // outputs  # pixels of a map that a linear layer reads, otherwise 1
        feeds = masks[name].flatten(1).any(1)
        read = masks[following].flatten(2).any(2).any(0) if masks[following].dim() == 4 else masks[following].any(0)
        # a channel with a bias alone still counts where it is read
        live = (feeds | (read.reshape(outputs, per_channel).any(1))).nonzero().reshape(-1).cpu()
        rows[name] = live
        columns[following] = (live[:, None] * per_channel + torch.arange(per_channel)).reshape(-1)
    return rows, columns


def _selected(
    module: nn.Module,
    masks: dict[str, torch.Tensor],
    rows: dict[str, torch.Tensor],
    columns: dict[str, torch.Tensor],
) -> Compact:
    small = copy.deepcopy(module)
    parameters = [weight.parameter for weight in weights_of(small)]
    materialise(small)
    for weight in weights_of(small, parameters):
        if weight.layer is not None:
            _narrow(weight.layer, rows[weight.name], columns[weight.name])
    for name, mask in attach_masks(small, parameters).items():
        mask.copy_(masks[name][rows[name]][:, columns[name]])
    return Compact(module=small, rows=rows, columns=columns)


def _narrow(layer: nn.Linear | nn.Conv2d, rows: torch.Tensor, columns: torch.Tensor) -> None:
    if len(rows) == layer.weight.shape[0] and len(columns) == layer.weight.shape[1]:
        return
    rows, columns = rows.to(layer.weight.device), columns.to(layer.weight.device)
    layer.weight = nn.Parameter(layer.weight.detach()[rows][:, columns].contiguous())
    if layer.bias is not None:
        layer.bias = nn.Parameter(layer.bias.detach()[rows].clone())
    if isinstance(layer, nn.Linear):
        layer.out_features, layer.in_features = layer.weight.shape
    elif layer.groups == 1:
        layer.out_channels, layer.in_channels = layer.weight.shape[:2]


def _copy_rest(small: nn.Module, original: nn.Module, done: set[int]) -> None:
    """Copy what is no compressed weight and no bias of one: normalisation, embeddings, running statistics."""
    own = {**dict(original.named_parameters()), **dict(original.named_buffers())}
    with torch.no_grad():
        for name, value in [*small.named_parameters(), *small.named_buffers()]:
            if ".parametrizations." not in f".{name}" and id(own[name]) not in done:
                own[name].copy_(value)


def _grouped(weight: Weight) -> bool:
    return isinstance(weight.layer, nn.Conv2d) and weight.layer.groups != 1
