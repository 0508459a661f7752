"""Random machines around a join, as the fast engine's short cut looks for it, and near misses of every kind.

An array waits for a column and for what many units made for it; the units take chunks from somewhere and give them
back; the array hands sums to a collector. What does not quite fit (another depth or latency, initial items, several
items at once, a unit that waits for the array, an item more) is thrown in at random.
"""

from __future__ import annotations

from random import Random

import numpy as np

from dchw.program.program import UNBOUNDED, Program
from tests.parity.forks import ForkMachine


def random_join(rng: Random, *, misses: bool = True, most: int = 30, steady: bool = False) -> Program:
    """``misses``: with things that do not fit, in about half of the machines; ``most`` firings of the array or so.

    ``steady``: nearly all units make an item at each firing, and the array takes one of each.
    """
    kind = _SteadyMachine if steady else _JoinMachine
    return kind(rng, misses and rng.random() < 0.6).program(most, ())


class _JoinMachine(ForkMachine):
    def program(self, most: int, amounts: tuple[int, ...]) -> Program:
        rng = self.rng
        steps, units = self.size(most)
        every = rng.choice([1, 1, 2, 4])
        work = list(range(rng.choice([0, 1]), 2 * steps, self.stride()))[:steps]
        self.node("array", work[-1] + 1 + rng.choice([0, 1]))
        if rng.random() < 0.8:
            takes = work[::every]
            self.node("columns", len(takes))
            self.link("columns", "array", list(range(len(takes))), takes, depth=rng.choice([UNBOUNDED, 1, 2, 8]))
        for unit in range(units):
            self.unit(f"unit{unit}", work)
        if self.miss(0.3):  # one unit gives through two links
            takes = work[:: rng.choice([1, 2])]
            self.link("unit0", "array", sorted(rng.choices(range(self.firing["unit0"]), k=len(takes))), takes)
        if rng.random() < 0.6:
            ends = sorted(rng.sample(range(self.firing["array"]), min(3, self.firing["array"])))
            self.node("collector", len(ends))
            self.link("array", "collector", ends, list(range(len(ends))), depth=rng.choice([1, 2]))
        if self.miss(0.2):  # credits to a unit
            initial = rng.randint(1, len(work))
            takes = sorted(rng.choices(range(self.firing["unit1"]), k=len(work)))
            self.link("array", "unit1", work[: len(work) - initial], takes, initial=initial)
        rng.shuffle(self.links)
        rng.shuffle(self.nodes)
        return Program(
            clock_hz=800_000_000, layers=tuple(f"layer{i}" for i in range(self.layers)), nodes=tuple(self.nodes),
            links=tuple(self.links),
        )  # fmt: skip

    def size(self, most: int) -> tuple[int, int]:
        """Firings of the array, about, and units."""
        return self.rng.randint(2, most), self.rng.randint(2, 6)

    def stride(self) -> int:
        """Of the array's firings that take anything of units, from one to the next."""
        return self.rng.choice([1, 1, 2])

    def unit(self, name: str, work: list[int]) -> None:
        rng = self.rng
        takes = [firing for firing in work if rng.random() < 0.95] if rng.random() < 0.5 else list(work)
        gives = np.cumsum([1 + (rng.random() < 0.2) for _ in takes], dtype=int).tolist()
        if self.miss() and takes:  # an item more in one firing, or two taken at once
            gives = sorted(rng.choices(gives, k=len(gives)))
            takes = sorted(rng.choices(takes, k=len(takes)))
        total = (gives[-1] if gives else 0) + 1 + rng.choice([0, 1])
        self.node(name, total)
        initial = min(rng.randint(1, 2), len(gives)) if self.miss() else 0
        depth = UNBOUNDED if self.miss(0.2) else rng.choice([1, 1, 2, 4])
        self.link(name, "array", gives[initial:], takes, depth=depth, latency=rng.choice([0, 0, 1, 3]), initial=initial)
        self.chunks(name, total)


class _SteadyMachine(_JoinMachine):
    def size(self, most: int) -> tuple[int, int]:
        self.depth, self.latency = self.rng.choice([1, 1, 2, 4, 8]), self.rng.choice([0, 0, 1, 3])
        return self.rng.randint(most // 2, most), self.rng.randint(3, 8)

    def stride(self) -> int:
        return 1

    def unit(self, name: str, work: list[int]) -> None:
        rng = self.rng
        if rng.random() < 0.1:
            super().unit(name, work)
            return
        before = rng.choice([0, 0, 1, 5])
        total = before + len(work) + rng.choice([0, 1])
        self.node(name, total)
        gives = list(range(before, before + len(work)))
        self.link(name, "array", gives, list(work), depth=self.depth, latency=self.latency)
        self.chunks(name, total)
