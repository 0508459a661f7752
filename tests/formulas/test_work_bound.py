"""Do decode units and processing elements take the cycles that arithmetic says, to the cycle?"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from dchw.engines.result import Timing
from dchw.formats import Entries
from dchw.graph.geometry import Geometry
from dchw.mapping.workload import Workload
from dchw.run.simulation import simulate
from tests.formulas.layers import convolution, machine_with, product, random_codes, timed

HALF = product(random_codes(64, 200, 0.5))
FAST = {"bytes_per_cycle": 64}
FILL = 60
"""Cycles before the first entry and behind the last one: inputs, hand-over, outputs."""


def busy(timing: Timing, prefix: str) -> list[int]:
    return [times.busy for name, times in timing.nodes.items() if name.startswith(prefix)]


def entries_of(workload: Workload) -> Entries:
    weights = workload.stages[0].layer.weights
    assert isinstance(weights, Entries)
    return weights


def per_element(workload: Workload) -> npt.NDArray[np.int64]:
    """int64[columns, 4] entries."""
    entries = entries_of(workload)
    key = entries.job.astype(np.int64) * 4 + entries.element
    return np.bincount(key, minlength=4 * workload.stages[0].layer.packed.jobs).reshape(-1, 4)


# ---- decode units ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("writes", [1, 4])
@pytest.mark.parametrize("start", [0, 3])
@pytest.mark.parametrize("units", [1, 2, 4, 8])
def test_table_units_decode_an_entry_a_cycle(units: int, start: int, writes: int) -> None:
    target = machine_with(
        FAST,
        huffman__units=units,
        huffman__chunk_start_cycles=start,
        huffman__table_writes_per_cycle=writes,
        weight_sram__size_bytes="64 KiB",
    )
    timing, _, workload = timed(HALF, target, "huffman", warm=True)
    packed = workload.stages[0].layer.packed
    tables = -(-(packed.parameters.gap_symbols + packed.parameters.code_symbols) // writes)
    assert sum(busy(timing, "huffman")) == packed.entries + start * packed.chunks + units * tables
    if units <= 2:  # fewer units than elements: they set the pace
        assert max(busy(timing, "huffman")) < timing.cycles <= max(busy(timing, "huffman")) + FILL
    if units == 8:  # more units than elements: an entry a cycle is all an element takes
        assert max(busy(timing, "pe[")) < timing.cycles <= max(busy(timing, "pe[")) + 2 * FILL


def test_serial_units_decode_bit_by_bit() -> None:
    target = machine_with(
        FAST, huffman__style="bit_serial", huffman__chunk_start_cycles=0, weight_sram__size_bytes="64 KiB"
    )
    timing, _, workload = timed(HALF, target, "huffman", warm=True)
    entries, packed = entries_of(workload), workload.stages[0].layer.packed
    tables = -(-(packed.parameters.gap_symbols + packed.parameters.code_symbols) // 4)
    bits = np.maximum(np.maximum(entries.gap_bits, entries.code_bits), 1)  # both decoders walk a bit a cycle
    assert sum(busy(timing, "huffman")) == int(bits.sum()) + 2 * tables


def test_decode_time_halves_with_twice_the_units() -> None:
    cycles = {}
    for units in (1, 2, 4):
        target = machine_with(FAST, huffman__units=units, huffman__style="bit_serial", weight_sram__size_bytes="64 KiB")
        cycles[units] = timed(HALF, target, "huffman", warm=True)[0].cycles
    assert cycles[1] / cycles[2] == pytest.approx(2, rel=0.02)
    assert cycles[2] / cycles[4] == pytest.approx(2, rel=0.05)


def test_two_units_for_one_element_need_a_chunk_of_queue() -> None:
    # an element takes its chunks in order: the second unit runs ahead by what its queue holds, 32 entries a chunk
    cycles = {}
    for queue in (1, 64):
        target = machine_with(
            FAST,
            huffman__units=8,
            huffman__style="bit_serial",
            huffman__output_queue=queue,
            weight_sram__size_bytes="64 KiB",
        )
        timing, _, _ = timed(HALF, target, "huffman", warm=True)
        cycles[queue] = timing.cycles
        most = max(busy(timing, "huffman"))
    assert cycles[64] <= most + FILL
    assert cycles[1] > 1.5 * cycles[64]


def test_entries_decoded_at_load_are_fixed_width_when_used() -> None:
    loaded = machine_with(FAST, huffman__placement="load", weight_sram__size_bytes="64 KiB")
    assert timed(HALF, loaded, "huffman", warm=True)[0].cycles == timed(HALF, loaded, "shared", warm=True)[0].cycles


# ---- processing elements ---------------------------------------------------------------------------------------------


def test_an_entry_a_cycle_and_a_cycle_for_none() -> None:
    codes = random_codes(24, 60, 0.15)
    timing, _, workload = timed(product(codes), machine_with(FAST), "shared")
    work = per_element(workload)
    assert (work == 0).any()
    # an element hands over its 6 rows in 6 cycles
    assert busy(timing, "pe[") == (np.maximum(work, 1).sum(axis=0) + 6).tolist()


def test_zero_activations_cost_nothing() -> None:
    codes = random_codes(24, 60, 0.3)
    x = np.arange(60) % 3 == 0
    timing, _, workload = timed(product(codes, x), machine_with(FAST), "shared")
    assert busy(timing, "pe[") == (np.maximum(per_element(workload)[x], 1).sum(axis=0) + 6).tolist()
    assert timing.nodes["activation_sram.broadcast"].firings == 20 + 1


@pytest.mark.parametrize(("shared_by", "ports", "slot"), [(1, 1, 1), (4, 1, 4), (4, 2, 2), (2, 1, 2)])
def test_a_shared_codebook_is_read_in_slots(shared_by: int, ports: int, slot: int) -> None:
    target = machine_with(FAST, codebook__shared_by=shared_by, codebook__ports=ports)
    timing, _, workload = timed(product(random_codes(24, 60, 0.3)), target, "shared")
    work = per_element(workload)
    assert busy(timing, "pe[") == (np.where(work, slot * work, 1).sum(axis=0) + 6).tolist()


@pytest.mark.parametrize(("banks", "cycles"), [(4, 1), (2, 2), (1, 4)])
def test_elements_that_share_a_bank_take_turns(banks: int, cycles: int) -> None:
    # an entry of csr is 32 bits of row and 32 of value, one word; four elements on one bank get a word every 4 cycles
    target = machine_with(FAST, weight_sram__banks=banks, weight_sram__size_bytes="64 KiB")
    timing, _, workload = timed(product(random_codes(24, 60, 0.3)), target, "csr")
    work = per_element(workload)
    assert busy(timing, "pe[") == (np.where(work, cycles * work, 1).sum(axis=0) + 6).tolist()


@pytest.mark.parametrize(("word_bits", "every"), [(64, 1), (32, 2), (16, 4)])
def test_narrow_words_take_several_reads(word_bits: int, every: int) -> None:
    target = machine_with(FAST, weight_sram__word_bits=word_bits, weight_sram__size_bytes="64 KiB")
    timing, _, workload = timed(product(random_codes(24, 60, 0.3)), target, "csr")
    work = per_element(workload)
    assert busy(timing, "pe[") == (np.where(work, every * work, 1).sum(axis=0) + 6).tolist()


@pytest.mark.parametrize("hazard", [0, 1, 3])
def test_additions_to_one_row_keep_their_distance(hazard: int) -> None:
    # one row per element: every entry but the first adds to the row of the one before
    timing, _, _ = timed(product(np.full((4, 30), 3)), machine_with(FAST, pe_array__hazard_cycles=hazard), "shared")
    assert busy(timing, "pe[") == [1 + 29 * max(hazard, 1) + 1] * 4
    # two rows per element take turns: never the same row twice
    timing, _, _ = timed(product(np.full((8, 30), 3)), machine_with(FAST, pe_array__hazard_cycles=hazard), "shared")
    assert busy(timing, "pe[") == [60 + 2] * 4


def test_resident_convolution_is_compute_bound() -> None:
    # 4 x 3 x 3 columns of 16 rows over 8 x 8 pixels, tiles of 8 pixels: 8 passes, 36 columns, 4 groups of 2 lanes,
    # 16 / 4 rows: 4,608 cycles, all multipliers busy; and 8 hand-overs of 4 rows x 4 groups, and 8 times the 4 + 2 - 2
    # cycles in which a grid of 4 x 2 fills and drains
    geometry = Geometry(in_channels=4, out_channels=16, kernel=(3, 3), in_size=(10, 10))
    target = machine_with(FAST, weight_sram__size_bytes="64 KiB")
    timing, _, _ = timed(convolution(geometry), target, "dense-int8", warm=True)
    assert geometry.macs / target.pe_array.macs_per_cycle == 8 * 36 * 4 * 4 == 4608
    assert timing.nodes["pe_array"].busy == 4608 + 8 * 16 + 8 * 4
    assert 4608 + 160 < timing.cycles <= 4608 + 160 + FILL


@pytest.mark.parametrize("fill", [0, 11])
def test_every_dense_pass_fills_and_drains_and_no_sparse_one_does(fill: int) -> None:
    geometry = Geometry(in_channels=4, out_channels=16, kernel=(3, 3), in_size=(10, 10))
    stated, without = (machine_with(FAST, pe_array__fill_cycles=cycles) for cycles in (fill, 0))
    dense, plain = (timed(convolution(geometry), m, "dense-fp16")[0].nodes["pe_array"].busy for m in (stated, without))
    assert dense == plain + 8 * fill
    sparse = [busy(timed(convolution(geometry), m, "shared")[0], "pe[") for m in (stated, without)]
    assert sparse[0] == sparse[1]


@pytest.mark.parametrize("zeros", ["multiplied", "skipped"])
def test_a_dense_array_skips_zeros_only_where_the_machine_says_so(zeros: str) -> None:
    codes = random_codes(8, 40, 1.0)
    target = machine_with(FAST, pe_array__dense_zeros=zeros)
    counts = []
    for kept in (40, 10):
        frame = simulate(product(codes, np.arange(40) < kept), target, "dense-fp16").to_frame()
        counts.append(int(frame.loc[frame["event"] == "mac", "count"].sum()))
    assert counts == [8 * 40, 8 * (40 if zeros == "multiplied" else 10)]


def test_sparse_convolution_spends_lane_groups_per_entry() -> None:
    geometry = Geometry(in_channels=2, out_channels=8, kernel=(3, 3), in_size=(10, 10))
    timing, _, workload = timed(convolution(geometry), machine_with(FAST), "shared")
    # 8 passes, 18 columns with 2 entries per element, 4 groups of lanes each; hand-over of 2 rows x 4 groups
    assert busy(timing, "pe[") == [8 * (18 * 2 * 4 + 8)] * 4
    assert workload.stages[0].layer.tiling.passes == 8
