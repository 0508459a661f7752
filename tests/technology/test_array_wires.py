"""Is the energy of moving operands the published one, between its two ways of wires?"""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path

import pytest

import dchw
from dchw.costs import unit_costs
from dchw.machines.machine import preset_names
from dchw.machines.silicon import Silicon
from dchw.technology.array_wires import CAUSE, WORD_BITS, array_transfer
from dchw.technology.figure import Confidence
from dchw.technology.structures import mac
from dchw.technology.wires import transfer_energy

LENET = Path(__file__).parents[2] / "models" / "lenet_300_100.dchw"


@pytest.mark.parametrize("silicon", [Silicon(node_nm=45), Silicon(node_nm=16), Silicon(node_nm=7, scaling="published")])
def test_a_word_costs_two_multiply_accumulates_of_its_node(silicon: Silicon) -> None:
    parts = silicon.parts(10**9)
    one = mac(parts, weight_bits=16, activation_bits=16, accumulator_bits=32).energy_pj["mac"]
    bit = array_transfer(parts, elements=64, area_mm2=1.0)
    assert WORD_BITS * bit.nominal == pytest.approx(2 * one.nominal)
    assert "Eyeriss" in bit.source
    assert bit.confidence.rank >= Confidence.DERIVED.rank


def test_the_range_is_a_tree_of_wires_to_a_wire_right_across() -> None:
    parts = Silicon(node_nm=45).parts(10**9)
    bit = array_transfer(parts, elements=64, area_mm2=16.0)
    assert bit.low == pytest.approx(transfer_energy(1, 0.7124 * math.sqrt(16 / 64), 45).nominal)
    assert bit.high == pytest.approx(transfer_energy(1, 0.75 * 4, 45).high)
    assert CAUSE in {move.cause for move in bit.moves}
    # an array of hardly any size: its wires cannot make the published cost smaller than itself
    point = array_transfer(parts, elements=64, area_mm2=1e-9)
    assert point.low < 1e-4 < point.nominal <= point.high


def test_an_array_charges_for_activations_entries_and_sums() -> None:
    """784 x 300 and so on: an activation to every element, an entry to one, a sum out."""
    run = dchw.simulate(dchw.load(LENET), dchw.machine("phone-lpddr5x"), "huffman")
    moved, counts = Counter[str](), Counter[str]()
    for row in run.costs.rows:
        if row.unit == "pe_array":
            counts[row.event] += round(row.count)
            moved[row.stream] += round(row.count) * (row.event == "array_transfer")
            width = {stage.layer.name: stage.layer.entry_bits for stage in run.workload.stages}.get(row.layer, 0)
            moved["entries at their width"] += round(row.count) * width * (row.event == "index_accumulate")
    assert moved["outputs"] == 32 * (300 + 100 + 10)
    assert moved["codes"] == moved["entries at their width"] > 0
    # one lane of 16 bits used per broadcast column, on each element that holds a row; ip3 has 10 of them
    received = 0
    for stage in run.workload.stages:
        received += 16 * min(64, stage.layer.rows) * int((stage.layer.activity > 0).sum())
    assert moved["activations"] == received


def test_elements_beside_their_bank_move_no_entries() -> None:
    """EIE's weights lie in each element's own SRAM; a machine of fewer banks than elements moves them."""
    for banks, moves in ((64, False), (32, True)):
        eie = dchw.machine("eie-64pe-45nm").replace("weight_sram.banks", banks)
        run = dchw.simulate(dchw.load(LENET), eie, "shared")
        assert any(row.event == "array_transfer" and row.stream == "codes" for row in run.costs.rows) is moves


def test_every_machine_prices_it() -> None:
    for name in preset_names():
        bit = unit_costs(dchw.machine(name), "huffman")["pe_array"].energy_pj["array_transfer"]
        assert 0 < bit.low <= bit.nominal <= bit.high
