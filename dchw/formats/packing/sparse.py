"""What all sparse formats share: a packed layer from its stored runs, and its entries read back from the bytes.

`stored_runs` collects the runs, `chunk_tables` has the table that tells chunks apart.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from dchw.compile import kernel
from dchw.compression.bitstream import Bytes
from dchw.compression.compressed import CompressedLayer
from dchw.compression.relative_index import decode_runs
from dchw.formats.packing.chunk_tables import check_chunks, pack_chunk_table, pack_narrow_table, read_chunk_table
from dchw.formats.packing.fields import byte_offsets_of, laid_out_fields, unpack_fields
from dchw.formats.packing.packed import (
    Entries,
    LayerParameters,
    PackedLayer,
    damaged,
    decode_bias,
    encode_bias,
    region,
)
from dchw.formats.packing.regions import Regions, Unwritten
from dchw.formats.packing.run_layout import Chunks, Int32s, Int64s, PackShape, RunLayout, RunOrder, run_layout
from dchw.formats.packing.stored_runs import StoredRuns, Uint16s, offsets_of, sums_in
from dchw.graph.network import FloatArray
from dchw.quantities import FileFormatError
from dchw.vocabulary import Stream

Uint8s = npt.NDArray[np.uint8]
Bools = npt.NDArray[np.bool_]

ROW_BITS = 32
VALUE_BITS = 32
COLUMNS = ("jobs", "positions", "values")
"""What a row of the chunk table lists: jobs with runs in the chunk, bytes of its positions, bytes of its values."""


@dataclass(frozen=True, kw_only=True, eq=False)
class StoredChunks:
    """What pointers and chunk table of a packed layer say, read before any entry."""

    layout: RunLayout
    chunks: Chunks
    slot: Int32s
    """int32[runs]: index of each run's PE in the layout's flattened [groups, slots] tables."""
    run_job: Int32s
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


def assemble(
    layer: CompressedLayer,
    storage: str,
    shape: PackShape,
    parameters: LayerParameters,
    runs: StoredRuns,
    *,
    positions: tuple[Bytes | Unwritten, Int64s],
    values: tuple[Stream, Bytes | Unwritten, Int64s],
    tables: Mapping[Stream, Bytes] | None = None,
    columns: tuple[str, ...] = COLUMNS,
    pointers: bool = True,
) -> PackedLayer:
    """A packed layer from its entries and the coded bytes, written or not, and chunk offsets of their positions and
    values.

    ``columns`` are those of the chunk table; without ``pointers`` the entries of a run follow from its positions.
    """
    stream, value_data, value_offsets = values
    pointer_bits = int(runs.run_count.max(initial=0)).bit_length() if pointers else 0
    pointed = (runs.run_count, runs.chunk_runs) if pointers else (runs.run_count[:0], runs.chunk_runs * 0)
    pointer_data, pointer_offsets = laid_out_fields(*pointed, pointer_bits)
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
    regions: dict[Stream, Bytes | Unwritten] = {
        **(tables or {}),
        Stream.CHUNK_TABLES: table,
        **encode_bias(layer, parameters),
        Stream.POINTERS: pointer_data,
        Stream.GAPS: positions[0],
        stream: value_data,
    }
    return PackedLayer(
        name=layer.name,
        storage=storage,
        shape=shape,
        geometry=layer.geometry,
        parameters=replace(
            parameters, pointer_bits=pointer_bits, chunk_table_bits=chunk_table_bits, chunk_table_widths=widths
        ),
        regions=Regions(regions),
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
    count: Callable[[RunOrder], Int32s] | None = None,
) -> StoredChunks:
    """Chunk table and pointers. Raises FileFormatError where they disagree with each other or the chunks' order.

    ``count`` gives the entries of every run; by default the pointers do.
    """
    layout = run_layout(packed.geometry, packed.shape)
    rows = read_chunk_table(packed, len(columns))
    listed = dict(zip(columns, rows.T, strict=True))
    try:
        chunks = layout.chunks_of(listed["jobs"])
    except FileFormatError as error:
        raise FileFormatError(f"layer {packed.name!r}, {error}") from None
    check_chunks(packed, chunks)
    order = layout.run_order(chunks)
    counts = _pointers(packed, order.offsets) if count is None else count(order)
    nothing = np.zeros(chunks.count, np.int64)
    return StoredChunks(
        layout=layout,
        chunks=chunks,
        slot=order.slot,
        run_job=order.job,
        run_count=counts,
        chunk_runs=order.offsets,
        chunk_entries=offsets_of(listed["entries"]) if "entries" in listed else sums_in(counts, order.offsets),
        position_bytes=offsets_of(listed.get("positions", nothing)),
        value_bytes=offsets_of(listed.get("values", nothing)),
    )


def _pointers(packed: PackedLayer, chunk_runs: Int64s) -> Int32s:
    where = f"layer {packed.name!r}, {Stream.POINTERS.value}"
    counts = unpack_fields(region(packed, Stream.POINTERS), chunk_runs, packed.parameters.pointer_bits, where)
    return counts.astype(np.int32)


def read_fields(packed: PackedLayer, stream: Stream, chunks: StoredChunks, bits: int) -> npt.NDArray[Any]:
    """Fixed-width fields of a region, one per entry, whose lengths in the chunk table are checked.

    uint8 where that is enough, otherwise uint32.
    """
    listed = chunks.position_bytes if stream is Stream.GAPS else chunks.value_bytes
    if not np.array_equal(listed, byte_offsets_of(chunks.chunk_entries, bits)):
        raise damaged(packed, stream, "the bytes that the pointers' entries fill", "other lengths in the chunk table")
    where = f"layer {packed.name!r}, {stream.value}"
    return unpack_fields(region(packed, stream), chunks.chunk_entries, bits, where, narrow=True)


def rows_of_gaps(packed: PackedLayer, chunks: StoredChunks, gaps: npt.NDArray[Any], codes: Uint16s) -> Int32s:
    """Global output channel of every entry. ``codes`` need only be 0 for fillers and nothing else."""
    slot = chunks.slot
    first, rows_on = chunks.layout.first_row.ravel()[slot], chunks.layout.rows_on.ravel()[slot]
    rows, index_bits = np.empty(codes.size, dtype=np.int32), packed.parameters.index_bits
    if not _rows_of_gaps(gaps, codes, chunks.run_count, first, rows_on, packed.shape.elements, (1 << index_bits) - 1,
                         rows):  # fmt: skip
        decode_runs(gaps, codes, chunks.run_offsets, index_bits)  # raises where gaps and codes are no runs
        raise damaged(packed, Stream.GAPS, "entries within the rows of their PE", "one behind the last row")
    return rows


def check_rows(packed: PackedLayer, chunks: StoredChunks, rows: npt.NDArray[np.uint32]) -> Int32s:
    """Absolute rows, which must lie on their run's PE, in its group, and ascend inside a run."""
    slot, found = chunks.slot, rows.view(np.int32)  # a row beyond 31 bits is below 0, and is none
    first, rows_on = chunks.layout.first_row.ravel()[slot], chunks.layout.rows_on.ravel()[slot]
    if not _rows_ascend(found, chunks.run_count, first, rows_on, packed.shape.elements):
        raise damaged(packed, Stream.GAPS, "ascending rows of the run's PE and group", "others")
    return found


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
    run_element = chunks.layout.element.astype(np.uint16).ravel()[chunks.slot]
    return Entries(
        geometry=packed.geometry,
        row=row,
        value=value,
        is_filler=is_filler,
        code=np.zeros(row.size, dtype=np.uint16) if code is None else code,
        gap_bits=gap_bits,
        code_bits=code_bits,
        chunk_offsets=chunks.chunk_entries,
        run_count=chunks.run_count,
        run_job=chunks.run_job,
        run_element=run_element,
        chunk_run_offsets=chunks.chunk_runs,
        bias=decode_bias(packed),
    )


def laid_out_floats(codebook: FloatArray, code: Uint16s, chunk_entries: Int64s) -> tuple[Unwritten, Int64s]:
    """The shared values of codes as float32, little-endian, not written yet, and their chunk offsets."""
    offsets = byte_offsets_of(chunk_entries, VALUE_BITS)

    def write() -> Bytes:
        return codebook[code].astype("<f4").view(np.uint8)

    return Unwritten(size=int(offsets[-1]), held=code.nbytes, write=write), offsets


def read_floats(packed: PackedLayer, chunks: StoredChunks) -> FloatArray:
    """The inverse of ``laid_out_floats``. Raises FileFormatError for NaN and infinities."""
    values = read_fields(packed, Stream.WEIGHTS, chunks, VALUE_BITS).view(np.float32)
    if not np.isfinite(values).all():
        raise damaged(packed, Stream.WEIGHTS, "finite values", "NaN or infinity")
    return values


def constant_bits(bits: int, count: int) -> Uint8s:
    """The same width for every entry."""
    return np.full(count, bits, dtype=np.uint8)


@kernel
def _rows_of_gaps(
    gaps: npt.NDArray[np.unsignedinteger[Any]],
    codes: Uint16s,
    run_count: Int32s,
    first_row: Int32s,
    rows_on: Int32s,
    elements: int,
    largest: int,
    rows: Int32s,
) -> bool:
    # false when a position is not one of its run's rows, and for gaps and codes that `decode_runs` refuses
    at = np.int64(0)
    for run in range(run_count.size):
        position = np.int64(-1)
        for i in range(at, at + run_count[run]):
            skipped = np.int64(gaps[i])
            if skipped > largest or (codes[i] == 0 and skipped != largest):
                return False
            position += skipped + 1
            rows[i] = first_row[run] + position * elements
        at += run_count[run]
        if position >= rows_on[run] or (run_count[run] > 0 and codes[at - 1] == 0):
            return False
    return True


@kernel
def _rows_ascend(rows: Int32s, run_count: Int32s, first_row: Int32s, rows_on: Int32s, elements: int) -> bool:
    # whether the rows of every run are some of its own, in order
    at = np.int64(0)
    for run in range(run_count.size):
        least, end = np.int64(first_row[run]), np.int64(first_row[run]) + np.int64(rows_on[run]) * elements
        for i in range(at, at + run_count[run]):
            row = np.int64(rows[i])
            if row < least or row >= end or (row - first_row[run]) % elements != 0:
                return False
            least = row + 1
        at += run_count[run]
    return True
