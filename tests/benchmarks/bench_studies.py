"""What a study costs besides its points, and whether its memory grows with their number.

`bench_workers` measures whole commands, on one worker and on two.

python -m pytest tests/benchmarks/bench_studies.py --override-ini addopts= -s
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time
from pathlib import Path
from statistics import median

import numpy as np
import numpy.typing as npt
import pytest

import dchw
from dchw.reports.study_page import write_study_report
from dchw.studies.columns import METRICS
from dchw.studies.points import Values
from dchw.studies.store import Row
from dchw.studies.study import Study, run_points
from tests.benchmarks.processors import spent
from tests.reports.runs import tiny_network

MODELS = Path(__file__).parents[2] / "models"
COUNTS = (10_000, 100_000, 1_000_000)


class Arithmetic:
    """Figures by a formula, so that a point costs next to nothing."""

    def __init__(self, study: Study) -> None:
        self.study = study

    def at(self, index: int) -> Values:
        return self.study.space.at(index)

    def evaluate(self, values: Values) -> Row:
        units, depth = float(values["huffman.units"]), float(values["pe_array.queue_depth"])
        row: Row = {name: 1.0 if kind == "float" else 1 for name, kind in METRICS.items()}
        latency = 1.0 + 100.0 / units + 1.0 / depth
        row |= {"latency_us": latency, "energy_pj": 50.0 + units / 7 + depth / 3, "area_mm2": 1.0 + units / 9 + depth}
        return {**row, "bound_by": "decode" if units < 50 else "dram", "meets": True, "seed": 0}

    def cost(self, index: int) -> float:
        return 1.0

    def order(self, indices: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        return indices


def measure(folder: Path, count: int) -> dict[str, float]:
    """Run, write, merge and report a study of so many points: peak memory after each part, and seconds."""
    dchw.save(tiny_network(), folder / "tiny.dchw")
    study = dchw.study(
        {
            "networks": str(folder / "tiny.dchw"),
            "vary": {
                "huffman.units": {"from": 1, "to": 100, "step": 1},
                "pe_array.queue_depth": {"from": 1, "to": 100, "step": 1},
                "weight_sram.access_cycles": {"from": 1, "to": count // 10_000, "step": 1},
            },
        }
    )
    assert study.space.count == count
    empty = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.process_time()
    run_points(Arithmetic(study), folder / "out", study.identity, study.kinds, study.space)
    ran, spent = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time() - start
    start = time.process_time()
    page = write_study_report(folder / "r.html", folder / "out", command="bench")
    assert page.points == count
    return {
        "points": count,
        "before_mib": empty / 1024,
        "run_mib": ran / 1024,
        "report_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "run_ms_a_point": 1e3 * spent / count,
        "report_cpu_s": time.process_time() - start,
        "page_mib": (folder / "r.html").stat().st_size / 1024**2,
        "shown": len(page.shown),
        "front": page.front_size,
    }


def test_memory_does_not_grow_with_points(tmp_path: Path) -> None:
    found = []
    for count in COUNTS:
        folder = tmp_path / str(count)
        folder.mkdir()
        done = subprocess.run([sys.executable, __file__, str(folder), str(count)], capture_output=True, check=True)
        found.append(json.loads(done.stdout))
        print({key: round(value, 3) for key, value in found[-1].items()}, flush=True)
    # what must be known of every point (whether it is finished, its number, its objectives) takes some bytes each
    # and windows of rows are full from some tens of thousands on
    assert found[-1]["report_mib"] - found[-2]["report_mib"] < 128


VARIED: dict[str, dict[str, object]] = {
    "units and queues": {"pe_array.queue_depth": {"from": 1, "to": 16, "step": 1}, "huffman.units": [8, 16, 32, 64]},
    "queues, DRAM and units": {
        "huffman.units": [16, 32],
        "dram.standard": ["LPDDR4X-4266", "LPDDR5X-8533"],
        "dram.channels": [1, 2, 4],
        "huffman.output_queue": [2, 8],
        "pe_array.queue_depth": [2, 4, 8],
    },
}


@pytest.mark.parametrize("varied", VARIED)
@pytest.mark.parametrize("network", ["lenet_300_100", "lenet_5"])
def test_points_a_second(network: str, varied: str, tmp_path: Path) -> None:
    """Warm rates of machine variants on one core, by processor time: kernels and unit costs are there, runs are not."""
    settings = {"networks": str(MODELS / f"{network}.dchw"), "vary": VARIED[varied]}
    dchw.study(settings).run(tmp_path / "warm")
    rates = []
    for turn in range(3):
        study = dchw.study(settings)
        start = time.process_time()
        frame = study.run(tmp_path / str(turn))
        rates.append(len(frame) / (time.process_time() - start))
    print(f"{network}, {varied}: {median(rates):.1f} ({min(rates):.1f} to {max(rates):.1f}) points a second and core")


def test_what_a_point_costs_besides_its_figures(tmp_path: Path) -> None:
    """Of a point that costs nothing: processor time of all processes, and time that passes, without their start."""
    for workers in (1, 2):
        program = [sys.executable, "-m", "tests.studies.synthetic"]
        few, many = (
            spent([*program, str(tmp_path / f"{workers}-{count}"), str(count), str(workers)])
            for count in (1_000, 26_000)  # of two points each
        )
        wall, cpu = ((after - before) / 50 for before, after in zip(few, many, strict=True))
        print(f"{workers} workers: {cpu:.3f} ms of processor time a point, {wall:.3f} ms of the clock")
        print(f"{workers} workers, started for 2,000 points: {few[1]:.2f} s of processor time, {few[0]:.2f} s in all")


if __name__ == "__main__":
    sys.stdout.write(json.dumps(measure(Path(sys.argv[1]), int(sys.argv[2]))))
