"""Which layer each firing of a node belongs to. Layers come one behind another, so that a few runs say it for millions
of firings."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True, slots=True)
class LayerRuns:
    """Runs of firings of one layer, in the order of the firings; no run is empty, none has the layer of the one before.

    Equal where every firing's layer is.
    """

    runs: tuple[tuple[int, int], ...] = ()
    """(layer, firings) of each run."""

    @classmethod
    def of(cls, layers: Iterable[int]) -> LayerRuns:
        """Those of the layers of firing after firing."""
        return cls.joined((layer, 1) for layer in layers)

    @classmethod
    def joined(cls, parts: Iterable[tuple[int, int]]) -> LayerRuns:
        """Those of (layer, firings), one behind another, of which some may be empty or go on with one layer."""
        runs: list[tuple[int, int]] = []
        for layer, count in parts:
            if runs and runs[-1][0] == layer:
                runs[-1] = layer, runs[-1][1] + count
            elif count:
                runs.append((layer, count))
        return cls(tuple(runs))

    def __len__(self) -> int:
        """Firings in all."""
        return sum(count for _, count in self.runs)

    def spans(self) -> Iterator[tuple[int, int, int]]:
        """(layer, first firing, end) of each run."""
        at = 0
        for layer, count in self.runs:
            yield layer, at, at + count
            at += count

    def listed(self) -> npt.NDArray[np.int64]:
        """int64[firings]: the layer of each."""
        layers, counts = np.array(self.runs, np.int64).reshape(-1, 2).T
        return np.repeat(layers, counts)

    def by_layer(self, layers: int) -> npt.NDArray[np.int64]:
        """int64[layers]: firings of each."""
        counts = np.zeros(layers, np.int64)
        for layer, count in self.runs:
            counts[layer] += count
        return counts

    def part(self, first: int, end: int) -> LayerRuns:
        """Those of the firings from one on up to another."""
        return LayerRuns.joined(
            (layer, max(min(until, end) - max(begin, first), 0)) for layer, begin, until in self.spans()
        )

    def then(self, other: LayerRuns) -> LayerRuns:
        """With those of more firings behind."""
        return LayerRuns.joined((*self.runs, *other.runs))
