"""Are rows of weights that are stored without positions what lies there, and is what codes share seen or not there?"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dchw.compression.compressed import CompressedLayer
from dchw.formats import (
    STORAGE_FORMATS,
    DenseWeights,
    Entries,
    PackShape,
    pack,
    shared_values,
    storage_format,
    unpack,
    weight_matrix,
)
from dchw.formats.packing import decoded, weight_rows
from dchw.formats.packing.weight_rows import CodedRows, JobRows
from tests.mapping.layers import convolution, fully_connected
from tests.planting import in_plain_python

SHAPE = PackShape(elements=8, decoders=4)
DENSE = [name for name, form in STORAGE_FORMATS.items() if not form.positions]
LAYERS = {
    "fc": fully_connected(37, 50).layers[0],
    "conv": convolution(rows=70).layers[0],
    "grouped": convolution(channels=4, rows=8, groups=2).layers[0],
}


def unpacked_of(layer: CompressedLayer, storage: str) -> DenseWeights | Entries:
    return unpack(pack(layer, storage, SHAPE, value_bits=32))


@given(
    groups=st.integers(1, 3),
    columns=st.integers(1, 20),
    rows=st.integers(1, 70),
    first=st.integers(0, 220),
    count=st.integers(0, 220),
    scaled=st.booleans(),
    seed=st.integers(0, 99),
)
def test_rows_are_those_of_the_turned_matrix(
    groups: int, columns: int, rows: int, first: int, count: int, scaled: bool, seed: int
) -> None:
    """Any rows, across groups, beyond the last, none; tiles that do not come out even."""
    rng = np.random.default_rng(seed)
    words = rng.integers(0, 200, (groups, columns, rows), dtype=np.uint8)
    scales = rng.random(groups * rows, dtype=np.float32) if scaled else None
    found = JobRows(words, lambda part: part.astype(np.float32), scales)
    expected = words.transpose(0, 2, 1).reshape(groups * rows, columns).astype(np.float32)
    if scales is not None:
        expected = expected * scales[:, None]
    assert found.shape == expected.shape
    np.testing.assert_array_equal(found[first : first + count], expected[first : first + count])


@pytest.mark.parametrize("storage", DENSE)
@pytest.mark.parametrize("layer", LAYERS.values(), ids=LAYERS)
def test_some_rows_are_some_of_the_matrix(layer: CompressedLayer, storage: str) -> None:
    unpacked = unpacked_of(layer, storage)
    assert isinstance(unpacked, DenseWeights)
    matrix = weight_matrix(unpacked)
    for first in range(0, matrix.shape[0], 5):
        np.testing.assert_array_equal(unpacked.matrix[first : first + 5], matrix[first : first + 5])


@pytest.mark.parametrize("storage", STORAGE_FORMATS)
@pytest.mark.parametrize("layer", LAYERS.values(), ids=LAYERS)
def test_values_of_codes_give_the_matrix(layer: CompressedLayer, storage: str) -> None:
    """All formats but those with a scale a channel; codes without a weight have no value."""
    codes = np.where(layer.codes == 2, 1, layer.codes).astype(layer.codes.dtype)
    layer = replace(layer, codes=codes)
    values, matrix = shared_values(unpacked_of(layer, storage), layer), weight_matrix(unpacked_of(layer, storage))
    if values is None:
        assert storage == "dense-int8"
        return
    assert storage in ("palette", "palette-huffman") or np.isnan(values[2])
    np.testing.assert_array_equal(CodedRows(layer.matrix_codes, values)[:].view(np.uint32), matrix.view(np.uint32))


@pytest.mark.parametrize("storage", STORAGE_FORMATS)
def test_a_shared_value_of_zero(storage: str) -> None:
    """Formats without codes do not store it; what it decodes to is +0.0 all the same."""
    layer = LAYERS["fc"]
    codebook = layer.codebook.copy()
    codebook[1] = 0.0
    layer = replace(layer, codebook=codebook)
    values = shared_values(unpacked_of(layer, storage), layer)
    assert storage == "dense-int8" or (values is not None and values.view(np.uint32)[1] == 0)


@pytest.mark.parametrize("storage", [name for name in STORAGE_FORMATS if storage_format(name).positions])
def test_entries_of_one_code_that_differ_are_seen(storage: str) -> None:
    """Planted: the last entry's value, one entry that is a filler, one at a place where no weight is."""
    layer = LAYERS["fc"]
    entries = unpacked_of(layer, storage)
    assert isinstance(entries, Entries)
    weights = np.flatnonzero(~entries.is_filler)
    value, filler, row = entries.value.copy(), entries.is_filler.copy(), entries.row.copy()
    value[weights[-1]] *= 2
    filler[weights[0]] = True
    row[weights[0]] = next(r for r in range(0, 37, 8) if layer.matrix_codes[r + row[weights[0]] % 8, 0] == 0)
    for changed in ({"value": value}, {"is_filler": filler}, {"row": row}):
        assert shared_values(replace(entries, **changed), layer) is None


@pytest.mark.parametrize("storage", ["dense-fp32", "dense-fp16"])
def test_a_weight_that_is_not_as_others_of_its_code_is_seen(storage: str) -> None:
    """Planted: one bit of one weight. Its row has it."""
    layer = LAYERS["conv"]
    packed = pack(layer, storage, SHAPE, value_bits=32)
    stream = storage_format(storage).values
    data = packed.regions[stream].copy()
    data[-1] ^= 1
    changed = unpack(replace(packed, regions={**packed.regions, stream: data}))
    assert shared_values(changed, layer) is None
    assert isinstance(changed, DenseWeights)
    assert (changed.matrix[60:][:] != weight_matrix(unpack(packed))[60:]).sum() == 1


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("if of_codes[code] != UNUSED:", "if False:"),
        ("at]), mine[np.uint64(column)]", "at]), mine[0]"),
        ("= words[np.uint64(column), at]", "= words[np.uint64(column), row - 1]"),
        ("values[mine[np.uint64(column)]]", "values[mine[0]]"),
    ],
)
def test_planted_faults_are_caught(monkeypatch: pytest.MonkeyPatch, right: str, wrong: str) -> None:
    for name, function in in_plain_python(weight_rows, right, wrong).items():
        if name in ("_look_up", "_turn", "_same_of_codes"):
            monkeypatch.setattr(weight_rows, name, function)
    check = test_a_weight_that_is_not_as_others_of_its_code_is_seen if "UNUSED" in right else None
    with pytest.raises((AssertionError, IndexError)):
        check("dense-fp16") if check else test_values_of_codes_give_the_matrix(LAYERS["conv"], "dense-fp32")


def test_a_planted_fault_of_entries_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    right = "if code == 0:\n                    return -1"
    planted = in_plain_python(decoded, right, right.replace("-1", "found"))
    monkeypatch.setattr(decoded, "_same_of_codes", planted["_same_of_codes"])
    with pytest.raises(AssertionError):
        test_entries_of_one_code_that_differ_are_seen("csr")
