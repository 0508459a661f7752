"""What formats without positions share: every weight, job by job, rows in order."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from dchw.compile import kernel
from dchw.compression.bitstream import Bytes
from dchw.compression.compressed import CodeArray, CompressedLayer
from dchw.formats.packing.packed import LayerParameters, PackedLayer, encode_bias
from dchw.formats.packing.regions import Regions, Unwritten
from dchw.formats.packing.run_layout import Int64s, PackShape, RunLayout
from dchw.formats.packing.weight_rows import COLUMNS_TOGETHER, LINE_BYTES, JobRows
from dchw.graph.network import FloatArray
from dchw.vocabulary import Stream

_CHUNK_ENTRY_BYTES = 4
_TABLE_VALUES = 1 << 20


def by_job(
    codes: CodeArray, values: int, layout: RunLayout, table_of: Callable[[slice], npt.NDArray[Any]]
) -> npt.NDArray[Any]:
    """What every weight is stored as, [groups, columns, rows of a group], from its code [out_channels, columns].

    ``table_of`` gives it for some output channels and each of as many codes as there are ``values``: [channels, codes].
    """
    geometry, step = layout.geometry, max(LINE_BYTES, _TABLE_VALUES // values // LINE_BYTES * LINE_BYTES)
    result = np.empty((geometry.groups, geometry.columns, layout.rows), table_of(slice(0, 0)).dtype)
    for group in range(geometry.groups):
        for start in range(0, layout.rows, step):
            first = group * layout.rows + start
            channels = slice(first, first + min(step, layout.rows - start))
            _look_up(codes[channels], table_of(channels), start, LINE_BYTES // result.itemsize, result[group])
    return result


def codes_by_job(codes: CodeArray, values: int, layout: RunLayout) -> CodeArray:
    """The code of every weight, uint8 or uint16 [jobs, rows of a group], from [out_channels, columns]."""
    numbers = np.arange(values, dtype=codes.dtype)
    turned = by_job(
        codes, values, layout, lambda rows: np.broadcast_to(numbers, (rows.stop - rows.start, numbers.size))
    )
    return turned.reshape(layout.jobs, layout.rows)


def values_by_row(codes: npt.NDArray[np.unsignedinteger[Any]], values: FloatArray, layout: RunLayout) -> JobRows:
    """The weight matrix of what each code, job by job and rows in order, stands for."""
    return JobRows(in_jobs(codes, layout), values.take)


def in_jobs(stored: npt.NDArray[Any], layout: RunLayout) -> npt.NDArray[Any]:
    """What every weight is stored as, job by job and rows in order: [groups, columns, rows of a group]."""
    return stored.reshape(layout.geometry.groups, layout.geometry.columns, layout.rows)


def job_bounds(layout: RunLayout, job_bits: int) -> Int64s:
    """int64[chunks + 1] into the jobs: a chunk holds whole ones, as many as fit 4 bytes per ``chunk_entries``."""
    jobs = max(1, 8 * _CHUNK_ENTRY_BYTES * layout.shape.chunk_entries // job_bits)
    return np.append(np.arange(0, layout.jobs, jobs, dtype=np.int64), layout.jobs)


def assemble_columns(
    layer: CompressedLayer,
    storage: str,
    shape: PackShape,
    parameters: LayerParameters,
    bounds: Int64s,
    values: tuple[Stream, Bytes | Unwritten, Int64s],
    tables: Mapping[Stream, Bytes],
) -> PackedLayer:
    """A packed layer from the bytes of its weights, written or not, and where each chunk of whole jobs begins."""
    stream, data, offsets = values
    regions: dict[Stream, Bytes | Unwritten] = {**tables, **encode_bias(layer, parameters), stream: data}
    return PackedLayer(
        name=layer.name,
        storage=storage,
        shape=shape,
        geometry=layer.geometry,
        parameters=parameters,
        regions=Regions(regions),
        chunk_bytes={stream: offsets},
        chunk_decoder=np.zeros(bounds.size - 1, dtype=np.int32),
        chunk_first_job=bounds[:-1].astype(np.int32),
        chunk_end_job=bounds[1:].astype(np.int32),
        entries=layer.geometry.weights,
        fillers=0,
    )


@kernel
def _look_up(codes: CodeArray, table: npt.NDArray[Any], start: int, together: int, result: npt.NDArray[Any]) -> None:
    # result[column, start + row] = table[row, codes[row, column]]; unsigned places do not count from the end, and
    # compiled code need not ask
    rows, columns = codes.shape
    for first_row in range(0, rows, together):
        for first_column in range(0, columns, COLUMNS_TOGETHER):
            for row in range(first_row, min(first_row + together, rows)):
                line, mine, at = table[row], codes[row], np.uint64(start + row)
                for column in range(first_column, min(first_column + COLUMNS_TOGETHER, columns)):
                    result[np.uint64(column), at] = line[mine[np.uint64(column)]]
