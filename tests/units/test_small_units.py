"""Worked examples of the units whose rule is one line of arithmetic."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dchw.config import build
from dchw.machines.units.codebook import CodebookLookup
from dchw.machines.units.dma import Dma
from dchw.machines.units.pe_array import PeArray
from dchw.machines.units.sram import Sram
from dchw.machines.units.vector import Vector
from dchw.quantities import ConfigError
from tests.oracles import units as oracle


def test_dma_blocks_stop_at_the_last_burst_with_data() -> None:
    dma = build(Dma, {"request_bytes": "256 B", "outstanding": 4, "staging_bytes": "1 KiB"}, where="dma")
    # 600 bytes are 19 bursts of 32 B: blocks of 8, 8 and 3 bursts
    assert dma.blocks(600) == 3
    np.testing.assert_array_equal(dma.block_bursts(600, 32), [8, 8, 3])
    assert dma.block_bursts(512, 32).tolist() == [8, 8]


@given(st.integers(1, 10_000))
def test_dma_blocks_cover_every_byte_once(size: int) -> None:
    dma = build(Dma, {"request_bytes": "256 B", "outstanding": 4, "staging_bytes": "1 KiB"}, where="dma")
    bursts = dma.block_bursts(size, 32)
    assert bursts.min() >= 1
    assert 32 * (bursts.sum() - 1) < size <= 32 * bursts.sum()


def test_sram_words_and_slots() -> None:
    sram = build(Sram, {"size_bytes": "4 KiB", "banks": 4, "word_bits": 64}, where="sram")
    assert sram.words(65) == 2
    assert sram.fill_cycles(256) == 8  # 2,048 bits over 4 x 64 bits a cycle
    assert sram.reader_bits_per_cycle(4) == (64, 1)
    assert sram.reader_bits_per_cycle(5) == (64, 2)  # a bank with two readers serves each every other cycle


def test_sram_of_broken_words_is_refused() -> None:
    with pytest.raises(ConfigError, match="expected a size of whole words in every bank"):
        build(Sram, {"size_bytes": "100 B", "banks": 3, "word_bits": 64}, where="sram")


def test_codebook_ports_are_shared_in_slots() -> None:
    assert CodebookLookup(entries=16, ports=2, shared_by=8).slot_cycles == 4
    assert CodebookLookup(entries=16, ports=2, shared_by=8).copies(64) == 8


@given(st.integers(1, 500), st.integers(1, 40), st.integers(1, 16), st.integers(1, 16))
def test_dense_columns_use_lanes_that_pixels_leave_free(rows: int, pixels: int, elements: int, lanes: int) -> None:
    array = PeArray(elements=elements, lanes=lanes)
    assert array.dense_cycles(rows, pixels) == oracle.dense_column(rows, pixels, elements, lanes)


def test_dense_worked_example() -> None:
    # 300 rows, one pixel, 64 elements of 16 lanes: 1,024 rows at once; 100 pixels: 64 rows at once
    array = PeArray(elements=64, lanes=16)
    assert array.dense_cycles(300, 1) == 1
    assert array.dense_cycles(300, 100) == 5
    assert array.lane_groups(100) == 7
    assert array.drain_cycles(5, 100) == 35


def test_vector_moves_at_least_one_cycle() -> None:
    assert Vector(values_per_cycle=16).cycles(0) == 1
    assert Vector(values_per_cycle=16).cycles(33) == 3
