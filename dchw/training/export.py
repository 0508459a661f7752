"""From a module with shared weights to a compressed network."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
from torch import nn

from dchw.compression.compressed import CompressedNetwork
from dchw.compression.recipe import Recipe, compress
from dchw.graph.network import Array, Network
from dchw.quantities import DchwError
from dchw.training.datasets import Images
from dchw.training.parametrizations import codes_and_codebook, compressible_layers


def compressed_from_module(
    module: nn.Module,
    example_images: Images,
    storage: Recipe | None = None,
    *,
    name: str,
    keep_examples: bool = False,
    results: Mapping[str, Any] | None = None,
    description: Mapping[str, Any] | None = None,
) -> CompressedNetwork:
    """The compressed network of a module whose layers are shared, weight for weight what the module computes with.

    ``storage`` chooses representations; what it leaves open takes the fewest bytes. ``description`` (how the module was
    trained) becomes the compressed network's recipe, ``results`` what was measured on it. Raises DchwError for a
    module with a layer that is not shared, and for formats that cannot hold the module's values.
    """
    shared = {key: codes_and_codebook(layer, key)[1] for key, layer in compressible_layers(module)}
    bits = {key: max((codebook.size - 1).bit_length(), 1) for key, codebook in shared.items()}
    example: Array = (np.asarray(example_images, np.float32) / np.float32(255)).astype(np.float32)
    network = Network.from_module(module, example, name=name, keep_example=keep_examples)
    storage = (storage or Recipe()).model_copy(update={"codebook_bits": bits})
    compressed = compress(network, storage)
    for layer in compressed.layers:
        if not np.array_equal(layer.weight, network.layer(layer.name).weight):
            raise DchwError(
                f"layer {layer.name!r}: {layer.storage.codebook_format.value} cannot hold its shared values exactly; "
                "round them to that format first"
            )
    return dataclasses.replace(compressed, recipe=dict(description or {}), results=dict(results or {}))
