"""The trained and compressed networks that ship with the package, copies of those in ``models/`` of the repository."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.resources import as_file, files
from pathlib import Path
from types import MappingProxyType

from dchw.compression.compressed import CompressedNetwork
from dchw.container.saving import load

SHIPPED: Mapping[str, str] = MappingProxyType(
    {"lenet-300-100": "lenet_300_100.dchw", "lenet-5": "lenet_5.dchw"},
)
"""Names of the networks, and their files in ``dchw/data/networks``."""


@contextmanager
def shipped_file(name: str) -> Iterator[Path]:
    """The file of a key of `SHIPPED`, as a path while the block runs."""
    with as_file(files("dchw").joinpath("data", "networks", SHIPPED[name])) as path:
        yield path


def shipped_network(name: str) -> CompressedNetwork:
    """A key of `SHIPPED`."""
    with shipped_file(name) as path:
        return load(path)
