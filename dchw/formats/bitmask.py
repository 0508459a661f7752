"""``bitmask``: one bit for every weight says whether a code of fixed width follows; no fillers.

The mask of a run is a bit for each of its element's rows, lowest row first; the runs of a chunk lie one behind another
and each chunk starts at a byte. An entry's position is the next set bit, found in the cycle its code is worked in
(costed as one index step); what a run holds is the number of its set bits, so the mask is read whole in every pass.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from dchw.compile import kernel
from dchw.compression.bitstream import Bytes, Words, lowest_bit, padded, word_view
from dchw.compression.compressed import Coding, CompressedLayer, Positions
from dchw.formats.packing.codebook import encode_codebook, look_up
from dchw.formats.packing.fields import byte_offsets_of, laid_out_fields
from dchw.formats.packing.file_bytes import container_file
from dchw.formats.packing.packed import Entries, LayerParameters, Need, PackedLayer, StorageFormat, damaged, region
from dchw.formats.packing.regions import Unwritten
from dchw.formats.packing.run_layout import Int32s, Int64s, PackShape, RunLayout, RunOrder, run_layout
from dchw.formats.packing.sparse import assemble, constant_bits, entries_of, read_fields, stored_chunks
from dchw.formats.packing.stored_runs import stored_runs
from dchw.vocabulary import Stream

_TOGETHER = 56
"""Bits of a word that is read at a byte which are surely there from any bit of that byte on."""
_PAIRS, _FOURS, _BYTES = np.uint64(0x5555555555555555), np.uint64(0x3333333333333333), np.uint64(0x0F0F0F0F0F0F0F0F)

COLUMNS = ("jobs", "values")
"""What the chunk table lists: the bytes of a chunk's mask follow from its jobs."""


def _lay_out(layer: CompressedLayer, shape: PackShape, parameters: LayerParameters) -> PackedLayer:
    layout, code_bits = run_layout(layer.geometry, shape), layer.representation.codebook_bits
    runs = stored_runs(layer, shape, index_bits=0, coded=True)
    begin, offsets = _mask_layout(layout, runs.run_slot, runs.chunk_runs)
    row, run_count, slot = runs.row, runs.run_count, runs.run_slot

    def write() -> Bytes:
        mask = np.zeros(int(offsets[-1]), dtype=np.uint8)
        _set_bits(row, run_count, begin, layout.first_row.ravel()[slot], shape.elements, mask)
        return mask

    mask = Unwritten(
        size=int(offsets[-1]), held=row.nbytes + run_count.nbytes + slot.nbytes + begin.nbytes, write=write
    )
    return assemble(
        layer,
        FORMAT.name,
        shape,
        replace(parameters, code_bits=code_bits, codebook_values=layer.codebook.size - 1),
        runs,
        positions=(mask, offsets),
        values=(Stream.CODES, *laid_out_fields(runs.code, runs.chunk_entries, code_bits)),
        tables=encode_codebook(layer, parameters),
        columns=COLUMNS,
        pointers=False,
    )


def _unpack(packed: PackedLayer) -> Entries:
    layout, code_bits = run_layout(packed.geometry, packed.shape), packed.parameters.code_bits
    rows: list[Int32s] = []

    def count(order: RunOrder) -> Int32s:
        counts, row = _read_mask(packed, layout, order)
        rows.append(row)
        return counts

    chunks = stored_chunks(packed, columns=COLUMNS, count=count)
    code = read_fields(packed, Stream.CODES, chunks, code_bits).astype(np.uint16)
    if code.size and not code.all():
        raise damaged(packed, Stream.CODES, "codes above 0, for weights that are stored", "code 0")
    return entries_of(
        packed,
        chunks,
        row=rows[0],
        value=look_up(packed, code),
        code=code,
        is_filler=np.zeros(code.size, dtype=np.bool_),
        gap_bits=constant_bits(0, code.size),
        code_bits=constant_bits(code_bits, code.size),
    )


def _mask_layout(layout: RunLayout, slot: Int32s, chunk_runs: Int64s) -> tuple[Int64s, Int64s]:
    """First bit of every run, int64[runs], and first byte of every chunk, int64[chunks + 1], of the mask."""
    sizes = layout.rows_on.ravel()[slot].astype(np.int64)
    before = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
    offsets = byte_offsets_of(before[chunk_runs], 1)
    shift = np.repeat(8 * offsets[:-1] - before[chunk_runs[:-1]], np.diff(chunk_runs))
    return before[:-1] + shift, offsets


def _read_mask(packed: PackedLayer, layout: RunLayout, order: RunOrder) -> tuple[Int32s, Int32s]:
    """Entries of every run, int32[runs], and the output channel of every entry."""
    slot = order.slot
    begin, offsets = _mask_layout(layout, slot, order.offsets)
    mask = region(packed, Stream.GAPS)
    if mask.size != offsets[-1]:
        raise damaged(packed, Stream.GAPS, f"{int(offsets[-1])} bytes of mask", str(mask.size))
    first_row, rows_on = layout.first_row.ravel()[slot], layout.rows_on.ravel()[slot]
    words = padded(mask)
    most = int(_count_bits(words[: words.size // 8 * 8].view(np.uint64)))
    counts, rows = np.zeros(slot.size, dtype=np.int32), np.empty(most, dtype=np.int32)
    found = _find_bits(word_view(words), begin, rows_on, first_row, packed.shape.elements, counts, rows)
    if found != most:
        raise damaged(packed, Stream.GAPS, "zero padding behind each chunk's mask", "set bits")
    return counts, rows


@kernel
def _set_bits(
    row: Int32s, run_count: Int32s, begin: Int64s, first_row: npt.NDArray[np.int32], elements: int, mask: Bytes
) -> None:
    at = 0
    for run in range(run_count.size):
        for _ in range(run_count[run]):
            bit = begin[run] + (row[at] - first_row[run]) // elements
            mask[bit >> 3] |= np.uint8(1 << (bit & 7))
            at += 1


@kernel
def _count_bits(words: npt.NDArray[np.uint64]) -> int:
    # of all words: in each pair of bits, each four, each byte, and the bytes added up by a product
    total = np.int64(0)
    for word in words:
        word = word - ((word >> np.uint64(1)) & _PAIRS)
        word = (word & _FOURS) + ((word >> np.uint64(2)) & _FOURS)
        word = (word + (word >> np.uint64(4))) & _BYTES
        for shift in (8, 16, 32):
            word += word >> np.uint64(shift)
        total += np.int64(word & np.uint64(0x7F))
    return int(total)


@kernel
def _find_bits(
    mask: Words,
    begin: Int64s,
    rows_on: Int32s,
    first_row: Int32s,
    elements: int,
    counts: Int32s,
    rows: Int32s,
) -> int:
    # the number of bits found
    at = 0
    for run in range(begin.size):
        first = at
        for place in range(0, rows_on[run], _TOGETHER):
            bit = begin[run] + place
            below = np.int64(1) << min(np.int64(rows_on[run] - place), np.int64(_TOGETHER))
            left = np.uint64((mask[bit >> 3] >> (bit & 7)) & (below - 1))
            while left:
                rows[at] = first_row[run] + (place + lowest_bit(left)) * elements
                left &= left - np.uint64(1)
                at += 1
        counts[run] = at - first
    return at


FORMAT = StorageFormat(
    name="bitmask",
    summary="one bit for every weight, then fixed-width codes, with a codebook",
    positions=True,
    needs=frozenset({Need.INDEX, Need.CODEBOOK}),
    values=Stream.CODES,
    lay_out=_lay_out,
    unpack=_unpack,
    entry_bits=lambda packed: packed.parameters.code_bits,
    file_bytes=container_file(Positions.BITMASK, Coding.FIXED),
    run_regions=frozenset({Stream.GAPS}),
)
