"""What a layer in one storage format asks of a machine, from what packing made of it."""

from __future__ import annotations

from dchw.compression.compressed import CompressedLayer
from dchw.formats import Need, PackedLayer, StorageFormat, storage_format
from dchw.machines.machine import Machine
from dchw.machines.units.huffman_decoder import Placement
from dchw.mapping.crossing_tensors import InputSource
from dchw.mapping.orders import Demand
from dchw.mapping.tiling import groups_side_by_side
from dchw.quantities import ceil_div
from dchw.vocabulary import Stream


def demand_of(layer: CompressedLayer, packed: PackedLayer, machine: Machine, batch: int, source: InputSource) -> Demand:
    """The demand of a whole layer; cycles are estimates that order choices of equal traffic."""
    form, geometry = storage_format(packed.storage), layer.geometry
    array, sram = machine.pe_array, machine.activation_sram
    side = groups_side_by_side(geometry, array.elements)
    jobs = geometry.columns * (1 if side else geometry.groups)
    coded = Need.DECODER in form.needs
    decoded = coded and machine.huffman.placement is Placement.LOAD
    bits = machine.formats.activations.bits
    rows_of_group = geometry.out_channels // geometry.groups
    entries_a_row = packed.entries / geometry.out_channels

    def cycles(rows: int, pixels: int) -> float:
        groups = array.lane_groups(pixels)
        broadcast = jobs * rows / geometry.out_channels if geometry.groups > 1 and not side else jobs
        feed = sram.feed_cycles(array.lanes, bits, ceil_div(rows, rows_of_group) if side else 1)
        if form.positions:
            work = max(entries_a_row * rows / min(array.elements, rows), jobs / groups) * groups
        else:
            work = broadcast * groups * array.dense_cycles(rows if side else min(rows, rows_of_group), pixels)
            work += array.dense_fill
        if coded and not decoded:
            work = max(work, entries_a_row * rows / machine.huffman.units)
        return max(work, broadcast * groups * feed) + drain(rows, pixels)

    def drain(rows: int, pixels: int) -> float:
        return float(array.drain_cycles(ceil_div(rows, array.elements), pixels))

    def turn(rows: int, pixels: int) -> float:
        return drain(rows, pixels) + (0 if form.positions else array.dense_fill)

    sizes = packed.packed_bytes
    shared = {Stream.CODE_TABLES, *({Stream.CODEBOOKS} if Need.CODEBOOK in form.needs else ())}
    repeated = sum(sizes[stream] for stream in packed.tables if stream in shared)
    return Demand(
        name=layer.name,
        geometry=geometry,
        batch=batch,
        weight_bytes=packed.total_bytes,
        table_bytes=repeated,
        row_table_bytes=packed.table_bytes - repeated,
        chunk_regions=tuple(sizes[stream] for stream in packed.chunk_bytes),
        resident_bytes=_decoded_bytes(packed, form, layer, array.elements) if decoded else packed.total_bytes,
        decoded=decoded,
        input_bytes=source.fetched_bytes,
        input_kept=source.kept,
        held_bytes=source.held_bytes,
        coded=coded and not decoded,
        cut_bytes=_cut_bytes(packed, machine) if coded else 0,
        part_chunk_bytes=_chunk_bytes(packed, form, machine) if decoded else 0,
        cycles=cycles,
        turn_cycles=turn,
    )


def _cut_bytes(packed: PackedLayer, machine: Machine) -> int:
    """Bytes that one more band of columns takes at most: a chunk more for each section, with its row of the chunk table
    and what its streams begin at a byte for."""
    widths = packed.parameters.chunk_table_widths
    row = ceil_div(sum(widths), 8) if widths else ceil_div(packed.packed_bytes[Stream.CHUNK_TABLES], packed.chunks)
    return packed.shape.sections * (row + len(packed.chunk_bytes))


def _chunk_bytes(packed: PackedLayer, form: StorageFormat, machine: Machine) -> int:
    """A decoded chunk of every decode unit."""
    return machine.huffman.units * ceil_div(machine.huffman.chunk_entries * form.entry_bits(packed), 8)


def _decoded_bytes(packed: PackedLayer, form: StorageFormat, layer: CompressedLayer, elements: int) -> int:
    """Entries at fixed width and column starts, each as wide as the most entries of a column in an element ask for."""
    geometry = layer.geometry
    rows, jobs = geometry.out_channels // geometry.groups, geometry.columns * geometry.groups
    if groups_side_by_side(geometry, elements):
        rows, jobs = geometry.out_channels, geometry.columns
    starts = jobs * min(elements, rows) * ceil_div(rows, elements).bit_length()
    return ceil_div(packed.entries * form.entry_bits(packed) + (starts if form.positions else 0), 8)
