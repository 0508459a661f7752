"""The loop order of a layer, searched: which rows at a time, which pixels at a time, and what stays on the chip.

A layer is a matrix of ``rows`` x ``columns`` weights times ``columns`` x ``pixels`` inputs. Its loops are

    for band of pixels, or for part of rows, whichever is outermost:
        for part of rows, or for band of pixels:             one *stage*: the part's weights are fetched once
            for block of columns:                            a block stays in the weight SRAM ...
                for tile of pixels in the band:              ... while all tiles of the band go by

- A part that fits the weight SRAM is one block: it stays for all tiles of the band, and leaves chunk by chunk with the
  last of them while the next part follows. One that does not is cut into blocks of columns that fit half of it; sums of
  all tiles of the band then wait in the accumulators (`dchw.mapping.rooms`).
- With bands outermost, a band of the input that fits half of the activation SRAM stays for all parts; weights are
  fetched once a band. With parts outermost, a part stays for all bands, and the input is fetched once a part, unless
  all of it fits.
- Parts of a layer with groups of channels read the channels of their own groups. Groups of fewer rows than elements are
  worked side by side, and a queue holds the pixels of all rows of its element (`dchw.machines.units.pe_array`).
- An input that the layer before left on the chip costs nothing. Bands of a convolution overlap by the rows that its
  kernel reaches over; the overlap is fetched again.

Among all of these the one with the fewest DRAM bytes is taken, among equals the one with the fewest cycles.
`simple_choice` is the order to beat: all rows that fit the weight SRAM, tiles as wide as the array takes them,
and weights again for every tile where they do not fit.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import Enum

from dchw.graph.geometry import Geometry
from dchw.machines.loop_order import order_for
from dchw.machines.machine import Machine
from dchw.mapping.rooms import block_room, resident_room
from dchw.mapping.tiling import groups_side_by_side
from dchw.quantities import DchwError, ceil_div


@dataclass(frozen=True, kw_only=True)
class Demand:
    """What one layer asks of a machine in one storage format."""

    name: str
    geometry: Geometry
    batch: int
    weight_bytes: int
    """All weight regions of the layer as packed, tables included."""
    table_bytes: int
    """Of these, what every part of rows needs again: codebooks and code tables."""
    resident_bytes: int
    """What all weights take in the weight SRAM where they stay."""
    decoded: bool
    """Whether they lie there decoded, at fixed width."""
    input_bytes: int
    """The input tensor; 0 where it is on the chip already."""
    cuttable: bool
    """Whether the array can take the columns in blocks; weights that decode units feed are worked whole."""
    cycles: Callable[[int, int], float]
    """Cycles of the array for (rows of a part, pixels of a tile): one tile over all columns."""

    @property
    def pixels(self) -> int:
        """Output pixels of the whole batch."""
        return self.geometry.output_pixels * self.batch


class Stays(Enum):
    """What of a layer's input stays on the chip for the stages behind."""

    NOTHING = "nothing"
    BAND = "band"
    WHOLE = "whole"


@dataclass(frozen=True, kw_only=True)
class LoopChoice:
    """One order of a layer's loops."""

    part_rows: int
    """Rows of a part; the last one may hold fewer."""
    tile: int
    """Pixels the array works at a time."""
    band_tiles: int
    """Tiles of a band."""
    blocks: int
    """Blocks of columns of a part."""
    bands_outermost: bool


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What a choice costs."""

    weight_bytes: int
    input_bytes: int
    cycles: float

    @property
    def key(self) -> tuple[int, float]:
        """Fewest DRAM bytes, then fewest cycles."""
        return self.weight_bytes + self.input_bytes, self.cycles


@dataclass(frozen=True, kw_only=True)
class Explanation:
    """What was chosen for a layer, and what else it could have cost in DRAM bytes of weights and inputs."""

    layer: str
    choice: LoopChoice
    cost: Cost
    simple: Cost
    """Cost of `LoopSearch.simple`."""
    least_bytes: int
    """Everything once: no order can read less."""
    considered: int
    """Orders that the buffers allow."""
    given: tuple[str, ...] = ()
    """What of the choice was fixed by hand (`dchw.machines.loop_order.LoopOrder`)."""


class LoopSearch:
    """The orders of one layer's loops on a machine, and what each costs."""

    def __init__(self, demand: Demand, machine: Machine) -> None:
        self.demand = demand
        self._given = order_for(demand.name, machine.mapping)
        self._array = machine.pe_array
        self._weight_room = resident_room(machine, decoded=demand.decoded)
        self._block_room = block_room(machine)
        # an eighth is for tensors that are read behind the layer
        self._input_room = machine.activation_sram.size_bytes // 2 * 7 // 8
        self._value_bits = machine.formats.activations.bits
        self._bus = machine.dram.peak_bytes_per_cycle(machine.clock_hz)
        geometry = demand.geometry
        # a part holds whole groups, or whole rows of all elements
        self._unit = geometry.out_channels // geometry.groups if geometry.groups > 1 else self._array.elements
        self._steps = ceil_div(geometry.out_channels, self._unit)

    def best(self) -> LoopChoice:
        """The order with the fewest DRAM bytes, then cycles, then parts and blocks."""
        return self.explain().choice

    def explain(self) -> Explanation:
        """The best order beside the simple one and the least that any order must read."""
        found = [(self.cost(choice), choice) for choice in self.choices()]
        if not found:
            raise self._nothing_fits()
        cost, choice = min(found, key=lambda pair: (*pair[0].key, -pair[1].part_rows, pair[1].blocks, -pair[1].tile))
        return Explanation(
            layer=self.demand.name,
            choice=choice,
            cost=cost,
            simple=self.cost(self.simple()),
            least_bytes=self.demand.weight_bytes + self.demand.input_bytes,
            considered=len(found),
            given=tuple(self._given.given),
        )

    def simple(self) -> LoopChoice:
        """Rows that fit the weight SRAM, the widest tile, and weights again every tile where none fit."""
        demand = self.demand
        alone = self._tiles(demand.geometry.out_channels)[:1] == [demand.pixels]
        wanted = ceil_div(demand.resident_bytes, self._weight_room)
        parts = 1 if alone else min(wanted, self._steps)
        rows = min(ceil_div(self._steps, parts) * self._unit, demand.geometry.out_channels)
        while not (tiles := self._tiles(rows)):
            if rows <= self._unit:
                raise self._too_many_rows()
            rows = ceil_div(rows // 2, self._unit) * self._unit
        tile = tiles[0]
        count = ceil_div(demand.pixels, tile) if self._part_bytes(rows) <= self._weight_room else 1
        return LoopChoice(part_rows=rows, tile=tile, band_tiles=count, blocks=1, bands_outermost=False)

    def choices(self) -> Iterator[LoopChoice]:
        """Every order that the machine's buffers allow; of orders that are the same, one."""
        pixels = self.demand.pixels
        for rows in self._parts():
            for tile in self._allowed_tiles(rows):
                tiles = ceil_div(pixels, tile)
                for band in self._bands(tile, tiles):
                    blocks = self._blocks(rows, tile, band)
                    if blocks is None:
                        continue
                    for bands_outermost in self._orders(rows, band >= tiles):
                        choice = LoopChoice(
                            part_rows=rows, tile=tile, band_tiles=band, blocks=blocks, bands_outermost=bands_outermost
                        )
                        if band < tiles and not bands_outermost and self._stays(choice) and not self._given.given:
                            continue  # what stays for a band stays for the next: one band
                        yield choice

    def cost(self, choice: LoopChoice) -> Cost:
        """DRAM bytes of weights and inputs, and cycles, of one order."""
        demand = self.demand
        parts = ceil_div(demand.geometry.out_channels, choice.part_rows)
        bands = self.bands(choice)
        fetches = len(bands)
        weights = (demand.weight_bytes + (parts - 1) * demand.table_bytes) * fetches
        array = 0.0
        for first, end in bands:
            whole, rest = divmod(end - first, choice.tile)
            array += whole * demand.cycles(choice.part_rows, choice.tile)
            array += demand.cycles(choice.part_rows, rest) if rest else 0.0
        inputs = self._input_bytes(choice, parts, bands)
        return Cost(weight_bytes=weights, input_bytes=inputs, cycles=max(parts * array, (weights + inputs) / self._bus))

    def bands(self, choice: LoopChoice) -> list[tuple[int, int]]:
        """(first pixel, end) of every band."""
        step = choice.band_tiles * choice.tile
        return [(at, min(at + step, self.demand.pixels)) for at in range(0, self.demand.pixels, step)]

    def band_bytes(self, first: int, end: int) -> int:
        """Bytes of the input that pixels ``first`` to ``end`` read: whole input rows, the kernel's reach included."""
        geometry, pixels = self.demand.geometry, self.demand.geometry.output_pixels
        if self.demand.input_bytes == 0 or end - first >= self.demand.pixels:
            return self.demand.input_bytes
        row_bytes = math.prod(geometry.in_size[1:]) * geometry.in_channels * self._value_bits // 8
        row_pixels = math.prod(geometry.out_size[1:])
        reach = (geometry.kernel[0] - 1) * geometry.dilation[0] + 1
        total = 0
        for image in range(first // pixels, ceil_div(end, pixels)):
            low = max(first - image * pixels, 0) // row_pixels
            high = (min(end - image * pixels, pixels) - 1) // row_pixels
            top = max(low * geometry.stride[0] - geometry.padding[0], 0)
            bottom = min(high * geometry.stride[0] - geometry.padding[0] + reach, geometry.in_size[0])
            total += max(bottom - top, 0) * row_bytes
        return min(total, self.demand.input_bytes)

    def _stays(self, choice: LoopChoice) -> bool:
        return choice.blocks == 1 and self._part_bytes(choice.part_rows) <= self._weight_room

    def input_stays(self, choice: LoopChoice) -> Stays:
        """How much of the input stays on the chip once it is fetched."""
        if choice.part_rows >= self.demand.geometry.out_channels or self.demand.geometry.groups > 1:
            return Stays.NOTHING  # nothing reads it again
        if self.demand.input_bytes <= self._input_room:
            return Stays.WHOLE
        largest = max(self.band_bytes(*band) for band in self.bands(choice))
        return Stays.BAND if choice.bands_outermost and largest <= self._input_room else Stays.NOTHING

    def span(self, choice: LoopChoice, first: int, end: int, groups: slice) -> tuple[int, int]:
        """(first byte, bytes) of the input fetched for a band when it is not there; ``groups`` of a part are read."""
        whole, pixels, of = self.demand.input_bytes, self.demand.pixels, self.demand.geometry.groups
        if of > 1:
            start, size = whole * groups.start // of, whole * groups.stop // of - whole * groups.start // of
            return start + size * first // pixels, size * end // pixels - size * first // pixels
        stays = self.input_stays(choice)
        if stays is Stays.WHOLE:
            return 0, whole
        at = whole * first // pixels
        if stays is Stays.BAND:
            size = self.band_bytes(first, end)
            return min(at, whole - size), size
        return at, whole * end // pixels - at

    def _input_bytes(self, choice: LoopChoice, parts: int, bands: list[tuple[int, int]]) -> int:
        whole, stays = self.demand.input_bytes, self.input_stays(choice)
        if stays is Stays.BAND:
            return sum(self.band_bytes(*band) for band in bands)
        if self.demand.geometry.groups > 1:
            return whole
        return whole if stays is Stays.WHOLE else whole * parts

    def _parts(self) -> list[int]:
        rows, given = self.demand.geometry.out_channels, self._given.part_rows
        if given is not None:
            return [min(given, rows)] if given >= rows or given % self._unit == 0 else []
        return [min(steps * self._unit, rows) for steps in _shares(self._steps)]

    def _bands(self, tile: int, tiles: int) -> list[int]:
        """Tiles of a band."""
        given = self._given.band_pixels
        if given is None:
            return _shares(tiles)
        return [min(ceil_div(given, tile), tiles)] if given >= self.demand.pixels or given % tile == 0 else []

    def _orders(self, rows: int, one_band: bool) -> tuple[bool, ...]:
        """Whether bands are outermost, both ways where that is not the same."""
        if self._given.outermost is not None:
            return (self._given.outermost == "bands",)
        return (False,) if rows >= self.demand.geometry.out_channels or one_band else (False, True)

    def _tiles(self, rows: int) -> list[int]:
        """Widths of a tile, the widest first: all that fits and whole groups of lanes, then halves of it."""
        array, widest = self._array, self._array.tile
        if groups_side_by_side(self.demand.geometry, array.elements):
            widest = max(widest // ceil_div(rows, array.elements), 1)
        most = min(widest, array.accumulators // ceil_div(rows, array.elements), self.demand.pixels)
        out: list[int] = []
        while most >= 1 and (not out or most >= array.lanes):
            whole = most // array.lanes * array.lanes
            out += [most, whole] if 0 < whole < most else [most]
            most = (whole or most) // 2
        return out

    def _allowed_tiles(self, rows: int) -> list[int]:
        tiles, given = self._tiles(rows), self._given.tile_pixels
        if given is None:
            return tiles
        wanted = min(given, self.demand.pixels)
        return [wanted] if tiles and wanted <= tiles[0] else []

    def _part_bytes(self, rows: int) -> int:
        demand = self.demand
        tables = 0 if demand.decoded else demand.table_bytes
        return tables + ceil_div((demand.resident_bytes - tables) * rows, demand.geometry.out_channels)

    def _blocks(self, rows: int, tile: int, band_tiles: int) -> int | None:
        """Blocks of columns in which a part is worked; None where the band's sums do not fit the accumulators."""
        size, given = self._part_bytes(rows), self._given.column_blocks
        if given in (None, 1) and (size <= self._weight_room or band_tiles == 1):
            return 1
        pixels = min(band_tiles * tile, self.demand.pixels)
        if not self.demand.cuttable or ceil_div(rows, self._array.elements) * pixels > self._array.accumulators:
            return None
        least = ceil_div(size, self._block_room)
        return least if given is None else given if least <= given <= self.demand.geometry.columns else None

    def _nothing_fits(self) -> DchwError:
        if not self._given.given:
            return self._too_many_rows()
        asked = ", ".join(f"{key} {value}" for key, value in self._given.given.items())
        kind = "whole groups" if self.demand.geometry.groups > 1 else "whole rows of all elements"
        return DchwError(
            f"layer {self.demand.name!r}: expected an order of loops that the buffers allow, with parts of {kind} "
            f"({self._unit}) and bands of whole tiles; got {asked} from the machine's mapping; change or leave out one "
            "of them"
        )

    def _too_many_rows(self) -> DchwError:
        rows = ceil_div(min(self._unit, self.demand.geometry.out_channels), self._array.elements)
        return DchwError(
            f"layer {self.demand.name!r}: a group's {self._unit} output rows need {rows} accumulators in each of "
            f"{self._array.elements} processing elements; got {self._array.accumulators}; raise pe_array.accumulators"
        )


def _shares(count: int) -> list[int]:
    """Sizes of the pieces when ``count`` things are cut into 1, 2, 3, .. pieces, without repetition."""
    out: list[int] = []
    pieces = 1
    while pieces <= count:
        size = ceil_div(count, pieces)
        out.append(size)
        pieces = ceil_div(count, size - 1) if size > 1 else count + 1
    return out
