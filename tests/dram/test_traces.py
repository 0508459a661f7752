"""Request traces: what is written reads back, and what is malformed is named with its line."""

from __future__ import annotations

import gzip
import tracemalloc

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from dchw.quantities import ConfigError, FileFormatError
from dchw.traces import NO_STREAM, TraceChunk, read_trace, requests, trace_writer, write_trace

NAMES = ["t.parquet", "t.trace", "t.trace.gz", "t.trc", "t.dramsim3.gz"]


def _all(path) -> TraceChunk:
    parts = list(read_trace(path))
    return TraceChunk(
        **{name: np.concatenate([getattr(p, name) for p in parts]) for name in TraceChunk.__annotations__}
    )


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
            append(TraceChunk(**{n: getattr(made, n)[start : start + 1700] for n in TraceChunk.__annotations__}))
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


FOUND = {
    "dramsim3_example.trace": b"0x0 READ 0\n0x40 WRITE 5\n",
    "ramulator1.trace": b"0x0 R\n64 W\n",
    "ramulator1.trc": b"# from a simulator\n\n0x0 r # the first\n0x40 w\n",
    "comment.dramsim3": b"# two requests\nLD 0x0\nST 0x40 # written\n",
    "bom.trace": b"\xef\xbb\xbfLD 0x0\nST 0x40\n",
    "compressed.trace": gzip.compress(b"LD 0x0\nST 0x40\n"),
    "not_compressed.trace.gz": b"LD 0x0\r\nST 0x40",
    "lower.trace": b"ld 0x0\nst 0X40\n",
    "lower.trc": b"0x0 read 0\n0x40 p_mem_wr 5\n",
    "no_suffix": b"0 P_FETCH 1\n40 BOFF 2\n",
}


@pytest.mark.parametrize("name", FOUND)
def test_traces_are_read_as_they_are_found(tmp_path, name):
    (tmp_path / name).write_bytes(FOUND[name])
    found = _all(tmp_path / name)
    assert (found.address.tolist(), found.is_write.tolist()) == ([0, 64], [False, True])


def test_a_parquet_file_by_any_name(tmp_path):
    write_trace(tmp_path / "t.parquet", requests([64], [True]))
    (tmp_path / "t.parquet").rename(tmp_path / "t.trace")
    assert _all(tmp_path / "t.trace").address.tolist() == [64]


def test_a_format_that_is_said_comes_before_the_content(tmp_path):
    (tmp_path / "t").write_text("0x40 R\n")
    (part,) = read_trace(tmp_path / "t", kind="ramulator1")
    assert part.address.tolist() == [64]
    with pytest.raises(FileFormatError, match="line 1: expected 'HEX-ADDRESS READ CLOCK'"):
        list(read_trace(tmp_path / "t", kind="dramsim3"))
    with pytest.raises(ConfigError, match="trace format 'ramulator3': no such format; did you mean 'ramulator"):
        list(read_trace(tmp_path / "t", kind="ramulator3"))


@pytest.mark.parametrize("text", ["R 0,0,0,1,2,3\n", "hello world\n", "\x89PNG\r\n\x1a\n\x00\x00", "GET / HTTP/1.1\n"])
def test_what_is_no_trace_is_told_all_formats(tmp_path, text):
    (tmp_path / "t.bin").write_text(f"\n# no trace\n{text}", encoding="latin-1")
    with pytest.raises(FileFormatError) as fault:
        list(read_trace(tmp_path / "t.bin"))
    said = str(fault.value)
    assert ", line 3: expected 'LD ADDRESS'" in said
    assert "'ADDRESS R'" in said
    assert "'HEX-ADDRESS READ CLOCK'" in said


def test_an_endless_line_ends_in_a_sentence_and_not_in_all_the_memory(tmp_path):
    path = tmp_path / "endless.trace.gz"
    with gzip.open(path, "wb", compresslevel=1) as out:
        out.write(b"LD 0x40\n")
        for _ in range(40):
            out.write(b"0" * (1 << 20))
    tracemalloc.start()
    with pytest.raises(FileFormatError, match="line 2: expected a line of at most 65,536 bytes; got '0000"):
        list(read_trace(path))
    assert tracemalloc.get_traced_memory()[1] < 24 << 20
    tracemalloc.stop()


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200), st.sampled_from(["t", "t.trace", "t.trc", "t.trace.gz", "t.parquet"]), st.booleans())
def test_any_bytes_are_a_trace_or_a_sentence(tmp_path_factory, data, name, packed):
    path = tmp_path_factory.mktemp("t") / name
    path.write_bytes(gzip.compress(data) if packed else data)
    said = str(path)
    try:
        parts = list(read_trace(path))
    except FileFormatError as fault:
        parts, said = [], str(fault)
    assert all(len(part) for part in parts)
    assert said.startswith(str(path))


_PLACES = st.lists(st.tuples(st.integers(0, 1 << 40), st.booleans(), st.integers(0, 1 << 40)), max_size=30)


@settings(max_examples=60, deadline=None)
@given(_PLACES, st.sampled_from(["ramulator", "ramulator1", "dramsim3"]), st.booleans(), st.booleans(), st.booleans())
def test_what_is_written_reads_back_under_any_name_and_case(tmp_path_factory, places, kind, packed, lower, comments):
    path = tmp_path_factory.mktemp("t") / "any"
    made = requests(
        [address // 32 * 32 for address, _, _ in places],
        [write for _, write, _ in places],
        cycle=np.sort([cycle for _, _, cycle in places]).astype(np.int64),
    )
    write_trace(path, made, kind=kind)
    text = path.read_text().lower() if lower else path.read_text()
    if comments:
        text = "# made\n\n" + text.replace("\n", "  # one\n\n")
    path.write_bytes(gzip.compress(text.encode()) if packed else text.encode())
    parts = list(read_trace(path))
    assert [a for part in parts for a in part.address] == made.address.tolist()
    assert [w for part in parts for w in part.is_write] == made.is_write.tolist()
    if kind == "dramsim3":
        assert [c for part in parts for c in part.cycle] == made.cycle.tolist()


@pytest.mark.parametrize("name", ["t.trace", "t.trace.gz", "t.parquet"])
def test_progress_ends_at_a_true_total(tmp_path, name):
    count = 700_000
    write_trace(tmp_path / name, requests(np.arange(count) * 32, np.zeros(count, bool)))
    told: list[tuple[int, int]] = []
    for _ in read_trace(tmp_path / name, on_read=lambda done, whole: told.append((done, whole))):
        pass
    assert len(told) > 1
    assert told == sorted(told)
    total = count if name.endswith("parquet") else (tmp_path / name).stat().st_size
    assert told[-1] == (total, total)
