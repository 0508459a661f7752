"""Array of P processing elements with V lanes each; output row r belongs to element ``r mod P``.

    activations (one matrix column, a tile of up to ``tile`` output pixels) -> broadcast -> queue of depth D per element
    entries of that column -> multiply in V lanes -> accumulators -> drained once per pass

Sparse mode: an element works one entry at a time, in as many cycles as the tile has groups of V pixels with a
non-zero activation (at least one). A broadcast column in which an element has no entry costs it one cycle. Columns
whose activations are all zero are not broadcast. Two successive entries of an element for the same row need
``hazard_cycles`` between them when its accumulators have no bypass.
Dense mode (weights without positions): all elements work a column in lockstep; lanes that the tile leaves free take
further rows, so that no multiplier idles for lack of pixels: a column of R rows and n pixels takes
``ceil(R / (P x max(1, floor(V / n))))`` cycles per group of V pixels.
After the last column of a pass an element hands over its accumulators, V a cycle.
Not modelled: partial sums leaving the element before a pass ends.
"""

from __future__ import annotations

from dchw.config import NonNegative, Positive
from dchw.quantities import ceil_div
from dchw.units.unit import Unit


class PeArray(Unit):
    """Parameters of the array."""

    elements: Positive
    lanes: Positive = 1
    queue_depth: Positive = 8
    """Broadcast columns that may wait in front of each element."""
    tile: Positive = 1
    """Most output pixels (or batch columns) held per entry; a multiple of nothing, at least the lanes to use them."""
    accumulators: Positive = 256
    """Accumulators of one element: rows x pixels of a pass must fit."""
    hazard_cycles: NonNegative = 0

    @property
    def macs_per_cycle(self) -> int:
        """Multiply-accumulates a cycle."""
        return self.elements * self.lanes

    def lane_groups(self, pixels: int) -> int:
        """Cycles one entry takes for so many pixels, none of them skipped."""
        return ceil_div(pixels, self.lanes)

    def dense_cycles(self, rows: int, pixels: int) -> int:
        """Cycles of one column of a dense product per group of lanes."""
        spread = max(1, self.lanes // pixels)
        return ceil_div(rows, self.elements * spread)

    def drain_cycles(self, rows: int, pixels: int) -> int:
        """Cycles in which one element hands over the sums of ``rows`` rows."""
        return max(1, rows * ceil_div(pixels, self.lanes))
