"""What a layer in one storage format asks of a machine, from what packing made of it."""

from __future__ import annotations

from dchw.compression.compressed import CompressedLayer
from dchw.formats import Need, PackedLayer, storage_format
from dchw.machines.machine import Machine
from dchw.machines.units.huffman_decoder import Placement
from dchw.mapping.search import Demand
from dchw.quantities import ceil_div


def demand_of(layer: CompressedLayer, packed: PackedLayer, machine: Machine, batch: int, input_bytes: int) -> Demand:
    """The demand of a whole layer; cycles are estimates that order choices of equal traffic."""
    form, geometry = storage_format(packed.storage), layer.geometry
    array, sram = machine.pe_array, machine.activation_sram
    jobs = geometry.columns * geometry.groups
    decoded = Need.DECODER in form.needs
    per_group = ceil_div(array.lanes * machine.formats.activations.bits, sram.banks * sram.word_bits)
    rows_of_group = geometry.out_channels // geometry.groups
    entries_a_row = packed.entries / geometry.out_channels

    def cycles(rows: int, pixels: int) -> float:
        groups = array.lane_groups(pixels)
        broadcast = jobs * rows / geometry.out_channels if geometry.groups > 1 else jobs
        if form.positions:
            work = max(entries_a_row * rows / min(array.elements, rows), jobs / groups) * groups
        else:
            work = broadcast * groups * array.dense_cycles(min(rows, rows_of_group), pixels)
        if decoded and machine.huffman.placement is Placement.USE:
            work = max(work, entries_a_row * rows / machine.huffman.units)
        drain = array.drain_cycles(ceil_div(rows, array.elements), pixels)
        return max(work, broadcast * groups * per_group) + drain

    tables = sum(size for stream, size in packed.packed_bytes.items() if stream not in packed.chunk_bytes)
    return Demand(
        name=layer.name,
        geometry=geometry,
        batch=batch,
        weight_bytes=packed.total_bytes,
        table_bytes=tables,
        input_bytes=input_bytes,
        cuttable=not decoded,
        cycles=cycles,
    )
