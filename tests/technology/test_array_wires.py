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
from dchw.technology.array_wires import TAKE_CAUSE, TRANSFER_CAUSE, WORD_BITS, array_transfer, broadcast_take
from dchw.technology.figure import Confidence
from dchw.technology.structures import mac
from dchw.technology.wires import transfer_energy

LENET = Path(__file__).parents[2] / "models" / "lenet_300_100.dchw"


@pytest.mark.parametrize("silicon", [Silicon(node_nm=45), Silicon(node_nm=16), Silicon(node_nm=7, scaling="published")])
def test_a_word_costs_two_multiply_accumulates_of_its_node(silicon: Silicon) -> None:
    parts = silicon.parts(10**9)
    one = mac(parts, weight_bits=16, activation_bits=16, accumulator_bits=32).energy_pj["mac"]
    bit = array_transfer(parts, 1.0)
    assert WORD_BITS * bit.nominal == pytest.approx(2 * one.nominal)
    assert "Eyeriss" in bit.source
    assert bit.confidence.rank >= Confidence.DERIVED.rank


def test_the_range_reaches_to_a_wire_across() -> None:
    parts = Silicon(node_nm=45).parts(10**9)
    bit = array_transfer(parts, 16.0)
    across = transfer_energy(1, 0.75 * 4, 45)
    assert bit.low == pytest.approx(min(bit.nominal, across.nominal), rel=0.2)
    assert bit.high == pytest.approx(across.high)
    assert TRANSFER_CAUSE in {move.cause for move in bit.moves}
    # an array of hardly any size: its wires cost nothing, the published cost stays
    point = array_transfer(parts, 1e-9)
    assert point.low < 1e-4 < point.nominal <= point.high


def test_an_element_adds_its_piece_of_a_tree_or_at_most_the_published_cost() -> None:
    parts = Silicon(node_nm=45).parts(10**9)
    bit, whole = broadcast_take(parts, 64, 16.0), array_transfer(parts, 16.0)
    assert bit.nominal == pytest.approx(transfer_energy(1, 0.7124 * math.sqrt(16 / 64), 45).nominal)
    assert bit.nominal < whole.nominal <= bit.high
    assert TAKE_CAUSE in {move.cause for move in bit.moves}
    # all 64 pieces are the tree
    assert 64 * bit.nominal == pytest.approx(transfer_energy(1, 0.7124 * math.sqrt(16 * 64), 45).nominal)


def test_an_array_charges_for_activations_entries_and_sums() -> None:
    """784 x 300 and so on: an activation to every element, an entry to one, a sum out."""
    run = dchw.simulate(dchw.load(LENET), dchw.machine("phone-lpddr5x"), "huffman")
    moved, counts = Counter[str](), Counter[str]()
    for row in run.costs.rows:
        if row.unit == "pe_array":
            counts[row.event] += round(row.count)
            moved[row.stream] += round(row.count) * (row.event == "array_transfer")
            moved["taken"] += round(row.count) * (row.event == "broadcast_take")
            width = {stage.layer.name: stage.layer.entry_bits for stage in run.workload.stages}.get(row.layer, 0)
            moved["entries at their width"] += round(row.count) * width * (row.event == "index_accumulate")
    assert moved["outputs"] == 32 * (300 + 100 + 10)
    assert moved["codes"] == moved["entries at their width"] > 0
    # one lane of 16 bits used per broadcast column, taken by each element that holds a row; ip3 has 10 of them
    columns = [int((stage.layer.activity > 0).sum()) for stage in run.workload.stages]
    rows = [stage.layer.rows for stage in run.workload.stages]
    assert moved["activations"] == 16 * sum(columns)
    assert moved["taken"] == sum(16 * min(64, row) * column for row, column in zip(rows, columns, strict=True))


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
