"""Does every format give back the weights it packed, with the entries and the bytes of the naive packer?"""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from hypothesis import given, settings

from dchw.compression.compressed import CompressedLayer, ValueFormat
from dchw.compression.value_formats import round_to_format
from dchw.formats import STORAGE_FORMATS, DenseWeights, Entries, Need, PackShape, pack, unpack, weight_matrix
from dchw.formats.packing.run_layout import Pointers
from dchw.graph.geometry import Geometry
from dchw.quantities import DchwError
from dchw.vocabulary import Stream
from tests.formats.layers import layer_of, layers, shapes
from tests.oracles import storage as oracle

SPARSE = tuple(name for name, form in STORAGE_FORMATS.items() if form.positions)


def expected_matrix(layer: CompressedLayer, storage: str, value_bits: int) -> np.ndarray:
    """What a format's weights are after its own rounding."""
    matrix = layer.weight.reshape(layer.geometry.out_channels, -1)
    coded = Need.CODEBOOK in STORAGE_FORMATS[storage].needs
    if storage == "dense-fp16" or (coded and value_bits == 16 and not STORAGE_FORMATS[storage].integers):
        return round_to_format(matrix, ValueFormat.FLOAT16)
    if storage == "dense-int8":
        rounded = np.zeros_like(matrix)
        for i, row in enumerate(matrix):
            scale = np.float32(np.abs(row).max() / np.float32(127))
            if scale:
                rounded[i] = np.rint(row / scale) * scale
        return rounded + np.float32(0)
    if storage == "huffman-int8":
        return round_to_format(layer.codebook, ValueFormat.INT8)[layer.matrix_codes]
    return matrix


def bits(matrix: np.ndarray) -> list[int]:
    """Bit patterns, so that -0.0 is not +0.0."""
    return np.ascontiguousarray(matrix, dtype=np.float32).view(np.uint32).ravel().tolist()


@settings(max_examples=30, deadline=None)
@given(layer=layers(), shape=shapes())
@pytest.mark.parametrize("value_bits", [16, 32])
@pytest.mark.parametrize("storage", list(STORAGE_FORMATS))
def test_unpacking_gives_the_packed_weights(
    storage: str, value_bits: int, layer: CompressedLayer, shape: PackShape
) -> None:
    packed = pack(layer, storage, shape, value_bits=value_bits)
    unpacked = unpack(packed)
    assert bits(weight_matrix(unpacked)) == bits(expected_matrix(layer, storage, value_bits))
    assert {stream: data.tobytes() for stream, data in packed.regions.items()} == oracle.regions_of(
        layer, storage, shape, value_bits
    )
    assert packed.total_bytes == sum(data.size for data in packed.regions.values())
    assert (unpacked.bias is None) == (layer.bias is None)
    if layer.bias is not None:
        assert unpacked.bias is not None
        np.testing.assert_array_equal(unpacked.bias, layer.bias)
    for stream, offsets in packed.chunk_bytes.items():
        assert offsets[0] == 0
        assert offsets[-1] == packed.regions[stream].size
        assert offsets.size == packed.chunks + 1
        assert (np.diff(offsets) >= 0).all()
    assert packed.jobs == layer.geometry.groups * layer.geometry.columns


@pytest.mark.parametrize("storage", list(STORAGE_FORMATS))
def test_layers_of_more_than_one_block(storage: str) -> None:
    """150 columns and 21 rows a group: the blocks and tiles that packing works in begin, repeat and end ragged."""
    rng = np.random.default_rng(7)
    codes = np.where(rng.random((42, 150)) < 0.2, rng.integers(1, 8, (42, 150)), 0)
    layer = layer_of(codes, geometry=Geometry(in_channels=300, out_channels=42, groups=2))
    for shape in (
        PackShape(elements=8, decoders=4, chunk_entries=20),
        PackShape(elements=2, decoders=4),
        PackShape(elements=8, decoders=4, chunk_entries=20, pointers=Pointers.MADE),
        PackShape(elements=8, decoders=16, chunk_entries=20, pointers=Pointers.MADE, column_bands=7),
    ):
        packed = pack(layer, storage, shape)
        expected = oracle.regions_of(layer, storage, shape, 16)
        assert {stream: data.tobytes() for stream, data in packed.regions.items()} == expected
        assert bits(weight_matrix(unpack(packed))) == bits(expected_matrix(layer, storage, 16))


@settings(max_examples=30, deadline=None)
@given(layer=layers(), shape=shapes())
@pytest.mark.parametrize("storage", SPARSE)
def test_entries_are_those_of_the_naive_packer_in_its_order(
    storage: str, layer: CompressedLayer, shape: PackShape
) -> None:
    packed = pack(layer, storage, shape, value_bits=32)
    entries = unpack(packed)
    assert isinstance(entries, Entries)
    coded = Need.CODEBOOK in STORAGE_FORMATS[storage].needs
    index_bits = 0 if storage in ("csr", "bitmask") else layer.representation.index_bits
    made = storage.startswith("huffman") and shape.pointers is Pointers.MADE
    if made:
        index_bits = packed.parameters.index_bits
    chunks = oracle.chunks_of(layer, shape, index_bits=index_bits, coded=coded, run_on=made)
    wanted = [entry for chunk in chunks for entry in chunk.entries]
    assert entries.job.tolist() == [e.job for e in wanted]
    assert entries.element.tolist() == [e.element for e in wanted]
    assert entries.row.tolist() == [e.row for e in wanted]
    if not STORAGE_FORMATS[storage].integers:
        assert entries.value.tolist() == [e.value for e in wanted]
    assert entries.is_filler.tolist() == [e.filler for e in wanted]
    assert entries.code.tolist() == [e.code if coded else 0 for e in wanted]
    assert np.diff(entries.chunk_offsets).tolist() == [len(chunk.entries) for chunk in chunks]
    runs = [run for chunk in chunks for run in chunk.runs]
    assert entries.run_count.tolist() == [len(run.entries) for run in runs]
    assert entries.run_job.tolist() == [run.job for run in runs]
    assert entries.run_element.tolist() == [run.element for run in runs]
    assert np.diff(entries.chunk_run_offsets).tolist() == [len(chunk.runs) for chunk in chunks]
    assert packed.chunk_decoder.tolist() == [chunk.decoder for chunk in chunks]
    assert packed.chunk_first_job.tolist() == [chunk.jobs[0] for chunk in chunks]
    assert packed.chunk_end_job.tolist() == [chunk.jobs[-1] + 1 for chunk in chunks]
    assert (packed.entries, packed.fillers) == (len(wanted), sum(e.filler for e in wanted))
    # what each entry took adds up to the regions, chunk by chunk and rounded up to bytes
    widths = {Stream.GAPS: entries.gap_bits, STORAGE_FORMATS[storage].values: entries.code_bits}
    for stream in widths.keys() - STORAGE_FORMATS[storage].run_regions:  # a mask is bits of weights, not of entries
        width = widths[stream]
        ends = np.concatenate([[0], np.cumsum(width, dtype=np.int64)])[entries.chunk_offsets]
        assert packed.packed_bytes.get(stream, 0) == int(((np.diff(ends) + 7) // 8).sum())


@settings(max_examples=30, deadline=None)
@given(layer=layers(), shape=shapes())
def test_chunks_are_ordered_so_that_in_order_delivery_cannot_deadlock(layer: CompressedLayer, shape: PackShape) -> None:
    packed = pack(layer, "huffman", shape)
    order = list(zip(packed.chunk_first_job.tolist(), packed.chunk_decoder.tolist(), strict=True))
    assert order == sorted(order)
    section = packed.chunk_decoder // shape.section_decoders
    for one in np.unique(section):
        mine = section == one
        # of one section no two chunks share a job, and its decode units take turns
        assert (packed.chunk_first_job[mine][1:] >= packed.chunk_end_job[mine][:-1]).all()
        turns = packed.chunk_decoder[mine] % shape.section_decoders
        assert turns.tolist() == [i % shape.section_decoders for i in range(int(mine.sum()))]


def test_decode_units_are_dealt_as_written() -> None:
    ones = np.ones((8, 2))
    shared = pack(layer_of(ones), "shared", PackShape(elements=8, decoders=2, chunk_entries=1))
    assert shared.chunk_decoder.tolist() == [0, 1, 0, 1]
    assert shared.chunk_first_job.tolist() == [0, 0, 1, 1]
    several = pack(layer_of(np.ones((2, 5))), "shared", PackShape(elements=2, decoders=4, chunk_entries=1))
    assert several.chunk_decoder.tolist() == [0, 2, 1, 3, 0, 2, 1, 3, 0, 2]


def test_a_worked_example_byte_by_byte() -> None:
    """Two PEs, one decode unit each, 1-bit gaps; PE 0 owns rows 0, 2, 4, 6 and PE 1 rows 1, 3, 5.

    Column 0 holds 1 at row 0, 2 at row 6 and 1 at row 3; column 1 holds 3 at row 5 only.
    PE 0: row 0 (gap 0, code 1); rows 2 and 4 are zero, row 6 is two further: a filler on row 4 (gap 1, code 0), then
    (gap 0, code 2). PE 1: row 3 (gap 1, code 1); in column 1 a filler on row 3 (gap 1, code 0), then row 5 (gap 0,
    code 3).
    Chunks close at 2 entries: PE 0 has column 0 with 3 entries and the empty column 1 joins it. PE 1 has 1 entry after
    column 0 and 3 after column 1: one chunk. Both begin at job 0, so decode unit 0 comes first.
    """
    codes = [[1, 0], [0, 0], [0, 0], [1, 0], [0, 0], [0, 3], [2, 0]]
    layer = layer_of(codes, codebook=[0, 0.5, -1.5, 2], bias=np.arange(7), index_bits=1, codebook_bits=2)
    shape = PackShape(elements=2, decoders=2, chunk_entries=2)
    shared = pack(layer, "shared", shape)
    assert {stream: data.tobytes() for stream, data in shared.regions.items()} == {
        # 0.5, -1.5, 2.0 as float16
        Stream.CODEBOOKS: bytes.fromhex("0038 00be 0040"),
        # two jobs, one byte of gaps, one byte of codes; twice
        Stream.CHUNK_TABLES: bytes.fromhex("0200 0100 0100 0200 0100 0100"),
        Stream.BIASES: bytes.fromhex("0000 003c 0040 0042 0044 0045 0046"),
        # counts in 2 bits: PE 0 has 3 and 0 (0b0011), PE 1 has 1 and 2 (0b1001)
        Stream.POINTERS: bytes([0b0011, 0b1001]),
        # gaps in 1 bit, lowest first: 0 1 0 and 1 1 0
        Stream.GAPS: bytes([0b010, 0b011]),
        # codes in 2 bits: 1 0 2 and 1 0 3
        Stream.CODES: bytes([0b10_00_01, 0b11_00_01]),
    }
    huffman = pack(layer, "huffman", shape)
    regions = {stream: data.tobytes() for stream, data in huffman.regions.items()}
    # gaps 0 and 1 occur three times each: one bit each. Codes 0 and 1 occur twice, 2 and 3 once: two bits each.
    # Fields of 4 bits for a limit of 12.
    assert regions[Stream.CODE_TABLES] == bytes([0x11, 0x22, 0x22])
    assert regions[Stream.GAPS] == bytes([0b010, 0b011])
    # words, first bit first: 0 = 00, 1 = 01, 2 = 10, 3 = 11; so 1 0 2 = 01 00 10 and 1 0 3 = 01 00 11
    assert regions[Stream.CODES] == bytes([0b010010, 0b110010])
    assert huffman.total_bytes == 6 + 12 + 14 + 2 + 2 + 2 + 3
    entries = unpack(huffman)
    assert isinstance(entries, Entries)
    assert entries.row.tolist() == [0, 4, 6, 3, 3, 5]
    assert entries.job.tolist() == [0, 0, 0, 0, 1, 1]
    assert entries.value.tolist() == [0.5, 0, -1.5, 0.5, 0, 2]
    assert entries.is_filler.tolist() == [False, True, False, False, True, False]


def test_a_depthwise_layer_has_one_run_per_job() -> None:
    codes = np.arange(1, 6).reshape(5, 1, 1, 1)
    geometry = Geometry(in_channels=5, out_channels=5, groups=5)
    packed = pack(layer_of(codes, geometry=geometry), "huffman", PackShape(elements=64, decoders=16))
    entries = unpack(packed)
    assert isinstance(entries, Entries)
    assert entries.run_element.tolist() == [0, 1, 2, 3, 4]
    assert entries.run_job.tolist() == [0, 1, 2, 3, 4]
    assert packed.chunk_decoder.tolist() == [0, 1]
    assert packed.chunk_first_job.tolist() == [0, 4]


def test_an_all_zero_layer_stores_no_entries() -> None:
    for storage in SPARSE:
        packed = pack(layer_of(np.zeros((6, 3))), storage, PackShape(elements=4, decoders=2))
        assert packed.entries == 0
        mask = {Stream.GAPS} & STORAGE_FORMATS[storage].run_regions
        assert set(packed.regions) <= {Stream.CHUNK_TABLES, Stream.CODEBOOKS} | mask
        assert packed.chunks == 2
        assert not weight_matrix(unpack(packed)).any()


def test_a_layer_of_one_symbol_takes_a_bit_per_entry() -> None:
    packed = pack(layer_of(np.ones((16, 2))), "huffman", PackShape(elements=1, decoders=1))
    assert packed.packed_bytes[Stream.GAPS] == packed.packed_bytes[Stream.CODES] == 4
    np.testing.assert_array_equal(weight_matrix(unpack(packed)), np.full((16, 2), -0.125))


def test_a_codebook_of_zero_alone_packs() -> None:
    layer = layer_of(np.zeros((2, 2)), codebook=[0.0])
    for storage in STORAGE_FORMATS:
        assert not weight_matrix(unpack(pack(layer, storage, PackShape(elements=2, decoders=2)))).any()


def test_long_chunks_take_a_wider_chunk_table() -> None:
    packed = pack(layer_of(np.ones((200, 100))), "csr", PackShape(elements=1, decoders=1, chunk_entries=10**6))
    assert packed.parameters.chunk_table_bits == 32
    assert packed.packed_bytes[Stream.CHUNK_TABLES] == 12
    assert (weight_matrix(unpack(packed)) == -0.125).all()


def test_dense_chunks_hold_about_the_same_bytes_in_every_format() -> None:
    layer = layer_of(np.ones((10, 9)))
    shape = PackShape(elements=4, decoders=2, chunk_entries=30)
    sizes = {}
    for storage in ("dense-fp32", "dense-fp16", "dense-int8"):
        packed = pack(layer, storage, shape)
        sizes[storage] = np.diff(packed.chunk_bytes[Stream.WEIGHTS]).tolist()
        assert isinstance(unpack(packed), DenseWeights)
        assert packed.entries == 90
    assert sizes == {"dense-fp32": [120, 120, 120], "dense-fp16": [120, 60], "dense-int8": [90]}


def test_a_code_limit_too_low_for_the_packed_symbols_is_raised() -> None:
    layer = layer_of(np.arange(16).reshape(8, 2) % 8, code_limit=1)
    packed = pack(layer, "huffman", PackShape(elements=2, decoders=1))
    assert packed.parameters.code_limit == 3
    np.testing.assert_array_equal(weight_matrix(unpack(packed)), round_to_format(layer.weight, ValueFormat.FLOAT16))


def test_the_formats_and_the_units_they_need() -> None:
    assert {name: sorted(form.needs) for name, form in STORAGE_FORMATS.items()} == {
        "dense-fp32": [],
        "dense-fp16": [],
        "dense-int8": [],
        "csr": ["index"],
        "palette": ["codebook"],
        "relative": ["index"],
        "bitmask": ["codebook", "index"],
        "palette-huffman": ["codebook", "decoder"],
        "shared": ["codebook", "index"],
        "huffman-int8": ["codebook", "decoder", "index"],
        "huffman": ["codebook", "decoder", "index"],
    }
    assert list(STORAGE_FORMATS) == [
        "dense-fp32", "dense-fp16", "dense-int8", "csr", "palette", "relative", "bitmask", "palette-huffman", "shared",
        "huffman-int8", "huffman",
    ]  # fmt: skip


def test_packed_layers_are_frozen_and_travel_between_processes() -> None:
    packed = pack(layer_of([[1, 2], [3, 0]]), "huffman", PackShape(elements=2, decoders=2))
    copy = pickle.loads(pickle.dumps(packed))
    np.testing.assert_array_equal(weight_matrix(unpack(copy)), weight_matrix(unpack(packed)))
    entries = unpack(packed)
    assert isinstance(entries, Entries)
    for array in (packed.regions[Stream.CODES], packed.chunk_first_job, entries.row, entries.value, entries.run_count):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"elements": 6, "decoders": 4},
            "pack shape: elements and decoders must divide one another; got elements 6 and decoders 4; "
            "change one of them",
        ),
        ({"elements": 0, "decoders": 4}, "pack shape: elements must be at least 1; got 0; correct it"),
        (
            {"elements": 4, "decoders": 4, "chunk_entries": -1},
            "pack shape: chunk_entries must be at least 1; got -1; correct it",
        ),
        (
            {"elements": 1 << 17, "decoders": 1},
            "pack shape: elements must be at most 65536; got 131072; use fewer",
        ),
    ],
)
def test_an_impossible_shape_is_refused(arguments: dict[str, int], message: str) -> None:
    with pytest.raises(DchwError) as error:
        PackShape(**arguments)
    assert str(error.value) == message


def test_an_unknown_format_and_width_are_refused() -> None:
    layer, shape = layer_of([[1]]), PackShape(elements=1, decoders=1)
    with pytest.raises(DchwError, match=r"^storage format 'hufman': no such format; did you mean 'huffman'\?$"):
        pack(layer, "hufman", shape)
    with pytest.raises(DchwError, match=r"^layer 'layer': value_bits must be 16 or 32; got 8; choose one of them$"):
        pack(layer, "huffman", shape, value_bits=8)
    wrong = layer_of([[1, 1]], geometry=Geometry(in_channels=3, out_channels=1))
    with pytest.raises(
        DchwError,
        match=r"^layer 'layer': expected 1 x 3 codes for its geometry; got shape \(1, 2\); correct the geometry$",
    ):
        pack(wrong, "huffman", shape)
