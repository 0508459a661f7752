"""Rows on disk: what is torn is left out, what is doubled is taken once, what is merged is in order."""

from __future__ import annotations

import json
import os
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dchw.quantities import ConfigError
from dchw.studies import store as module
from dchw.studies.point_chunks import chunked
from dchw.studies.store import Store, Writer, open_store, read_journal
from tests.studies.synthetic import KINDS, Synthetic, table


def row(index: int, error: str | None = None) -> dict[str, object]:
    return {"index": index, "a": index // 2, "b": "odd", "figure": None if error else 0.1 * index, "error": error}


def opened(folder: Path, count: int = 100) -> Store:
    return open_store(folder, {"study": {"name": "a", "seed": 1}}, KINDS, count)


def test_a_row_is_readable_as_soon_as_it_is_appended(tmp_path: Path) -> None:
    store = opened(tmp_path / "s")
    writer = Writer(store.folder, KINDS)
    for index in (5, 3):
        writer.append(row(index))
        assert store.finished()[index]
    assert list(store.frame()["index"]) == [3, 5]
    writer.close()
    assert list(store.frame()["index"]) == [3, 5]
    assert store.frame()["figure"].tolist() == [0.1 * 3, 0.1 * 5]


@given(cut=st.integers(1, 60), flip=st.integers(0, 200))
def test_a_torn_or_flipped_line_is_left_out(tmp_path_factory: pytest.TempPathFactory, cut: int, flip: int) -> None:
    folder = tmp_path_factory.mktemp("torn")
    store = opened(folder / "s")
    writer = Writer(store.folder, KINDS)
    for index in range(3):
        writer.append(row(index))
    journal = next((store.folder / "parts").glob("*.journal"))
    whole = journal.read_bytes()
    journal.write_bytes(whole[:-cut])
    assert [r["index"] for r in read_journal(journal)] == [0, 1] or cut == 1
    at = flip % len(whole)
    damaged = bytearray(whole)
    damaged[at] ^= 0x10
    journal.write_bytes(bytes(damaged))
    kept = read_journal(journal)
    assert all(r == row(int(str(r["index"]))) for r in kept)
    assert len(kept) >= 1


def test_doubles_are_taken_once_and_a_result_before_an_error(tmp_path: Path) -> None:
    store = opened(tmp_path / "s")
    for rows in ([row(1, "died"), row(2)], [row(2), row(1)], [row(1, "died again")]):
        writer = Writer(store.folder, KINDS)
        for one in rows:
            writer.append(one)
        writer.close()
    frame = store.frame()
    assert list(frame["index"]) == [1, 2]
    assert frame["error"].isna().all()
    store.merge({})
    pd.testing.assert_frame_equal(store.frame(), frame, check_exact=True)
    assert list((store.folder / "parts").iterdir()) == []


def test_merging_goes_window_by_window(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = table(tmp_path / "a", Synthetic(200))
    monkeypatch.setattr(module, "ROWS_OF_A_WINDOW", 7)
    monkeypatch.setattr(module, "ROWS_OF_A_PART", 11)
    assert table(tmp_path / "b", Synthetic(200)).equals(expected)
    assert list(expected["index"]) == list(range(400))


def test_another_study_is_refused_and_the_difference_named(tmp_path: Path) -> None:
    opened(tmp_path / "s")
    with pytest.raises(ConfigError, match=r"holds another study \(study.seed was '1' and is '2'\); name a new folder"):
        open_store(tmp_path / "s", {"study": {"name": "a", "seed": 2}}, KINDS, 100)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.tex").write_text("x")
    with pytest.raises(ConfigError, match=r"holds files that are no study's"):
        opened(tmp_path / "other")


def test_what_is_half_made_is_removed(tmp_path: Path) -> None:
    store = opened(tmp_path / "s")
    half = store.folder / "parts" / ".000000000000-000000000001-a.parquet.12.part.parquet"
    half.write_bytes(b"PAR1")
    assert not store.finished().any()
    store.clean()
    assert half.exists()  # it may be somebody's who is just writing it
    os.utime(half, (0, 0))
    store.clean()
    assert not half.exists()


def test_rows_survive_exactly(tmp_path: Path) -> None:
    store = opened(tmp_path / "s")
    figures = np.random.default_rng(0).random(50) * 10.0 ** np.arange(-25, 25)
    writer = Writer(store.folder, KINDS)
    for index, figure in enumerate(figures):
        writer.append({**row(index), "figure": float(figure)})
    assert store.frame()["figure"].tolist() == figures.tolist()
    writer.close()
    assert store.frame()["figure"].tolist() == figures.tolist()


@given(missing=st.sets(st.integers(0, 999), min_size=1), block=st.integers(1, 50), workers=st.integers(1, 8))
def test_chunks_hold_every_point_once(missing: set[int], block: int, workers: int) -> None:
    indices = np.array(sorted(missing))
    chunks = list(chunked(Synthetic(500), indices, block, workers))
    assert np.sort(np.concatenate(chunks)).tolist() == indices.tolist()
    assert len(chunks) <= 8 * workers
    assert all(np.array_equal(chunk, indices[(indices >= chunk[0]) & (indices <= chunk[-1])]) for chunk in chunks)


def test_chunks_shrink_in_cost() -> None:
    class Uneven(Synthetic):
        def cost(self, index: int) -> float:
            return 100.0 if index < 100 else 1.0

    chunks = list(chunked(Uneven(500), np.arange(1000), 100, 2))
    costs = [sum(100.0 if i < 100 else 1.0 for i in chunk) for chunk in chunks]
    assert len(chunks) == 16
    for stretch in (0, 1):
        mine = costs[stretch::2]
        assert sum(mine) == pytest.approx(sum(costs) / 2, rel=0.02)
        assert all(later < before + 100.0 for before, later in pairwise(mine))  # a point more or less
        assert mine[-1] < 0.04 * sum(mine)  # nobody waits long for the last ones
        assert all(before[-1] < later[0] for before, later in pairwise(chunks[stretch::2]))


def test_identity_is_plain_json(tmp_path: Path) -> None:
    opened(tmp_path / "s")
    assert json.loads((tmp_path / "s" / "study.json").read_text()) == {"study": {"name": "a", "seed": 1}}
