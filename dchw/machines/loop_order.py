"""What a machine's user fixes of the order of a layer's loops; the rest is searched (`dchw.mapping.search`)."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import Literal

from dchw.config import Config, Positive


class LoopOrder(Config):
    """An order given by hand, whole or in part."""

    layers: str
    """Name or pattern of the layers it is for (``conv4_*``)."""
    part_rows: Positive | None = None
    """Output rows of a part: whole groups of channels, or whole rows of all elements."""
    tile_pixels: Positive | None = None
    """Output pixels the array works at a time."""
    band_pixels: Positive | None = None
    """Output pixels for which a part's weights are fetched once; whole tiles."""
    column_blocks: Positive | None = None
    """Blocks of columns, cut along the input channels, of which each stays while all tiles of a band go by."""
    partial_sums: Literal["accumulators", "sram", "dram"] | None = None
    """Where sums wait between blocks of columns: in the accumulators, the activation SRAM or DRAM."""
    outermost: Literal["parts", "bands"] | None = None
    """Which loop is outermost: parts of rows (weights stay) or bands of pixels (inputs stay)."""

    def fits(self, layer: str) -> bool:
        """Whether it is for a layer of this name."""
        return layer == self.layers or fnmatchcase(layer, self.layers)

    @property
    def given(self) -> dict[str, object]:
        """What is fixed, by key."""
        return {key: value for key, value in self if value is not None and key != "layers"}


def order_for(layer: str, orders: Sequence[LoopOrder]) -> LoopOrder:
    """The first order given for a layer; where there is none, one that fixes nothing."""
    return next((order for order in orders if order.fits(layer)), LoopOrder(layers=layer))
