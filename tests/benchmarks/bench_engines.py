"""The fast engine against the reference engine and against a fused recurrence, in one process.

Run: ``python -m pytest tests/benchmarks/bench_engines.py -s -p no:cacheprovider --override-ini addopts=``.

The program is like AlexNet fc6 at 9 % density: 3,500 active columns broadcast to 64 PEs, 1.4 million entries, without
decode units or with 16 or 64 of them. Times are processor time of this one thread, the least of several calls; a whole
run is of a program that was never seen before, checked and laid out anew. The reference engine runs the first columns
only; its speed is per firing. The fused recurrence is the one formula of the array without decode units, compiled:
nothing generic could be faster. The same layer packed for EIE is set beside a plain pass over its entries, the sum of
their rows, and beside the reference engine: on the whole layer, or on its first inputs where every entry is decoded. A
stream of 256-byte reads from LPDDR5X-8533 shows what the memory node costs.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from dchw.compile import kernel
from dchw.compression.compressed import CompressedNetwork
from dchw.config import build
from dchw.engines import reference
from dchw.engines.fast import engine as fast_engine
from dchw.engines.fast.firings import advance
from dchw.engines.fast.flatten import flatten
from dchw.engines.memory import memory_state
from dchw.formats import Entries
from dchw.graph.network import Network, placeholder
from dchw.lowering.lower import lower
from dchw.machines.machine import machine
from dchw.machines.units.dram import Dram
from dchw.mapping.workload import map_network
from dchw.program.program import FiringNode
from dchw.validate.eie_runs import with_codes
from tests.parity.broadcast import Ints, broadcast_program, random_work
from tests.parity.test_lpddr import stream

COLUMNS, ROWS, ELEMENTS, DENSITY, DEPTH = 3500, 4096, 64, 0.1, 8
REFERENCE_COLUMNS = 40
ROUNDS = 20


@kernel
def fused(work: Ints, depth: int) -> int:
    """The recurrence of the broadcast array, one pass over columns and PEs."""
    columns, elements = work.shape
    free = np.zeros(elements, np.int64)
    ring = np.zeros(depth, np.int64)
    push = -1
    for column in range(columns):
        push = max(push + 1, ring[column % depth] + 1 if column >= depth else 0)
        latest = 0
        for pe in range(elements):
            start = max(free[pe], push + 1)
            latest = max(latest, start)
            free[pe] = start + max(work[column, pe], 1)
        ring[column % depth] = latest
    return max(free.max(), push + 1)  # type: ignore[no-any-return]


def least_seconds(call: Callable[[], Any], rounds: int = ROUNDS) -> float:
    """The shortest processor time of several calls."""
    best = float("inf")
    for _ in range(rounds):
        begin = time.process_time()
        call()
        best = min(best, time.process_time() - begin)
    return best


def whole_seconds(program: Any) -> float:
    """Processor time of a whole run of a program of which nothing is known yet."""
    return least_seconds(lambda: fast_engine.run(replace(program)))


def kernel_seconds(program: Any) -> tuple[float, float]:
    """Processor time of the kernels alone, without checking and laying out; share of firings done with a fork."""
    best, share = float("inf"), 0.0
    for _ in range(ROUNDS):
        tables, memory = flatten(program), memory_state(program)
        begin = time.process_time()
        advance(tables, memory, 10**12)
        best = min(best, time.process_time() - begin)
        share = float(tables.run.with_forks / tables.run.done)
    return best, share


@pytest.mark.parametrize("decoders", [0, 16, 64])
def test_engines(decoders: int, benchmark: Any) -> None:
    """One line: entries, firings/s of both engines and their ratio, the ratio to the fused recurrence."""
    work = random_work(np.random.default_rng(0), COLUMNS, ROWS, ELEMENTS, DENSITY)
    program = broadcast_program(work, depth=DEPTH, decoders=decoders)
    small = broadcast_program(work[:REFERENCE_COLUMNS], depth=DEPTH, decoders=decoders)
    firings, few = (sum(len(node.occupied) for node in each.nodes) for each in (program, small))
    result = fast_engine.run(program)
    if decoders == 0:
        assert result.cycles == fused(work, DEPTH)
    fused(work, DEPTH)
    (alone, _), whole = kernel_seconds(program), whole_seconds(program)
    slow = least_seconds(lambda: reference.run(small), 3) / few
    formula = least_seconds(lambda: fused(work, DEPTH))
    print(
        f"\n{decoders} decoders: {int(work.sum()):,} entries, {firings:,} firings, {result.cycles:,} cycles; "
        f"kernels {alone * 1e3:.1f} ms = {firings / alone / 1e6:.1f} M firings/s, "
        f"{result.cycles / alone / 1e6:.2f} M cycles/s; whole run {whole * 1e3:.1f} ms; "
        f"reference {1 / slow / 1e3:.1f} k firings/s; "
        f"fast / reference {slow * firings / alone:,.0f}x kernels, {slow * firings / whole:,.0f}x whole; "
        f"fused recurrence {formula * 1e3:.2f} ms, {alone / formula:.0f}x faster than the kernels"
    )
    benchmark.pedantic(lambda: fast_engine.run(program), rounds=3)


def fc6(active: float, inputs: int = 9216) -> CompressedNetwork:
    """AlexNet fc6: 4096 x 9216 weights, 9 % of them non-zero (SYNTHETIC), with so many non-zero inputs."""
    rng = np.random.default_rng(0)
    codes: npt.NDArray[np.uint8] = rng.integers(1, 16, (4096, inputs), dtype=np.uint8)
    codes[rng.random(codes.shape, dtype=np.float32) >= 0.09] = 0
    x = (rng.random((1, inputs)) < active).astype(np.float32)
    graph = Network.from_arrays("fc6", {"fc6": placeholder(codes.shape)}, inputs={"fc6": x})
    return with_codes(graph, [codes], code_bits=4, index_bits=4)


@pytest.mark.parametrize("active", [0.351, 1.0])
@pytest.mark.parametrize("storage", ["shared", "huffman"])
def test_fc6(storage: str, active: float, benchmark: Any) -> None:
    """One line: AlexNet fc6 packed for EIE, timing alone, weights in SRAM, beside a plain pass over its entries.

    The pass is over all entries, also where only some inputs are non-zero and the run skips the others' columns.
    """
    target = machine("eie-64pe-45nm").replace("huffman.placement", "use")
    workload = map_network(fc6(active), target, storage)
    program = lower(workload, warm=True)
    small = lower(map_network(fc6(active, 256), target, storage), warm=True) if storage == "huffman" else program
    entries = workload.stages[0].layer.weights
    assert isinstance(entries, Entries)
    firings, few = (
        sum(len(node.occupied) for node in each.nodes if isinstance(node, FiringNode)) for each in (program, small)
    )
    slow = least_seconds(lambda: reference.run(small), 1) / few
    fast_engine.run(program)
    (alone, share), whole = kernel_seconds(program), whole_seconds(program)
    plain = least_seconds(lambda: int(entries.row.sum()), ROUNDS)
    print(
        f"\nfc6, {storage}, {100 * active:.0f} % of the inputs non-zero: {entries.row.size:,} entries, {firings:,} "
        f"firings, {100 * share:.1f} % with a fork; kernels {alone * 1e3:.1f} ms, whole run {whole * 1e3:.1f} ms; "
        f"plain pass {plain * 1e3:.2f} ms; {whole / plain:.1f} passes; reference {1 / slow / 1e3:.1f} k firings/s; "
        f"fast / reference {slow * firings / alone:,.0f}x kernels, {slow * firings / whole:,.0f}x whole"
    )
    benchmark.pedantic(lambda: fast_engine.run(program), rounds=3)


def test_memory(benchmark: Any) -> None:
    """One line: bursts/s and requests/s through the memory node with four channels of LPDDR5X-8533."""
    memory = build(Dram, {"standard": "LPDDR5X-8533", "channels": 4}, where="dram")
    program = stream(memory, 20_000, 8)
    clocks = fast_engine.run(program).memory.clocks
    alone, _ = kernel_seconds(program)
    print(
        f"\nLPDDR5X-8533 x 4: 20,000 requests, 160,000 bursts, {clocks:,} memory clocks in {alone * 1e3:.1f} ms = "
        f"{160_000 / alone / 1e6:.2f} M bursts/s"
    )
    benchmark.pedantic(lambda: fast_engine.run(program), rounds=3)
