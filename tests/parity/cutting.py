"""Any program, cut into windows at random."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from random import Random

import numpy as np

from dchw.program.program import FiringNode, Link, Program
from dchw.program.windows import Window, Windowed


class Cut(Windowed):
    """A program in windows: every node's firings are cut at places of its own."""

    def __init__(self, program: Program, seed: int, most: int = 6) -> None:
        rng = Random(seed)
        self.program = program
        self.clock_hz, self.layers, self.notes = program.clock_hz, program.layers, program.notes
        self.count = rng.randint(1, most)
        self._promises = rng.choice([0.5, 1.0, 1.0])
        self._seed = rng.random()
        self.ends = {
            node.name: [
                *sorted(rng.randint(0, len(node.occupied)) for _ in range(self.count - 1)),
                len(node.occupied),
            ]
            for node in program.nodes
            if isinstance(node, FiringNode)
        }

    def whole(self) -> Program:
        return self.program

    def windows(self) -> Iterator[Window]:
        rng = Random(self._seed)
        begun = dict.fromkeys(self.ends, 0)
        for number in range(self.count):
            until = {name: ends[number] for name, ends in self.ends.items()}
            nodes = tuple(
                replace(
                    node,
                    occupied=node.occupied[begun[node.name] : until[node.name]],
                    layer=node.layer.part(begun[node.name], until[node.name]),
                )
                if isinstance(node, FiringNode)
                else node
                for node in self.program.nodes
            )
            links = tuple(self._piece(link, begun, until) for link in self.program.links)
            piece = replace(self.program, nodes=nodes, links=links)
            coming = {name: self._promise(rng, name, end) for name, end in until.items() if end < self.ends[name][-1]}
            yield Window(piece=piece, coming=coming)
            if not coming:
                return
            begun = until

    def _piece(self, link: Link, begun: dict[str, int], until: dict[str, int]) -> Link:
        parts = {}
        for side, end in (("given_by", link.source), ("taken_by", link.target)):
            listed = self._listed(link, side)
            if listed is not None:
                parts[side] = listed[np.searchsorted(listed, begun[end]) : np.searchsorted(listed, until[end])]
        return replace(link, **{"given_by": None, "taken_by": None, **parts})

    def _listed(self, link: Link, side: str) -> np.ndarray | None:
        end = link.source if side == "given_by" else link.target
        listed = getattr(link, side)
        if end not in self.ends:
            return None
        return np.arange(self.ends[end][-1], dtype=np.int32) if listed is None else listed

    def _promise(self, rng: Random, name: str, firing: int) -> str | None:
        """A link of which that firing takes an item, if there is one and chance wants it."""
        into = [self.program.links[index] for index in self.program.links_into(name)]
        takes = [link.name for link in into if firing in self._listed(link, "taken_by")]
        return rng.choice(takes) if takes and rng.random() < self._promises else None
