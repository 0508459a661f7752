"""SRAM accesses out of published tables: listed points exactly, monotone in size and node, ranges that span methods."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

import dchw
from dchw.technology.published import published_energy
from dchw.technology.published_sram import published_read
from dchw.technology.scaling import Scaling

LISTED = {(8, 7): 7.5, (32, 7): 8.5, (1024, 7): 14.0, (8, 45): 10.0, (32, 45): 20.0, (1024, 45): 100.0}


@pytest.mark.parametrize(("place", "published_pj"), LISTED.items())
def test_listed_reads_are_reproduced(place: tuple[int, int], published_pj: float) -> None:
    kib, node = place
    assert published_read(kib * 1024, node).nominal == pytest.approx(published_pj)


@given(st.integers(16, 1 << 22), st.floats(7, 45), st.floats(1.05, 4))
def test_reads_grow_with_size_and_node(size: int, node: float, factor: float) -> None:
    here = published_read(size, node).nominal
    assert published_read(size * factor, node).nominal > here
    assert published_read(size, min(45.0, node * factor)).nominal >= here * (1 - 1e-12)


def test_a_register_file_costs_what_is_published_for_one() -> None:
    """Deep Compression's table: 1 pJ for 32 bits at 45 nm, a fifth of Horowitz' read of 8 KiB; at 7 nm 7.5 / 5."""
    assert published_read(724.08, 45).nominal == pytest.approx(2.0, rel=1e-3)
    assert published_read(724.08, 7).nominal == pytest.approx(1.5, rel=1e-3)
    # Eyeriss: a word of 16 bits out of 0.5 KiB takes what a 16-bit multiply-accumulate does
    multiply_accumulate = sum(
        published_energy("horowitz_isscc14", name, bits).nominal for name, bits in (("int_mult", 32), ("int_add", 32))
    )
    assert published_read(512, 45).nominal / 4 < multiply_accumulate / 2


@given(st.sampled_from([8, 16, 32, 64]), st.integers(5, 12), st.floats(7, 40))
def test_a_published_macro_holds_the_scaled_one_in_its_range(width: int, log_words: int, node: float) -> None:
    where = {"size_bytes": (width << log_words) // 8, "word_bits": width, "node_nm": node}
    published, scaled = dchw.sram(**where, scaling="published"), dchw.sram(**where)
    for mine, modelled in ((published.read, scaled.read), (published.write, scaled.write)):
        assert mine.low <= modelled.nominal <= mine.high
    assert published.write_energy_pj / published.read_energy_pj == pytest.approx(
        scaled.write_energy_pj / scaled.read_energy_pj
    )
    assert published.leakage == scaled.leakage
    nothing = "nothing is published"
    assert (nothing in published.read.source) == (where["size_bytes"] < 725)
    assert "CACTI's ratio" in published.read.source


@pytest.mark.parametrize("size", [512, 4 << 10, 64 << 10])
def test_what_the_tables_leave_open_is_in_the_high_end(size: int) -> None:
    """How large the published register file is, and how many ports the memories have."""
    where = {"size_bytes": size, "word_bits": 64, "node_nm": 7}
    one, two = (dchw.sram(**where, ports=ports, scaling="published").read for ports in ("1RW", "1R1W"))
    second_port = dchw.sram(**where, ports="1R1W").read_energy_pj / dchw.sram(**where).read_energy_pj
    assert two.nominal == pytest.approx(one.nominal)
    assert two.high == pytest.approx(one.high * second_port)
    file = max(1 - math.log(size / 724.08) / math.log(8192 / 724.08), 0.0)  # 1 at the register file, 0 from 8 KiB on
    assert one.high / one.nominal == pytest.approx(2**file, rel=1e-3)


def test_64_bits_at_7_nm_are_what_the_table_of_its_arithmetic_lists() -> None:
    for kib, listed in ((8, 7.5), (32, 8.5), (1024, 14.0)):
        macro = dchw.sram(size_bytes=kib * 1024, word_bits=64, node_nm=7, scaling="published")
        assert macro.read_energy_pj == pytest.approx(listed)


def test_nodes_outside_the_tables_and_unknown_methods_are_refused() -> None:
    with pytest.raises(dchw.DchwError, match="7 to 40 nm"):
        dchw.sram(size_bytes=8192, word_bits=64, node_nm=65, scaling=Scaling.PUBLISHED)
    with pytest.raises(dchw.DchwError, match="scaling: expected one of inverter, published; got 'publishd'"):
        dchw.sram(size_bytes=8192, word_bits=64, node_nm=7, scaling="publishd")
