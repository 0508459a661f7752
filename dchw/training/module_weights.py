"""The weights of a module that training prunes and shares, wherever they are: in layers, attention, recurrent units."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TypeVar, cast

import torch
from torch import nn
from torch.nn.utils import parametrize

from dchw.quantities import DchwError, nearest

V = TypeVar("V")

ROOT = "layer"
"""What the root module's own weight is called; torch calls the root ""."""
_PLAIN = (
    nn.Linear,
    nn.Conv1d,
    nn.Conv2d,
    nn.Conv3d,
    nn.ConvTranspose1d,
    nn.ConvTranspose2d,
    nn.ConvTranspose3d,
)
_PROJECTIONS = ("in_proj_weight", "q_proj_weight", "k_proj_weight", "v_proj_weight")


class Attached(nn.Module):
    """What training puts on a weight; parametrizations of other kinds are the module's own."""


class Followed(nn.Module):
    """A tied weight: it has the value that the first place of its parameter has at the moment."""

    def __init__(self, owner: nn.Module, attribute: str) -> None:
        super().__init__()
        self.place = (owner, attribute)  # in a tuple, so that the owner does not become a submodule

    def forward(self, _: torch.Tensor) -> torch.Tensor:
        return cast(torch.Tensor, getattr(*self.place))


@dataclass(frozen=True, kw_only=True, eq=False)
class Weight:
    """One weight tensor, the module that owns it, and further owners of the same parameter (tied weights)."""

    path: str
    """Of the owner, as torch writes it: ``features.0``; "" for the root module."""
    owner: nn.Module
    attribute: str
    tied: tuple[tuple[nn.Module, str], ...] = ()

    @property
    def parameter(self) -> str:
        """Name among the module's parameters while it is plain: ``features.0.weight``."""
        return f"{self.path}.{self.attribute}" if self.path else self.attribute

    @property
    def name(self) -> str:
        """Of the layer: the parameter without ``.weight``, such as ``features.0`` or ``gru.weight_hh_l0``."""
        return ROOT if self.parameter == "weight" else self.parameter.removesuffix(".weight")

    @property
    def value(self) -> torch.Tensor:
        """What the module computes with: masked or shared where it is so at the moment."""
        return cast(torch.Tensor, getattr(self.owner, self.attribute))

    @property
    def bias(self) -> nn.Parameter | None:
        """The bias added to the same outputs; None where there is none."""
        bias = getattr(self.owner, self.attribute.replace("weight", "bias"), None)
        return bias if isinstance(bias, nn.Parameter) else None

    @property
    def layer(self) -> nn.Linear | nn.Conv2d | None:
        """The layer whose inputs and outputs can be watched; None for projections of attention, recurrent units, ..."""
        if self.attribute == "weight" and isinstance(self.owner, nn.Linear | nn.Conv2d):
            return self.owner
        return None


def weights_of(module: nn.Module, parameters: Collection[str] | None = None) -> list[Weight]:
    """The weights that are pruned and shared, in module order; tied ones once, under their first name.

    Weights that are masked or shared already are the ones, if there are any. Otherwise they are those named by
    ``parameters`` (names of `torch.nn.Module.named_parameters`) or, without names, those of every linear, convolutional
    and transposed layer, projection of attention and recurrent unit.
    """
    attached = _attached(module)
    if attached:
        return attached
    places: dict[int, list[tuple[str, nn.Module, str]]] = {}
    for path, owner in module.named_modules():
        for attribute, parameter in owner.named_parameters(recurse=False):
            places.setdefault(id(parameter), []).append((path, owner, attribute))
    weights = []
    for group in places.values():
        chosen = [place for place in group if _is_weight(*place, parameters)]
        if chosen:
            path, owner, attribute = chosen[0]
            tied = tuple(place[1:] for place in group if place is not chosen[0])
            weights.append(Weight(path=path, owner=owner, attribute=attribute, tied=tied))
    return weights


def by_name(given: V | Mapping[str, V], names: Collection[str], where: str, default: V | None = None) -> dict[str, V]:
    """A setting for every layer: one value for all, or by layer name or pattern (``block.*.conv?``).

    A name goes before patterns, and of patterns the first that fits counts. Raises DchwError for a key that fits no
    layer and, without a ``default``, for a layer that no key fits; ``where`` opens the message.
    """
    if not isinstance(given, Mapping):
        return dict.fromkeys(names, given)
    for key in given:
        if not any(fnmatchcase(name, key) for name in names) and key not in names:
            raise DchwError(f"{where}.{key}: no such layer; {nearest(key, names)}")
    out = {}
    for name in names:
        fitting = [value for key, value in given.items() if key == name] or [
            value for key, value in given.items() if fnmatchcase(name, key)
        ]
        if not fitting and default is None:
            raise DchwError(f"{where}.{name}: missing; add it, or '*' for all others")
        out[name] = fitting[0] if fitting else cast(V, default)
    return out


def _is_weight(path: str, owner: nn.Module, attribute: str, parameters: Collection[str] | None) -> bool:
    if parameters is not None:
        return (f"{path}.{attribute}" if path else attribute) in parameters
    if isinstance(owner, _PLAIN):
        return attribute == "weight"
    if isinstance(owner, nn.MultiheadAttention):
        return attribute in _PROJECTIONS
    return isinstance(owner, nn.RNNBase | nn.RNNCellBase) and attribute.startswith("weight_")


def _attached(module: nn.Module) -> list[Weight]:
    followers: dict[tuple[int, str], list[tuple[nn.Module, str]]] = {}
    first = []
    for path, owner in module.named_modules():
        if not parametrize.is_parametrized(owner):
            continue
        for attribute, chain in cast(nn.ModuleDict, owner.parametrizations).items():
            kind = cast(nn.ModuleList, chain)[0]
            if isinstance(kind, Followed):
                followers.setdefault((id(kind.place[0]), kind.place[1]), []).append((owner, attribute))
            elif isinstance(kind, Attached):
                first.append((path, owner, attribute))
    return [
        Weight(path=path, owner=owner, attribute=attribute, tied=tuple(followers.get((id(owner), attribute), ())))
        for path, owner, attribute in first
    ]
