"""Cycles of dense convolutions beside those of SCALE-Sim on the same array: what a systolic grid takes without memory.

SCALE-Sim 3.0.0 (PyPI; Samajdar et al., arXiv 1811.02883) was run once on the layers of ``scale_sim.csv`` with an array
of 16 x 64, output-stationary, and its compute cycles were noted: the rows of its demand matrices, which its memory
serves one a cycle where bandwidth is estimated (``InterfaceBandwidth = CALC``). Here the same layers run as dense-int8
on 64 elements of 16 lanes that hold one sum a lane, so that a pass is one of SCALE-Sim's folds, and the cycles the
array works are compared. Weights are SYNTHETIC: where they are dense, their values do not matter.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from dchw.compression.compressed import CompressedNetwork
from dchw.compression.recipe import Recipe, compress
from dchw.graph.network import Network
from dchw.importers.graph_builder import GraphBuilder
from dchw.machines.loop_order import LoopOrder
from dchw.machines.machine import Machine, machine
from dchw.run.simulation import simulate
from dchw.tables import read_table
from dchw.validate import Check

LANES, ELEMENTS = 16, 64
LIMIT_PCT = 5.0


def scale_sim(rows: list[Mapping[str, str]] | None = None) -> Check:
    """Array cycles with SCALE-Sim's folds, and with the tile of the preset."""
    table = pd.DataFrame([_row(row) for row in (read_table("scale_sim.csv") if rows is None else rows)])
    return Check(
        title=f"SCALE-Sim: dense convolutions on {LANES} x {ELEMENTS} multipliers, compute cycles",
        table=table,
        limits=f"with SCALE-Sim's folds every layer within {LIMIT_PCT:g} %",
        passed=bool((table["error_pct"].abs() <= LIMIT_PCT).all()),
        notes=(
            "A fold of SCALE-Sim takes the columns of the product and 78 = 16 + 64 - 2 cycles of filling and draining; "
            "fill_cycles of a machine has the same default. Our passes add the cycle in which an element hands over "
            "its sums, one a pass.",
            "Of fewer cycles: in the last tile of an image the lanes that pixels leave free take further rows here; a "
            "grid leaves them idle (conv4_x: 196 pixels are 12 tiles of 16 and one of 4).",
            "tile_64 is the preset's own order: 64 pixels and several rows an element share one filling, so that it is "
            "lost less often. Neither has memory in it: cycles of a whole run are the array's or more.",
        ),
    )


def _row(row: Mapping[str, str]) -> dict[str, object]:
    network, published = convolution(row), int(row["compute_cycles"])
    phone = machine("phone-lpddr5x")
    preset = _array_cycles(network, phone.replace("pe_array.tile", 64).replace("pe_array.accumulators", 1024))
    # a fold takes all columns of the product: none is cut into blocks
    whole = phone.model_copy(update={"mapping": (LoopOrder(layers="*", column_blocks=1),)})
    folds = _array_cycles(network, whole.replace("pe_array.tile", LANES).replace("pe_array.accumulators", LANES))
    return {
        "layer": row["layer"],
        "scale_sim_cycles": published,
        "array_cycles": folds,
        "error_pct": 100 * (folds / published - 1),
        "tile_64_cycles": preset,
        "tile_64_pct": 100 * (preset / published - 1),
    }


def _array_cycles(network: CompressedNetwork, phone: Machine) -> int:
    return int(simulate(network, phone, "dense-int8").timing.nodes["pe_array"].busy)


def convolution(row: Mapping[str, str]) -> CompressedNetwork:
    """A network of one convolution without padding; SCALE-Sim's input sizes include it."""
    size, kernel, channels, filters = (int(row[name]) for name in ("input_size", "kernel", "channels", "filters"))
    builder = GraphBuilder(row["layer"])
    data = builder.input("data", (channels, size, size))
    weight = np.random.default_rng(0).normal(size=(filters, channels, kernel, kernel)).astype(np.float32)
    builder.conv(row["layer"], data, filters, (kernel, kernel), weight=weight, bias=None)
    return compress(Network(name=row["layer"], operations=tuple(builder.operations)), Recipe(codebook_bits=4))
