"""One small network in every storage format, run once for all tests that read results."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from itertools import pairwise

import numpy as np
import pandas as pd

import dchw
from dchw.compression.compressed import CompressedNetwork
from dchw.machines.machine import Machine
from dchw.run.sim_result import SimResult

SIZES = (40, 32, 10)


@dataclass(frozen=True, eq=False)
class Comparison:
    network: CompressedNetwork
    machine: Machine
    results: dict[str, SimResult]
    frame: pd.DataFrame


def tiny_network() -> CompressedNetwork:
    rng = np.random.default_rng(7)
    weights = {
        f"fc{i}": rng.standard_normal((rows, columns)).astype(np.float32)
        for i, (columns, rows) in enumerate(pairwise(SIZES))
    }
    inputs = {name: rng.random((1, weight.shape[1]), dtype=np.float32) for name, weight in weights.items()}
    network = dchw.Network.from_arrays("tiny & <small>", weights=weights, inputs=inputs)
    return dchw.compress(network, dchw.Recipe(density=0.3, codebook_bits=3, index_bits=4))


@cache
def comparison(machine_name: str = "phone-lpddr5x") -> Comparison:
    """Frozen results; tests must not change the frame."""
    network, machine = tiny_network(), dchw.machine(machine_name)
    results: dict[str, SimResult] = {}
    frame = dchw.compare(network, machine, on_result=results.__setitem__)
    return Comparison(network=network, machine=machine, results=results, frame=frame)
