"""Is each decoder style's timing what its docstring says, entry by entry?"""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import dchw
from dchw.config import build
from dchw.machines.units.huffman_decoder import RATE_UNIT, DecodeRate, DecoderStyle, HuffmanDecoder
from dchw.quantities import ConfigError, DchwError
from tests.oracles import units as oracle

PLENTY = (10_000, 1)
bits = st.lists(st.tuples(st.integers(0, 12), st.integers(1, 12)), min_size=1, max_size=60)


def decoder(**fields: object) -> HuffmanDecoder:
    return build(HuffmanDecoder, {"units": 1, **fields}, where="decoder")


def schedule(
    unit: HuffmanDecoder,
    pairs: list[tuple[int, int]],
    *,
    covered: list[int] | None = None,
    zeros: float = 0.0,
    supply: tuple[int, int] = PLENTY,
    chunks: list[int] | None = None,
) -> list[int]:
    gaps, codes = (np.array(column, np.uint8) for column in zip(*pairs, strict=True))
    weights = np.array(covered if covered is not None else [1] * len(pairs), np.int64)
    offsets = np.array(chunks if chunks is not None else [0, len(pairs)], np.int64)
    return unit.schedule(gaps, codes, weights, offsets, zeros, supply).tolist()


@given(bits, st.integers(1, 4))
def test_bit_serial(pairs: list[tuple[int, int]], rate: int) -> None:
    unit = decoder(style="bit_serial", bits_per_cycle=rate)
    assert schedule(unit, pairs) == oracle.bit_serial(*map(list, zip(*pairs, strict=True)), rate)


@given(bits)
def test_table(pairs: list[tuple[int, int]]) -> None:
    assert schedule(decoder(style="table"), pairs) == oracle.table([gap for gap, _ in pairs])


@given(bits, st.integers(12, 24), st.integers(1, 5))
def test_multi_symbol(pairs: list[tuple[int, int]], window: int, most: int) -> None:
    unit = decoder(style="multi_symbol", window_bits=window, max_symbols=most)
    assert schedule(unit, pairs) == oracle.multi_symbol(*map(list, zip(*pairs, strict=True)), window, most)


@given(st.lists(st.integers(1, 40), min_size=1, max_size=60), st.floats(0, 1))
def test_rate(covered: list[int], zeros: float) -> None:
    rates = {"rate_low": 8, "rate_high": 32, "zeros_low": 0.5, "zeros_high": 0.9}
    unit = decoder(style="rate", rate=rates)
    per_cycle = Fraction(round(DecodeRate(**rates).at(zeros) * RATE_UNIT), RATE_UNIT)
    found = schedule(unit, [(1, 1)] * len(covered), covered=covered, zeros=zeros)
    assert found == oracle.rate(covered, per_cycle)


def test_rate_between_the_published_points() -> None:
    # Arm's model: 8 weights a cycle up to 50 % zeros, 32 from 90 % on, linear between: (0.7 - 0.5) / 0.4 = half way
    rate = DecodeRate(rate_low=8, rate_high=32, zeros_low=0.5, zeros_high=0.9)
    assert [rate.at(z) for z in (0, 0.5, 0.9, 1)] == [8, 8, 32, 32]
    assert rate.at(0.7) == pytest.approx(20)


@given(bits, st.sampled_from(list(DecoderStyle)[:3]), st.integers(1, 40), st.integers(1, 5))
def test_bits_arrive_in_slots(pairs: list[tuple[int, int]], style: DecoderStyle, slot: int, every: int) -> None:
    unit = decoder(style=style.value)
    gaps, codes = map(list, zip(*pairs, strict=True))
    alone = schedule(unit, pairs)
    assert schedule(unit, pairs, supply=(slot, every)) == oracle.supplied(alone, gaps, codes, slot, every)


@given(bits, st.integers(1, 40), st.integers(1, 3))
def test_bits_that_come_fast_enough_make_nobody_wait(pairs: list[tuple[int, int]], slot: int, every: int) -> None:
    unit, longest = decoder(style="table"), max(gap + code for gap, code in pairs)
    if unit.one_a_cycle(longest, (slot, every)):
        assert schedule(unit, pairs, supply=(slot, every)) == list(range(len(pairs)))
    assert unit.one_a_cycle(longest, (longest * every, every))
    late = schedule(unit, [(0, 12)] * 99, supply=(12 * every - 1, every))  # a bit less, and some are late
    assert late != list(range(99))
    assert not unit.one_a_cycle(12, (12 * every - 1, every))
    assert not decoder(style="bit_serial").one_a_cycle(1, PLENTY)


@given(bits, st.integers(0, 60))
def test_every_chunk_starts_anew(pairs: list[tuple[int, int]], cut: int) -> None:
    unit = decoder(style="bit_serial")
    cut = min(cut, len(pairs))
    whole = schedule(unit, pairs, chunks=[0, cut, len(pairs)], supply=(7, 2))
    parts = [part for part in (pairs[:cut], pairs[cut:]) if part]
    assert whole == [cycle for part in parts for cycle in schedule(unit, part, supply=(7, 2))]


def test_worked_example() -> None:
    # gaps of 3, 1, 5 bits with codes of 4, 2, 1: serial at 2 bits a cycle needs max(2, 2), max(1, 1), max(3, 1) cycles
    pairs = [(3, 4), (1, 2), (5, 1)]
    assert schedule(decoder(style="bit_serial", bits_per_cycle=2), pairs) == [1, 2, 5]
    # two in one window of 6 bits: gaps 3 + 1 and codes 4 + 2 fit, the third gap does not
    assert schedule(decoder(style="multi_symbol", window_bits=6, max_symbols=4), pairs) == [0, 0, 1]


def test_rate_needs_its_section() -> None:
    with pytest.raises(ConfigError, match="expected a section 'rate' exactly when style is 'rate'"):
        decoder(style="rate")


def test_table_load() -> None:
    assert decoder(table_writes_per_cycle=4).table_load_cycles(37) == 10  # ceil(37 / 4)


def test_a_queue_shorter_than_a_cycles_symbols_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"output_queue of at least max_symbols.*got 1 for 2; make the queue longer"):
        build(HuffmanDecoder, {"units": 4, "style": "multi_symbol", "output_queue": 1}, where="huffman")


@pytest.mark.compiled
def test_queues_that_do_not_hold_what_a_cycle_completes_are_refused_with_the_length_that_does() -> None:
    """A decode unit for every element completes two steps of a lockstep array in a cycle."""
    network = dchw.load_network("lenet-300-100")
    changes = {"huffman.units": 64, "huffman.style": "multi_symbol"}
    phone = dchw.machine("phone-lpddr5x").replace_all(changes)
    with pytest.raises(DchwError, match=r"weights of 2 steps .* in a cycle.*raise huffman\.output_queue to 32$"):
        dchw.simulate(network, phone.replace("huffman.output_queue", 31), "palette-huffman")
    assert dchw.simulate(network, phone.replace("huffman.output_queue", 32), "palette-huffman").cycles > 0
