"""How much of a front a search finds with a twentieth of its evaluations, and what other ways of choosing find.

python tests/benchmarks/bench_search.py TABLE [SEEDS]

runs the 1,200 points of `SPACE` into the folder TABLE, or goes on with it, and then searches that table, so that a seed
costs seconds: for every sampler the share of the exhaustive front's hypervolume (latency, energy, area; up to the worst
of all points), its median, least and most over the seeds.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

import dchw
from dchw.studies.points import Values
from dchw.studies.reading import OBJECTIVES, front, hypervolume
from dchw.studies.settings import SearchSettings
from dchw.studies.store import Row
from dchw.studies.study import Study, read_results, run_points

ROOT = Path(__file__).parents[2]
SPACE = {
    "networks": str(ROOT / "models" / "lenet_300_100.dchw"),
    "arithmetic": "none",
    "vary": {
        "huffman.units": {"from": 4, "to": 64, "factor": 2},
        "huffman.output_queue": {"from": 1, "to": 8, "factor": 2},
        "pe_array.queue_depth": {"from": 1, "to": 16, "factor": 2},
        "pe_array.elements": {"from": 16, "to": 128, "factor": 2},
        "dram.channels": [1, 2, 4],
    },
}
SAMPLERS = {"surface": 8, "tpe": 8, "nsga2": 10, "random": 10}
"""With their generation."""


class Tabled:
    """Answers from a finished table."""

    def __init__(self, study: Study, frame: pd.DataFrame) -> None:
        self._study = study
        plain = frame.astype(object).where(frame.notna(), None)
        self._rows = {int(row["index"]): row for row in plain.to_dict("records")}

    def at(self, index: int) -> Values:
        return self._study.space.at(index)

    def evaluate(self, values: Values) -> Row:
        found = self._study.space.find(values)
        assert found is not None
        return {str(key): value for key, value in self._rows[found].items()}

    def cost(self, index: int) -> float:
        return 1.0

    def order(self, indices: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        return indices


def share(study: Study, frame: pd.DataFrame, sampler: str, seed: int, budget: int) -> float:
    """Share of the exhaustive front's hypervolume that one search finds."""
    with tempfile.TemporaryDirectory() as folder:
        settings = SearchSettings.model_validate(
            {"budget": budget, "sampler": sampler, "generation": SAMPLERS[sampler]}
        )
        out = Path(folder, "out")
        run_points(Tabled(study, frame), out, study.identity, study.kinds, study.space, search=settings, seed=seed)
        found = read_results(out)
    assert len(found) == budget
    everything, chosen = (table[list(OBJECTIVES)].to_numpy(float) for table in (frame, found))
    worst = everything.max(axis=0)
    return hypervolume(chosen, worst) / hypervolume(everything[front(everything)], worst)


def main(folder: Path, seeds: int) -> None:
    """Print a line a sampler."""
    study = dchw.study(SPACE)
    frame = study.run(folder)
    assert frame["error"].isna().all()
    count, budget = len(frame), len(frame) // 20
    on_front = int(front(frame[list(OBJECTIVES)].to_numpy(float)).sum())
    sys.stdout.write(f"{count:,} points, {on_front} on the front, {budget} evaluations, {seeds} seeds\n")
    for sampler in SAMPLERS:
        shares = [share(study, frame, sampler, seed, budget) for seed in range(seeds)]
        low, middle, high = np.quantile(shares, [0.0, 0.5, 1.0])
        reached = sum(value >= 0.99 for value in shares)
        sys.stdout.write(
            f"{sampler}: median {middle:.2%}, {low:.2%} to {high:.2%}; 99 % reached by {reached} of {seeds}\n"
        )
        sys.stdout.flush()


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 10)
