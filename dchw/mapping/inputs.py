"""Which part of a layer's input a band of output pixels reads, in whole input rows."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import NamedTuple

from dchw.graph.geometry import Geometry
from dchw.quantities import ceil_div


class BandsRead(NamedTuple):
    """What all bands of a size read of the input."""

    largest: int
    """Bytes of the band that reads most."""
    bytes: int
    """Of all of them, in whole bursts."""


@dataclass(frozen=True, kw_only=True, eq=False)
class InputRows:
    """The rows of one layer's input."""

    geometry: Geometry
    batch: int
    input_bytes: int
    """The input tensor; 0 where it is on the chip already."""
    value_bits: int
    """Of an activation."""
    _read: dict[tuple[int, int], BandsRead] = field(default_factory=dict)

    @property
    def _pixels(self) -> int:
        return self.geometry.output_pixels * self.batch

    @cached_property
    def _row_bytes(self) -> int:
        geometry = self.geometry
        return math.prod(geometry.in_size[1:]) * geometry.in_channels * self.value_bits // 8

    def of(self, first: int, end: int) -> int:
        """Bytes that pixels ``first`` to ``end`` read, from the first row to the last that the kernel reaches."""
        pixels = self.geometry.output_pixels
        if self.input_bytes == 0 or end - first >= self._pixels:
            return self.input_bytes
        row_pixels = math.prod(self.geometry.out_size[1:])
        total = 0
        for image in range(first // pixels, ceil_div(end, pixels)):
            low = max(first - image * pixels, 0) // row_pixels
            high = (min(end - image * pixels, pixels) - 1) // row_pixels
            total += max(self._span(high)[1] - self._span(low)[0], 0) * self._row_bytes
        return min(total, self.input_bytes)

    def bands(self, step: int, burst: int) -> BandsRead:
        """What bands of ``step`` pixels read, looked up by size: orders that differ in their parts or blocks, and
        storage formats, cut the same bands."""
        known = self._read.get((step, burst))
        if known is None:
            sizes = [self.of(at, min(at + step, self._pixels)) for at in range(0, self._pixels, step)]
            whole = sum(ceil_div(size, burst) * burst for size in sizes)
            known = self._read[step, burst] = BandsRead(max(sizes), whole)
        return known

    @cached_property
    def read(self) -> int:
        """Bytes of all rows that any output reads: fewer than the input has where strides step over rows."""
        if self.input_bytes == 0:
            return 0
        rows, upto = 0, 0
        for out in range(self.geometry.out_size[0]):
            top, bottom = self._span(out)
            rows += max(bottom - max(top, upto), 0)
            upto = max(upto, bottom)
        return min(self.batch * rows * self._row_bytes, self.input_bytes)

    def _span(self, out_row: int) -> tuple[int, int]:
        """First input row that an output row reads, and the one behind the last."""
        geometry = self.geometry
        at = out_row * geometry.stride[0] - geometry.padding[0]
        reach = (geometry.kernel[0] - 1) * geometry.dilation[0] + 1
        return max(at, 0), min(at + reach, geometry.in_size[0])


@lru_cache(maxsize=256)
def input_rows(geometry: Geometry, batch: int, input_bytes: int, value_bits: int) -> InputRows:
    """The rows of a layer's input: the same for all storage formats that hold activations alike."""
    return InputRows(geometry=geometry, batch=batch, input_bytes=input_bytes, value_bits=value_bits)
