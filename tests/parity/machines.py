"""Random machines and workloads for parity: tight queues, credits, arbiters of all kinds, memories, deadlocks."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

import numpy as np

from dchw.config import build
from dchw.machines.units.dram import Dram
from dchw.program.layer_runs import LayerRuns
from dchw.program.program import UNBOUNDED, Arbiter, FiringNode, Link, MemoryNode, Policy, Program, Requests
from dchw.vocabulary import Stream

CLOCK_HZ = 800_000_000


@dataclass(frozen=True)
class Scale:
    """How large random machines get."""

    nodes: int = 5
    firings: int = 10
    links: int = 6


def random_program(rng: Random, scale: Scale = Scale()) -> Program:
    layers = rng.randint(1, 3)
    names = [f"n{i}" for i in range(rng.randint(2, scale.nodes))]
    firing = {name: _firing_node(rng, name, rng.randint(1, scale.firings), layers) for name in names}
    arbiters = [_arbiter(rng, f"arbiter{i}") for i in range(rng.randint(0, 2))]
    memory = fixed_memory(rng) if rng.random() < 0.5 else None
    links: list[Link] = []
    requests: list[Requests] = []
    used = set()
    for number in range(rng.randint(1, scale.links)):
        one, other = sorted(rng.sample(range(len(names)), 2))
        source, target = firing[names[one]], firing[names[other]]
        if rng.random() < 0.2:  # a credit runs against the flow
            links.append(_link(rng, f"credit{number}", target, source, initial=rng.randint(1, 4), depth=UNBOUNDED))
            continue
        way = rng.random()
        if way < 0.3 and arbiters:
            node = rng.choice(arbiters)
            used.add(node.name)
            links += _through(rng, f"link{number}", source, target, node.name, rng.randint(1, 3))
        elif way < 0.5 and memory is not None and len(requests) < 3:
            pair = _through(rng, f"link{number}", source, target, "memory", UNBOUNDED)
            links += pair
            requests.append(_requests(rng, pair[0].items, memory.burst_bytes, layers))
        else:
            links.append(_link(rng, f"link{number}", source, target))
    nodes: list[FiringNode | Arbiter | MemoryNode] = [*firing.values()]
    nodes += [node for node in arbiters if node.name in used]
    if requests and memory is not None:
        nodes.append(MemoryNode(name="memory", unit="dram", memory=memory, requests=tuple(requests)))
    rng.shuffle(nodes)
    return Program(
        clock_hz=CLOCK_HZ, layers=tuple(f"layer{i}" for i in range(layers)), nodes=tuple(nodes), links=tuple(links)
    )


def _cycles(rng: Random) -> int:
    return rng.choice([1, 1, 1, 2, 3, 7])


def _firing_node(rng: Random, name: str, count: int, layers: int) -> FiringNode:
    same = rng.random() < 0.3
    occupied = [_cycles(rng)] * count if same else [_cycles(rng) for _ in range(count)]
    layer = sorted(rng.randrange(layers) for _ in range(count))
    return FiringNode(name=name, unit=name, occupied=np.array(occupied, np.int32), layer=LayerRuns.of(layer))


def _arbiter(rng: Random, name: str) -> Arbiter:
    period = rng.randint(3, 12)
    length = rng.randint(1, period - 1)
    return Arbiter(
        name=name,
        unit=name,
        ports=rng.randint(1, 2),
        occupied=_cycles(rng),
        policy=rng.choice(list(Policy)),
        blackout=(period, rng.randint(0, period - length), length) if rng.random() < 0.4 else None,
    )


def _picked(rng: Random, count: int, items: int) -> np.ndarray | None:
    if count == items and rng.random() < 0.6:
        return None
    return np.array(sorted(rng.randrange(count) for _ in range(items)), np.int32)


def _run_length(by: np.ndarray | None) -> int:
    return 1 if by is None or len(by) == 0 else int(np.bincount(by).max())


def _items(rng: Random, source: FiringNode, target: FiringNode) -> int:
    return rng.choice([len(source.occupied), len(target.occupied), rng.randint(1, 12)])


def _link(
    rng: Random, name: str, source: FiringNode, target: FiringNode, *, initial: int = 0, depth: int | None = None
) -> Link:
    items = _items(rng, source, target) + initial
    if initial == 0 and rng.random() < 0.1:
        initial = rng.randint(0, items)
    given_by = _picked(rng, len(source.occupied), items - initial)
    taken = items - rng.randint(0, initial) if initial else items
    taken_by = _picked(rng, len(target.occupied), taken)
    if depth is None:
        depth = rng.choice([UNBOUNDED, max(_run_length(given_by), _run_length(taken_by)) + rng.choice([0, 0, 1, 3])])
    return Link(
        name=name, source=source.name, target=target.name, items=items, depth=depth, latency=rng.randint(0, 3),
        initial=initial, given_by=given_by, taken_by=taken_by,
    )  # fmt: skip


def _through(
    rng: Random, name: str, source: FiringNode, target: FiringNode, middle: str, out_depth: int
) -> tuple[Link, Link]:
    items = _items(rng, source, target)
    given_by = _picked(rng, len(source.occupied), items)
    taken_by = _picked(rng, len(target.occupied), items)
    depth = rng.choice([UNBOUNDED, _run_length(given_by) + rng.choice([0, 0, 2])])
    if out_depth != UNBOUNDED:
        out_depth = max(out_depth, _run_length(taken_by))
    return (
        Link(
            name=f"{name}.in", source=source.name, target=middle, items=items, depth=depth,
            latency=rng.randint(0, 2), given_by=given_by,
        ),
        Link(
            name=f"{name}.out", source=middle, target=target.name, items=items, depth=out_depth,
            latency=rng.randint(0, 2), taken_by=taken_by,
        ),
    )  # fmt: skip


def fixed_memory(rng: Random) -> Dram:
    fixed = {
        "bytes_per_cycle": rng.choice([5, 8, 16, 32, 50]),
        "latency": rng.randint(0, 9),
        "clock": rng.choice(["800 MHz", "300 MHz", "1066 MHz", "1600 MHz"]),
        "burst_size": "32 B",
        "queue": rng.choice([1, 2, 32]),
        "rest_of_chip": rng.choice([0.0, 0.0, 0.25, 0.333]),
    }
    return build(Dram, {"fixed": fixed, "channels": rng.choice([1, 2, 4])}, where="dram")


def _requests(rng: Random, count: int, burst_bytes: int, layers: int) -> Requests:
    return Requests(
        address=np.array([rng.randrange(64) * burst_bytes for _ in range(count)], np.int64),
        bursts=np.array([rng.choice([1, 1, 2, 5]) for _ in range(count)], np.int32),
        is_write=np.array([rng.random() < 0.3 for _ in range(count)]),
        stream=np.array([rng.randrange(len(Stream)) for _ in range(count)], np.uint8),
        layer=np.array([rng.randrange(layers) for _ in range(count)], np.int32),
    )
