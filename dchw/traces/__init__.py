"""DRAM request traces in and out, streamed in chunks: Parquet, and the lines of Ramulator 1 and 2 and of DRAMsim3.

====================  =====================================================================  =====================
format                one request                                                            file names, to write
====================  =====================================================================  =====================
``parquet``           columns ``cycle, address, bytes, is_write, stream``                    ``.parquet``
``ramulator``         ``LD 0x1f40`` or ``ST 0x1f40`` (decimal too); one burst                ``.trace``, ``.ramulator``
``ramulator1``        ``0x1f40 R`` or ``0x1f40 W`` (decimal too); one burst                  ``.ramulator1``
``dramsim3``          ``0x1f40 READ 12`` or ``0x1f40 WRITE 12``: hex address, clock          ``.trc``, ``.dramsim3``
====================  =====================================================================  =====================

A trace that is read is told by its content, whatever its name: Parquet, gzip, and the format by its first request. A
Parquet trace needs only ``address`` and ``is_write``. A request may be of any size; the text formats have one line per
burst, so larger ones are split when written.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import fields
from itertools import chain
from pathlib import Path
from typing import Any, Literal

from dchw.files import whole_file
from dchw.quantities import ConfigError, FileFormatError, nearest
from dchw.traces.chunk import CHUNK, NO_STREAM, STREAMS, TraceChunk, requests
from dchw.traces.parquet import parquet_writer, read_parquet
from dchw.traces.text import FORMS, lines_of, open_text, read_lines

__all__ = [
    "CHUNK",
    "FORMATS",
    "NO_STREAM",
    "STREAMS",
    "SUFFIXES",
    "Format",
    "TraceChunk",
    "chunks_of",
    "format_of",
    "read_trace",
    "requests",
    "trace_writer",
    "write_trace",
]

Format = Literal["parquet", "ramulator", "ramulator1", "dramsim3"]
FORMATS: tuple[Format, ...] = ("parquet", *FORMS)
SUFFIXES: dict[str, Format] = {
    ".parquet": "parquet",
    ".trace": "ramulator",
    ".ramulator": "ramulator",
    ".ramulator1": "ramulator1",
    ".trc": "dramsim3",
    ".dramsim3": "dramsim3",
}


def format_of(path: str | Path) -> Format | None:
    """The format a file name stands for; None where it says nothing."""
    name = Path(path).name.lower().removesuffix(".gz")
    return SUFFIXES.get(Path(name).suffix)


OnRead = Callable[[int, int], None]


def _unheard(done: int, total: int) -> None:
    """Nobody asked how far a trace is read."""


def read_trace(
    path: str | Path, *, burst_bytes: int = 32, kind: Format | None = None, on_read: OnRead = _unheard
) -> Iterator[TraceChunk]:
    """The requests of a file in chunks.

    Parameters
    ----------
    path
        Parquet or text of any of the formats, text also through gzip.
    burst_bytes
        Size of a request where the file has none.
    kind
        The format, where the content is not to tell it.
    on_read
        Told what was read and what there is in all, before each chunk: bytes of a text file, requests of Parquet.

    Raises
    ------
    FileFormatError
        Naming the file, and the line or column, that cannot be read.
    """
    source = Path(path)
    if not source.is_file():
        raise FileFormatError(f"{source}: no such file; name a trace")
    if kind is not None and kind not in FORMATS:
        raise ConfigError(f"trace format {kind!r}: no such format; {nearest(kind, FORMATS)}")
    named = format_of(source)
    try:
        with open(source, "rb") as file:
            is_parquet = file.read(4) == b"PAR1"
    except OSError as error:
        raise FileFormatError(f"{source}: cannot be read ({error}); name a trace") from None
    if kind == "parquet" or (kind is None and (is_parquet or named == "parquet")):
        yield from read_parquet(source, burst_bytes, on_read)
    else:
        yield from read_lines(source, kind, burst_bytes, named if named != "parquet" else None, on_read)


def chunks_of(
    trace: Any, *, burst_bytes: int = 32, kind: Format | None = None, on_read: OnRead = _unheard
) -> Iterator[TraceChunk]:
    """The chunks of whatever a user may call a trace: a path, one `TraceChunk`, an (address, is_write) pair of arrays,
    or an iterable of `TraceChunk`; see ``read_trace`` for the other parameters.
    """
    if isinstance(trace, str | Path):
        yield from read_trace(trace, burst_bytes=burst_bytes, kind=kind, on_read=on_read)
        return
    if kind is not None:
        raise ConfigError(f"trace format {kind!r}: expected a path; got {type(trace).__name__}; leave the format away")
    if isinstance(trace, TraceChunk):
        yield from _parts(trace, on_read)
    elif isinstance(trace, tuple) and len(trace) == 2:
        yield from _parts(requests(trace[0], trace[1], size_bytes=burst_bytes), on_read)
    elif isinstance(trace, Iterable):
        for chunk in trace:
            if not isinstance(chunk, TraceChunk):
                raise ConfigError(f"trace: expected chunks made by dchw.traces.requests; got {type(chunk).__name__}")
            yield chunk
    else:
        raise ConfigError(
            f"trace: expected a path, a pair of arrays (address, is_write) or chunks; got {type(trace).__name__}"
        )


def _parts(whole: TraceChunk, on_read: OnRead) -> Iterator[TraceChunk]:
    for at in range(0, len(whole), CHUNK):
        part = slice(at, at + CHUNK)
        made = TraceChunk(**{field.name: getattr(whole, field.name)[part] for field in fields(whole)})
        on_read(at + len(made), len(whole))
        yield made


@contextmanager
def trace_writer(path: str | Path, *, burst_bytes: int = 32, kind: Format | None = None) -> Iterator[Any]:
    """A function that appends `TraceChunk` to a new trace file; the format follows the name unless given.

    ``burst_bytes`` is the size of one line of the text formats.
    """
    target = Path(path)
    kind = kind or format_of(target)
    if kind is None:
        raise ConfigError(f"{target}: expected a name ending in {', '.join(SUFFIXES)} (or with .gz); rename the file")
    if kind == "parquet":
        yield from parquet_writer(target)
        return
    with open_text(target, "wb") as file:
        yield lambda made: file.write(lines_of(made, kind, burst_bytes))


def write_trace(
    path: str | Path, trace: TraceChunk | Iterable[TraceChunk], *, burst_bytes: int = 32, kind: Format | None = None
) -> None:
    """Write a whole trace; see ``trace_writer``."""
    parts = chain([trace]) if isinstance(trace, TraceChunk) else trace
    with whole_file(path) as beside, trace_writer(beside, burst_bytes=burst_bytes, kind=kind) as append:
        for part in parts:
            append(part)
