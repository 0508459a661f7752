"""A packer in plain loops: the jobs, runs, chunks and bits of ``dchw.formats``, one entry and one bit at a time."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

import numpy as np

from dchw.compression.compressed import CompressedLayer
from dchw.compression.huffman import code_lengths, minimum_limit
from dchw.formats import PackShape
from dchw.formats.packing.run_layout import Pointers
from dchw.vocabulary import Stream


@dataclass
class Entry:
    """One stored entry."""

    job: int
    element: int
    row: int
    code: int
    value: float
    gap: int
    filler: bool


@dataclass
class Run:
    """The entries of one job on one PE."""

    job: int
    element: int
    entries: list[Entry] = field(default_factory=list)


@dataclass
class Chunk:
    """Whole runs of one section."""

    section: int
    decoder: int
    runs: list[Run] = field(default_factory=list)

    @property
    def entries(self) -> list[Entry]:
        return [entry for run in self.runs for entry in run.entries]

    @property
    def jobs(self) -> list[int]:
        return sorted({run.job for run in self.runs})


class Bits:
    """Bits, lowest of each byte first; chunks start at a byte."""

    def __init__(self) -> None:
        self.bits: list[int] = []

    def field(self, value: int, width: int) -> None:
        self.bits += [value >> i & 1 for i in range(width)]

    def word(self, text: str) -> None:
        self.bits += [int(bit) for bit in text]

    def align(self) -> None:
        while len(self.bits) % 8:
            self.bits.append(0)

    def data(self) -> bytes:
        self.align()
        return bytes(sum(self.bits[i + k] << k for k in range(8)) for i in range(0, len(self.bits), 8))


def chunks_of(
    layer: CompressedLayer, shape: PackShape, *, index_bits: int, coded: bool, run_on: bool = False
) -> list[Chunk]:
    """Chunks in DRAM order. ``index_bits`` 0: absolute positions, no fillers. ``run_on``: gaps run on in a chunk."""
    geometry = layer.geometry
    columns = geometry.columns
    rows = geometry.out_channels // geometry.groups
    sections = min(shape.elements, shape.decoders)
    section_decoders = shape.decoders // sections
    chunks: list[Chunk] = []
    for section in range(sections):
        own: list[Chunk] = [Chunk(section, section * section_decoders)]
        jobs = range(geometry.groups * columns)
        for job in jobs:
            group = job // columns
            runs = []
            for element in range(shape.elements):
                if element * sections // shape.elements != section:
                    continue
                mine = [r for r in range(group * rows, (group + 1) * rows) if r % shape.elements == element]
                if mine:
                    runs.append(_run(layer, job, element, mine, index_bits, coded))
            if not runs:
                continue
            other_band = own[-1].runs and band_of(own[-1].jobs[0], layer, shape) != band_of(job, layer, shape)
            if other_band or len(own[-1].entries) >= shape.chunk_entries:
                own.append(Chunk(section, 0))
            own[-1].runs += runs
            if run_on:
                _let_gaps_run_on(layer, own[-1], shape.elements, index_bits)
        for index in range(len(own) - 1, 0, -1):  # empty ones behind the last entry join the chunk before in their band
            if own[index].entries:
                break
            if band_of(own[index].jobs[0], layer, shape) == band_of(own[index - 1].jobs[0], layer, shape):
                own[index - 1].runs += own.pop(index).runs
        for index, chunk in enumerate(own):
            chunk.decoder = section * section_decoders + index % section_decoders
        chunks += [chunk for chunk in own if chunk.runs]
    return sorted(chunks, key=lambda chunk: (chunk.jobs[0], chunk.decoder))


def band_of(job: int, layer: CompressedLayer, shape: PackShape) -> int:
    """The band of columns of a job: the first that ends behind it."""
    jobs, band = layer.geometry.groups * layer.geometry.columns, 0
    while jobs * (band + 1) // shape.column_bands <= job:
        band += 1
    return band


def _let_gaps_run_on(layer: CompressedLayer, chunk: Chunk, elements: int, index_bits: int) -> None:
    """Entries of a chunk as one row of places: (run, row) of every place, walked from the start."""
    rows = layer.geometry.out_channels // layer.geometry.groups
    places = []
    for run in chunk.runs:
        group = run.job // layer.geometry.columns
        places += [(run, r) for r in range(group * rows, (group + 1) * rows) if r % elements == run.element]
        run.entries.clear()
    weights = [
        i for i, (run, row) in enumerate(places) if layer.matrix_codes[row, run.job % layer.geometry.columns] != 0
    ]
    last = -1
    for at in weights:
        while at - last - 1 >= 1 << index_bits:
            last += 1 << index_bits
            run, row = places[last]
            run.entries.append(Entry(run.job, run.element, row, 0, 0.0, (1 << index_bits) - 1, True))
        run, row = places[at]
        code = int(layer.matrix_codes[row, run.job % layer.geometry.columns])
        run.entries.append(Entry(run.job, run.element, row, code, float(layer.codebook[code]), at - last - 1, False))
        last = at


def _run(layer: CompressedLayer, job: int, element: int, rows: list[int], index_bits: int, coded: bool) -> Run:
    run = Run(job, element)
    column = job % layer.geometry.columns
    skipped = 0
    for row in rows:
        code = int(layer.matrix_codes[row, column])
        if not _present(layer, row, column, coded):
            skipped += 1
            more = any(_present(layer, r, column, coded) for r in rows if r > row)
            if index_bits and skipped == 1 << index_bits and more:
                run.entries.append(Entry(job, element, row, 0, 0.0, (1 << index_bits) - 1, True))
                skipped = 0
            continue
        value = float(layer.codebook[code])
        run.entries.append(Entry(job, element, row, code, value, skipped, False))
        skipped = 0
    return run


def _present(layer: CompressedLayer, row: int, column: int, coded: bool) -> bool:
    code = int(layer.matrix_codes[row, column])
    return code != 0 if coded else struct.pack("<f", float(layer.codebook[code])) != bytes(4)


def section_runs(layer: CompressedLayer, shape: PackShape, *, coded: bool) -> list[list[tuple[int, int]]]:
    """(place, code) of every stored weight, run by run: section by section, job by job, by PE."""
    geometry, codes = layer.geometry, layer.matrix_codes
    rows = geometry.out_channels // geometry.groups
    runs = []
    for section in range(shape.sections):
        for group in range(geometry.groups):
            for column in range(geometry.columns):
                for element in range(shape.elements):
                    mine = [r for r in range(group * rows, (group + 1) * rows) if r % shape.elements == element]
                    if mine and element * shape.sections // shape.elements == section:
                        found = [(place, int(codes[row, column])) for place, row in enumerate(mine)]
                        runs.append([one for one in found if one[1] and (coded or layer.codebook[one[1]] != 0)])
    return runs


def regions_of(layer: CompressedLayer, storage: str, shape: PackShape, value_bits: int) -> dict[Stream, bytes]:
    """Every region of a layer, empty ones left out."""
    if storage.startswith("dense"):
        regions = _dense_regions(layer, storage)
    elif storage == "palette":
        regions = _palette_regions(layer, shape, value_bits)
    elif storage == "palette-huffman":
        regions = _coded_palette_regions(layer, shape, value_bits)
    elif storage == "bitmask":
        regions = _bitmask_regions(layer, shape, value_bits)
    else:
        regions = _sparse_regions(layer, storage, shape, value_bits)
    if layer.bias is not None:
        regions[Stream.BIASES] = _floats(layer.bias.tolist(), value_bits)
    return {stream: data for stream, data in regions.items() if data}


def _dense_regions(layer: CompressedLayer, storage: str) -> dict[Stream, bytes]:
    geometry = layer.geometry
    rows = geometry.out_channels // geometry.groups
    matrix = layer.codebook[layer.matrix_codes]
    scales = [np.float32(max(abs(v) for v in row) / np.float32(127)) for row in matrix]
    out = b""
    for job in range(geometry.groups * geometry.columns):
        group, column = divmod(job, geometry.columns)
        for row in range(group * rows, (group + 1) * rows):
            weight = matrix[row, column]
            if storage == "dense-fp32":
                out += struct.pack("<f", weight)
            elif storage == "dense-fp16":
                out += struct.pack("<e", weight)
            else:
                out += struct.pack("<b", 0 if scales[row] == 0 else round(float(np.float32(weight / scales[row]))))
    if storage == "dense-int8":
        return {Stream.WEIGHTS: out, Stream.CODEBOOKS: struct.pack(f"<{len(scales)}f", *scales)}
    return {Stream.WEIGHTS: out}


def _palette_regions(layer: CompressedLayer, shape: PackShape, value_bits: int) -> dict[Stream, bytes]:
    """Whole jobs in chunks of about 4 bytes per chunk entry, every weight a fixed-width code."""
    geometry = layer.geometry
    rows = geometry.out_channels // geometry.groups
    width = layer.representation.codebook_bits
    chunk_jobs = max(1, 32 * shape.chunk_entries // (rows * width))
    codes = Bits()
    for job in range(geometry.groups * geometry.columns):
        if job % chunk_jobs == 0:
            codes.align()
        group, column = divmod(job, geometry.columns)
        for row in range(group * rows, (group + 1) * rows):
            codes.field(int(layer.matrix_codes[row, column]), width)
    return {Stream.CODES: codes.data(), Stream.CODEBOOKS: _floats(layer.codebook[1:].tolist(), value_bits)}


def _coded_palette_regions(layer: CompressedLayer, shape: PackShape, value_bits: int) -> dict[Stream, bytes]:
    """Per section whole columns until a chunk has its entries, rows in order; chunks by (first job, decoder)."""
    geometry = layer.geometry
    rows = geometry.out_channels // geometry.groups
    sections = min(shape.elements, shape.decoders)
    turns = shape.decoders // sections
    chunks: list[tuple[int, int, list[int]]] = []  # first job, decoder, codes
    for section in range(sections):
        own: list[tuple[int, int, list[int]]] = []
        for job in range(geometry.groups * geometry.columns):
            group, column = divmod(job, geometry.columns)
            mine = [
                int(layer.matrix_codes[row, column])
                for row in range(group * rows, (group + 1) * rows)
                if row % shape.elements * sections // shape.elements == section
            ]
            if not mine:
                continue
            new_band = own and band_of(own[-1][0], layer, shape) != band_of(job, layer, shape)
            if not own or new_band or len(own[-1][2]) >= shape.chunk_entries:
                own.append((job, section * turns + len(own) % turns, []))
            own[-1][2].extend(mine)
        chunks += own
    chunks.sort()
    counts = _counts([code for chunk in chunks for code in chunk[2]])
    limit = max(layer.representation.code_limit, minimum_limit(int((counts > 0).sum())))
    lengths = code_lengths(counts, limit).tolist()
    table, codes, sizes, words = Bits(), Bits(), [], _words(lengths)
    for length in lengths:
        table.field(length, limit.bit_length())
    for _, _, symbols in chunks:
        before = len(codes.bits) // 8
        for symbol in symbols:
            codes.word(words[symbol])
        codes.align()
        sizes.append(len(codes.bits) // 8 - before)
    width = "H" if max(sizes) < 65536 else "I"
    return {
        Stream.CODE_TABLES: table.data(),
        Stream.CODEBOOKS: _floats(layer.codebook[1:].tolist(), value_bits),
        Stream.CHUNK_TABLES: struct.pack(f"<{len(sizes)}{width}", *sizes),
        Stream.CODES: codes.data(),
    }


def _bitmask_regions(layer: CompressedLayer, shape: PackShape, value_bits: int) -> dict[Stream, bytes]:
    """The runs of the other sparse formats without gaps: a bit for each row of a run, and the codes of those set."""
    geometry = layer.geometry
    rows = geometry.out_channels // geometry.groups
    mask, codes, table = Bits(), Bits(), []
    for chunk in chunks_of(layer, shape, index_bits=0, coded=True):
        before = len(codes.bits) // 8
        for run in chunk.runs:
            group = run.job // geometry.columns
            stored = {entry.row for entry in run.entries}
            for row in range(group * rows, (group + 1) * rows):
                if row % shape.elements == run.element:
                    mask.field(int(row in stored), 1)
            for entry in run.entries:
                codes.field(entry.code, layer.representation.codebook_bits)
        mask.align()
        codes.align()
        table.append((len(chunk.jobs), len(codes.bits) // 8 - before))
    width = "H" if max(max(row) for row in table) < 65536 else "I"
    return {
        Stream.CODEBOOKS: _floats(layer.codebook[1:].tolist(), value_bits),
        Stream.CHUNK_TABLES: b"".join(struct.pack(f"<2{width}", *row) for row in table),
        Stream.GAPS: mask.data(),
        Stream.CODES: codes.data(),
    }


def _int8_codebook(layer: CompressedLayer) -> bytes:
    """A float32 scale and a signed byte for every shared value."""
    values = [np.float32(v) for v in layer.codebook[1:]]
    scale = np.float32(max((abs(v) for v in values), default=np.float32(0)) / np.float32(127))
    if scale < np.finfo(np.float32).tiny:
        return struct.pack(f"<f{len(values)}b", 0.0, *[0 for _ in values])
    return struct.pack(f"<f{len(values)}b", scale, *[max(-127, min(127, round(float(v / scale)))) for v in values])


def _sparse_regions(layer: CompressedLayer, storage: str, shape: PackShape, value_bits: int) -> dict[Stream, bytes]:
    if storage == "huffman-int8":
        return {**_sparse_regions(layer, "huffman", shape, value_bits), Stream.CODEBOOKS: _int8_codebook(layer)}
    index_bits = 0 if storage == "csr" else layer.representation.index_bits
    coded = storage in ("shared", "huffman")
    made = storage == "huffman" and shape.pointers is Pointers.MADE
    if made:
        index_bits = _smallest_gap_width(layer, shape)
    chunks = chunks_of(layer, shape, index_bits=index_bits, coded=coded, run_on=made)
    entries = [entry for chunk in chunks for entry in chunk.entries]
    regions: dict[Stream, bytes] = {}
    gap_words = code_words = {}
    if storage == "huffman":
        gap_counts, code_counts = _counts([e.gap for e in entries]), _counts([e.code for e in entries])
        limit = max(
            layer.representation.code_limit,
            *(minimum_limit(int((counts > 0).sum())) for counts in (gap_counts, code_counts)),
        )
        tables = b""
        words = []
        for counts in (gap_counts, code_counts):
            lengths = code_lengths(counts, limit).tolist()
            bits = Bits()
            for length in lengths:
                bits.field(length, limit.bit_length())
            tables += bits.data()
            words.append(_words(lengths))
        gap_words, code_words = words
        regions[Stream.CODE_TABLES] = tables
    if coded:
        regions[Stream.CODEBOOKS] = _floats(layer.codebook[1:].tolist(), value_bits)
    most = max((len(run.entries) for chunk in chunks for run in chunk.runs), default=0)
    pointers, gaps, values = Bits(), Bits(), Bits()
    rows = []
    for chunk in chunks:
        before = len(gaps.bits), len(values.bits)
        for run in chunk.runs:
            if not made:
                pointers.field(len(run.entries), most.bit_length())
        for entry in chunk.entries:
            if storage == "huffman":
                gaps.word(gap_words[entry.gap])
                values.word(code_words[entry.code])
                continue
            gaps.field(entry.gap if index_bits else entry.row, index_bits or 32)
            if storage == "shared":
                values.field(entry.code, layer.representation.codebook_bits)
            else:
                values.field(int.from_bytes(struct.pack("<f", entry.value), "little"), 32)
        for stream in (pointers, gaps, values):
            stream.align()
        counted = [len(chunk.entries)] if made else []
        rows.append((len(chunk.jobs), *counted, (len(gaps.bits) - before[0]) // 8, (len(values.bits) - before[1]) // 8))
    width = "H" if max(max(row) for row in rows) < 65536 else "I"
    regions[Stream.CHUNK_TABLES] = b"".join(struct.pack(f"<{len(row)}{width}", *row) for row in rows)
    if made:
        regions[Stream.CHUNK_TABLES] = b""
        for column in zip(*rows, strict=True):
            fields = Bits()
            for value in column:
                fields.field(value, max(column).bit_length())
            regions[Stream.CHUNK_TABLES] += fields.data()
    regions[Stream.POINTERS], regions[Stream.GAPS] = pointers.data(), gaps.data()
    regions[Stream.CODES if coded else Stream.WEIGHTS] = values.data()
    return regions


def _smallest_gap_width(layer: CompressedLayer, shape: PackShape) -> int:
    """From the file's width to 8 bits, as long as there are fillers: where words and tables take the fewest bits."""
    sizes = {}
    for index_bits in range(layer.representation.index_bits, 9):
        chunks = chunks_of(layer, shape, index_bits=index_bits, coded=True, run_on=True)
        entries = [entry for chunk in chunks for entry in chunk.entries]
        counts = [_counts([e.gap for e in entries]), _counts([e.code for e in entries])]
        limit = max(layer.representation.code_limit, *(minimum_limit(int((c > 0).sum())) for c in counts))
        lengths = [code_lengths(c, limit) for c in counts]
        words = sum(
            int(n) * int(size)
            for c, table in zip(counts, lengths, strict=True)
            for n, size in zip(c, table, strict=True)
        )
        tables = sum((table.size * limit.bit_length() + 7) // 8 for table in lengths)
        sizes[index_bits] = words + 8 * tables
        if not any(entry.filler for entry in entries):
            break
    return min(sizes, key=lambda bits: (sizes[bits], bits))


def _counts(symbols: list[int]) -> np.ndarray:
    counts = np.zeros(max(symbols, default=-1) + 1, dtype=np.int64)
    for symbol in symbols:
        counts[symbol] += 1
    return counts


def _words(lengths: list[int]) -> dict[int, str]:
    """Canonical code words as text, first bit first: shorter first, then lower symbols."""
    words, word, size = {}, 0, 0
    for length, symbol in sorted((length, symbol) for symbol, length in enumerate(lengths) if length):
        word <<= length - size
        size = length
        words[symbol] = format(word, f"0{length}b")
        word += 1
    return words


def _floats(values: list[float], value_bits: int) -> bytes:
    return b"".join(struct.pack("<f" if value_bits == 32 else "<e", value) for value in values)
