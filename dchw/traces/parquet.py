"""Traces as Parquet, chunk by chunk."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dchw.quantities import FileFormatError
from dchw.traces.chunk import CHUNK, NO_STREAM, STREAMS, TraceChunk, check, requests

if TYPE_CHECKING:
    import numpy.typing as npt


def read_parquet(path: Path, burst_bytes: int, on_read: Callable[[int, int], None]) -> Iterator[TraceChunk]:
    """The requests of a file; ``burst_bytes`` is the size of one where the file has no sizes.

    ``on_read`` is told the requests read and in all.
    """
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
        check(made, str(path), done + 1)
        done += len(made)
        on_read(done, table.metadata.num_rows)
        yield made


def _streams(values: list[Any], path: Path) -> npt.NDArray[np.int8]:
    numbers = {name: number for number, name in enumerate(STREAMS)} | {"": NO_STREAM, None: NO_STREAM}
    unknown = sorted(str(value) for value in set(values) - set(numbers))
    if unknown:
        raise FileFormatError(
            f"{path}: column 'stream': expected one of {', '.join(STREAMS)} or nothing; got {unknown[0]!r}"
        )
    return np.array([numbers[value] for value in values], np.int8)


def parquet_writer(path: Path) -> Iterator[Any]:
    """Yields a function that appends `TraceChunk` to a new file, once; finish the iterator to close the file."""
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

        def append(made: TraceChunk) -> None:
            numbers = np.where(made.stream < 0, len(STREAMS), made.stream).astype(np.int8)
            stream = pa.DictionaryArray.from_arrays(numbers, names)
            columns = [made.cycle, made.address, made.size_bytes, made.is_write, stream]
            writer.write_table(pa.table([pa.array(c) if c is not stream else c for c in columns], schema=schema))

        yield append
