"""Reliability figures: ``python -m tests.soak --minutes 10`` runs what the tests sample for as long as it is given.

Three parts, each a share of the time:

- *files*: ``.dchw`` files, machine YAML and traces damaged by class; each ends in a sentence or in the same network.
- *machines*: random whole machines with random networks through both engines; every recorded time must be equal. A
  machine that is refused in a sentence counts as refused.
- *interruptions*: every verb that writes is killed at a random time, or writes to a full disk (``/dev/full`` stands for
  one where the system has it); what is left must be absent, or whole and readable.

Prints a table and ends with status 1 for a traceback, a difference or a loss.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

import dchw
from dchw.engines.difference import first_difference
from dchw.lowering.lower import lower
from dchw.mapping.workload import map_network
from dchw.quantities import DchwError
from dchw.run.simulation import run_program

ROOT = Path(__file__).parents[1]
FORMATS = ("dense-int8", "csr", "palette", "relative", "bitmask", "palette-huffman", "shared", "huffman")


@dataclass
class Tally:
    """What came of one class of trials."""

    trials: Counter[str] = field(default_factory=Counter)
    outcomes: Counter[tuple[str, str]] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)

    def add(self, kind: str, outcome: str) -> None:
        self.trials[kind] += 1
        self.outcomes[kind, outcome] += 1

    def fault(self, kind: str, what: str) -> None:
        self.add(kind, "FAULT")
        self.faults.append(f"{kind}: {what}")


def tried(tally: Tally, kind: str, action: Callable[[], str]) -> None:
    """Counts what an action gives, a sentence of ours as refused, and anything else as a fault."""
    try:
        tally.add(kind, action())
    except DchwError:
        tally.add(kind, "refused")
    except Exception:
        tally.fault(kind, traceback.format_exc(limit=3))


def network_of(rng: np.random.Generator) -> dchw.CompressedNetwork:
    """A small network of one to three layers, each reading an input of its own."""
    weights = {}
    for i in range(int(rng.integers(1, 4))):
        shape = tuple(int(n) for n in rng.integers(1, 48, 2))
        weights[f"layer{i}"] = rng.standard_normal(shape, dtype=np.float32)
    recipe = dchw.Recipe(density=float(rng.uniform(0.05, 1)), codebook_bits=int(rng.integers(1, 6)))
    return dchw.compress(dchw.Network.from_arrays("random", weights=weights), recipe)


def machine_of(rng: random.Random) -> dchw.Machine:
    """A preset with a handful of fields drawn anew; refused where they do not hold together."""
    elements = 2 ** rng.randint(0, 4)
    changes: dict[str, object] = {
        "pe_array.elements": elements,
        "pe_array.lanes": 2 ** rng.randint(0, 3),
        "pe_array.queue_depth": rng.randint(1, 9),
        "pe_array.accumulators": rng.choice([64, 256, 1024]),
        "pe_array.tile": rng.choice([1, 2, 8]),
        "huffman.units": elements * 2 ** rng.randint(0, 2)
        if rng.random() < 0.5
        else max(1, elements >> rng.randint(0, 3)),
        "huffman.output_queue": rng.randint(1, 9),
        "huffman.chunk_entries": rng.choice([16, 64, 1024]),
        "codebook.shared_by": rng.choice([1, elements]),
        "dma.outstanding": rng.randint(1, 32),
        "weight_sram.size_bytes": f"{rng.choice([16, 64, 512])} KiB",
        "weight_sram.banks": 2 ** rng.randint(0, 4),
        "activation_sram.size_bytes": f"{rng.choice([16, 64, 512])} KiB",
        "vector.values_per_cycle": rng.randint(1, 16),
        "pointers": rng.choice(["made", "stored"]),
    }
    preset = rng.choice(["phone-lpddr5x", "phone-lpddr4x", "embedded-lpddr4"])
    return dchw.machine(preset).replace_all(changes)


def soak_machines(tally: Tally, until: float, seed: int) -> None:
    """Random machines through both engines."""
    rng, drawn = random.Random(seed), np.random.default_rng(seed)
    while time.monotonic() < until:
        storage = rng.choice(FORMATS)

        def once(storage: str = storage) -> str:
            workload = map_network(network_of(drawn), machine_of(rng), storage)
            program = lower(workload, warm=rng.random() < 0.3)
            fast, slow = (run_program(program, engine, record=True) for engine in ("fast", "reference"))
            difference = first_difference(fast, slow, program)
            if difference:
                tally.faults.append(f"machine: {difference}")
                return "DIFFERENT"
            return "equal"

        tried(tally, "whole machine", once)


def damaged(data: bytes, kind: str, rng: random.Random) -> bytes:
    """A file with one fault of a kind."""
    at = rng.randrange(len(data))
    if kind == "bit flipped":
        return data[:at] + bytes([data[at] ^ 1 << rng.randrange(8)]) + data[at + 1 :]
    if kind == "cut":
        return data[:at]
    if kind == "byte gone":
        return data[:at] + data[at + 1 :]
    if kind == "bytes put in":
        return data[:at] + rng.randbytes(rng.randint(1, 9)) + data[at:]
    end = min(len(data), at + rng.randint(2, 64))
    return data[:at] + rng.randbytes(end - at) + data[end:]


DAMAGE = ("bit flipped", "cut", "byte gone", "bytes put in", "stretch of noise")


def soak_files(tally: Tally, until: float, seed: int) -> None:
    """Files damaged by class, read by whoever reads them."""
    rng = random.Random(seed)
    network = (ROOT / "models/lenet_300_100_frontier.dchw").read_bytes()
    whole = dchw.load(ROOT / "models/lenet_300_100_frontier.dchw")
    preset = (ROOT / "dchw/machines/presets/phone-lpddr5x.yaml").read_bytes()
    trace = b"".join(b"%s 0x%x\n" % (rng.choice([b"LD", b"ST"]), 64 * i) for i in range(40))
    with tempfile.TemporaryDirectory() as folder:
        while time.monotonic() < until:
            kind = rng.choice(DAMAGE)
            net, yaml, text = (Path(folder, name) for name in ("n.dchw", "m.yaml", "t.trace"))
            net.write_bytes(damaged(network, kind, rng))
            yaml.write_bytes(damaged(preset, kind, rng))
            text.write_bytes(damaged(trace, kind, rng))

            def reads_network(path: Path = net) -> str:
                found = dchw.load(path)
                same = all((a.codes == b.codes).all() for a, b in zip(found.layers, whole.layers, strict=True))
                return "the same" if same else "ANOTHER NETWORK"

            tried(tally, f".dchw, {kind}", reads_network)
            tried(tally, f"machine, {kind}", lambda path=yaml: type(dchw.machine(path)).__name__ and "read")
            tried(tally, f"trace, {kind}", lambda path=text: dchw.replay(path, "LPDDR4-3200") and "read")


def soak_interruptions(tally: Tally, until: float, seed: int) -> None:
    """Every verb that writes, killed at a random time or with nowhere to write."""
    rng = random.Random(seed)
    source = str(ROOT / "models/lenet_300_100_frontier.dchw")
    verbs: dict[str, tuple[list[str], str, Callable[[Path], object]]] = {
        "compress": (["compress", source], "o.dchw", dchw.load),
        "simulate": (["simulate", source, "--out"], "o.csv", lambda p: p.read_text().endswith("\n") or 1 / 0),
        "compare": (
            ["compare", source, "--storage", "shared", "--csv"],
            "o.csv",
            lambda p: p.read_text()[-1] == "\n" or 1 / 0,
        ),
        "report": (
            ["report", source, "--storage", "shared", "--out"],
            "o.html",
            lambda p: "</html>" in p.read_text() or 1 / 0,
        ),
        "sweep": (["sweep", str(ROOT / "notebooks/studies/queue_depth.yaml"), "--out"], "o", lambda p: None),
    }
    while time.monotonic() < until:
        name = rng.choice(list(verbs))
        words, file, check = verbs[name]
        with tempfile.TemporaryDirectory() as folder:
            target = Path(folder, file)
            full = rng.random() < 0.3 and Path("/dev/full").exists()
            kind = f"{name}, {'no room' if full else 'killed'}"
            where = Path("/dev/full/x") if full else target
            line = [sys.executable, "-m", "dchw", *words, str(where)]
            job = subprocess.Popen(
                line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT, start_new_session=True
            )
            if not full:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    job.wait(rng.uniform(0.2, 12))
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(job.pid, signal.SIGKILL)
            _, said = job.communicate(timeout=120)
            if "Traceback" in said:
                tally.fault(kind, said[-300:])
            elif not target.exists():
                tally.add(kind, "nothing left" if not full else "refused")
            else:
                tried(tally, kind, lambda check=check, target=target: (check(target), "whole")[1])


def main() -> int:
    """The command line."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--minutes", type=float, default=10)
    options.add_argument("--seed", type=int, default=0)
    asked = options.parse_args()
    tally = Tally()
    for part, share in ((soak_machines, 0.6), (soak_files, 0.2), (soak_interruptions, 0.2)):
        part(tally, time.monotonic() + asked.minutes * 60 * share, asked.seed)
    print(f"{'what':32} {'trials':>8}  outcomes")
    for kind, count in sorted(tally.trials.items()):
        found = {outcome: n for (of, outcome), n in sorted(tally.outcomes.items()) if of == kind}
        print(f"{kind:32} {count:8,}  {', '.join(f'{outcome} {n:,}' for outcome, n in found.items())}")
    bad = [key for key in tally.outcomes if key[1].isupper()]
    print(f"{len(tally.faults)} faults, {sum(tally.outcomes[key] for key in bad)} trials with one")
    for text in tally.faults[:5]:
        print(text)
    return 1 if tally.faults or bad else 0


if __name__ == "__main__":
    sys.exit(main())
