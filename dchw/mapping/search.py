"""The loop order of a layer, searched: which rows at a time, which pixels at a time, and what stays on the chip.

A layer is a matrix of ``rows`` x ``columns`` weights times ``columns`` x ``pixels`` inputs. Its loops are

    for band of pixels, or for part of rows, whichever is outermost:
        for part of rows, or for band of pixels:             one *stage*: the part's weights are fetched once
            for block of columns:                            a block stays in the weight SRAM ...
                for tile of pixels in the band:              ... while all tiles of the band go by

- A part that fits the weight SRAM is one block: it stays for all tiles of the band, and leaves chunk by chunk with the
  last of them while the next part follows. One that does not is cut along its input channels, into blocks of columns
  that fit half of it (`dchw.mapping.rooms`).
  Decode units that decode at use go through the block's chunks once a tile; chunks end where blocks do, for the layer
  is packed in as many bands of columns (`dchw.formats.packing.run_layout`). At load they go through each block once.
- Between the blocks the sums of all tiles of the band wait: in the accumulators if they are enough, otherwise as
  *partial sums* of the accumulators' width in the activation SRAM, where they take room from the input, or in DRAM. The
  vector unit adds to each tile's sums what the blocks before gave (`dchw.lowering.broadcast`).
- With bands outermost, a band of the input that fits its room stays for all parts; weights are fetched once a band.
  With parts outermost, a part stays for all bands, and the input is fetched once a part, unless all of it fits. What
  streams needs little room, and what stays is not fetched ahead: it may take all that tensors and sums leave.
- Parts of a layer with groups of channels read the channels of their own groups. Groups of fewer rows than elements are
  worked side by side, and a queue holds the pixels of all rows of its element (`dchw.machines.units.pe_array`).
- An input that the layer before left on the chip costs nothing. Bands of a convolution overlap by the rows that its
  kernel reaches over; the overlap is fetched again.

Among all of these the one with the fewest DRAM bytes is taken, among equals the one with the fewest cycles. Bytes are
whole bursts, as they cross. Blocks of columns that decode units go through make them work again for every narrow tile,
and units wait for one another at the end of each: they are taken only where bytes times cycles fall clearly (`WORTH`).
`simple_choice` is the order to beat: all rows that fit the weight SRAM, tiles as wide as the array takes them,
and weights again for every tile where they do not fit.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from dchw.machines.loop_order import order_for
from dchw.machines.machine import Machine
from dchw.mapping.inputs import BandsRead, input_rows
from dchw.mapping.orders import Cost, Demand, Explanation, LoopChoice, Stays
from dchw.mapping.rooms import behind_blocks, block_room, input_blocks, resident_room, table_room
from dchw.mapping.tiling import Sums, groups_side_by_side
from dchw.quantities import DchwError, ceil_div

WORTH = 15 / 16
"""Bytes times cycles of blocks of columns that are decoded, over those of whole columns, from which they are taken: the
estimate of cycles leaves out what they cost at their ends, a tenth of a layer's time in ViT-B/16 on `phone-lpddr4x`."""


class LoopSearch:
    """The orders of one layer's loops on a machine, and what each costs."""

    def __init__(self, demand: Demand, machine: Machine) -> None:
        self.demand = demand
        self._given = order_for(demand.name, machine.mapping)
        self._array = machine.pe_array
        self._weight_room = resident_room(machine, decoded=demand.decoded)
        self._block_room = block_room(machine, decoded=demand.decoded) - demand.part_chunk_bytes
        self._table_room = table_room(machine, decoded=demand.decoded)
        self._request = machine.dma.request_bytes
        self._room = input_blocks(machine, demand.held_bytes) * self._request
        self._least_room = max(behind_blocks(machine) * self._request, demand.input_bytes if demand.input_kept else 0)
        self._sum_bits = machine.formats.accumulators.bits
        self._burst = machine.dram.burst_bytes
        self._bus = machine.dram.peak_bytes_per_cycle(machine.clock_hz)
        self._vector = machine.vector.values_per_cycle
        geometry = demand.geometry
        self._rows = input_rows(geometry, demand.batch, demand.input_bytes, machine.formats.activations.bits)
        # a part holds whole groups, or whole rows of all elements
        self._unit = geometry.out_channels // geometry.groups if geometry.groups > 1 else self._array.elements
        self._steps = ceil_div(geometry.out_channels, self._unit)
        self._part_weights: dict[int, int] = {}
        self._tile_cycles: dict[tuple[int, int, int], float] = {}

    def best(self) -> LoopChoice:
        """The order with the fewest DRAM bytes, then cycles, then parts and blocks."""
        return self.explain().choice

    def explain(self) -> Explanation:
        """The best order beside the simple one and the least that any order must move."""
        found = [(self.cost(choice), choice) for choice in self.choices()]
        if not found:
            raise self._nothing_fits()
        cost, choice = self._least(found)
        rows = self.demand.geometry.out_channels
        return Explanation(
            layer=self.demand.name,
            choice=choice,
            cost=cost,
            simple=self.cost(self.simple()),
            least_bytes=self._weights(rows) + self._whole_bursts(self._rows.read),
            considered=len(found),
            given=tuple(self._given.given),
        )

    def _least(self, found: Sequence[tuple[Cost, LoopChoice]]) -> tuple[Cost, LoopChoice]:
        """Fewest bytes, then cycles; blocks that decode units go through only where time is worth the bytes saved."""
        least = min(found, key=_order)
        whole = [pair for pair in found if pair[1].blocks == 1]
        if not self.demand.coded or least[1].blocks == 1 or not whole:
            return least
        other, _ = min(whole, key=_order)
        most = other.dram_bytes * other.cycles * WORTH
        return min((pair for pair in found if pair[1].blocks == 1 or pair[0].dram_bytes * pair[0].cycles <= most),
                   key=_order)  # fmt: skip

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
                    for blocks, sums in self._cuts(rows, min(band * tile, pixels), one_tile=band == 1):
                        stays = blocks == 1 and self._part_bytes(rows) <= self._weight_room
                        for bands_outermost in self._orders(rows, band >= tiles):
                            if band < tiles and not bands_outermost and stays and not self._given.given:
                                continue  # what stays for a band stays for the next: one band
                            yield LoopChoice(
                                part_rows=rows,
                                tile=tile,
                                band_tiles=band,
                                blocks=blocks,
                                sums=sums,
                                bands_outermost=bands_outermost,
                            )

    def cost(self, choice: LoopChoice) -> Cost:
        """DRAM bytes of weights, inputs and sums, and cycles, of one order."""
        demand, blocks = self.demand, choice.blocks
        rows, pixels = demand.geometry.out_channels, demand.pixels
        parts, rest = divmod(rows, choice.part_rows)
        bands = ceil_div(pixels, choice.band_tiles * choice.tile)
        cut = (blocks - 1) * self._whole_bursts(demand.cut_bytes)
        weights = parts * (self._weights(choice.part_rows) + cut) + (self._weights(rest) + cut if rest else 0)
        array = sum(count * self._band_cycles(choice, size) for size, count in self._band_sizes(choice))
        sums = self._dram_sums(choice, parts, rest) if choice.sums is Sums.DRAM else 0
        inputs = self._input_bytes(choice, parts + (rest > 0), bands)
        turns = 2 * blocks - 1 if choice.sums is not Sums.ACCUMULATORS else 1
        vector = rows * pixels * turns / self._vector
        cycles = max((parts + (rest > 0)) * array, vector, (weights * bands + inputs + sums) / self._bus)
        return Cost(weight_bytes=weights * bands, input_bytes=inputs, sum_bytes=sums, cycles=cycles)

    def bands(self, choice: LoopChoice) -> list[tuple[int, int]]:
        """(first pixel, end) of every band."""
        step = choice.band_tiles * choice.tile
        return [(at, min(at + step, self.demand.pixels)) for at in range(0, self.demand.pixels, step)]

    def band_bytes(self, first: int, end: int) -> int:
        """Bytes of the input that pixels ``first`` to ``end`` read: whole input rows, the kernel's reach included."""
        return self._rows.of(first, end)

    def _bands_read(self, choice: LoopChoice) -> BandsRead:
        return self._rows.bands(choice.band_tiles * choice.tile, self._burst)

    def input_room(self, choice: LoopChoice) -> int:
        """Bytes of the activation SRAM for the input: what tensors and waiting sums leave."""
        if choice.sums is not Sums.SRAM:
            return self._room
        pixels = min(choice.band_tiles * choice.tile, self.demand.pixels)
        return (self._room - self._sum_bytes(choice.part_rows, pixels)) // self._request * self._request

    def input_stays(self, choice: LoopChoice) -> Stays:
        """How much of the input stays on the chip once it is fetched."""
        if choice.part_rows >= self.demand.geometry.out_channels or self.demand.geometry.groups > 1:
            return Stays.NOTHING  # nothing reads it again
        room = self.input_room(choice)
        if self.demand.input_bytes <= room:
            return Stays.WHOLE
        if not choice.bands_outermost:
            return Stays.NOTHING
        return Stays.BAND if self._bands_read(choice).largest <= room else Stays.NOTHING

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

    def _input_bytes(self, choice: LoopChoice, parts: int, bands: int) -> int:
        whole, stays = self.demand.input_bytes, self.input_stays(choice)
        if stays is Stays.WHOLE or whole == 0:
            return self._whole_bursts(whole)
        if stays is Stays.BAND:
            return self._bands_read(choice).bytes
        grouped = self.demand.geometry.groups > 1
        pieces = parts * bands
        # every stage fetches its share, in whole bursts
        share = ceil_div(whole, pieces if grouped else bands)
        return self._whole_bursts(share) * pieces

    def _weights(self, rows: int) -> int:
        """Bytes of whole bursts that fetch a part of so many rows once; many orders have the same parts."""
        known = self._part_weights.get(rows)
        if known is None:
            known = self._part_weights[rows] = self._weights_once(rows)
        return known

    def _weights_once(self, rows: int) -> int:
        demand, of = self.demand, self.demand.geometry.out_channels
        plain = demand.weight_bytes - demand.table_bytes - demand.row_table_bytes
        tables = demand.table_bytes + ceil_div(demand.row_table_bytes * rows, of)
        regions = demand.chunk_regions or (plain,)
        return self._whole_bursts(tables) + sum(self._whole_bursts(ceil_div(size * rows, of)) for size in regions)

    def _whole_bursts(self, size: int) -> int:
        return ceil_div(size, self._burst) * self._burst

    def _band_sizes(self, choice: LoopChoice) -> list[tuple[int, int]]:
        """(pixels, bands of so many): all of one size but the last."""
        count, rest = divmod(self.demand.pixels, choice.band_tiles * choice.tile)
        return [(choice.band_tiles * choice.tile, count), (rest, 1)] if rest else [(self.demand.pixels // count, count)]

    def _band_cycles(self, choice: LoopChoice, pixels: int) -> float:
        """Cycles of the array for one part and a band of so many pixels."""
        total = 0.0
        for size, count in ((choice.tile, pixels // choice.tile), (pixels % choice.tile, 1)):
            if size and count:
                total += count * self._cycles_of_tile(choice.part_rows, size, choice.blocks - 1)
        return total

    def _cycles_of_tile(self, rows: int, pixels: int, again: int) -> float:
        """Of one tile; orders that differ in their bands have the same tiles."""
        known = self._tile_cycles.get((rows, pixels, again))
        if known is None:
            known = self.demand.cycles(rows, pixels) + again * self.demand.turn_cycles(rows, pixels)
            self._tile_cycles[rows, pixels, again] = known
        return known

    def _sum_bytes(self, rows: int, pixels: int) -> int:
        return ceil_div(rows * pixels * self._sum_bits, 8)

    def _dram_sums(self, choice: LoopChoice, parts: int, rest: int) -> int:
        """Partial sums written and read again, tile by tile in whole bursts."""
        total = 0
        for size, count in self._band_sizes(choice):
            for tile, tiles in ((choice.tile, size // choice.tile), (size % choice.tile, 1)):
                if tile and tiles:
                    one = parts * self._whole_bursts(self._sum_bytes(choice.part_rows, tile))
                    one += self._whole_bursts(self._sum_bytes(rest, tile))
                    total += count * tiles * one
        return 2 * (choice.blocks - 1) * total

    def _parts(self) -> list[int]:
        rows, given = self.demand.geometry.out_channels, self._given.part_rows
        if given is not None:
            return [min(given, rows)] if given >= rows or given % self._unit == 0 else []
        sizes = [min(steps * self._unit, rows) for steps in _shares(self._steps)]
        return [size for size in sizes if self._tables_fit(size)]

    def _tables_fit(self, rows: int) -> bool:
        demand = self.demand
        tables = demand.table_bytes + ceil_div(demand.row_table_bytes * rows, demand.geometry.out_channels)
        return tables <= self._table_room

    def _cuts(self, rows: int, pixels: int, *, one_tile: bool) -> Iterator[tuple[int, Sums]]:
        """(blocks of columns of a part, where the sums of a band of so many pixels wait), all that is worth trying."""
        size, given = self._part_bytes(rows), self._given.column_blocks
        wanted = None if self._given.partial_sums is None else Sums(self._given.partial_sums)
        if given in (None, 1) and (size <= self._weight_room or one_tile):
            if wanted in (None, Sums.ACCUMULATORS):
                yield 1, Sums.ACCUMULATORS
            if wanted is None or given == 1:
                return
        columns = self.demand.geometry.columns
        if not self.demand.cuttable or self._block_room <= 0:
            return
        blocks = max(ceil_div(size, self._block_room), 2) if given is None else given
        if not ceil_div(size, self._block_room) <= blocks <= columns:
            return
        allowed = []
        if ceil_div(rows, self._array.elements) * pixels <= self._array.accumulators:
            allowed.append(Sums.ACCUMULATORS)
        if self.demand.geometry.groups == 1:  # a column of one group adds to no sum of another
            if self._sum_bytes(rows, pixels) <= self._room - self._least_room:
                allowed.append(Sums.SRAM)
            allowed.append(Sums.DRAM)
        if wanted is not None:
            allowed = [sums for sums in allowed if sums is wanted]
        elif Sums.ACCUMULATORS in allowed:
            allowed = [Sums.ACCUMULATORS]  # nothing is moved for sums that wait where they were made
        for sums in allowed:
            yield blocks, sums

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

    def _nothing_fits(self) -> DchwError:
        if not self._tables_fit(min(self._unit, self.demand.geometry.out_channels)):
            return DchwError(
                f"layer {self.demand.name!r}: expected room for its tables beside the weights of {self._unit} rows, at "
                f"most {self._table_room:,} B; its codebooks, code tables and chunk tables take more; raise "
                "weight_sram.size_bytes, or dma.staging_bytes where weights are decoded at load"
            )
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


def _order(pair: tuple[Cost, LoopChoice]) -> tuple[float, ...]:
    cost, choice = pair
    return (*cost.key, -choice.part_rows, choice.blocks, -choice.tile)


def _shares(count: int) -> list[int]:
    """Sizes of the pieces when ``count`` things are cut into 1, 2, 3, .. pieces, without repetition."""
    out: list[int] = []
    pieces = 1
    while pieces <= count:
        size = ceil_div(count, pieces)
        out.append(size)
        pieces = ceil_div(count, size - 1) if size > 1 else count + 1
    return out
