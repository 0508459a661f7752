"""What a Deep-Compression network costs on mobile-class hardware."""

from __future__ import annotations as _annotations

from importlib import import_module as _import_module
from typing import TYPE_CHECKING as _TYPE_CHECKING

from dchw.extras import extras_named as _extras_named
from dchw.late import offer as _offer
from dchw.quantities import ConfigError, DchwError, FileFormatError, SimulationError

if _TYPE_CHECKING:
    from dchw.compression.compressed import CompressedNetwork
    from dchw.compression.recipe import Recipe, compress
    from dchw.container.saving import load, save
    from dchw.dram.replay import replay
    from dchw.formats import StorageFormat
    from dchw.graph.network import Network
    from dchw.importers.load import load_network
    from dchw.machines.machine import Machine, machine
    from dchw.machines.units.unit import Unit
    from dchw.reports.report import report
    from dchw.run.cliff import cliff
    from dchw.run.comparison import compare
    from dchw.run.estimate import estimate
    from dchw.run.sim_result import SimResult
    from dchw.run.simulation import simulate
    from dchw.studies.study import study
    from dchw.technology.sram import sram
    from dchw.training.train import train

_PUBLIC = {
    "CompressedNetwork": "dchw.compression.compressed",
    "Machine": "dchw.machines.machine",
    "Network": "dchw.graph.network",
    "Recipe": "dchw.compression.recipe",
    "SimResult": "dchw.run.sim_result",
    "StorageFormat": "dchw.formats",
    "Unit": "dchw.machines.units.unit",
    "cliff": "dchw.run.cliff",
    "compare": "dchw.run.comparison",
    "compress": "dchw.compression.recipe",
    "estimate": "dchw.run.estimate",
    "load": "dchw.container.saving",
    "load_network": "dchw.importers.load",
    "machine": "dchw.machines.machine",
    "replay": "dchw.dram.replay",
    "report": "dchw.reports.report",
    "save": "dchw.container.saving",
    "simulate": "dchw.run.simulation",
    "sram": "dchw.technology.sram",
    "study": "dchw.studies.study",
    "train": "dchw.training.train",
}
"""Public names and the modules that define them; each module is imported when its name is first used."""

__all__ = [
    "CompressedNetwork",
    "ConfigError",
    "DchwError",
    "FileFormatError",
    "Machine",
    "Network",
    "Recipe",
    "SimResult",
    "SimulationError",
    "StorageFormat",
    "Unit",
    "cliff",
    "compare",
    "compress",
    "estimate",
    "load",
    "load_network",
    "machine",
    "replay",
    "report",
    "save",
    "simulate",
    "sram",
    "study",
    "train",
]


def _network_from_module() -> object:
    with _extras_named():
        from dchw.importers.torch.module import network_from_module
    return network_from_module


def _network_from_arrays() -> object:
    from dchw.importers.arrays import network_from_arrays

    return network_from_arrays


def _run_plots() -> object:
    from dchw.reports.plots import RunPlots

    return RunPlots


def _bounds_frame() -> object:
    from dchw.run.bound_words import bounds_frame

    return bounds_frame


def _comparison_plots() -> object:
    from dchw.reports.plots import ComparisonPlots

    return ComparisonPlots


def _cliff_plot() -> object:
    from dchw.reports.cliff_figure import cliff_plot

    return cliff_plot


def _write_cliff() -> object:
    from dchw.reports.cliff_figure import write_cliff

    return write_cliff


_offer("Network.from_module", _network_from_module)
_offer("Network.from_arrays", _network_from_arrays)
_offer("SimResult.plot", _run_plots)
_offer("SimResult.bounds_frame", _bounds_frame)
_offer("Comparison.plot", _comparison_plots)
_offer("Cliff.plot", _cliff_plot)
_offer("Cliff.write", _write_cliff)


def __getattr__(name: str) -> object:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'dchw' has no attribute {name!r}")
    with _extras_named():
        value = getattr(_import_module(_PUBLIC[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return list(__all__)
