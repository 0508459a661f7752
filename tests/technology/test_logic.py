"""Logic: listed widths exactly, rules of width with the arithmetic, one family at a time."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dchw.quantities import DchwError
from dchw.technology.figure import Confidence
from dchw.technology.logic import Block, Logic, LogicOperation
from dchw.technology.scaling import Scaling

HOROWITZ = Logic(family="horowitz-45nm", node_nm=45)
ALADDIN = Logic(family="aladdin-40nm", node_nm=40, clock_period_ns=1.0)


def parts_of(block: Block) -> tuple[float, float, float, float]:
    return block.energy_pj.nominal, block.area_mm2.nominal, block.leakage_mw.nominal, block.delay_ns.nominal


@pytest.mark.parametrize(
    ("block", "energy_pj", "area_um2"),
    [
        (HOROWITZ.add(8), 0.03, 36),
        (HOROWITZ.add(16), 0.05, 67),
        (HOROWITZ.add(32), 0.1, 137),
        (HOROWITZ.multiply(8), 0.2, 282),
        (HOROWITZ.multiply(32), 3.1, 3495),
        (HOROWITZ.float_add(16), 0.4, 1360),
        (HOROWITZ.float_add(32), 0.9, 4184),
        (HOROWITZ.float_multiply(16), 1.1, 1640),
        (HOROWITZ.float_multiply(32), 3.7, 7700),
    ],
)
def test_horowitz_headline_figures(block: Block, energy_pj: float, area_um2: float) -> None:
    assert block.energy_pj.nominal == block.energy_pj.low == block.energy_pj.high == energy_pj
    assert block.energy_pj.confidence is Confidence.PUBLISHED
    assert block.area_mm2.nominal == pytest.approx(area_um2 / 1e6)
    for figure in (block.leakage_mw, block.delay_ns):
        assert figure.sources[0].startswith("Aladdin")
        assert figure.sources[0].endswith("(horowitz-45nm lists none)")


def test_multipliers_grow_quadratically_and_the_range_spans_both_neighbours() -> None:
    # 16 bits: from 32 bits 3.1 / 4 = 0.775, from 8 bits 0.2 x 4 = 0.8; on their line sqrt(0.2 x 3.1) = 0.787
    energy = HOROWITZ.multiply(16).energy_pj
    assert (energy.nominal, energy.low, energy.high) == pytest.approx((0.62**0.5, 0.775, 0.8))
    assert energy.sources[0].endswith("8-bit integer multiply, quadratic in width to 16 bits")
    assert energy.sources[1].endswith("32-bit integer multiply, quadratic in width to 16 bits")
    assert energy.confidence is Confidence.DERIVED


def test_outside_the_listed_widths_the_rule_holds() -> None:
    assert HOROWITZ.multiply(64).energy_pj.nominal == pytest.approx(4 * 3.1)
    assert HOROWITZ.multiply(4).energy_pj.nominal == pytest.approx(0.2 / 4)
    assert HOROWITZ.add(64).energy_pj.nominal == pytest.approx(0.2)
    assert HOROWITZ.add(4).energy_pj.nominal == pytest.approx(0.015)


def test_aladdin_rows_agree_with_the_clock() -> None:
    assert parts_of(ALADDIN.multiply(32)) == pytest.approx((12.68341, 6351.338e-6, 0.07786052, 0.98))
    slow = Logic(family="aladdin-40nm", node_nm=40, clock_period_ns=6.5)
    assert parts_of(slow.multiply(32)) == pytest.approx((8.633185, 4595.0e-6, 0.04817683, 4.17))
    between = Logic(family="aladdin-40nm", node_nm=40, clock_period_ns=2.9)
    assert parts_of(between.add(32))[0] == pytest.approx(0.085752)


def test_the_clock_is_judged_at_the_family_node() -> None:
    # 1.05 ns at 45 nm is 1.05 / 1.0374 = 1.012 ns at 40 nm: the 1 ns design; 1.02 ns there needs the 0.5 ns adder
    at_45 = Logic(node_nm=45, clock_period_ns=1.05)
    assert "at 1 ns" in at_45.add(32).energy_pj.source
    assert "at 0.5 ns" in Logic(node_nm=45, clock_period_ns=1.02).add(32).energy_pj.source


def test_barrel_shifter_grows_with_w_log_w() -> None:
    # the reference's own worked figures: 64 bits 1.0 pJ, 16 bits 0.17 pJ at 40 nm
    assert ALADDIN.barrel_shift(32).energy_pj.nominal == pytest.approx(0.417251)
    assert ALADDIN.barrel_shift(64).energy_pj.nominal == pytest.approx(0.417251 * 64 * 6 / (32 * 5))
    assert ALADDIN.barrel_shift(16).energy_pj.nominal == pytest.approx(0.167, abs=0.001)


def test_mux_tree() -> None:
    # 16 inputs of 16 bits: 4 levels x 16 bits of switching gates, 15 x 16 gates of area
    energy, area, leakage, delay = parts_of(ALADDIN.mux(16, 16))
    gate = 0.018056 / 32
    assert energy == pytest.approx(64 * gate)
    assert area == pytest.approx(240 * 50.36996e-6 / 32)
    assert leakage == pytest.approx(240 * 0.0006111633 / 32)
    assert delay == pytest.approx(4 * 0.06)


def test_one_input_needs_no_mux() -> None:
    assert parts_of(ALADDIN.mux(1, 16)) == (0, 0, 0, 0)


def test_registers_compare_and_count() -> None:
    assert ALADDIN.register(64).energy_pj.nominal == pytest.approx(64 * 0.008999)
    assert ALADDIN.compare(16).energy_pj.nominal == pytest.approx(0.02947 / 2)
    assert ALADDIN.count(4).energy_pj.nominal == pytest.approx(0.25074 / 8)


LISTED = [(family, o) for family in (HOROWITZ, ALADDIN) for o in LogicOperation if family.lists(o)]


@given(st.integers(1, 255), st.sampled_from(LISTED))
def test_wider_never_costs_less(bits: int, listed: tuple[Logic, LogicOperation]) -> None:
    family, operation = listed
    narrow, wide = family.block(operation, bits), family.block(operation, bits + 1)
    assert wide.energy_pj.nominal > narrow.energy_pj.nominal
    assert wide.area_mm2.nominal > narrow.area_mm2.nominal


def test_published_arithmetic_at_7_nm() -> None:
    logic = Logic(family="horowitz-45nm", node_nm=7, scaling=Scaling.PUBLISHED)
    assert logic.multiply(8).energy_pj.nominal == 0.07
    assert logic.add(32).energy_pj.nominal == 0.03
    assert logic.float_multiply(32).energy_pj.nominal == 1.31
    assert "TPUv4i" in logic.multiply(8).energy_pj.source
    # 16 bits lie on the line from 0.07 at 8 bits to 1.48 at 32
    assert logic.multiply(16).energy_pj.nominal == pytest.approx((0.07 * 1.48) ** 0.5)
    assert "lower bound" in logic.multiply(8).area_mm2.source


def test_published_arithmetic_between_its_nodes_by_hand() -> None:
    logic = Logic(family="horowitz-45nm", node_nm=16, scaling=Scaling.PUBLISHED)
    share = math.log(16 / 7) / math.log(45 / 7)
    got = logic.float_multiply(16).energy_pj
    assert got.nominal == pytest.approx(0.34 ** (1 - share) * 1.1**share)  # TPUv4i at 7 nm, Horowitz at 45
    assert got.low <= Logic(family="horowitz-45nm", node_nm=16).float_multiply(16).energy_pj.nominal
    assert "TPUv4i" in got.source
    assert "Horowitz" in got.source


@pytest.mark.parametrize("operation", ["add", "multiply", "float_add", "float_multiply"])
def test_a_larger_node_is_never_cheaper_in_arithmetic(operation: str) -> None:
    def at(node: float) -> float:
        logic = Logic(family="horowitz-45nm", node_nm=node, scaling=Scaling.PUBLISHED)
        return float(getattr(logic, operation)(16).energy_pj.nominal)

    energies = [at(node) for node in (7, 10, 16, 22, 32, 40)]
    assert energies == sorted(energies)


def test_published_arithmetic_falls_back_to_the_inverter_for_the_rest() -> None:
    logic = Logic(family="aladdin-40nm", node_nm=7, scaling=Scaling.PUBLISHED)
    assert "TPUv4i" in logic.multiply(8).energy_pj.source
    assert "inverter scaling" in logic.register(8).energy_pj.source


def test_what_a_family_does_not_list_is_the_complete_family_s_and_says_so() -> None:
    assert not HOROWITZ.lists(LogicOperation.REGISTER)
    mine, other = HOROWITZ.register(8), Logic(family="aladdin-40nm", node_nm=45).register(8)
    for name in ("energy_pj", "area_mm2", "leakage_mw", "delay_ns"):
        got, want = getattr(mine, name), getattr(other, name)
        assert (got.nominal, got.low, got.high) == (want.nominal, want.low, want.high)
        assert got.sources == (f"{want.sources[0]} (horowitz-45nm lists none)", *want.sources[1:])
    # what the family lists is never taken from the other
    assert "Aladdin" not in HOROWITZ.add(8).energy_pj.source + HOROWITZ.add(8).area_mm2.source


def test_errors() -> None:
    with pytest.raises(DchwError) as error:
        Logic(family="horowitz")
    assert str(error.value) == (
        "logic: family: expected one of horowitz-45nm, aladdin-40nm; got 'horowitz'; did you mean 'horowitz-45nm'?"
    )
    with pytest.raises(DchwError, match="expected 1 to 256 bits; got 300"):
        HOROWITZ.add(300)
    with pytest.raises(DchwError, match="expected a process node from 7 to 90 nm; got 130 nm"):
        Logic(node_nm=130)
    with pytest.raises(DchwError, match="expected a positive number of nanoseconds; got 0"):
        Logic(clock_period_ns=0)
    with pytest.raises(DchwError, match="expected 7 to 40 nm"):
        Logic(node_nm=65, scaling=Scaling.PUBLISHED)
    with pytest.raises(DchwError, match="expected at least 1 input and 1 bit; got 0 and 4"):
        ALADDIN.mux(0, 4)
