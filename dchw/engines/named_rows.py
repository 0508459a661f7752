"""Tables of records with named fields, for kernels and for Python alike: an array whose rows are of one class."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from functools import cache
from operator import attrgetter
from typing import Any, Protocol, TypeVar, cast, overload

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Row = TypeVar("Row")
_Row = TypeVar("_Row", covariant=True)


class Rows(Protocol[_Row]):
    """A table: an array of records with the fields of one class."""

    @property
    def shape(self) -> tuple[int]: ...
    def __iter__(self) -> Iterator[_Row]: ...
    @overload
    def __getitem__(self, at: int | np.uint64) -> _Row: ...
    @overload
    def __getitem__(self, at: str) -> Ints: ...
    def __getitem__(self, at: int | np.uint64 | str) -> _Row | Ints: ...


def table(kind: type[Row], rows: Sequence[Row]) -> Rows[Row]:
    """A table of such rows. Its fields are int64; kernels use them by name, whether compiled or not."""
    names, values, dtype = _fields(cast("Hashable", kind))
    flat = np.array(list(map(values, rows)), np.int64).reshape(-1, len(names))
    return cast("Rows[Row]", flat.view(dtype)[:, 0])


def zeros(kind: type[Row], count: int) -> Rows[Row]:
    """A table of so many rows whose fields are 0, for whoever fills it column by column."""
    return cast("Rows[Row]", np.zeros(count, _fields(cast("Hashable", kind))[2]))


@cache
def _fields(kind: Hashable) -> tuple[list[str], Callable[[Any], Any], np.dtype[Any]]:
    names = list(kind.__annotations__)
    return names, attrgetter(*names), np.dtype((np.record, [(name, np.int64) for name in names]))
