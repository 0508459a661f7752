"""Weight sharing while training: codebooks from k-means, then fine-tuned with the gradients summed per cluster."""

from __future__ import annotations

from collections.abc import Callable, Collection

import numpy as np
import torch
from torch import nn

from dchw.compression.compressed import ValueFormat
from dchw.compression.share import Init, assign, kmeans_codebook
from dchw.compression.value_formats import round_to_format
from dchw.config import Config, NonNegative, Positive
from dchw.quantities import DchwError
from dchw.training.batches import Batches
from dchw.training.loop import FitState, Objective, Progress, Training, fit, no_progress
from dchw.training.module_weights import by_name, weights_of
from dchw.training.parametrizations import (
    codes_and_codebook,
    hold_codes,
    let_codes_change,
    shadow,
    share_weights,
)

Form = ValueFormat | dict[str, ValueFormat]


class Sharing(Config):
    """How weights are shared and the shared values fine-tuned."""

    training: Training
    """Fine-tuning of the shared values."""
    shared_values: Positive | dict[str, Positive]
    """Non-zero values per layer: one number, or by layer name or pattern, as in ``block.*``."""
    init: Init | dict[str, Init] = "linear"
    """Of k-means; the paper found ``linear`` best (ICLR 2016, section 3.2). By layer as above, as are the formats."""
    codebook_format: Form = ValueFormat.FLOAT32
    """In which shared values are stored."""
    bias_format: Form = ValueFormat.FLOAT32
    """In which biases are stored."""
    reassign: bool = False
    """True: while the shared values train, a weight moves to another one when its own value, which trains too, comes
    nearer to it. The paper holds what k-means assigned."""
    seed: NonNegative = 0
    """Of the ``forgy`` initialisation."""


def share(module: nn.Module, sharing: Sharing) -> None:
    """Give every layer a codebook: k-means over its non-zero weights; pruned weights stay zero.

    Raises DchwError for a layer that has no weight left, and for settings that name no layer or leave one out.
    """
    weights = {weight.name: weight for weight in weights_of(module)}
    counts = by_name(sharing.shared_values, weights, "sharing: shared_values")
    inits: dict[str, Init] = by_name(sharing.init, weights, "sharing: init", "linear")
    codebooks = {}
    for number, (name, weight) in enumerate(weights.items()):
        value = weight.value.detach().cpu().numpy()
        kept = value != 0
        if not kept.any():
            raise DchwError(f"layer {name!r}: expected a weight that stays; pruning left none; raise its density")
        rng = np.random.default_rng([sharing.seed, number])
        centroids = kmeans_codebook(value[kept], counts[name], inits[name], rng=rng).centroids
        codebooks[name] = assign(value, kept, centroids), np.concatenate([np.zeros(1, np.float32), centroids])
    share_weights(module, codebooks)


def begin_sharing(module: nn.Module, sharing: Sharing) -> None:
    """Share the weights of a pruned module, their codes held or free to change."""
    own = {weight.name: weight.value.detach().clone() for weight in weights_of(module)}
    share(module, sharing)
    if sharing.reassign:
        let_codes_change(module, own)


def finetune(
    module: nn.Module,
    batches: Batches,
    sharing: Sharing,
    objective: Objective,
    *,
    task: str = "share and fine-tune",
    standing: FitState | None = None,
    after_epoch: Callable[[FitState], None] | None = None,
    progress: Progress = no_progress,
) -> FitState:
    """Train codebooks, biases and what is not compressed of a shared module, and round both to their formats.

    The weights stay shared when it returns, their codes held.
    """
    reached = fit(
        module,
        batches,
        sharing.training,
        objective,
        stage="share",
        task=task,
        standing=standing,
        after_epoch=after_epoch,
        progress=progress,
    )
    if sharing.reassign:
        hold_codes(module)
    round_values(module, sharing)
    return reached


def share_and_finetune(module: nn.Module, batches: Batches, sharing: Sharing, objective: Objective) -> None:
    """`begin_sharing` and `finetune` in one."""
    begin_sharing(module, sharing)
    finetune(module, batches, sharing, objective)


def round_values(module: nn.Module, sharing: Sharing) -> None:
    """Round codebooks and biases to what their formats can hold; weights that share a value still do."""
    weights = {weight.name: weight for weight in weights_of(module)}
    codebook_formats = by_name(sharing.codebook_format, weights, "sharing: codebook_format", ValueFormat.FLOAT32)
    bias_formats = by_name(sharing.bias_format, weights, "sharing: bias_format", ValueFormat.FLOAT32)
    for name, weight in weights.items():
        _, codebook = codes_and_codebook(weight)
        rounded = round_to_format(codebook, codebook_formats[name])[1:]
        with torch.no_grad():
            shadow(weight).copy_(torch.from_numpy(rounded))
            if weight.bias is not None:
                bias = round_to_format(weight.bias.detach().cpu().numpy(), bias_formats[name])
                weight.bias.copy_(torch.from_numpy(bias))


def round_to_half(module: nn.Module, parameters: Collection[str]) -> None:
    """Round parameters to values of float16, in place: the layers that a recipe leaves out."""
    held = dict(module.named_parameters(remove_duplicate=False))
    with torch.no_grad():
        for name in parameters:
            values = round_to_format(held[name].detach().cpu().numpy(), ValueFormat.FLOAT16)
            held[name].copy_(torch.from_numpy(values))
