"""Random machines around a fork, as the fast engine's short cuts look for them, and near misses of every kind.

A fork feeds lanes through queues; decoders feed the lanes entries, one or several lanes each, and take chunks from
somewhere; lanes hand sums to a collector and give chunks back. What does not quite fit (another depth, latency, list, a
second link, initial items, an item more) is thrown in at random.
"""

from __future__ import annotations

from random import Random

import numpy as np

from dchw.program.layer_runs import LayerRuns
from dchw.program.program import UNBOUNDED, Arbiter, FiringNode, Link, MemoryNode, Policy, Program, Requests
from dchw.vocabulary import STREAMS, Stream
from tests.parity.machines import fixed_memory

FEW_OR_MANY, FEW = (0, 1, 2, 3, 6), (0, 0, 0, 1, 1, 2)
"""Entries of a lane for an item of the fork."""


def random_fork(rng: Random, *, misses: bool = True, most: int = 30, amounts: tuple[int, ...] = FEW_OR_MANY) -> Program:
    """``misses``: with things that do not fit, in about half of the machines; ``most`` items of the fork."""
    return ForkMachine(rng, misses and rng.random() < 0.6).program(most, amounts)


def stopping_fork() -> Program:
    """A fork with a decoder of two lanes, whose last item it gives by itself (a layer's last firing)."""
    counts = {"fork": 3, "lane0": 7, "lane1": 6, "decoder": 9, "collector": 1}
    links = [
        ("fork", "lane0", 1, [0, 1, 2], [0, 2, 5]),
        ("fork", "lane1", 1, [0, 1, 2], [0, 2, 4]),
        ("decoder", "lane0", 1, [2, 4, 8], [2, 3, 5]),
        ("decoder", "lane1", 1, [6], [2]),
        ("lane0", "collector", 1, [0], [0]),
        ("lane1", "collector", 1, [0], [0]),
    ]
    return Program(
        clock_hz=1, layers=("all",),
        nodes=tuple(
            FiringNode(name=name, unit=name, occupied=np.ones(count, np.int32), layer=LayerRuns(((0, count),)))
            for name, count in counts.items()
        ),
        links=tuple(
            Link(
                name=f"{source}>{target}", source=source, target=target, items=len(taken), depth=depth,
                given_by=np.array(given, np.int32), taken_by=np.array(taken, np.int32),
            )
            for source, target, depth, given, taken in links
        ),
    )  # fmt: skip


class ForkMachine:
    def __init__(self, rng: Random, misses: bool) -> None:
        self.rng, self.misses = rng, misses
        self.layers = rng.choice([1, 1, 2, 3])
        self.firing: dict[str, int] = {}
        self.nodes: list[FiringNode | Arbiter | MemoryNode] = []
        self.links: list[Link] = []

    def miss(self, chance: float = 0.12) -> bool:
        return self.misses and self.rng.random() < chance

    def node(self, name: str, count: int) -> None:
        rng = self.rng
        same = rng.choice([[1], [1], [2], [1, 2], [1, 1, 1, 5], [3, 1]])
        occupied = [rng.choice(same) for _ in range(count)]
        layer = sorted(rng.randrange(self.layers) for _ in range(count)) if rng.random() < 0.5 else [0] * count
        self.firing[name] = count
        self.nodes.append(
            FiringNode(name=name, unit=name, occupied=np.array(occupied, np.int32), layer=LayerRuns.of(layer))
        )

    def link(self, source: str, target: str, given: list[int], taken: list[int], **options: int) -> None:
        if not taken:
            return  # lowering makes no link that carries nothing
        initial = options.pop("initial", 0)
        depth = options.pop("depth", UNBOUNDED)
        if depth:
            depth = max([depth, *np.bincount(given or [0]).tolist(), *np.bincount(taken or [0]).tolist()])
        self.links.append(
            Link(
                name=f"{source}>{target}:{len(self.links)}", source=source, target=target, items=len(taken),
                depth=depth, latency=options.pop("latency", 0), initial=initial,
                given_by=np.array(given, np.int32), taken_by=np.array(taken, np.int32),
            )
        )  # fmt: skip

    def program(self, most: int, amounts: tuple[int, ...]) -> Program:
        rng = self.rng
        columns, lanes = rng.randint(3, most), rng.randint(2, 5)
        shared = rng.choice([0, 1, 1, lanes])  # lanes of a decoder; 0: no decoders
        work = [[rng.choice(amounts) for _ in range(lanes)] for _ in range(columns)]
        opening = rng.choice([0, 1, 2])
        broadcast = list(range(opening, opening + columns))
        if rng.random() < 0.3:  # firings of the fork that give nothing
            broadcast = sorted(rng.sample(range(opening, opening + 2 * columns), columns))
        self.node("fork", broadcast[-1] + 1 + rng.choice([0, 1]))
        depth, latency = rng.choice([1, 2, 3, 8]), rng.choice([0, 0, 1, 2])
        first, entry = [], []
        for p in range(lanes):
            begins, at, entries = [], rng.choice([0, 1]), []
            for j in range(columns):
                begins.append(at)
                entries += range(at, at + work[j][p])
                at += max(work[j][p], 1) + (rng.random() < 0.05)
            first.append(begins)
            entry.append(entries)
            self.node(f"lane{p}", at + rng.choice([0, 1]))
        for p in range(lanes):
            self.column(broadcast, first[p], p, depth, latency)
        if shared:
            self.decoders(work, entry, -(-lanes // shared), shared)
        self.around(first, broadcast)
        rng.shuffle(self.links)
        rng.shuffle(self.nodes)
        return Program(
            clock_hz=800_000_000, layers=tuple(f"layer{i}" for i in range(self.layers)), nodes=tuple(self.nodes),
            links=tuple(self.links),
        )  # fmt: skip

    def column(self, broadcast: list[int], begins: list[int], p: int, depth: int, latency: int) -> None:
        given, initial = list(broadcast), 0
        depth += self.miss()
        latency += self.miss()
        if self.miss():
            depth = UNBOUNDED
        if self.miss():
            initial = self.rng.randint(1, 2)
            given = given[initial:]
        if self.miss():
            given = sorted(self.rng.choices(broadcast, k=len(given)))
        if self.miss():
            begins = sorted(self.rng.choices(begins, k=len(begins)))
        self.link("fork", f"lane{p}", given, begins, depth=depth, latency=latency, initial=initial)
        if self.miss():  # a second link beside it
            self.link("fork", f"lane{p}", given, begins, depth=depth + 1, initial=initial)

    def decoders(self, work: list[list[int]], entry: list[list[int]], count: int, shared: int) -> None:
        rng = self.rng
        for unit in range(count):
            served = range(unit * shared, min((unit + 1) * shared, len(entry)))
            order = [p for row in work for p in served for _ in range(row[p])]
            gaps = np.cumsum([1 + (rng.random() < 0.1) for _ in order]).tolist()
            if self.miss() and len(gaps) > 2:  # several entries at once
                gaps = [gap // 2 for gap in gaps]
            total = (gaps[-1] if gaps else 0) + 1 + rng.choice([0, 1])
            self.node(f"decoder{unit}", total)
            depth, latency = rng.choice([1, 2, 4, 16]), rng.choice([0, 0, 1])
            for p in served:
                given = [gap for gap, owner in zip(gaps, order, strict=True) if owner == p]
                initial = min(rng.randint(1, 2), len(given)) if self.miss() else 0
                bound = UNBOUNDED if self.miss() else depth + self.miss()
                self.link(
                    f"decoder{unit}", f"lane{p}", given[initial:], entry[p], depth=bound, latency=latency,
                    initial=initial,
                )  # fmt: skip
            self.chunks(f"decoder{unit}", total)

    def chunks(self, user: str, firings: int) -> None:
        rng = self.rng
        way = rng.choice(["none", "node", "arbiter", "memory"])
        if way == "none":
            return
        n = rng.randint(1, 4)
        takes = sorted(rng.sample(range(firings), min(n, firings)))
        n = len(takes)
        name = f"chunks of {user}"
        self.node(name, n)
        given = list(range(n))
        if way == "node":
            self.link(name, user, given, takes, latency=rng.choice([0, 5]))
        elif way == "arbiter":
            self.nodes.append(
                Arbiter(name=f"port of {user}", unit="port", occupied=rng.choice([1, 4]), policy=Policy.OLDEST,
                        blackout=(9, 2, 3) if rng.random() < 0.5 else None)
            )  # fmt: skip
            self.links.append(Link(name=f"{name}.in", source=name, target=f"port of {user}", items=n, depth=2))
            self.links.append(
                Link(name=f"{name}.out", source=f"port of {user}", target=user, items=n, depth=1,
                     taken_by=np.array(takes, np.int32))
            )  # fmt: skip
        elif not any(isinstance(node, MemoryNode) for node in self.nodes):
            memory = fixed_memory(rng)
            asked = Requests(
                address=np.arange(n, dtype=np.int64) * memory.burst_bytes,
                bursts=np.array([rng.choice([1, 4]) for _ in range(n)], np.int32),
                is_write=np.zeros(n, np.bool_),
                stream=np.full(n, STREAMS.index(Stream.CODES), np.uint8),
                layer=np.zeros(n, np.int32),
            )
            self.nodes.append(MemoryNode(name="memory", unit="dram", memory=memory, requests=(asked,)))
            self.links.append(Link(name=f"{name}.ask", source=name, target="memory", items=n, depth=2))
            self.links.append(
                Link(name=f"{name}.answer", source="memory", target=user, items=n, taken_by=np.array(takes, np.int32))
            )
        if rng.random() < 0.5:  # room is given back when a chunk is used up
            initial = rng.randint(1, n)
            self.link(user, name, takes[: n - initial], given, initial=initial)

    def around(self, first: list[list[int]], broadcast: list[int]) -> None:
        rng, lanes = self.rng, len(first)
        if rng.random() < 0.6:
            ends = sorted(rng.sample(range(1, 40), rng.randint(1, 3)))
            self.node("collector", len(ends))
            for p in range(lanes):
                gives = [min(end * self.firing[f"lane{p}"] // 40, self.firing[f"lane{p}"] - 1) for end in ends]
                self.link(f"lane{p}", "collector", sorted(gives), list(range(len(ends))), depth=rng.choice([1, 2]))
        if rng.random() < 0.4:  # blocks that the fork needs, and room for them
            takes = sorted(rng.sample(range(self.firing["fork"]), min(3, self.firing["fork"])))
            self.node("blocks", len(takes))
            self.link("blocks", "fork", list(range(len(takes))), takes, depth=rng.choice([UNBOUNDED, 1, 2]))
        if self.miss(0.2):  # credits from a lane to the fork
            p = rng.randrange(lanes)
            initial = rng.randint(1, len(broadcast))
            self.link(f"lane{p}", "fork", first[p][: len(broadcast) - initial], broadcast, initial=initial)
        if self.miss(0.2):  # one link from lane to lane
            a, b = rng.sample(range(lanes), 2)
            self.link(f"lane{a}", f"lane{b}", first[a], first[b], depth=rng.choice([UNBOUNDED, 2]))
