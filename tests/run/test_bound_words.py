"""Do the words on what bounds a layer say its rates, on machines whose answer is known?"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import dchw
from dchw.run.bound_words import bounds_frame

LENET = Path(__file__).parents[2] / "models" / "lenet_300_100.dchw"


def words(storage: str, **changes: object) -> str:
    machine = dchw.machine("phone-lpddr5x")
    for path, value in changes.items():
        machine = machine.replace(path.replace("__", "."), value)
    frame = bounds_frame(dchw.simulate(dchw.load(LENET), machine, storage)).set_index("layer")
    assert (frame["reached"].dropna() <= frame["capacity"][frame["reached"].notna()] * (1 + 1e-9)).all()
    return str(frame.loc["ip1", "words"])


def test_decoding_says_how_many_of_how_many_and_what_the_memory_would_allow() -> None:
    found = re.fullmatch(
        r"decode: ([\d.]+) of (\d+) weights a cycle, at work \d+% of the time; the DRAM would allow ([\d.]+)x",
        words("huffman", huffman__units=4),
    )
    assert found
    assert 3 < float(found[1]) <= float(found[2]) == 4
    assert float(found[3]) > 5


def test_the_bus_says_its_bytes() -> None:
    found = re.match(r"DRAM: ([\d.]+) of 68.27 B a cycle, at work \d+% of the time; ", words("dense-fp32"))
    assert found
    assert 55 < float(found[1]) <= 68.27


def test_rates_do_not_depend_on_words_of_others() -> None:
    result = dchw.simulate(dchw.load(LENET), "phone-lpddr5x", "huffman")
    frame = bounds_frame(result)
    layers = result.layers_frame()
    assert list(frame["own_cycles"]) == list(layers["own_cycles"])
    assert list(frame["bound_by"]) == list(layers["bound_by"])
    assert frame["own_cycles"].sum() == result.cycles
    assert frame["bound_share"].tolist() == pytest.approx(layers["bound_share"].tolist())
