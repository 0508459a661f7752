"""Pruning while training: scores, thresholds, masks that are recomputed and held, and weights that change nothing."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from enum import StrEnum
from typing import Annotated, Any

import torch
from pydantic import Field
from torch import nn

from dchw.compression.prune import magnitude_mask
from dchw.config import Config, Positive
from dchw.quantities import DchwError
from dchw.training.batches import Batches
from dchw.training.loop import FitState, Objective, Progress, Training, fit, no_progress
from dchw.training.module_weights import Weight, by_name, weights_of
from dchw.training.parametrizations import attach_masks, shadow
from dchw.training.schedules import cubic_density, geometric_density
from dchw.training.statistics import ChannelStatistics, ChannelWatch, per_weight, watch

_WATCH_EVERY_STEPS = 4
"""Of the training batches, every how many are looked at for input sizes and channels that nothing reads."""
_CLEANING_ROUNDS = 4
"""Pruning a constant input can silence further neurons; in longer chains some stay."""
_TINY = 1e-12
_CLEANING_INPUTS = 10_000


class Score(StrEnum):
    """What decides which weights stay."""

    MAGNITUDE = "magnitude"  # |w|, as Deep Compression does
    ACTIVATION = "activation"  # |w| times the root mean square of the input it multiplies


class Scope(StrEnum):
    """What a weight competes with."""

    LAYER = "layer"  # the weights of its layer, for that layer's density
    GLOBAL = "global"  # all weights of the network, for one density


class Schedule(StrEnum):
    """How density falls."""

    CUBIC = "cubic"  # every `update_steps` steps, fast at first
    ITERATIVE = "iterative"  # in `rounds` equal spans, pruned at the start of each and retrained in the rest


class Pruning(Config):
    """How a network is pruned and retrained."""

    training: Training
    """While masks change; for the ``iterative`` schedule that includes the retraining in between."""
    retraining: Training
    """Once the masks are final."""
    density: Annotated[float, Field(gt=0, le=1)] | dict[str, Annotated[float, Field(gt=0, le=1)]]
    """Share of weights that stay in the end: of the network or of every layer, or by layer name or pattern, as in
    ``block.*`` (scope ``layer``)."""
    score: Score = Score.MAGNITUDE
    """What ranks weights: ``magnitude``, or magnitude times the root mean square of the input (``activation``)."""
    scope: Scope = Scope.LAYER
    """Whether weights compete within their layer or over the network."""
    schedule: Schedule = Schedule.CUBIC
    """How density falls from its start to its end."""
    start_density: float = Field(default=1.0, gt=0, le=1)
    """Where the schedule starts; a layer that ends denser has its final density throughout."""
    rounds: Positive = 4
    """Steps of the ``iterative`` schedule."""
    update_steps: Positive = 100
    """Updates between two changes of the masks, in the ``cubic`` schedule."""
    regrow: bool = False
    """True: masks are recomputed from all weights, pruned ones with their last value, so connections can return."""
    remove_dead: bool = False
    """True: weights whose input never varies or whose output nothing reads go first, others stay in their place."""
    crowding: float = Field(default=0.0, ge=0)
    """In linear layers scores are multiplied by this power of the norm of the surviving weights' scores in their row
    and in their column, each relative to its mean: weights gather in fewer neurons and positions cost fewer bits."""
    reuse: float = Field(default=0.0, ge=0)
    """Scores are multiplied by this power of how often one image uses the weight: 0 weighs one use, 0.5 the root of
    the sum of squares over all output pixels of a convolution."""

    def final_densities(self, names: Collection[str]) -> dict[str, float]:
        """Density by layer name; raises DchwError for a layer that is missing or unknown."""
        if isinstance(self.density, dict) and self.scope is Scope.GLOBAL:
            raise DchwError(
                "pruning: scope global expects one density; got one per layer; give a number or scope layer"
            )
        return by_name(self.density, names, "pruning: density")

    def density_at(self, progress: float, final: float) -> float:
        """Density once ``progress`` (0..1) of the way to the final density is done."""
        start = max(self.start_density, final)
        curve = cubic_density if self.schedule is Schedule.CUBIC else geometric_density
        return curve(progress, start, final)

    def updates(self, steps: int) -> dict[int, float]:
        """After which steps (from 1) of a training of ``steps`` masks are recomputed, and the progress from then on."""
        if self.schedule is Schedule.ITERATIVE:
            spans = range(self.rounds)
            return {max(round(i * steps / self.rounds), 1): (i + 1) / self.rounds for i in spans}
        regular = range(self.update_steps, steps, self.update_steps)
        return {step: step / steps for step in (*regular, steps)}


def prune(
    module: nn.Module,
    batches: Batches,
    pruning: Pruning,
    objective: Objective,
    *,
    task: str = "prune",
    standing: FitState | None = None,
    watched: dict[str, Any] | None = None,
    after_epoch: Callable[[FitState, dict[str, Any]], None] | None = None,
    progress: Progress = no_progress,
) -> FitState:
    """Train a module while its masks fall to their final density; it ends masked.

    ``after_epoch(standing, watched)`` gets what, given here again with the module as it was then, lets pruning go on.
    """
    masks = attach_masks(module)
    final = pruning.final_densities(masks)
    plan: dict[int, float] = {}

    with watch(module) as watching:
        if watched is not None:
            watching.restore(watched)

        def after_step(step: int, steps: int) -> None:
            if not plan:
                plan.update(pruning.updates(steps))
            if step in plan:
                densities = {name: pruning.density_at(plan[step], density) for name, density in final.items()}
                recompute_masks(module, masks, densities, pruning, watching)
                watching.clear()
            due = step % _WATCH_EVERY_STEPS == 0 or (step + 1 in plan and not watching.has_seen)
            watching.on = step < max(plan) and due

        def epoch_done(reached: FitState) -> None:
            if after_epoch is not None:
                after_epoch(reached, watching.state())

        return fit(
            module,
            batches,
            pruning.training,
            objective,
            stage="prune",
            task=task,
            standing=standing,
            after_step=after_step,
            after_epoch=epoch_done,
            progress=progress,
        )


def recompute_masks(
    module: nn.Module,
    masks: Mapping[str, torch.Tensor],
    densities: Mapping[str, float],
    pruning: Pruning,
    watching: ChannelWatch,
) -> None:
    """Write new masks: the weights of the highest scores, of equal ones those that come first, stay.

    ``masks`` are those of `attach_masks`; ``watching`` has seen at least one batch forward and backward.
    """
    scores = _scores(module, masks, pruning, watching)
    if pruning.scope is Scope.LAYER:
        for name, mask in masks.items():
            chosen = magnitude_mask(scores[name].cpu().numpy(), density=densities[name])
            mask.copy_(torch.from_numpy(chosen))
        return
    joined = torch.cat([scores[name].reshape(-1) for name in masks])
    density = next(iter(densities.values()))
    all_chosen = torch.from_numpy(magnitude_mask(joined.cpu().numpy(), density=density))
    start = 0
    for mask in masks.values():
        mask.copy_(all_chosen[start : start + mask.numel()].reshape(mask.shape))
        start += mask.numel()


def remove_dead_weights(module: nn.Module, batches: Batches, objective: Objective) -> int:
    """Prune weights that change nothing on about the first 10,000 training inputs; how many went.

    A weight is dead when its input is always zero, or constant with a bias to move its product into (not across zero
    padding), or when the loss has no gradient with respect to its output for any input. The layers must be masked.
    """
    masks = attach_masks(module)
    before = sum(int(mask.sum()) for mask in masks.values())
    module.eval()
    plain = Objective(loss=objective.loss)
    for _ in range(_CLEANING_ROUNDS):
        with watch(module) as watching:
            for batch in batches.sample(_CLEANING_INPUTS):
                plain.of(module, batch).backward()  # type: ignore[no-untyped-call]
        module.zero_grad(set_to_none=True)
        removed = 0
        for weight in weights_of(module):
            seen, mask = watching.layers.get(weight.name), masks[weight.name]
            if seen is not None and seen.varies is not None and seen.mean is not None and seen.read is not None:
                removed += _without_dead(weight, mask, seen.varies, seen.mean, seen.read)
        if not removed:
            break
    return before - sum(int(mask.sum()) for mask in masks.values())


def _without_dead(
    weight: Weight, mask: torch.Tensor, varies: torch.Tensor, mean: torch.Tensor, read: torch.Tensor
) -> int:
    layer, bias = weight.layer, weight.bias
    assert layer is not None
    padded = isinstance(layer, nn.Conv2d) and layer.padding not in (0, (0, 0), "valid")
    # without a bias, or where the border sees padding, only inputs of zero add nothing
    idle = ~varies if bias is not None and not padded else ~varies & (mean == 0)
    constant = (per_weight(layer, idle) & (mask > 0)).to(mask)
    if bias is not None:
        bias.data += (weight.value.detach() * constant * per_weight(layer, mean)).flatten(1).sum(1)
    keep = mask * (1 - constant) * _rows(mask, read)
    removed = int(mask.sum() - keep.sum())
    mask.copy_(keep)
    if bias is not None:
        # the bias of an output that nothing reads is free; zero costs least to store
        bias.data *= read
    return removed


def _scores(
    module: nn.Module, masks: Mapping[str, torch.Tensor], pruning: Pruning, watching: ChannelWatch
) -> dict[str, torch.Tensor]:
    scores = {}
    for weight in weights_of(module):
        mask, layer = masks[weight.name], weight.layer
        seen = watching.layers.get(weight.name, ChannelStatistics())
        score = shadow(weight).detach().abs()
        if pruning.score is Score.ACTIVATION:
            if layer is None or seen.mean_square is None:
                raise DchwError(
                    f"pruning: score activation needs the inputs of layer {weight.name!r}, which its module does not "
                    "call as a linear layer or 2-D convolution; choose score magnitude"
                )
            score = score * per_weight(layer, seen.mean_square.sqrt())
        if pruning.remove_dead and layer is not None and seen.varies is not None and seen.read is not None:
            score = score * per_weight(layer, seen.varies) * _rows(mask, seen.read)
        if not pruning.regrow:
            score = score * mask
        if pruning.reuse:
            score = score * seen.positions**pruning.reuse
        if pruning.crowding and isinstance(layer, nn.Linear):
            squares = (score * mask) ** 2
            for axis in (0, 1):
                norms = squares.sum(1 - axis, keepdim=True).sqrt()
                score = score * (norms / norms.mean().clamp(min=_TINY)) ** pruning.crowding
        scores[weight.name] = score
    return scores


def _rows(like: torch.Tensor, per_output: torch.Tensor) -> torch.Tensor:
    """A value per output channel, shaped so that it broadcasts over the weight."""
    return per_output.reshape(-1, *[1] * (like.dim() - 1))
