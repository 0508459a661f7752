"""Cutting a stage into passes: which output pixels and which columns are worked at a time."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import numpy.typing as npt

from dchw.formats.packing.run_layout import band_bounds
from dchw.graph.geometry import Geometry
from dchw.machines.units.pe_array import PeArray
from dchw.quantities import DchwError, ceil_div


class Sums(StrEnum):
    """Where the sums of tiles wait from one block of columns to the next."""

    ACCUMULATORS = "accumulators"
    SRAM = "sram"  # the activation SRAM, as wide as accumulators are
    DRAM = "dram"


@dataclass(frozen=True, kw_only=True)
class Tiling:
    """Passes of one stage: each works a tile of output pixels over a block of columns.

    Block by block, all tiles go by; the passes of the last block complete their tile and hand the sums over. Where sums
    do not wait in the accumulators, every pass hands over what it has: partial sums, to which the next block's are
    added.
    """

    rows: int
    """Output rows of the busiest processing element."""
    pixels: int
    """Output pixels of the stage, over the whole batch."""
    tile: int
    """Pixels of a pass; the last tile may hold fewer."""
    blocks: int = 1
    """Blocks of columns. With one, a tile's sums leave the accumulators before the next tile begins."""
    sums: Sums = Sums.ACCUMULATORS
    """Where the sums of all tiles wait between blocks, where there are several."""

    @property
    def tiles(self) -> int:
        """Number of tiles."""
        return ceil_div(self.pixels, self.tile)

    @property
    def passes(self) -> int:
        """Number of passes."""
        return self.tiles * self.blocks

    @property
    def last_block(self) -> int:
        """The first pass that completes its tile; all after it do as well."""
        return self.tiles * (self.blocks - 1)

    @property
    def first_handover(self) -> int:
        """The first pass that hands sums over, complete or not; all after it do as well."""
        return self.last_block if self.sums is Sums.ACCUMULATORS else 0

    def pixels_in(self, index: int) -> int:
        """Pixels of one pass."""
        return min(self.tile, self.pixels - index % self.tiles * self.tile)

    def pixels_of_passes(self) -> npt.NDArray[np.int64]:
        """int64[passes]: pixels of each."""
        tile = np.minimum(self.tile, self.pixels - np.arange(self.tiles, dtype=np.int64) * self.tile)
        return np.tile(tile, self.blocks)

    def bounds(self, jobs: int) -> list[int]:
        """First job of every block, and the number of jobs."""
        return band_bounds(jobs, self.blocks)


def groups_side_by_side(geometry: Geometry, elements: int) -> bool:
    """Whether groups of channels are worked as one product: where one of them leaves elements without a row."""
    return geometry.groups > 1 and geometry.out_channels // geometry.groups < elements


def step_tiling(name: str, geometry: Geometry, batch: int, array: PeArray) -> Tiling:
    """Passes of a layer worked step by step: the widest tile within one step that cuts the batch evenly."""
    rows = ceil_div(geometry.out_channels, array.elements)
    if rows > array.accumulators:
        raise DchwError(
            f"layer {name!r}: {geometry.out_channels} output rows of a step need {rows} accumulators in each of "
            f"{array.elements} processing elements; got {array.accumulators}; raise pe_array.accumulators to {rows}"
        )
    most = min(array.tile, array.accumulators // rows, batch)
    tile = max(size for size in range(1, most + 1) if batch % size == 0)
    return Tiling(rows=rows, pixels=geometry.output_pixels * batch, tile=tile)
