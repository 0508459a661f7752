"""Vector unit on the output path: adds biases, applies activations, pools and adds, writes results to the SRAM.

Every operation that is not a layer passes here: ``ceil(values read / values_per_cycle)`` cycles each. A layer's own
outputs pass once (bias and the activation that follows are applied on the way).
"""

from __future__ import annotations

from dchw.config import Positive
from dchw.quantities import ceil_div
from dchw.units.unit import Unit


class Vector(Unit):
    """Parameters of the output path."""

    values_per_cycle: Positive

    def cycles(self, values: int) -> int:
        """Cycles to move so many values through."""
        return max(1, ceil_div(values, self.values_per_cycle))
