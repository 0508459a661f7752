"""SRAM: table points exactly, an oracle between them, the rules outside, and every limit as an error."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import dchw
from dchw.quantities import DchwError
from dchw.technology.figure import Confidence
from dchw.technology.scaling import Quantity, inverter_factor
from dchw.technology.sram import sram
from dchw.technology.sram_table import CELLS, QUANTITIES, TABLE_NODES_NM, leakage_ratio, table_slice
from tests.oracles.technology import interpolated, table_rows

nodes = st.sampled_from(TABLE_NODES_NM)
cells = st.sampled_from(CELLS)


def test_the_public_name() -> None:
    macro = dchw.sram(size_bytes=32768, word_bits=64, node_nm=45, cell="itrs-lop", ports="1RW")
    assert macro.read_energy_pj == 7.23311
    assert macro.write_energy_pj == 5.619
    assert macro.leakage_mw == 1.49071
    assert macro.access_time_ns == 0.983909
    assert macro.cycle_time_ns == 0.72453
    assert macro.area_mm2 == 0.111942
    assert macro.source == "CACTI 7.0 (git 1ffd8df), one bank, ED^2 target, 330 K"
    assert macro.confidence is Confidence.FROM_TABLE


@settings(max_examples=15)
@given(nodes, cells, st.sampled_from(["1RW", "1R1W"]))
def test_every_row_is_reproduced_exactly(node: int, cell: str, ports: str) -> None:
    if ports == "1R1W" and "/" in cell:
        return
    rows = table_rows(node, cell, ports)
    assert rows
    for row in rows:
        macro = sram(
            size_bytes=int(row["size_bytes"]), word_bits=int(row["word_bits"]), node_nm=node, cell=cell, ports=ports
        )
        assert [getattr(macro, quantity) for quantity in QUANTITIES] == [row[quantity] for quantity in QUANTITIES]


@settings(max_examples=40)
@given(nodes, cells, st.integers(16 * 1024, 2 * 1024 * 1024), st.integers(8, 256), st.sampled_from(QUANTITIES))
def test_between_rows_equals_the_oracle(node: int, cell: str, size: int, width: int, quantity: str) -> None:
    macro = sram(size_bytes=size, word_bits=width, node_nm=node, cell=cell)
    assert getattr(macro, quantity) == pytest.approx(interpolated(node, cell, size, width, quantity), rel=1e-9)
    assert macro.confidence in (Confidence.INTERPOLATED, Confidence.FROM_TABLE)


def test_worked_point_between_two_sizes() -> None:
    # 45 nm lop x 64: halfway (in log) between two neighbouring rows every quantity is their geometric mean
    rows = sorted((r for r in table_rows(45, "itrs-lop", "1RW") if r["word_bits"] == 64), key=lambda r: r["size_bytes"])
    low, high = rows[3], rows[4]
    size = math.sqrt(low["size_bytes"] * high["size_bytes"])
    values = table_slice(45, "itrs-lop", "1RW").at(size, 64)  # type: ignore[arg-type]
    assert values == pytest.approx([math.sqrt(low[q] * high[q]) for q in QUANTITIES])


@settings(max_examples=60)
@given(cells, st.integers(1024, 2**21), st.sampled_from([8, 16, 32, 64]), st.integers(101, 300))
def test_leakage_and_area_grow_with_size(cell: str, size: int, width: int, percent: int) -> None:
    """As they do in the table from 1 KiB at equal width, apart from its small steps."""
    small = sram(size_bytes=size, word_bits=width, node_nm=45, cell=cell)
    large = sram(size_bytes=min(size * percent // 100 + 64, 2**22), word_bits=width, node_nm=45, cell=cell)
    assert large.leakage_mw > 0.8 * small.leakage_mw
    assert large.area_mm2 > 0.8 * small.area_mm2


@given(nodes, cells, st.integers(64, 2**22), st.integers(8, 256))
def test_ranges_hold_the_nominal_value(node: int, cell: str, size: int, width: int) -> None:
    if size * 8 < 8 * width:
        return
    macro = sram(size_bytes=size, word_bits=width, node_nm=node, cell=cell)
    for figure in (macro.read, macro.write, macro.leakage, macro.access, macro.cycle, macro.area):
        assert 0 < figure.low < figure.nominal < figure.high


def test_ranges_widen_off_the_table() -> None:
    on = sram(size_bytes=32768, word_bits=64, node_nm=45).read
    off = sram(size_bytes=33000, word_bits=60, node_nm=45).read
    between = sram(size_bytes=33000, word_bits=60, node_nm=40).read
    assert (on.low / on.nominal, on.high / on.nominal) == pytest.approx((0.8, 1.2))
    assert off.high / off.nominal == pytest.approx(1.2 * 1.08)
    assert between.high / between.nominal == pytest.approx(1.2 * 1.28)


def test_nodes_between_are_straight_in_log() -> None:
    low, high = (sram(size_bytes=8192, word_bits=32, node_nm=n) for n in (32, 45))
    middle = sram(size_bytes=8192, word_bits=32, node_nm=math.sqrt(32 * 45))
    assert middle.read_energy_pj == pytest.approx(math.sqrt(low.read_energy_pj * high.read_energy_pj))
    assert "between 32 and 45 nm by log-log interpolation" in middle.source


def test_below_22_nm_the_source_says_scaled() -> None:
    at_22 = sram(size_bytes=32768, word_bits=64, node_nm=22)
    at_7 = sram(size_bytes=32768, word_bits=64, node_nm=7)
    factor = inverter_factor(Quantity.SRAM_ENERGY, 22, 7)
    assert at_7.read_energy_pj == pytest.approx(at_22.read_energy_pj * factor.nominal)
    assert at_7.read.high == pytest.approx(at_22.read.high)
    assert at_7.confidence is Confidence.ASSUMED
    assert "SRAM energy 22 to 7 nm by inverter scaling" in at_7.source
    assert "inverter" not in at_22.source


def test_few_words_follow_the_power_laws() -> None:
    # 64-bit words: read (words/32)^0.19, write ^0.44, leakage ^0.92, area ^0.64, times unchanged
    least = sram(size_bytes=256, word_bits=64, node_nm=45)
    few = sram(size_bytes=128, word_bits=64, node_nm=45)
    assert few.read_energy_pj == pytest.approx(least.read_energy_pj * 0.5**0.19)
    assert few.write_energy_pj == pytest.approx(least.write_energy_pj * 0.5**0.44)
    assert few.leakage_mw == pytest.approx(least.leakage_mw * 0.5**0.92)
    assert few.area_mm2 == pytest.approx(least.area_mm2 * 0.5**0.64)
    assert few.access_time_ns == pytest.approx(least.access_time_ns)
    assert few.cycle_time_ns == pytest.approx(least.cycle_time_ns)
    assert "fewer words than the table holds" in few.source
    assert "fewer words" not in least.source


def test_fewer_than_eight_words_are_flip_flops() -> None:
    tiny = sram(size_bytes=32, word_bits=64, node_nm=40)
    # 4 words of 64 bits: a write clocks 64 flip-flops; a read switches 2 levels of 64 gates of 0.018056 / 32 pJ
    assert tiny.write_energy_pj == pytest.approx(64 * 0.008999)
    assert tiny.read_energy_pj == pytest.approx(128 * 0.018056 / 32)
    assert tiny.area_mm2 == pytest.approx((256 * 5.981433 + 192 * 50.36996 / 32) / 1e6)
    assert "Aladdin" in tiny.source


@pytest.mark.parametrize(
    ("node", "cell", "kelvin", "ratio"),
    [(45, "itrs-hp", 300, 0.65), (45, "itrs-lop", 300, 0.55), (45, "itrs-lstp", 300, 0.34), (45, "itrs-hp", 330, 1.0)],
)
def test_leakage_follows_temperature(node: int, cell: str, kelvin: float, ratio: float) -> None:
    """The ratios that the reference collection states."""
    assert leakage_ratio(node, cell, kelvin) == pytest.approx(ratio, rel=0.05)
    warm, other = (sram(size_bytes=4096, word_bits=32, node_nm=node, cell=cell, temperature_k=k) for k in (330, kelvin))
    assert other.leakage_mw == pytest.approx(warm.leakage_mw * leakage_ratio(node, cell, kelvin))
    assert other.read == warm.read


def test_the_wrong_row_of_the_temperature_table_is_not_used() -> None:
    # the table's 90 nm lop leakage at 350 K is ten times too high; 330 to 380 K is bridged without it
    assert 1.0 < leakage_ratio(90, "itrs-lop", 350) < 2.0


def test_a_mix_leaks_like_its_periphery() -> None:
    assert leakage_ratio(45, "itrs-lstp/itrs-lop", 310) == leakage_ratio(45, "itrs-lop", 310)
    mixed = sram(size_bytes=65536, word_bits=64, node_nm=45, cell="itrs-lstp/itrs-lop")
    assert (mixed.read_energy_pj, mixed.leakage_mw) == (13.0683, 0.535986)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"size_bytes": 2**23},
            "sram: size of a 1RW macro of 64-bit words: expected 1 to 4194304 bytes; got 8388608 bytes; use several "
            "banks above",
        ),
        (
            {"word_bits": 512},
            "sram: word width of a 1RW macro: expected 8 to 256 bit; got 512 bit; pad narrower words; put macros side "
            "by side for wider ones",
        ),
        ({"node_nm": 5}, "sram: node: expected 7 to 90 nm; got 5 nm; stay inside the table"),
        ({"temperature_k": 400}, "sram: temperature: expected 300 to 350 K; got 400 K; stay inside the table"),
        (
            {"cell": "lop"},
            "sram: cell: expected one of itrs-hp, itrs-lop, itrs-lstp, itrs-lstp/itrs-hp, itrs-lstp/itrs-lop; got "
            "'lop'; did you mean 'itrs-lop'?",
        ),
        ({"ports": "2RW"}, "sram: ports: expected one of 1RW, 1R1W; got '2RW'; did you mean '1RW'?"),
    ],
)
def test_out_of_range_says_the_range(change: dict[str, object], message: str) -> None:
    arguments: dict[str, object] = {"size_bytes": 32768, "word_bits": 64, "node_nm": 45} | change
    with pytest.raises(DchwError) as error:
        sram(**arguments)  # type: ignore[arg-type]
    assert str(error.value) == message


@pytest.mark.parametrize("size", [0, -64])
def test_a_size_is_positive(size: int) -> None:
    with pytest.raises(DchwError, match="expected 1 to 4194304 bytes"):
        sram(size_bytes=size, word_bits=64, node_nm=45)
