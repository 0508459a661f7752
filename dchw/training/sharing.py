"""Weight sharing while training: codebooks from k-means, then fine-tuned with the gradients summed per cluster."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from dchw.compression.compressed import ValueFormat
from dchw.compression.share import Init, assign, kmeans_codebook
from dchw.compression.value_formats import round_to_format
from dchw.config import Config, NonNegative, Positive
from dchw.quantities import DchwError, nearest
from dchw.training.loop import Batches, Distillation, Progress, Training, fit, no_progress
from dchw.training.parametrizations import (
    Compressible,
    codes_and_codebook,
    compressible_layers,
    hold_codes,
    let_codes_change,
    shadow,
    share_weights,
)


class Sharing(Config):
    """How weights are shared and the shared values fine-tuned."""

    training: Training
    shared_values: Positive | dict[str, Positive]
    """Non-zero values per layer: one number, or by layer name."""
    init: Init = "linear"
    """Of k-means; the paper found ``linear`` best (ICLR 2016, section 3.2)."""
    codebook_format: ValueFormat = ValueFormat.FLOAT32
    bias_format: ValueFormat = ValueFormat.FLOAT32
    reassign: bool = False
    """True: while the shared values train, a weight moves to another one when its own value, which trains too, comes
    nearer to it. The paper holds what k-means assigned."""
    seed: NonNegative = 0
    """Of the ``forgy`` initialisation."""

    def values_of(self, name: str, layers: dict[str, Compressible]) -> int:
        """Shared values of one layer; raises DchwError for a mapping that does not fit the layers."""
        if isinstance(self.shared_values, int):
            return self.shared_values
        for given in self.shared_values:
            if given not in layers:
                raise DchwError(f"sharing: shared_values.{given}: no such layer; {nearest(given, layers)}")
        if name not in self.shared_values:
            raise DchwError(f"sharing: shared_values.{name}: missing; add it")
        return self.shared_values[name]


def share(module: nn.Module, sharing: Sharing) -> None:
    """Give every layer a codebook: k-means over its non-zero weights; pruned weights stay zero.

    Raises DchwError for a layer that has no weight left.
    """
    layers = dict(compressible_layers(module))
    codebooks = {}
    for number, (name, layer) in enumerate(layers.items()):
        weight = layer.weight.detach().cpu().numpy()
        kept = weight != 0
        if not kept.any():
            raise DchwError(f"layer {name!r}: expected a weight that stays; pruning left none; raise its density")
        centroids = kmeans_codebook(
            weight[kept],
            sharing.values_of(name, layers),
            sharing.init,
            rng=np.random.default_rng([sharing.seed, number]),
        ).centroids
        codes = assign(weight, kept, centroids)
        codebooks[name] = codes, np.concatenate([np.zeros(1, np.float32), centroids])
    share_weights(module, codebooks)


def share_and_finetune(
    module: nn.Module,
    batches: Batches,
    sharing: Sharing,
    *,
    teacher: nn.Module | None = None,
    distillation: Distillation | None = None,
    task: str = "share and fine-tune",
    progress: Progress = no_progress,
) -> None:
    """Share the weights of a pruned module, train codebooks and biases, and round both to their formats.

    The layers stay shared when it returns.
    """
    weights = {name: layer.weight.detach().clone() for name, layer in compressible_layers(module)}
    share(module, sharing)
    if sharing.reassign:
        let_codes_change(module, weights)
    fit(
        module,
        batches,
        sharing.training,
        task=task,
        teacher=teacher,
        distillation=distillation,
        progress=progress,
    )
    if sharing.reassign:
        hold_codes(module)
    round_values(module, sharing)


def round_values(module: nn.Module, sharing: Sharing) -> None:
    """Round codebooks and biases to what their formats can hold; weights that share a value still do."""
    for name, layer in compressible_layers(module):
        _, codebook = codes_and_codebook(layer, name)
        rounded = round_to_format(codebook, sharing.codebook_format)[1:]
        with torch.no_grad():
            shadow(layer).copy_(torch.from_numpy(rounded))
            if layer.bias is not None:
                bias = round_to_format(layer.bias.detach().cpu().numpy(), sharing.bias_format)
                layer.bias.copy_(torch.from_numpy(bias))
