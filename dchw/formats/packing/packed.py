"""What packing gives and what unpacking reads back.

A region is the bytes of one stream of one layer, contiguous in DRAM. The per-layer regions, *tables*, lie one behind
another without a gap, so that small ones share bursts. They are:

- CODE_TABLES (``huffman``): code lengths of the gaps, then of the codes; per table one field of
  ``code_limit.bit_length()`` bits (4 for the usual limits) for every symbol from 0 to the last used one, then zero bits
  up to a byte.
- CHUNK_TABLES (formats whose chunks do not all hold the same bytes): one row per chunk: jobs, bytes of its positions,
  bytes of its values or codes; fields of 16 bits, or of 32 where one needs it. What follows from its jobs is left out:
  the bytes of its pointers or of its part of a bit mask, and in ``palette-huffman`` all but the bytes of its codes.
  ``huffman`` without pointers lists the entries of each chunk as well, and keeps its columns one behind the other, each
  from a byte on and as wide as its largest value needs.
- CODEBOOKS: shared values 1, 2, .. (0 is +0.0 and not stored) as float16 or float32, in ``huffman-int8`` a float32
  scale and int8 values; for ``dense-int8`` one float32 scale per output channel.
- BIASES: float16 or float32, by ``value_bits``.

Per-chunk regions, each chunk starting at a byte:

- POINTERS: the number of entries of every run, in as many bits as the layer's largest needs, none when it stores
  nothing. EIE (Han et al., ISCA 2016, arXiv:1602.01528) spends a 16-bit pointer per run: 1.18 MB for a layer of
  AlexNet fc6's size on 64 PEs; with random zeros at 9 % density a count takes 5 bits, 0.37 MB in all.
- GAPS: fixed-width or Huffman-coded gaps; in ``csr`` the output channel as 32 bits; in ``bitmask`` a bit for every
  weight.
- CODES, or WEIGHTS for uncoded values.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from enum import StrEnum
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt

from dchw import showing
from dchw.compression.bitstream import Bytes
from dchw.compression.compressed import CompressedLayer, CompressedNetwork, ValueFormat
from dchw.compression.value_formats import decode_values, encode_values, encoded_bytes, round_to_format
from dchw.formats.packing.regions import Regions
from dchw.formats.packing.run_layout import Int32s, Int64s, PackShape
from dchw.formats.packing.weight_rows import WeightRows
from dchw.graph.geometry import Geometry
from dchw.graph.network import FloatArray
from dchw.quantities import FileFormatError
from dchw.vocabulary import Stream


class Need(StrEnum):
    """A unit of the machine that a storage format involves."""

    DECODER = "decoder"
    CODEBOOK = "codebook"
    INDEX = "index"


@dataclass(frozen=True, kw_only=True)
class LayerParameters:
    """What the program tells the hardware about a layer besides its regions; 0 where a format has no such field."""

    value_bits: int = 16
    """Width of codebook values and biases: 16 (float16) or 32 (float32)."""
    index_bits: int = 0
    """Width of a gap before entropy coding."""
    code_bits: int = 0
    """Width of a code before entropy coding."""
    pointer_bits: int = 0
    """Width of a run's entry count."""
    chunk_table_bits: int = 16
    """Width of a field of the chunk table, where all its columns have one."""
    chunk_table_widths: tuple[int, ...] = ()
    """Widths of its columns, where each has its own."""
    code_limit: int = 0
    """Longest code word."""
    gap_symbols: int = 0
    """Code lengths in the gap table."""
    code_symbols: int = 0
    """Code lengths in the code table."""
    codebook_values: int = 0
    """Values in the codebook, without the +0.0 of code 0."""
    int8_codebook: bool = False
    """Whether they are int8 with one float32 scale, whatever ``value_bits``."""
    has_bias: bool = False

    @property
    def value_format(self) -> ValueFormat:
        """How biases are written, and codebook values unless they are int8."""
        return ValueFormat.FLOAT32 if self.value_bits == 32 else ValueFormat.FLOAT16

    @property
    def codebook_format(self) -> ValueFormat:
        """How codebook values are written."""
        return ValueFormat.INT8 if self.int8_codebook else self.value_format


@dataclass(frozen=True, kw_only=True, eq=False)
class PackedLayer:
    """One layer's weights as they lie in DRAM, in one storage format, for one machine. Arrays are read-only."""

    name: str
    storage: str
    shape: PackShape
    geometry: Geometry
    parameters: LayerParameters
    regions: Mapping[Stream, Bytes]
    """The bytes of each stream, written when they are first read (`Regions`); empty regions are left out."""
    chunk_bytes: Mapping[Stream, Int64s]
    """int64[chunks + 1]: where each chunk begins in the regions that are cut into chunks."""
    chunk_decoder: Int32s
    """Decode unit of each chunk; 0 where chunks serve all PEs (uncoded formats without positions)."""
    chunk_first_job: Int32s
    chunk_end_job: Int32s
    entries: int
    """Stored entries, fillers included; every weight for formats without positions."""
    fillers: int

    def __post_init__(self) -> None:
        regions = Regions(self.regions)
        chunk_bytes = {stream: frozen(at) for stream, at in self.chunk_bytes.items() if stream in regions}
        object.__setattr__(self, "regions", regions)
        object.__setattr__(self, "chunk_bytes", MappingProxyType(chunk_bytes))
        for name in ("chunk_decoder", "chunk_first_job", "chunk_end_job"):
            frozen(getattr(self, name))

    @property
    def jobs(self) -> int:
        """Columns of all groups."""
        return self.geometry.groups * self.geometry.columns

    @property
    def chunks(self) -> int:
        """Number of chunks."""
        return self.chunk_decoder.size

    @property
    def packed_bytes(self) -> Mapping[Stream, int]:
        """Bytes of every region."""
        return self._regions.sizes

    @property
    def held_bytes(self) -> int:
        """Bytes in memory of regions, and of what those that are not written will be written from."""
        return self._regions.held

    @property
    def _regions(self) -> Regions:
        assert isinstance(self.regions, Regions)
        return self.regions

    @property
    def total_bytes(self) -> int:
        """Bytes of all regions."""
        return sum(self.packed_bytes.values())

    @property
    def tables(self) -> tuple[Stream, ...]:
        """Streams of the per-layer regions, in the order in which they lie one behind another."""
        return tuple(stream for stream in self.regions if stream not in self.chunk_bytes)

    @property
    def table_bytes(self) -> int:
        """Bytes of the per-layer regions together."""
        sizes = self.packed_bytes
        return sum(sizes[stream] for stream in self.tables)

    def __reduce__(self) -> tuple[Any, ...]:
        plain = {f.name: getattr(self, f.name) for f in fields(self)}
        plain["regions"], plain["chunk_bytes"] = dict(self.regions), dict(self.chunk_bytes)
        return _rebuild, (plain,)


@dataclass(frozen=True, kw_only=True, eq=False)
class Coded:
    """What decode units work through: symbols in chunk order, one of every stream for each entry or weight."""

    chunk_offsets: Int64s
    """int64[chunks + 1] into the symbols of a stream."""
    bits: Mapping[Stream, npt.NDArray[np.uint8]]
    """Code word length of every symbol, by the stream it lies in."""

    @property
    def symbols(self) -> int:
        """Symbols of one stream."""
        return int(self.chunk_offsets[-1])

    def of(self, stream: Stream) -> npt.NDArray[np.uint8]:
        """uint8[symbols]: code word lengths in a stream, 0 where it is not coded."""
        bits = self.bits.get(stream)
        return np.zeros(self.symbols, np.uint8) if bits is None else bits


@dataclass(frozen=True, kw_only=True, eq=False)
class Entries:
    """The entries of a sparse layer, decoded from its regions, in chunk order. Arrays are read-only."""

    geometry: Geometry
    row: Int32s
    """Global output channel; a filler has the row it lands on, whose weight in this job is zero."""
    value: FloatArray
    """float32, +0.0 for fillers."""
    is_filler: npt.NDArray[np.bool_]
    code: npt.NDArray[np.uint16]
    """Index into the codebook; 0 throughout where values are not coded."""
    gap_bits: npt.NDArray[np.uint8]
    """Bits that each entry's position took in GAPS."""
    code_bits: npt.NDArray[np.uint8]
    """Bits that each entry's code or value took in CODES or WEIGHTS."""
    chunk_offsets: Int64s
    """int64[chunks + 1] into the entries."""
    run_count: Int32s
    """Entries of each run, in chunk order."""
    run_job: Int32s
    run_element: npt.NDArray[np.uint16]
    chunk_run_offsets: Int64s
    """int64[chunks + 1] into the runs."""
    bias: FloatArray | None

    def __post_init__(self) -> None:
        _freeze_fields(self)

    @property
    def job(self) -> Int32s:
        """int32[entries]: that of each one's run."""
        return np.repeat(self.run_job, self.run_count)

    @property
    def element(self) -> npt.NDArray[np.uint16]:
        """uint16[entries]: that of each one's run."""
        return np.repeat(self.run_element, self.run_count)

    @property
    def coded(self) -> Coded:
        """The entries as decode units see them, where a format needs those."""
        return Coded(chunk_offsets=self.chunk_offsets, bits={Stream.GAPS: self.gap_bits, Stream.CODES: self.code_bits})


@dataclass(frozen=True, kw_only=True, eq=False)
class DenseWeights:
    """The weights of a layer stored without positions. Arrays are read-only."""

    geometry: Geometry
    matrix: FloatArray | WeightRows
    """float32[out_channels, columns], or what gives rows of it when they are asked for."""
    bias: FloatArray | None
    coded: Coded | None = None
    """Where weights go through decode units: their code words, chunk by chunk; in a chunk job by job, in a job the
    section's rows in order (`dchw.formats.packing.run_layout.RunLayout.section_rows`)."""

    def __post_init__(self) -> None:
        _freeze_fields(self)


Unpacked = Entries | DenseWeights


@dataclass(frozen=True, kw_only=True)
class StorageFormat:
    """A way weights lie in DRAM: everything that the rest of the package knows about it.

    To add one, write a file beside this package's others and name its format in ``dchw.formats``.
    """

    name: str
    summary: str
    positions: bool
    """True: entries say which rows they belong to; elements work them one by one, and ``unpack`` gives `Entries`.
    False: every weight is stored, the array works whole columns in lockstep, and ``unpack`` gives `DenseWeights`."""
    needs: frozenset[Need]
    """Units that are involved; the others are neither active nor counted. With DECODER, weights pass the decode units:
    what was unpacked is ``coded``. With CODEBOOK, every entry or weight is looked up; with INDEX, every entry's row is
    added up from positions."""
    values: Stream
    """Region of the entries or weights themselves: CODES or WEIGHTS."""
    lay_out: Callable[[CompressedLayer, PackShape, LayerParameters], PackedLayer]
    """The layer packed. Regions given as `dchw.formats.packing.regions.Unwritten` are written when they are first read,
    which those of a layer that is worked in parts of rows never are."""
    unpack: Callable[[PackedLayer], Unpacked]
    """The inverse of packing on the bytes alone; raises FileFormatError where they are not what packing writes."""
    entry_bits: Callable[[PackedLayer], int]
    """Width of one entry or weight at fixed width, as an SRAM holds it uncoded; at least 1."""
    file_bytes: Callable[[CompressedNetwork], int]
    """Bytes of a whole network as a file in this format."""
    integers: bool = False
    """Weights are int8 with scales, so that a machine that can multiplies them as bytes, with activations as bytes."""
    run_regions: frozenset[Stream] = frozenset()
    """Regions that tell where runs begin: read whole from the SRAM in every pass by whoever fetches runs himself."""

    @property
    def dense(self) -> bool:
        """Whether every weight is stored as it is."""
        return not self.positions and not self.needs

    def __repr__(self) -> str:
        return showing.line("StorageFormat", self.name, self.summary)


def written(packed: PackedLayer) -> PackedLayer:
    """The same layer, with the bytes of every region written."""
    for stream in packed.regions:
        packed.regions[stream]
    return packed


def released(packed: PackedLayer) -> PackedLayer:
    """The same layer, without the bytes that can be written again from what the layer itself holds."""
    packed._regions.release()
    return packed


# ---- parts that formats share ----------------------------------------------------------------------------------------


def encode_bias(layer: CompressedLayer, parameters: LayerParameters) -> Mapping[Stream, Bytes]:
    """The BIASES region, if the layer has biases; float16 rounds to nearest and saturates."""
    if layer.bias is None:
        return {}
    return {Stream.BIASES: encode_floats(layer.bias, parameters.value_format, layer.name)}


def decode_bias(packed: PackedLayer) -> FloatArray | None:
    """The biases, float32, or None."""
    if not packed.parameters.has_bias:
        return None
    return decode_floats(packed, Stream.BIASES, packed.parameters.value_format, packed.geometry.out_channels)


def encode_floats(values: FloatArray, form: ValueFormat, name: str) -> Bytes:
    """Values in ``form``, rounded to nearest."""
    return np.frombuffer(encode_values(round_to_format(values, form), form, f"layer {name!r}"), np.uint8)


def decode_floats(packed: PackedLayer, stream: Stream, form: ValueFormat, count: int) -> FloatArray:
    """A region of ``count`` finite values. Raises FileFormatError for anything else."""
    data = region(packed, stream)
    if data.size != encoded_bytes(form, count):
        raise damaged(packed, stream, f"{encoded_bytes(form, count)} bytes of {form.value} values", f"{data.size}")
    try:
        return decode_values(data.data, form, count)
    except FileFormatError as error:
        raise FileFormatError(f"layer {packed.name!r}, {stream.value}: {error}; the data is damaged") from None


def region(packed: PackedLayer, stream: Stream) -> Bytes:
    """A region's bytes, none where it is empty."""
    return packed.regions.get(stream, np.zeros(0, dtype=np.uint8))


def damaged(packed: PackedLayer, stream: Stream, expected: str, got: str) -> FileFormatError:
    """The error for a region that does not hold what it should."""
    return FileFormatError(
        f"layer {packed.name!r}, {stream.value}: expected {expected}; got {got}; the data is damaged"
    )


def frozen(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """The same array, read-only."""
    array.flags.writeable = False
    return array


def _freeze_fields(value: Any) -> None:
    for entry in fields(value):
        array = getattr(value, entry.name)
        if isinstance(array, np.ndarray):
            frozen(array)


def _rebuild(arguments: dict[str, Any]) -> PackedLayer:
    return PackedLayer(**arguments)
