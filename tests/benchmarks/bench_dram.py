"""DRAM replay speed on one core, beside Ramulator 2.1 and DRAMsim3 as measured on the same class of machine.

Run with: pytest tests/benchmarks/bench_dram.py
"""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

from dchw.dram.replay import replay
from dchw.dram.standard import standard_names
from dchw.traces import requests

PEERS = {"sequential": 218_244, "random": 128_434}
"""Requests per second of Ramulator 2.1 (c5b1c3a) on LPDDR5-6400, one thread, trace already in memory."""
GOALS = {"sequential": 4e6, "random": 1.3e6}
"""Requests per second this model is built to reach on one core of that class."""
COUNT = 1 << 20


def _addresses(kind: str) -> np.ndarray:
    if kind == "sequential":
        return np.arange(COUNT) * 32
    return np.random.default_rng(1).integers(0, (256 << 20) // 32, COUNT) * 32


@pytest.mark.parametrize("kind", ["sequential", "random"])
@pytest.mark.parametrize("name", standard_names())
def test_requests_per_second(benchmark, name, kind):
    trace = requests(_addresses(kind), np.zeros(COUNT, bool))
    replay((trace.address[:64], trace.is_write[:64]), name)
    result = benchmark.pedantic(replay, (trace, name), rounds=3)
    rate = COUNT / benchmark.stats.stats.min
    print(
        f"\n{name} {kind}: {rate / 1e6:.2f} M requests/s ({rate / GOALS[kind]:.1f} of the goal), "
        f"{rate / PEERS[kind]:.0f} x Ramulator ({result.cycles} cycles)"
    )


def test_dense_vgg16_as_a_stream(benchmark):
    """138 M weights as fp32: 17.3 M bursts of 32 bytes, front to back."""
    bursts = 138_344_128 * 4 // 32
    step = 1 << 18

    def run():
        chunks = (
            requests(np.arange(at, min(at + step, bursts)) * 32, np.zeros(min(step, bursts - at), bool))
            for at in range(0, bursts, step)
        )
        return replay(chunks, "LPDDR5X-8533")

    result = benchmark.pedantic(run, rounds=2)
    print(f"\n{bursts / 1e6:.1f} M bursts in {benchmark.stats.stats.min:.2f} s; {result.achieved_gbps:.2f} GB/s")


def test_memory_does_not_grow_with_the_trace():
    def peak(chunks: int) -> int:
        step = 1 << 16
        tracemalloc.start()
        replay(
            (requests(np.arange(k * step, (k + 1) * step) * 32, np.zeros(step, bool)) for k in range(chunks)),
            "LPDDR5-6400",
        )
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most

    few, many = peak(4), peak(64)
    print(f"\n4 chunks: {few / 1e6:.1f} MB, 64 chunks: {many / 1e6:.1f} MB")
    assert many < 1.2 * few
