"""What packing works out of a layer, for when it is asked for again: by another run, or by another storage format.

What packing gives follows from a layer and a machine's shape alone. Layers are frozen and what is kept is read-only, so
that it may be shared. Reading packed bytes back is not kept: every run decodes the bits it was given. What is kept is
bounded, and goes with its layer. A layer that is laid out and not written yet counts with what it will be written from.
"""

from __future__ import annotations

import weakref
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

from dchw.compression.compressed import CompressedLayer
from dchw.formats.packing.packed import LayerParameters, PackedLayer, StorageFormat
from dchw.formats.packing.run_layout import PackShape

MOST_BYTES = 1 << 26
"""Of all packed layers that are kept; the ones unused for longest go first."""

T = TypeVar("T")


class Kept(Generic[T]):
    """Things made of layers, by the layer itself and a key, as long as there is room for more.

    None makes room for another: whoever goes through all layers of a network again and again would find none of them.
    """

    def __init__(self, most_bytes: int) -> None:
        self._most = most_bytes
        self._kept: OrderedDict[Hashable, tuple[weakref.ref[CompressedLayer], T, int]] = OrderedDict()
        self.bytes = 0
        """Of all that is kept."""

    def of(self, layer: CompressedLayer, key: Hashable, make: Callable[[], T], size: Callable[[T], int]) -> T:
        """What is made of a layer, of ``size`` bytes: as it is kept, or made now."""
        mine = id(layer), key
        if mine in self._kept:
            self._kept.move_to_end(mine)
            return self._kept[mine][1]
        made = make()
        taken = size(made)
        if self._has_room(taken):
            # an identity is safe as key: an entry leaves with its layer
            self._kept[mine] = weakref.ref(layer, lambda _: self._forget(mine)), made, taken
            self.bytes += taken
        return made

    def clear(self) -> None:
        """Keep nothing."""
        self._kept.clear()
        self.bytes = 0

    def _has_room(self, size_bytes: int) -> bool:
        return self.bytes + size_bytes <= self._most

    def _forget(self, key: Hashable) -> None:
        entry = self._kept.pop(key, None)
        self.bytes -= 0 if entry is None else entry[2]


class KeptPackings(Kept[PackedLayer]):
    """Packed layers by the layer itself, its storage format, shape and parameters; the ones unused for longest go
    first."""

    def __init__(self, most_bytes: int = MOST_BYTES) -> None:
        super().__init__(most_bytes)

    def keeps(self, size_bytes: int) -> bool:
        """Whether something of so many bytes is not too large to be kept."""
        return size_bytes <= self._most // 4

    def _has_room(self, size_bytes: int) -> bool:
        if not self.keeps(size_bytes):
            return False
        while self.bytes + size_bytes > self._most:
            self._forget(next(iter(self._kept)))
        return True

    def get(
        self,
        layer: CompressedLayer,
        form: StorageFormat,
        shape: PackShape,
        parameters: LayerParameters,
        lay_out: Callable[[], PackedLayer],
    ) -> PackedLayer:
        """The packed layer: as it is kept, or laid out now."""
        return self.of(layer, (_Identity(form), shape, parameters), lay_out, packed_size)


def packed_size(packed: PackedLayer) -> int:
    """Bytes that a packed layer takes now, or when it is written."""
    return max(packed.held_bytes, packed.total_bytes)


class _Identity:
    """A key that is one very object, which it holds."""

    def __init__(self, what: object) -> None:
        self._what = what

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Identity) and self._what is other._what

    def __hash__(self) -> int:
        return id(self._what)
