"""Points that cost nothing to evaluate, and some that misbehave; also the program that the survival tests interrupt.

python -m tests.studies.synthetic DIR COUNT WORKERS|SCHEDULER [GATE]
"""

from __future__ import annotations

import os
import signal
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from dchw.quantities import DchwError
from dchw.studies.points import Axis, Space, Values
from dchw.studies.store import Kinds, Row
from dchw.studies.study import run_points

KINDS: Kinds = {"index": "int", "a": "int", "b": "str", "figure": "float", "error": "str"}


GATED = 40


@dataclass
class Synthetic:
    """``figure`` is a fraction with many digits; ``fails`` raise and ``kills`` end their process.

    From index `GATED` on points wait until the file ``gate`` is there, so that a test can act in the middle of a run.
    """

    count: int
    fails: frozenset[int] = frozenset()
    breaks: frozenset[int] = frozenset()
    kills: frozenset[int] = frozenset()
    gate: str = ""
    space: Space = field(init=False)

    def __post_init__(self) -> None:
        numbers = Axis(keys=("a",), choices=tuple((n,) for n in range(self.count)))
        words = Axis(keys=("b",), choices=(("even",), ("odd",)))
        self.space = Space(axes=(numbers, words), slow=0, fixed={}, derive={}, only=())

    def at(self, index: int) -> Values:
        return self.space.at(index)

    def evaluate(self, values: Values) -> Row:
        index = 2 * int(values["a"]) + (values["b"] == "odd")
        if index in self.fails:
            raise DchwError(f"point {index} has no figure")
        if index in self.breaks:
            raise ZeroDivisionError("a fault of the simulator")
        if index in self.kills:
            os.kill(os.getpid(), signal.SIGKILL)
        if self.gate and index >= GATED:
            while not Path(self.gate).exists():
                time.sleep(0.01)
            time.sleep(0.05)  # what was done to the run at the gate arrives before the run is over
        return {"figure": 1.0 / (3 + index)}

    def cost(self, index: int) -> float:
        return 1.0

    def order(self, indices: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        return indices


def table(folder: Path, points: Synthetic, **options: object) -> pd.DataFrame:
    """The table after a run that nothing disturbs any more."""
    store = run_points(points, folder, {"count": points.count}, KINDS, points.space, **options)  # type: ignore[arg-type]
    return store.frame()


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job would ignore Ctrl-C
    from tests.studies import synthetic  # workers of a cluster find its classes by this name

    folder, count, on = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
    points = synthetic.Synthetic(count, gate=sys.argv[4] if len(sys.argv) > 4 else "")
    try:
        table(folder, points, **{"workers": int(on)} if on.isdigit() else {"scheduler": on})
    except DchwError as error:
        sys.exit(f"dchw: {error}")
