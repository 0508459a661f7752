"""Pruning while training: scores, thresholds, masks that are recomputed and held, and weights that change nothing."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated

import torch
from pydantic import Field
from torch import nn

from dchw.compression.prune import magnitude_mask
from dchw.config import Config, Positive
from dchw.quantities import DchwError, nearest
from dchw.training.compaction import Compact, compact
from dchw.training.loop import Batches, Distillation, Progress, Training, as_input, fit, no_progress
from dchw.training.parametrizations import Compressible, attach_masks, compressible_layers, shadow
from dchw.training.schedules import cubic_density, geometric_density
from dchw.training.statistics import Watch, per_weight, watch

_WATCH_EVERY_STEPS = 4
"""Of the training batches, every how many are looked at for input sizes and channels that nothing reads."""
_CLEANING_ROUNDS = 4
"""Pruning a constant input can silence further neurons; in longer chains some stay."""
_CHECKED_IMAGES = 100
"""On so many training images the compact form is compared with the module."""
_TINY = 1e-12
_CLEANING_IMAGES, _CLEANING_BATCH = 10_000, 500


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
    """Share of weights that stay in the end: of the network or of every layer, or by layer name (scope ``layer``)."""
    score: Score = Score.MAGNITUDE
    scope: Scope = Scope.LAYER
    schedule: Schedule = Schedule.CUBIC
    start_density: float = Field(default=1.0, gt=0, le=1)
    """Where the schedule starts; a layer that ends denser has its final density throughout."""
    rounds: Positive = 4
    update_steps: Positive = 100
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

    def final_densities(self, layers: Mapping[str, Compressible]) -> dict[str, float]:
        """Density by layer name; raises DchwError for a layer that is missing or unknown."""
        given = self.density
        if isinstance(given, float):
            return dict.fromkeys(layers, given)
        if self.scope is Scope.GLOBAL:
            raise DchwError(
                "pruning: scope global expects one density; got one per layer; give a number or scope layer"
            )
        for name in (*given, *layers):
            if name not in layers:
                raise DchwError(f"pruning: density.{name}: no such layer; {nearest(name, layers)}")
            if name not in given:
                raise DchwError(f"pruning: density.{name}: missing; add it")
        return given

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


def prune_and_retrain(
    module: nn.Module,
    batches: Batches,
    pruning: Pruning,
    *,
    teacher: nn.Module | None = None,
    distillation: Distillation | None = None,
    task: str = "prune",
    progress: Progress = no_progress,
) -> Compact:
    """Prune every Linear and Conv2d layer inside ``module`` while it trains, then retrain with the masks held.

    ``module`` ends masked, with the weights it had when its masks became final; the retrained weights are in the
    compact form that is returned, which lacks the channels that pruning has emptied.
    """
    masks = attach_masks(module)
    final = pruning.final_densities(dict(compressible_layers(module)))
    plan: dict[int, float] = {}

    with watch(module) as watching:

        def after_step(step: int, steps: int) -> None:
            if not plan:
                plan.update(pruning.updates(steps))
            if step in plan:
                densities = {name: pruning.density_at(plan[step], density) for name, density in final.items()}
                recompute_masks(module, masks, densities, pruning, watching)
                watching.clear()
            watching.on = step < max(plan) and step % _WATCH_EVERY_STEPS == 0

        fit(
            module,
            batches,
            pruning.training,
            task=f"{task}: prune",
            teacher=teacher,
            distillation=distillation,
            after_step=after_step,
            progress=progress,
        )
    if pruning.remove_dead:
        remove_dead_weights(module, batches)
    small = compact(module, as_input(batches.images[:_CHECKED_IMAGES]))
    fit(
        small.module,
        batches,
        pruning.retraining,
        task=f"{task}: retrain",
        teacher=teacher,
        distillation=distillation,
        progress=progress,
    )
    if pruning.remove_dead:
        remove_dead_weights(small.module, batches)
    return small


def recompute_masks(
    module: nn.Module,
    masks: Mapping[str, torch.Tensor],
    densities: Mapping[str, float],
    pruning: Pruning,
    watching: Watch,
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


def remove_dead_weights(module: nn.Module, batches: Batches) -> int:
    """Prune weights that change nothing on the first 10,000 training images; how many went.

    A weight is dead when its input is constant (its product, times the mean of that input, moves into the bias), or
    when the loss has no gradient with respect to its output for any image. The layers must be masked.
    """
    masks = attach_masks(module)
    layers = dict(compressible_layers(module))
    before = sum(int(mask.sum()) for mask in masks.values())
    module.eval()
    for _ in range(_CLEANING_ROUNDS):
        with watch(module) as watching:
            for start in range(0, min(len(batches.labels), _CLEANING_IMAGES), _CLEANING_BATCH):
                part = slice(start, start + _CLEANING_BATCH)
                nn.functional.cross_entropy(module(as_input(batches.images[part])), batches.labels[part]).backward()  # type: ignore[no-untyped-call]
        module.zero_grad(set_to_none=True)
        removed = 0
        for name, mask in masks.items():
            layer, seen = layers[name], watching.layers[name]
            if seen.varies is None or seen.mean is None or seen.read is None:
                continue
            constant = (per_weight(layer, ~seen.varies) & (mask > 0)).to(mask)
            if layer.bias is not None:
                moved = layer.weight.detach() * constant * per_weight(layer, seen.mean)
                layer.bias.data += moved.flatten(1).sum(1)
            keep = mask * (1 - constant) * _rows(mask, seen.read)
            removed += int(mask.sum() - keep.sum())
            mask.copy_(keep)
            if layer.bias is not None:
                # the bias of an output that nothing reads is free; zero costs least to store
                layer.bias.data *= seen.read
        if not removed:
            break
    return before - sum(int(mask.sum()) for mask in masks.values())


def _scores(
    module: nn.Module, masks: Mapping[str, torch.Tensor], pruning: Pruning, watching: Watch
) -> dict[str, torch.Tensor]:
    scores = {}
    for name, layer in compressible_layers(module):
        seen, mask = watching.layers[name], masks[name]
        score = shadow(layer).detach().abs()
        if pruning.score is Score.ACTIVATION and seen.mean_square is not None:
            score = score * per_weight(layer, seen.mean_square.sqrt())
        if pruning.remove_dead and seen.varies is not None and seen.read is not None:
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
        scores[name] = score
    return scores


def _rows(like: torch.Tensor, per_output: torch.Tensor) -> torch.Tensor:
    """A value per output channel, shaped so that it broadcasts over the weight."""
    return per_output.reshape(-1, *[1] * (like.dim() - 1))
