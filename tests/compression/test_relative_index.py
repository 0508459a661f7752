"""Relative index: does every position come back, at and beyond the largest gap, and is a damaged run seen?"""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dchw.compression import relative_index as index
from dchw.quantities import DchwError, FileFormatError
from tests.oracles import compress as oracle


@st.composite
def runs(draw: st.DrawFn) -> tuple[list[int], int]:
    """Positions whose gaps lie around the largest gap and its multiples, and the index bits."""
    bits = draw(st.integers(1, 16))
    reach = 2**bits
    near = st.builds(lambda times, off: max(times * reach + off, 0), st.integers(0, 3), st.integers(-3, 3))
    gaps = draw(st.lists(st.one_of(st.just(0), near), max_size=12))
    return (np.cumsum(np.array(gaps, dtype=np.int64) + 1) - 1).tolist(), bits


def test_worked_example_of_the_published_files() -> None:
    """Weights 0 0 a, 20 zeros, b: gaps 2, 15, 4, codes a, 0, b; positions 2, 18, 23."""
    gaps, codes = index.encode_gaps([2, 23], [7, 9], 4)
    assert (gaps.tolist(), codes.tolist()) == ([2, 15, 4], [7, 0, 9])
    assert index.decode_runs(gaps, codes, [0, 3], 4).tolist() == [2, 18, 23]
    dense = index.decode_gaps(gaps, codes, 30, 4)
    assert dense[[2, 23]].tolist() == [7, 9]
    assert np.count_nonzero(dense) == 2


@pytest.mark.parametrize(
    ("zeros", "gaps", "escapes"),
    [
        (14, [14], [14]),
        (15, [15], [15, 0]),
        (16, [15, 0], [15, 1]),
        (30, [15, 14], [15, 15, 0]),
        (31, [15, 15], [15, 15, 1]),
        (32, [15, 15, 0], [15, 15, 2]),
    ],
)
def test_gaps_at_the_limit(zeros: int, gaps: list[int], escapes: list[int]) -> None:
    """Four bits reach 15: a filler covers 16 zeros and an escape 15."""
    assert index.encode_gaps([zeros], [1], 4)[0].tolist() == gaps
    assert index.encode_escaped([zeros], 4).tolist() == escapes


@given(runs())
def test_fillers_against_the_oracle(run: tuple[list[int], int]) -> None:
    """Entries as counted by hand, and back."""
    positions, bits = run
    codes = [1 + i % 5 for i in range(len(positions))]
    gaps, entry_codes = index.encode_gaps(positions, codes, bits)
    assert list(zip(gaps.tolist(), entry_codes.tolist(), strict=True)) == oracle.entries(positions, codes, bits)
    size = positions[-1] + 1 if positions else 0
    dense = index.decode_gaps(gaps, entry_codes, size + 3, bits)
    assert np.flatnonzero(dense).tolist() == positions
    assert dense[positions].tolist() == codes
    if size < 5000:
        assert dense.tolist() == oracle.dense_codes(gaps, entry_codes, size + 3)


@given(runs())
def test_escapes_against_the_oracle(run: tuple[list[int], int]) -> None:
    """Gap values as counted zero by zero, and back."""
    positions, bits = run
    gaps = index.encode_escaped(positions, bits)
    assert index.decode_escaped(gaps, bits).tolist() == positions
    if not positions or positions[-1] < 5000:
        assert gaps.tolist() == oracle.escaped(positions, bits)


@given(st.integers(1, 6), st.lists(st.lists(st.booleans(), max_size=80), max_size=6))
def test_gaps_restart_in_every_run(bits: int, masks: list[list[bool]]) -> None:
    """Many runs at once give the same as one after the other; empty runs included."""
    positions = [np.flatnonzero(np.array(mask, dtype=bool)) for mask in masks]
    codes = [position % 7 + 1 for position in positions]
    offsets = np.concatenate([[0], np.cumsum([p.size for p in positions])]).astype(np.int64)
    empty = np.zeros(0, np.int64)
    gaps, entry_codes, out = index.encode_runs(
        np.concatenate([*positions, empty]), np.concatenate([*codes, empty]), offsets, bits
    )
    decoded = index.decode_runs(gaps, entry_codes, out, bits)
    for i, (position, code) in enumerate(zip(positions, codes, strict=True)):
        part = slice(out[i], out[i + 1])
        one_gaps, one_codes = index.encode_gaps(position, code, bits)
        assert (gaps[part] == one_gaps).all()
        assert (entry_codes[part] == one_codes).all()
        assert (decoded[part][entry_codes[part] > 0] == position).all()


def test_planted_fault_a_lost_filler() -> None:
    """Without its filler the run still decodes, but not to the same weights, and the last one no longer fits."""
    gaps, codes = index.encode_gaps([2, 23], [7, 9], 4)
    lost = index.decode_gaps(np.delete(gaps, 1), np.delete(codes, 1), 24, 4)
    assert (lost != index.decode_gaps(gaps, codes, 24, 4)).any()
    twice = np.insert(gaps, 1, 15), np.insert(codes, 1, 0)
    with pytest.raises(FileFormatError) as caught:
        index.decode_gaps(*twice, 24, 4)
    assert str(caught.value) == (
        "relative index: expected entries within 24 weights; got one at position 39; the data is damaged"
    )


def test_damaged_entries() -> None:
    """A code 0 that is no filler, a run that ends in a filler, a gap too large, counts that disagree."""
    with pytest.raises(FileFormatError) as caught:
        index.decode_gaps([3, 1], [0, 1], 10, 4)
    assert str(caught.value) == (
        "relative index: expected every code 0 to be a filler of gap 15; got gap 3; the data is damaged"
    )
    with pytest.raises(FileFormatError, match="expected a weight as a run's last entry; got a filler"):
        index.decode_runs([15, 2], [0, 1], [0, 1, 2], 4)
    with pytest.raises(FileFormatError, match="expected gaps of 4 bits; got 16"):
        index.decode_gaps([16], [1], 100, 4)
    with pytest.raises(FileFormatError, match="got 2 gaps and 1 codes"):
        index.decode_gaps([1, 1], [1], 10, 4)
    with pytest.raises(FileFormatError, match="expected run offsets that rise from 0 to 2"):
        index.decode_runs([1, 1], [1, 1], [0, 3, 2], 4)
    with pytest.raises(FileFormatError, match="expected a gap as the last value; got an escape"):
        index.decode_escaped([1, 15], 4)
    with pytest.raises(FileFormatError, match="expected gaps of 4 bits; got 16"):
        index.decode_escaped([16], 4)


def test_what_is_refused() -> None:
    """Positions that do not ascend, codes of 0, missing codes, index bits out of range."""
    for positions in ([3, 3], [3, 2], [-1, 2]):
        with pytest.raises(DchwError, match="expected strictly ascending positions"):
            index.encode_gaps(positions, [1, 1], 4)
        with pytest.raises(DchwError, match="expected strictly ascending positions"):
            index.encode_escaped(positions, 4)
    with pytest.raises(DchwError, match="got code 0"):
        index.encode_gaps([1, 2], [1, 0], 4)
    with pytest.raises(DchwError, match="expected a code for each of 2 positions; got 1"):
        index.encode_gaps([1, 2], [1], 4)
    for bits in (0, 17):
        with pytest.raises(DchwError, match=f"expected 1 to 16 index bits; got {bits}"):
            index.encode_gaps([1], [1], bits)
