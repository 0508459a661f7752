"""Cross-validation: better than plain log-log, and a wrong row does not go unseen."""

from __future__ import annotations

import pytest

from dchw.technology.cross_validation import InterpolationError, cross_validate, default_slices, fresh_points
from dchw.technology.sram_table import QUANTITIES

# Medians of plain log-log interpolation between the points of a table in powers of two.
PLAIN = {
    "read_energy_pj": 0.046,
    "write_energy_pj": 0.026,
    "leakage_mw": 0.020,
    "access_time_ns": 0.023,
    "area_mm2": 0.024,
}


@pytest.fixture(scope="module")
def left_out() -> list[InterpolationError]:
    return cross_validate()


@pytest.fixture(scope="module")
def fresh() -> list[InterpolationError]:
    return fresh_points()


def by_quantity(errors: list[InterpolationError], test: str) -> dict[str, InterpolationError]:
    return {error.quantity: error for error in errors if error.test == test}


@pytest.mark.parametrize("test", ["whole sizes left out", "whole widths left out"])
def test_medians_below_plain_log_log_with_whole_sizes_or_widths_left_out(
    left_out: list[InterpolationError], test: str
) -> None:
    errors = by_quantity(left_out, test)
    assert set(errors) == set(QUANTITIES)
    for quantity, limit in PLAIN.items():
        assert errors[quantity].points > 3000
        assert errors[quantity].median < limit, quantity
    plain = by_quantity(left_out, test + ", plain log-log")
    for quantity in QUANTITIES:
        assert plain[quantity].points > 800
        assert errors[quantity].median < plain[quantity].median, quantity
        assert errors[quantity].p90 < plain[quantity].p90, quantity


def test_plain_log_log_is_the_reference_s_own_figure(left_out: list[InterpolationError]) -> None:
    # leave-one-out along size over the reference's 1RW grid of powers of two: read 6.3 % median, 21.1 % at 90 %
    read = by_quantity(left_out, "whole sizes left out, plain log-log")["read_energy_pj"]
    assert read.median == pytest.approx(0.063, abs=0.005)
    assert read.p90 == pytest.approx(0.211, abs=0.01)


def test_fresh_points_beat_plain_log_log(fresh: list[InterpolationError]) -> None:
    ours, plain = (by_quantity(fresh, test) for test in ("fresh points", "fresh points, plain log-log"))
    for quantity in PLAIN:
        assert ours[quantity].median < 0.5 * plain[quantity].median, quantity
        assert ours[quantity].p90 < plain[quantity].p90, quantity
        assert ours[quantity].median < 0.010, quantity


def test_a_planted_wrong_row_is_seen() -> None:
    key = (45, "itrs-lop", "1RW")
    rows = default_slices()[key]
    good = by_quantity(cross_validate({key: rows}), "whole sizes left out")["read_energy_pj"]
    planted = [
        (size, width, (10 * values[0], *values[1:]) if (size, width) == (32768, 64) else values)
        for size, width, values in rows
    ]
    bad = by_quantity(cross_validate({key: planted}), "whole sizes left out")["read_energy_pj"]
    assert good.maximum < 0.7
    assert bad.maximum > 0.85
    assert bad.maximum > 1.5 * good.maximum
