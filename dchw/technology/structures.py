"""Decode units, codebooks, accumulators, queues and multipliers from their structure, so that size is cost.

Arguments are plain numbers. Each block names its events; ``Structure`` says what else it gives. A decoder with twice
the table costs what twice the table costs. Not modelled: control state machines, test logic, set-up and
clock-to-output times.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from types import MappingProxyType

from dchw.quantities import DchwError, nearest
from dchw.technology.banks import banked
from dchw.technology.building_blocks import Parts, Structure, Table, at_least
from dchw.technology.figure import Figure, combine, slowest
from dchw.technology.logic import Block
from dchw.technology.sram_table import has_ports

DECODE_STYLES = ("bit_serial", "table", "multi_symbol")
NUMBER_FORMATS = ("integer", "float")
QUEUE_RATE = 0.5
"""Pushes and pops a cycle at which the two ways to build a queue are weighed (assumed): what is taken out is worked on
for some cycles, in which flip-flops are clocked all the same."""
QUEUE_PORTS = "1R1W"
SMALLEST_QUEUE_MACRO_BYTES, FEWEST_QUEUE_MACRO_WORDS = 256, 32
"""Of the macros of such ports in the table, what the smallest hold; a smaller queue uses a part of one."""
WIDEST_QUEUE_MACRO_BITS = 128
"""Width of the widest macro with a read and a write port in the table; narrower words than 8 bits are padded."""
LARGEST_QUEUE_MACRO_BYTES = 1 << 16
"""Size of the largest of them; a longer queue is several, one of which is accessed at a time."""
ADDRESS_BITS = 14
"""Words an element addresses: 128 KiB of 64 bits, EIE's share of its weight memory."""


def fifo(parts: Parts, *, depth: int, bits: int, store: str | None = None) -> Structure:
    """Queue with a write and a read pointer: events ``push`` and ``pop``.

    Its words are flip-flops, which take little to access but are clocked in every cycle, or a small SRAM that is
    written and read in one cycle, with words side by side where one is wider than a macro. ``store`` says which
    (``registers``, ``sram``); left out, it is whichever takes less energy at ``QUEUE_RATE``. Both take more the longer
    the queue, hence so does the cheaper one.
    """
    at_least("fifo", "depth", depth, 1)
    at_least("fifo", "bits", bits, 1)
    pointer_bits = max(1, (depth - 1).bit_length())
    words, counter = _queue_words(parts, depth, bits, store), parts.logic.count(pointer_bits)
    return parts.structure(
        {"push": words.write_pj + counter.energy_pj, "pop": words.read_pj + counter.energy_pj},
        blocks=(counter, counter),
        tables=(words,),
        path=(words.delay_ns,),
        register_bits=2 * pointer_bits,
    )


def _queue_words(parts: Parts, depth: int, bits: int, store: str | None) -> Table:
    if store == "registers":
        return parts.register_table(depth, bits)
    if store is None and not has_ports(parts.cell, QUEUE_PORTS):
        return parts.register_table(depth, bits)
    macros = _queue_macros(parts, depth, bits)
    if store == "sram":
        return macros
    return min((parts.register_table(depth, bits), macros), key=lambda table: queue_cycle_pj(parts, table))


def queue_cycle_pj(parts: Parts, table: Table) -> float:
    """Energy a cycle of a queue's words at ``QUEUE_RATE`` pushes and pops, their clock and leakage included."""
    logic_area = max(0.0, table.area_mm2.nominal - math.fsum(macro.area_mm2 for macro in table.macros))
    clock = parts.clock(table.register_bits, logic_area, len(table.macros))
    leakage = table.leakage_mw.nominal * parts.logic.clock_period_ns  # mW x ns = pJ
    return QUEUE_RATE * (table.read_pj.nominal + table.write_pj.nominal) + clock.nominal + leakage


def _queue_macros(parts: Parts, depth: int, bits: int) -> Table:
    copies = math.ceil(bits / WIDEST_QUEUE_MACRO_BITS)
    width = max(8, math.ceil(bits / copies))
    size = max(SMALLEST_QUEUE_MACRO_BYTES, math.ceil(max(depth, FEWEST_QUEUE_MACRO_WORDS) * width / 8))
    banks = math.ceil(size / LARGEST_QUEUE_MACRO_BYTES)
    macro = parts.sram(math.ceil(size / banks), width, QUEUE_PORTS)
    return parts.macro_table(banked(macro, banks)).side_by_side(copies)


def entry_fetch(parts: Parts, *, word_bits: int, entry_bits: int) -> Structure:
    """A word of stored entries in a register, its address, and the entry picked out of it: event ``entry_select``.

    Every entry is picked and registered; the word and its address change once per word, so an entry pays its share.
    """
    at_least("entry fetch", "word bits", word_bits, 1)
    at_least("entry fetch", "entry bits", entry_bits, 1)
    word, address = parts.logic.register(word_bits), parts.logic.count(ADDRESS_BITS)
    entries = max(1, word_bits // entry_bits)
    select, register = parts.logic.mux(entries, entry_bits), parts.logic.register(entry_bits)
    shared = (word.energy_pj + address.energy_pj) * (1 / entries)
    return parts.structure(
        {"entry_select": combine((select.energy_pj, register.energy_pj, shared))},
        blocks=(word, address, select, register),
        path=(select.delay_ns,),
        register_bits=word_bits + ADDRESS_BITS + entry_bits,
    )


def register_file(parts: Parts, *, entries: int, bits: int, read_ports: int = 1) -> Structure:
    """Flip-flops with a multiplexer per read port: events ``read`` and ``write``, one word each."""
    at_least("register file", "entries", entries, 1)
    at_least("register file", "bits", bits, 1)
    at_least("register file", "read ports", read_ports, 1)
    store = parts.register_table(entries, bits, ports=read_ports)
    return parts.structure(
        {"read": store.read_pj, "write": store.write_pj}, tables=(store,), path=(store.delay_ns,), register_bits=0
    )


def codebook_unit(parts: Parts, *, entries: int, value_bits: int, ports: int = 1) -> Structure:
    """Shared values by code: ``codebook_lookup`` (a read into an output register) and ``codebook_load`` (one entry)."""
    store, output = parts.table(entries, value_bits, ports=ports), parts.logic.register(value_bits)
    return parts.structure(
        {"codebook_lookup": store.read_pj + output.energy_pj, "codebook_load": store.write_pj},
        blocks=(output.times(ports),),
        tables=(store,),
        path=(store.delay_ns,),
        register_bits=value_bits * ports,
    )


def index_accumulator(parts: Parts, *, bits: int) -> Structure:
    """Running row index: adds gap + 1 per entry, event ``index_accumulate``."""
    at_least("index accumulator", "bits", bits, 1)
    adder, register = parts.logic.add(bits), parts.logic.register(bits)
    return parts.structure(
        {"index_accumulate": adder.energy_pj + register.energy_pj},
        blocks=(adder, register),
        path=(adder.delay_ns,),
        register_bits=bits,
    )


def huffman_decode_unit(
    parts: Parts,
    *,
    style: str,
    window_bits: int,
    table_entries: int,
    symbol_bits: int,
    symbols_per_cycle: int = 1,
) -> Structure:
    """One decoder of one sub-stream (gaps or codes), with its bit buffer and table.

    ``window_bits`` is the longest code that one step looks at. Events:

    - ``decode_step``: one cycle at work. ``bit_serial``: one bit (one comparison with the first code of a length, one
      subtraction); ``table``: one symbol (align, look up, add the length); ``multi_symbol``: up to
      ``symbols_per_cycle`` symbols from one table word that holds them all with their total length and count;
    - ``symbol_read``: only ``bit_serial``, the symbol fetched from the table at the end of a code;
    - ``refill``: ``window_bits`` new bits written into the buffer of twice the window;
    - ``table_load``: one table entry written.
    """
    if style not in DECODE_STYLES:
        raise DchwError(
            f"huffman decode unit: style: expected one of {', '.join(DECODE_STYLES)}; got {style!r}; "
            f"{nearest(style, DECODE_STYLES)}"
        )
    for name, value in (
        ("window bits", window_bits),
        ("table entries", table_entries),
        ("symbol bits", symbol_bits),
        ("symbols per cycle", symbols_per_cycle),
    ):
        at_least("huffman decode unit", name, value, 1)
    if symbols_per_cycle > 1 and style != "multi_symbol":
        raise DchwError(
            f"huffman decode unit: symbols per cycle: expected 1 for style {style}; got {symbols_per_cycle}; "
            "use style multi_symbol"
        )
    logic = parts.logic
    length_bits = window_bits.bit_length()
    buffer = logic.register(2 * window_bits)
    refill = combine((logic.register(window_bits).energy_pj, logic.mux(2, window_bits).energy_pj))
    if style == "bit_serial":
        return _bit_serial(parts, window_bits, table_entries, symbol_bits, buffer, refill)
    count_bits = symbols_per_cycle.bit_length() if style == "multi_symbol" else 0
    word_bits = symbols_per_cycle * symbol_bits + length_bits + count_bits
    table = parts.table(table_entries, word_bits)
    shifter, adder = logic.barrel_shift(2 * window_bits), logic.add(length_bits)
    position, output = logic.register(length_bits + 1), logic.register(symbols_per_cycle * symbol_bits + count_bits)
    step = (shifter.energy_pj, table.read_pj, adder.energy_pj, position.energy_pj, output.energy_pj)
    return parts.structure(
        {"decode_step": combine(step), "refill": refill, "table_load": table.write_pj},
        blocks=(buffer, shifter, adder, position, output, logic.mux(2, window_bits)),
        tables=(table,),
        path=(shifter.delay_ns, table.delay_ns, adder.delay_ns),
        register_bits=2 * window_bits + length_bits + 1 + symbols_per_cycle * symbol_bits + count_bits,
    )


def _bit_serial(
    parts: Parts, window_bits: int, table_entries: int, symbol_bits: int, buffer: Block, refill: Figure
) -> Structure:
    """One code bit per step: the code so far is compared with the first code of its length (canonical Huffman)."""
    logic = parts.logic
    first_codes = parts.register_table(window_bits, 2 * window_bits)
    symbols = parts.table(table_entries, symbol_bits)
    code, comparator, adder = logic.register(window_bits), logic.compare(window_bits), logic.add(window_bits)
    counter, output = logic.count(window_bits.bit_length()), logic.register(symbol_bits)
    step = (first_codes.read_pj, code.energy_pj, comparator.energy_pj, adder.energy_pj, counter.energy_pj)
    return parts.structure(
        {
            "decode_step": combine(step),
            "symbol_read": symbols.read_pj + output.energy_pj,
            "refill": refill,
            "table_load": symbols.write_pj,
        },
        blocks=(buffer, code, comparator, adder, counter, output, logic.mux(2, window_bits)),
        tables=(first_codes, symbols),
        path=(
            first_codes.delay_ns,
            slowest((comparator.delay_ns, adder.delay_ns)),
        ),
        register_bits=3 * window_bits + window_bits.bit_length() + symbol_bits,
    )


def mac(
    parts: Parts,
    *,
    weight_bits: int,
    activation_bits: int,
    accumulator_bits: int,
    number_format: str = "integer",
) -> Structure:
    """Multiplier, product register and adder: event ``mac``. Accumulators are registers of their own.

    Unequal operands cost the product of their widths; floating-point operands have one width, the wider one.
    """
    if number_format not in NUMBER_FORMATS:
        raise DchwError(
            f"mac: number format: expected one of {', '.join(NUMBER_FORMATS)}; got {number_format!r}; "
            f"{nearest(number_format, NUMBER_FORMATS)}"
        )
    for name, bits in (("weight", weight_bits), ("activation", activation_bits), ("accumulator", accumulator_bits)):
        at_least("mac", f"{name} bits", bits, 1)
    logic = parts.logic
    if number_format == "float":
        product_bits = max(weight_bits, activation_bits)
        multiplier, adder = logic.float_multiply(product_bits), logic.float_add(accumulator_bits)
    else:
        product_bits = weight_bits + activation_bits
        multiplier, adder = logic.multiply(math.sqrt(weight_bits * activation_bits)), logic.add(accumulator_bits)
    product = logic.register(product_bits)
    return parts.structure(
        {"mac": combine((multiplier.energy_pj, product.energy_pj, adder.energy_pj))},
        blocks=(multiplier, product, adder),
        path=(slowest((multiplier.delay_ns, adder.delay_ns)),),
        register_bits=product_bits,
    )


def merged(
    parts: Parts, blocks: Sequence[Structure | tuple[Structure, int]], energy_pj: Mapping[str, Figure]
) -> Structure:
    """Blocks, or blocks with a number of copies, under one clock tree, each a pipeline stage of its own.

    ``energy_pj`` names the events kept.
    """
    copies = [block if isinstance(block, tuple) else (block, 1) for block in blocks]
    bits = sum(block.register_bits * n for block, n in copies)
    macros = tuple(macro for block, n in copies for macro in block.macros * n)
    logic_area = math.fsum(block.logic_area_mm2 * n for block, n in copies)
    return Structure(
        energy_pj=MappingProxyType(dict(energy_pj)),
        area_mm2=combine(block.area_mm2 * n for block, n in copies),
        leakage_mw=combine(block.leakage_mw * n for block, n in copies),
        delay_ns=slowest(block.delay_ns for block, n in copies if n),
        clock_pj=parts.clock(bits, logic_area, len(macros)),
        register_bits=bits,
        macros=macros,
    )
