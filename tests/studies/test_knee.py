"""Where does more stop paying, and what is said about it?"""

from __future__ import annotations

import pandas as pd
import pytest

from dchw.studies.knee import WORTH_WHILE, Knee, find_knees, shared_knees

UNITS = (1, 2, 4, 8, 16, 32, 64, 128)
CYCLES = (19446, 11134, 6001, 3248, 1893, 1367, 1322, 1236)


def line(values: tuple[object, ...], figures: tuple[float, ...], bounds: tuple[str, ...] | None = None) -> Knee:
    return Knee(
        key="huffman.units",
        metric="latency_us",
        values=values,
        figures=figures,
        bounds=bounds or ("decode",) * len(values),
    )


def test_the_knee_of_decode_units_on_the_phone() -> None:
    knee = line(UNITS, CYCLES, ("decode",) * 6 + ("dram",) * 2)
    assert knee.value == 32
    assert not knee.is_open
    assert knee.gains[5] == pytest.approx(1 - 1322 / 1367)
    assert str(knee) == (
        "huffman.units: the knee of latency is 32: the step to it saves 28%, a doubling beyond it saves 6.5% at best; "
        "bound by decode up to 32, then by dram."
    )


def test_steps_count_per_doubling() -> None:
    # 19 % in two doublings is 10 % in each: 0.9 squared is 0.81
    assert line((4, 16, 64), (1.0, 0.81, 0.81)).gains == pytest.approx((WORTH_WHILE, 0.0))
    assert line(("64 KiB", "256 KiB", "1 MiB"), (1.0, 0.81, 0.81)).gains == pytest.approx((WORTH_WHILE, 0.0))
    assert line((0, 16, 64), (1.0, 0.81, 0.81)).gains == pytest.approx((0.19, 0.0))


def test_a_step_just_worth_while_and_just_not() -> None:
    assert line((1, 2, 4), (100.0, 89.9, 89.9)).value == 2
    assert line((1, 2, 4), (100.0, 90.1, 90.1)).value == 1


def test_a_late_gain_moves_the_knee_behind_it() -> None:
    assert line((1, 2, 4, 8), (100.0, 99.0, 50.0, 50.0)).value == 4


def test_a_list_that_ends_too_early_says_so() -> None:
    knee = line((1, 2, 4), (100.0, 50.0, 25.0))
    assert knee.is_open
    assert "still falls by 50% a doubling at 4" in str(knee)


def test_what_makes_no_difference_says_so() -> None:
    assert "more than 1 does not pay in latency (+5.0% at 4)" in str(line((1, 2, 4), (100.0, 100.0, 105.0)))


def frame() -> pd.DataFrame:
    rows = [
        {
            "network": network,
            "huffman.units": units,
            "latency_us": cycles * (2 if network == "b" else 1),
            "energy_nj": 100.0,
            "bound_by": "decode",
        }
        for network in ("a", "b")
        for units, cycles in reversed(list(zip(UNITS, CYCLES, strict=True)))
    ]
    return pd.DataFrame(rows)


def test_every_line_of_a_table_has_its_knee() -> None:
    knees = find_knees(frame(), ["huffman.units"], ["network"])
    assert [(k.metric, k.where.get("network"), k.value) for k in knees] == [
        ("latency_us", "a", 32),
        ("energy_nj", "a", 1),
        ("latency_us", "b", 32),
        ("energy_nj", "b", 1),
    ]
    assert knees[0].values == UNITS


def test_words_and_short_lists_have_none() -> None:
    table = pd.DataFrame({"style": ["a", "b", "c"], "latency_us": [3.0, 2.0, 1.0], "bound_by": ["x"] * 3})
    assert find_knees(table, ["style"], []) == []
    short = pd.DataFrame({"units": [1, 2], "latency_us": [3.0, 2.0], "bound_by": ["x"] * 2})
    assert find_knees(short, ["units"], []) == []


def test_networks_that_share_a_machine_have_a_knee_together() -> None:
    table = frame()
    slower = table["network"] == "b"
    table.loc[slower, "latency_us"] = 1000.0  # the second network gains nothing from more units
    table.loc[slower, "bound_by"] = "array"
    latency, energy = shared_knees(table, ["huffman.units"], ["network"])
    assert latency.figures == pytest.approx([(cycles * 1000.0) ** 0.5 for cycles in CYCLES])
    assert set(latency.bounds) == {"decode or array"}
    assert (latency.value, energy.value) == (32, 1)
    assert str(latency).startswith("huffman.units, mean of 2 networks: the knee of latency is 32")
    lacking = table[~(slower & (table["huffman.units"] > 8))]  # points that failed with one network count with none
    assert shared_knees(lacking, ["huffman.units"], ["network"])[0].values == (1, 2, 4, 8)
    assert shared_knees(table[slower], ["huffman.units"], ["network"]) == []
