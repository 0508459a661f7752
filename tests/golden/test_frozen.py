"""What must not move while the code is rearranged: programs, cycles, energies, file bytes, columns of frames.

``frozen.py`` says how the tables were derived; ``python -m tests.golden.refresh`` updates them.
"""

from __future__ import annotations

import hashlib
import zlib

import pytest

import dchw
from tests.golden import frozen

TINY_SHA256 = "08be5fdac8fdb9b27feabc72627c64d129e5e581bde69abd46eb56526193212c"
"""Of the file of `frozen.tiny`, as first saved. Version 1 is what it is: bytes that must differ are another version."""

same_zlib = pytest.mark.skipif("ng" in zlib.ZLIB_RUNTIME_VERSION, reason="zlib-ng packs the description differently")


def assert_same(frozen_rows: frozen.Table, found: frozen.Table) -> None:
    lines = frozen.moved(frozen_rows, found)
    hint = "if this is meant: python -m tests.golden.refresh, and a line in CHANGES.md under 'Results changed'"
    if lines:
        pytest.fail("\n".join([f"{len(lines)} moved", *lines, hint]), pytrace=False)


def runs_of(name: str) -> frozen.Table:
    return {key: row for key, row in frozen.read("runs").items() if key[0] == name}


@pytest.mark.parametrize("name", frozen.FILES)
def test_runs(name: str) -> None:
    assert_same(runs_of(name), frozen.measure_runs(name))


def test_the_tables_hold_every_combination() -> None:
    wanted = {(n, m, s) for n in frozen.FILES for m in frozen.MACHINES for s in frozen.STORAGES}
    assert len(wanted) >= 4 * 5 * 7
    assert set(frozen.read("runs")) == wanted
    assert {name for (name,) in frozen.read("files")} == set(frozen.FILES)


@same_zlib
def test_files() -> None:
    assert_same(frozen.read("files"), frozen.measure_files())


@pytest.mark.parametrize("name", frozen.FILES)
def test_shipped_files_are_what_saving_wrote(name: str) -> None:
    shipped = hashlib.sha256(frozen.FILES[name].read_bytes()).hexdigest()
    assert shipped == frozen.read("files")[name,]["sha256"]


@same_zlib
def test_bytes_of_a_tiny_network() -> None:
    assert hashlib.sha256(frozen.saved(frozen.tiny())).hexdigest() == TINY_SHA256


def test_columns() -> None:
    assert_same(frozen.read("columns"), frozen.measure_columns())


@pytest.mark.parametrize("column", frozen.VALUES["runs"])
def test_a_planted_run_is_named_with_both_values(column: str) -> None:
    rows = frozen.read("runs")
    key = ("lenet_5", "phone-lpddr5x", "huffman")
    right = rows[key][column]
    wrong = repr(float(right) * (1 + 1e-8)) if column == "energy_pj" else right + "1"
    lines = frozen.moved(rows, {**rows, key: {**rows[key], column: wrong}})
    assert lines == [f"lenet_5 phone-lpddr5x huffman: {column} was {right!r}, is {wrong!r}"]
    with pytest.raises(pytest.fail.Exception, match=f"1 moved\nlenet_5 phone-lpddr5x huffman: {column} was "):
        assert_same(rows, {**rows, key: {**rows[key], column: wrong}})


def test_another_order_of_a_sum_is_no_move() -> None:
    rows = frozen.read("runs")
    found = {key: {**row, "energy_pj": repr(float(row["energy_pj"]) * (1 + 1e-11))} for key, row in rows.items()}
    assert found != rows
    assert frozen.moved(rows, found) == []


def test_a_planted_swap_of_columns_is_named() -> None:
    rows = frozen.read("columns")
    one, other = ("units_frame", "03"), ("units_frame", "04")
    assert frozen.moved(rows, {**rows, one: rows[other], other: rows[one]}) == [
        "units_frame 03: column was 'busy_cycles', is 'stall_cycles'",
        "units_frame 04: column was 'stall_cycles', is 'busy_cycles'",
    ]


def test_rows_of_one_side_are_named() -> None:
    rows = frozen.read("files")
    less = {key: row for key, row in rows.items() if key != ("lenet_5",)}
    assert frozen.moved(rows, less) == ["lenet_5: is gone"]
    assert frozen.moved(less, rows) == ["lenet_5: is new"]


def test_a_refusal_is_recorded_by_its_first_words() -> None:
    row = frozen.measure_run(frozen.tiny(), "phone-lpddr5x", "hufman")
    assert row == dict.fromkeys(frozen.VALUES["runs"], "") | {"refusal": row["refusal"]}
    assert row["refusal"].startswith("storage format 'hufman': no such format")


def test_a_fault_of_the_simulator_is_no_refusal(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise dchw.SimulationError("deadlock")

    monkeypatch.setattr(dchw, "simulate", broken)
    with pytest.raises(dchw.SimulationError, match="deadlock"):
        frozen.measure_run(frozen.tiny(), "phone-lpddr5x", "huffman")
