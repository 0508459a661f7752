"""Room for lists of firings, side by side in large arrays that are used again.

Memory that a process gets anew is cleared page by page, which costs more than writing a list into it. numpy asks for
large pages where an array is large, and the lists of many nodes are each too small for that.
"""

from __future__ import annotations

from sys import getrefcount

import numpy as np
import numpy.typing as npt

Row = npt.NDArray[np.int32]
_SMALL, _LARGE = 1 << 14, 1 << 22
"""Numbers of a list that is left to numpy, and of the largest array that is made for several lists."""

_alone = [np.empty(0, np.int32)]
_HELD = getrefcount(_alone[0])
"""References to an array that is held by a list and by nothing else, as they are counted below."""


class Sheets:
    """Cuts lists from arrays; one of which no list is held any more is cut anew."""

    def __init__(self) -> None:
        self._arrays: list[Row] = []
        self._left = np.empty(0, np.int32)

    def empty(self, count: int) -> Row:
        """int32[count], to be written."""
        if count < _SMALL:
            return np.empty(count, np.int32)
        if self._left.size < count:
            self._left = self._array(count)
        made, self._left = self._left[:count], self._left[count:]
        return made

    def _array(self, count: int) -> Row:
        self._left = np.empty(0, np.int32)
        # what was cut from an array holds it
        unused = [at for at in range(len(self._arrays)) if getrefcount(self._arrays[at]) == _HELD]
        fitting = [self._arrays[at] for at in unused if self._arrays[at].size >= count]
        if fitting:
            return min(fitting, key=len)
        before = self._arrays[-1].size if self._arrays else _SMALL
        self._arrays = [held for at, held in enumerate(self._arrays) if at not in unused]
        self._arrays.append(np.empty(max(count, min(2 * before, _LARGE)), np.int32))
        return self._arrays[-1]
