"""Packages that are also verbs: ``dchw.compress(network)`` beside ``dchw.compress.recipe``.

A function in ``dchw`` of the same name would be replaced by the package whenever that is imported first, so the
package itself is made callable.
"""

from __future__ import annotations

import functools
import importlib
import sys
from types import ModuleType
from typing import Any


def make_callable(package: str, module: str) -> None:
    """Make calling a package call the function in ``module`` that has the package's own last name."""
    name = package.rpartition(".")[2]

    class CallablePackage(ModuleType):
        def __call__(self, *arguments: Any, **options: Any) -> Any:
            return getattr(importlib.import_module(module), name)(*arguments, **options)

        @functools.cached_property
        def __wrapped__(self) -> Any:  # so that help() and inspect.signature show the function
            return getattr(importlib.import_module(module), name)

    sys.modules[package].__class__ = CallablePackage
