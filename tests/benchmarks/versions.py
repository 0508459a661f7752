"""Every line of ``bench_engines.py`` on two versions of this package, run by run in turn on one core.

Run: ``python -m tests.benchmarks.versions OTHER``, where OTHER is the folder of another version's tree (``git worktree
add OTHER TAG``); ``--python`` if that version needs other libraries, ``--core`` for the core that both share.

Each version runs in a process of its own, from its own tree and with its own cache of kernels, on programs that its
own ``bench_engines.py`` makes. The processes take turns: one run of the kernels alone and one whole run, with checking
and laying out, of the one, then of the other, so that a busy machine slows both alike. Times are processor time: the
least and the median of all rounds, the other version's / this one's, and in brackets this one's share of the other's.
Whether both ran the same program is told by everything in it that decides its times.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

LINES = (
    "0 decoders",
    "16 decoders",
    "64 decoders",
    "fc6 shared 0.351",
    "fc6 shared 1.0",
    "fc6 huffman 0.351",
    "fc6 huffman 1.0",
    "fc6 shared 0.351 at once",
    "fc6 shared 1.0 at once",
    "fc6 huffman 0.351 at once",
    "fc6 huffman 1.0 at once",
    "memory",
)
"""Of fc6: storage format, share of the inputs that are not zero, and whether the first column waits for all of them, as
it did in 0.1.0; now each block of the input is waited for where the columns have come to it, and programs differ."""
Times = tuple[float, float]
"""Processor time in seconds of the kernels alone, and of a whole run."""


def program_of(line: str, bench: Any) -> Any:
    """The program of a line, made by a version's own benchmark."""
    if line == "memory":
        memory = bench.build(bench.Dram, {"standard": "LPDDR5X-8533", "channels": 4}, where="dram")
        return bench.stream(memory, 20_000, 8)
    if line.endswith("decoders"):
        rng = bench.np.random.default_rng(0)
        work = bench.random_work(rng, bench.COLUMNS, bench.ROWS, bench.ELEMENTS, bench.DENSITY)
        return bench.broadcast_program(work, depth=bench.DEPTH, decoders=int(line.split()[0]))
    _, storage, active, *at_once = line.split()
    target = bench.machine("eie-64pe-45nm").replace("huffman.placement", "use")
    program = bench.lower(bench.map_network(bench.fc6(float(active)), target, storage), warm=True)
    return _input_at_once(program, bench) if at_once else program


def _input_at_once(program: Any, bench: Any) -> Any:
    """The program with all blocks of the input taken by the first column."""
    links = [
        bench.replace(link, taken_by=bench.np.zeros_like(link.taken_by)) if link.name.endswith("(blocks)") else link
        for link in program.links
    ]
    return bench.replace(program, links=tuple(links))


def work() -> None:
    """What each version's process does: a line of input is a line of the benchmark, or empty for one more round."""
    from tests.benchmarks import bench_engines as bench

    bench.ROUNDS = 1  # one run each time it is asked
    bench.least_seconds.__defaults__ = (1,)
    program: Any = None
    for asked in sys.stdin:
        if asked.strip():
            program = program_of(asked.strip(), bench)
            firings = sum(len(node.occupied) for node in program.nodes if hasattr(node, "occupied"))
            bench.kernel_seconds(program), bench.whole_seconds(program)
            sys.stdout.write(f"{firings} {_content(program)}\n")
        else:
            sys.stdout.write(f"{bench.kernel_seconds(program)[0]} {bench.whole_seconds(program)}\n")
        sys.stdout.flush()


def _content(program: Any) -> str:
    """SHA-256 of what decides a program's times, by one rule for both versions, whatever they call their parts."""
    found = hashlib.sha256()
    for node in program.nodes:
        for asked in (node, *getattr(node, "requests", ())):
            for name in ("occupied", "layer", "address", "bursts", "is_write"):
                if hasattr(asked, name):
                    values = getattr(asked, name)
                    listed = values.listed() if hasattr(values, "listed") else values
                    found.update(listed.astype("int64").tobytes())
    for link in program.links:
        found.update(repr((link.items, link.depth, link.latency, link.initial)).encode())
        for by in (link.given_by, link.taken_by):
            found.update(b"each" if by is None else by.astype("int64").tobytes())
    return found.hexdigest()


class Version:
    """A process that runs one version's benchmark."""

    def __init__(self, python: str, tree: Path, kernels: Path, core: int | None) -> None:
        """``kernels``: folder of its compiled kernels."""
        environment = {**os.environ, "PYTHONPATH": str(tree), "NUMBA_CACHE_DIR": str(kernels), "OMP_NUM_THREADS": "1"}
        begin = f"import runpy; runpy.run_path({str(Path(__file__).resolve())!r}, run_name='worker')['work']()"
        pin = ["taskset", "-c", str(core)] if core is not None else []
        self._process = subprocess.Popen(
            [*pin, python, "-c", begin],
            cwd=tree,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def ask(self, line: str) -> str:
        """One line of the answer."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        if not answer:
            raise SystemExit(f"{line or 'a round'}: the process ended with {self._process.wait()}")
        return answer

    def end(self) -> None:
        """Let the process end."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


def in_turn(versions: Sequence[Version], line: str, rounds: int) -> Iterator[tuple[str, list[Times]]]:
    """(firings and digest of its program, times of each round) of each version."""
    programs = [version.ask(line).strip() for version in versions]
    times: list[list[Times]] = [[] for _ in versions]
    for _ in range(rounds):
        for version, found in zip(versions, times, strict=True):
            alone, whole = version.ask("").split()
            found.append((float(alone), float(whole)))
    yield from zip(programs, times, strict=True)


def row(line: str, found: list[tuple[str, list[Times]]]) -> str:
    """A line of the table, in ms."""
    (firings, *_), same = found[0][0].split(), found[0][0] == found[1][0]
    cells = [line, f"{int(firings):,}", "yes" if same else "no"]
    for which in (0, 1):
        for least in (min, statistics.median):
            one, other = (least(times[which] for times in of) * 1e3 for _, of in found)
            cells.append(f"{one:.2f} / {other:.2f} ({other / one:.2f})")
    return f"| {' | '.join(cells)} |"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("other", type=Path, help="folder of the other version's tree")
    parser.add_argument("--python", default=sys.executable, help="Python that has what the other version needs")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--core", type=int, help="core that both share (where there is `taskset`)")
    parser.add_argument("--kernels", type=Path, help="folder that keeps compiled kernels for another time")
    parser.add_argument("--lines", nargs="*", default=LINES, choices=LINES)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as fresh:
        kept = asked.kernels or Path(fresh)
        here = Path(__file__).resolve().parents[2]
        versions = [
            Version(asked.python, asked.other.resolve(), kept / "other", asked.core),
            Version(sys.executable, here, kept / "this", asked.core),
        ]
        head = (
            "line",
            "firings",
            "same program",
            "kernels, least",
            "kernels, median",
            "whole run, least",
            "whole run, median",
        )
        sys.stdout.write(f"| {' | '.join(head)} |\n| --- |{' ---: |' * (len(head) - 1)}\n")
        for line in asked.lines:
            sys.stdout.write(row(line, list(in_turn(versions, line, asked.rounds))) + "\n")
            sys.stdout.flush()
        for version in versions:
            version.end()


if __name__ == "__main__":
    main()
