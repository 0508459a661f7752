"""A space with a bent front and two networks, which costs nothing to evaluate; also a program that may be killed.

python -m tests.studies.valley DIR BUDGET WORKERS GATES
"""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from dchw.quantities import DchwError
from dchw.studies.expressions import Expression
from dchw.studies.points import Axis, Space, Values
from dchw.studies.settings import SearchSettings
from dchw.studies.store import Kinds, Row
from dchw.studies.study import run_points

OBJECTIVES = ["latency_us", "area_mm2"]
KINDS: Kinds = {
    "index": "int",
    "network": "str",
    "a": "int",
    "b": "int",
    "c": "int",
    "latency_us": "float",
    "area_mm2": "float",
    "error": "str",
}
SIDE = 12
COUNT = 2 * SIDE**3


@dataclass
class Valley:
    """``a`` buys latency for area with falling returns, ``b`` does so for the second network only, ``c`` costs both."""

    fails: frozenset[int] = frozenset()
    only: str = ""
    stops_after: int = 0
    gates: str = ""
    """A folder: every eighth point waits there until one more file has come, or the file ``open``."""
    space: Space = field(init=False)

    def __post_init__(self) -> None:
        networks = Axis(keys=("network",), choices=(("one",), ("two",)))
        numbers = [Axis(keys=(key,), choices=tuple((n,) for n in range(SIDE))) for key in "abc"]
        only = (Expression(self.only),) if self.only else ()
        self.space = Space(axes=(networks, *numbers), slow=1, fixed={}, derive={}, only=only)
        self._ran = 0

    def at(self, index: int) -> Values:
        return self.space.at(index)

    def evaluate(self, values: Values) -> Row:
        self._ran += 1
        if self.stops_after and self._ran > self.stops_after:
            raise KeyboardInterrupt
        index = self.space.find(values)
        assert index is not None
        if index in self.fails:
            raise DchwError("no figure here")
        if self.gates and index % 8 == 0:
            self._wait()
        a, b, c = (int(values[key]) for key in "abc")
        helps = a + (b if values["network"] == "two" else 0)
        return {"latency_us": 100.0 / (1 + helps) + 3 * c, "area_mm2": 1.0 + a + 1.5 * b + 2 * c}

    def _wait(self) -> None:
        gates = Path(self.gates)
        before = len(list(gates.iterdir()))
        while len(list(gates.iterdir())) == before and not (gates / "open").exists():
            time.sleep(0.01)

    def cost(self, index: int) -> float:
        return 1.0

    def order(self, indices: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        return indices


def table(
    folder: Path, points: Valley, *, search: SearchSettings | None = None, workers: int = 1, seed: int = 0
) -> pd.DataFrame:
    """The table of a sweep or a search."""
    store = run_points(points, folder, {}, KINDS, points.space, workers=workers, search=search, seed=seed)
    return store.frame()


if __name__ == "__main__":
    folder, budget, workers, gates = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
    wanted = SearchSettings(budget=budget, objectives=["latency_us", "area_mm2"], sampler="nsga2", generation=16)
    table(folder, Valley(gates=gates), search=wanted, workers=workers)
