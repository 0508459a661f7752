"""Damaged and hostile files, read by whoever reads them."""

from __future__ import annotations

import json
import random
import resource
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dchw
from dchw.container.envelope import seal, unseal
from tests.soak.tally import Tally, WrongError

ROOT = Path(__file__).parents[2]
MOST_SECONDS = 10.0
"""A hostile file must end within this much of this process's time."""
MOST_GROWTH = 512 * 2**20
"""Bytes by which a hostile file of some kilobytes may make this process grow."""
DAMAGE = ("bit flipped", "cut", "byte gone", "bytes put in", "stretch of noise")
_ABSURD: tuple[Any, ...] = (
    -1, 0, 1, 2**31, 2**63, 10**30, -(10**30), 1e308, -0.5, True, None, "", "x", "\x1b[2J", "9" * 400, [], {}, [[]],
    [-1, -1], [2**40, 2**40], {"stride": [0, 0]}, {"a": 1}, [None], ["relu"],
)  # fmt: skip


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


def absurd(value: Any, rng: random.Random) -> Any:
    """A nested value with one of its parts replaced by something that makes no sense there."""
    holder = json.loads(json.dumps([value]))
    places: list[tuple[Any, Any]] = []
    waiting = [holder]
    while waiting:
        part = waiting.pop()
        inside = part.items() if isinstance(part, dict) else enumerate(part)
        for key, found in list(inside):
            places.append((part, key))
            if isinstance(found, dict | list):
                waiting.append(found)
    part, key = rng.choice(places[1:])
    part[key] = rng.choice(_ABSURD)
    return holder[0]


class Corpus:
    """Whole files to damage."""

    def __init__(self) -> None:
        self.network = (ROOT / "models/lenet_5_frontier.dchw").read_bytes()
        self.whole = dchw.load(ROOT / "models/lenet_5_frontier.dchw")
        self.machine = (ROOT / "dchw/machines/presets/phone-lpddr5x.yaml").read_bytes()
        self.standard = (ROOT / "dchw/dram/standards/lpddr5-6400.yaml").read_bytes()
        study = (ROOT / "notebooks/studies/queue_depth.yaml").read_text(encoding="utf-8")
        self.study = study.replace("../../models", str(ROOT / "models")).encode()
        ways = random.Random(0)
        self.traces = {
            "ramulator": b"".join(b"%s 0x%x\n" % (ways.choice([b"LD", b"ST"]), 64 * i) for i in range(40)),
            "dramsim": b"".join(b"0x%X %s %d\n" % (64 * i, ways.choice([b"READ", b"WRITE"]), i) for i in range(40)),
        }


def soak_files(tally: Tally, until: float, seed: int) -> None:
    """Files until the time is over."""
    rng, corpus = random.Random(seed), Corpus()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder)
        while time.monotonic() < until:
            kind = rng.choice(DAMAGE)
            state = f"seed {seed}, {kind}"
            data = damaged(corpus.network, kind, rng)
            _bounded(tally, f".dchw, {kind}", state, lambda data=data: _network(path / "n.dchw", data, corpus))
            data = damaged(corpus.machine, kind, rng)
            _bounded(tally, f"machine, {kind}", state, lambda data=data: _machine(path / "m.yaml", data))
            data = damaged(rng.choice([*corpus.traces.values()]), kind, rng)
            _bounded(tally, f"trace, {kind}", state, lambda data=data: _trace(path / "t.trace", data))
            data = damaged(corpus.study, kind, rng)
            _bounded(tally, f"study, {kind}", state, lambda data=data: _study(path / "s.yaml", data))
            data = damaged(corpus.standard, kind, rng)
            _bounded(tally, f"standard, {kind}", state, lambda data=data: _standard(path / "d.yaml", data))
            content = unseal(corpus.network)
            description = absurd(content.description, rng)
            data = seal(description, content.tensors)
            _bounded(
                tally, ".dchw, sealed and absurd", f"{str(description)[:2000]}", lambda data=data: _run(path, data)
            )
            data = rng.choice([corpus.network, rng.randbytes(500), *corpus.traces.values(), corpus.machine])
            _bounded(tally, "one kind of file for another", state, lambda data=data: _mistaken(path / "x", data, rng))


def _bounded(tally: Tally, kind: str, where: str, action: Callable[[], str]) -> None:
    def timed() -> str:
        start, held = time.process_time(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        try:
            return action()
        finally:
            took = time.process_time() - start
            grown = 1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - held)
            if took > MOST_SECONDS or grown > MOST_GROWTH:
                raise WrongError(f"took {took:.1f} s and {grown / 2**20:.0f} MiB")

    tally.tried(kind, where, timed)


def _network(path: Path, data: bytes, corpus: Corpus) -> str:
    path.write_bytes(data)
    found = dchw.load(path)
    if not all((a.codes == b.codes).all() for a, b in zip(found.layers, corpus.whole.layers, strict=True)):
        raise WrongError("another network")
    return "the same"


def _run(path: Path, data: bytes) -> str:
    (path / "h.dchw").write_bytes(data)
    dchw.simulate(dchw.load(path / "h.dchw"), "phone-lpddr5x", "shared")
    return "ran"


def _machine(path: Path, data: bytes) -> str:
    path.write_bytes(data)
    dchw.machine(path)
    return "read"


def _trace(path: Path, data: bytes) -> str:
    path.write_bytes(data)
    dchw.replay(path, "LPDDR4-3200")
    return "read"


def _study(path: Path, data: bytes) -> str:
    path.write_bytes(data)
    dchw.study(path)
    return "read"


def _standard(path: Path, data: bytes) -> str:
    path.write_bytes(data)
    requests = path.with_name("few.trace")
    requests.write_text("LD 0\nST 64\n", encoding="utf-8")
    dchw.replay(requests, str(path))
    return "read"


def _mistaken(path: Path, data: bytes, rng: random.Random) -> str:
    named = path.with_suffix(rng.choice([".dchw", ".yaml", ".trace", ".onnx", ".safetensors", ".tflite", ".pth", ""]))
    named.write_bytes(data)
    readers: list[Callable[[Any], object]] = [
        dchw.load, dchw.load_network, dchw.machine, dchw.study, lambda p: dchw.replay(p, "LPDDR4-3200"),
    ]  # fmt: skip
    rng.choice(readers)(named)
    return "read"
