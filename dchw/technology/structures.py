"""Decode units, codebooks, accumulators, queues and processing elements from their structure, so that size is cost.

Arguments are plain numbers. Each block names its events; ``Structure`` says what else it gives. A decoder with twice
the table costs what twice the table costs. Not modelled: control state machines, test logic, set-up and
clock-to-output times.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from types import MappingProxyType

from dchw.quantities import DchwError, nearest
from dchw.technology.figure import Figure, combine, slowest
from dchw.technology.logic import Block, Logic
from dchw.technology.parts import Parts, Structure, at_least, completed, listed

DECODE_STYLES = ("bit_serial", "table", "multi_symbol")
NUMBER_FORMATS = ("integer", "float")


def fifo(parts: Parts, *, depth: int, bits: int) -> Structure:
    """Queue of flip-flops with a write and a read pointer: events ``push`` and ``pop``."""
    at_least("fifo", "depth", depth, 1)
    at_least("fifo", "bits", bits, 1)
    pointer_bits = max(1, (depth - 1).bit_length())
    store, counter = parts.register_table(depth, bits), parts.logic.count(pointer_bits)
    return parts.structure(
        {"push": store.write_pj + counter.energy_pj, "pop": store.read_pj + counter.energy_pj},
        blocks=(counter, counter),
        tables=(store,),
        path=(store.delay_ns,),
        register_bits=2 * pointer_bits,
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
        path=(listed(adder.delay_ns, "delay"),),
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
        path=(listed(shifter.delay_ns, "delay"), table.delay_ns, listed(adder.delay_ns, "delay")),
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
            slowest((listed(comparator.delay_ns, "delay"), listed(adder.delay_ns, "delay"))),
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
    arithmetic: Logic | None = None,
) -> Structure:
    """Multiplier, product register and adder: event ``mac``. Accumulators are registers of their own.

    Unequal operands cost the product of their widths; floating-point operands have one width, the wider one.
    ``arithmetic`` takes multiplier and adder from another named family than the rest; area, leakage and delay that
    it does not list come from the parts' family, and the source says so.
    """
    if number_format not in NUMBER_FORMATS:
        raise DchwError(
            f"mac: number format: expected one of {', '.join(NUMBER_FORMATS)}; got {number_format!r}; "
            f"{nearest(number_format, NUMBER_FORMATS)}"
        )
    for name, bits in (("weight", weight_bits), ("activation", activation_bits), ("accumulator", accumulator_bits)):
        at_least("mac", f"{name} bits", bits, 1)
    floating = number_format == "float"
    operand = float(max(weight_bits, activation_bits)) if floating else math.sqrt(weight_bits * activation_bits)
    product_bits = max(weight_bits, activation_bits) if floating else weight_bits + activation_bits
    own, other = arithmetic or parts.logic, parts.logic

    def block(family: Logic, multiply: bool) -> Block:
        if multiply:
            return family.float_multiply(operand) if floating else family.multiply(operand)
        return family.float_add(accumulator_bits) if floating else family.add(accumulator_bits)

    multiplier = completed(block(own, True), block(other, True), own.family)
    adder = completed(block(own, False), block(other, False), own.family)
    product = parts.logic.register(product_bits)
    return parts.structure(
        {"mac": combine((multiplier.energy_pj, product.energy_pj, adder.energy_pj))},
        blocks=(multiplier, product, adder),
        path=(slowest((listed(multiplier.delay_ns, "delay"), listed(adder.delay_ns, "delay"))),),
        register_bits=product_bits,
    )


def processing_element(
    parts: Parts,
    *,
    queue_depth: int,
    queue_bits: int,
    codebook_entries: int,
    value_bits: int,
    activation_bits: int,
    accumulator_bits: int,
    accumulators: int,
    index_bits: int,
    lanes: int = 1,
    number_format: str = "integer",
    arithmetic: Logic | None = None,
) -> Structure:
    """One PE: activation queue, codebook, row index, ``lanes`` MACs sharing a weight, accumulator registers per lane.

    Events: ``push``, ``pop`` (one queue word), ``codebook_lookup``, ``codebook_load``, ``index_accumulate``, ``mac``,
    ``accumulator_read`` and ``accumulator_write`` (one lane each).
    """
    at_least("processing element", "lanes", lanes, 1)
    queue = fifo(parts, depth=queue_depth, bits=queue_bits)
    codebook = codebook_unit(parts, entries=codebook_entries, value_bits=value_bits)
    index = index_accumulator(parts, bits=index_bits)
    multiplier = mac(
        parts,
        weight_bits=value_bits,
        activation_bits=activation_bits,
        accumulator_bits=accumulator_bits,
        number_format=number_format,
        arithmetic=arithmetic,
    )
    sums = register_file(parts, entries=accumulators, bits=accumulator_bits)
    return merged(
        parts,
        (queue, codebook, index, *(multiplier,) * lanes, *(sums,) * lanes),
        {
            **queue.energy_pj,
            **codebook.energy_pj,
            **index.energy_pj,
            **multiplier.energy_pj,
            "accumulator_read": sums.energy_pj["read"],
            "accumulator_write": sums.energy_pj["write"],
        },
    )


def merged(parts: Parts, blocks: Sequence[Structure], energy_pj: Mapping[str, Figure]) -> Structure:
    """Several blocks under one clock tree, each a pipeline stage of its own; ``energy_pj`` names the events kept."""
    bits = sum(block.register_bits for block in blocks)
    macros = tuple(macro for block in blocks for macro in block.macros)
    logic_area = math.fsum(block.logic_area_mm2 for block in blocks)
    return Structure(
        energy_pj=MappingProxyType(dict(energy_pj)),
        area_mm2=combine(block.area_mm2 for block in blocks),
        leakage_mw=combine(block.leakage_mw for block in blocks),
        delay_ns=slowest(block.delay_ns for block in blocks),
        clock_pj=parts.clock(bits, logic_area, len(macros)),
        register_bits=bits,
        macros=macros,
    )
