"""The trained and compressed networks that ship with the package, copies of those in ``models/`` of the repository."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.resources import as_file, files
from types import MappingProxyType

from dchw.compression.compressed import CompressedNetwork
from dchw.container.saving import load

SHIPPED: Mapping[str, str] = MappingProxyType(
    {"lenet-300-100": "lenet_300_100.dchw", "lenet-5": "lenet_5.dchw"},
)
"""Names of the networks, and their files in ``dchw/data/networks``."""


def shipped_network(name: str) -> CompressedNetwork:
    """A key of `SHIPPED`."""
    with as_file(files("dchw").joinpath("data", "networks", SHIPPED[name])) as path:
        return load(path)
