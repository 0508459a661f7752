"""Faults planted in kernels: a module's functions in plain Python, with one text in them replaced."""

from __future__ import annotations

import inspect
import re
from types import ModuleType
from typing import Any


def in_plain_python(module: ModuleType, right: str = "", wrong: str = "") -> dict[str, Any]:
    """The names of a module, its functions uncompiled and calling one another; ``right``, found once, is ``wrong``."""
    assert not right or inspect.getsource(module).count(right) == 1, inspect.getsource(module).count(right)
    space = dict(vars(module))
    for kernel in vars(module).values():
        function = getattr(kernel, "py_func", kernel)
        if inspect.isfunction(function) and function.__module__ == module.__name__:
            source = re.sub(r"^@\w+\n", "", inspect.getsource(function))
            exec(source.replace(right, wrong) if right else source, space)
    return space
