"""The smallest representation is found, by sizes that are those of the written bytes."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import dchw
from dchw.compression.compressed import Coding, Positions, Representation
from dchw.compression.layer_streams import decode_code_table, encode_code_table
from dchw.compression.recipe import Recipe, choose_representation
from dchw.compression.representation import candidates, explain
from dchw.compression.trim import Trim, read_trim
from dchw.compression.varint import Reader, varint
from dchw.container.layer_bytes import layer_bytes
from dchw.quantities import FileFormatError
from tests.compression.networks import compressed


def matrix(seed: int, density: float, rows: int = 24, columns: int = 70) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return np.where(rng.random((rows, columns)) < density, rng.integers(1, 8, (rows, columns)), 0).astype(np.uint8)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 99), st.sampled_from([0.01, 0.05, 0.3, 0.9, 1.0]), st.sampled_from([7, 4096]))
def test_computed_sizes_are_written_sizes(seed: int, density: float, chunk_entries: int) -> None:
    codes = matrix(seed, density)
    bias = np.zeros(24, np.float32)
    storage = Representation(codebook_bits=3, index_bits=4, chunk_entries=chunk_entries)
    for choice in candidates(codes, 8, bias, storage):
        network = compressed({"a": codes}, {"a": choice.representation}, biases={"a": bias})
        parts = layer_bytes(dataclasses.replace(network.layers[0], codebook=np.arange(8, dtype=np.float32))).parts
        assert choice.size_bytes == sum(parts.values()) - parts["header"] - parts["codebooks"], choice.representation


def test_every_choice_appears_once() -> None:
    assert len(candidates(matrix(0, 1.0), 8, None, Representation(codebook_bits=3))) == 4 + 4 + 2 + 2
    choices = candidates(matrix(0, 0.02), 8, None, Representation(codebook_bits=3))
    assert len(choices) == 2 * (4 + 4 + 2 + 2)
    written = {
        (
            c.representation.positions,
            c.representation.code_coding,
            c.representation.gap_coding,
            c.representation.trim,
            c.representation.index_bits,
        )
        for c in choices
    }
    assert len(written) == len(choices)


@pytest.mark.parametrize(
    ("density", "positions"),
    [(1.0, Positions.DENSE), (0.45, Positions.BITMASK), (0.02, Positions.ESCAPED_GAPS)],
)
def test_what_is_smallest_at_which_density(density: float, positions: Positions) -> None:
    chosen = choose_representation(matrix(1, density, 60, 200), 8, None, Representation(codebook_bits=3), index_bits=5)
    assert chosen.positions is positions


def test_nothing_is_smaller_than_what_is_chosen() -> None:
    codes = matrix(2, 0.1)
    chosen = choose_representation(codes, 8, None, Representation(codebook_bits=3))
    best = min(
        choice.size_bytes
        for bits in range(1, 13)
        for choice in candidates(codes, 8, None, Representation(codebook_bits=3, index_bits=bits))
    )
    network = compressed({"a": codes}, {"a": chosen})
    parts = layer_bytes(network.layers[0]).parts
    assert sum(parts.values()) - parts["header"] - parts["codebooks"] == best


def test_empty_rows_and_columns_are_trimmed_away() -> None:
    codes = matrix(3, 0.3, 200, 300)
    codes[::2] = 0
    codes[:, 100:] = 0
    bias = np.where(np.arange(200) % 2, 1.0, 0.0).astype(np.float32)
    chosen = choose_representation(codes, 8, bias, Representation(codebook_bits=3))
    assert chosen.trim
    found = layer_bytes(compressed({"a": codes}, {"a": chosen}, biases={"a": bias}).layers[0])
    # the 100 biases of rows without weights are zero and left out
    assert len(found.biases) == 400
    bias[0] = 1
    assert len(layer_bytes(compressed({"a": codes}, {"a": chosen}, biases={"a": bias}).layers[0]).biases) == 800


def test_explanations_name_every_kind_of_positions() -> None:
    packed = dchw.compress(
        dchw.Network.from_arrays("n", {"a": matrix(4, 0.2).astype(np.float32)}), Recipe(trim=False, codebook_bits=3)
    )
    layer = packed.layers[0]
    reasons = explain(layer)
    assert set(reasons) == {"gaps", "escaped_gaps", "bitmask", "dense"}
    assert min(reasons, key=lambda name: reasons[name]) == layer.representation.positions.value


@given(st.lists(st.integers(0, 2**63 - 1)))
def test_varints(values: list[int]) -> None:
    reader = Reader(np.frombuffer(b"".join(varint(value) for value in values), np.uint8))
    assert [reader.varint("x") for _ in values] == values
    assert reader.remaining == 0


@pytest.mark.parametrize("data", [b"", b"\x80", b"\x80\x00", b"\xff" * 10])
def test_varints_have_one_form(data: bytes) -> None:
    with pytest.raises(FileFormatError, match=r"^x: expected"):
        Reader(np.frombuffer(data, np.uint8)).varint("x")


def test_varints_by_hand() -> None:
    assert [varint(n).hex() for n in (0, 127, 128, 300)] == ["00", "7f", "8001", "ac02"]


@settings(max_examples=200)
@given(st.lists(st.integers(0, 12), max_size=80), st.integers(0, 1), st.integers(4, 6))
def test_code_tables(lengths: list[int], first: int, limit_bits: int) -> None:
    limit = 2**limit_bits - 1
    table = np.array([0] * first + [min(length, limit) for length in lengths], np.uint8)
    data = encode_code_table(table[first:], limit)
    reader = Reader(np.frombuffer(data, np.uint8))
    assert decode_code_table(reader, table.size, first, limit).tolist() == table.tolist()
    assert reader.remaining == 0


def test_long_runs_of_unused_symbols_take_few_bytes() -> None:
    lengths = np.zeros(256, np.uint8)
    lengths[[0, 255]] = 1
    # head 2 * 256 + 1 in two bytes; fields 1, then 254 zeros as 15 runs of 16 and one of 14, then 1: 34 of 4 bits
    assert len(encode_code_table(lengths, 12)) == 2 + 17


@settings(max_examples=100)
@given(st.lists(st.booleans(), min_size=1, max_size=90), st.lists(st.booleans(), min_size=1, max_size=9))
def test_trim_lists(columns: list[bool], rows: list[bool]) -> None:
    codes = np.outer(rows, columns).astype(np.uint8)
    trim = Trim.of(codes, np.zeros(len(rows), np.float32))
    reader = Reader(np.frombuffer(trim.encode(), np.uint8))
    again = read_trim(reader, len(rows), len(columns))
    assert reader.remaining == 0
    assert again.rows.tolist() == trim.rows.tolist()
    assert again.columns.tolist() == trim.columns.tolist()
    assert again.biases_left_out == trim.biases_left_out
    assert again.restore(trim.select(codes)).tolist() == codes.tolist()


def test_a_trim_list_by_hand() -> None:
    """20 columns, the first 12 unused: runs 12, 8 starting unused (mode 3); gamma 12 = 000 1 001, 8 = 000 1 000."""
    codes = np.zeros((1, 20), np.uint8)
    codes[0, 12:] = 1
    assert Trim.of(codes, None).encode() == bytes([3 << 2, 0b0_100_1_000, 0b00_000_1_00])


def test_fixed_width_is_taken_where_tables_do_not_pay() -> None:
    codes = np.arange(1, 8, dtype=np.uint8).reshape(1, 7)
    assert choose_representation(codes, 8, None, Representation(codebook_bits=3)).code_coding is Coding.FIXED
