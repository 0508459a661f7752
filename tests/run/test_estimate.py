"""What is said of a run before it runs, against the run."""

from __future__ import annotations

import json
from functools import cache

import numpy as np
import pytest
from click.testing import CliRunner

import dchw
from dchw.cli import group
from dchw.graph.geometry import Geometry
from dchw.run import estimate as module

FORMATS = ("huffman", "dense-int8", "csr", "bitmask", "palette-huffman")


@cache
def network(name: str) -> dchw.CompressedNetwork:
    found = dchw.load_network(name)
    assert isinstance(found, dchw.CompressedNetwork)
    return found


def off(name: str, machine: str, storage: str, warm: bool = False) -> tuple[float, float, float]:
    """Estimated over run: DRAM bytes read, written, and firings."""
    said = dchw.estimate(network(name), machine, storage, warm=warm)
    run = dchw.simulate(network(name), machine, storage, warm=warm)
    fired = sum(int(node.firings.sum()) for node in run.outline.firing)
    assert (said.dram_write_bytes > 0) == (run.dram_write_bytes > 0)
    pairs = (
        (said.dram_read_bytes, run.dram_read_bytes),
        (said.dram_write_bytes, run.dram_write_bytes),
        (said.firings, fired),
    )
    read, written, firings = (a / max(b, 1) if b else 1.0 for a, b in pairs)
    return read, written, firings


@pytest.mark.parametrize("storage", FORMATS)
@pytest.mark.parametrize("machine", ["phone-lpddr5x", "embedded-lpddr4"])
@pytest.mark.parametrize("name", ["lenet-300-100", "lenet-5"])
def test_bytes_are_those_of_the_run_and_firings_near(name: str, machine: str, storage: str) -> None:
    read, written, firings = off(name, machine, storage)
    assert read == written == 1
    assert 0.7 < firings < 1.3


@pytest.mark.parametrize("storage", ["huffman", "dense-fp32"])
def test_bands_and_parts_of_a_convolution_that_no_sram_holds(storage: str) -> None:
    weight = np.random.default_rng(0).standard_normal((64, 64, 3, 3), dtype=np.float32)
    geometry = Geometry(in_channels=64, out_channels=64, kernel=(3, 3), padding=(1, 1), in_size=(28, 28))
    layer = dchw.Network.from_arrays("n", {"c": weight}, geometry={"c": geometry})
    compressed = dchw.compress(layer, dchw.Recipe(density=0.3))
    target = dchw.machine("phone-lpddr5x").replace("weight_sram.size_bytes", "16 KiB")
    target = target.replace("activation_sram.size_bytes", "16 KiB")
    said, run = dchw.estimate(compressed, target, storage), dchw.simulate(compressed, target, storage)
    assert run.dram_read_bytes > 1.5 * run.workload.packed_bytes  # something is read again
    assert (said.dram_read_bytes, said.dram_write_bytes) == (run.dram_read_bytes, run.dram_write_bytes)


@pytest.mark.parametrize("warm", [False, True])
def test_weights_decoded_at_load_and_left_from_before(warm: bool) -> None:
    read, written, _ = off("lenet-5", "eie-64pe-45nm", "relative", warm)
    assert read == written == 1
    read, written, _ = off("lenet-300-100", "phone-lpddr5x", "huffman", warm)
    assert read == written == 1


def test_a_planted_fault_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "chunk_rounds", lambda work, machine, **_: 2)
    assert off("lenet-300-100", "phone-lpddr5x", "dense-int8")[0] > 1.3


def test_relative_cost_grows_with_weights_and_work() -> None:
    small, large = network("lenet-300-100").layers, network("lenet-5").layers
    assert 1 < module.relative_cost(small, 1) < module.relative_cost(large, 1) < module.relative_cost(large, 64)


def test_lists_of_values_are_lines() -> None:
    words = ["estimate", "lenet-300-100", "--set", "huffman.units=4,8", "--set", "dram.channels=1,2", "--json"]
    rows = json.loads(CliRunner().invoke(group, words, catch_exceptions=False).stdout)["rows"]
    asked = [(row["huffman.units"], row["dram.channels"]) for row in rows]
    assert asked == [(4, 1), (4, 2), (8, 1), (8, 2)]
    target = dchw.machine("phone-lpddr5x").replace_all({"huffman.units": 8, "dram.channels": 1})
    alone = dchw.estimate(network("lenet-300-100"), target)
    assert rows[2]["dram_read_bytes"] == alone.dram_read_bytes


def test_the_verb_says_what_it_leaves_out() -> None:
    words = ["estimate", "lenet-300-100", "--machine", "phone-lpddr5x", "--set", "huffman.units=4"]
    told = CliRunner().invoke(group, [*words, "--json"], catch_exceptions=False)
    found = json.loads(told.stdout)
    assert found["kind"] == "estimate"
    (row,) = found["rows"]
    assert 0 < row["seconds"] < float("inf")
    assert row["memory_bytes"] > 1 << 20
    assert any("compiling kernels" in note for note in found["notes"])
