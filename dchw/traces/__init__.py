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

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import Any, Literal

from dchw.files import whole_file
from dchw.quantities import ConfigError, FileFormatError
from dchw.traces.chunk import CHUNK, NO_STREAM, STREAMS, Requests, requests
from dchw.traces.lines import lines_of, open_text, read_lines
from dchw.traces.parquet import parquet_writer, read_parquet

__all__ = [
    "CHUNK",
    "NO_STREAM",
    "STREAMS",
    "SUFFIXES",
    "Format",
    "Requests",
    "chunks_of",
    "format_of",
    "read_trace",
    "requests",
    "trace_writer",
    "write_trace",
]

Format = Literal["parquet", "ramulator", "dramsim3"]
SUFFIXES: dict[str, Format] = {
    ".parquet": "parquet",
    ".trace": "ramulator",
    ".ramulator": "ramulator",
    ".trc": "dramsim3",
    ".dramsim3": "dramsim3",
}


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
    kind = format_of(source)
    if kind == "parquet":
        yield from read_parquet(source, burst_bytes)
    else:
        yield from read_lines(source, kind, burst_bytes)


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
        yield from parquet_writer(target)
        return
    with open_text(target, "wb") as file:
        yield lambda made: file.write(lines_of(made, kind, burst_bytes))


def write_trace(
    path: str | Path, trace: Requests | Iterable[Requests], *, burst_bytes: int = 32, kind: Format | None = None
) -> None:
    """Write a whole trace; see ``trace_writer``."""
    parts = chain([trace]) if isinstance(trace, Requests) else trace
    with whole_file(path) as beside, trace_writer(beside, burst_bytes=burst_bytes, kind=kind) as append:
        for part in parts:
            append(part)
