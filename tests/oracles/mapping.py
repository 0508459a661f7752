"""Loop orders walked literally, what each stage finds on the chip and what it must fetch; and all of them tried."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from dchw.graph.geometry import Geometry


@dataclass(frozen=True, kw_only=True)
class Buffers:
    """What a machine has room for, in bytes where nothing else is said."""

    weight_room: int
    """Weights that stay."""
    block_room: int
    """Of one of several blocks of columns."""
    activation_room: int
    """Input and waiting sums together."""
    least_input_room: int
    """Of that, for an input that streams."""
    elements: int
    accumulators: int
    """Sums of each element."""
    sum_bytes: int
    """Of a partial sum."""
    burst: int
    cut_bytes: int = 0
    """What each further block of columns adds to a part that is packed block by block."""


@dataclass(frozen=True, kw_only=True)
class Order:
    part: int
    tile: int
    band: int
    """In pixels."""
    blocks: int
    sums: str
    bands_outermost: bool


def pieces(total: int, size: int) -> list[range]:
    """``total`` things cut into pieces of ``size``."""
    return [range(at, min(at + size, total)) for at in range(0, total, size)]


def whole(size: int, burst: int) -> int:
    """Bytes of the bursts that hold ``size``."""
    return -(-size // burst) * burst


def walk(rows: int, pixels: int, row_bytes: int, pixel_bytes: int, order: Order, has: Buffers) -> tuple[int, int]:
    """Bytes fetched of weights and inputs, and moved both ways of sums: things one by one, stage after stage.

    A part stays for the next stage if it fits its room, and so does a band; a stage that reads the pixels behind those
    of the stage before goes on with the stream. Sums of a tile are somewhere whenever a block of columns ends.
    """
    fetched = moved = 0
    weights: set[int] = set()
    inputs: set[int] = set()
    waiting = order.part * min(order.band, pixels) * has.sum_bytes if order.sums == "sram" else 0
    room = has.activation_room - waiting
    assert room >= has.least_input_room
    for r, p in _order(pieces(rows, order.part), pieces(pixels, order.band), order.bands_outermost):
        fetched += whole(sum(row_bytes for row in r if row not in weights), has.burst)
        fetched += sum(whole(has.cut_bytes, has.burst) for _ in range(1, order.blocks))
        fetched += whole(sum(pixel_bytes for pixel in p if pixel not in inputs), has.burst)
        weights = set(r) if len(r) * row_bytes <= has.weight_room and order.blocks == 1 else set()
        if pixels * pixel_bytes <= room:
            inputs |= set(p)
        else:
            inputs = set(p) if len(p) * pixel_bytes <= room and order.bands_outermost else set()
        places: dict[int, str] = {}
        for block in range(order.blocks):
            for tile in pieces(len(p), order.tile):
                size = whole(len(r) * len(tile) * has.sum_bytes, has.burst)
                if block > 0 and places[tile[0]] == "dram":
                    moved += size
                if block + 1 < order.blocks:
                    places[tile[0]] = order.sums
                    moved += size if order.sums == "dram" else 0
    return fetched, moved


def _order(parts: list[range], bands: list[range], bands_outermost: bool) -> Iterator[tuple[range, range]]:
    if bands_outermost:
        yield from ((r, p) for p in bands for r in parts)
    else:
        yield from ((r, p) for r in parts for p in bands)


def best_of_all(
    geometry: Geometry, weight_bytes: int, input_bytes: int, unit: int, tiles: list[int], has: Buffers, cuttable: bool
) -> int:
    """The least bytes that any order moves, every size of a part and of a band tried, by arithmetic without rounding.

    For one image; weights spread evenly over rows.
    """
    rows, pixels = geometry.out_channels, geometry.output_pixels
    best = None
    for part in {min(size, rows) for size in range(unit, rows + unit, unit)}:
        parts, held = -(-rows // part), -(-part // has.elements)
        for tile in (one for one in tiles if held * one <= has.accumulators):
            for band in {min(size, pixels) for size in range(tile, pixels + tile, tile)}:
                bands = -(-pixels // band)
                for blocks, waiting, spilled in _cuts(
                    weight_bytes * part / rows, part, band, band <= tile, has, geometry.columns if cuttable else 1
                ):
                    room = has.activation_room - waiting
                    sums = 2 * (blocks - 1) * rows * pixels * has.sum_bytes if spilled else 0
                    again = parts if part < rows and geometry.groups == 1 and input_bytes > room else 1
                    stays = blocks == 1 and weight_bytes * part / rows <= has.weight_room
                    once = weight_bytes + parts * (blocks - 1) * whole(has.cut_bytes, has.burst)
                    found = [once * (1 if stays else bands) + input_bytes * again + sums]
                    if again > 1 and band_rows(geometry, band).max() * input_bytes / geometry.in_size[0] <= room:
                        read = band_rows(geometry, band).sum() * input_bytes / geometry.in_size[0]
                        found.append(once * bands + read + sums)
                    best = min(found) if best is None else min(best, *found)
    assert best is not None, "no order fits"
    return int(best)


def _cuts(
    part_bytes: float, part: int, band: int, one_tile: bool, has: Buffers, columns: int
) -> Iterator[tuple[int, int, bool]]:
    """(blocks, bytes of the activation SRAM for sums, whether sums cross the DRAM)."""
    if part_bytes <= has.weight_room or one_tile:
        yield 1, 0, False
    elif (blocks := -(-int(part_bytes) // has.block_room)) <= columns:  # no block has less than a column
        if -(-part // has.elements) * band <= has.accumulators:
            yield blocks, 0, False
        sums = part * band * has.sum_bytes
        if sums <= has.activation_room - has.least_input_room:
            yield blocks, sums, False
        yield blocks, 0, True


def band_rows(geometry: Geometry, band: int) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """Input rows that each band of so many pixels reads."""
    width = geometry.out_size[1]
    first = np.arange(0, geometry.output_pixels, band)
    last = np.minimum(first + band, geometry.output_pixels) - 1
    reach = (geometry.kernel[0] - 1) * geometry.dilation[0] + 1
    top = np.maximum(first // width * geometry.stride[0] - geometry.padding[0], 0)
    bottom = np.minimum(last // width * geometry.stride[0] - geometry.padding[0] + reach, geometry.in_size[0])
    return np.asarray(bottom - top)
