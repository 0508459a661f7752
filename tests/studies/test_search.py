"""Does a search find the front, spend no more than its budget, and give the same after any interruption?"""

from __future__ import annotations

import itertools
import os
import random
import signal
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

import dchw
from dchw.quantities import ConfigError
from dchw.studies import front_search as module
from dchw.studies.reading import front, good_points, hypervolume
from dchw.studies.settings import SearchSettings
from dchw.studies.store import Store
from dchw.studies.study import read_results
from tests.reports.runs import tiny_network
from tests.studies.test_survival import children, needs_proc, start_program
from tests.studies.valley import COUNT, KINDS, OBJECTIVES, Valley, table

pytest.importorskip("optuna", reason="needs the extra 'search'")
BUDGET = 80


def settings(**changes: object) -> SearchSettings:
    return SearchSettings.model_validate({"budget": BUDGET, "objectives": OBJECTIVES, "generation": 16, **changes})


def volume(frame: pd.DataFrame, everything: pd.DataFrame) -> float:
    """Share of the exhaustive front's hypervolume, each network's by itself, up to the worst of all points."""
    shares = []
    for network, rows in everything.groupby("network"):
        whole = rows[OBJECTIVES].to_numpy(float)
        mine = frame.loc[frame["network"] == network, OBJECTIVES].to_numpy(float)
        worst = whole.max(axis=0)
        shares.append(hypervolume(mine, worst) / hypervolume(whole[front(whole)], worst))
    return float(np.mean(shares))


@pytest.fixture(scope="module")
def everything(tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    return table(tmp_path_factory.mktemp("everything") / "s", Valley())


@pytest.mark.parametrize("sampler", ["surface", "nsga2", "tpe", "random"])
def test_a_search_spends_its_budget_on_points_of_its_own(
    tmp_path: Path, everything: pd.DataFrame, sampler: str
) -> None:
    found = table(tmp_path / "s", Valley(), search=settings(sampler=sampler))
    assert list(found.groupby("network").size()) == [BUDGET, BUDGET]
    same = everything.set_index("index").loc[found["index"]].reset_index()
    pd.testing.assert_frame_equal(found, same, check_exact=True)


@pytest.mark.slow
@pytest.mark.parametrize("sampler", ["surface", "nsga2", "tpe"])
def test_a_search_beats_blind_choice(tmp_path: Path, everything: pd.DataFrame, sampler: str) -> None:
    shares = {
        name: np.mean(
            [
                volume(table(tmp_path / f"{name}{s}", Valley(), search=settings(sampler=name), seed=s), everything)
                for s in range(3)
            ]
        )
        for name in (sampler, "random")
    }
    assert shares[sampler] > shares["random"]


def test_a_small_space_is_run_whole(tmp_path: Path, everything: pd.DataFrame) -> None:
    found = table(tmp_path / "s", Valley(only="a == 0 and b < 3"), search=settings(budget=10 * COUNT))
    assert found.equals(everything.query("a == 0 and b < 3").reset_index(drop=True))


@pytest.mark.parametrize("sampler", ["surface", "nsga2", "tpe"])
def test_workers_and_interruptions_change_nothing(tmp_path: Path, sampler: str) -> None:
    whole = table(tmp_path / "whole", Valley(), search=settings(sampler=sampler))
    assert table(tmp_path / "two", Valley(), search=settings(sampler=sampler), workers=2).equals(whole)
    with pytest.raises(KeyboardInterrupt):
        table(tmp_path / "cut", Valley(stops_after=50), search=settings(sampler=sampler))
    assert 0 < len(Store(folder=tmp_path / "cut", kinds=KINDS, count=COUNT).frame()) < len(whole)
    assert table(tmp_path / "cut", Valley(), search=settings(sampler=sampler)).equals(whole)


@pytest.mark.slow
@needs_proc
@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
def test_four_writers_killed_at_random(tmp_path: Path) -> None:
    """Every finished point is readable, none doubled, none torn, and the search ends as if nothing had happened."""
    whole = table(tmp_path / "whole", Valley(), search=settings(sampler="nsga2"))
    gates, chance, killed, alone = tmp_path / "gates", random.Random(7), 0, 0
    gates.mkdir()
    process = start_program(
        [sys.executable, "-m", "tests.studies.valley", str(tmp_path / "s"), str(BUDGET), "4", str(gates)]
    )
    late = time.monotonic() + 100
    while process.poll() is None and killed < 5 and time.monotonic() < late:
        found = children(process.pid)
        # a worker that dies while others have nothing to do is not replaced before the next generation: to get there
        alone = alone + 1 if len(found) == 1 else 0
        if alone == 50:
            (gates / f"on {time.monotonic()}").touch()
            alone = 0
        if len(found) >= 2 and list((tmp_path / "s" / "parts").glob("*")):
            os.kill(chance.choice(found), signal.SIGKILL)
            killed += 1
            (gates / str(killed)).touch()
            time.sleep(0.3)
        time.sleep(0.02)
    (gates / "open").touch()
    _, said = process.communicate(timeout=120)
    assert process.returncode == 0, said
    assert killed == 5
    found_rows = Store(folder=tmp_path / "s", kinds=KINDS, count=COUNT).frame()
    pd.testing.assert_frame_equal(found_rows, whole, check_exact=True)


def test_conditions_and_faults_are_stepped_around(tmp_path: Path) -> None:
    points = Valley(fails=frozenset(range(0, COUNT, 7)), only="a + b < 20")
    found = table(tmp_path / "s", points, search=settings())
    assert (found["a"] + found["b"] < 20).all()
    assert found["error"].notna().sum() > 0
    assert list(found.groupby("network").size()) == [BUDGET, BUDGET]


def test_an_objective_that_nothing_has_is_refused(tmp_path: Path) -> None:
    dchw.save(tiny_network(), tmp_path / "tiny.dchw")
    asked = {
        "networks": str(tmp_path / "tiny.dchw"),
        "vary": {"huffman.units": [4, 8, 16]},
        "search": {"budget": 2, "objectives": ["latency_us", "error_pct"]},
    }
    with pytest.raises(ConfigError, match=r"error_pct of .*tiny.dchw is not available: it was not measured"):
        dchw.study(asked).run(tmp_path / "out")
    assert read_results(tmp_path / "out")["error_pct"].isna().all()


def test_a_search_starts_from_a_sweep(tmp_path: Path) -> None:
    dchw.save(tiny_network(), tmp_path / "tiny.dchw")
    sweep = {"networks": str(tmp_path / "tiny.dchw"), "vary": {"huffman.units": [4, 8, 7]}}
    dchw.study(sweep).run(tmp_path / "sweep")
    asked = {
        **sweep,
        "vary": {"huffman.units": [2, 4, 8, 16], "pe_array.queue_depth": [4, 8]},
        "search": {"budget": 3, "warm_start": [str(tmp_path / "sweep")]},
    }
    # the sweep's points have the preset's queue depth, but do not say so: not found, so set it there
    named = {**sweep, "vary": {**sweep["vary"], "pe_array.queue_depth": [8]}}  # type: ignore[dict-item]
    dchw.study(named).run(tmp_path / "named")
    found = dchw.study(asked).run(tmp_path / "cold")
    assert len(found) == 3
    warm = {**asked, "search": {"budget": 3, "warm_start": [str(tmp_path / "named")]}}
    found = dchw.study(warm).run(tmp_path / "warm")
    assert len(found) == 5  # two of the sweep that ran, and the budget
    given_units = set(zip(found["huffman.units"], found["pe_array.queue_depth"], strict=True))
    assert {(4, 8), (8, 8)} <= given_units
    assert dchw.study(warm).run(tmp_path / "warm").equals(found)


def test_rows_of_other_content_are_not_taken_over(tmp_path: Path) -> None:
    dchw.save(tiny_network(), tmp_path / "tiny.dchw")
    sweep = {"networks": str(tmp_path / "tiny.dchw"), "vary": {"huffman.units": [4, 8]}, "warm": True}
    rows = dchw.study(sweep).run(tmp_path / "sweep")
    other = dchw.study({**sweep, "warm": False})
    assert module.warm_rows(rows, other.space, other.points.point_sha) == []
    same = dchw.study(sweep)
    assert len(module.warm_rows(good_points(rows), same.space, same.points.point_sha)) == 2


@given(
    points=st.lists(st.tuples(*[st.integers(0, 5)] * 3), min_size=1, max_size=8),
    objectives=st.integers(1, 3),
)
def test_hypervolume_counts_cells(points: list[tuple[int, ...]], objectives: int) -> None:
    """On whole numbers it is the number of unit cells that some point dominates."""
    figures = np.array(points, float)[:, :objectives]
    reference = np.full(objectives, 5.0)
    cells = itertools.product(range(5), repeat=objectives)
    covered = sum(any(all(p <= c for p, c in zip(point, cell, strict=True)) for point in figures) for cell in cells)
    assert hypervolume(figures, reference) == covered
