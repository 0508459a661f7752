"""What was found out about lists of firings, kept for programs that share them: lists are most of a program."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any, TypeVar

T = TypeVar("T")


class KnownLists:
    """Belongs to programs that differ in no list (`dchw.lowering.lower.OpenProgram`); whoever reads lists keeps here
    what it found, and holds the lists themselves wherever it goes by their identity."""

    def __init__(self) -> None:
        self._held: dict[Hashable, Any] = {}

    def of(self, key: Hashable, make: Callable[[], T]) -> T:
        """What is kept under a key, made where there is nothing yet."""
        if key not in self._held:
            self._held[key] = make()
        found: T = self._held[key]
        return found
