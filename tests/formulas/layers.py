"""Layers with given codes and machines with a plain memory, so that totals can be counted by hand."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from dchw.compression.compressed import CompressedNetwork
from dchw.config import build
from dchw.engines.fast import engine as fast_engine
from dchw.engines.result import Timing
from dchw.graph.geometry import Geometry
from dchw.graph.network import Network, placeholder
from dchw.lowering.lower import lower
from dchw.machines.machine import Machine
from dchw.mapping.workload import Workload, map_network
from dchw.program.program import Program
from dchw.validate.eie_runs import with_codes
from tests.mapping.layers import small_machine


def product(codes: npt.ArrayLike, x: npt.ArrayLike | None = None) -> CompressedNetwork:
    """One matrix product with these codes [rows, columns], 4 bits a gap and a code; activations are 1 unless given."""
    array = np.asarray(codes, np.uint8)
    given = np.ones(array.shape[1], np.float32) if x is None else np.asarray(x, np.float32)
    graph = Network.from_arrays("fc", {"fc": placeholder(array.shape)}, inputs={"fc": given})
    return with_codes(graph, [array], code_bits=4, index_bits=4)


def convolution(geometry: Geometry, seed: int = 0) -> CompressedNetwork:
    """One convolution without a zero among weights and activations."""
    rng = np.random.default_rng(seed)
    shape = (geometry.out_channels, geometry.in_channels // geometry.groups, *geometry.kernel)
    x = np.ones((geometry.in_channels, *geometry.in_size), np.float32)
    graph = Network.from_arrays("c", {"c": placeholder(shape)}, inputs={"c": x}, geometry={"c": geometry})
    return with_codes(graph, [rng.integers(1, 16, shape, dtype=np.uint8)], code_bits=4, index_bits=4)


def random_codes(rows: int, columns: int, density: float, seed: int = 0) -> npt.NDArray[np.uint8]:
    """Independent non-zeros with random codes."""
    rng = np.random.default_rng(seed)
    codes = rng.integers(1, 16, (rows, columns), dtype=np.uint8)
    return np.where(rng.random((rows, columns)) < density, codes, 0).astype(np.uint8)


def machine_with(memory: Mapping[str, Any] | None = None, **changes: Any) -> Machine:
    """`small_machine` with some of its fixed memory's parameters, and dotted changes, made together."""
    data = small_machine().dump()
    data["dram"]["fixed"] |= dict(memory or {})
    for path, value in changes.items():
        *sections, name = path.split("__")
        at = data
        for section in sections:
            at = at[section]
        at[name] = value
    return build(Machine, data, where="machine")


def timed(
    network: CompressedNetwork, target: Machine, storage: str, *, warm: bool = False
) -> tuple[Timing, Program, Workload]:
    """One run with every start and finish."""
    workload = map_network(network, target, storage)
    program = lower(workload, warm=warm)
    return fast_engine.run(program, record=True), program, workload
