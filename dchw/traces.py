"""DRAM request traces in and out, streamed in chunks: Parquet, Ramulator load/store lines, DRAMsim3 lines.

====================  =====================================================================  =====================
format                one request                                                            file names
====================  =====================================================================  =====================
``parquet``           columns ``cycle, address, bytes, is_write, stream``                    ``.parquet``
``ramulator``         ``LD 0x1f40`` or ``ST 0x1f40`` (decimal too); one burst                ``.trace``, ``.ramulator``
``dramsim3``          ``0x1f40 READ 12`` or ``0x1f40 WRITE 12``: hex address, clock          ``.trc``, ``.dramsim3``
====================  =====================================================================  =====================

Text may be compressed (``.gz``). A Parquet trace needs only ``address`` and ``is_write``. A request may be of any
size; the text formats have one line per burst, so larger ones are split when written.
"""

from __future__ import annotations

import gzip
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Literal

import numpy as np

from dchw.compile import kernel
from dchw.events import Stream
from dchw.quantities import ConfigError, FileFormatError

if TYPE_CHECKING:
    import numpy.typing as npt

Format = Literal["parquet", "ramulator", "dramsim3"]
SUFFIXES: dict[str, Format] = {
    ".parquet": "parquet",
    ".trace": "ramulator",
    ".ramulator": "ramulator",
    ".trc": "dramsim3",
    ".dramsim3": "dramsim3",
}
CHUNK = 1 << 18
"""Requests handled at a time."""
NO_STREAM = -1
STREAMS = tuple(stream.value for stream in Stream)
_BLOCK = 1 << 22
_EXPECTED = {
    "ramulator": "'LD ADDRESS' or 'ST ADDRESS' with a decimal or 0x address",
    "dramsim3": "'HEX-ADDRESS READ CLOCK' or 'HEX-ADDRESS WRITE CLOCK'",
}


@dataclass(frozen=True, kw_only=True, eq=False)
class Requests:
    """Some requests of a trace, in order; arrays of equal length."""

    cycle: npt.NDArray[np.int64]
    """Earliest clock, where the trace says one; 0 otherwise."""
    address: npt.NDArray[np.int64]
    """Byte address of the first byte."""
    size_bytes: npt.NDArray[np.int64]
    is_write: npt.NDArray[np.bool_]
    stream: npt.NDArray[np.int8]
    """Index into ``list(Stream)``; NO_STREAM where unknown."""

    def __len__(self) -> int:
        return len(self.address)


def requests(
    address: npt.ArrayLike,
    is_write: npt.ArrayLike,
    *,
    size_bytes: npt.ArrayLike = 32,
    cycle: npt.ArrayLike = 0,
    stream: npt.ArrayLike = NO_STREAM,
) -> Requests:
    """Requests from arrays or single values; all are checked and brought to one length (ConfigError)."""
    where = np.asarray(address)
    if where.ndim != 1 or (where.size and where.dtype.kind not in "iu"):
        raise ConfigError(f"address: expected whole numbers in one dimension; got {where.dtype} of shape {where.shape}")
    columns = {"is_write": is_write, "size_bytes": size_bytes, "cycle": cycle, "stream": stream}
    arrays: dict[str, Any] = {}
    for name, value in columns.items():
        array = np.asarray(value)
        if array.ndim and array.shape != where.shape:
            raise ConfigError(f"{name}: expected one value or {where.size} of them; got shape {array.shape}")
        arrays[name] = np.broadcast_to(array, where.shape)
    made = Requests(
        cycle=arrays["cycle"].astype(np.int64),
        address=where.astype(np.int64),
        size_bytes=arrays["size_bytes"].astype(np.int64),
        is_write=arrays["is_write"].astype(bool),
        stream=arrays["stream"].astype(np.int8),
    )
    _check(made, "requests", 1)
    return made


def _check(made: Requests, where: str, first: int) -> None:
    for name, low, values in (
        ("address", 0, made.address),
        ("bytes", 1, made.size_bytes),
        ("cycle", 0, made.cycle),
        ("stream", NO_STREAM, made.stream),
    ):
        bad = np.flatnonzero(values < low)
        if bad.size:
            raise FileFormatError(
                f"{where}, request {first + int(bad[0])}: {name}: expected at least {low}; got {int(values[bad[0]])}"
            )
    if made.stream.size and int(made.stream.max()) >= len(STREAMS):
        raise FileFormatError(f"{where}: stream: expected a number below {len(STREAMS)}; got {int(made.stream.max())}")


def format_of(path: str | Path) -> Format | None:
    """The format a file name stands for; None where it says nothing."""
    name = Path(path).name.lower().removesuffix(".gz")
    return SUFFIXES.get(Path(name).suffix)


def read_trace(path: str | Path, *, burst_bytes: int = 32) -> Iterator[Requests]:
    """The requests of a file in chunks; text is told apart by its first line where the name does not say.

    ``burst_bytes`` is the size of a request where the file has none. Raises FileFormatError naming file and line.
    """
    source = Path(path)
    if not source.is_file():
        raise FileFormatError(f"{source}: no such file; name a trace")
    if format_of(source) == "parquet":
        yield from _read_parquet(source, burst_bytes)
    else:
        yield from _read_text(source, burst_bytes)


def _read_parquet(path: Path, burst_bytes: int) -> Iterator[Requests]:
    import pyarrow as pa
    from pyarrow import parquet

    try:
        table = parquet.ParquetFile(path)
    except (pa.ArrowException, OSError) as error:
        raise FileFormatError(f"{path}: not a Parquet file ({' '.join(str(error).split())})") from None
    names = table.schema_arrow.names
    for name in ("address", "is_write"):
        if name not in names:
            raise FileFormatError(f"{path}: expected a column {name!r}; got {', '.join(names) or 'none'}")
    kinds = {"address": "iu", "is_write": "b", "bytes": "iu", "cycle": "iu"}
    done = 0
    for batch in table.iter_batches(CHUNK):
        columns: dict[str, Any] = {"bytes": burst_bytes, "cycle": 0}
        for name, kind in kinds.items():
            if name not in names:
                continue
            column = batch.column(name)
            if column.null_count or column.to_numpy(zero_copy_only=False).dtype.kind not in kind:
                raise FileFormatError(
                    f"{path}: column {name!r}: expected {'true or false' if kind == 'b' else 'whole numbers'} without "
                    f"gaps; got {column.type} with {column.null_count} missing"
                )
            columns[name] = column.to_numpy(zero_copy_only=False)
        stream = _streams(batch.column("stream").to_pylist(), path) if "stream" in names else NO_STREAM
        made = requests(
            columns["address"],
            columns["is_write"],
            size_bytes=columns["bytes"],
            cycle=columns["cycle"],
            stream=stream,
        )
        _check(made, str(path), done + 1)
        done += len(made)
        yield made


def _streams(values: list[Any], path: Path) -> npt.NDArray[np.int8]:
    numbers = {name: number for number, name in enumerate(STREAMS)} | {"": NO_STREAM, None: NO_STREAM}
    unknown = sorted(str(value) for value in set(values) - set(numbers))
    if unknown:
        raise FileFormatError(
            f"{path}: column 'stream': expected one of {', '.join(STREAMS)} or nothing; got {unknown[0]!r}"
        )
    return np.array([numbers[value] for value in values], np.int8)


def _open_text(path: Path, mode: Literal["rb", "wb"]) -> IO[bytes]:
    if path.name.lower().endswith(".gz"):
        return gzip.open(path, mode)  # type: ignore[return-value]
    return open(path, mode)


def _read_text(path: Path, burst_bytes: int) -> Iterator[Requests]:
    kind = format_of(path)
    line = 1
    rest = b""
    with _open_text(path, "rb") as file:
        while True:
            try:
                block = file.read(_BLOCK)
            except (OSError, EOFError) as error:
                raise FileFormatError(f"{path}: cannot be read ({error}); write it again") from None
            text = rest + block
            if not text:
                return
            if block:
                end = text.rfind(b"\n") + 1
                text, rest = text[:end], text[end:]
            else:
                text, rest = text + b"\n", b""
            if kind is None and text.strip():
                kind = "ramulator" if text.split(None, 1)[0] in (b"LD", b"ST") else "dramsim3"
            data = np.frombuffer(text, np.uint8)
            room = int(np.count_nonzero(data == ord("\n")))
            address, cycle = np.empty(room, np.int64), np.zeros(room, np.int64)
            is_write = np.empty(room, np.bool_)
            parse = _parse_ramulator if kind == "ramulator" else _parse_dramsim3
            found, bad = parse(data, address, is_write, cycle)
            if bad >= 0:
                wrong = text.split(b"\n")[bad].decode("utf-8", "replace").strip()
                raise FileFormatError(
                    f"{path}, line {line + bad}: expected {_EXPECTED[kind or 'dramsim3']}; got {wrong[:60]!r}"
                )
            line += room
            for at in range(0, found, CHUNK):
                part = slice(at, min(at + CHUNK, found))
                yield requests(address[part], is_write[part], size_bytes=burst_bytes, cycle=cycle[part])


_SPACE, _NEWLINE, _TAB, _RETURN, _ZERO, _NINE, _X = 32, 10, 9, 13, 48, 57, 120
_MAX = (1 << 62) // 16


@kernel
def _skip_spaces(data: Any, at: int) -> int:
    while data[at] == _SPACE or data[at] == _TAB or data[at] == _RETURN:
        at += 1
    return at


@kernel
def _word(data: Any, at: int) -> int:
    # the end of the word that starts here; every block ends with a newline
    while data[at] != _SPACE and data[at] != _TAB and data[at] != _RETURN and data[at] != _NEWLINE:
        at += 1
    return at


@kernel
def _number(data: Any, at: int, end: int, always_hex: bool) -> int:
    # the value of a decimal or 0x number, -1 if it is none or beyond 2**62
    base = 16 if always_hex else 10
    if end - at > 2 and data[at] == _ZERO and (data[at + 1] | 32) == _X:
        base = 16
        at += 2
    if at == end:
        return -1
    value = 0
    while at < end:
        digit = int(data[at]) - _ZERO
        if digit < 0 or digit > 9:
            digit = (int(data[at]) | 32) - 87
            if digit < 10 or digit >= base:
                return -1
        if value >= _MAX:
            return -1
        value = value * base + digit
        at += 1
    return value


@kernel
def _is_word(data: Any, at: int, end: int, word: Any) -> bool:
    if end - at != len(word):
        return False
    for k in range(len(word)):  # noqa: SIM110  kernels have no generators
        if data[at + k] != word[k]:
            return False
    return True


_LD, _ST = (np.frombuffer(word, np.uint8) for word in (b"LD", b"ST"))
_READ, _WRITE, _P_MEM_WR, _BOFF = (np.frombuffer(word, np.uint8) for word in (b"READ", b"WRITE", b"P_MEM_WR", b"BOFF"))


@kernel
def _parse_ramulator(data: Any, address: Any, is_write: Any, cycle: Any) -> tuple[int, int]:
    """Requests found, and the first malformed line (-1 if none)."""
    at = found = line = 0
    while at < len(data):
        at = _skip_spaces(data, at)
        if data[at] != _NEWLINE:
            end = _word(data, at)
            if _is_word(data, at, end, _ST):
                is_write[found] = True
            elif _is_word(data, at, end, _LD):
                is_write[found] = False
            else:
                return found, line
            at = _skip_spaces(data, end)
            end = _word(data, at)
            address[found] = _number(data, at, end, False)
            at = _skip_spaces(data, end)
            if address[found] < 0 or data[at] != _NEWLINE:
                return found, line
            found += 1
        at += 1
        line += 1
    return found, -1


@kernel
def _parse_dramsim3(data: Any, address: Any, is_write: Any, cycle: Any) -> tuple[int, int]:
    """Requests found, and the first malformed line (-1 if none)."""
    at = found = line = 0
    while at < len(data):
        at = _skip_spaces(data, at)
        if data[at] != _NEWLINE:
            end = _word(data, at)
            address[found] = _number(data, at, end, True)
            at = _skip_spaces(data, end)
            end = _word(data, at)
            write = _is_word(data, at, end, _WRITE) or _is_word(data, at, end, _P_MEM_WR)
            is_write[found] = write or _is_word(data, at, end, _BOFF)
            known = is_write[found] or _is_word(data, at, end, _READ)
            at = _skip_spaces(data, end)
            end = _word(data, at)
            cycle[found] = _number(data, at, end, False)
            at = _skip_spaces(data, end)
            if not known or address[found] < 0 or cycle[found] < 0 or data[at] != _NEWLINE:
                return found, line
            found += 1
        at += 1
        line += 1
    return found, -1


def chunks_of(trace: Any, *, burst_bytes: int = 32) -> Iterator[Requests]:
    """The chunks of whatever a user may call a trace: a path, one `Requests`, an (address, is_write) pair of arrays,
    or an iterable of `Requests`.
    """
    if isinstance(trace, str | Path):
        yield from read_trace(trace, burst_bytes=burst_bytes)
    elif isinstance(trace, Requests):
        yield trace
    elif isinstance(trace, tuple) and len(trace) == 2:
        yield requests(trace[0], trace[1], size_bytes=burst_bytes)
    elif isinstance(trace, Iterable):
        for chunk in trace:
            if not isinstance(chunk, Requests):
                raise ConfigError(f"trace: expected chunks made by dchw.traces.requests; got {type(chunk).__name__}")
            yield chunk
    else:
        raise ConfigError(
            f"trace: expected a path, a pair of arrays (address, is_write) or chunks; got {type(trace).__name__}"
        )


@contextmanager
def trace_writer(path: str | Path, *, burst_bytes: int = 32, kind: Format | None = None) -> Iterator[Any]:
    """A function that appends `Requests` to a new trace file; the format follows the name unless given.

    ``burst_bytes`` is the size of one line of the text formats.
    """
    target = Path(path)
    kind = kind or format_of(target)
    if kind is None:
        raise ConfigError(f"{target}: expected a name ending in {', '.join(SUFFIXES)} (or with .gz); rename the file")
    if kind == "parquet":
        yield from _parquet_writer(target)
        return
    with _open_text(target, "wb") as file:
        yield lambda made: file.write(_lines(made, kind, burst_bytes))


def _parquet_writer(path: Path) -> Iterator[Any]:
    import pyarrow as pa
    from pyarrow import parquet

    names = pa.array([*STREAMS, ""])
    schema = pa.schema(
        [
            ("cycle", pa.int64()),
            ("address", pa.int64()),
            ("bytes", pa.int64()),
            ("is_write", pa.bool_()),
            ("stream", pa.dictionary(pa.int8(), pa.string())),
        ]
    )
    with parquet.ParquetWriter(path, schema) as writer:

        def append(made: Requests) -> None:
            numbers = np.where(made.stream < 0, len(STREAMS), made.stream).astype(np.int8)
            stream = pa.DictionaryArray.from_arrays(numbers, names)
            columns = [made.cycle, made.address, made.size_bytes, made.is_write, stream]
            writer.write_table(pa.table([pa.array(c) if c is not stream else c for c in columns], schema=schema))

        yield append


def _lines(made: Requests, kind: Format, burst_bytes: int) -> bytes:
    first = made.address // burst_bytes
    bursts = (made.address + made.size_bytes - 1) // burst_bytes - first + 1
    whole = np.repeat(np.arange(len(made)), bursts)
    inside = np.arange(len(whole)) - np.repeat(np.cumsum(bursts) - bursts, bursts)
    addresses = ((first[whole] + inside) * burst_bytes).tolist()
    writes = made.is_write[whole].tolist()
    if kind == "ramulator":
        lines = (f"{'ST' if w else 'LD'} 0x{a:x}\n" for a, w in zip(addresses, writes, strict=True))
    else:
        cycles = made.cycle[whole].tolist()
        ops = ("WRITE" if w else "READ" for w in writes)
        lines = (f"0x{a:x} {op} {c}\n" for a, op, c in zip(addresses, ops, cycles, strict=True))
    return "".join(lines).encode()


def write_trace(
    path: str | Path, trace: Requests | Iterable[Requests], *, burst_bytes: int = 32, kind: Format | None = None
) -> None:
    """Write a whole trace; see ``trace_writer``."""
    parts = chain([trace]) if isinstance(trace, Requests) else trace
    with trace_writer(path, burst_bytes=burst_bytes, kind=kind) as append:
        for part in parts:
            append(part)
