"""Node scaling: the published factors, the range on the right side, and where each method ends."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dchw.quantities import DchwError
from dchw.technology.figure import Confidence, exact
from dchw.technology.scaling import Quantity, Scaling, check_method, inverter_factor, published_saving, scaled

nodes = st.floats(7, 90)


@pytest.mark.parametrize(
    ("quantity", "to_nm", "factor"),
    [
        (Quantity.ENERGY, 7, 0.1057),
        (Quantity.ENERGY, 16, 0.1705),
        (Quantity.ENERGY, 65, 1.6101),
        (Quantity.DELAY, 14, 0.3688),
        (Quantity.AREA, 10, 0.102),
        (Quantity.LEAKAGE, 32, 0.4759),
    ],
)
def test_table_2_down_to_7_nm_and_polynomials_above_45(quantity: Quantity, to_nm: float, factor: float) -> None:
    assert inverter_factor(quantity, 45, to_nm).nominal == pytest.approx(factor, rel=1e-12)


def test_28_nm_lies_on_the_line_between_32_and_16() -> None:
    # share of 16 nm: log(28/32) / log(16/32) = 0.1926; log factor = 0.8074 log 0.4857 + 0.1926 log 0.1705
    share = math.log(28 / 32) / math.log(16 / 32)
    want = math.exp((1 - share) * math.log(0.4857) + share * math.log(0.1705))
    assert inverter_factor(Quantity.ENERGY, 45, 28).nominal == pytest.approx(want, rel=1e-12)
    assert want == pytest.approx(0.397, abs=0.001)


def test_published_designs_bound_the_range_above() -> None:
    factor = inverter_factor(Quantity.ENERGY, 45, 7)
    assert published_saving() == 0.4774
    assert (factor.low, factor.nominal) == pytest.approx((0.1057, 0.1057))
    assert factor.high == pytest.approx(0.4774)
    assert "lower bound" in factor.source


def test_sram_keeps_its_energy_and_its_cell() -> None:
    assert inverter_factor(Quantity.SRAM_ENERGY, 22, 7).high == 1.0
    # CACTI's cell of 146 F^2 at 22 nm is 0.0707 um2, the published 7 nm cell 0.027 um2
    assert inverter_factor(Quantity.SRAM_AREA, 22, 7).high == pytest.approx(0.027 / (146 * 0.022**2))


@given(st.sampled_from(list(Quantity)), nodes, nodes)
def test_there_and_back_is_one(quantity: Quantity, a: float, b: float) -> None:
    assert inverter_factor(quantity, a, b).nominal * inverter_factor(quantity, b, a).nominal == pytest.approx(1)


@given(st.sampled_from(list(Quantity)), nodes, nodes)
def test_smaller_nodes_never_cost_more(quantity: Quantity, a: float, b: float) -> None:
    small, large = sorted((a, b))
    factor = inverter_factor(quantity, large, small)
    assert factor.nominal <= 1 + 1e-12
    assert factor.low <= factor.nominal <= factor.high


def test_the_same_node_is_untouched() -> None:
    figure = exact(3.0, "pJ", "Horowitz")
    assert scaled(figure, Quantity.ENERGY, 45, 45) is figure
    moved = scaled(figure, Quantity.ENERGY, 45, 7)
    assert moved.nominal == pytest.approx(3 * 0.1057)
    assert moved.sources[0] == "Horowitz"
    assert moved.confidence is Confidence.ASSUMED


def test_out_of_range_says_the_range() -> None:
    with pytest.raises(DchwError) as error:
        inverter_factor(Quantity.ENERGY, 45, 5)
    assert str(error.value) == (
        "energy scaling: expected a process node from 7 to 90 nm; got 5 nm; choose a node inside the range, no table "
        "covers others"
    )


def test_published_arithmetic_is_for_the_nodes_between_its_tables() -> None:
    check_method(Scaling.PUBLISHED, 7)
    check_method(Scaling.PUBLISHED, 16)
    check_method(Scaling.INVERTER, 16)
    with pytest.raises(DchwError) as error:
        check_method(Scaling.PUBLISHED, 65)
    assert str(error.value) == (
        "scaling method published: expected 7 to 40 nm, between the nodes its tables list; got 65 nm; use "
        "inverter there"
    )
