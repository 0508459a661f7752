"""Packed bits: is the order what it says, is nothing lost, is damage seen?"""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dchw.compression import bitstream
from dchw.quantities import DchwError, FileFormatError
from tests.oracles import compress as oracle


def test_even_nibble_is_the_low_one() -> None:
    """The worked example of the published SqueezeNet files: gaps 2, 15, 4 are the bytes 0xF2 0x04."""
    assert bitstream.pack_fixed([2, 15, 4], 4).tobytes() == b"\xf2\x04"
    assert bitstream.unpack_fixed(np.frombuffer(b"\xf2\x04", np.uint8), 4, 3).tolist() == [2, 15, 4]


def test_golden_patterns() -> None:
    """Three fields of 5 bits: 00001, 10000, 11111 give 1 | 16 << 5 | 31 << 10 = 0x7E01, lowest byte first."""
    assert bitstream.pack_fixed([1, 16, 31], 5).tobytes() == b"\x01\x7e"
    assert bitstream.pack_fixed([0xABCD, 0x0123], 16).tobytes() == b"\xcd\xab\x23\x01"
    assert bitstream.pack_fixed([1, 0, 1, 1, 0, 0, 0, 0, 1], 1).tobytes() == b"\x0d\x01"
    assert bitstream.pack_bitmask([True, False, True, True, False, False, False, False, True]).tobytes() == b"\x0d\x01"


@given(st.integers(1, 16), st.data())
def test_round_trip_and_oracle(bits: int, data: st.DataObject) -> None:
    """Every width, every length around the words' and bytes' ends."""
    values = data.draw(st.lists(st.integers(0, 2**bits - 1), max_size=40))
    packed = bitstream.pack_fixed(values, bits)
    assert packed.tobytes() == oracle.pack_fixed(values, bits)
    assert bitstream.unpack_fixed(packed, bits, len(values)).tolist() == values


@given(st.lists(st.booleans(), max_size=40))
def test_bitmask_round_trip(mask: list[bool]) -> None:
    """The same order as fields of one bit."""
    packed = bitstream.pack_bitmask(mask)
    assert packed.tobytes() == oracle.pack_fixed(mask, 1)
    assert bitstream.unpack_bitmask(packed, len(mask)).tolist() == mask


def test_empty() -> None:
    """Nothing is no byte."""
    assert bitstream.pack_fixed([], 7).size == 0
    assert bitstream.unpack_fixed(np.zeros(0, np.uint8), 7, 0).size == 0
    assert bitstream.unpack_bitmask(bitstream.pack_bitmask([]), 0).size == 0


@pytest.mark.parametrize("change", [-1, 1])
def test_wrong_length_is_an_error(change: int) -> None:
    """One byte too few or too many."""
    packed = bitstream.pack_fixed([1, 2, 3], 5)
    wrong = np.resize(packed, packed.size + change)
    with pytest.raises(FileFormatError) as caught:
        bitstream.unpack_fixed(wrong, 5, 3)
    assert str(caught.value) == (
        f"packed fields: expected 2 bytes for 3 fields of 5 bits; got {2 + change}; "
        "the data is damaged or of another layout"
    )
    with pytest.raises(FileFormatError, match="expected 1 bytes for 3 bits"):
        bitstream.unpack_bitmask(np.zeros(1 + change, np.uint8), 3)


def test_changed_padding_is_an_error() -> None:
    """Fields of 3 x 5 bits leave bit 15; a mask of 3 bits leaves bits 3 to 7."""
    packed = bitstream.pack_fixed([1, 2, 3], 5)
    packed[1] |= 0x80
    with pytest.raises(FileFormatError, match=r"expected zero padding after bit 15; got last byte 0x8c"):
        bitstream.unpack_fixed(packed, 5, 3)
    for bit in range(3, 8):
        with pytest.raises(FileFormatError, match="bitmask: expected zero padding"):
            bitstream.unpack_bitmask(np.array([5 | 1 << bit], np.uint8), 3)


def test_values_that_do_not_fit() -> None:
    """Too large, negative, not whole, and widths outside 1 to 16."""
    with pytest.raises(DchwError) as caught:
        bitstream.pack_fixed([0, 16], 4)
    assert str(caught.value) == "packed values: expected 0 to 15 in 4 bits; got 0 to 16; use more bits"
    with pytest.raises(DchwError, match="got -1 to 3"):
        bitstream.pack_fixed([3, -1], 4)
    with pytest.raises(DchwError, match="expected integers; got float64"):
        bitstream.pack_fixed([0.5], 4)
    for bits in (0, 17):
        with pytest.raises(DchwError, match=f"expected 1 to 16 bits; got {bits}"):
            bitstream.pack_fixed([0], bits)
