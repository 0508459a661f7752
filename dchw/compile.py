"""One decorator for every numba kernel: cached on disk, integers and no fastmath, importable with an unwritable home."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

F = TypeVar("F", bound=Callable[..., Any])


def _ensure_cache_folder() -> None:
    # numba raises at decoration when neither the package folder nor the user's cache folder can be written
    if "NUMBA_CACHE_DIR" in os.environ:
        return
    here = Path(__file__).parent
    home = Path.home() / ".cache"
    if not os.access(here, os.W_OK) and not os.access(home if home.exists() else home.parent, os.W_OK):
        os.environ["NUMBA_CACHE_DIR"] = str(
            Path(tempfile.gettempdir()) / f"dchw-numba-{os.getuid() if hasattr(os, 'getuid') else 0}"
        )


_ensure_cache_folder()

import numba  # noqa: E402  the cache folder must be known before numba reads its configuration


def kernel(function: F) -> F:
    """Compile a function with numba (``nopython``, cached, no fastmath); plain Python with NUMBA_DISABLE_JIT=1."""
    return numba.njit(cache=True, nogil=True)(function)  # type: ignore[no-any-return]
