"""Array of P processing elements with V lanes each; output row r belongs to element ``r mod P``.

    activations (one matrix column, a tile of up to ``tile`` output pixels) -> broadcast -> queue of depth D per element
    entries of that column -> multiply in V lanes -> accumulators -> drained once per pass

Sparse mode: an element works one entry at a time, in as many cycles as the tile has groups of V pixels with a
non-zero activation (at least one). A broadcast column in which an element has no entry costs it one cycle. Columns
whose activations are all zero are not broadcast. Two successive entries of an element for the same row need
``hazard_cycles`` between them when its accumulators have no bypass.
Dense mode (weights without positions): all elements work a column in lockstep; lanes that the tile leaves free take
further rows, so that no multiplier idles for lack of pixels: a column of R rows and n pixels takes
``ceil(R / (P x max(1, floor(V / n))))`` cycles per group of V pixels. Every pass costs ``fill_cycles`` more. Zero
activations are multiplied like others, unless ``dense_zeros`` says that the machine skips columns of them.
Groups of channels with fewer rows than there are elements (depthwise layers) are worked side by side as one product:
each column is broadcast for all of them, each group's activations to the elements that hold its rows, at the rate at
which the activation SRAM reads. A queue then holds the activations of all groups of its element, so that rows per
element x pixels are at most ``tile``; lanes are skipped where all groups are zero.
After the last column of a pass an element hands over its accumulators, V a cycle.
Moving operands and sums over the array costs energy per bit (`dchw.technology.array_wires`) and no time beyond the
broadcast's; fan-out to the lanes of one element, and operands of products of two activations, are left out.
Not modelled: partial sums leaving the element before a pass ends.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from enum import StrEnum
from typing import ClassVar, Literal

from pydantic import Field

from dchw.config import NonNegative, Positive
from dchw.formats import Need
from dchw.machines.silicon import NumberFormat, NumberFormats
from dchw.machines.units.unit import Count, Direction, Port, Setting, Unit, UnitCosts
from dchw.program.flow import Flow
from dchw.quantities import ceil_div
from dchw.technology.array_wires import array_transfer, broadcast_take
from dchw.technology.building_blocks import Parts, Structure, Table
from dchw.technology.figure import Figure, combine
from dchw.technology.structures import entry_fetch, fifo, index_accumulator, mac, merged, register_file
from dchw.vocabulary import Event, Stream


class DenseZeros(StrEnum):
    """What happens to columns of zero activations while weights without positions are worked."""

    MULTIPLIED = "multiplied"  # a plain dense array looks at no value
    SKIPPED = "skipped"  # activations are looked at before they are broadcast, as for sparse weights


class PeArray(Unit):
    """Parameters of the array."""

    label: ClassVar[str] = "PE array"
    resource: ClassVar[str] = "array"

    elements: Positive = Field(le=1 << 14)
    """Processing elements; output row r belongs to element r mod ``elements``."""
    lanes: Positive = Field(default=1, le=1 << 16)
    """Multiply-accumulators of one element, a pixel each."""
    queue_depth: Positive = Field(default=8, le=1 << 16)
    """Broadcast columns that may wait in front of each element."""
    queue_store: Literal["registers", "sram"] | None = None
    """What queues of columns are built of; left out, whichever takes less energy at the queue's size."""
    tile: Positive = Field(default=1, le=1 << 24)
    """Most output pixels (or batch columns) that one entry is multiplied with; below ``lanes`` some lanes stay idle."""
    accumulators: Positive = Field(default=256, le=1 << 24)
    """Accumulators of one element: rows x pixels of a pass must fit."""
    accumulator_store: Literal["registers", "sram"] | None = None
    """What accumulators are built of; left out, registers up to 64 words a lane and SRAM from there on."""
    activation_registers: NonNegative = Field(default=0, le=1 << 16)
    """Words of activations an element keeps in registers in front of the activation SRAM (EIE's source file). They
    cost area, leakage and clock; reads are priced as the SRAM's, which is an upper bound."""
    hazard_cycles: NonNegative = Field(default=0, le=1 << 10)
    """Cycles between two entries of an element for the same row, where accumulators have no bypass."""
    also_multiplies: tuple[NumberFormats, ...] = Field(default=(), max_length=8)
    """Arithmetic that elements have besides the machine's ``formats``, such as ``int8xint8->int32``: each with its own
    multipliers beside the others, one result a lane and cycle. A storage format of integers is multiplied in the
    first integer one; all others in ``formats``."""
    dense_zeros: DenseZeros = DenseZeros.MULTIPLIED
    """What a dense pass does with columns of zero activations: multiply them, or skip them as for sparse weights."""
    fill_cycles: NonNegative | None = Field(default=None, le=1 << 20)
    """Cycles that every dense pass loses to filling and draining the array. Default: ``elements + lanes - 2``, the
    cycles by which operands that go from neighbour to neighbour reach the last multiplier of a grid later than the
    first, as systolic arrays have it and SCALE-Sim counts it (Samajdar et al., arXiv 1811.02883). An array that
    broadcasts to all multipliers at once has 0."""

    @property
    def dense_fill(self) -> int:
        """Cycles of filling and draining in a dense pass."""
        return self.elements + self.lanes - 2 if self.fill_cycles is None else self.fill_cycles

    @property
    def macs_per_cycle(self) -> int:
        """Multiply-accumulates a cycle."""
        return self.elements * self.lanes

    def lane_groups(self, pixels: int) -> int:
        """Cycles one entry takes for so many pixels, none of them skipped."""
        return ceil_div(pixels, self.lanes)

    def dense_cycles(self, rows: int, pixels: int) -> int:
        """Cycles of one column of a dense product per group of lanes."""
        spread = max(1, self.lanes // pixels)
        return ceil_div(rows, self.elements * spread)

    def drain_cycles(self, rows: int, pixels: int) -> int:
        """Cycles in which one element hands over the sums of ``rows`` rows."""
        return max(1, rows * ceil_div(pixels, self.lanes))

    def links(self, setting: Setting) -> Mapping[str, Port]:
        """Columns of activations and tables in; chunks, or what decode units hand over; sums out."""
        decoded, word = Need.DECODER in setting.needs, setting.weight_word_bits
        if decoded and setting.decode_at_use:
            name, bits = ("entries" if setting.positions else "steps"), setting.entry_bits
        else:
            name, bits = ("decoded chunks" if decoded else "chunks"), word
        columns, sums = self.lanes * setting.formats.activations.bits, self.lanes * setting.formats.accumulators.bits
        tables = {} if decoded else {"tables": Port(direction=Direction.IN, bits=word)}
        return {
            name: Port(direction=Direction.IN, bits=bits, copies=self.elements),
            **tables,
            "columns": Port(direction=Direction.IN, bits=columns),
            "sums": Port(direction=Direction.OUT, bits=sums, copies=self.elements),
        }

    def counts(self, flow: Flow, setting: Setting) -> Iterator[Count]:
        """Products and accumulations; an addition to a row index per entry; columns through the queues; bits moved over
        the array: activations broadcast, and taken by elements, entries to the one that works them, sums out."""
        yield Count(event=Event.MAC, count=flow.products + flow.activation_products)
        yield Count(event=Event.ACCUMULATOR_ACCESS, count=flow.products + flow.outputs)
        if Need.INDEX in setting.needs:
            yield Count(event=Event.INDEX_ACCUMULATE, count=flow.entries, stream=Stream.GAPS)
        yield Count(event=Event.QUEUE_WRITE, count=flow.queued, stream=Stream.ACTIVATIONS)
        yield Count(event=Event.QUEUE_READ, count=flow.queued, stream=Stream.ACTIVATIONS)
        for stream, bits in flow.array_bits.items():
            if stream is Stream.ACTIVATIONS or self.weights_cross(setting):
                yield Count(event=Event.ARRAY_TRANSFER, count=bits, stream=stream)
        sums = flow.outputs * setting.formats.accumulators.bits
        yield Count(event=Event.ARRAY_TRANSFER, count=sums, stream=Stream.OUTPUTS)
        yield Count(event=Event.BROADCAST_TAKE, count=flow.taken_bits, stream=Stream.ACTIVATIONS)

    def weights_cross(self, setting: Setting) -> bool:
        """Whether entries move over the array's wires: not where every element has a decode unit, or a bank of the
        weight SRAM, of its own beside it, as in EIE."""
        at_use = Need.DECODER in setting.needs and setting.decode_at_use
        return (setting.decode_units if at_use else setting.weight_banks) < setting.elements

    def costs(self, parts: Parts, setting: Setting) -> UnitCosts:
        """Per element a queue, ``lanes`` multiply-accumulators and accumulator memories, and an index where needed.

        A queue holds ``queue_depth`` tiles, one word per group of lanes, in flip-flops or in a small SRAM, whichever
        takes less energy (``dchw.technology.structures.fifo``); in lockstep one queue serves all elements. Multiplying
        in floating point needs operands of one width, the wider one. Elements that read stored entries themselves hold
        a word of them and pick one a cycle. A running index tells an element's accumulators apart.
        Where several kinds of arithmetic are built, each has its multipliers, and queues and accumulators are as wide
        as the widest.
        """
        formats, lockstep = setting.formats, not setting.positions
        indexed = Need.INDEX in setting.needs
        multiplier = _multiplier(parts, formats)
        others = [_multiplier(parts, other) for other in setting.also_built]
        queue = fifo(
            parts,
            depth=self.queue_depth * self.lane_groups(self.tile),
            bits=self.lanes * formats.activations.bits,
            store=self.queue_store,
        )
        sums = self._accumulator_table(parts, formats.accumulators.bits)
        memory = parts.structure({}, tables=(sums,), path=(sums.delay_ns,), register_bits=0)
        index = index_accumulator(parts, bits=max(1, (self.accumulators - 1).bit_length()))
        lanes = self.lanes * self.elements
        blocks = [(multiplier, lanes), (memory, lanes), (queue, 1 if lockstep else self.elements)]
        blocks += [(other, lanes) for other in others]
        blocks += [(index, self.elements)] * indexed
        if self.activation_registers:
            held = register_file(parts, entries=self.activation_registers, bits=formats.activations.bits)
            blocks.append((held, self.elements))
        reading = indexed and not (Need.DECODER in setting.needs and setting.decode_at_use)
        fetch = entry_fetch(parts, word_bits=setting.weight_word_bits, entry_bits=setting.entry_bits)
        whole = merged(parts, blocks + [(fetch, self.elements)] * reading, {})
        energy: dict[str, Figure] = {
            Event.QUEUE_WRITE: queue.energy_pj["push"],
            Event.QUEUE_READ: queue.energy_pj["pop"],
            Event.MAC: multiplier.energy_pj["mac"],
            Event.ACCUMULATOR_ACCESS: sums.read_pj + sums.write_pj,
            Event.ARRAY_TRANSFER: array_transfer(parts, whole.area_mm2.nominal),
            Event.BROADCAST_TAKE: broadcast_take(parts, self.elements, whole.area_mm2.nominal),
        }
        if indexed:
            picked = (fetch.energy_pj["entry_select"],) * reading
            energy[Event.INDEX_ACCUMULATE] = combine((index.energy_pj["index_accumulate"], *picked))
        return UnitCosts(
            energy_pj=energy,
            leakage_mw=whole.leakage_mw,
            area_mm2=whole.area_mm2,
            clock_pj=whole.clock_pj,
            delay_ns=whole.delay_ns,
        )

    def _accumulator_table(self, parts: Parts, bits: int) -> Table:
        """One lane's accumulators."""
        words = ceil_div(self.accumulators, self.lanes)
        match self.accumulator_store:
            case "registers":
                return parts.register_table(words, bits)
            case "sram":
                return parts.macro_table(parts.sram(ceil_div(words * bits, 8), bits))
            case None:
                return parts.table(words, bits)


def _multiplier(parts: Parts, formats: NumberFormats) -> Structure:
    """One multiply-accumulator of a lane, priced by the silicon's logic family."""
    floating = formats.weights in (NumberFormat.FLOAT16, NumberFormat.FLOAT32)
    return mac(
        parts,
        weight_bits=formats.weights.bits,
        activation_bits=formats.activations.bits,
        accumulator_bits=formats.accumulators.bits,
        number_format="float" if floating else "integer",
    )
