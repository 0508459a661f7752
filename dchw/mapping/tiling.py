"""Cutting a layer into passes: how many output pixels are worked at a time so that accumulators hold them."""

from __future__ import annotations

from dataclasses import dataclass

from dchw.graph.geometry import Geometry
from dchw.machines.units.pe_array import PeArray
from dchw.quantities import DchwError, ceil_div


@dataclass(frozen=True, kw_only=True)
class Tiling:
    """Passes of one layer: every pass reads all weights once and computes ``tile`` output pixels."""

    rows: int
    """Output rows of the busiest processing element."""
    pixels: int
    """Output pixels, over the whole batch."""
    tile: int
    """Pixels of a pass; the last pass may hold fewer."""

    @property
    def passes(self) -> int:
        """Number of passes."""
        return ceil_div(self.pixels, self.tile)

    def pixels_in(self, index: int) -> int:
        """Pixels of one pass."""
        return min(self.tile, self.pixels - index * self.tile)


def tile_layer(name: str, geometry: Geometry, batch: int, array: PeArray, *, sequential: bool = False) -> Tiling:
    """The largest tile that the array's tile width and accumulators allow; of a sequential layer, within one step."""
    rows = ceil_div(geometry.out_channels, array.elements)
    if rows > array.accumulators:
        raise DchwError(
            f"layer {name!r}: {geometry.out_channels} output rows need {rows} accumulators in each of "
            f"{array.elements} processing elements; got {array.accumulators}; raise pe_array.accumulators to {rows}"
        )
    pixels = geometry.output_pixels * batch
    tile = min(array.tile, array.accumulators // rows, batch if sequential else pixels)
    if sequential:
        tile = max(size for size in range(1, tile + 1) if batch % size == 0)
    return Tiling(rows=rows, pixels=pixels, tile=tile)
