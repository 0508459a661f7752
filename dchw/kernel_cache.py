"""Where compiled kernels are kept: on disk, under a digest of what they are compiled from.

numba looks at the time of a kernel's own file to tell whether its cached code is stale, and not at the kernels it
calls. Here a kernel is cached under a digest of what it is compiled from: its byte code, the kernels it reaches and the
values of the globals that any of them reads. An edit elsewhere, a comment, a docstring, a checkout that touches times
or a second copy of the package compiles nothing again. Two versions of a kernel are kept, so that a branch and its base
both stay warm; the least recently used ones go.

numba's cache files are pickles: the folder is made for its user alone (0700), and one that somebody else owns or may
write to is not used.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import stat
import sys
import tempfile
from functools import cache
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import Any

import numba
import numpy as np
from numba.core import config
from numba.core.caching import CompileResultCacheImpl, FunctionCache
from numba.core.dispatcher import Dispatcher

KEPT_VERSIONS = 2
"""Versions of one kernel that stay on disk."""


@cache
def cache_folder() -> Path:
    """Where kernels lie: below NUMBA_CACHE_DIR, the package, the user's cache or a private temporary folder."""
    named = os.environ.get("NUMBA_CACHE_DIR")
    for base in (Path(named) if named else None, Path(__file__).parent / "__pycache__", Path.home() / ".cache"):
        if base is not None and _make_private(folder := base / "dchw-kernels"):
            return folder
    return Path(tempfile.mkdtemp(prefix="dchw-kernels-"))


def _make_private(folder: Path) -> bool:
    """Whether the folder is there, writable, and nobody else's to write to."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        folder.mkdir(mode=0o700, exist_ok=True)
        found = folder.stat(follow_symlinks=False)
    except OSError:
        return False
    if hasattr(os, "getuid") and (found.st_uid != os.getuid() or found.st_mode & (stat.S_IWGRP | stat.S_IWOTH)):
        return False
    return stat.S_ISDIR(found.st_mode) and os.access(folder, os.W_OK)


class KernelDigest:
    """Digest of what a kernel's machine code depends on within this package."""

    def __init__(self) -> None:
        settings = (numba.__version__, np.__version__, sys.version_info[:2], config.BOUNDSCHECK, str(config.OPT))
        self._sum = hashlib.sha256(repr(settings).encode())
        self.kernels: dict[int, Any] = {}
        """Every kernel that is reached, by the identity of its function."""
        self._functions: set[FunctionType] = set()
        self._package = ""

    def of_kernel(self, dispatcher: Any) -> None:
        function = dispatcher.py_func
        if id(function) in self.kernels:
            return
        self.kernels[id(function)] = dispatcher
        self._package = self._package or function.__module__.partition(".")[0]
        self._add(function.__qualname__, sorted(dispatcher.targetoptions.items()), getattr(dispatcher, "inlined", None))
        self._of_function(function)
        for cell in function.__closure__ or ():
            self._of_value(cell.cell_contents)

    def _of_function(self, function: FunctionType) -> None:
        self._add(function.__defaults__, function.__kwdefaults__)
        self._of_code(function.__code__, function.__globals__, function.__doc__)

    def _of_code(self, code: CodeType, names: dict[str, Any], docstring: str | None = None) -> None:
        self._add(code.co_code.hex(), code.co_names, code.co_varnames)
        for place, constant in enumerate(code.co_consts):
            if place == 0 and constant == docstring:
                continue
            if isinstance(constant, CodeType):
                self._of_code(constant, names)
            else:
                self._add(constant)
        for name in code.co_names:
            if name in names:
                self._of_value(names[name], code.co_names)

    def _of_value(self, value: Any, attributes: tuple[str, ...] = ()) -> None:
        if isinstance(value, Dispatcher):
            self.of_kernel(value)
        elif isinstance(value, np.ndarray):
            self._add(value.dtype.str, value.shape, value.tobytes().hex())
        elif isinstance(value, ModuleType):
            self._add(value.__name__)
            if value.__name__.partition(".")[0] == __package__:
                for name in attributes:
                    self._of_value(getattr(value, name, None))
        elif isinstance(value, FunctionType) and value not in self._functions:
            self._functions.add(value)
            if value.__module__.partition(".")[0] == self._package:
                self._of_function(value)
            else:  # named like a field that a kernel uses: kernels call nothing that is plain Python elsewhere
                self._add(value.__module__, value.__qualname__)
        else:
            self._add(type(value).__qualname__, getattr(value, "__qualname__", None) or repr(value))

    def _add(self, *values: Any) -> None:
        self._sum.update(repr(values).encode())

    def hexdigest(self) -> str:
        return self._sum.hexdigest()[:16]


class _Locator:
    """A folder a version of a kernel, named by its digest; nothing in it grows stale."""

    def __init__(self, dispatcher: Any) -> None:
        digest = KernelDigest()
        digest.of_kernel(dispatcher)
        function = dispatcher.py_func
        self._py_file = function.__code__.co_filename  # named in numba's warnings
        self._kernel = f"{function.__module__}.{function.__qualname__}".replace("<", "").replace(">", "")
        self._path = cache_folder() / f"{self._kernel}-{digest.hexdigest()}"

    def get_cache_path(self) -> str:
        return str(self._path)

    def get_source_stamp(self) -> str:
        return self._path.name

    def get_disambiguator(self) -> str:
        return "0"

    def ensure_cache_path(self) -> None:
        self._path.mkdir(mode=0o700, exist_ok=True)
        os.utime(self._path)
        versions = sorted(cache_folder().glob(f"{self._kernel}-{'?' * 16}"), key=_age)
        for old in versions[KEPT_VERSIONS:]:
            shutil.rmtree(old, ignore_errors=True)


def _age(path: Path) -> float:
    with contextlib.suppress(OSError):
        return -path.stat().st_mtime
    return 0.0


class _KernelImpl(CompileResultCacheImpl):  # type: ignore[misc]
    """numba's way of storing a kernel, at our place."""

    def __init__(self, dispatcher: Any) -> None:
        self._lineno = dispatcher.py_func.__code__.co_firstlineno
        self._locator = _Locator(dispatcher)
        self._filename_base = self.get_filename_base("kernel", "")


class KernelCache(FunctionCache):  # type: ignore[misc]
    """The cache of one kernel, opened at its first call, when all kernels it may reach are defined."""

    def __init__(self, dispatcher: Any) -> None:
        self._dispatcher = dispatcher
        self._opened = False

    def _open(self) -> None:
        if self._opened:
            return
        self._opened = True
        self._impl_class = lambda _: _KernelImpl(self._dispatcher)
        super().__init__(self._dispatcher.py_func)

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """The compiled code of a signature, None where it must be compiled."""
        self._open()
        try:
            return super().load_overload(sig, target_context)
        except (ImportError, AttributeError):
            # kept code names the modules of the kernels it reaches, and one of them has moved since
            return None

    def save_overload(self, sig: Any, data: Any) -> None:
        """Keep compiled code; a full disk costs the cache and nothing else."""
        self._open()
        with contextlib.suppress(OSError):
            try:
                super().save_overload(sig, data)
            except (ImportError, AttributeError):  # what is kept beside it names what has moved
                self.flush()
                super().save_overload(sig, data)
