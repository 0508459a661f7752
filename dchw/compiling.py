"""Who is told while kernels are compiled: nobody, unless a program asks. No numba here, so that asking is free."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

Listener = Callable[[int, int], None]
"""Called with kernels done and kernels in all; done equals all at the end."""

COMPILING = "dchw-compiling"
"""Name of the thread that compiles while the main thread waits."""
_listeners: list[Listener] = []


@contextmanager
def told_of_compiling(listener: Listener) -> Iterator[None]:
    """Have a listener told of every kernel that is not in the cache while it is compiled, instead of outer listeners.

    Nothing is said where all kernels are found in the cache.
    """
    _listeners.append(listener)
    try:
        yield
    finally:
        _listeners.remove(listener)


def compiling() -> bool:
    """Whether kernels are being compiled for a main thread, even for one that waits no longer."""
    return any(thread.name == COMPILING for thread in threading.enumerate())


def tell(done: int, in_all: int) -> None:
    """Tell whoever asked last."""
    if _listeners:
        _listeners[-1](done, in_all)
