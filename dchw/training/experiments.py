"""The paper's experiments on a dense network: what pruning, sharing and the number of shared values do to the error.

Each experiment returns rows of plain values, one per measured point (Han, Mao and Dally, ICLR 2016, figures 6 to 8;
sensitivity: Han et al., NIPS 2015, figure 6). `dchw.training.curves` writes and draws them.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, get_args

import numpy as np
import torch
from torch import nn

from dchw.compression.prune import magnitude_mask
from dchw.compression.recipe import CONVOLUTION_BITS, LINEAR_BITS
from dchw.compression.relative_index import encode_gaps
from dchw.compression.share import Init
from dchw.config import Config, Positive
from dchw.container.saving import to_bytes
from dchw.quantities import ceil_div
from dchw.training.batches import ImageBatches, as_input
from dchw.training.datasets import Dataset
from dchw.training.export import compressed_from_module
from dchw.training.loop import Objective, Progress, Training, error_percent, fit, no_progress
from dchw.training.module_weights import Weight, weights_of
from dchw.training.parametrizations import attach_masks, materialise, shadow
from dchw.training.sharing import Sharing, share, share_and_finetune

Row = dict[str, Any]


class ExperimentPlan(Config):
    """What is tried. Training sets are kept small: these are curves, not records."""

    densities: tuple[float, ...] = (0.3, 0.15, 0.1, 0.07, 0.05, 0.035, 0.025)
    """From the highest to the lowest; each starts from the network retrained at the one before."""
    codebook_bits: tuple[int, ...] = (2, 3, 4, 5, 6, 7, 8)
    pruned_density: float = 0.1
    """Where an experiment starts from a pruned network: the first of ``densities`` that is no higher."""
    training: Training = Training(epochs=2, learning_rate=0.002, batch_size=64, warmup_steps=20)
    """Retraining and fine-tuning at every point."""
    train_images: Positive = 20_000
    """The first so many training images."""
    seed: int = 0


@dataclass(frozen=True, kw_only=True, eq=False)
class Subject:
    """A dense network, the data it is measured on, and the plan."""

    dense: nn.Module
    data: Dataset
    plan: ExperimentPlan
    progress: Progress = no_progress

    def copy(self) -> nn.Module:
        return copy.deepcopy(self.dense)

    def error(self, module: nn.Module) -> float:
        return error_percent(module, self.data.test_images, self.data.test_labels)

    def batches(self) -> ImageBatches:
        whole = ImageBatches.of(self.data, seed=self.plan.seed)
        count = self.plan.train_images
        return ImageBatches(images=whole.images[:count], labels=whole.labels[:count], seed=self.plan.seed)


def sensitivity(subject: Subject) -> list[Row]:
    """Error against the density of each layer alone, the others dense, without retraining."""
    rows = []
    names = [weight.name for weight in weights_of(subject.dense)]
    points = [(name, density) for name in names for density in (1.0, *subject.plan.densities)]
    for done, (name, density) in enumerate(points, start=1):
        module = subject.copy()
        _prune(module, {name: density})
        rows.append({"layer": name, "density": density, "error_percent": subject.error(module)})
        subject.progress("sensitivity", done, len(points))
    return rows


def size_against_error(subject: Subject) -> list[Row]:
    """Error against size for pruning alone, sharing alone and both, each retrained at every point.

    Sizes: pruning alone is fp32 values with relative indices (fillers counted), sharing alone fixed-width codes with
    an fp32 codebook, both the length of the Huffman-coded file; fp32 biases everywhere.
    """
    rows: list[Row] = []
    plan = subject.plan
    total = 2 * len(plan.densities) + len(plan.codebook_bits)
    bits_of_both = min(plan.codebook_bits, key=lambda bits: abs(bits - 5))

    def add(method: str, setting: float, module: nn.Module, size_bytes: int) -> None:
        error = subject.error(module)
        rows.append({"method": method, "setting": setting, "size_bytes": size_bytes, "error_percent": error})
        subject.progress("size against error", len(rows), total)

    for density, module in _retrained(subject):
        add("pruning", density, module, _pruned_bytes(module))
        share_and_finetune(module, subject.batches(), _sharing(plan, bits_of_both), Objective())
        example = as_input(torch.from_numpy(subject.data.test_images[:1].copy()))
        compressed = compressed_from_module(module, example, name="experiment")
        add(f"pruning and {bits_of_both}-bit sharing", density, module, len(to_bytes(compressed)))
    for bits in plan.codebook_bits:
        module = subject.copy()
        share_and_finetune(module, subject.batches(), _sharing(plan, bits), Objective())
        add("sharing", bits, module, _shared_bytes(module, bits))
    return rows


def codebook_bits(subject: Subject) -> list[Row]:
    """Error of the pruned network against codebook bits, per initialisation, before and after fine-tuning."""
    rows = []
    plan = subject.plan
    pruned = next(module for density, module in _retrained(subject) if density <= plan.pruned_density)
    points = [(init, bits) for init in get_args(Init) for bits in plan.codebook_bits]
    for done, (init, bits) in enumerate(points, start=1):
        module = copy.deepcopy(pruned)
        sharing = _sharing(plan, bits, init)
        share(module, sharing)
        before = subject.error(module)
        fit(module, subject.batches(), plan.training, Objective(), stage="fine-tune")
        after = subject.error(module)
        rows.append({"init": init, "codebook_bits": bits, "before_percent": before, "after_percent": after})
        subject.progress("codebook bits", done, len(points))
    return rows


def bits_by_kind(subject: Subject) -> list[Row]:
    """Error of the pruned network against bits of convolutional and of fully connected layers, the other kind exact.

    One bit b means 2^b - 1 shared values; no fine-tuning. A kind the network lacks gives no rows.
    """
    rows = []
    plan = subject.plan
    pruned = next(module for density, module in _retrained(subject) if density <= plan.pruned_density)
    for kind, layer_type in (("convolutional", nn.Conv2d), ("fully connected", nn.Linear)):
        if not any(isinstance(weight.owner, layer_type) for weight in weights_of(pruned)):
            continue
        for bits in plan.codebook_bits:
            shared = copy.deepcopy(pruned)
            share(shared, _sharing(plan, bits))
            module = copy.deepcopy(pruned)
            for weight, source in zip(weights_of(module), weights_of(shared), strict=True):
                if isinstance(weight.owner, layer_type):
                    weight.value.data.copy_(source.value.detach())
            rows.append({"kind": kind, "codebook_bits": bits, "error_percent": subject.error(module)})
        subject.progress("bits by kind", len(rows), 2 * len(plan.codebook_bits))
    return rows


EXPERIMENTS: Mapping[str, Callable[[Subject], list[Row]]] = {
    "sensitivity": sensitivity,
    "size_against_error": size_against_error,
    "codebook_bits": codebook_bits,
    "bits_by_kind": bits_by_kind,
}
"""File name -> experiment."""


def _prune(module: nn.Module, densities: Mapping[str, float]) -> None:
    masks = attach_masks(module)
    for weight in weights_of(module):
        if weight.name in densities:
            chosen = magnitude_mask(shadow(weight).detach().cpu().numpy(), density=densities[weight.name])
            masks[weight.name].copy_(weight.value.new_tensor(chosen))


def _retrained(subject: Subject) -> Iterator[tuple[float, nn.Module]]:
    """The dense network pruned by magnitude, every layer to each density in turn, retrained with its masks held."""
    module = subject.copy()
    for density in subject.plan.densities:
        _prune(module, {weight.name: density for weight in weights_of(module)})
        fit(module, subject.batches(), subject.plan.training, Objective(), stage="retrain")
        materialise(module)
        yield density, copy.deepcopy(module)


def _sharing(plan: ExperimentPlan, bits: int, init: Init = "linear") -> Sharing:
    return Sharing(training=plan.training, shared_values=2**bits - 1, init=init, seed=plan.seed)


def _pruned_bytes(module: nn.Module) -> int:
    """fp32 values and relative indices of the default width, fillers counted, plus fp32 biases."""
    total = 0
    for weight in weights_of(module):
        index_bits = CONVOLUTION_BITS if isinstance(weight.owner, nn.Conv2d) else LINEAR_BITS
        positions = np.flatnonzero(weight.value.detach().cpu().numpy())
        gaps, _ = encode_gaps(positions, np.ones(positions.size, np.uint16), index_bits)
        total += ceil_div(gaps.size * (32 + index_bits), 8) + _bias_bytes(weight)
    return total


def _shared_bytes(module: nn.Module, bits: int) -> int:
    """Fixed-width codes, an fp32 codebook and fp32 biases."""
    return sum(
        ceil_div(weight.value.numel() * bits, 8) + 4 * shadow(weight).numel() + _bias_bytes(weight)
        for weight in weights_of(module)
    )


def _bias_bytes(weight: Weight) -> int:
    return 0 if weight.bias is None else 4 * weight.bias.numel()
