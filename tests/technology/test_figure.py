"""Figures: ranges propagate, sources are never lost, nonsense is refused."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dchw.quantities import DchwError
from dchw.technology.figure import Confidence, Figure, Move, combine, exact, slowest, spread

A = Figure(2.0, 1.0, 4.0, "pJ", "table A", Confidence.PUBLISHED)
B = Figure(3.0, 3.0, 5.0, "pJ", "table B", Confidence.ASSUMED)

values = st.floats(0, 1e6, allow_nan=False)


@st.composite
def figures(draw: st.DrawFn) -> Figure:
    low, nominal, high = sorted(draw(st.tuples(values, values, values)))
    source = draw(st.sampled_from(["a", "b", "c"]))
    figure = Figure(nominal, low, high, "pJ", source, draw(st.sampled_from(list(Confidence))))
    return figure.because(f"cause of {source}")


def test_sum_adds_ranges_joins_sources_and_keeps_the_weakest_confidence() -> None:
    total = A + B
    assert total == Figure(5.0, 4.0, 9.0, "pJ", "table A; table B", Confidence.ASSUMED)


def test_a_source_is_named_once() -> None:
    assert sum([A, B, A]).source == "table A; table B"
    assert (A + B).sources == ("table A", "table B")


def test_scaling_by_a_count() -> None:
    assert 3 * A == A * 3 == Figure(6.0, 3.0, 12.0, "pJ", "table A", Confidence.PUBLISHED)


def test_product_multiplies_ends() -> None:
    gain = Figure(0.5, 0.5, 0.75, "x", "scaling", Confidence.DERIVED)
    assert A.times(gain, "pJ") == Figure(1.0, 0.5, 3.0, "pJ", "table A; scaling", Confidence.DERIVED)


def test_conversion_changes_unit_and_value() -> None:
    assert A.converted("mW", 0.8) == Figure(1.6, 0.8, 3.2, "mW", "table A", Confidence.PUBLISHED)


def test_a_note_only_weakens_confidence() -> None:
    assert A.noted("seen at 300 K").source == "table A; seen at 300 K"
    assert A.noted("guess", Confidence.ASSUMED).confidence is Confidence.ASSUMED
    assert B.noted("lab", Confidence.MEASURED).confidence is Confidence.ASSUMED


def test_widening_never_narrows() -> None:
    assert A.widened(0.9, 1.1, "guess") == A.because("guess")
    wide = A.widened(0.1, 3.0, "guess")
    assert (wide.low, wide.high, wide.moves) == (0.2, 6.0, (Move("guess", 0.2, 6.0),))


def test_causes_are_kept_apart_in_sums_and_products() -> None:
    table, wires = A.because("table"), replace(B, low=1.0).because("wires")
    # 2 in 1 .. 4 and 3 in 1 .. 5: the table alone moves the sum to 4 .. 7, the wires alone to 3 .. 7
    assert (table + wires).moves == (Move("table", 4.0, 7.0), Move("wires", 3.0, 7.0))
    assert (table + wires + table).moves == (Move("table", 5.0, 11.0), Move("wires", 5.0, 9.0))
    scaling = Figure(0.5, 0.5, 0.75, "x", "scaling", Confidence.DERIVED).because("node")
    assert table.times(scaling, "pJ").moves == (Move("table", 0.5, 2.0), Move("node", 1.0, 1.5))
    assert (table * 3).moves == (Move("table", 3.0, 12.0),)
    assert table.noted("lab").converted("mW", 2.0).moves == (Move("table", 2.0, 8.0),)
    assert slowest((table, wires)).moves == (Move("table", 3.0, 4.0), Move("wires", 2.0, 5.0))
    assert exact(1.0, "pJ", "s").because("nothing").moves == ()


def test_spread_and_exact() -> None:
    assert spread(10, 0.8, 1.3, "pJ", "s", Confidence.ASSUMED) == Figure(10, 8, 13, "pJ", "s", Confidence.ASSUMED)
    assert exact(1.0, "pJ", "s").low == exact(1.0, "pJ", "s").high == 1.0


def test_slowest_takes_the_maximum_of_every_end() -> None:
    assert slowest((A, B)) == Figure(3.0, 3.0, 5.0, "pJ", "table A; table B", Confidence.ASSUMED)


@given(st.lists(figures(), min_size=1, max_size=8))
def test_sum_is_the_sum_of_every_end_and_keeps_every_source(parts: list[Figure]) -> None:
    total = combine(parts)
    for end in ("nominal", "low", "high"):
        assert getattr(total, end) == math.fsum(getattr(part, end) for part in parts)
    assert set(total.sources) == {part.source for part in parts}
    assert all(total.confidence.rank >= part.confidence.rank for part in parts)


@given(figures(), figures(), figures())
def test_sums_do_not_depend_on_grouping(a: Figure, b: Figure, c: Figure) -> None:
    left, right = (a + b) + c, a + (b + c)
    assert left.nominal == pytest.approx(right.nominal)
    assert set(left.sources) == set(right.sources)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"low": 3.0},
            "figure of table A: expected low <= nominal <= high; got 3.0, 2.0, 4.0 pJ; order the range",
        ),
        (
            {"nominal": math.nan},
            "figure of table A: expected finite numbers; got 1.0, nan, 4.0 pJ; give a value that was measured, "
            "published or assumed",
        ),
        ({"source": " "}, "figure of 2.0 pJ: expected a source; got none; say where the number comes from"),
    ],
)
def test_nonsense_is_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(DchwError) as error:
        replace(A, **change)  # type: ignore[arg-type]
    assert str(error.value) == message


def test_units_do_not_mix() -> None:
    with pytest.raises(DchwError) as error:
        A + replace(B, unit="mW")
    assert str(error.value) == "sum of figures: expected one unit; got mW, pJ; convert before adding"
    with pytest.raises(DchwError, match="expected at least one figure"):
        combine([])


def test_a_count_cannot_be_negative() -> None:
    with pytest.raises(DchwError) as error:
        A * -1
    assert str(error.value) == (
        "figure of table A: expected a finite factor of at least 0; got -1; a count cannot be negative"
    )
    with pytest.raises(DchwError, match="expected non-negative ranges to multiply"):
        Figure(0, -1, 1, "pJ", "s", Confidence.ASSUMED).times(A, "pJ")


@given(st.lists(figures(), min_size=1, max_size=8))
def test_the_moves_of_a_sum_add_up_to_its_range(parts: list[Figure]) -> None:
    total = combine(parts)
    assert len({move.cause for move in total.moves}) == len(total.moves)
    for move in total.moves:
        assert total.low * (1 - 1e-12) <= move.low <= total.nominal <= move.high <= total.high * (1 + 1e-12)
    assert sum(move.high - total.nominal for move in total.moves) == pytest.approx(total.high - total.nominal)
    assert sum(total.nominal - move.low for move in total.moves) == pytest.approx(total.nominal - total.low)
