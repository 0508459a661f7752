"""What a class offers and a module above it makes.

``Network.from_module`` belongs on the network, though importers stand above graphs, and ``SimResult.plot`` on the
result, though reports stand above runs. Such a class asks for its maker by name; the package itself, which stands above
all, says who that is. A maker is imported when it is first asked for.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

_LOADERS: dict[str, Callable[[], Any]] = {}


def offer(name: str, load: Callable[[], Any]) -> None:
    """Say what imports and returns the maker that ``name`` stands for."""
    _LOADERS[name] = load


def maker(name: str) -> Any:
    """The maker that was offered under ``name``."""
    return _LOADERS[name]()
