"""Is the 16-bit mode exact to the last bit, and does timing-only change nothing but the outputs?"""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import dchw
from dchw.formats import CodedRows
from dchw.graph import forward
from dchw.mapping.arithmetic import Arithmetic, fraction_bits, products
from dchw.quantities import DchwError
from tests.mapping.layers import convolution, fully_connected, small_machine
from tests.oracles import fixed_point as oracle


@settings(max_examples=60)
@given(st.integers(0, 2**32 - 1), st.integers(1, 6), st.integers(1, 9), st.integers(1, 4), st.booleans(),
       st.integers(-12, 12))  # fmt: skip
def test_every_bit_equals_the_oracle(
    seed: int, rows: int, columns: int, pixels: int, biased: bool, magnitude: int
) -> None:
    rng = np.random.default_rng(seed)
    matrix = (rng.normal(size=(rows, columns)) * 2.0**magnitude).astype(np.float32)
    x = rng.normal(size=(columns, pixels)).astype(np.float32)
    bias = rng.normal(size=rows).astype(np.float32) if biased else None
    found = products(matrix, bias, x[None], 1, Arithmetic.FIXED16)
    assert found.tolist() == oracle.layer(matrix.tolist(), None if bias is None else bias.tolist(), x.tolist())


def test_worked_example() -> None:
    # the largest magnitude 3 needs two integer bits: 13 fraction bits; 4 would round past 32,767 at 13 bits
    assert fraction_bits(np.array([3.0, -0.5], np.float32)) == 13
    assert fraction_bits(np.array([4.0], np.float32)) == 12
    assert fraction_bits(np.array([1.0], np.float32)) == 14
    assert fraction_bits(np.array([0.0], np.float32)) == 0


@pytest.mark.parametrize("pixels", [1, 3])
def test_rows_that_are_made_as_they_are_multiplied(pixels: int) -> None:
    """More rows than are made at a time, of two groups: as of a matrix. Whole numbers, whose sums have no order."""
    rng = np.random.default_rng(0)
    codes, values = rng.integers(0, 9, (300, 20), dtype=np.uint8), np.arange(9, dtype=np.float32) - 4
    x, bias = rng.integers(-9, 9, (2, 20, pixels)).astype(np.float32), np.arange(300, dtype=np.float32)
    matrix = values[codes].reshape(2, 150, 20)
    expected = (matrix.astype(np.int64) @ x.astype(np.int64)).reshape(300, pixels) + np.arange(300)[:, None]
    for one in (CodedRows(codes, values), values[codes]):
        assert products(one, bias, x, 2, Arithmetic.FLOAT32).tolist() == expected.tolist()


def test_sixteen_bits_come_close_to_float() -> None:
    network = convolution()
    fixed = dchw.simulate(network, small_machine(), arithmetic="fixed16").outputs["conv"]
    exact = forward.forward(network.decompress())["conv"]
    step = 2.0 ** -fraction_bits(exact)
    assert np.abs(fixed - exact).max() < 2 * step
    assert not np.array_equal(fixed, exact)
    np.testing.assert_array_equal(fixed / step, np.rint(fixed / step))


def test_timing_only_times_the_same_work() -> None:
    network = fully_connected(37, 50)
    full, timing = (dchw.simulate(network, small_machine(), arithmetic=a) for a in ("float32", "none"))
    assert timing.cycles == full.cycles  # one layer: its input is the recorded one in both
    assert timing.workload.activations == "synthetic"
    assert any("timing only" in note for note in timing.workload.notes)


def test_unknown_arithmetic() -> None:
    with pytest.raises(DchwError, match="no such arithmetic"):
        dchw.simulate(fully_connected(4, 4), small_machine(), arithmetic="fixed8")
