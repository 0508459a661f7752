"""Which fields of a configuration a computation read: what its result may be kept for.

`Watch` makes a copy of a configuration that behaves like it and notes every field that is read. A result is then kept
under the values of just those fields: another configuration that agrees in them leads the same computation along the
same way to the same result, whatever else it says. Nobody lists by hand what a stage depends on, so nothing is missed
when a stage changes. A section that is compared, hashed, dumped, or stays inside a result counts as read whole. A
property that gives a plain value counts as a field, and what it follows from as unread: a stage that asks an LPDDR
standard for its bytes of a burst alone is the same for every standard that agrees in those.
"""

from __future__ import annotations

import copy
import dataclasses
import inspect
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping
from functools import cache
from types import MappingProxyType, new_class
from typing import Any, Generic, TypeVar

import numpy as np

from dchw.config import Config
from dchw.studies.shelf import Shelf

DEAR_SECONDS = 0.3
"""Processor time from which on a result is worth its place on disk: writing or reading it takes about a tenth."""
C = TypeVar("C", bound=Config)
T = TypeVar("T")
_PLACES: dict[int, tuple[Watch[Any], str, Config]] = {}
"""Of every watched section that is alive: its watch, its dotted place and the configuration it stands for."""


class Watch(Generic[C]):
    """Watches one computation: hand it ``config``, and let ``settle`` clean what of its result may hold a section."""

    def __init__(self, original: C) -> None:
        self.reads: set[str] = set()
        """Dotted fields that were read; ``dram`` alone where a section counts whole."""
        self._alive: list[Config] = []
        self.config: C = self._watched(original, "")

    def _watched(self, original: Any, place: str) -> Any:
        kind = type(original)
        watched: Callable[[type[Config]], type[Config]] = _watched_kind
        made = object.__new__(watched(kind))
        fields = {}
        for name in kind.model_fields:
            value = getattr(original, name)
            below = f"{place}.{name}" if place else name
            fields[name] = self._watched(value, below) if isinstance(value, Config) else value
        object.__setattr__(made, "__dict__", fields)
        object.__setattr__(made, "__pydantic_fields_set__", set(fields))
        object.__setattr__(made, "__pydantic_extra__", None)
        object.__setattr__(made, "__pydantic_private__", None)
        _PLACES[id(made)] = (self, place, original)
        self._alive.append(made)
        return made

    def settle(self, value: T) -> T:
        """The value with watched sections replaced by what they stand for; such sections count as read whole."""
        settled: T = _replaced(value, {})
        return settled

    def close(self) -> None:
        """Nothing is noted any more."""
        for section in self._alive:
            _PLACES.pop(id(section), None)


class Remembered(Generic[C, T]):
    """Results kept by key and by the fields they were made from; the least recently used go when memory is full."""

    def __init__(self, most_bytes: int, size: Callable[[T], int] | None = None) -> None:
        """``size``: bytes that a result takes; by default those of its arrays."""
        self._most_bytes, self._size = most_bytes, size or array_bytes
        self._held: OrderedDict[Hashable, list[tuple[dict[str, object], T, int]]] = OrderedDict()
        self._bytes = 0
        self.made = 0
        """Results that had to be computed."""

    def get(self, key: Hashable, config: C, make: Callable[[Watch[C]], T], shelf: Shelf | None = None) -> T:
        """The kept result for a configuration, or a new one from ``make``, which uses the watch's ``config`` and
        settles what it gives.

        With a ``shelf`` a result that took long is also kept there, and looked for there before it is made.
        """
        for entry in self._held.get(key, ()):
            if all(field_of(config, place) == value for place, value in entry[0].items()):
                self._held.move_to_end(key)
                return entry[1]
        found = None if shelf is None else shelf.take(key, lambda place: field_of(config, place))
        if found is not None:
            result: tuple[dict[str, object], T] = found
        else:
            result = self._made(key, config, make, shelf)
        read, value = result
        size = self._size(value)
        self._held.setdefault(key, []).insert(0, (read, value, size))
        self._held.move_to_end(key)
        self._bytes += size
        self._shrink(self._most_bytes, least=1)
        return value

    def known(self, key: Hashable) -> list[T]:
        """The results kept under a key, the latest first."""
        return [value for _, value, _ in self._held.get(key, ())]

    def _made(
        self, key: Hashable, config: C, make: Callable[[Watch[C]], T], shelf: Shelf | None
    ) -> tuple[dict[str, object], T]:
        self._shrink(self._most_bytes // 2, least=0)  # what is made needs room beside what is kept
        watch, start = Watch(config), time.process_time()
        try:
            value = make(watch)
        finally:
            watch.close()
        self.made += 1
        read = {place: field_of(config, place) for place in _outermost(watch.reads)}
        if shelf is not None and time.process_time() - start > DEAR_SECONDS:
            shelf.put(key, read, (read, value))
        return read, value

    def _shrink(self, most_bytes: int, least: int) -> None:
        while self._bytes > most_bytes and sum(map(len, self._held.values())) > least:
            oldest = next(iter(self._held))
            self._bytes -= self._held[oldest].pop()[2]
            if not self._held[oldest]:
                del self._held[oldest]


class Latest(Generic[T]):
    """Results kept by key alone; the least recently used go when memory is full."""

    def __init__(self, most_bytes: int, size: Callable[[T], int]) -> None:
        self._most_bytes, self._size, self._bytes = most_bytes, size, 0
        self._held: OrderedDict[Hashable, tuple[T, int]] = OrderedDict()
        self.made = 0
        """Results that had to be computed."""

    def get(self, key: Hashable, make: Callable[[], T]) -> T:
        """The kept result, or a new one."""
        if key not in self._held:
            value = make()
            self.made += 1
            self._held[key] = value, self._size(value)
            self._bytes += self._held[key][1]
        self._held.move_to_end(key)
        while self._bytes > self._most_bytes and len(self._held) > 1:
            self._bytes -= self._held.popitem(last=False)[1][1]
        return self._held[key][0]


def field_of(config: Config, place: str) -> object:
    """The value at a dotted place, of Python's names; the whole configuration for an empty one."""
    value: object = config
    for name in filter(None, place.split(".")):
        value = getattr(value, name, None)
    return value


def _outermost(places: set[str]) -> list[str]:
    """Places without those that lie inside another of them."""
    kept: list[str] = []
    for place in sorted(places):
        if not any(place == other or place.startswith(f"{other}.") or not other for other in kept):
            kept.append(place)
    return kept


_PLAIN = (bool, int, float, str)


def _is_property(member: object) -> bool:
    return isinstance(member, property)


@cache
def _watched_kind(kind: type[Config]) -> type[Config]:
    """A subclass of ``kind`` whose instances note what is read of them."""
    fields = frozenset(kind.model_fields)
    derived = frozenset(name for name, _ in inspect.getmembers_static(kind, _is_property)) - set(dir(Config))

    def note(self: Config, name: str) -> Any:
        if name in derived and id(self) in _PLACES:
            watch, place, original = _PLACES[id(self)]
            value = getattr(original, name)
            if isinstance(value, _PLAIN):
                watch.reads.add(f"{place}.{name}" if place else name)
                return value
        value = read(self, name)
        if name in fields or name == "__dict__":
            found = _PLACES.get(id(self))
            if found is not None and id(value) not in _PLACES:
                watch, place, _ = found
                watch.reads.add(place if name == "__dict__" else f"{place}.{name}" if place else name)
        return value

    read = kind.__getattribute__
    body = {"__getattribute__": note, "__module__": kind.__module__, "__qualname__": kind.__qualname__}
    made: type[Config] = new_class(kind.__name__, (kind,), exec_body=lambda space: space.update(body))
    return made


def _replaced(value: Any, done: dict[int, Any]) -> Any:
    """``value`` with watched sections replaced, rebuilt only along the way to one."""
    found = _PLACES.get(id(value))
    if found is not None:
        watch, place, original = found
        watch.reads.add(place)
        return original
    if id(value) in done:
        return done[id(value)]
    out = value
    if type(value) in (tuple, list):
        parts = [_replaced(part, done) for part in value]
        if any(new is not old for new, old in zip(parts, value, strict=True)):
            out = type(value)(parts)
    elif isinstance(value, (dict, MappingProxyType)):
        pairs = {key: _replaced(part, done) for key, part in value.items()}
        if any(pairs[key] is not value[key] for key in pairs):
            out = type(value)(pairs)
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        changed = {}
        for name, part in vars(value).items() if hasattr(value, "__dict__") else ():
            new = _replaced(part, done)
            if new is not part:
                changed[name] = new
        if changed:
            out = copy.copy(value)
            for name, part in changed.items():
                object.__setattr__(out, name, part)
    done[id(value)] = out
    return out


def array_bytes(value: Any, seen: set[int] | None = None) -> int:
    """Bytes of the arrays that a value holds, each counted once."""
    seen = set() if seen is None else seen
    if id(value) in seen:
        return 0
    seen.add(id(value))
    if isinstance(value, np.ndarray):
        return value.nbytes if value.base is None else array_bytes(value.base, seen)
    if isinstance(value, (tuple, list)):
        return sum(array_bytes(part, seen) for part in value)
    if isinstance(value, Mapping):
        return sum(array_bytes(part, seen) for part in value.values())
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        # by its fields, as some have slots; what else it holds, such as what it works out once, lies in its dictionary
        held = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
        return sum(array_bytes(part, seen) for part in (held | getattr(value, "__dict__", {})).values())
    return 0
