"""Are runs that wait for DRAM as long as bytes over bandwidth, and runs that wait for answers as Little's law says?"""

from __future__ import annotations

import numpy as np
import pytest

from tests.formulas.layers import machine_with, product, random_codes, timed

FULL = product(random_codes(64, 512, 1.0))
FILL = 150
"""Cycles for the first answer to arrive and for the last chunk to be multiplied, handed over and written."""


@pytest.mark.parametrize("bytes_per_cycle", [4, 8])
@pytest.mark.parametrize(("storage", "weight_bytes"), [("dense-fp32", 4), ("dense-fp16", 2), ("dense-int8", 1)])
def test_bandwidth_bound(storage: str, weight_bytes: int, bytes_per_cycle: int) -> None:
    target = machine_with({"bytes_per_cycle": bytes_per_cycle}, pe_array__also_multiplies=["int8xint8->int32"])
    timing, _, _ = timed(FULL, target, storage)
    assert timing.memory is not None
    moved = int(timing.memory.size_bytes.sum())
    scales, value_bytes = (64 * 4, 1) if storage == "dense-int8" else (0, 2)
    # 64 x 512 weights; 512 inputs and 64 outputs, in float16 or, where bytes are multiplied, int8
    assert moved == 64 * 512 * weight_bytes + scales + (512 + 64) * value_bytes
    assert moved / bytes_per_cycle < timing.cycles <= moved / bytes_per_cycle + FILL


def test_compressed_weights_are_bandwidth_bound_too() -> None:
    network = product(random_codes(64, 512, 0.3))
    for storage in ("csr", "relative", "shared", "huffman"):
        target = machine_with({"bytes_per_cycle": 0.5}, weight_sram__size_bytes="16 KiB")
        timing, _, workload = timed(network, target, storage)
        assert timing.memory is not None
        moved = int(timing.memory.size_bytes.sum())
        assert moved >= workload.packed_bytes + 512 * 2 + 64 * 2
        assert 2 * moved < timing.cycles <= 2 * moved + 2 * FILL


def test_transfer_and_work_overlap() -> None:
    # one lane on each of 4 elements: 16 cycles for a column of 64 rows, while 32 B a cycle bring it in 8
    target = machine_with({"bytes_per_cycle": 32}, pe_array__lanes=1, weight_sram__banks=16)
    timing, _, _ = timed(FULL, target, "dense-fp32")
    assert timing.memory is not None
    transfer, work = int(timing.memory.size_bytes.sum()) / 32, 512 * 16
    assert work < timing.cycles <= max(transfer, work) + FILL
    assert timing.cycles < 0.7 * (transfer + work)


@pytest.mark.parametrize("latency", [100, 200])
@pytest.mark.parametrize("outstanding", [1, 2, 4])
def test_outstanding_requests_follow_littles_law(outstanding: int, latency: int) -> None:
    # A request asked at s is seen by the memory at s + 1, its first burst is looked at from s + 2, its 64 B take 8
    # clocks at 8 B a clock, the answer is complete at s + 10 + latency and seen a cycle later, the fill takes 2 cycles
    # (64 B over 4 banks of 8 B) and returns the credit: a round trip of 13 + latency cycles.
    target = machine_with({"latency": latency}, dma__outstanding=outstanding)
    runs = []
    for columns in (256, 512):
        timing, program, _ = timed(product(random_codes(8, columns, 1.0)), target, "dense-fp32")
        assert program.memory is not None
        runs.append((len(program.memory.requests[0].address), timing.cycles))
    requests, cycles = np.diff(runs, axis=0)[0]
    assert cycles * outstanding == requests * (13 + latency)


def test_enough_outstanding_requests_reach_the_bandwidth() -> None:
    timing, _, _ = timed(FULL, machine_with({"latency": 200}, dma__outstanding=32), "dense-fp32")
    assert timing.memory is not None
    moved = int(timing.memory.size_bytes.sum())
    assert moved / 8 < timing.cycles <= moved / 8 + 2 * 200 + FILL


def test_weights_that_stay_cost_no_transfer() -> None:
    target = machine_with(weight_sram__size_bytes="256 KiB")
    cold, _, _ = timed(FULL, target, "dense-fp32")
    warm, _, _ = timed(FULL, target, "dense-fp32", warm=True)
    work = 512 * 8  # 64 rows on 4 elements of 2 lanes
    assert work < warm.cycles <= work + 2 * FILL  # 1 KiB of inputs comes first: 128 cycles
    assert cold.cycles > 64 * 512 * 4 / 8
