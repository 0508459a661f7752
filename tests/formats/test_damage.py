"""Is damage to packed bytes always noticed, or seen in the weights?"""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from dchw.compression.compressed import CompressedLayer
from dchw.formats import STORAGE_FORMATS, PackedLayer, PackShape, Unpacked, pack, unpack, weight_matrix
from dchw.formats.packing.run_layout import Pointers
from dchw.graph.geometry import Geometry
from dchw.quantities import FileFormatError
from dchw.vocabulary import Stream
from tests.formats.layers import layer_of

SHAPE = PackShape(elements=4, decoders=2, chunk_entries=6)


def sparse_layer(seed: int = 3, **options: int) -> CompressedLayer:
    """A layer that uses every code, has fillers and several chunks per section."""
    rng = np.random.default_rng(seed)
    codes = np.where(rng.random((13, 6)) < 0.25, rng.integers(1, 8, (13, 6)), 0)
    codes[0, :] = [1, 2, 3, 4, 5, 6]
    codes[1, 0] = 7
    return layer_of(codes, bias=rng.normal(size=13), index_bits=1, **options)


def one_symbol_layer() -> CompressedLayer:
    return layer_of(np.ones((5, 3)), codebook=[0, 0.75], codebook_bits=1)


def grouped_layer() -> CompressedLayer:
    codes = np.random.default_rng(5).integers(0, 4, (6, 2, 1, 2))
    geometry = Geometry(in_channels=6, out_channels=6, groups=3, kernel=(1, 2), in_size=(1, 2))
    return layer_of(codes, codebook=[0, 1, 2, -3], codebook_bits=2, geometry=geometry)


def with_region(packed: PackedLayer, stream: Stream, data: np.ndarray) -> PackedLayer:
    return dataclasses.replace(packed, regions={**packed.regions, stream: data})


def pattern(unpacked: Unpacked) -> bytes:
    bias = b"" if unpacked.bias is None else unpacked.bias.tobytes()
    return weight_matrix(unpacked).tobytes() + bias


@pytest.mark.parametrize(
    "make", [pytest.param(sparse_layer, marks=pytest.mark.compiled), one_symbol_layer, grouped_layer]
)
@pytest.mark.parametrize(
    ("storage", "pointers"), [*((storage, Pointers.STORED) for storage in STORAGE_FORMATS), ("huffman", Pointers.MADE)]
)
def test_no_flipped_bit_passes_unnoticed(storage: str, pointers: Pointers, make: object) -> None:
    packed = pack(make(), storage, dataclasses.replace(SHAPE, pointers=pointers))  # type: ignore[operator]
    sound = pattern(unpack(packed))
    raised = changed = 0
    for stream, data in packed.regions.items():
        for bit in range(8 * data.size):
            flipped = data.copy()
            flipped[bit // 8] ^= 1 << bit % 8
            try:
                seen = pattern(unpack(with_region(packed, stream, flipped)))
            except FileFormatError:
                raised += 1
                continue
            assert seen != sound, f"bit {bit} of {stream} passed unnoticed"
            changed += 1
    assert changed
    assert raised or storage in ("dense-fp32", "dense-fp16")  # any finite float is a weight


@pytest.mark.parametrize("storage", list(STORAGE_FORMATS))
def test_missing_and_added_bytes_are_noticed(storage: str) -> None:
    packed = pack(sparse_layer(), storage, SHAPE)
    for stream, data in packed.regions.items():
        for wrong in (data[:-1], np.append(data, np.uint8(0)), data[:0]):
            with pytest.raises(FileFormatError):
                unpack(with_region(packed, stream, wrong.copy()))


def test_a_lost_filler_is_noticed() -> None:
    """Planted: a filler's gap and code are gone, the pointer counts one entry less."""
    layer = layer_of(np.array([[1]] + [[0]] * 4 + [[2]]), index_bits=2, codebook_bits=2)
    packed = pack(layer, "shared", PackShape(elements=1, decoders=1))
    assert (packed.entries, packed.fillers) == (3, 1)
    assert packed.regions[Stream.GAPS].tolist() == [0b00_11_00]
    lost = dataclasses.replace(
        packed,
        regions={
            **packed.regions,
            Stream.POINTERS: np.array([2], dtype=np.uint8),
            Stream.GAPS: np.array([0b00_00], dtype=np.uint8),
            Stream.CODES: np.array([0b10_01], dtype=np.uint8),
        },
    )
    assert not np.array_equal(weight_matrix(unpack(lost)), weight_matrix(unpack(packed)))


def test_a_wrong_count_is_noticed() -> None:
    """Planted: an entry counted to the neighbouring run; the chunk's total still holds."""
    packed = pack(layer_of(np.ones((4, 2))), "shared", PackShape(elements=2, decoders=1))
    assert packed.regions[Stream.POINTERS].tolist() == [0b10101010]
    moved = with_region(packed, Stream.POINTERS, np.array([0b10101101], dtype=np.uint8))
    with pytest.raises(
        FileFormatError,
        match=r"^layer 'layer', gaps: expected entries within the rows of their PE; got one behind the last row; "
        r"the data is damaged$",
    ):
        unpack(moved)


def test_a_wrong_chunk_order_is_noticed() -> None:
    """Planted: chunks in section order, every byte otherwise right."""
    packed = pack(sparse_layer(), "shared", SHAPE)
    order = np.lexsort((packed.chunk_first_job, packed.chunk_decoder))
    assert order.tolist() != list(range(packed.chunks))
    regions = dict(packed.regions)
    for stream, offsets in packed.chunk_bytes.items():
        regions[stream] = np.concatenate([regions[stream][offsets[i] : offsets[i + 1]] for i in order])
    rows = regions[Stream.CHUNK_TABLES].reshape(packed.chunks, -1)
    regions[Stream.CHUNK_TABLES] = rows[order].ravel()
    wrong = dataclasses.replace(
        packed,
        regions=regions,
        chunk_bytes={},
        chunk_decoder=packed.chunk_decoder[order],
        chunk_first_job=packed.chunk_first_job[order],
        chunk_end_job=packed.chunk_end_job[order],
    )
    with pytest.raises(FileFormatError, match=r"in the order of \(first job, decoder\)|the data is damaged"):
        unpack(wrong)


def test_a_wrong_code_length_is_noticed() -> None:
    """Planted: two symbols' code lengths swapped; the table is still complete."""
    codes = np.array([1] * 8 + [2] * 2 + [3]).reshape(11, 1)
    packed = pack(layer_of(codes), "huffman", PackShape(elements=1, decoders=1))
    table = packed.regions[Stream.CODE_TABLES]
    assert table.tolist() == [0x01, 0x10, 0x22]  # gap 0: 1 bit; codes 1, 2, 3: 1, 2 and 2 bits
    swapped = with_region(packed, Stream.CODE_TABLES, np.array([0x01, 0x20, 0x21], dtype=np.uint8))
    assert weight_matrix(unpack(swapped))[:3, 0].tolist() == [0.375, 0.375, 0.375]  # code 2 where code 1 was
    assert weight_matrix(unpack(packed))[:3, 0].tolist() == [-0.125, -0.125, -0.125]
    incomplete = with_region(packed, Stream.CODE_TABLES, np.array([0x01, 0x10, 0x32], dtype=np.uint8))
    with pytest.raises(FileFormatError, match="expected a complete code"):
        unpack(incomplete)


def test_damage_names_layer_and_region() -> None:
    packed = pack(sparse_layer(), "shared", SHAPE)
    with pytest.raises(FileFormatError) as error:
        unpack(with_region(packed, Stream.CODES, packed.regions[Stream.CODES][:-1].copy()))
    size = packed.regions[Stream.CODES].size
    assert str(error.value) == (
        f"layer 'layer', codes: expected {size} bytes for {packed.entries} fields of 3 bits; got {size - 1}; "
        "the data is damaged"
    )
