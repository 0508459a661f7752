"""The batch axis of an exported program: which sizes hold it, and what they are for a single example.

A program is exported with a free batch size, a symbol in its shapes; with a stand-in, a size that nothing else in it
has; or with the only size that its module allows.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import torch


class BatchSize(Protocol):
    """How many examples a program was exported for."""

    def single(self, size: Any) -> int:
        """A size of one example."""
        ...

    def parts(self, size: Any) -> int | None:
        """k where a size is k times the batch, None where it is no multiple."""
        ...

    def depends(self, size: Any) -> bool:
        """Whether a size differs for another number of examples."""
        ...


class Free:
    """A batch size that torch keeps as a symbol; sizes that depend on it are expressions."""

    def __init__(self, size: torch.SymInt) -> None:
        self._symbol = size.node.expr

    def single(self, size: Any) -> int:
        return int(size.node.expr.subs(self._symbol, 1)) if isinstance(size, torch.SymInt) else int(size)

    def parts(self, size: Any) -> int | None:
        if not isinstance(size, torch.SymInt):
            return None
        one = self.single(size)
        return one if size.node.expr - one * self._symbol == 0 else None

    def depends(self, size: Any) -> bool:
        return isinstance(size, torch.SymInt)


class StandIn:
    """A batch size that no other size of the program is a multiple of, which `capture` has made sure of."""

    def __init__(self, size: int) -> None:
        self._size = size

    def single(self, size: Any) -> int:
        return self.parts(size) or int(size)

    def parts(self, size: Any) -> int | None:
        parts, rest = divmod(int(size), self._size)
        return parts if parts and not rest else None

    def depends(self, size: Any) -> bool:
        return self.parts(size) is not None


class Only:
    """The one batch size that a module allows; any size that equals it is taken for it."""

    def __init__(self, size: int) -> None:
        self.size = size

    def single(self, size: Any) -> int:
        return int(size)

    def parts(self, size: Any) -> int | None:
        return 1 if int(size) == self.size else None

    def depends(self, size: Any) -> bool:
        return False


def split(batch: BatchSize, sizes: Sequence[Any]) -> tuple[tuple[int, ...], tuple[int, int] | None]:
    """Sizes without the batch axis, and (place, parts of an example in it) of that axis."""
    single = [batch.single(size) for size in sizes]
    held = next(((i, parts) for i, size in enumerate(sizes) if (parts := batch.parts(size)) is not None), None)
    if held is not None and held[1] == 1:
        del single[held[0]]
    return tuple(single), held
