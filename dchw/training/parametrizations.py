"""Weights that are pruned or shared while they train, for any module with ``Linear`` or ``Conv2d`` layers inside.

Both are `torch.nn.utils.parametrize` parametrizations, so the module's own code runs unchanged and sees ordinary
weights. While masked, the trainable tensor is the *shadow*: every weight, pruned ones with the last value they had.
While shared, it is the codebook alone, or the codebook and each weight's own value where codes may change.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TypeVar, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.nn.utils import parametrize

from dchw.quantities import DchwError

Compressible = nn.Linear | nn.Conv2d
P = TypeVar("P", bound=nn.Module)


class Masked(nn.Module):
    """Weights with the pruned ones held at zero; no gradient reaches a pruned weight."""

    mask: torch.Tensor

    def __init__(self, mask: torch.Tensor) -> None:
        super().__init__()
        self.register_buffer("mask", mask)

    def forward(self, shadow: torch.Tensor) -> torch.Tensor:
        return shadow * self.mask


class Shared(nn.Module):
    """Weights that take their values from a codebook; the trainable tensor is float32[k], the shared values.

    The gradient of a shared value is the sum of the gradients of the weights that use it (Han, Mao and Dally, ICLR
    2016, section 3.3). ``codes`` has the weight's shape: 0 where pruned, c where the weight is shared value c - 1.
    """

    codes: torch.Tensor
    positions: torch.Tensor
    values_used: torch.Tensor

    def __init__(self, codes: torch.Tensor, values: torch.Tensor) -> None:
        super().__init__()
        flat = codes.reshape(-1)
        positions = torch.nonzero(flat).reshape(-1)
        self.register_buffer("codes", codes)
        self.register_buffer("positions", positions)
        self.register_buffer("values_used", flat[positions] - 1)
        self._initial = values

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        flat = torch.zeros(self.codes.numel(), dtype=values.dtype, device=values.device)
        return flat.scatter(0, self.positions, values[self.values_used]).reshape(self.codes.shape)

    def right_inverse(self, weight: torch.Tensor) -> torch.Tensor:
        """The codebook that replaces the weight as the trainable tensor (called once, on registration)."""
        return self._initial.to(weight)


class Reassigned(nn.Module):
    """Shared weights whose codes may change while they train: each takes the shared value nearest to its own value.

    Two trainable tensors: float32[k] shared values, float32[n] own values of the weights that stay, in C order. The
    gradient of a weight goes to its shared value, summed as in `Shared`, and straight through to its own value (Bengio,
    Leonard and Courville, arXiv:1308.3432).
    """

    positions: torch.Tensor

    def __init__(self, weight: torch.Tensor, values: torch.Tensor) -> None:
        super().__init__()
        flat = weight.detach().reshape(-1)
        self.shape = weight.shape
        self.register_buffer("positions", torch.nonzero(flat).reshape(-1))
        self._initial = values.to(flat), flat[self.positions]

    def forward(self, values: torch.Tensor, own: torch.Tensor) -> torch.Tensor:
        used = values[self.nearest(values, own)] + (own - own.detach())
        flat = torch.zeros(self.shape.numel(), dtype=values.dtype, device=values.device)
        return flat.scatter(0, self.positions, used).reshape(self.shape)

    def right_inverse(self, weight: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The trainable tensors that replace the weight (called once, on registration)."""
        return self._initial

    @staticmethod
    def nearest(values: torch.Tensor, own: torch.Tensor) -> torch.Tensor:
        """int64[n]: which shared value is nearest to each own value; of two as near, the lower."""
        ascending, order = values.detach().sort()
        return order[torch.bucketize(own.detach(), (ascending[1:] + ascending[:-1]) / 2)]


def compressible_layers(module: nn.Module) -> Iterator[tuple[str, Compressible]]:
    """Name and layer of everything inside that can be pruned and shared, nested ones included, in module order.

    A layer that occurs under several names (shared modules) is given once. The root itself is called "" by torch;
    here it is ``layer``.
    """
    for name, layer in module.named_modules():
        if isinstance(layer, nn.Linear | nn.Conv2d):
            yield name or "layer", layer


def attach_masks(module: nn.Module) -> dict[str, torch.Tensor]:
    """Put every layer under a mask of ones (layers that are masked already keep theirs); the masks by layer name.

    The tensors are the live masks: write into them with ``copy_``.
    """
    masks = {}
    for name, layer in compressible_layers(module):
        if not parametrize.is_parametrized(layer, "weight"):
            parametrize.register_parametrization(layer, "weight", Masked(torch.ones_like(layer.weight)))
        masks[name] = _only(layer, Masked, name).mask
    if not masks:
        raise DchwError(
            f"training of {type(module).__name__}: expected at least one Linear or Conv2d layer; found none; "
            "give a module that has weights to compress"
        )
    return masks


def shadow(layer: Compressible) -> torch.Tensor:
    """The trainable tensor behind a layer's weight: the shadow weights, or the codebook, or the plain weight."""
    if parametrize.is_parametrized(layer, "weight"):
        return cast(torch.Tensor, layer.parametrizations.weight.original)  # type: ignore[union-attr]
    return layer.weight


def share_weights(
    module: nn.Module, codebooks: Mapping[str, tuple[npt.NDArray[np.integer], npt.NDArray[np.float32]]]
) -> None:
    """Replace each named layer's weight (and mask) by codes and shared values, as `CompressedLayer` holds them.

    ``codebooks[layer]`` is (codes in the weight's shape, float32 codebook whose entry 0 is zero).
    """
    for name, layer in compressible_layers(module):
        codes, codebook = codebooks[name]
        materialise(layer)
        parametrization = Shared(torch.from_numpy(codes.astype(np.int64)), torch.from_numpy(codebook[1:].copy()))
        parametrize.register_parametrization(layer, "weight", parametrization.to(layer.weight.device), unsafe=True)


def let_codes_change(module: nn.Module, weights: Mapping[str, torch.Tensor]) -> None:
    """From now on the weights of a shared module may change their shared value, starting from own values.

    ``weights[layer]``, in the weight's shape, holds the own values; it is zero exactly where the weight is pruned.
    """
    for name, layer in compressible_layers(module):
        values = shadow(layer).detach().clone()
        materialise(layer)
        parametrize.register_parametrization(layer, "weight", Reassigned(weights[name], values), unsafe=True)


def hold_codes(module: nn.Module) -> None:
    """End what `let_codes_change` began: the codes stay as they are now; shared values that none uses are dropped."""
    codebooks = {}
    for name, layer in compressible_layers(module):
        moving = _only(layer, Reassigned, name)
        trained = dict(layer.parametrizations.weight.named_parameters())  # type: ignore[union-attr]
        values, own = trained["original0"].detach(), trained["original1"].detach()
        used, inverse = values[moving.nearest(values, own)].unique(return_inverse=True)
        codes = torch.zeros(moving.shape.numel(), dtype=torch.int64)
        codes[moving.positions.cpu()] = inverse.cpu() + 1
        codebook = np.concatenate([np.zeros(1, np.float32), used.cpu().numpy()])
        codebooks[name] = codes.reshape(moving.shape).numpy(), codebook
    share_weights(module, codebooks)


def codes_and_codebook(layer: Compressible, name: str) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
    """Codes in the weight's shape and the float32 codebook, entry 0 being +0.0, of a layer with shared weights."""
    shared = _only(layer, Shared, name)
    values = shadow(layer).detach().cpu().numpy().astype(np.float32)
    return shared.codes.cpu().numpy(), np.concatenate([np.zeros(1, np.float32), values])


def materialise(module: nn.Module) -> None:
    """Turn every parametrized weight back into an ordinary parameter with the values it has now."""
    for _, layer in compressible_layers(module):
        if parametrize.is_parametrized(layer, "weight"):
            weight = layer.weight.detach().clone()
            # not remove_parametrizations: it takes the property off the class, which copies of the layer share
            layer.__class__ = parametrize.type_before_parametrizations(layer)
            del layer.parametrizations
            layer.weight = nn.Parameter(weight)


def _only(layer: Compressible, kind: type[P], name: str) -> P:
    parametrization = layer.parametrizations.weight[0] if parametrize.is_parametrized(layer, "weight") else None  # type: ignore[union-attr, index]
    if not isinstance(parametrization, kind):
        raise DchwError(
            f"layer {name!r}: expected its weight to be {kind.__name__.lower()}; it is "
            f"{type(parametrization).__name__.lower() if parametrization is not None else 'plain'}; "
            "prune first, then share, then convert"
        )
    return parametrization
