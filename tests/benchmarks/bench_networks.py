"""What a run of a whole network costs: is processor time linear in what is worked, and does memory stay where it is?

Run: ``python -m pytest tests/benchmarks/bench_networks.py -s -p no:cacheprovider --override-ini addopts=``.

Every run is one of its own process, timed from mapping to the priced result; its peak is the process's, with Python,
libraries and the network in it. A chain of 3x3 convolutions of 64 channels (30 % of the weights stay) grows in pixels,
then in layers; AlexNet and VGG-16 with synthetic weights of published densities are beside it. A firing is one thing
one node does: here mostly an entry, or a column without one, in a decode unit or a processing element.
"""

from __future__ import annotations

import time
from multiprocessing import get_context
from multiprocessing.connection import Connection

import numpy as np
import pytest

CHAINS = [(1, size) for size in (28, 56, 112, 224)] + [(layers, 56) for layers in (2, 4, 8)]
NETWORKS = ["alexnet-synthetic", "vgg16-synthetic"]


def _measure(answer: Connection, name: str, storage: str, layers: int, size: int) -> None:
    import resource

    import dchw
    from dchw.importers.synthetic import synthetic_network

    network = synthetic_network(name) if name else _chain(layers, size)
    dchw.simulate(_chain(1, 8), "phone-lpddr5x", storage)  # kernels are warm
    before, begin = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    run = dchw.simulate(network, "phone-lpddr5x", storage)
    seconds = time.process_time() - begin
    firings = sum(times.firings for times in run.timing.nodes.values())
    answer.send((firings, run.cycles, seconds, before, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss))


def _chain(layers: int, size: int):  # type: ignore[no-untyped-def]
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
    return dchw.compress(network, dchw.Recipe(density=0.3, codebook_bits=4))


@pytest.mark.parametrize("storage", ["huffman", "dense-int8"])
def test_cost_of_networks(storage: str) -> None:
    print(
        f"\n{storage:>24} {'firings':>12} {'cycles':>12} {'CPU s':>8} {'ns/firing':>10} {'start MB':>9} {'peak MB':>8}"
    )
    for name, layers, size in [*(("", *chain) for chain in CHAINS), *((name, 0, 0) for name in NETWORKS)]:
        mine, other = get_context("spawn").Pipe()
        process = get_context("spawn").Process(target=_measure, args=(other, name, storage, layers, size))
        process.start()
        firings, cycles, seconds, before, peak = mine.recv()
        process.join()
        print(
            f"{name or f'{layers} x {size}x{size}':>24} {firings:12,} {cycles:12,} {seconds:8.2f} "
            f"{seconds / firings * 1e9:10.1f} {before / 1e3:9.0f} {peak / 1e3:8.0f}"
        )
