"""``dense-fp32``, ``dense-fp16``, ``dense-int8``: every weight, zeros included, job by job, rows in order.

A chunk holds whole jobs, as many as fit 4 bytes per ``chunk_entries``, at least one: about the same bytes in all three.
float16 rounds to nearest and saturates. int8 is symmetric per output channel: scale = largest magnitude / 127 as
float32, weight = integer x scale; a channel whose scale would be below the smallest normal float32 is all zero.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from dchw.compile import kernel
from dchw.compression.bitstream import Bytes
from dchw.compression.compressed import CodeArray, CompressedLayer, ValueFormat
from dchw.compression.value_formats import LARGEST_INT8
from dchw.formats.packing.every_weight import assemble_columns, by_job, in_jobs, job_bounds
from dchw.formats.packing.file_bytes import array_file
from dchw.formats.packing.packed import (
    DenseWeights,
    LayerParameters,
    PackedLayer,
    StorageFormat,
    damaged,
    decode_bias,
    decode_floats,
    encode_floats,
    region,
)
from dchw.formats.packing.regions import Unwritten
from dchw.formats.packing.run_layout import PackShape, RunLayout, run_layout
from dchw.formats.packing.weight_rows import JobRows
from dchw.graph.network import FloatArray
from dchw.vocabulary import Stream

_BLOCK_WEIGHTS = 1 << 20
_INFINITY = {ValueFormat.FLOAT32: 0x7F800000, ValueFormat.FLOAT16: 0x7C00}
"""Bits of infinity; above lie NaNs."""


def _lay_out(form: ValueFormat, layer: CompressedLayer, shape: PackShape, parameters: LayerParameters) -> PackedLayer:
    layout, tables = run_layout(layer.geometry, shape), {}
    codes, codebook = layer.matrix_codes, layer.codebook  # not the layer, which what is kept must not hold
    if form is ValueFormat.INT8:
        scales = _scales(layer)
        tables[Stream.CODEBOOKS] = encode_floats(scales, ValueFormat.FLOAT32, layer.name)
    else:
        values = encode_floats(codebook, form, layer.name).view(f"<u{_WIDTHS[form] // 8}")

    def stored_as(rows: slice) -> npt.NDArray[Any]:
        if form is ValueFormat.INT8:
            return _integers(codebook, scales[rows])
        return np.broadcast_to(values, (rows.stop - rows.start, values.size))

    def write() -> Bytes:
        weights: Bytes = by_job(codes, codebook.size, layout, stored_as).reshape(-1).view(np.uint8)
        return weights

    job_bytes = _WIDTHS[form] // 8 * layout.rows
    bounds = job_bounds(layout, 8 * job_bytes)
    stored = (Stream.WEIGHTS, Unwritten(size=layout.jobs * job_bytes, held=0, write=write), bounds * job_bytes)
    return assemble_columns(layer, _NAMES[form], shape, parameters, bounds, stored, tables)


def _unpack(form: ValueFormat, packed: PackedLayer) -> DenseWeights:
    geometry, layout = packed.geometry, run_layout(packed.geometry, packed.shape)
    data, size = region(packed, Stream.WEIGHTS), _WIDTHS[form] // 8 * packed.geometry.weights
    if data.size != size:
        raise damaged(packed, Stream.WEIGHTS, f"{size} bytes of {form.value} values", str(data.size))
    if form is ValueFormat.INT8:
        rows = _from_integers(packed, data, layout)
    else:
        words = data.view(f"<u{_WIDTHS[form] // 8}")
        if not _finite(words, _INFINITY[form]):
            raise damaged(packed, Stream.WEIGHTS, "finite values", "NaN or infinity")
        rows = JobRows(in_jobs(words, layout), partial(_floats, f"f{_WIDTHS[form] // 8}"))
    return DenseWeights(geometry=geometry, matrix=rows, bias=decode_bias(packed))


def _floats(form: str, words: npt.NDArray[Any]) -> FloatArray:
    return words.view(form).astype(np.float32, copy=False)


def _finite(words: npt.NDArray[Any], infinity: int) -> bool:
    """Whether floats are neither infinite nor NaN, by their bits without the sign."""
    magnitude = words.dtype.type((1 << 8 * words.itemsize - 1) - 1)
    blocks = (words[at : at + _BLOCK_WEIGHTS] for at in range(0, words.size, _BLOCK_WEIGHTS))
    return all(int((block & magnitude).max()) < infinity for block in blocks)


def _from_integers(packed: PackedLayer, data: Bytes, layout: RunLayout) -> JobRows:
    scales = decode_floats(packed, Stream.CODEBOOKS, ValueFormat.FLOAT32, packed.geometry.out_channels)
    words = in_jobs(data, layout)
    integers = words.view(np.int8)
    largest, least = integers.max(axis=1).ravel(), integers.min(axis=1).ravel()
    reach = np.maximum(largest, -least.astype(np.int16))
    # what packing writes, and the only way in which a damaged scale or integer could leave all weights as they were
    if (np.where(scales.view(np.uint32) == 0, 0, LARGEST_INT8) != reach).any() or (scales < 0).any():
        raise damaged(packed, Stream.WEIGHTS, f"a largest integer of {LARGEST_INT8} where a scale is not 0", "another")
    with np.errstate(over="ignore"):
        finite = np.isfinite(scales * np.float32(LARGEST_INT8)).all()
    if not finite:
        raise damaged(packed, Stream.CODEBOOKS, "scales that give finite weights", "one that does not")
    return JobRows(words, partial(_floats, "i1"), scales)


def _scales(layer: CompressedLayer) -> FloatArray:
    magnitudes = np.abs(layer.codebook)
    scales = np.zeros(layer.matrix_codes.shape[0], np.float32)
    _largest(layer.matrix_codes, magnitudes, scales)
    scales /= np.float32(LARGEST_INT8)
    scales[scales < np.finfo(np.float32).tiny] = 0
    return scales


@kernel
def _largest(codes: CodeArray, magnitudes: FloatArray, largest: FloatArray) -> None:
    # of every row; by which codes there are in it
    there = np.zeros(magnitudes.size, dtype=np.bool_)
    for row in range(codes.shape[0]):
        there[:] = False
        line = codes[row]
        for column in range(codes.shape[1]):
            there[line[column]] = True
        for code in range(magnitudes.size):
            if there[code]:
                largest[row] = max(largest[row], magnitudes[code])


def _integers(values: FloatArray, scales: FloatArray) -> npt.NDArray[np.uint8]:
    # the bytes of every value's integer, [scales, values]
    divisors = np.where(scales == 0, np.float32(np.inf), scales)[:, None]
    return np.clip(np.rint(values / divisors), -LARGEST_INT8, LARGEST_INT8).astype(np.int8).view(np.uint8)


_NAMES = {
    ValueFormat.FLOAT32: "dense-fp32",
    ValueFormat.FLOAT16: "dense-fp16",
    ValueFormat.INT8: "dense-int8",
}

_WIDTHS = {ValueFormat.FLOAT32: 32, ValueFormat.FLOAT16: 16, ValueFormat.INT8: 8}

_SUMMARIES = {
    ValueFormat.FLOAT32: "every weight as float32",
    ValueFormat.FLOAT16: "every weight as float16",
    ValueFormat.INT8: "every weight as int8 with a scale per output channel",
}


def _file_bytes(form: ValueFormat, layer: CompressedLayer) -> int:
    scales = 4 * layer.codes.shape[0] if form is ValueFormat.INT8 else 0
    return _WIDTHS[form] // 8 * layer.codes.size + scales


def _entry_bits(form: ValueFormat, packed: PackedLayer) -> int:
    return _WIDTHS[form]


FORMATS = tuple(
    StorageFormat(
        name=name,
        summary=_SUMMARIES[form],
        positions=False,
        needs=frozenset(),
        values=Stream.WEIGHTS,
        lay_out=partial(_lay_out, form),
        unpack=partial(_unpack, form),
        entry_bits=partial(_entry_bits, form),
        file_bytes=array_file(partial(_file_bytes, form)),
        integers=form is ValueFormat.INT8,
    )
    for form, name in _NAMES.items()
)
