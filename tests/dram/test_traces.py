"""Request traces: what is written reads back, and what is malformed is named with its line."""

from __future__ import annotations

import gzip

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from dchw.quantities import ConfigError, FileFormatError
from dchw.traces import NO_STREAM, Requests, read_trace, requests, trace_writer, write_trace

NAMES = ["t.parquet", "t.trace", "t.trace.gz", "t.trc", "t.dramsim3.gz"]


def _all(path) -> Requests:
    parts = list(read_trace(path))
    return Requests(**{name: np.concatenate([getattr(p, name) for p in parts]) for name in Requests.__annotations__})


@pytest.mark.parametrize("name", NAMES)
def test_bursts_read_back_as_written(tmp_path, name):
    rng = np.random.default_rng(3)
    made = requests(
        rng.integers(0, 1 << 40, 5000) // 32 * 32,
        rng.random(5000) < 0.3,
        cycle=np.sort(rng.integers(0, 1 << 33, 5000)),
        stream=rng.integers(-1, 11, 5000),
    )
    with trace_writer(tmp_path / name) as append:
        for start in range(0, 5000, 1700):
            append(Requests(**{n: getattr(made, n)[start : start + 1700] for n in Requests.__annotations__}))
    back = _all(tmp_path / name)
    np.testing.assert_array_equal(back.address, made.address)
    np.testing.assert_array_equal(back.is_write, made.is_write)
    np.testing.assert_array_equal(back.size_bytes, made.size_bytes)
    if "trace" not in name:
        np.testing.assert_array_equal(back.cycle, made.cycle)
    if "parquet" in name:
        np.testing.assert_array_equal(back.stream, made.stream)
    else:
        assert set(back.stream) == {NO_STREAM}


def test_the_lines_are_those_the_simulators_read(tmp_path):
    made = requests([0x40, 0x1003], [False, True], size_bytes=[64, 2], cycle=[7, 9])
    write_trace(tmp_path / "t.trace", made)
    assert (tmp_path / "t.trace").read_text() == "LD 0x40\nLD 0x60\nST 0x1000\n"
    write_trace(tmp_path / "t.trc", made)
    assert (tmp_path / "t.trc").read_text() == "0x40 READ 7\n0x60 READ 7\n0x1000 WRITE 9\n"


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 1 << 50), st.booleans(), st.sampled_from(["hex", "dec"])), max_size=20))
def test_numbers_and_spacing_of_any_kind(tmp_path_factory, lines):
    path = tmp_path_factory.mktemp("t") / "any"
    text = [f"{'ST' if w else 'LD'} {hex(a) if k == 'hex' else a}" for a, w, k in lines]
    path.write_text("\n\n".join(text) + "  \r\n")
    read = [(int(a), bool(w)) for part in read_trace(path) for a, w in zip(part.address, part.is_write, strict=True)]
    assert read == [(a, w) for a, w, _ in lines]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        (
            "t.trace",
            "LD 0x40\nLX 0x80\n",
            "line 2: expected 'LD ADDRESS' or 'ST ADDRESS' with a decimal or 0x address; got 'LX 0x80'",
        ),
        ("t.trace", "LD 0x40\n\nST 12g\n", "line 3: expected 'LD ADDRESS'"),
        ("t.trace", "LD\n", "line 1: expected 'LD ADDRESS'"),
        ("t.trace", "LD 0x40 5\n", "line 1: expected"),
        ("t.trace", "LD -4\n", "line 1: expected"),
        ("t.trace", "LD 0xffffffffffffffffff\n", "line 1: expected"),
        ("t.trace", "LD 0x40", None),
        (
            "t.trc",
            "0x40 READ 1\n0x80 REED 2\n",
            "line 2: expected 'HEX-ADDRESS READ CLOCK' or 'HEX-ADDRESS WRITE CLOCK'; got '0x80 REED 2'",
        ),
        ("t.trc", "0x40 READ\n", "line 1: expected"),
        ("t.trc", "zz READ 1\n", "line 1: expected"),
        ("t.trc", "40 P_MEM_WR 1\n", None),
    ],
)
def test_a_malformed_line_gives_file_line_and_what_was_expected(tmp_path, name, text, message):
    path = tmp_path / name
    path.write_text(text)
    if message is None:
        assert len(_all(path)) == 1
        return
    with pytest.raises(FileFormatError) as fault:
        list(read_trace(path))
    assert str(fault.value).startswith(f"{path}, ")
    assert message in str(fault.value)


def test_a_line_far_into_a_compressed_file_keeps_its_number(tmp_path):
    path = tmp_path / "long.trace.gz"
    with gzip.open(path, "wb") as out:
        out.write(b"LD 0x1234567890\n" * 600_000 + b"LD oops\n")
    with pytest.raises(FileFormatError, match="line 600001: expected"):
        list(read_trace(path))


def test_damaged_and_missing_files(tmp_path):
    with pytest.raises(FileFormatError, match="no such file"):
        list(read_trace(tmp_path / "none.trace"))
    (tmp_path / "bad.parquet").write_bytes(b"PAR1 not really")
    with pytest.raises(FileFormatError, match="not a Parquet file"):
        list(read_trace(tmp_path / "bad.parquet"))
    (tmp_path / "bad.trace.gz").write_bytes(gzip.compress(b"LD 0x40\n" * 1000)[:30])
    with pytest.raises(FileFormatError, match="cannot be read"):
        list(read_trace(tmp_path / "bad.trace.gz"))


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"address": [1]}, "expected a column 'is_write'"),
        ({"address": [1.5], "is_write": [True]}, "column 'address': expected whole numbers"),
        ({"address": [1, None], "is_write": [True, False]}, "1 missing"),
        ({"address": [-32], "is_write": [True]}, "address: expected at least 0; got -32"),
        ({"address": [32], "is_write": [True], "bytes": [0]}, "bytes: expected at least 1; got 0"),
        ({"address": [32], "is_write": [True], "stream": ["wheights"]}, "column 'stream': expected one of codes"),
    ],
)
def test_parquet_columns_are_checked(tmp_path, columns, message):
    parquet.write_table(pa.table(columns), tmp_path / "t.parquet")
    with pytest.raises(FileFormatError) as fault:
        list(read_trace(tmp_path / "t.parquet"))
    assert message in str(fault.value)


def test_a_name_without_a_format_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="expected a name ending in"):
        write_trace(tmp_path / "t.xyz", requests([0], [False]))


def test_arrays_must_fit_each_other():
    with pytest.raises(ConfigError, match="is_write: expected one value or 2 of them"):
        requests([0, 32], [True, False, True])
    with pytest.raises(ConfigError, match="address: expected whole numbers"):
        requests([0.5], [True])
