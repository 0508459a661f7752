"""Which part of a layer's input a band of output pixels reads, in whole input rows."""

from __future__ import annotations

import math
from functools import cached_property

from dchw.mapping.orders import Demand
from dchw.quantities import ceil_div


class InputRows:
    """The rows of one layer's input."""

    def __init__(self, demand: Demand, value_bits: int) -> None:
        """``value_bits``: of an activation."""
        geometry = demand.geometry
        self._demand, self._geometry = demand, geometry
        self._row_bytes = math.prod(geometry.in_size[1:]) * geometry.in_channels * value_bits // 8
        self._reach = (geometry.kernel[0] - 1) * geometry.dilation[0] + 1

    def of(self, first: int, end: int) -> int:
        """Bytes that pixels ``first`` to ``end`` read, from the first row to the last that the kernel reaches."""
        demand, pixels = self._demand, self._geometry.output_pixels
        if demand.input_bytes == 0 or end - first >= demand.pixels:
            return demand.input_bytes
        row_pixels = math.prod(self._geometry.out_size[1:])
        total = 0
        for image in range(first // pixels, ceil_div(end, pixels)):
            low = max(first - image * pixels, 0) // row_pixels
            high = (min(end - image * pixels, pixels) - 1) // row_pixels
            total += max(self._span(high)[1] - self._span(low)[0], 0) * self._row_bytes
        return min(total, demand.input_bytes)

    @cached_property
    def read(self) -> int:
        """Bytes of all rows that any output reads: fewer than the input has where strides step over rows."""
        demand = self._demand
        if demand.input_bytes == 0:
            return 0
        rows, upto = 0, 0
        for out in range(self._geometry.out_size[0]):
            top, bottom = self._span(out)
            rows += max(bottom - max(top, upto), 0)
            upto = max(upto, bottom)
        return min(demand.batch * rows * self._row_bytes, demand.input_bytes)

    def _span(self, out_row: int) -> tuple[int, int]:
        """First input row that an output row reads, and the one behind the last."""
        at = out_row * self._geometry.stride[0] - self._geometry.padding[0]
        return max(at, 0), min(at + self._reach, self._geometry.in_size[0])
