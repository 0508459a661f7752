"""The bytes of a packed layer, stream by stream: their number is known when it is laid out, and they are written when
they are first read.

So the order of a layer's loops can be searched before a bit is written, and each weight is packed once: as part of
the whole layer, or of the part of rows in which it will be worked. What was read and is large need not stay either:
nothing but its number of bytes is asked for again, and whoever does read it has it written once more.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from dchw.compression.bitstream import Bytes
from dchw.vocabulary import Stream


@dataclass(frozen=True, kw_only=True, eq=False)
class Unwritten:
    """A region that is laid out and not written."""

    size: int
    """Bytes it will have."""
    held: int
    """Bytes of what it will be written from, kept until then."""
    write: Callable[[], Bytes]


class Regions(Mapping[Stream, Bytes]):
    """Regions by stream, read-only; whoever reads one that is not written has it written."""

    def __init__(self, given: Mapping[Stream, Bytes | Unwritten]) -> None:
        """Regions without bytes are left out."""
        laid_out = given._regions if isinstance(given, Regions) else given
        self._regions: dict[Stream, Bytes | Unwritten] = {}
        self._again: dict[Stream, Unwritten] = dict(given._again) if isinstance(given, Regions) else {}
        for stream, region in laid_out.items():
            if region.size:
                self._regions[stream] = region if isinstance(region, Unwritten) else _frozen(region)

    def __getitem__(self, stream: Stream) -> Bytes:
        found = self._regions[stream]
        if isinstance(found, Unwritten):
            written = _frozen(found.write())
            assert written.size == found.size, f"{stream}: laid out as {found.size} bytes, written as {written.size}"
            if not found.held:
                self._again[stream] = found
            self._regions[stream] = found = written
        return found

    def release(self) -> None:
        """Let go of bytes that can be written again from nothing that is held for them."""
        self._regions.update(self._again)
        self._again.clear()

    def __contains__(self, stream: object) -> bool:
        return stream in self._regions  # without reading it

    def __iter__(self) -> Iterator[Stream]:
        return iter(self._regions)

    def __len__(self) -> int:
        return len(self._regions)

    @property
    def sizes(self) -> dict[Stream, int]:
        """Bytes of every region, written or not."""
        return {stream: region.size for stream, region in self._regions.items()}

    @property
    def held(self) -> int:
        """Bytes in memory: of what is written, and of what the rest will be written from."""
        return sum(one.held if isinstance(one, Unwritten) else one.size for one in self._regions.values())


def _frozen(region: Bytes) -> Bytes:
    region.flags.writeable = False
    return region
