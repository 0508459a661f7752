"""Does a dense array take the cycles that SCALE-Sim counts, and is another filling noticed?"""

from __future__ import annotations

import pytest

from dchw.machines.units.pe_array import PeArray
from dchw.tables import read_table
from dchw.validate.scale_sim import ELEMENTS, LANES, scale_sim

FIRST = read_table("scale_sim.csv")[:1]


def test_the_first_layer_within_a_percent_and_its_folds_by_hand() -> None:
    check = scale_sim(FIRST)
    assert check.passed
    row = check.table.iloc[0]
    folds, columns = 56 * 56 // LANES, 3 * 3 * 64
    assert row["scale_sim_cycles"] == folds * (columns + LANES + ELEMENTS - 2)
    assert row["array_cycles"] == row["scale_sim_cycles"] + folds  # sums handed over, a cycle a pass
    assert row["tile_64_cycles"] < row["scale_sim_cycles"]


def test_an_array_that_fills_for_nothing_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PeArray, "dense_fill", property(lambda self: 0))
    assert not scale_sim(FIRST).passed
