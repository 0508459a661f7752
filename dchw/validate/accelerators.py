"""Published accelerators as checks: EIE (in `dchw.validate.eie`), SCALE-Sim's grid (in `dchw.validate.scale_sim`) and
Arm's weight decoder, known by its rate alone."""

from __future__ import annotations

import numpy as np
import pandas as pd

from dchw.compression.compressed import CompressedNetwork
from dchw.graph.network import Network, placeholder
from dchw.machines.machine import machine
from dchw.run.simulation import simulate
from dchw.validate import Check, eie, eie_runs
from dchw.validate.scale_sim import scale_sim

LAYERS = ((784, 512), (512, 256), (256, 10))
"""Inputs and outputs of three fully connected layers with 535,040 weights in all; the shapes are this project's."""
PUBLISHED = {
    "dense": {"zeros": 0.0, "decoder_cycles": 74_000, "npu_cycles": 97_000, "mac_cycles": 8_000, "encoded_kib": 507.0},
    "pruned": {"zeros": 0.95, "decoder_cycles": 17_000, "npu_cycles": 22_000, "mac_cycles": 8_000, "encoded_kib": 46.1},
}
"""PyTorch executorch, ``pruning_minimal_example.ipynb``: Ethos-U85-128 on Arm's fixed virtual platform."""
DECODER_LIMIT_PCT = 12.0
CODE_BITS, INDEX_BITS = 8, 4


def run() -> list[Check]:
    """All checks of this part, for ``dchw validate accelerators``."""
    return [*eie.checks(), weight_decoder(), scale_sim()]


def weight_decoder(seed: int = 0) -> Check:
    """535,040 int8 weights through a decoder that is known by its rate, dense and with 95 % zeros."""
    target = machine("ethos-u85-like")
    rows = []
    for case, published in PUBLISHED.items():
        result = simulate(mlp(published["zeros"], seed), target)
        decoder = result.timing.nodes["huffman[0]"].busy
        rows.append(
            {
                "weights": case,
                "zeros_pct": 100 * published["zeros"],
                "decoder_cycles": decoder,
                "published_decoder_cycles": int(published["decoder_cycles"]),
                "decoder_error_pct": 100 * (decoder / published["decoder_cycles"] - 1),
                "npu_cycles": result.cycles,
                "published_npu_cycles": int(published["npu_cycles"]),
                "encoded_kib": result.workload.packed_bytes / 1024,
                "published_encoded_kib": published["encoded_kib"],
            }
        )
    table = pd.DataFrame(rows)
    return Check(
        title="Ethos-U85-128: 535,040 SYNTHETIC int8 weights, decoder of style rate",
        table=table,
        limits=f"decoder cycles within {DECODER_LIMIT_PCT:g} % of the published ones",
        passed=bool((table["decoder_error_pct"].abs() <= DECODER_LIMIT_PCT).all()),
        notes=(
            f"Layers {', '.join(f'{i} x {o}' for i, o in LAYERS)}: our shapes for the published number of weights.",
            "Published cycles are rounded to thousands. The dense example decodes 7.2 weights a cycle where Arm's own "
            "performance model allows 8; what the other 10 % are is not published.",
            "NPU cycles and encoded sizes are for information: this machine's coded format, memory and order of "
            "multiplication are not Arm's. Uniform random codes do not compress; the example's trained weights do.",
        ),
    )


def mlp(zeros: float, seed: int) -> CompressedNetwork:
    """Three fully connected layers, each reading its own dense input, with random codes and a share of zeros."""
    rng = np.random.default_rng(seed)
    shapes = {f"fc{i}": (outputs, inputs) for i, (inputs, outputs) in enumerate(LAYERS, start=1)}
    graph = Network.from_arrays(
        "mlp",
        {name: placeholder(shape) for name, shape in shapes.items()},
        inputs={name: np.ones((1, shape[1]), np.float32) for name, shape in shapes.items()},
    )
    codes = []
    for shape in shapes.values():
        drawn = rng.integers(1, 256, shape, dtype=np.uint8)
        codes.append(np.where(rng.random(shape) < zeros, 0, drawn).astype(np.uint8))
    return eie_runs.with_codes(graph, codes, code_bits=CODE_BITS, index_bits=INDEX_BITS)
