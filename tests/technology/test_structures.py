"""Composed blocks: the arithmetic of each, and that twice the structure costs twice."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import dchw
from dchw.machines.machine import preset_names
from dchw.quantities import DchwError
from dchw.technology.building_blocks import Parts
from dchw.technology.logic import Block, Logic
from dchw.technology.scaling import Scaling
from dchw.technology.structures import (
    QUEUE_RATE,
    codebook_unit,
    entry_fetch,
    fifo,
    huffman_decode_unit,
    index_accumulator,
    mac,
    merged,
    register_file,
)
from dchw.technology.wires import clock_tree

LOGIC = Logic(node_nm=45, clock_period_ns=1.25)
PARTS = Parts(logic=LOGIC, cell="itrs-lop")


def energy(block: Block) -> float:
    return block.energy_pj.nominal


def test_fifo() -> None:
    # 8 words of 28 bits: a push clocks 28 flip-flops and steps a 3-bit counter; a pop walks 3 levels of 28 gates
    queue = fifo(PARTS, depth=8, bits=28)
    assert queue.energy_pj["push"].nominal == pytest.approx(energy(LOGIC.register(28)) + energy(LOGIC.count(3)))
    assert queue.energy_pj["pop"].nominal == pytest.approx(energy(LOGIC.mux(8, 28)) + energy(LOGIC.count(3)))
    assert queue.register_bits == 8 * 28 + 2 * 3


def test_register_file_ports_share_the_registers() -> None:
    one, two = (register_file(PARTS, entries=64, bits=16, read_ports=ports) for ports in (1, 2))
    mux = LOGIC.mux(64, 16).area_mm2
    assert mux is not None
    assert two.area_mm2.nominal - one.area_mm2.nominal == pytest.approx(mux.nominal)
    assert two.register_bits == one.register_bits == 1024


def test_index_accumulator() -> None:
    unit = index_accumulator(PARTS, bits=12)
    want = energy(LOGIC.add(12)) + energy(LOGIC.register(12))
    assert unit.energy_pj["index_accumulate"].nominal == pytest.approx(want)


def test_small_codebooks_are_flip_flops_large_ones_sram() -> None:
    small, large = (codebook_unit(PARTS, entries=entries, value_bits=16) for entries in (16, 256))
    assert not small.macros
    assert small.register_bits == 16 * 16 + 16
    (macro,) = large.macros
    assert (macro.size_bytes, macro.word_bits) == (512, 16)
    assert large.register_bits == 16
    want = macro.read_energy_pj + energy(LOGIC.register(16))
    assert large.energy_pj["codebook_lookup"].nominal == pytest.approx(want)


def test_codebook_ports_cost() -> None:
    for entries in (16, 256):
        one, four = (codebook_unit(PARTS, entries=entries, value_bits=16, ports=ports) for ports in (1, 4))
        assert four.area_mm2.nominal > one.area_mm2.nominal
        assert four.energy_pj["codebook_lookup"] == one.energy_pj["codebook_lookup"]
        # SRAM copies are all written at a load, flip-flops once
        assert four.energy_pj["codebook_load"].nominal == pytest.approx(
            one.energy_pj["codebook_load"].nominal * (4 if one.macros else 1)
        )


def test_table_decoder() -> None:
    # window 12: buffer of 24 bits, length of 4 bits, table words of 8 + 4 bits
    unit = huffman_decode_unit(PARTS, style="table", window_bits=12, table_entries=4096, symbol_bits=8)
    (macro,) = unit.macros
    assert (macro.size_bytes, macro.word_bits) == (4096 * 12 // 8, 12)
    blocks = (LOGIC.barrel_shift(24), LOGIC.add(4), LOGIC.register(5), LOGIC.register(8))
    assert unit.energy_pj["decode_step"].nominal == pytest.approx(macro.read_energy_pj + sum(map(energy, blocks)))
    assert unit.energy_pj["table_load"].nominal == macro.write_energy_pj
    assert unit.register_bits == 24 + 5 + 8
    shift, add = LOGIC.barrel_shift(24).delay_ns, LOGIC.add(4).delay_ns
    assert shift is not None
    assert add is not None
    assert unit.delay_ns.nominal == pytest.approx(shift.nominal + macro.access_time_ns + add.nominal)


@pytest.mark.parametrize("style", ["bit_serial", "table"])
@pytest.mark.parametrize("entries", [1024, 2048])
def test_twice_the_table_costs_what_twice_the_table_costs(style: str, entries: int) -> None:
    single, double = (
        huffman_decode_unit(PARTS, style=style, window_bits=12, table_entries=n, symbol_bits=8)
        for n in (entries, 2 * entries)
    )
    event = "symbol_read" if style == "bit_serial" else "decode_step"
    (small,), (large,) = single.macros, double.macros
    assert double.area_mm2.nominal - single.area_mm2.nominal == pytest.approx(large.area_mm2 - small.area_mm2)
    assert double.leakage_mw.nominal - single.leakage_mw.nominal == pytest.approx(large.leakage_mw - small.leakage_mw)
    assert double.energy_pj[event].nominal - single.energy_pj[event].nominal == pytest.approx(
        large.read_energy_pj - small.read_energy_pj
    )
    assert large.area_mm2 > 1.5 * small.area_mm2


def test_multi_symbol_words_hold_all_symbols() -> None:
    one, four = (
        huffman_decode_unit(
            PARTS, style="multi_symbol", window_bits=10, table_entries=1024, symbol_bits=4, symbols_per_cycle=k
        )
        for k in (1, 4)
    )
    # 4 symbols of 4 bits, 4 bits of length, 3 bits of count
    assert four.macros[0].word_bits == 4 * 4 + 4 + 3
    assert one.macros[0].word_bits == 4 + 4 + 1
    assert four.energy_pj["decode_step"].nominal > one.energy_pj["decode_step"].nominal
    assert four.area_mm2.nominal > one.area_mm2.nominal


def test_bit_serial_steps_cost_less_than_a_table_lookup() -> None:
    serial = huffman_decode_unit(PARTS, style="bit_serial", window_bits=12, table_entries=256, symbol_bits=8)
    table = huffman_decode_unit(PARTS, style="table", window_bits=12, table_entries=4096, symbol_bits=8)
    assert serial.energy_pj["decode_step"].nominal < table.energy_pj["decode_step"].nominal
    assert serial.area_mm2.nominal < table.area_mm2.nominal


def test_mac_of_one_family() -> None:
    # 16 x 16 into 32 bits: multiplier, 32-bit product register, 32-bit adder; the stages run in parallel
    unit = mac(PARTS, weight_bits=16, activation_bits=16, accumulator_bits=32)
    blocks = (LOGIC.multiply(16), LOGIC.register(32), LOGIC.add(32))
    assert unit.energy_pj["mac"].nominal == pytest.approx(sum(map(energy, blocks)))
    delays = [block.delay_ns.nominal for block in (blocks[0], blocks[2])]
    assert unit.delay_ns.nominal == pytest.approx(max(delays))


def test_unequal_operands_cost_the_product_of_their_widths() -> None:
    narrow = mac(PARTS, weight_bits=4, activation_bits=16, accumulator_bits=32).energy_pj["mac"].nominal
    square = mac(PARTS, weight_bits=8, activation_bits=8, accumulator_bits=32).energy_pj["mac"].nominal
    # both multiply 64 bit products; their product registers are 20 and 16 bits
    assert narrow - square == pytest.approx(4 * energy(LOGIC.register(1)))


def test_mac_of_a_family_that_lists_no_register() -> None:
    parts = replace(PARTS, logic=Logic(family="horowitz-45nm", node_nm=45))
    unit = mac(parts, weight_bits=8, activation_bits=8, accumulator_bits=32)
    assert unit.energy_pj["mac"].nominal == pytest.approx(0.2 + 0.1 + energy(LOGIC.register(16)))
    assert "Horowitz" in unit.energy_pj["mac"].source
    assert "horowitz-45nm lists none" in unit.energy_pj["mac"].source
    assert "horowitz-45nm lists none" in unit.leakage_mw.source


def test_float_mac() -> None:
    parts = replace(PARTS, logic=Logic(family="horowitz-45nm", node_nm=45))
    unit = mac(parts, weight_bits=16, activation_bits=16, accumulator_bits=32, number_format="float")
    assert unit.energy_pj["mac"].nominal == pytest.approx(1.1 + 0.9 + energy(LOGIC.register(16)))


def test_blocks_under_one_clock_add_up() -> None:
    multiplier = mac(PARTS, weight_bits=16, activation_bits=16, accumulator_bits=32)
    sums = register_file(PARTS, entries=64, bits=32)
    one, four = (merged(PARTS, [fifo(PARTS, depth=8, bits=28), (multiplier, n), (sums, n)], {}) for n in (1, 4))
    area, leakage = (multiplier.area_mm2 + sums.area_mm2) * 3, (multiplier.leakage_mw + sums.leakage_mw) * 3
    assert four.area_mm2.nominal - one.area_mm2.nominal == pytest.approx(area.nominal)
    assert four.leakage_mw.nominal - one.leakage_mw.nominal == pytest.approx(leakage.nominal)
    assert four.register_bits - one.register_bits == 3 * (32 + 64 * 32)


def test_clock_of_gated_and_ungated_registers() -> None:
    gated, ungated = (Parts(logic=LOGIC, gated_share=share) for share in (1.0, 0.0))
    units = [register_file(parts, entries=16, bits=16) for parts in (gated, ungated)]
    tree = clock_tree(256, units[0].area_mm2.nominal, LOGIC)
    assert units[0].clock_pj.nominal == pytest.approx(tree.nominal)
    assert units[1].clock_pj.nominal == pytest.approx(tree.nominal + 256 * energy(LOGIC.register(1)))


@settings(max_examples=30)
@given(st.integers(1, 30), st.integers(1, 32))
def test_queues_of_registers_grow_with_depth_and_width(depth: int, bits: int) -> None:
    base, deeper, wider = (
        fifo(PARTS, depth=d, bits=b, store="registers")
        for d, b in ((depth, bits), (depth + 1, bits), (depth, bits + 1))
    )
    assert deeper.area_mm2.nominal > base.area_mm2.nominal
    assert wider.area_mm2.nominal > base.area_mm2.nominal
    assert wider.energy_pj["push"].nominal > base.energy_pj["push"].nominal
    assert deeper.clock_pj.nominal >= base.clock_pj.nominal


def test_a_queue_of_tiles_is_an_sram() -> None:
    """Eight tiles of 4 x 256 bits in flip-flops are 8,192 clocked bits an element, at 45 nm dearer than an SRAM."""
    tiles = fifo(PARTS, depth=32, bits=256)
    assert [macro.word_bits for macro in tiles.macros] == [128, 128]
    assert {macro.ports for macro in tiles.macros} == {"1R1W"}
    assert tiles.register_bits == 10  # two pointers of 5 bits
    assert tiles.area_mm2.nominal < PARTS.register_table(32, 256).area_mm2.nominal
    assert not fifo(PARTS, depth=8, bits=16).macros  # EIE's queues of activations


@settings(max_examples=40, deadline=None)
@given(
    st.integers(1, 200),
    st.integers(1, 40),
    st.sampled_from([8, 16, 64, 128, 256]),
    st.sampled_from([(45, "inverter"), (22, "inverter"), (16, "published"), (7, "published")]),
)
def test_a_queue_is_what_takes_less_energy_and_a_longer_one_takes_no_less(
    depth: int, more: int, bits: int, where: tuple[float, str]
) -> None:
    node, scaling = where
    parts = Parts(logic=Logic(node_nm=node, clock_period_ns=1.0, scaling=Scaling(scaling)), cell="itrs-lop")

    def price(words: int, store: str | None) -> float:
        """Of a cycle with a push and a pop every other one."""
        queue = fifo(parts, depth=words, bits=bits, store=store)
        moved = QUEUE_RATE * (queue.energy_pj["push"].nominal + queue.energy_pj["pop"].nominal)
        return moved + queue.clock_pj.nominal + queue.leakage_mw.nominal * parts.logic.clock_period_ns

    assert price(depth, None) == pytest.approx(min(price(depth, store) for store in ("registers", "sram")), rel=0.05)
    assert price(depth + more, None) >= price(depth, None) * 0.98


@pytest.mark.parametrize("name", preset_names())
def test_one_chip_has_one_kind_of_queue_whatever_it_multiplies(name: str) -> None:
    """Rows of a comparison would otherwise be of chips that differ in more than their formats ask for."""
    target = dchw.machine(name)
    parts, array = target.silicon.parts(target.clock_hz), target.pe_array
    depth = array.queue_depth * array.lane_groups(array.tile)
    stores = {
        bool(fifo(parts, depth=depth, bits=array.lanes * one.activations.bits, store=array.queue_store).macros)
        for one in target.multiplies
    }
    assert len(stores) == 1


def test_a_queue_of_registers_takes_no_less_than_what_is_published_for_one() -> None:
    """EIE's table II: 8 entries of about 28 bits take 0.112 mW at 800 MHz and 45 nm, 0.14 pJ a cycle.

    A column has about six entries for an element (4,096 rows over 64 elements at 9 %). The one composed takes 0.32 pJ.
    """
    target = dchw.machine("eie-64pe-45nm")
    queue = fifo(target.silicon.parts(target.clock_hz), depth=8, bits=28, store="registers")
    moved = (queue.energy_pj["push"].nominal + queue.energy_pj["pop"].nominal) / 6
    cycle = moved + queue.clock_pj.nominal + queue.leakage_mw.nominal * 1.25
    assert 0.14 < cycle < 3 * 0.14


def test_an_entry_is_picked_out_of_its_word() -> None:
    """Eight entries of 8 bits: a multiplexer and a register each, an eighth of the word's register and address."""
    fetch = entry_fetch(PARTS, word_bits=64, entry_bits=8)
    share = (energy(LOGIC.register(64)) + energy(LOGIC.count(14))) / 8
    picked = energy(LOGIC.mux(8, 8)) + energy(LOGIC.register(8))
    assert fetch.energy_pj["entry_select"].nominal == pytest.approx(picked + share)
    assert fetch.register_bits == 64 + 14 + 8


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"style": "tables"},
            "huffman decode unit: style: expected one of bit_serial, table, multi_symbol; got 'tables'; did you mean "
            "'table'?",
        ),
        (
            {"window_bits": 0},
            "huffman decode unit: window bits: expected at least 1; got 0; give a count the hardware can have",
        ),
        (
            {"symbols_per_cycle": 2},
            "huffman decode unit: symbols per cycle: expected 1 for style table; got 2; use style multi_symbol",
        ),
    ],
)
def test_decoder_faults(change: dict[str, object], message: str) -> None:
    arguments: dict[str, object] = {
        "style": "table", "window_bits": 12, "table_entries": 256, "symbol_bits": 8,
    } | change  # fmt: skip
    with pytest.raises(DchwError) as error:
        huffman_decode_unit(PARTS, **arguments)  # type: ignore[arg-type]
    assert str(error.value) == message


def test_other_faults() -> None:
    with pytest.raises(DchwError, match="expected one of integer, float; got 'int'"):
        mac(PARTS, weight_bits=8, activation_bits=8, accumulator_bits=32, number_format="int")
    with pytest.raises(DchwError, match="parts: gated share: expected 0 to 1; got 2"):
        Parts(logic=LOGIC, gated_share=2)
