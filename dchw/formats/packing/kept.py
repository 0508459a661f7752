"""Packed layers of networks that are run again: what packing gives follows from a layer and a machine's shape alone.

Both are frozen and packed bytes are read-only, so they may be shared between runs. Reading them back is not kept: every
run decodes the bits it was given. What is kept is bounded, and goes with its network. A layer that is laid out and not
written yet counts with what it will be written from.
"""

from __future__ import annotations

import weakref
from collections import OrderedDict
from collections.abc import Callable

from dchw.compression.compressed import CompressedLayer
from dchw.formats.packing.packed import LayerParameters, PackedLayer, StorageFormat
from dchw.formats.packing.run_layout import PackShape

MOST_BYTES = 1 << 26
"""Of all packed layers that are kept; the ones unused for longest go first."""

Key = tuple[int, int, PackShape, LayerParameters]


class KeptPackings:
    """Packed layers by the layer itself, its storage format, shape and parameters."""

    def __init__(self, most_bytes: int = MOST_BYTES) -> None:
        self._most = most_bytes
        self._kept: OrderedDict[Key, tuple[weakref.ref[CompressedLayer], StorageFormat, PackedLayer, int]] = (
            OrderedDict()
        )
        self.bytes = 0
        """Of all that is kept."""

    def get(
        self,
        layer: CompressedLayer,
        form: StorageFormat,
        shape: PackShape,
        parameters: LayerParameters,
        lay_out: Callable[[], PackedLayer],
    ) -> PackedLayer:
        """The packed layer: as it is kept, or laid out now."""
        key = id(layer), id(form), shape, parameters
        if key in self._kept:
            self._kept.move_to_end(key)
            return self._kept[key][2]
        packed = lay_out()
        size = max(packed.held_bytes, packed.total_bytes)  # now, or when it is written
        if self.keeps(packed):
            # identities are safe as keys: an entry leaves with its layer, and holds its format
            self._kept[key] = weakref.ref(layer, lambda _: self._forget(key)), form, packed, size
            self.bytes += size
            while self.bytes > self._most:
                self._forget(next(iter(self._kept)))
        return packed

    def keeps(self, packed: PackedLayer) -> bool:
        """Whether a packed layer is not too large to be kept."""
        return max(packed.held_bytes, packed.total_bytes) <= self._most // 4

    def _forget(self, key: Key) -> None:
        entry = self._kept.pop(key, None)
        self.bytes -= 0 if entry is None else entry[3]
