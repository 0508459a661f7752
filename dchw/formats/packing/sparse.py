"""What all sparse formats share: runs of stored weights in chunk order, their pointers and the chunk table."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from dchw.compile import kernel
from dchw.compression.bitstream import Bytes
from dchw.compression.compressed import CodeArray, CompressedLayer
from dchw.compression.relative_index import decode_runs, encode_runs
from dchw.formats.packing.fields import byte_offsets_of, pack_fields, unpack_fields
from dchw.formats.packing.packed import (
    Entries,
    LayerParameters,
    PackedLayer,
    damaged,
    decode_bias,
    encode_bias,
    region,
)
from dchw.formats.packing.run_layout import Chunks, Int32s, Int64s, PackShape, RunLayout, run_layout
from dchw.graph.network import FloatArray
from dchw.quantities import FileFormatError, ceil_div
from dchw.vocabulary import Stream

Uint16s = npt.NDArray[np.uint16]
Uint8s = npt.NDArray[np.uint8]
Bools = npt.NDArray[np.bool_]

ROW_BITS = 32
VALUE_BITS = 32
COLUMNS = ("jobs", "positions", "values")
"""What a row of the chunk table lists: jobs with runs in the chunk, bytes of its positions, bytes of its values."""
_BLOCK_COLUMNS = 64  # columns collected at a time: each cache line of uint8 codes is read once


@dataclass(frozen=True, kw_only=True, eq=False)
class StoredRuns:
    """The stored entries of a layer in chunk order, before any bit is written."""

    chunks: Chunks
    run_order: Int64s
    """Index of each run in job order; empty, as what counts runs, where gaps run on and nothing tells runs apart."""
    run_count: Int32s
    chunk_runs: Int64s
    """int64[chunks + 1] into the runs."""
    chunk_entries: Int64s
    """int64[chunks + 1] into the entries."""
    gap: Uint16s
    """Empty when positions are absolute."""
    code: Uint16s
    row: Int32s
    """Global output channels; empty when positions are gaps."""


@dataclass(frozen=True, kw_only=True, eq=False)
class StoredChunks:
    """What pointers and chunk table of a packed layer say, read before any entry."""

    layout: RunLayout
    chunks: Chunks
    run_order: Int64s
    slot: Int64s
    """int64[runs]: index of each run's PE in the layout's [groups, slots] tables."""
    run_count: Int32s
    chunk_runs: Int64s
    chunk_entries: Int64s
    position_bytes: Int64s
    """int64[chunks + 1]: where each chunk begins in GAPS."""
    value_bytes: Int64s
    """int64[chunks + 1]: where each chunk begins in CODES or WEIGHTS."""

    @property
    def run_offsets(self) -> Int64s:
        """int64[runs + 1] into the entries."""
        return offsets_of(self.run_count)


def stored_runs(layer: CompressedLayer, shape: PackShape, *, index_bits: int, coded: bool) -> StoredRuns:
    """The entries of a layer, with gaps of ``index_bits`` bits, or with absolute rows where that is 0.

    Where values are not ``coded``, a shared value of +0.0 is not stored: it could not be told from a filler.
    """
    layout = run_layout(layer.geometry, shape)
    position, code, run_offsets = collect_runs(layer, layout, coded=coded)
    gap = np.zeros(0, dtype=np.uint16)
    if index_bits:
        gap, code, run_offsets = encode_runs(position, code, run_offsets, index_bits)
        position = np.zeros(0, dtype=np.int32)
    counts = np.diff(run_offsets).astype(np.int32)
    chunks = layout.cut(counts)
    order, chunk_runs = layout.run_order(chunks)
    run_count = counts[order]
    if position.size:
        run_element_row = layout.first_row.ravel()[layout.slot_index(order)]
        position = gathered(position, run_offsets, order)
        position = np.repeat(run_element_row, run_count) + position * np.int32(shape.elements)
    return StoredRuns(
        chunks=chunks,
        run_order=order,
        run_count=run_count,
        chunk_runs=chunk_runs,
        chunk_entries=offsets_of(run_count)[chunk_runs],
        gap=gathered(gap, run_offsets, order) if index_bits else gap,
        code=gathered(code, run_offsets, order),
        row=position,
    )


def collect_runs(layer: CompressedLayer, layout: RunLayout, *, coded: bool) -> tuple[Int32s, Uint16s, Int64s]:
    """Position in its run and code of every stored weight, in job order, and run offsets int64[runs + 1] into both."""
    is_stored = np.ones(layer.codebook.size, dtype=np.int64)
    if not coded:
        is_stored[layer.codebook.view(np.uint32) == 0] = 0
    is_stored[0] = 0
    most = int(np.count_nonzero(layer.codes))
    position, code = np.empty(most, dtype=np.int32), np.empty(most, dtype=np.uint16)
    run_offsets = np.zeros(layout.jobs * layout.slots + 1, dtype=np.int64)
    by_group = layer.codes.reshape(layer.geometry.groups, layout.rows, layer.geometry.columns)
    _collect(by_group, is_stored, layout.row_slot, layout.slots, layout.shape.elements, position, code, run_offsets)
    return position[: run_offsets[-1]], code[: run_offsets[-1]], run_offsets


def assemble(
    layer: CompressedLayer,
    storage: str,
    shape: PackShape,
    parameters: LayerParameters,
    runs: StoredRuns,
    *,
    positions: tuple[Bytes, Int64s],
    values: tuple[Stream, Bytes, Int64s],
    tables: Mapping[Stream, Bytes] | None = None,
    columns: tuple[str, ...] = COLUMNS,
    pointers: bool = True,
) -> PackedLayer:
    """A packed layer from its entries and the coded bytes and chunk offsets of their positions and values.

    ``columns`` are those of the chunk table; without ``pointers`` the entries of a run follow from its positions.
    """
    stream, value_data, value_offsets = values
    pointer_bits = int(runs.run_count.max(initial=0)).bit_length() if pointers else 0
    pointed = (runs.run_count, runs.chunk_runs) if pointers else (runs.run_count[:0], runs.chunk_runs * 0)
    pointer_data, pointer_offsets = pack_fields(*pointed, pointer_bits)
    listed = {
        "jobs": runs.chunks.jobs,
        "entries": np.diff(runs.chunk_entries),
        "positions": np.diff(positions[1]),
        "values": np.diff(value_offsets),
    }
    rows = np.stack([listed[name] for name in columns], axis=1)
    widths: tuple[int, ...] = ()
    chunk_table_bits = 0
    if pointers or "entries" not in columns:
        table, chunk_table_bits = pack_chunk_table(rows)
    else:
        table, widths = pack_narrow_table(rows)
    return PackedLayer(
        name=layer.name,
        storage=storage,
        shape=shape,
        geometry=layer.geometry,
        parameters=replace(
            parameters, pointer_bits=pointer_bits, chunk_table_bits=chunk_table_bits, chunk_table_widths=widths
        ),
        regions={
            **(tables or {}),
            Stream.CHUNK_TABLES: table,
            **encode_bias(layer, parameters),
            Stream.POINTERS: pointer_data,
            Stream.GAPS: positions[0],
            stream: value_data,
        },
        chunk_bytes={Stream.POINTERS: pointer_offsets, Stream.GAPS: positions[1], stream: value_offsets},
        chunk_decoder=runs.chunks.decoder,
        chunk_first_job=runs.chunks.first_job,
        chunk_end_job=runs.chunks.end_job,
        entries=runs.code.size,
        fillers=int((runs.code == 0).sum()),
    )


def stored_chunks(
    packed: PackedLayer,
    *,
    columns: tuple[str, ...] = COLUMNS,
    count: Callable[[Int64s, Int64s], Int32s] | None = None,
) -> StoredChunks:
    """Chunk table and pointers. Raises FileFormatError where they disagree with each other or the chunks' order.

    ``count`` gives the entries of every run from (its index in job order, chunk offsets into the runs); by default the
    pointers do.
    """
    layout = run_layout(packed.geometry, packed.shape)
    rows = read_chunk_table(packed, len(columns))
    listed = dict(zip(columns, rows.T, strict=True))
    try:
        chunks = layout.chunks_of(listed["jobs"])
    except FileFormatError as error:
        raise FileFormatError(f"layer {packed.name!r}, {error}") from None
    check_chunks(packed, chunks)
    order, chunk_runs = layout.run_order(chunks)
    counts = _pointers(packed, chunk_runs) if count is None else count(order, chunk_runs)
    nothing = np.zeros(chunks.count, np.int64)
    return StoredChunks(
        layout=layout,
        chunks=chunks,
        run_order=order,
        slot=layout.slot_index(order),
        run_count=counts,
        chunk_runs=chunk_runs,
        chunk_entries=offsets_of(listed["entries"]) if "entries" in listed else offsets_of(counts)[chunk_runs],
        position_bytes=offsets_of(listed.get("positions", nothing)),
        value_bytes=offsets_of(listed.get("values", nothing)),
    )


def _pointers(packed: PackedLayer, chunk_runs: Int64s) -> Int32s:
    where = f"layer {packed.name!r}, {Stream.POINTERS.value}"
    counts = unpack_fields(region(packed, Stream.POINTERS), chunk_runs, packed.parameters.pointer_bits, where)
    return counts.astype(np.int32)


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


def check_chunks(packed: PackedLayer, chunks: Chunks) -> None:
    """Raise FileFormatError where a packed layer lists other chunks than its tables imply."""
    for field, listed in (("decoder", chunks.decoder), ("first_job", chunks.first_job), ("end_job", chunks.end_job)):
        if not np.array_equal(listed, getattr(packed, f"chunk_{field}")):
            raise damaged(packed, Stream.CHUNK_TABLES, f"chunk_{field} in the order of (first job, decoder)", "another")


def read_fields(packed: PackedLayer, stream: Stream, chunks: StoredChunks, bits: int) -> npt.NDArray[np.uint32]:
    """Fixed-width fields of a region, one per entry, whose lengths in the chunk table are checked."""
    listed = chunks.position_bytes if stream is Stream.GAPS else chunks.value_bytes
    if not np.array_equal(listed, byte_offsets_of(chunks.chunk_entries, bits)):
        raise damaged(packed, stream, "the bytes that the pointers' entries fill", "other lengths in the chunk table")
    where = f"layer {packed.name!r}, {stream.value}"
    return unpack_fields(region(packed, stream), chunks.chunk_entries, bits, where)


def rows_of_gaps(packed: PackedLayer, chunks: StoredChunks, gaps: npt.NDArray[Any], codes: Uint16s) -> Int32s:
    """Global output channel of every entry. ``codes`` need only be 0 for fillers and nothing else."""
    positions = decode_runs(gaps, codes, chunks.run_offsets, packed.parameters.index_bits)
    slot = chunks.slot
    first, rows_on = chunks.layout.first_row.ravel()[slot], chunks.layout.rows_on.ravel()[slot]
    rows = np.empty(positions.size, dtype=np.int32)
    if not _rows_of_positions(positions, chunks.run_offsets, first, rows_on, packed.shape.elements, rows):
        raise damaged(packed, Stream.GAPS, "entries within the rows of their PE", "one behind the last row")
    return rows


def check_rows(packed: PackedLayer, chunks: StoredChunks, rows: npt.NDArray[np.uint32]) -> Int32s:
    """Absolute rows, which must lie on their run's PE, in its group, and ascend inside a run."""
    slot = chunks.slot
    skipped = rows.astype(np.int64) - np.repeat(chunks.layout.first_row.ravel()[slot], chunks.run_count)
    positions, off = np.divmod(skipped, packed.shape.elements)
    rise = np.diff(positions, prepend=-1)
    starts = chunks.run_offsets[:-1][chunks.run_count > 0]
    rise[starts] = positions[starts] + 1
    beyond = positions >= np.repeat(chunks.layout.rows_on.ravel()[slot], chunks.run_count)
    if off.any() or (rise < 1).any() or beyond.any():
        raise damaged(packed, Stream.GAPS, "ascending rows of the run's PE and group", "others")
    return rows.astype(np.int32)


def entries_of(
    packed: PackedLayer,
    chunks: StoredChunks,
    *,
    row: Int32s,
    value: FloatArray,
    code: Uint16s | None,
    is_filler: Bools,
    gap_bits: Uint8s,
    code_bits: Uint8s,
) -> Entries:
    """Entries with the runs they belong to."""
    run_job = (chunks.run_order // chunks.layout.slots).astype(np.int32)
    run_element = chunks.layout.element.ravel()[chunks.slot].astype(np.uint16)
    return Entries(
        geometry=packed.geometry,
        job=np.repeat(run_job, chunks.run_count),
        element=np.repeat(run_element, chunks.run_count),
        row=row,
        value=value,
        is_filler=is_filler,
        code=np.zeros(row.size, dtype=np.uint16) if code is None else code,
        gap_bits=gap_bits,
        code_bits=code_bits,
        chunk_offsets=chunks.chunk_entries,
        run_count=chunks.run_count,
        run_job=run_job,
        run_element=run_element,
        chunk_run_offsets=chunks.chunk_runs,
        bias=decode_bias(packed),
    )


def pack_floats(values: FloatArray, chunk_entries: Int64s) -> tuple[Bytes, Int64s]:
    """float32 values, little-endian, and their chunk offsets."""
    return values.astype("<f4").view(np.uint8), byte_offsets_of(chunk_entries, VALUE_BITS)


def read_floats(packed: PackedLayer, chunks: StoredChunks) -> FloatArray:
    """The inverse of ``pack_floats``. Raises FileFormatError for NaN and infinities."""
    values = read_fields(packed, Stream.WEIGHTS, chunks, VALUE_BITS).view(np.float32)
    if not np.isfinite(values).all():
        raise damaged(packed, Stream.WEIGHTS, "finite values", "NaN or infinity")
    return values


def constant_bits(bits: int, count: int) -> Uint8s:
    """The same width for every entry."""
    return np.full(count, bits, dtype=np.uint8)


def offsets_of(counts: npt.NDArray[Any]) -> Int64s:
    """int64[n + 1]: sums of all counts before each, and of all."""
    offsets = np.zeros(counts.size + 1, dtype=np.int64)
    np.cumsum(counts, out=offsets[1:])
    return offsets


def gathered(values: npt.NDArray[Any], run_offsets: Int64s, order: Int64s) -> npt.NDArray[Any]:
    """Stretches of ``values`` in another order."""
    result = np.empty_like(values)
    _gather(values, run_offsets, order, result)
    return result


@kernel
def _collect(
    codes: CodeArray,
    is_stored: Int64s,
    row_slot: Int32s,
    slots: int,
    elements: int,
    position: Int32s,
    code: Uint16s,
    run_offsets: Int64s,
) -> None:
    # the stored weights of every run from codes [groups, rows, columns], a block of columns at a time
    groups, rows, columns = codes.shape
    block_run = np.empty(rows * _BLOCK_COLUMNS + 1, dtype=np.int32)
    block_place = np.empty(rows * _BLOCK_COLUMNS + 1, dtype=np.int32)
    block_code = np.empty(rows * _BLOCK_COLUMNS + 1, dtype=np.uint16)
    run_at = np.zeros(_BLOCK_COLUMNS * slots, dtype=np.int64)  # where the next weight of each run of a block goes
    at = np.int64(0)
    for group in range(groups):
        for first in range(0, columns, _BLOCK_COLUMNS):
            end = min(first + _BLOCK_COLUMNS, columns)
            count = np.int64(0)
            for row in range(rows):
                run = row_slot[group, row]
                place = row // elements
                for column in range(first, end):  # no branch: which weights are stored cannot be predicted
                    symbol = codes[group, row, column]
                    block_run[count] = run
                    block_place[count] = place
                    block_code[count] = symbol
                    count += is_stored[symbol]
                    run += slots
            run_at[:] = 0
            for i in range(count):
                run_at[block_run[i]] += 1
            first_run = (group * columns + first) * slots
            for run in range((end - first) * slots):
                size = run_at[run]
                run_at[run] = at
                at += size
                run_offsets[first_run + run + 1] = at
            for i in range(count):
                run = block_run[i]
                position[run_at[run]] = block_place[i]
                code[run_at[run]] = block_code[i]
                run_at[run] += 1


@kernel
def _gather(values: npt.NDArray[Any], run_offsets: Int64s, order: Int64s, result: npt.NDArray[Any]) -> None:
    at = 0
    for run in order:
        for i in range(run_offsets[run], run_offsets[run + 1]):
            result[at] = values[i]
            at += 1


@kernel
def _rows_of_positions(
    positions: Int64s, run_offsets: Int64s, first_row: Int32s, rows_on: Int32s, elements: int, rows: Int32s
) -> bool:
    # false when a position is not one of its run's rows
    for run in range(run_offsets.size - 1):
        for i in range(run_offsets[run], run_offsets[run + 1]):
            if positions[i] >= rows_on[run]:
                return False
            rows[i] = first_row[run] + positions[i] * elements
    return True
