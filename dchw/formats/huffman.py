"""``huffman``: gaps and codes as Huffman words with one table each per layer, and a codebook.

On a machine that makes its pointers gaps run on from column to column and none are stored (`packing.running`); on one
that stores them every run begins anew.

Tables are built from the packed entries, whose fillers differ from the file's. Where the layer's code limit cannot
tell all packed symbols apart, it is raised to the least that can.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from dchw.compression.compressed import CompressedLayer
from dchw.formats.packing.code_words import (
    CodeTables,
    bits_of,
    build_tables,
    code_tables,
    decode_symbols,
    laid_out_words,
)
from dchw.formats.packing.codebook import encode_codebook, look_up
from dchw.formats.packing.file_bytes import own_file
from dchw.formats.packing.packed import Entries, LayerParameters, Need, PackedLayer, StorageFormat
from dchw.formats.packing.run_layout import PackShape, Pointers, run_layout
from dchw.formats.packing.running import COLUMNS as RUNNING_COLUMNS
from dchw.formats.packing.running import (
    RunningEntries,
    in_chunk_order,
    place_entries,
    running_chunks,
    running_entries,
)
from dchw.formats.packing.sparse import COLUMNS, assemble, entries_of, rows_of_gaps, stored_chunks
from dchw.formats.packing.stored_runs import StoredRuns, collect_runs, stored_runs
from dchw.vocabulary import Stream

WIDEST_GAP = 8
"""Bits of a decoded gap: those of a symbol in the decode units' tables."""


def _lay_out(layer: CompressedLayer, shape: PackShape, parameters: LayerParameters) -> PackedLayer:
    made = shape.pointers is Pointers.MADE
    if made:
        index_bits, runs, tables = _smallest(layer, shape)
    else:
        index_bits = layer.representation.index_bits
        runs = stored_runs(layer, shape, index_bits=index_bits, coded=True)
        tables = build_tables(layer, (runs.gap, runs.code))
    gap_lengths, code_lengths = tables.lengths
    return assemble(
        layer,
        FORMAT.name,
        shape,
        replace(
            parameters,
            index_bits=index_bits,
            code_bits=layer.representation.codebook_bits,
            code_limit=tables.limit,
            gap_symbols=gap_lengths.size,
            code_symbols=code_lengths.size,
            codebook_values=layer.codebook.size - 1,
        ),
        runs,
        positions=laid_out_words(runs.gap, runs.chunk_entries, gap_lengths),
        values=(Stream.CODES, *laid_out_words(runs.code, runs.chunk_entries, code_lengths)),
        tables={Stream.CODE_TABLES: tables.data, **encode_codebook(layer, parameters)},
        columns=RUNNING_COLUMNS if made else COLUMNS,
        pointers=not made,
    )


def _smallest(layer: CompressedLayer, shape: PackShape) -> tuple[int, StoredRuns, CodeTables]:
    """The width of gaps, up to what a decode unit's table holds, with which codes, gaps and tables are smallest.

    Gaps are entropy-coded, so a wider gap costs its table alone and saves fillers. Of equal choices the narrowest wins;
    none is narrower than the file's, and none wider is tried once no filler is left.
    """
    best: tuple[int, int, RunningEntries, CodeTables] | None = None
    layout = run_layout(layer.geometry, shape)
    stored = collect_runs(layer, layout, coded=True)
    for index_bits in range(min(layer.representation.index_bits, WIDEST_GAP), WIDEST_GAP + 1):
        entries = running_entries(layout, stored, index_bits)
        tables = build_tables(layer, (entries.gap, entries.code))
        size = tables.coded_bits + 8 * tables.data.size
        if best is None or size < best[0]:
            best = size, index_bits, entries, tables
        if not (entries.code == 0).any():
            break  # no fillers left to save
    assert best is not None
    _, index_bits, entries, tables = best
    return index_bits, in_chunk_order(entries), tables


def _unpack(packed: PackedLayer) -> Entries:
    made = packed.shape.pointers is Pointers.MADE
    chunks = running_chunks(packed) if made else stored_chunks(packed)
    gap_lengths, code_lengths = code_tables(packed)
    entries = chunks.chunk_entries
    gaps = decode_symbols(packed, Stream.GAPS, chunks.position_bytes, entries, gap_lengths)
    code = decode_symbols(packed, Stream.CODES, chunks.value_bytes, entries, code_lengths).astype(np.uint16)
    if made:
        chunks, row = place_entries(packed, chunks, gaps, code)
    else:
        row = rows_of_gaps(packed, chunks, gaps, code)
    return entries_of(
        packed,
        chunks,
        row=row,
        value=look_up(packed, code),
        code=code,
        is_filler=code == 0,
        gap_bits=bits_of(gaps, gap_lengths),
        code_bits=bits_of(code, code_lengths),
    )


FORMAT = StorageFormat(
    name="huffman",
    summary="Huffman-coded gaps and codes, with a codebook",
    positions=True,
    needs=frozenset({Need.DECODER, Need.INDEX, Need.CODEBOOK}),
    values=Stream.CODES,
    lay_out=_lay_out,
    unpack=_unpack,
    entry_bits=lambda packed: packed.parameters.index_bits + packed.parameters.code_bits,
    file_bytes=own_file,
    run_regions=frozenset({Stream.POINTERS}),
)
