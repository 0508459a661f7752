"""A program in windows: nodes and links as ever, and their lists piece by piece, so that a run holds a few pieces.

A window appends firings to nodes, with every item that these firings take and give. Nothing is said of what comes later
but who fires again. An engine that has come to the last known firing of a node asks for the next window before
anything is decided that this node could reach (T6, T8), so that a run in windows is the run of the whole program, cut
where one likes. The rules of windows:

- Lists of a piece (``given_by``, ``taken_by``) hold the new firings' items only, by the firing's index in the whole
  program, and are there at every end that fires; ``initial`` items are those of the whole program, in every piece.
- A window lists all nodes and links that have been listed before.
- Links of an arbiter or the memory, and all requests of the memory, are known from the first window on.
- `Window.coming` names every node that fires in a later window, even if it has not fired yet.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property

from dchw import showing
from dchw.program.program import Program, ProgramDigest


@dataclass(frozen=True, kw_only=True, eq=False)
class Window:
    """A piece of a program, behind the pieces before it."""

    piece: Program
    coming: Mapping[str, str | None]
    """Nodes that fire in later windows, and a link of which the next firing takes an item: as long as that item is not
    given the node waits, whatever else that firing may be. None: nothing is said about it."""
    surplus: Mapping[str, int] = field(default_factory=dict)
    """With the last window: items given that nobody needs (credits at the end of a run), by link; no part of it."""


class Windowed(ABC):
    """A program that comes in windows, anew whenever it is asked for."""

    clock_hz: int
    layers: tuple[str, ...]
    notes: tuple[str, ...]

    def __repr__(self) -> str:
        return showing.line("Program", "in windows", f"{len(self.layers)} layers")

    @property
    def expected(self) -> int:
        """Firings in all, about, as far as that can be said before there are windows; 0: nothing is said."""
        return 0

    @abstractmethod
    def windows(self) -> Iterator[Window]:
        """The windows, in order; at least one."""

    @cached_property
    def digest(self) -> str:
        """`Program.digest` of the same program, from windows that are asked for anew."""
        found, surplus = ProgramDigest(), dict[str, int]()
        for window in self.windows():
            found.add(window.piece)
            surplus = dict(window.surplus)
        return found.hexadecimal(surplus)

    @abstractmethod
    def whole(self) -> Program:
        """The same program in one piece, for what needs all of its lists at once: recorded times, timelines,
        the story of a deadlock."""
