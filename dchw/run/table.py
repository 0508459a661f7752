"""The table that `compare` gives: a DataFrame that draws itself. Apart, because pandas is imported only with it."""

from __future__ import annotations

from typing import Any

import pandas as pd

from dchw.late import maker


class Comparison(pd.DataFrame):
    """One row per storage format; rows taken out of it draw themselves too. It holds no runs: it stays small."""

    @property
    def _constructor(self) -> Any:
        return Comparison

    @property
    def plot(self) -> Any:
        """``plot.energy()``, ``plot.traffic()`` and ``plot.latency()``; otherwise what pandas' own ``plot`` does."""
        return maker("Comparison.plot")(self)
