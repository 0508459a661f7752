"""One decorator for every numba kernel: cached on disk, integers and no fastmath, importable with an unwritable home.

numba looks only at a kernel's own file to tell whether its cached code is stale, not at the kernels it calls. The cache
therefore lies in a folder named after the sizes and times of all of this package's files.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import numba
from numba.core import config
from numba.core.options import DefaultOptions

F = TypeVar("F", bound=Callable[..., Any])


@cache
def cache_folder() -> str:
    """Where compiled kernels lie: below NUMBA_CACHE_DIR, the package, the user's cache or the temporary folder."""
    package = Path(__file__).parent
    state = hashlib.sha256()
    for path in sorted(package.rglob("*.py")):
        found = path.stat()
        state.update(f"{path.relative_to(package)} {found.st_size} {found.st_mtime_ns}\n".encode())
    name = f"dchw-kernels-{state.hexdigest()[:16]}"
    for base in (os.environ.get("NUMBA_CACHE_DIR"), package / "__pycache__", Path.home() / ".cache"):
        if base is None:
            continue
        folder = Path(base) / name
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError:
            continue
        if os.access(folder, os.W_OK):
            return str(folder)
    return str(Path(tempfile.gettempdir()) / name)


def kernel(function: F) -> F:
    """Compile a function with numba (``nopython``, cached, no fastmath); plain Python with NUMBA_DISABLE_JIT=1."""
    return _compile(function, whole=False)


def lean_kernel(function: F) -> F:
    """A kernel that makes no arrays, so that it need not count references to those it is given, or passes on."""
    return _compile(function, whole=False, lean=True)


def inlined(function: F) -> F:
    """A small ``lean_kernel`` whose code becomes part of every kernel that calls it."""
    return _compile(function, whole=True, lean=True)


def _compile(function: F, *, whole: bool, lean: bool = False) -> F:
    # numba's option for this has no public name: where a version lacks it, references are counted, which is slower
    uncounted = {"_nrt": False} if lean and hasattr(DefaultOptions, "_nrt") else {}
    before = config.CACHE_DIR
    config.CACHE_DIR = cache_folder()  # read by numba at decoration; other users of numba keep theirs
    try:
        return numba.njit(cache=True, nogil=True, forceinline=whole, **uncounted)(function)  # type: ignore[no-any-return]
    finally:
        config.CACHE_DIR = before
