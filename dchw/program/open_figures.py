"""Figures of links that follow from a machine and decide no list, so that machines share what is lowered."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from dchw.program.program import MemoryNode, Program


@dataclass(frozen=True)
class OpenFigure:
    """A depth or a latency, taken from the machine when a program is put on it; one object wherever a link has it."""

    of: Callable[[Any], int]


def settled(figure: int | OpenFigure, machine: Any) -> int:
    """The figure on a machine."""
    return figure.of(machine) if isinstance(figure, OpenFigure) else figure


def program_on(
    program: Program,
    figures: Mapping[str, tuple[int | OpenFigure, int | OpenFigure]],
    machine: Any,
    *,
    clock_hz: int,
    memory: Any,
) -> Program:
    """A program with equal lists on another machine, clock and memory; ``figures``: depth and latency by link."""
    links = []
    for link in program.links:
        open_ones = figures.get(link.name)
        if open_ones is not None:
            depth, latency = settled(open_ones[0], machine), settled(open_ones[1], machine)
            if (depth, latency) != (link.depth, link.latency):
                link = replace(link, depth=depth, latency=latency)
        links.append(link)
    nodes = [replace(node, memory=memory) if isinstance(node, MemoryNode) else node for node in program.nodes]
    return replace(program, clock_hz=clock_hz, nodes=tuple(nodes), links=tuple(links))
