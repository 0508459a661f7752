"""What remains of a program when its lists are gone: who there was, and how often who did what."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt

from dchw import showing
from dchw.program.flow import Flow
from dchw.program.layer_runs import LayerRuns
from dchw.program.program import Arbiter, FiringNode, MemoryNode, Program
from dchw.program.windows import Window, Windowed

_NONE = np.empty(0, np.int32)


@dataclass(frozen=True, kw_only=True, eq=False, slots=True)
class NodeOutline:
    """A firing node."""

    name: str
    unit: str
    firings: npt.NDArray[np.int64]
    """int64[layers]: firings of each layer."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Outline:
    """A program without its lists."""

    clock_hz: int
    layers: tuple[str, ...]
    firing: tuple[NodeOutline, ...]
    """Nodes that fire, in the program's order."""
    memory: MemoryNode | None
    asking: frozenset[str]
    """Nodes that ask the memory for something."""
    flows: tuple[Flow, ...]
    """As `Program.flows`."""

    def of_unit(self, unit: str) -> list[NodeOutline]:
        """The firing nodes of a machine's unit."""
        return [node for node in self.firing if node.unit == unit]

    def __repr__(self) -> str:
        return showing.line("Outline", f"{len(self.firing)} kinds of nodes", f"{len(self.layers)} layers")


def outline_of(program: Program | Outline | Outlined) -> Outline:
    """The outline of a program."""
    if isinstance(program, Outline):
        return program
    if isinstance(program, Outlined):
        return program.outline()
    if program.known is not None:  # all but clock and memory is that of the first program with its lists
        first = program.known.of(Outline, lambda: _outline_of(program))
        return replace(first, clock_hz=program.clock_hz, memory=program.memory)
    return _outline_of(program)


def _outline_of(program: Program) -> Outline:
    layers = len(program.layers)
    return Outline(
        clock_hz=program.clock_hz,
        layers=program.layers,
        firing=tuple(
            NodeOutline(name=node.name, unit=node.unit, firings=node.layer.by_layer(layers))
            for node in program.nodes
            if isinstance(node, FiringNode)
        ),
        memory=program.memory,
        asking=_asking(program),
        flows=program.flows,
    )


class Outlined(Windowed):
    """A windowed program of which an outline is taken while it goes by."""

    def __init__(self, program: Windowed) -> None:
        self._program = program
        self.clock_hz, self.layers = program.clock_hz, program.layers
        self._firings: dict[str, npt.NDArray[np.int64]] = {}

    @property
    def notes(self) -> tuple[str, ...]:  # type: ignore[override]
        """Those of the program."""
        return self._program.notes

    @property
    def expected(self) -> int:
        """That of the program."""
        return self._program.expected

    def whole(self) -> Program:
        """The program in one piece."""
        return self._program.whole()

    @cached_property
    def digest(self) -> str:
        """That of the program."""
        return self._program.digest

    def windows(self) -> Iterator[Window]:
        """The program's windows."""
        self._firings = {}
        for window in self._program.windows():
            self._note(window)
            handed = [window]
            del window  # whoever runs it lets go of lists that are done
            yield handed.pop()

    def _note(self, window: Window) -> None:
        for node in window.piece.nodes:
            if isinstance(node, FiringNode):
                before = self._firings.setdefault(node.name, np.zeros(len(self.layers), np.int64))
                before += node.layer.by_layer(len(self.layers))
        if not window.coming:  # the last one
            self._last = Program(  # without the lists of those that fire
                clock_hz=self.clock_hz,
                layers=self.layers,
                nodes=tuple(_bare(node) for node in window.piece.nodes),
                links=tuple(replace(link, given_by=None, taken_by=None) for link in window.piece.links),
                flows=window.piece.flows,
            )

    def outline(self) -> Outline:
        """The outline of all windows, when all have gone by."""
        piece = self._last
        return Outline(
            clock_hz=self.clock_hz,
            layers=self.layers,
            firing=tuple(
                NodeOutline(name=node.name, unit=node.unit, firings=self._firings[node.name])
                for node in piece.nodes
                if isinstance(node, FiringNode) and self._firings[node.name].any()
            ),
            memory=piece.memory,
            asking=_asking(piece),
            flows=piece.flows,
        )


def _bare(node: FiringNode | Arbiter | MemoryNode) -> FiringNode | Arbiter | MemoryNode:
    return replace(node, occupied=_NONE, layer=LayerRuns()) if isinstance(node, FiringNode) else node


def _asking(program: Program) -> frozenset[str]:
    memory = program.memory
    return frozenset() if memory is None else frozenset(x.source for x in program.links if x.target == memory.name)
