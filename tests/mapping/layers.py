"""Small compressed networks and machines for tests of mapping and of whole runs."""

from __future__ import annotations

from typing import Any

import numpy as np

import dchw
from dchw.compression.compressed import CompressedNetwork
from dchw.config import build
from dchw.graph.geometry import Geometry
from dchw.graph.network import Network
from dchw.machines.machine import Machine, machine


def fully_connected(rows: int, columns: int, *, density: float = 0.2, active: float = 0.5, seed: int = 0,
                    batch: int = 1) -> CompressedNetwork:  # fmt: skip
    """One pruned, shared layer with a recorded input of a stated share of non-zero values."""
    rng = np.random.default_rng(seed)
    weights = rng.normal(size=(rows, columns)) * (rng.random((rows, columns)) < density)
    weights[0, 0] = 1.0
    x = rng.random((batch, columns)) * (rng.random((batch, columns)) < active)
    net = Network.from_arrays("fc", {"fc": weights}, inputs={"fc": x}, biases={"fc": rng.normal(size=rows)})
    return dchw.compress(net, dchw.Recipe(codebook_bits=4, index_bits=3))


def convolution(*, channels: int = 3, rows: int = 10, size: int = 9, groups: int = 1, seed: int = 0,
                density: float = 0.3) -> CompressedNetwork:  # fmt: skip
    """One pruned, shared 3x3 convolution with padding."""
    rng = np.random.default_rng(seed)
    shape = (rows, channels // groups, 3, 3)
    weights = rng.normal(size=shape) * (rng.random(shape) < density)
    weights[0, 0, 0, 0] = 1.0
    geometry = Geometry(
        in_channels=channels, out_channels=rows, kernel=(3, 3), padding=(1, 1), groups=groups, in_size=(size, size)
    )
    x = rng.random((1, channels, size, size)) * (rng.random((1, channels, size, size)) < 0.6)
    net = Network.from_arrays("conv", {"conv": weights}, inputs={"conv": x}, geometry={"conv": geometry})
    return dchw.compress(net, dchw.Recipe(codebook_bits=4, index_bits=3))


def small_machine(**changes: Any) -> Machine:
    """Four elements, two decode units, a fixed memory; ``changes`` are dotted paths with ``__`` for the dots."""
    data = machine("phone-lpddr5x").dump()
    data["dram"] = {
        "fixed": {"clock": "1 GHz", "bytes_per_cycle": 8, "latency": 20, "burst_size": "32 B"},
        "channels": 1,
    }
    data["dma"] |= {"request_bytes": "64 B", "outstanding": 8, "staging_bytes": "4 KiB"}
    data["weight_sram"] |= {"size_bytes": "8 KiB", "banks": 4}
    data["activation_sram"] |= {"size_bytes": "16 KiB", "banks": 2}
    data["huffman"] |= {"units": 2, "chunk_entries": 32}
    data["pe_array"] |= {"elements": 4, "lanes": 2, "tile": 8, "queue_depth": 4, "accumulators": 256}
    small = build(Machine, data, where="small machine")
    for path, value in changes.items():
        small = small.replace(path.replace("__", "."), value)
    return small
