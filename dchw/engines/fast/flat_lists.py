"""Lists of firings and of occupied cycles one behind another, where kernels read them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

from dchw.engines.fast.program_tables import NEVER_FIRES, Ints32

Row = npt.NDArray[np.int32]
_NONE = np.empty(0, np.int32)


class Pieces:
    """A list that comes piece by piece: rows, and what each row's values are less by than those of the list.

    Numbers one behind another are a ``range``, and one number repeated is a row of stride 0: they take no room.
    """

    __slots__ = ("parts", "size")

    def __init__(self, *parts: tuple[Row | range, int]) -> None:
        self.parts = tuple(part for part in parts if len(part[0]))
        self.size = sum(len(row) for row, _ in self.parts)

    def append(self, row: Row | range) -> None:
        """Take values in behind what there is."""
        if not len(row):
            return
        self.size += len(row)
        before = self.parts[-1][0] if self.parts else None
        if isinstance(row, range) and isinstance(before, range) and before.stop == row.start:
            self.parts = (*self.parts[:-1], (range(before.start, row.stop), 0))
        else:
            self.parts = (*self.parts, (row, 0))

    def key(self, less: int) -> tuple[tuple[int, int, int], ...]:
        """Equal for lists of the same rows, while these are held, with ``less`` taken away from their values."""
        return tuple(
            (row.start, row.stop, less) if isinstance(row, range) else (id(row), -1, less - taken)
            for row, taken in self.parts
        )

    def at(self, row: Row | None, less: int) -> Pieces:
        """The same list where `FlatLists.joined` put it, so that nothing else holds its pieces."""
        return self if row is None or row.strides == (0,) else Pieces((row, less))

    def behind(self, count: int, copies: dict[tuple[int, int], Row]) -> Pieces:
        """All but the first ``count`` of a list in one piece, copied once for all that have it: ``copies``."""
        if self.size == count:
            return Pieces()
        ((row, taken),) = self.parts
        if isinstance(row, range) or row.strides == (0,):
            return Pieces((row[count:], taken))
        key = id(row), count
        if key not in copies:
            copies[key] = row[count:].copy()
        return Pieces((copies[key], taken))


class FlatLists:
    """Lists one behind another; shared ones, or equal ones of one owner, once. Behind each stands NEVER_FIRES."""

    def __init__(self, at: int, size: int, room: Ints32 | None = None) -> None:
        """``at``: where the first begins; ``size``: places that they take at most, those before ``at`` included;
        ``room``: where they may lie, if they fit: what is there is written over."""
        self.row = room if room is not None and room.size >= size else np.empty(size, np.int32)
        self._at = at
        # with the lists themselves, so that nothing else gets their ids
        self._placed: dict[int, tuple[Row, int]] = {}
        self._owned: dict[tuple[str, int, int, int], tuple[Row, int]] = {}

    @classmethod
    def of(cls, lists: Iterable[Row], at: int) -> FlatLists:
        """Room for these."""
        return cls(at, at + sum({id(row): row.size + 1 for row in lists}.values()))

    @classmethod
    def joined(
        cls, wanted: Sequence[tuple[Pieces, int, int]], at: int, room: Ints32 | None
    ) -> tuple[FlatLists, list[Row | None]]:
        """Lists that came in pieces, each joined where kernels read it, one for those of the same pieces.

        ``wanted``: a list, what to take away from its values, and a count: None is made of a list that says 0, 1, ..
        up to there. One number repeated stays what it is.
        """
        keys = [(pieces.key(less), count) for pieces, less, count in wanted]
        needed = {key: one for key, one in zip(keys, wanted, strict=True) if not _says_nothing(*one)}
        lists = cls(at, at + sum(pieces.size + 1 for pieces, _, _ in needed.values()), room)
        made = {key: lists._join(pieces, less) for key, (pieces, less, _) in needed.items()}
        return lists, [made.get(key) for key in keys]

    def _join(self, pieces: Pieces, less: int) -> Row:
        if not pieces.parts:
            return _NONE
        alone = pieces.parts[0][0]
        if pieces.size == len(alone) and not isinstance(alone, range) and alone.strides == (0,):
            return alone
        begin = end = self._at
        for row, taken in pieces.parts:
            begun, end = end, end + len(row)
            if isinstance(row, range):
                self.row[begun:end] = np.arange(row.start - less, row.stop - less)
            else:
                np.subtract(row, np.int32(less - taken), out=self.row[begun:end])
        made = self.row[begin:end]
        self._placed[id(made)] = made, begin
        self._end(end)
        return made

    def add(self, values: Row, owner: str) -> int:
        """Where a list begins."""
        known = self._placed.get(id(values))
        if known is None:
            ends = (values.item(0), values.item(-1)) if values.size else (0, 0)
            other, place = self._owned.setdefault((owner, values.size, *ends), (values, self._at))
            if other is values or not bool((other == values).all()):
                place = self._at
                self.row[place : place + values.size] = values
                self._end(place + values.size)
            known = self._placed[id(values)] = values, place
        return known[1]

    def _end(self, end: int) -> None:
        self.row[end] = NEVER_FIRES
        self._at = end + 1

    @property
    def used(self) -> Ints32:
        """All of them."""
        return self.row[: self._at]


def _says_nothing(pieces: Pieces, less: int, count: int) -> bool:
    """Whether a list says that item k belongs to firing k of ``count`` firings."""
    row = pieces.parts[0][0] if len(pieces.parts) == 1 else None
    return isinstance(row, range) and row == range(less, less + count)
