"""What a run of a whole network costs: is processor time linear in what is worked, and does memory stay where it is?

Run: ``python -m pytest tests/benchmarks/bench_networks.py -s -p no:cacheprovider --override-ini addopts=``.
``python -m tests.benchmarks.bench_networks`` prints and draws cost against pixels, entries and layers by themselves, as
``docs/pictures/linear_cost.svg``.

Every run is one of its own process, timed from mapping to the priced result; its peak is the process's, with Python,
libraries and the network in it. A chain of 3x3 convolutions of 64 channels (30 % of the weights stay) grows in pixels,
then in layers; AlexNet and VGG-16 with synthetic weights of published densities are beside it. A firing is one thing
one node does: here mostly an entry, or a column without one, in a decode unit or a processing element.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import pytest

CHAINS = [(1, size) for size in (28, 56, 112, 224)] + [(layers, 56) for layers in (2, 4, 8)]
NETWORKS = ["alexnet-synthetic", "vgg16-synthetic"]
USUAL = 0.3
"""Share of the weights that stay."""
PICTURE = Path(__file__).parents[2] / "docs" / "pictures" / "linear_cost.svg"
SWEEPS = {
    "output pixels": [(1, size, USUAL) for size in (28, 56, 112, 224)],
    "entries": [(1, 112, density) for density in (0.05, 0.1, 0.2, 0.4, 0.8)],
    "layers": [(layers, 56, USUAL) for layers in (1, 2, 4, 8, 16)],
}
"""Chains in which one thing grows: layers, rows and columns of an image, share of the weights that stay."""


def _measure(answer: Connection, name: str, storage: str, layers: int, size: int, density: float = USUAL) -> None:
    import resource

    import dchw
    from dchw.importers.synthetic import synthetic_network

    network = synthetic_network(name) if name else _chain(layers, size, density)
    dchw.simulate(_chain(1, 8), "phone-lpddr5x", storage)  # kernels are warm
    before, begin = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    run = dchw.simulate(network, "phone-lpddr5x", storage)
    seconds = time.process_time() - begin
    firings = sum(times.firings for times in run.timing.nodes.values())
    answer.send((firings, run.cycles, seconds, before, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss))


def _chain(layers: int, size: int, density: float = USUAL):  # type: ignore[no-untyped-def]
    import dchw
    from dchw.graph.network import Network
    from dchw.importers.graph_builder import GraphBuilder

    rng = np.random.default_rng(0)
    graph = GraphBuilder("chain")
    current = graph.input("data", (64, size, size))
    for index in range(layers):
        weight = rng.normal(size=(64, 64, 3, 3)).astype(np.float32)
        graph.conv(f"conv{index}", current, 64, (3, 3), padding=(1, 1), weight=weight, bias=None)
        current = graph.activation(f"relu{index}", f"conv{index}", "relu")
    network = Network(name=f"{layers} x {size}x{size}", operations=tuple(graph.operations))
    return dchw.compress(network, dchw.Recipe(density=density, codebook_bits=4))


@pytest.mark.parametrize("storage", ["huffman", "dense-int8"])
def test_cost_of_networks(storage: str) -> None:
    print(
        f"\n{storage:>24} {'firings':>12} {'cycles':>12} {'CPU s':>8} {'ns/firing':>10} {'start MB':>9} {'peak MB':>8}"
    )
    for name, layers, size in [*(("", *chain) for chain in CHAINS), *((name, 0, 0) for name in NETWORKS)]:
        firings, cycles, seconds, before, peak = _measured(name, storage, layers, size)
        print(
            f"{name or f'{layers} x {size}x{size}':>24} {firings:12,} {cycles:12,} {seconds:8.2f} "
            f"{seconds / firings * 1e9:10.1f} {before / 1e3:9.0f} {peak / 1e3:8.0f}"
        )


def _measured(*arguments: object) -> tuple[int, int, float, int, int]:
    """What `_measure` answers, in a process of its own."""
    mine, other = get_context("spawn").Pipe()
    process = get_context("spawn").Process(target=_measure, args=(other, *arguments))
    process.start()
    answer: tuple[int, int, float, int, int] = mine.recv()
    process.join()
    return answer


def _amount(what: str, layers: int, size: int, density: float) -> int:
    return {"output pixels": size * size, "entries": round(density * 64 * 64 * 9), "layers": layers}[what]


def _slope(amounts: Sequence[float], seconds: Sequence[float]) -> float:
    """Of the last two points on logarithmic axes, where what every run costs shows least; 1: linear."""
    return float(np.diff(np.log(seconds[-2:]))[0] / np.diff(np.log(amounts[-2:]))[0])


def draw() -> None:
    """Measure the sweeps, print them, and draw processor time against what grows."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    mpl.rcParams["svg.hashsalt"] = "dchw"
    figure = Figure(figsize=(9.6, 3.0), layout="constrained")
    for number, (what, chains) in enumerate(SWEEPS.items()):
        axes = figure.add_subplot(1, len(SWEEPS), number + 1)
        for storage in ("huffman", "dense-int8"):
            amounts = [_amount(what, *chain) for chain in chains]
            rows = [_measured("", storage, *chain) for chain in chains]
            seconds = [row[2] for row in rows]
            axes.loglog(amounts, seconds, "o-", label=f"{storage}, slope {_slope(amounts, seconds):.2f}")
            print(f"{what}, {storage}: slope at the end {_slope(amounts, seconds):.2f}")
            for amount, row in zip(amounts, rows, strict=True):
                print(f"  {amount:>7,} {row[0]:>12,} firings {row[2]:7.2f} s {row[4] / 1e3:6.0f} MB")
            axes.set_xticks(amounts, [f"{amount:,}" for amount in amounts])
            axes.set_xticks([], minor=True)
        axes.set(xlabel=what, ylabel="" if number else "processor time in s")
        axes.legend(frameon=False, fontsize=8)
    figure.savefig(PICTURE, metadata={"Date": None})


if __name__ == "__main__":
    draw()
