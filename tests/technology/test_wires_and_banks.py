"""Wires, clock tree and banked buffers: worked examples, and that banks cost their interconnect."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dchw.quantities import DchwError
from dchw.technology.banks import banked
from dchw.technology.logic import Logic
from dchw.technology.scaling import Quantity, inverter_factor
from dchw.technology.sram import sram
from dchw.technology.wires import clock_tree, transfer_energy, wire_delay

LOGIC = Logic(node_nm=45)


def test_a_transfer() -> None:
    # 64 bits over 1 mm at 45 nm, 1.0 V: 64 x 0.3 pF x 1 V^2 x 1/2 = 9.6 pJ; 64 x 0.2 / 4 to 64 x 0.4
    energy = transfer_energy(64, 1.0, 45)
    assert (energy.low, energy.nominal, energy.high) == pytest.approx((3.2, 9.6, 25.6))
    assert energy.unit == "pJ"


def test_supply_between_and_below_the_nodes() -> None:
    assert transfer_energy(1, 1, 22).nominal == pytest.approx(0.15 * 0.8**2)
    assert transfer_energy(1, 1, 33.5).nominal == pytest.approx(0.15 * (0.9 + 0.1 * 1.5 / 13) ** 2)
    factor = inverter_factor(Quantity.ENERGY, 22, 7).nominal
    assert transfer_energy(1, 1, 7).nominal == pytest.approx(0.15 * 0.64 * factor)
    with pytest.raises(DchwError, match="wires: expected a process node from 7 to 90 nm; got 130 nm"):
        transfer_energy(1, 1, 130)


def test_wire_delay() -> None:
    assert (wire_delay(2).low, wire_delay(2).nominal, wire_delay(2).high) == (0.1, 0.2, 0.4)


def test_clock_tree() -> None:
    # 160 register bits: 10 gates on 0.01 mm2: 0.7124 sqrt(10 x 0.01) = 0.2253 mm x 0.3 pF/mm x 1 V^2, and 10 gates
    energy = clock_tree(160, 0.01, LOGIC)
    gate = LOGIC.register(1).energy_pj.nominal
    assert energy.nominal == pytest.approx(0.7124 * math.sqrt(0.1) * 0.3 + 10 * gate)


def test_one_bank_is_the_macro() -> None:
    macro = sram(size_bytes=16384, word_bits=64, node_nm=45)
    assert banked(macro, 1) is macro


def test_four_banks() -> None:
    macro = sram(size_bytes=16384, word_bits=64, node_nm=45)
    four = banked(macro, 4)
    side = math.sqrt(4 * macro.area_mm2)
    # 8192 words in all: 13 address bits beside 64 data bits, 0.75 sides of wire, 2 levels of 64 gates
    wires = transfer_energy(64 + 13, 0.75 * side, 45).nominal
    mux = LOGIC.mux(4, 64)
    assert four.size_bytes == 65536
    assert four.read_energy_pj == pytest.approx(macro.read_energy_pj + wires + mux.energy_pj.nominal)
    assert four.write_energy_pj == pytest.approx(macro.write_energy_pj + wires)
    assert mux.delay_ns is not None
    assert four.access_time_ns == pytest.approx(macro.access_time_ns + 0.15 * side + mux.delay_ns.nominal)
    assert four.cycle_time_ns == macro.cycle_time_ns
    assert "repeated wire" in four.source
    assert "Aladdin" in four.source


@given(st.integers(2, 32))
def test_more_banks_cost_more(banks: int) -> None:
    macro = sram(size_bytes=8192, word_bits=32, node_nm=22)
    fewer, more = banked(macro, banks), banked(macro, banks + 1)
    assert more.read_energy_pj > fewer.read_energy_pj > macro.read_energy_pj
    assert more.write_energy_pj > fewer.write_energy_pj > macro.write_energy_pj
    assert more.area_mm2 > fewer.area_mm2 > banks * macro.area_mm2
    assert more.access_time_ns > fewer.access_time_ns
    assert more.leakage_mw > banks * macro.leakage_mw


def test_no_banks() -> None:
    with pytest.raises(DchwError) as error:
        banked(sram(size_bytes=8192, word_bits=32, node_nm=22), 0)
    assert str(error.value) == ("banked sram: banks: expected at least 1; got 0; give the number of equal macros")
