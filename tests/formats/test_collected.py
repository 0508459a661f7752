"""Are the weights of a layer found, each on its run and in its place, and bytes let go of written again?"""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dchw.compression.bitstream import lowest_bit
from dchw.compression.compressed import CompressedLayer
from dchw.formats import STORAGE_FORMATS, LayerParameters, PackShape, released, storage_format
from dchw.formats.packing import fields, stored_runs
from dchw.formats.packing.regions import Regions, Unwritten
from dchw.formats.packing.run_layout import run_layout
from dchw.vocabulary import Stream
from tests.mapping.layers import convolution, fully_connected
from tests.oracles import storage as oracle
from tests.planting import in_plain_python

SHAPES = [PackShape(elements=8, decoders=4), PackShape(elements=4, decoders=8), PackShape(elements=16, decoders=1)]
LAYERS = {
    "fc": fully_connected(37, 520).layers[0],  # columns in words of eight, more than a block
    "odd": fully_connected(37, 301).layers[0],
    "grouped": convolution(channels=4, rows=8, groups=2).layers[0],
}


def thinned(layer: CompressedLayer, share: float) -> CompressedLayer:
    """A layer of which so many weights stay."""
    stay = np.random.default_rng(0).random(layer.codes.shape) < share
    codes = np.where(stay, np.maximum(layer.codes, 1), 0).astype(layer.codes.dtype)
    return replace(layer, codes=codes)


def expect_collected(layer: CompressedLayer, shape: PackShape, *, coded: bool) -> None:
    position, code, offsets = stored_runs.collect_runs(layer, run_layout(layer.geometry, shape), coded=coded).arrays
    runs = oracle.section_runs(layer, shape, coded=coded)
    assert np.diff(offsets).tolist() == [len(run) for run in runs]
    assert list(zip(position.tolist(), code.tolist(), strict=True)) == [entry for run in runs for entry in run]


@pytest.mark.parametrize("share", [0.0, 0.02, 0.1, 0.5, 1.0])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("layer", LAYERS.values(), ids=LAYERS)
def test_runs_are_those_of_a_walk_over_the_weights(layer: CompressedLayer, shape: PackShape, share: float) -> None:
    """Few weights, which are looked for, and many; none; gaps over several words; codes of 16 bits."""
    thin = thinned(layer, share)
    for one in (thin, replace(thin, codes=thin.codes.astype(np.uint16))):
        expect_collected(one, shape, coded=True)


def test_a_shared_value_of_zero_is_stored_only_with_its_code() -> None:
    codebook = LAYERS["fc"].codebook.copy()
    codebook[1] = 0.0
    for coded in (True, False):
        expect_collected(replace(thinned(LAYERS["fc"], 0.1), codebook=codebook), SHAPES[0], coded=coded)


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("_WORD * filled[k] + byte - first", "_WORD * filled[k] - byte - first"),
        ("there &= there - np.uint64(1)", "there = there & there - np.uint64(1) & there >> np.uint64(1)"),
        ("range(first // _WORD, end // _WORD)", "range(first // _WORD, end // _WORD - 1)"),
        ("first_run += (end - first) * slots", "first_run += end - first"),
    ],
)
def test_planted_faults_are_caught(monkeypatch: pytest.MonkeyPatch, right: str, wrong: str) -> None:
    planted = in_plain_python(stored_runs, right, wrong)
    monkeypatch.setattr(stored_runs, "_collect", planted["_collect"])
    with pytest.raises((AssertionError, IndexError)):
        expect_collected(thinned(LAYERS["fc"], 0.1), SHAPES[0], coded=True)


@given(st.integers(1, 2**64 - 1))
def test_the_lowest_bit(word: int) -> None:
    found = lowest_bit(np.uint64(word))
    assert word & (1 << found)
    assert word % (1 << found) == 0


@given(st.integers(0, 32), st.lists(st.integers(0, 40), max_size=5), st.integers(0, 99))
def test_fields_eight_at_a_time_are_the_same(bits: int, sizes: list[int], seed: int) -> None:
    """Widths that fill whole bytes by eights, and all others; chunks of none, of some and of a few more than eights."""
    offsets = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
    values = np.random.default_rng(seed).integers(0, 1 << bits, int(offsets[-1]), dtype=np.uint32)
    data, _ = fields.pack_fields(values, offsets, bits)
    walk = oracle.Bits()
    for first, end in itertools.pairwise(offsets):
        for value in values[first:end].tolist():
            walk.field(value, bits)
        walk.align()
    assert data.tobytes() == walk.data()
    assert fields.unpack_fields(data, offsets, bits, "here").tolist() == values.tolist()
    assert fields.unpack_fields(data, offsets, bits, "here", narrow=True).tolist() == values.tolist()


@pytest.mark.parametrize("storage", STORAGE_FORMATS)
def test_bytes_that_were_let_go_are_the_same_when_they_are_read_again(storage: str) -> None:
    layer, parameters = LAYERS["grouped"], LayerParameters(has_bias=LAYERS["grouped"].bias is not None)
    packed = storage_format(storage).lay_out(layer, SHAPES[0], parameters)
    before = {stream: packed.regions[stream].copy() for stream in packed.regions}
    held = packed.held_bytes
    assert released(packed).held_bytes <= held
    assert {stream: data.tobytes() for stream, data in packed.regions.items()} == {
        stream: data.tobytes() for stream, data in before.items()
    }


def test_only_what_is_written_from_nothing_that_is_held_is_let_go() -> None:
    made: list[str] = []

    def region(name: str, held: int) -> Unwritten:
        def write() -> np.ndarray:
            made.append(name)
            return np.ones(3, np.uint8)

        return Unwritten(size=3, held=held, write=write)

    regions = Regions({Stream.CODES: region("free", 0), Stream.GAPS: region("held", 9)})
    assert regions.held == 9
    for _ in range(2):
        copy = Regions(regions)
        assert copy[Stream.CODES].size == copy[Stream.GAPS].size == 3
        assert regions[Stream.CODES].size == regions[Stream.GAPS].size == 3
        regions.release()
    assert made == ["free", "held", "free", "held", "free", "free"]
    assert regions.held == 3
