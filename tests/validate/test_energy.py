"""``dchw validate energy``: what it asserts, and that it can fail."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import dchw
from dchw.quantities import DchwError
from dchw.technology.cross_validation import InterpolationError
from dchw.technology.figure import Confidence, Figure
from dchw.technology.published import published_energy
from dchw.validate import eie_energy
from dchw.validate.eie_energy import Element, eie_components, eie_element, eie_total
from dchw.validate.energy import (
    deep_compression_table,
    lpddr_brackets,
    lpddr_streaming,
    run,
    sram_cross_checks,
    sram_interpolation,
)

MEMORIES = ("weight_sram", "activation_sram")


def test_every_check_holds() -> None:
    checks = run()
    assert [check.title for check in checks if check.passed is False] == []
    assert sum(check.passed is True for check in checks) >= 4


def test_eie_in_total_within_15_percent() -> None:
    table = eie_total().table
    judged = table[table["verdict"] == "judged"].set_index(["sram", "of"])
    # both device types whose leakage the paper's memory power admits
    assert sorted({cell for cell, _ in judged.index}) == ["itrs-lstp", "itrs-lstp/itrs-lop"]
    assert set(judged["logic"]) == {"horowitz-45nm"}
    assert set(judged.xs("one PE", level="of")["published_mw"]) == {9.157}
    assert set(judged.xs("64 PEs", level="of")["published_mw"]) == {590}
    assert set(judged.xs("64 PEs", level="of")["published_mm2"]) == {40.8}
    assert (judged[["power_error_pct", "area_error_pct"]].abs() < 15).all(axis=None)


def test_eie_total_is_the_sum_of_its_modules_and_of_its_components() -> None:
    modules, components = eie_element().table, eie_components().table
    element = eie_total().table.set_index(["logic", "sram", "of"]).loc[("horowitz-45nm", "itrs-lstp", "one PE")]
    assert modules["power_mw"].sum() == pytest.approx(element["power_mw"], abs=0.004)
    assert components["power_mw"].sum() == pytest.approx(element["power_mw"], abs=0.003)
    names = ["act_queue", "ptr_read", "spmat_read", "arithm_unit", "act_rw", "clock network", "leakage"]
    assert list(modules["module"]) == names
    assert modules["published_mw"].sum() == pytest.approx(9.157, abs=0.002)
    assert components["published_mw"].sum() == pytest.approx(9.157, abs=0.002)
    assert modules["power_mw"].sum() == pytest.approx(9.157, rel=0.10)
    clock = components.set_index("component").loc["clock network"]
    assert abs(clock["power_error_pct"]) < 25


def test_what_is_validated_is_what_a_run_is_priced_with() -> None:
    """A run of the preset pays, per event, what the check multiplies with the paper's rates."""
    network = dchw.compress(
        dchw.Network.from_arrays("one", weights={"one": np.eye(64, dtype=np.float32)}), dchw.Recipe(codebook_bits=4)
    )
    run = dchw.simulate(network, "eie-64pe-45nm", storage="shared", warm=True)
    paid = {(row.unit, row.event): row.each for row in run.costs.rows}
    element = Element()
    for unit, cost in element.costs.items():
        for event, each in cost.energy_pj.items():
            if (unit, event) in paid:
                assert paid[unit, event] == each
    read = [(unit, event) for unit, event in paid if unit == "weight_sram" and event in ("pointer_read", "sram_read")]
    assert len(read) == 2


def test_a_dearer_unit_is_seen_by_the_check(monkeypatch: pytest.MonkeyPatch) -> None:
    assert eie_element().passed
    monkeypatch.setitem(eie_energy._RATES, "act_rw", {("pe_array", "accumulator_access"): 6})
    assert not eie_element().passed


def test_a_device_type_is_out_where_its_leakage_exceeds_all_memory_power_of_the_paper() -> None:
    cells = ("itrs-hp", "itrs-lop", "itrs-lstp")
    leakages = {cell: Element(cell=cell).leakage(MEMORIES).nominal for cell in cells}
    assert leakages["itrs-hp"] > 96
    assert leakages["itrs-lop"] > 5.416
    assert leakages["itrs-lstp"] < 0.02
    table = eie_total().table
    out = set(table[table["verdict"] == "leaks too much"]["sram"])
    assert out == {"itrs-hp", "itrs-lop", "itrs-lstp/itrs-hp"}


def test_eie_memory_is_the_structure_of_the_paper() -> None:
    element = Element()
    weights, activations = element.machine.weight_sram, element.machine.activation_sram
    assert weights.pointer_memory is not None
    per_element = [(ram.size_bytes // 64, ram.word_bits) for ram in (weights, weights.pointer_memory, activations)]
    assert per_element == [(131072, 64), (32768, 16), (2048, 16)]
    # one 64-bit read of 32.3 pJ and two 16-bit reads of 9.17 pJ with their registers (0.315) in 8 cycles of 800 MHz
    reads = (32.29 + 2 * (9.173 + 0.315)) / 8 * 0.8
    assert element.memory().nominal == pytest.approx(reads + element.leakage(MEMORIES).nominal, rel=1e-3)
    assert "CACTI" in element.memory().source


def test_deep_compression_preset() -> None:
    assert published_energy("deep_compression_table", "sram_cache_access", 32).nominal == 5
    assert published_energy("deep_compression_table", "dram_access", 32).nominal == 640
    assert deep_compression_table().passed


def test_unknown_published_energies() -> None:
    with pytest.raises(DchwError) as error:
        published_energy("deep_compression", "dram_access", 32)
    assert str(error.value) == (
        "published energies: group: expected one of deep_compression_table, eie_table1, horowitz_isscc14, "
        "tpuv4i_table2; got 'deep_compression'; did you mean 'deep_compression_table'?"
    )
    with pytest.raises(DchwError, match=r"got dram_access \(64 bit\); use one of int_add \(32 bit\)"):
        published_energy("deep_compression_table", "dram_access", 64)


def test_sram_cross_checks_repeat_the_reference_table() -> None:
    check = sram_cross_checks()
    assert check.passed
    table = check.table.set_index(["macro", "quantity"])
    for macro, quantity, values in (
        ("8 KiB x 64", "read_energy_pj", (5.3, 3.2, 6.1)),
        ("32 KiB x 64", "read_energy_pj", (14.9, 7.2, 17.0)),
        ("1024 KiB x 64", "read_energy_pj", (67.7, 41.8, 93.5)),
        ("32 KiB x 32", "read_energy_pj", (13.8, 6.1, 11.8)),
        ("128 KiB x 64", "read_energy_pj", (33.0, 15.5, 32.3)),
        ("16 KiB x 16", "read_energy_pj", (8.3, 5.1, 9.2)),
    ):
        assert table.loc[(macro, quantity), ["hp", "lop", "lstp"]].tolist() == pytest.approx(values, abs=0.051)
    assert table.loc[("128 KiB x 64", "area_mm2"), ["hp", "lop", "lstp"]].tolist() == pytest.approx(
        (0.387, 0.430, 0.430), abs=5e-4
    )


def test_the_interpolation_check_can_fail() -> None:
    good = InterpolationError(
        test="fresh points", quantity="read_energy_pj", points=10, median=0.01, p90=0.05, maximum=0.2
    )
    plain = replace(good, test="fresh points, plain log-log", median=0.05, p90=0.1)
    assert sram_interpolation([good, plain]).passed
    assert not sram_interpolation([good]).passed  # nothing to compare with
    assert not sram_interpolation([replace(good, median=0.047), plain]).passed  # above 4.6 %
    assert not sram_interpolation([good, replace(plain, median=0.009)]).passed
    assert not sram_interpolation([replace(good, p90=0.2), plain]).passed


def test_lpddr_streams_inside_the_published_brackets() -> None:
    table = lpddr_brackets(lpddr_streaming()).table.set_index("family")
    assert list(table.index) == ["LPDDR4", "LPDDR4X"]
    assert table["inside"].all()
    assert table.loc["LPDDR4", ["bracket_low", "bracket_high"]].tolist() == [8, 14]
    # every generation is cheaper than the one before
    assert table["pj_per_bit"].is_monotonic_decreasing


def test_lpddr_brackets_can_fail() -> None:
    good = Figure(10.0, 8.0, 12.0, "pJ/bit", "currents", Confidence.DERIVED)
    assert lpddr_brackets({"LPDDR4": good, "LPDDR5": replace(good, nominal=5.0, low=4.0)}).passed
    check = lpddr_brackets({"LPDDR4": replace(good, nominal=15.0, high=16.0)})
    assert not check.passed
    row = check.table.iloc[0]
    assert (row["bracket_low"], row["bracket_high"]) == (8, 14)
