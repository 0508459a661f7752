"""Which value a name stands for: of the graph that is being read, and of those around it."""

from __future__ import annotations

import contextlib
from collections import ChainMap, Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from dchw.importers.onnx.registry import Value

MOST_DEPTH = 64
"""Graphs lie at most so deep in each other."""


class Scopes:
    """Values by name. A body of `If`, `Loop` or a function sees the graph around it and defines names of its own."""

    def __init__(self) -> None:
        self._values: ChainMap[str, Value] = ChainMap()
        self._readers: Counter[str] = Counter()

    def __getitem__(self, name: str) -> Value:
        if name not in self._values:
            raise LookupError(f"it reads {name!r}, which nothing gives")
        return self._values[name]

    def __contains__(self, name: str) -> bool:
        return name in self._values

    def define(self, names: Sequence[str], values: Iterable[Value | None]) -> None:
        """Give names of the present graph their values; outputs without a name or a value stay undefined."""
        for name, value in zip(names, values, strict=False):
            if name and value is not None:
                self._values[name] = value

    def replace(self, name: str, value: Value) -> None:
        """Set a value where it is defined, however deep the present graph lies in others."""
        next(held for held in self._values.maps if name in held)[name] = value

    def read_in(self, graph: Any) -> None:
        """Count who reads what in a graph; its outputs count twice, so that they are always kept."""
        self._readers.update(_read_names(graph))

    def read_once(self, name: str) -> bool:
        """Whether a value of the present graph has one reader and is no output."""
        return self._readers[name] == 1 and name in self._values.maps[0]

    @contextlib.contextmanager
    def inside(self, values: Mapping[str, Value]) -> Iterator[None]:
        """A graph within the present one, which begins with these values."""
        outer, readers = self._values, self._readers
        if len(outer.maps) > MOST_DEPTH:
            raise RecursionError(f"graphs lie deeper than {MOST_DEPTH} in each other")
        self._values, self._readers = outer.new_child(dict(values)), Counter()
        try:
            yield
        finally:
            self._values, self._readers = outer, readers


def _read_names(graph: Any) -> Iterator[str]:
    """Names that the nodes of a graph read, also within their bodies, and its outputs."""
    for one in graph.output:
        yield one.name
        yield one.name
    pending = [graph]
    while pending:
        present = pending.pop()
        for node in present.node:
            yield from node.input
            pending += [a.g for a in node.attribute if a.HasField("g")]
            if present is not graph:
                yield from node.input
