"""Huffman coding: are lengths optimal, words canonical, chunks lossless, and is every damaged bit refused?"""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dchw.compression import huffman
from dchw.quantities import DchwError, FileFormatError
from tests.oracles import compress as oracle


@st.composite
def coded(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    """Symbols and code lengths: alphabets of 1 to 300, skewed or even, limits from the smallest possible on."""
    alphabet = draw(st.sampled_from([1, 2, 3, 4, 16, 40, 256, 300]))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    shares = rng.random(alphabet) ** draw(st.sampled_from([0, 1, 8, 40]))
    count = draw(st.one_of(st.integers(0, 70), st.sampled_from([500, 3000])))
    symbols = rng.choice(alphabet, count, p=shares / shares.sum())
    counts = np.bincount(symbols, minlength=alphabet)
    least = max(huffman.minimum_limit(np.count_nonzero(counts)), 1)
    limit = draw(st.sampled_from([least, min(least + 1, 16), max(least, 12), 16]))
    return symbols, huffman.code_lengths(counts, limit)


def test_alphabets_of_none_one_and_two() -> None:
    """Nothing has no code; one symbol the bit 0; two symbols the bits 0 and 1."""
    assert huffman.code_lengths(np.array([0, 0]), 12).tolist() == [0, 0]
    assert huffman.code_lengths(np.array([0, 5, 0]), 12).tolist() == [0, 1, 0]
    assert huffman.canonical_codes([0, 1, 0]).tolist() == [0, 0, 0]
    assert huffman.code_lengths(np.array([9, 0, 1]), 1).tolist() == [1, 0, 1]
    assert huffman.canonical_codes([1, 0, 1]).tolist() == [0, 0, 1]


def test_golden_words() -> None:
    """The example of RFC 1951, 3.2.2: 010 011 100 101 110 00 1110 1111, here with the first bit lowest."""
    words = huffman.canonical_codes([3, 3, 3, 3, 3, 2, 4, 4])
    assert words.dtype == np.uint32
    assert words.tolist() == [0b010, 0b110, 0b001, 0b101, 0b011, 0b00, 0b0111, 0b1111]


def test_golden_bits() -> None:
    """Lengths 1, 2, 3, 3 have the words 0 10 110 111. Symbols 3 0 1 2 1 are 111 0 10 110 10, first bit lowest:
    byte 0 = 11010111 read from the right, byte 1 = 010, so 0xD7 0x02."""
    assert huffman.code_lengths([8, 4, 2, 1], 3).tolist() == [1, 2, 3, 3]
    data, bits = huffman.encode(np.array([3, 0, 1, 2, 1]), [1, 2, 3, 3])
    assert bits == 11
    assert data.tobytes() == b"\xd7\x02"
    assert huffman.decode(data, 5, [1, 2, 3, 3]).tolist() == [3, 0, 1, 2, 1]


@given(st.lists(st.integers(0, 40), min_size=1, max_size=6), st.integers(0, 2))
def test_lengths_are_optimal_under_the_limit(counts: list[int], slack: int) -> None:
    """No prefix code with words within the limit is shorter: all are tried."""
    limit = max(huffman.minimum_limit(np.count_nonzero(counts)), 1) + slack
    lengths = huffman.code_lengths(np.array(counts), limit)
    assert huffman.coded_bits(counts, lengths) == oracle.optimal_coded_bits(counts, limit)
    assert lengths.max() <= limit
    assert ((lengths > 0) == (np.array(counts) > 0)).all()


@pytest.mark.parametrize("limit", [6, 7, 16])
def test_lengths_of_fibonacci_counts(limit: int) -> None:
    """Without a limit Fibonacci counts give a word one bit longer for each symbol; the limit cuts exactly there."""
    counts = [1, 1]
    while len(counts) < 16:
        counts.append(counts[-1] + counts[-2])
    lengths = huffman.code_lengths(np.array(counts), limit)
    assert lengths.max() == min(limit, 15)
    if limit == 16:
        assert lengths.tolist() == [15, *range(15, 0, -1)]


def test_ties_are_decided_by_the_symbol() -> None:
    """Three equal counts: the lowest symbol gets the short word; six: the two lowest."""
    assert huffman.code_lengths([5, 5, 5], 12).tolist() == [1, 2, 2]
    assert huffman.code_lengths([1] * 6, 12).tolist() == [2, 2, 3, 3, 3, 3]


def test_limit_must_tell_symbols_apart() -> None:
    """Five symbols need three bits; the least limit gives all words that length or less."""
    with pytest.raises(DchwError) as caught:
        huffman.code_lengths([1] * 5, 2)
    assert str(caught.value) == (
        "code lengths: expected a limit of 3 to 16 bits for 5 symbols; got 2; change the limit"
    )
    assert huffman.code_lengths([1000, 1, 1, 1], 2).tolist() == [2, 2, 2, 2]
    with pytest.raises(DchwError, match="expected a limit of 1 to 16 bits for 0 symbols; got 17"):
        huffman.code_lengths([], 17)
    with pytest.raises(DchwError, match="expected counts of 0 and above"):
        huffman.code_lengths([-1, 2], 12)


@given(coded())
def test_words_are_canonical(case: tuple[np.ndarray, np.ndarray]) -> None:
    """The same words as counting them up as text."""
    _, lengths = case
    words = huffman.canonical_codes(lengths)
    for symbol, text in oracle.canonical_words(lengths).items():
        assert format(words[symbol], f"0{len(text)}b")[::-1] == text


@given(coded(), st.integers(1, 900))
def test_round_trip_against_the_oracle(case: tuple[np.ndarray, np.ndarray], chunk: int) -> None:
    """Chunks of any size: the same bytes as word after word, the same symbols back."""
    symbols, lengths = case
    offsets = np.unique(np.append(np.arange(0, symbols.size, chunk), symbols.size))
    offsets = offsets if offsets.size > 1 else np.array([0, symbols.size])
    data, byte_offsets = huffman.encode_chunks(symbols, offsets, lengths)
    for i in range(offsets.size - 1):
        part = symbols[offsets[i] : offsets[i + 1]]
        assert data[byte_offsets[i] : byte_offsets[i + 1]].tobytes() == oracle.huffman_encode(part, lengths)[0]
    decoded = huffman.decode_chunks(data, byte_offsets, offsets, lengths)
    assert decoded.dtype == (np.uint8 if len(lengths) <= 256 else np.uint16)
    assert (decoded == symbols).all()
    assert huffman.symbol_bits(symbols, lengths).sum(dtype=np.int64) == huffman.coded_bits(
        np.bincount(symbols, minlength=len(lengths)), lengths
    )


@settings(max_examples=200)
@given(st.data())
def test_damaged_bits_are_judged_as_the_oracle_does(data: st.DataObject) -> None:
    """Arbitrary bytes under arbitrary codes: the same symbols or a refusal for the same reason."""
    _, lengths = data.draw(coded())
    content = data.draw(st.binary(max_size=60))
    count = data.draw(st.integers(0, 8 * len(content)))
    reasons = {
        "unused word": "unused word",
        "ended early": "end of the chunk|at least one bit per symbol|bytes of one-bit words",
        "bytes left": "more bytes behind it|bytes of one-bit words",
        "padding": "expected zero padding|unused word",
    }
    if not np.count_nonzero(lengths) and count:
        reasons["ended early"] = reasons["unused word"] = "expected a code table"
    try:
        expected = oracle.huffman_decode(content, count, lengths)
    except ValueError as fault:
        reason = reasons[str(fault)]
        if np.count_nonzero(lengths) == 1:
            reason = "bytes of one-bit words|unused word"
        with pytest.raises(FileFormatError, match=reason):
            huffman.decode(np.frombuffer(content, np.uint8), count, lengths)
    else:
        assert huffman.decode(np.frombuffer(content, np.uint8), count, lengths).tolist() == expected


def test_empty_chunks_between_others() -> None:
    """Chunks without symbols take no byte, also when more of them than strands follow each other."""
    offsets = np.array([0, 0, 0, 3, 3, 3, 3, 3, 3, 7, 7])
    symbols = np.array([0, 1, 2, 3, 3, 2, 1])
    data, byte_offsets = huffman.encode_chunks(symbols, offsets, [2, 2, 2, 2])
    assert np.diff(byte_offsets).tolist() == [0, 0, 1, 0, 0, 0, 0, 0, 1, 0]
    assert huffman.decode_chunks(data, byte_offsets, offsets, [2, 2, 2, 2]).tolist() == symbols.tolist()
    none, bits = huffman.encode([], [1, 1])
    assert (none.size, bits, huffman.decode(none, 0, [1, 1]).size) == (0, 0, 0)


@pytest.mark.parametrize("alphabet", [16, 300])
def test_chunks_of_many_sizes_in_lockstep(alphabet: int) -> None:
    """Long and short chunks mixed: strands end at different times, and none writes into its neighbour."""
    rng = np.random.default_rng(3)
    symbols = np.minimum(rng.geometric(0.25, 40_000) - 1, alphabet - 1)
    lengths = huffman.code_lengths(np.bincount(symbols, minlength=alphabet), 12)
    offsets = np.unique(np.concatenate([[0, symbols.size], rng.integers(0, symbols.size, 60)]))
    data, byte_offsets = huffman.encode_chunks(symbols, offsets, lengths)
    assert (huffman.decode_chunks(data, byte_offsets, offsets, lengths) == symbols).all()


def test_one_symbol_of_the_alphabet_only() -> None:
    """A stream of one symbol is zeros; a set bit is an unused word, a missing byte or one more is seen."""
    lengths = huffman.code_lengths([0, 0, 9], 12)
    data, bits = huffman.encode([2] * 9, lengths)
    assert (data.tolist(), bits) == ([0, 0], 9)
    assert huffman.decode(data, 9, lengths).tolist() == [2] * 9
    with pytest.raises(FileFormatError) as caught:
        huffman.decode(np.array([0, 1], np.uint8), 9, lengths)
    assert str(caught.value) == (
        "Huffman chunk 0: expected only the one code word 0; got an unused word; the data is damaged"
    )
    for size in (1, 3):
        with pytest.raises(FileFormatError, match=f"expected 2 bytes of one-bit words; got {size}|at least one bit"):
            huffman.decode(np.zeros(size, np.uint8), 9, lengths)


def test_planted_fault_a_wrong_code_length() -> None:
    """Lengths that no longer form a complete code are refused; complete but swapped ones give other symbols."""
    symbols = np.array([3, 0, 1, 2, 1])
    data, _ = huffman.encode(symbols, [1, 2, 3, 3])
    with pytest.raises(FileFormatError) as caught:
        huffman.decode(data, 5, [1, 2, 3, 2])
    assert str(caught.value) == (
        "code lengths: expected a complete code; got too many words (words fill 1.125 of the code space); "
        "the code table is damaged"
    )
    with pytest.raises(FileFormatError, match=r"got unused words \(words fill 0.9375 of the code space\)"):
        huffman.decode(data, 5, [1, 2, 3, 4])
    with pytest.raises(FileFormatError, match="got unused words"):
        huffman.canonical_codes([0, 2, 0])
    with pytest.raises(FileFormatError, match="expected 0 to 16 bits; got 1 to 17"):
        huffman.canonical_codes([1, 17])
    assert huffman.decode(*huffman.encode(symbols, [1, 2, 3, 3])[:1], 5, [1, 3, 2, 3]).tolist() != symbols.tolist()


def test_planted_fault_changed_padding_and_lost_bytes() -> None:
    """Each bit behind the last word, a byte less, a byte more, offsets that disagree: each its own message."""
    lengths = [1, 2, 3, 3]
    data, _ = huffman.encode([3, 0, 1, 2, 1], lengths)
    for bit in range(3, 8):
        wrong = data.copy()
        wrong[1] |= 1 << bit
        with pytest.raises(FileFormatError, match="chunk 0: expected zero padding behind the last code word; got set"):
            huffman.decode(wrong, 5, lengths)
    with pytest.raises(FileFormatError) as caught:
        huffman.decode(data[:1], 5, lengths)
    assert str(caught.value) == ("Huffman chunk 0: expected more bits; got the end of the chunk; the data is damaged")
    with pytest.raises(FileFormatError, match="expected the chunk's last byte; got more bytes behind it"):
        huffman.decode(np.append(data, np.uint8(0)), 5, lengths)
    with pytest.raises(FileFormatError, match="expected offsets that rise from 0 to 2 bytes"):
        huffman.decode_chunks(data, [0, 3], [0, 5], lengths)
    with pytest.raises(FileFormatError, match="equally many chunks; got 2 and 1"):
        huffman.decode_chunks(data, [0, 1, 2], [0, 5], lengths)
    with pytest.raises(FileFormatError, match="got one without symbols"):
        huffman.decode(data, 5, [0, 0])


def test_planted_fault_a_flipped_bit_in_a_long_stream() -> None:
    """A flip in the fast part of a chunk changes its symbols or is refused; other chunks stay as they were."""
    rng = np.random.default_rng(5)
    symbols = np.minimum(rng.geometric(0.3, 4000) - 1, 15)
    lengths = huffman.code_lengths(np.bincount(symbols, minlength=16), 12)
    offsets = np.arange(0, 4001, 1000)
    data, byte_offsets = huffman.encode_chunks(symbols, offsets, lengths)
    for at in rng.integers(0, byte_offsets[2], 100):
        wrong = data.copy()
        wrong[at] ^= 1 << rng.integers(8)
        try:
            decoded = huffman.decode_chunks(wrong, byte_offsets, offsets, lengths)
        except FileFormatError:
            continue
        assert (decoded[:2000] != symbols[:2000]).any()
        assert (decoded[2000:] == symbols[2000:]).all()


@pytest.mark.parametrize(
    ("alphabet", "ratio", "limit"), [(16, 0.7, 12), (256, 1.0, 12), (300, 0.98, 12), (24, 0.5, 16)]
)
def test_hostile_chunk_while_all_strands_run(alphabet: int, ratio: float, limit: int) -> None:
    """One chunk's bytes are replaced and its neighbours read into: the oracle's symbols or refusal, chunk by chunk.

    Zeros are the shortest word over and over and leave bytes; ones are the longest and run on through the neighbours.
    """
    rng = np.random.default_rng(alphabet)
    shares = ratio ** np.arange(alphabet)
    symbols = rng.choice(alphabet, 4200, p=shares / shares.sum())
    lengths = huffman.code_lengths(np.bincount(symbols, minlength=alphabet), limit)
    offsets = np.append(np.arange(0, symbols.size, 200), symbols.size)
    data, byte_offsets = huffman.encode_chunks(symbols, offsets, lengths)
    for chunk in (0, 7, 10, 20):
        own = slice(byte_offsets[chunk], byte_offsets[chunk + 1])
        size = own.stop - own.start
        random = rng.integers(0, 256, size, dtype=np.uint8)
        for content in (np.zeros(size, np.uint8), np.full(size, 255, np.uint8), random, np.roll(data[own], 1)):
            wrong = data.copy()
            wrong[own] = content
            try:
                expected = oracle.huffman_decode(content, 200, lengths)
            except ValueError:
                with pytest.raises(FileFormatError, match=f"^Huffman chunk {chunk}: "):
                    huffman.decode_chunks(wrong, byte_offsets, offsets, lengths)
            else:
                decoded = huffman.decode_chunks(wrong, byte_offsets, offsets, lengths)
                assert (
                    decoded == np.concatenate([symbols[: 200 * chunk], expected, symbols[200 * chunk + 200 :]])
                ).all()


def test_symbols_without_a_code_are_refused() -> None:
    """In short and in long streams, in the alphabet and beyond it."""
    symbols = np.zeros(9000, np.int64)
    symbols[8999] = 2
    for part in (symbols, symbols[-3:]):
        for call in (lambda s: huffman.encode(s, [1, 1, 0, 0]), lambda s: huffman.symbol_bits(s, [1, 1, 0, 0])):
            with pytest.raises(DchwError, match="expected symbols that have a code; got one without"):
                call(part)
    with pytest.raises(DchwError, match="expected symbols of 0 to 1; got 0 to 2"):
        huffman.encode(symbols, [1, 1])
    with pytest.raises(DchwError, match="expected integer symbols; got float64"):
        huffman.encode([0.5], [1, 1])


def test_largest_alphabet() -> None:
    """65,536 symbols of 16 bits each."""
    symbols = np.arange(1 << 16)[::-1]
    lengths = huffman.code_lengths(np.bincount(symbols), 16)
    assert (lengths == 16).all()
    data, bits = huffman.encode(symbols, lengths)
    assert bits == 16 << 16
    assert (huffman.decode(data, 1 << 16, lengths) == symbols).all()
