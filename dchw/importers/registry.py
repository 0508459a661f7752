"""A table of importer rules: what the walk over a graph looks up, filled by the rules themselves with a decorator.

So the walk need not know the rules, and a rule need not know the walk: both know the registry.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

R = TypeVar("R", bound=Callable[..., object])


class Registry(Generic[R]):
    """Rules by the name of the operation they read. The registry itself is the decorator: ``@rule("Relu")``."""

    def __init__(self) -> None:
        self._rules: dict[str, R] = {}

    def __call__(self, *names: str) -> Callable[[R], R]:
        """Register a rule under one or more names; a name has one rule."""

        def register(rule: R) -> R:
            for name in names:
                assert name not in self._rules, f"two rules for {name!r}"
                self._rules[name] = rule
            return rule

        return register

    def get(self, name: str) -> R | None:
        """The rule of an operation; None where it has none."""
        return self._rules.get(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._rules)
