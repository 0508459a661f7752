"""Loop orders walked literally: what each stage finds on the chip and what it must fetch."""

from __future__ import annotations

from collections.abc import Iterator


def pieces(total: int, size: int) -> list[range]:
    """``total`` things cut into pieces of ``size``."""
    return [range(at, min(at + size, total)) for at in range(0, total, size)]


def walk(
    rows: int,
    pixels: int,
    row_bytes: int,
    pixel_bytes: int,
    *,
    part: int,
    band: int,
    bands_outermost: bool,
    weight_room: int,
    input_room: int,
) -> int:
    """Bytes fetched: rows of weights and pixels of input, one by one, each stage after the one before.

    A part stays for the next stage if it fits its room, and so does a band; a stage that reads the pixels behind those
    of the stage before goes on with the stream.
    """
    fetched = 0
    weights: set[int] = set()
    inputs: set[int] = set()
    for r, p in _order(pieces(rows, part), pieces(pixels, band), bands_outermost):
        fetched += sum(row_bytes for row in r if row not in weights)
        fetched += sum(pixel_bytes for pixel in p if pixel not in inputs)
        weights = set(r) if len(r) * row_bytes <= weight_room else set()
        if pixels * pixel_bytes <= input_room:
            inputs |= set(p)
        else:
            inputs = set(p) if len(p) * pixel_bytes <= input_room and bands_outermost else set()
    return fetched


def _order(parts: list[range], bands: list[range], bands_outermost: bool) -> Iterator[tuple[range, range]]:
    if bands_outermost:
        yield from ((r, p) for p in bands for r in parts)
    else:
        yield from ((r, p) for r in parts for p in bands)
