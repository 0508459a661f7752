"""The chunk table of a packed layer: a row for each chunk, in columns of one width or of a width each."""

from __future__ import annotations

import numpy as np

from dchw.compression.bitstream import Bytes
from dchw.formats.packing.fields import pack_fields, unpack_fields
from dchw.formats.packing.packed import PackedLayer, damaged, region
from dchw.formats.packing.run_layout import Chunks, Int64s
from dchw.formats.packing.stored_runs import offsets_of
from dchw.quantities import ceil_div
from dchw.vocabulary import Stream


def pack_chunk_table(rows: Int64s) -> tuple[Bytes, int]:
    """The CHUNK_TABLES region of rows [chunks, columns], and the width of its fields: 16 bits, or 32 where needed."""
    bits = 16 if int(rows.max(initial=0)) < 1 << 16 else 32
    return rows.astype(f"<u{bits // 8}").reshape(-1).view(np.uint8), bits


def pack_narrow_table(rows: Int64s) -> tuple[Bytes, tuple[int, ...]]:
    """The CHUNK_TABLES region of rows [chunks, columns], column by column, and the width of each column."""
    widths = tuple(int(column.max(initial=0)).bit_length() for column in rows.T)
    whole = np.array([0, rows.shape[0]])
    parts = [pack_fields(column, whole, bits)[0] for column, bits in zip(rows.T, widths, strict=True)]
    return np.concatenate(parts), widths


def read_chunk_table(packed: PackedLayer, columns: int) -> Int64s:
    """int64[chunks, columns]: the rows of the chunk table."""
    if packed.parameters.chunk_table_widths:
        return _read_narrow_table(packed)
    table = region(packed, Stream.CHUNK_TABLES)
    field_bytes = packed.parameters.chunk_table_bits // 8
    row_bytes = columns * field_bytes
    if table.size % row_bytes:
        raise damaged(packed, Stream.CHUNK_TABLES, f"rows of {row_bytes} bytes", f"{table.size} bytes")
    return np.frombuffer(table.tobytes(), f"<u{field_bytes}").astype(np.int64).reshape(-1, columns)


def _read_narrow_table(packed: PackedLayer) -> Int64s:
    table, widths = region(packed, Stream.CHUNK_TABLES), packed.parameters.chunk_table_widths
    count = packed.chunks
    sizes = offsets_of(np.array([ceil_div(count * bits, 8) for bits in widths]))
    if table.size != sizes[-1]:
        raise damaged(packed, Stream.CHUNK_TABLES, f"{int(sizes[-1])} bytes for {count} chunks", str(table.size))
    where = f"layer {packed.name!r}, {Stream.CHUNK_TABLES.value}"
    columns = [
        unpack_fields(table[sizes[i] : sizes[i + 1]], np.array([0, count]), bits, where)
        for i, bits in enumerate(widths)
    ]
    return np.stack(columns, axis=1).astype(np.int64)


def check_chunks(packed: PackedLayer, chunks: Chunks) -> None:
    """Raise FileFormatError where a packed layer lists other chunks than its tables imply."""
    for field, listed in (("decoder", chunks.decoder), ("first_job", chunks.first_job), ("end_job", chunks.end_job)):
        if not np.array_equal(listed, getattr(packed, f"chunk_{field}")):
            raise damaged(packed, Stream.CHUNK_TABLES, f"chunk_{field} in the order of (first job, decoder)", "another")
