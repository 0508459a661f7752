"""Does a run say what bounds it? Machines are made so that the answer is known."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from dchw.graph.geometry import Geometry
from dchw.run.bounds import Bound
from dchw.run.simulation import simulate
from tests.formulas.layers import convolution, machine_with, product, random_codes

FAST = {"bytes_per_cycle": 1024}
LAYER = product(random_codes(64, 400, 0.5))
CONV = convolution(Geometry(in_channels=16, out_channels=16, kernel=(3, 3), padding=(1, 1), in_size=(12, 12)))
WIDE = {
    "huffman__units": 8,
    "weight_sram__size_bytes": "64 KiB",
    "weight_sram__word_bits": 128,
    "activation_sram__size_bytes": "64 KiB",
}

CASES: dict[str, tuple[Any, str, dict[str, float], dict[str, Any]]] = {
    "dram": (LAYER, "shared", {"bytes_per_cycle": 1}, WIDE),
    "decode": (LAYER, "huffman", FAST, {**WIDE, "huffman__units": 1}),
    "array": (CONV, "shared", FAST, WIDE),
    "codebook": (LAYER, "shared", FAST, {**WIDE, "codebook__shared_by": 4}),
    "weight SRAM": (LAYER, "dense-fp32", FAST, {**WIDE, "weight_sram__word_bits": 32, "weight_sram__banks": 1}),
    "activation SRAM": (
        product(np.eye(4, 400, dtype=np.uint8)),
        "dense-int8",
        FAST,
        {**WIDE, "pe_array__fill_cycles": 0},
    ),
    "vector": (
        convolution(Geometry(in_channels=1, out_channels=16, kernel=(1, 1), in_size=(12, 12))),
        "shared",
        FAST,
        {**WIDE, "vector__values_per_cycle": 1},
    ),
}


@pytest.mark.parametrize("word", CASES)
def test_the_answer_is_the_one_the_machine_was_made_for(word: str) -> None:
    network, storage, memory, changes = CASES[word]
    result = simulate(network, machine_with(memory, **changes), storage)
    bound = result.bound
    assert bound.resource == word, bound.work_cycles
    frame = result.layers_frame()
    assert frame["bound_by"].iloc[0] in (word, "latency")
    assert int(frame["own_cycles"].sum()) == result.cycles
    assert bound.work_cycles[word] <= result.cycles  # no point above a roof


def test_own_cycles_add_up_over_layers() -> None:
    import dchw

    network = dchw.load("models/lenet_5.dchw")
    result = dchw.simulate(network, "phone-lpddr5x")
    frame = result.layers_frame()
    assert int(frame["own_cycles"].sum()) == result.cycles
    assert sum(result.bound.layers.values()) == pytest.approx(1.0)


def test_widening_what_binds_helps_and_nothing_else_does() -> None:
    slow = {**WIDE, "huffman__units": 1}
    cycles = simulate(LAYER, machine_with(FAST, **slow), "huffman").cycles
    twice = simulate(LAYER, machine_with(FAST, **{**slow, "huffman__units": 2}), "huffman").cycles
    faster_memory = simulate(LAYER, machine_with({"bytes_per_cycle": 4096}, **slow), "huffman").cycles
    assert twice < 0.6 * cycles
    assert faster_memory > 0.98 * cycles


def test_words() -> None:
    decode = Bound(layer="fc", own_cycles=100, work_cycles={"decode": 90.0, "dram": 30.0})
    assert (decode.bound_by, decode.next_resource, decode.headroom) == ("decode", "dram", 3.0)
    assert str(decode) == "fc: decode, at work 90% of the time; dram would allow 3.0x"
    waits = Bound(layer="fc", own_cycles=100, work_cycles={"decode": 30.0})
    assert waits.bound_by == "latency"
    assert str(waits) == "fc: latency: the busiest resource, decode, works 30% of the time"
    mixed = Bound(layer="", own_cycles=100, work_cycles={"decode": 50.0}, layers={"decode": 0.6, "vector": 0.4})
    assert str(mixed) == "decode for 60% of the time, vector for 40% of the time"
    close = Bound(layer="fc", own_cycles=100, work_cycles={"decode": 90.0, "dram": 89.0})
    assert str(close) == "fc: decode, at work 90% of the time; dram is as busy"
    # most layers are held by one resource, another works most: the words begin with what the tables call the bound
    other = Bound(layer="", own_cycles=100, work_cycles={"vector": 62.0}, layers={"dram": 0.6, "vector": 0.4})
    assert str(other) == "dram for 60% of the time, vector for 40% of the time"
    assert str(other).startswith(other.bound_by)
