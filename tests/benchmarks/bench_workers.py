"""``dchw sweep`` as a user runs it, by the clock: two workers against one, and a thousand variants of SqueezeNet.

python -m tests.benchmarks.bench_workers pairs [POINTS] [PAIRS]
python -m tests.benchmarks.bench_workers squeezenet [POINTS]

Every run is a process of its own that starts, imports, runs, merges and ends, on one worker as on two, so that start-up
counts on both sides; kernels are single-threaded and were compiled before by a short run. 8,192 points of LeNet-300-100
take more than a minute on one worker; the thousand points of SqueezeNet's published release, from DCHW_DATA, run on
two. Needs two cores that nobody else uses: the load average is printed beside what was measured.
"""

from __future__ import annotations

import os
import resource
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from statistics import median

from ruamel.yaml import YAML

from dchw.studies.study import read_results
from tests.benchmarks.processors import spent

ROOT = Path(__file__).parents[2]
LENET = {
    "networks": str(ROOT / "models" / "lenet_300_100.dchw"),
    "vary": {
        "huffman.units": [8, 16, 32, 64],
        "vector.values_per_cycle": [16, 32, 64, 128],
        "dram.channels": [1, 2, 4, 8],
        "huffman.output_queue": [2, 4, 8, 16],
        "pe_array.queue_depth": {"from": 1, "to": 32, "step": 1},
    },
}
SQUEEZENET = {
    "vary": {
        "huffman.units": [16, 32],
        "dram.standard": ["LPDDR4-3200", "LPDDR4X-4266", "LPDDR5-6400", "LPDDR5X-8533", "LPDDR6-10667"],
        "dram.channels": [2, 4],
        "huffman.output_queue": [1, 2, 4, 8, 16],
        "pe_array.queue_depth": [1, 2, 3, 4, 6, 8, 12, 16, 24, 32],
    },
}


def swept(settings: Mapping[str, object], folder: Path, workers: int, points: int) -> tuple[float, float]:
    """Seconds of the clock that the whole command takes, and of processors."""
    file = folder.with_suffix(".yaml")
    YAML(typ="safe").dump(dict(settings), file)
    single = {f"{library}_NUM_THREADS": "1" for library in ("OMP", "OPENBLAS", "MKL", "NUMBA")}
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    command = [sys.executable, "-m", "dchw", "sweep", str(file), "--out", str(folder), "--workers", str(workers)]
    times = spent(command, {**os.environ, **single, "PYTHONPATH": path})
    frame = read_results(folder)
    assert len(frame) == points, len(frame)
    assert frame["error"].isna().all(), frame["error"].dropna().iloc[0]
    return times


def fewer(settings: Mapping[str, object], points: int) -> dict[str, object]:
    """The study with its first key's values left, and of the others so many that about ``points`` points remain."""
    vary = {key: list(_listed(values)) for key, values in dict(settings["vary"]).items()}  # type: ignore[call-overload]
    while _product(vary) > points:
        longest = max(list(vary)[1:], key=lambda key: len(vary[key]))
        if len(vary[longest]) == 1:
            break
        vary[longest].pop()
    return {**settings, "vary": vary}


def pairs(points: int, count: int, folder: Path) -> None:
    """Print a line a pair, and the median of their ratios."""
    asked = fewer(LENET, points)
    points = _product(asked["vary"])  # type: ignore[arg-type]
    swept(fewer(LENET, 4), folder / "warm", 2, _product(fewer(LENET, 4)["vary"]))  # type: ignore[arg-type]
    ratios = []
    for turn in range(count):
        one, two = (swept(asked, folder / f"{turn}-{workers}", workers, points) for workers in (1, 2))
        ratios.append(one[0] / two[0])
        _say(
            f"{points:,} points: {one[0]:.1f} s on 1 worker, {two[0]:.1f} s on 2, {ratios[-1]:.2f} times as fast; "
            f"{one[1]:.1f} and {two[1]:.1f} s of processors"
        )
    _say(f"2 workers against 1: {median(ratios):.2f} times as fast, the median of {count}")


def squeezenet(points: int, folder: Path) -> None:
    """Print the minutes that so many variants take on two workers."""
    place = Path(os.environ["DCHW_DATA"]) / "squeezenet_deep_compression" / "compressed_SqueezeNet.net"
    whole = {**SQUEEZENET, "networks": str(place)}
    asked = fewer(whole, points)
    points = _product(asked["vary"])  # type: ignore[arg-type]
    swept(fewer(whole, 2), folder / "warm", 1, _product(fewer(whole, 2)["vary"]))  # type: ignore[arg-type]
    seconds, processors = swept(asked, folder / "out", 2, points)
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss >> 10
    _say(f"SqueezeNet: {points:,} points in {seconds / 60:.2f} minutes on 2 workers, {points / seconds:.2f} a second")
    _say(f"{processors / points:.3f} s of a processor a point; at most {peak} MiB a process")


def _say(line: str) -> None:
    loads = ", ".join(f"{load:.1f}" for load in os.getloadavg())
    sys.stdout.write(f"{line}  (load {loads})\n")
    sys.stdout.flush()


def _listed(values: object) -> list[object]:
    if isinstance(values, dict):
        return list(range(values["from"], values["to"] + 1, values["step"]))
    assert isinstance(values, list)
    return values


def _product(vary: Mapping[str, list[object]]) -> int:
    count = 1
    for values in vary.values():
        count *= len(_listed(values))
    return count


if __name__ == "__main__":
    what, rest = sys.argv[1], [int(word) for word in sys.argv[2:]]
    with tempfile.TemporaryDirectory() as scratch:
        if what == "pairs":
            pairs(rest[0] if rest else 8_192, rest[1] if len(rest) > 1 else 3, Path(scratch))
        else:
            squeezenet(rest[0] if rest else 1_000, Path(scratch))
