"""What a Deep-Compression network costs on mobile-class hardware."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from dchw.quantities import ConfigError, DchwError, FileFormatError, SimulationError

if TYPE_CHECKING:
    from dchw.compress.compressed import CompressedNetwork
    from dchw.compress.recipe import Recipe, compress
    from dchw.container.files import load, save
    from dchw.dram.replay import replay
    from dchw.experiment import compare, simulate
    from dchw.hardware.machine import machine
    from dchw.importers.load import load_network
    from dchw.network import Network
    from dchw.technology.sram import sram

_PUBLIC = {
    "Network": "dchw.network",
    "CompressedNetwork": "dchw.compress.compressed",
    "load_network": "dchw.importers.load",
    "Recipe": "dchw.compress.recipe",
    "save": "dchw.container.files",
    "load": "dchw.container.files",
    "machine": "dchw.hardware.machine",
    "compare": "dchw.experiment",
    "replay": "dchw.dram.replay",
    "sram": "dchw.technology.sram",
}
"""Public names and the modules that define them; each module is imported when its name is first used."""

_VERBS = ("compress", "simulate")
"""Packages that are called like functions (see `dchw.callable_package`)."""

__all__ = [
    "CompressedNetwork",
    "ConfigError",
    "DchwError",
    "FileFormatError",
    "Network",
    "Recipe",
    "SimulationError",
    "compare",
    "compress",
    "load",
    "load_network",
    "machine",
    "replay",
    "save",
    "simulate",
    "sram",
]


def __getattr__(name: str) -> Any:
    if name in _VERBS:
        return importlib.import_module(f"dchw.{name}")
    if name not in _PUBLIC:
        raise AttributeError(f"module 'dchw' has no attribute {name!r}")
    value = getattr(importlib.import_module(_PUBLIC[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_PUBLIC, *_VERBS})
