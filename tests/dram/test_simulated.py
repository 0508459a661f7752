"""What a simulated run tells about its DRAM, in the library and on the command line."""

from __future__ import annotations

import json

import numpy as np
import pytest
from click.testing import CliRunner

import dchw
from dchw.cli import group


@pytest.fixture(scope="module")
def compressed():
    rng = np.random.default_rng(3)
    network = dchw.Network.from_arrays(
        "one", weights={"fc": rng.normal(size=(96, 256)).astype(np.float32)}, inputs={"fc": np.ones(256, np.float32)}
    )
    return dchw.compress(network, dchw.Recipe(density=0.2, codebook_bits=4, index_bits=4))


def test_the_run_tells_what_its_dram_did(compressed):
    result = dchw.simulate(compressed, "phone-lpddr5x")
    memory = result.memory
    assert memory.standard == "LPDDR5X-8533"
    assert memory.size_bytes == result.dram_bytes + 32 * (memory.forwarded + memory.merged)
    assert (
        memory.row_hits + memory.row_misses + memory.row_conflicts + memory.forwarded + memory.merged == memory.bursts
    )
    assert sum(reads for _, reads in memory.latencies()) == memory.banks()["reads"].sum() + memory.forwarded
    assert memory.energy_pj == pytest.approx(
        sum(row.energy_pj for row in result.costs.rows if row.unit == "dram"), rel=1e-9
    )


def test_the_command_line_prints_it(compressed, tmp_path):
    path = tmp_path / "one.dchw"
    dchw.save(compressed, path)
    table = CliRunner().invoke(group, ["simulate", str(path), "--machine", "phone-lpddr5x"])
    assert table.exit_code == 0, table.output
    assert "row hits, misses, conflicts" in table.output
    content = json.loads(
        CliRunner().invoke(group, ["simulate", str(path), "--machine", "phone-lpddr5x", "--json"]).stdout
    )
    memory = dchw.simulate(compressed, "phone-lpddr5x").memory
    assert content["memory"]["row_hits"] == memory.row_hits
    assert content["memory"]["share_of_peak"] == pytest.approx(memory.share_of_peak)
    assert len(content["memory"]["banks"]) == 16 * memory.channels
