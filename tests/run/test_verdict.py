"""Do the sentences of a comparison follow its numbers, in every branch, and never call more less?"""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

import dchw
from dchw.quantities import DchwError
from dchw.run.verdict import Standing, against, break_even_fps, choose_baseline, ratios, verdict
from tests.reports.runs import tiny_network

BYTES, HALVES = "int8xint8->int32", "fp16xfp16->fp32"
FULL = Standing(
    storage="dense-fp32", dense=True, multiplies=HALVES, dram_bytes=4000, seconds=4e-6, energy_pj=4e7,
    one_chip_pj=4.1e7, leakage_mw=40.0,
)  # fmt: skip
DENSE = replace(
    FULL, storage="dense-int8", multiplies=BYTES, dram_bytes=1000, seconds=1e-6, energy_pj=1e7, one_chip_pj=1.05e7
)
CODED = Standing(
    storage="huffman-int8", dense=False, multiplies=BYTES, dram_bytes=100, seconds=5e-7, energy_pj=2e6,
    one_chip_pj=2.1e6, leakage_mw=44.0, bound="decode, at work 90% of the time; dram would allow 4.4x",
    streams={"codes": 60, "gaps": 39, "biases": 1}, categories={"DRAM": 1.5e6, "SRAM": 0.5e6},
)  # fmt: skip


def said(*rows: Standing, baseline: str | None = None) -> str:
    sentences = verdict(rows, baseline)
    assert all(sentence.endswith(".") for sentence in sentences)
    return " ".join(sentences)


def test_what_wins_and_by_how_much_against_what() -> None:
    text = said(FULL, DENSE, CODED)
    assert text.startswith(
        "huffman-int8 takes 5.0x less energy than dense-int8, the strongest dense row (20.0x less than dense-fp32), "
        "with 10.0x less DRAM traffic, and is 2.0x faster; both multiply int8xint8->int32. huffman-int8 is bound by "
    )
    assert "What is left of its DRAM traffic is 60% codes and 39% gaps; 75% of its energy is DRAM." in text


def test_what_multiplies_other_numbers_is_said_with_the_like_for_like_row() -> None:
    wide = replace(CODED, storage="huffman", multiplies=HALVES, energy_pj=1.9e6)
    text = said(DENSE, CODED, wide)
    assert (
        "it multiplies fp16xfp16->fp32, dense-int8 int8xint8->int32, and in the same arithmetic huffman-int8 " in text
    )
    assert "takes 5.0x less." in text
    assert said(DENSE, wide).count("in the same arithmetic") == 0


def test_nothing_wins() -> None:
    worse = replace(CODED, energy_pj=1.3e7, dram_bytes=1001, seconds=1.2e-6)
    text = said(DENSE, worse)
    assert text.startswith(
        "Nothing compared takes less energy than dense-int8: the next, huffman-int8 takes 1.3x more energy than "
        "dense-int8, the strongest dense row, with as much DRAM traffic, and is 1.2x slower;"
    )
    assert "The baseline itself is 1.2x faster than huffman-int8, for 1.3x less energy." in text
    assert "frame" not in text


def test_another_row_is_faster() -> None:
    quick = replace(CODED, storage="shared", seconds=2e-7, energy_pj=2.6e6)
    assert "shared is 2.5x faster than huffman-int8, for 1.3x more energy." in said(DENSE, CODED, quick)
    assert "faster than huffman-int8" not in said(DENSE, CODED, replace(quick, seconds=4.9e-7))


def test_the_frame_rate_below_which_leakage_eats_the_gain() -> None:
    # 4 mW more leak 4e9 pJ a second; gained are 1e7 - 40e9 x 1e-6 - (2e6 - 44e9 x 5e-7) = 7.982e6 pJ
    rate = break_even_fps(DENSE, CODED)
    assert rate == pytest.approx(4e9 / 7.982e6)
    frame = [row.energy_pj + row.leakage_mw * 1e9 * (1 / rate - row.seconds) for row in (DENSE, CODED)]
    assert frame[0] == pytest.approx(frame[1])
    text = said(DENSE, CODED)
    assert (
        "Below 501 frames per second leakage of its larger hardware (44 against 40 mW, each on a chip of its own)"
        in text
    )
    assert "eats the gain; on one chip that works both it stays." in text
    # a batch of 8 serves 8 frames a run
    eight = [replace(row, inferences=8) for row in (DENSE, CODED)]
    assert break_even_fps(*eight) == pytest.approx(8 * rate)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"leakage_mw": 39.0}, "The gain holds at every frame rate: huffman-int8's own hardware leaks no more"),
        ({"leakage_mw": 4e7}, "At every frame rate that both can keep, leakage of its larger hardware"),
        ({"energy_pj": 9.99e6, "seconds": 1e-9}, "Leakage of its larger hardware eats the gain at every frame rate"),
        ({"one_chip_pj": 1.1e7}, "eats the gain; on one chip that works both it is gone."),
    ],
)
def test_other_fates_of_the_gain(changes: dict[str, float], words: str) -> None:
    assert words in said(DENSE, replace(CODED, **changes))


def test_the_baseline_can_be_chosen_and_a_wrong_name_is_answered() -> None:
    assert choose_baseline([FULL, DENSE, CODED]) is DENSE
    assert choose_baseline([CODED]) is CODED
    assert "less energy than dense-fp32, with" in said(FULL, DENSE, CODED, baseline="dense-fp32")
    assert ratios([FULL, DENSE, CODED], "dense-fp32")["energy_ratio"] == [1.0, 4.0, 20.0]
    with pytest.raises(DchwError, match=r"baseline 'dense-int9'.*did you mean 'dense-int8'"):
        choose_baseline([FULL, DENSE], "dense-int9")
    assert said(CODED) == "huffman-int8 alone was run: nothing to compare it with."


positive = st.floats(1e-9, 1e12)


@given(old=positive, new=positive)
def test_more_is_never_called_less(old: float, new: float) -> None:
    words = against(old, new, "less", "more", "as much")
    assert not re.search(r"\b1\.00?x", words)
    if "less" in words:
        assert new < old
    elif "more" in words:
        assert new > old
    else:
        assert 1 / 1.06 < old / new < 1.06


def test_compare_opens_with_it() -> None:
    network = tiny_network()
    frame = dchw.compare(network, "phone-lpddr5x", storages=["dense-fp32", "dense-int8", "huffman"])
    assert frame.attrs["baseline"] == "dense-int8"
    assert 1 <= len(frame.attrs["verdict"]) <= 5
    assert frame["energy_ratio"].iloc[1] == 1.0
    assert frame["energy_ratio"].iloc[2] == pytest.approx(frame["energy_nj"].iloc[1] / frame["energy_nj"].iloc[2])
    assert (frame["energy_one_chip_nj"] >= frame["energy_nj"]).all()
    assert frame["area_one_chip_mm2"].round(9).nunique() == 1
    assert (frame["inferences_per_j"] * frame["energy_nj"]).round(3).eq(1e9).all()
    called: dict[str, dchw.SimResult] = {}
    with pytest.raises(DchwError, match="baseline 'csr'"):
        dchw.compare(
            network,
            "phone-lpddr5x",
            storages=["huffman"],
            baseline="csr",
            on_result=lambda name, _: called.append(name),
        )
    assert not called  # refused before anything is run
