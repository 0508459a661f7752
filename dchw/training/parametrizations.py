"""Weights that are pruned or shared while they train, for any module that `weights_of` finds weights in.

Both are `torch.nn.utils.parametrize` parametrizations, so the module's own code runs unchanged and sees ordinary
weights. While masked, the trainable tensor is the *shadow*: every weight, pruned ones with the last value they had.
While shared, it is the codebook alone, or the codebook and each weight's own value where codes may change.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any, TypeVar, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.nn.utils import parametrize

from dchw.quantities import DchwError
from dchw.training.module_weights import Attached, Followed, Weight, weights_of

P = TypeVar("P", bound=nn.Module)


class Masked(Attached):
    """Weights with the pruned ones held at zero; no gradient reaches a pruned weight."""

    mask: torch.Tensor

    def __init__(self, mask: torch.Tensor) -> None:
        super().__init__()
        self.register_buffer("mask", mask)

    def forward(self, shadow: torch.Tensor) -> torch.Tensor:
        return shadow * self.mask


class Shared(Attached):
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


class Reassigned(Attached):
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


def attach_masks(module: nn.Module, parameters: Collection[str] | None = None) -> dict[str, torch.Tensor]:
    """Put every weight under a mask of ones (weights that are masked already keep theirs); the masks by layer name.

    ``parameters`` as in `weights_of`. The tensors are the live masks: write into them with ``copy_``.
    """
    weights = weights_of(module, parameters)
    if not weights:
        raise DchwError(
            f"training of {type(module).__name__}: expected at least one linear, convolutional, attention or recurrent "
            "layer; found none; give a module that has weights to compress"
        )
    masks = {}
    for weight in weights:
        if not parametrize.is_parametrized(weight.owner, weight.attribute):
            _attach(weight, Masked(torch.ones_like(weight.value)))
        masks[weight.name] = _only(weight, Masked).mask
    return masks


def shadow(weight: Weight) -> torch.Tensor:
    """The trainable tensor behind a weight: the shadow weights, or the codebook, or the plain weight."""
    if parametrize.is_parametrized(weight.owner, weight.attribute):
        return cast(torch.Tensor, _chain(weight).original)
    return weight.value


def share_weights(
    module: nn.Module, codebooks: Mapping[str, tuple[npt.NDArray[np.integer], npt.NDArray[np.float32]]]
) -> None:
    """Replace each named weight (and its mask) by codes and shared values, as `CompressedLayer` holds them.

    ``codebooks[name]`` is (codes in the weight's shape, float32 codebook whose entry 0 is zero).
    """
    weights = [weight for weight in weights_of(module) if weight.name in codebooks]
    materialise(module)
    for weight in weights:
        codes, codebook = codebooks[weight.name]
        shared = Shared(torch.from_numpy(codes.astype(np.int64)), torch.from_numpy(codebook[1:].copy()))
        _attach(weight, shared.to(weight.value.device))


def let_codes_change(module: nn.Module, weights: Mapping[str, torch.Tensor]) -> None:
    """From now on the weights of a shared module may change their shared value, starting from own values.

    ``weights[name]``, in the weight's shape, holds the own values; it is zero exactly where the weight is pruned.
    """
    shared = [(weight, shadow(weight).detach().clone()) for weight in weights_of(module)]
    materialise(module)
    for weight, values in shared:
        _attach(weight, Reassigned(weights[weight.name], values))


def hold_codes(module: nn.Module) -> None:
    """End what `let_codes_change` began: the codes stay as they are now; shared values that none uses are dropped."""
    codebooks = {}
    for weight in weights_of(module):
        moving = _only(weight, Reassigned)
        trained = dict(_chain(weight).named_parameters())
        values, own = trained["original0"].detach(), trained["original1"].detach()
        used, inverse = values[moving.nearest(values, own)].unique(return_inverse=True)
        codes = torch.zeros(moving.shape.numel(), dtype=torch.int64)
        codes[moving.positions.cpu()] = inverse.cpu() + 1
        codebook = np.concatenate([np.zeros(1, np.float32), used.cpu().numpy()])
        codebooks[weight.name] = codes.reshape(moving.shape).numpy(), codebook
    share_weights(module, codebooks)


def codes_and_codebook(weight: Weight) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
    """Codes in the weight's shape and the float32 codebook, entry 0 being +0.0, of a shared weight."""
    shared = _only(weight, Shared)
    values = shadow(weight).detach().cpu().numpy().astype(np.float32)
    return shared.codes.cpu().numpy(), np.concatenate([np.zeros(1, np.float32), values])


def materialise(module: nn.Module) -> None:
    """Turn every parametrized tensor back into an ordinary parameter with the values it has now.

    Parametrizations that the module had before (weight norm and others) end as well. Tied weights stay tied.
    """
    parts = [part for part in module.modules() if parametrize.is_parametrized(part)]
    values: dict[tuple[int, str], nn.Parameter] = {}
    with torch.no_grad():
        for part in parts:
            for attribute in cast(nn.ModuleDict, part.parametrizations):
                if not isinstance(_first(part, attribute), Followed):
                    values[id(part), attribute] = nn.Parameter(getattr(part, attribute).detach().clone())
    places = [
        (part, attribute, _first(part, attribute)) for part in parts for attribute in cast(Any, part.parametrizations)
    ]
    for part in parts:
        # not remove_parametrizations: it takes the property off the class, which copies of the layer share
        part.__class__ = parametrize.type_before_parametrizations(part)
        del part.parametrizations
    for part, attribute, kind in places:
        first = (id(kind.place[0]), kind.place[1]) if isinstance(kind, Followed) else (id(part), attribute)
        part.register_parameter(attribute, values[first])
        if isinstance(part, nn.RNNBase):
            _release_recurrent(part)


def rebuild(module: nn.Module, state: Mapping[str, torch.Tensor], parameters: Collection[str] | None = None) -> None:
    """Bring a plain module into the state that another one's ``state_dict()`` describes, masks and codes included."""
    masked, shared, own = [], {}, {}
    for weight in weights_of(module, parameters):
        here = f"{weight.path}." if weight.path else ""
        here = f"{here}parametrizations.{weight.attribute}."
        if f"{here}0.mask" in state:
            masked.append(weight.parameter)
        elif f"{here}0.codes" in state:
            codebook = torch.cat([torch.zeros(1), state[f"{here}original"].float()])
            shared[weight.name] = state[f"{here}0.codes"].numpy(), codebook.numpy()
        elif f"{here}0.positions" in state:
            flat = torch.zeros(weight.value.numel())
            values = state[f"{here}original1"].float()
            flat[state[f"{here}0.positions"]] = torch.where(values == 0, 1.0, values)  # zero would mean pruned
            own[weight.name] = flat.reshape(weight.value.shape).to(weight.value)
            codes = (flat != 0).to(torch.int64).reshape(weight.value.shape)
            codebook = torch.cat([torch.zeros(1), state[f"{here}original0"].float()])
            shared[weight.name] = codes.numpy(), codebook.numpy()
    if masked:
        attach_masks(module, masked)
    if shared:
        share_weights(module, shared)
    if own:
        let_codes_change(module, own)
    module.load_state_dict(state)


def _attach(weight: Weight, parametrization: nn.Module) -> None:
    parametrize.register_parametrization(weight.owner, weight.attribute, parametrization, unsafe=True)
    for owner, attribute in weight.tied:
        # the tied place gets a tensor of its own, which nothing reads and no optimizer sees
        delattr(owner, attribute)
        unread = nn.Parameter(torch.zeros(0, device=weight.value.device), requires_grad=False)
        owner.register_parameter(attribute, unread)
        parametrize.register_parametrization(owner, attribute, Followed(weight.owner, weight.attribute), unsafe=True)
    for owner in {weight.owner, *(owner for owner, _ in weight.tied)}:
        if isinstance(owner, nn.RNNBase):
            _hold_recurrent(owner)


def _hold_recurrent(unit: nn.RNNBase) -> None:
    """Let a recurrent unit, which keeps a list of its weights, compute with what the parametrizations give."""
    _release_recurrent(unit)
    unit.register_forward_pre_hook(_list_weights)
    unit.register_forward_hook(_forget_weights)
    _forget_weights(unit)


def _release_recurrent(unit: nn.RNNBase) -> None:
    for hooks in (unit._forward_pre_hooks, unit._forward_hooks):
        for key in [key for key, hook in hooks.items() if hook in (_list_weights, _forget_weights)]:
            del hooks[key]
    _list_weights(unit)


def _list_weights(unit: nn.Module, *_: Any) -> None:
    unit._flat_weights = [getattr(unit, name, None) for name in cast(Iterable[str], unit._flat_weights_names)]  # type: ignore[assignment]


def _forget_weights(unit: nn.Module, *_: Any) -> None:
    # computed tensors cannot be copied, so the list holds them during the forward pass only
    unit._flat_weights = [None for _ in cast(Iterable[str], unit._flat_weights_names)]  # type: ignore[assignment]


def _chain(weight: Weight) -> Any:
    return cast(Any, weight.owner.parametrizations)[weight.attribute]


def _first(part: nn.Module, attribute: str) -> nn.Module:
    return cast(nn.Module, cast(Any, part.parametrizations)[attribute][0])


def _only(weight: Weight, kind: type[P]) -> P:
    attached = parametrize.is_parametrized(weight.owner, weight.attribute)
    parametrization = _chain(weight)[0] if attached else None
    if not isinstance(parametrization, kind):
        raise DchwError(
            f"layer {weight.name!r}: expected its weight to be {kind.__name__.lower()}; it is "
            f"{type(parametrization).__name__.lower() if parametrization is not None else 'plain'}; "
            "prune first, then share, then convert"
        )
    return parametrization
