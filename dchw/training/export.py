"""From a module with shared weights to a compressed network."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Collection, Mapping
from fnmatch import fnmatchcase
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from dchw.compression.compressed import CompressedLayer, CompressedNetwork, ValueFormat
from dchw.compression.recipe import Recipe, compress
from dchw.graph.network import Network
from dchw.quantities import DchwError, nearest
from dchw.training.batches import Inputs
from dchw.training.module_weights import weights_of
from dchw.training.parametrizations import codes_and_codebook, materialise


def network_of(module: nn.Module, examples: Inputs, *, name: str, keep_examples: bool = False) -> Network:
    """The graph of a module with its weights as they are now, normalisation not folded into them.

    Folding would multiply every output channel by a factor of its own and end the sharing.
    """
    return Network.from_module(module, examples, name=name, fold_normalisation=False, keep_example=keep_examples)  # type: ignore[arg-type]


def parameters_of(module: nn.Module, network: Network) -> tuple[str, ...]:
    """The parameters of a module that are weights of the network's layers: what a compressed file holds as codes."""
    own = {name for name, _ in module.named_parameters(remove_duplicate=False)}
    return tuple(dict.fromkeys(layer.parameter for layer in network.layers if layer.parameter in own))


def chosen(parameters: Collection[str], skip: Collection[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Those of the layers' parameters that are compressed, and those that ``skip``, names and patterns, leaves out.

    Raises DchwError for a pattern that fits no layer, and where nothing is left to compress.
    """
    names = {parameter: parameter.removesuffix(".weight") for parameter in parameters}
    for pattern in skip:
        if not any(fnmatchcase(name, pattern) or name == pattern for name in names.values()):
            raise DchwError(f"recipe: skip: {pattern}: no such layer; {nearest(pattern, names.values())}")
    left = tuple(p for p, name in names.items() if any(fnmatchcase(name, x) or name == x for x in skip))
    if names and len(left) == len(names):
        raise DchwError("recipe: skip: expected a layer that stays; got patterns that fit all; leave one out")
    return tuple(p for p in names if p not in left), left


def compressed_from_module(
    module: nn.Module,
    examples: Inputs,
    storage: Recipe | None = None,
    *,
    name: str,
    codebook_formats: Mapping[str, ValueFormat] | None = None,
    bias_formats: Mapping[str, ValueFormat] | None = None,
    skipped: Collection[str] = (),
    keep_examples: bool = False,
    results: Mapping[str, Any] | None = None,
    description: Mapping[str, Any] | None = None,
) -> CompressedNetwork:
    """The compressed network of a module whose weights are shared, weight for weight what the module computes with.

    ``storage`` chooses representations; what it leaves open takes the fewest bytes. The formats are by the name of a
    layer's parameter. ``skipped`` names parameters that are not shared and hold values of float16, which are kept.
    ``description`` (how the module was trained) becomes the compressed network's recipe, ``results``
    what was measured on it. Raises DchwError for a module with a layer that is not shared, and for formats that cannot
    hold the module's values.
    """
    for weight in weights_of(module):
        codes_and_codebook(weight)  # says which weight is not shared, if one is not
    shared = {weight.parameter for weight in weights_of(module)}
    plain = copy.deepcopy(module)
    materialise(plain)
    shared |= _tied_to(plain, shared)
    network = network_of(plain, examples, name=name, keep_examples=keep_examples)
    bits, codebook_format, bias_format = {}, {}, {}
    skip = _tied_to(plain, set(skipped))
    for layer in network.layers:
        if layer.parameter in skip:
            continue
        if layer.parameter not in shared:
            raise DchwError(
                f"layer {layer.name!r}: expected its weight to be shared; {layer.parameter} is no parameter that "
                "training compresses; make it one of a layer, or compute with it outside of the module"
            )
        # some rows of a parameter may use fewer of its values
        bits[layer.name] = max(np.unique(layer.weight[layer.weight != 0]).size.bit_length(), 1)
        codebook_format[layer.name] = (codebook_formats or {}).get(layer.parameter, ValueFormat.FLOAT32)
        bias_format[layer.name] = (bias_formats or {}).get(layer.parameter, ValueFormat.FLOAT32)
    chosen_forms = {"codebook_bits": bits, "codebook_format": codebook_format, "bias_format": bias_format}
    left = tuple(layer.name for layer in network.layers if layer.parameter in skip)
    compressed = compress(network, (storage or Recipe()).model_copy(update={**chosen_forms, "skip": left}))
    for held in compressed.layers:
        wanted = network.layer(held.name)
        _check_held(held, wanted.weight, "weights", held.weight)
        if wanted.bias is not None and held.bias is not None:
            _check_held(held, wanted.bias, "biases", held.bias)
    return dataclasses.replace(compressed, recipe=dict(description or {}), results=dict(results or {}))


def _tied_to(module: nn.Module, names: set[str]) -> set[str]:
    """All names of the parameters that have one of ``names``."""
    everywhere = [*module.named_parameters(remove_duplicate=False)]
    chosen = {id(value) for name, value in everywhere if name in names}
    return {name for name, value in everywhere if id(value) in chosen}


def example_of(inputs: Inputs, count: int) -> Inputs:
    """The first examples of a batch's inputs, on the CPU."""
    if isinstance(inputs, torch.Tensor):
        return inputs[:count].detach().cpu()
    return tuple(value[:count].detach().cpu() for value in inputs)


def _check_held(
    layer: CompressedLayer, wanted: npt.NDArray[np.float32], what: str, held: npt.NDArray[np.float32]
) -> None:
    if not np.array_equal(held, wanted):
        form = layer.representation.codebook_format if what == "weights" else layer.representation.bias_format
        raise DchwError(
            f"layer {layer.name!r}: {form.value} cannot hold its {what} exactly; round them to that format first"
        )
