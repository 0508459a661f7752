"""Orders of a layer's loops: what a layer asks, what may be chosen, and what it costs (`dchw.mapping.search`)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

from dchw.graph.geometry import Geometry
from dchw.mapping.tiling import Sums


@dataclass(frozen=True, kw_only=True)
class Demand:
    """What one layer asks of a machine in one storage format."""

    name: str
    geometry: Geometry
    batch: int
    weight_bytes: int
    """All weight regions of the layer as packed, tables included."""
    table_bytes: int
    """Of these, what every part of rows needs again: codebooks and code tables."""
    row_table_bytes: int = 0
    """Of these, tables of which a part of rows has its share: chunk tables, biases."""
    chunk_regions: tuple[int, ...] = ()
    """Bytes of each region that is cut into chunks, where there are several."""
    resident_bytes: int
    """What all weights take in the weight SRAM where they stay."""
    decoded: bool
    """Whether they lie there decoded, at fixed width."""
    input_bytes: int
    """The input tensor; 0 where it is on the chip already."""
    input_kept: bool = False
    """Whether all of it stays on the chip for another layer."""
    held_bytes: int = 0
    """Tensors in the activation SRAM beside the input while the layer is worked."""
    cuttable: bool = True
    """Whether the columns may be worked in blocks."""
    coded: bool = False
    """Whether decode units go through the weights again for every tile."""
    cut_bytes: int = 0
    """Bytes that each further block adds to a part: what decode units go through is packed block by block."""
    part_chunk_bytes: int = 0
    """What the ends of a block leave unused in the weight SRAM: room there is for whole chunks of every decode unit."""
    cycles: Callable[[int, int], float]
    """Cycles of the array for (rows of a part, pixels of a tile): one tile over all columns."""
    turn_cycles: Callable[[int, int], float] = lambda rows, pixels: 0.0
    """Of these, what every pass takes however few its columns are: filling, and handing sums over."""

    @property
    def pixels(self) -> int:
        """Output pixels of the whole batch."""
        return self.geometry.output_pixels * self.batch


class Stays(Enum):
    """What of a layer's input stays on the chip for the stages behind."""

    NOTHING = "nothing"
    BAND = "band"
    WHOLE = "whole"


@dataclass(frozen=True, kw_only=True)
class LoopChoice:
    """One order of a layer's loops."""

    part_rows: int
    """Rows of a part; the last one may hold fewer."""
    tile: int
    """Pixels the array works at a time."""
    band_tiles: int
    """Tiles of a band."""
    blocks: int
    """Blocks of columns of a part."""
    sums: Sums = Sums.ACCUMULATORS
    """Where sums wait from one block to the next."""
    bands_outermost: bool


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What a choice costs; DRAM bytes in whole bursts."""

    weight_bytes: int
    input_bytes: int
    sum_bytes: int = 0
    """Partial sums written to DRAM, and read again."""
    cycles: float

    @property
    def dram_bytes(self) -> int:
        """All of them."""
        return self.weight_bytes + self.input_bytes + self.sum_bytes

    @property
    def key(self) -> tuple[int, float]:
        """Fewest DRAM bytes, then fewest cycles."""
        return self.dram_bytes, self.cycles


@dataclass(frozen=True, kw_only=True)
class Explanation:
    """What was chosen for a layer, and what else it could have cost in DRAM bytes of weights, inputs and sums."""

    layer: str
    choice: LoopChoice
    cost: Cost
    simple: Cost
    """Cost of `LoopSearch.simple`."""
    least_bytes: int
    """Every weight and every input row that is read, once: no order can move less."""
    considered: int
    """Orders that the buffers allow."""
    given: tuple[str, ...] = ()
    """What of the choice was fixed by hand (`dchw.machines.loop_order.LoopOrder`)."""
