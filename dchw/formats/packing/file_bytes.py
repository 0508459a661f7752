"""Bytes of a whole network as a file, for formats to choose from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from dchw.compression.compressed import Coding, CompressedLayer, CompressedNetwork, Positions


def array_file(layer_bytes: Callable[[CompressedLayer], int]) -> Callable[[CompressedNetwork], int]:
    """Length of a file of plain arrays: so many bytes of weights per layer, biases and all else as float32."""

    def file_bytes(network: CompressedNetwork) -> int:
        biases = sum(4 * layer.bias.size for layer in network.layers if layer.bias is not None)
        return biases + network.coverage.stored_bytes + sum(layer_bytes(layer) for layer in network.layers)

    return file_bytes


def container_file(positions: Positions, coding: Coding) -> Callable[[CompressedNetwork], int]:
    """Length of the ``.dchw`` file with every layer's positions and symbols written so, whatever it chose."""

    def file_bytes(network: CompressedNetwork) -> int:
        chosen = [
            replace(layer.representation, positions=positions, code_coding=coding, gap_coding=coding)
            for layer in network.layers
        ]
        layers = tuple(replace(layer, representation=form) for layer, form in zip(network.layers, chosen, strict=True))
        return own_file(replace(network, layers=layers))

    return file_bytes


def own_file(network: CompressedNetwork) -> int:
    """Length of the network's ``.dchw`` file as it is."""
    from dchw.container.saving import network_bytes

    return network_bytes(network)
