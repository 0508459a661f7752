"""A damaged file gives one typed error that names the field, never a crash and never another network."""

from __future__ import annotations

import functools
import json
import re
import zlib
from base64 import b85encode
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import dchw
from dchw.compression import huffman, relative_index
from dchw.compression.compressed import Coding, CompressedNetwork, Positions, Representation, ValueFormat
from dchw.container import envelope, parse, to_bytes
from dchw.quantities import DchwError, FileFormatError
from tests.compression.networks import compressed
from tests.compression.test_worked_example import FILE, LAYER_A, LAYER_B


@functools.cache
def sample() -> bytes:
    """A file with every kind of positions and coding, example inputs and a few chunks."""
    rng = np.random.default_rng(5)
    codes, storage = {}, {}
    for i, positions in enumerate(Positions):
        name = f"layer{i}"
        codes[name] = np.where(rng.random((8, 40)) < 0.2, rng.integers(1, 8, (8, 40)), 0)
        codes[name][3] = 0
        storage[name] = Representation(
            positions=positions,
            index_bits=3,
            codebook_bits=3,
            chunk_entries=50,
            code_coding=Coding.HUFFMAN if i % 2 else Coding.FIXED,
            codebook_format=ValueFormat.FLOAT16,
            bias_format=ValueFormat.INT8,
            trim=i < 2,
        )
    biases = {"layer0": np.arange(8, dtype=np.float32) * 0}
    network = compressed(codes, storage, biases=biases, recipe={"density": 0.2}, results={"error_rate": 0.01})
    return to_bytes(network)


def damaged(data: bytes, rng: np.random.Generator) -> bytes:
    """One random fault: flipped bits, a cut, bytes added or a stretch overwritten."""
    kind = rng.integers(5)
    out = bytearray(data)
    if kind <= 1:
        for _ in range(1 if kind == 0 else int(rng.integers(2, 9))):
            out[rng.integers(len(out))] ^= 1 << rng.integers(8)
    elif kind == 2:
        del out[rng.integers(len(out)) :]
    elif kind == 3:
        at = rng.integers(len(out) + 1)
        out[at:at] = rng.bytes(int(rng.integers(1, 5)))
    else:
        at = int(rng.integers(len(out) - 8))
        out[at : at + 8] = rng.bytes(8)
    return bytes(out)


def check_faults(count: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    data = sample()
    for _ in range(count):
        other = damaged(data, rng)
        if other != data:
            with pytest.raises(FileFormatError):
                parse(other)


def test_a_few_hundred_random_faults_each_raise() -> None:
    check_faults(500, seed=1)


@pytest.mark.slow
def test_ten_thousand_random_faults_each_raise() -> None:
    check_faults(10_000, seed=2)


def test_every_single_bit_of_a_file_matters() -> None:
    for at in range(8 * len(FILE)):
        other = bytearray(FILE)
        other[at // 8] ^= 1 << at % 8
        with pytest.raises(FileFormatError):
            parse(bytes(other))


def test_every_cut_raises() -> None:
    for length in range(len(FILE)):
        with pytest.raises(FileFormatError):
            parse(FILE[:length])


def sealed(a: bytes, b: bytes = LAYER_B) -> bytes:
    """The worked example with other layer bytes and a right checksum: what only the strict reader can catch."""
    tensors = {"a": np.frombuffer(a, np.uint8), "b": np.frombuffer(b, np.uint8)}
    return envelope.seal(envelope.unseal(FILE).description, tensors)


def replaced(data: bytes, at: int, *new: int) -> bytes:
    return data[:at] + bytes(new) + data[at + len(new) :]


@pytest.mark.parametrize(
    ("a", "b", "message"),
    [
        (replaced(LAYER_A, 0, 0x8C), LAYER_B, "layer 'a': choices: expected known ones; got 0x8c 0x11"),
        (replaced(LAYER_A, 1, 0x13), LAYER_B, "layer 'a': choices: expected known ones; got 0x0c 0x13"),
        (replaced(LAYER_A, 3, 5), LAYER_B, "layer 'a': codebook: expected 1 to 4 entries; got 5"),
        (replaced(LAYER_A, 5, 0x7C), LAYER_B, "layer 'a': codebook: expected finite values; got NaN or infinity"),
        (replaced(LAYER_A, 8, 25), LAYER_B, "layer 'a': entries: expected at most 24; got 25"),
        (replaced(LAYER_A, 9, 19), LAYER_B, "layer 'a': gap table: expected at most 8 code lengths; got 9"),
        # a wrong code length: 2 instead of 1 for gap 0 leaves words unused
        (replaced(LAYER_A, 10, 0b10_00_00_10), LAYER_B, "layer 'a': gaps: code lengths: expected a complete code"),
        # a lost filler: one entry fewer, then bits are left over
        (replaced(LAYER_A, 8, 5), LAYER_B, "layer 'a': gaps: .*padding|layer 'a': gaps: .*bytes"),
        (replaced(LAYER_A, 14, 3), LAYER_B, "layer 'a': "),
        (
            replaced(LAYER_A, 14, 100),
            LAYER_B,
            "layer 'a': (chunk table|gaps: expected 100 bytes)",
        ),
        # the last gap's word is a set padding bit
        (replaced(LAYER_A, 16, 0x02), LAYER_B, "layer 'a': gaps: Huffman chunk 0: expected zero padding"),
        # code 0 where the gap is not the largest
        (replaced(LAYER_A, 17, 0b01010110), LAYER_B, "layer 'a': "),
        (LAYER_A + b"\0", LAYER_B, "layer 'a': codes: Huffman chunk 0: expected the chunk's last byte; got more bytes"),
        (LAYER_A[:-1], LAYER_B, "layer 'a': codes: Huffman chunk 0: expected more bits"),
        (LAYER_A, LAYER_B + b"\0", "layer 'b': codes: expected the end of the layer; got 1 more bytes"),
        (LAYER_A, LAYER_B[:-1], "layer 'b': codes: expected 2 bytes; got 1"),
        (LAYER_A, replaced(LAYER_B, 16, 7), "layer 'b': codes: expected codes below 3; got 3"),
        (LAYER_A, replaced(LAYER_B, 17, 0x1A), "layer 'b': codes: packed fields: expected zero padding"),
        (LAYER_A, replaced(LAYER_B, 10, 0x80, 0x7F), "layer 'b': biases: expected finite values; got NaN or infinity"),
        (LAYER_A, b"", "layer 'b': choices: expected 1 bytes; got 0"),
    ],
)
def test_faults_behind_a_right_checksum(a: bytes, b: bytes, message: str) -> None:
    with pytest.raises(FileFormatError, match=f"^file: (?:{message})"):
        parse(sealed(a, b))


def test_a_lost_filler_is_caught(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An encoder that loses a filler would move the weights behind it 8 places: saving compares what it wrote."""
    rows = np.zeros((1, 24), np.uint8)
    rows[0, [2, 19, 20, 21]] = [2, 1, 2, 2]
    network = compressed({"a": rows}, {"a": Representation(positions=Positions.GAPS, index_bits=3, codebook_bits=2)})
    dchw.save(network, tmp_path / "good.dchw")
    sound = relative_index.encode_gaps

    def without_first_filler(*arguments: object) -> tuple[object, object]:
        gaps, codes = sound(*arguments)  # type: ignore[arg-type]
        lost = int(np.flatnonzero(codes == 0)[0])
        return np.delete(gaps, lost), np.delete(codes, lost)

    monkeypatch.setattr(relative_index, "encode_gaps", without_first_filler)
    with pytest.raises(DchwError, match=r"bad.dchw: layer 'a': what was read back differs from what was to be written"):
        dchw.save(network, tmp_path / "bad.dchw")
    assert [path.name for path in tmp_path.iterdir()] == ["good.dchw"]


@pytest.mark.parametrize("change", [1, -1])
def test_a_wrong_code_length_is_caught(change: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    network = compressed({"a": [[1, 2, 0, 3, 1, 4]]}, {"a": Representation(codebook_bits=3)})
    sound = huffman.code_lengths

    def off_by_one(counts: object, limit: int) -> np.ndarray:
        lengths = sound(counts, limit).copy()  # type: ignore[arg-type]
        lengths[np.argmax(lengths)] = lengths.max() + change if change > 0 else 1
        return lengths

    monkeypatch.setattr(huffman, "code_lengths", off_by_one)
    with pytest.raises(DchwError, match="expected a complete code"):
        dchw.save(network, tmp_path / "bad.dchw")


@settings(max_examples=120, deadline=None)
@given(st.binary(max_size=40), st.integers(0, 40), st.integers(0, 40))
def test_hostile_layers_never_crash(noise: bytes, start: int, end: int) -> None:
    for good, place in ((LAYER_A, "a"), (LAYER_B, "b")):
        data = good[:start] + noise + good[end:]
        try:
            network = parse(sealed(*((data, LAYER_B) if place == "a" else (LAYER_A, data))))
        except FileFormatError:
            continue
        assert to_bytes(network)


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 40) | st.text(max_size=3) | st.floats(-9, 9),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=120, deadline=None)
@given(JSON_VALUES, st.data())
def test_hostile_descriptions_never_crash(value: object, data: st.DataObject) -> None:
    description = json.loads(json.dumps(envelope.unseal(FILE).description))
    at: object = description
    while isinstance(at, list) and at:
        place = data.draw(st.integers(0, len(at) - 1))
        if not isinstance(at[place], list) or data.draw(st.booleans()):
            at[place] = value
            break
        at = at[place]
    tensors = {"a": np.frombuffer(LAYER_A, np.uint8), "b": np.frombuffer(LAYER_B, np.uint8)}
    try:
        network = parse(envelope.seal(description, tensors))
    except FileFormatError:
        return
    assert to_bytes(network)


def with_header(text: bytes, body: bytes = b"") -> bytes:
    return len(text).to_bytes(8, "little") + text + body


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "header length: expected 8 bytes; got a file of 0"),
        (
            b"\x10" + bytes(7) + b"{",
            "expected a .dchw file; got something else, or one with a damaged header",
        ),
        (
            with_header(b"{}"),
            "expected a .dchw file; got something else, or one with a damaged header",
        ),
        (
            with_header(b'{"__metadata__":{"dchw":"2.00000"}}'),
            "format version: expected 1; got 2; read it with a dchw that knows this version",
        ),
        (with_header(b'{"__metadata__":{"dchw":"1.00000"}'), "header: expected JSON of tensor names"),
        (
            with_header(b'{"__metadata__":{"dchw":"1.00000"},"a":{"dtype":"F64","shape":[1],"data_offsets":[0,8]}}'),
            r"header: tensor 'a': expected uint8 or float32; got 'F64' \[1\]",
        ),
        (
            with_header(b'{"__metadata__":{"dchw":"1.00000"},"a":{"dtype":"U8","shape":[9],"data_offsets":[0,9]}}'),
            "tensors: expected 9 bytes; got 0; the file is damaged or cut",
        ),
        (with_header(b'{"__metadata__":{"dchw":"1.00000"}}'), "checksum: expected '00000'; got "),
    ],
)
def test_envelopes(data: bytes, message: str) -> None:
    with pytest.raises(FileFormatError, match=f"^file: {message}"):
        parse(data)


def rechecked(data: bytes) -> bytes:
    """The same bytes with a right checksum."""
    at = data.index(b"1.") + 2
    blank = data[:at] + b"00000" + data[at + 5 :]
    return data[:at] + b85encode(zlib.crc32(blank).to_bytes(4, "big")) + data[at + 5 :]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b'"shape":[19],"data_offsets":[0,19]', b'"data_offsets":[0,19],"shape":[19]'),
        (b'"data_offsets":[19,37]', b'"data_offsets":[0,18] '),
        (b'"b":{"dtype"', b'"a":{"dtype"'),
        (b"[0,19]", b"[0,9] "),
    ],
)
def test_headers_have_one_form(old: bytes, new: bytes) -> None:
    assert old in FILE
    assert len(old) == len(new)
    with pytest.raises(FileFormatError, match=r"^file: (header|tensors): "):
        parse(rechecked(FILE.replace(old, new)))


def test_a_missing_file_is_one_sentence() -> None:
    message = "no.dchw: cannot be read (No such file or directory); name a .dchw file"
    with pytest.raises(FileFormatError, match=re.escape(message)):
        dchw.load("no.dchw")


def test_nothing_is_unpickled() -> None:
    import pickle

    class Trap:
        def __reduce__(self) -> tuple[object, ...]:
            raise AssertionError

    with pytest.raises(FileFormatError):
        parse(pickle.dumps({"a": 1}))


def test_the_sample_is_sound() -> None:
    network: CompressedNetwork = parse(sample())
    assert to_bytes(network) == sample()
