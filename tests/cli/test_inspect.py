"""``dchw inspect``: the table, the JSON, and what a damaged file gives."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

import dchw
from dchw.cli import group, main
from dchw.compression.compressed import Representation
from dchw.container.sizes import PARTS
from tests.compression.networks import compressed


@pytest.fixture
def file(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    codes = np.where(rng.random((20, 50)) < 0.1, rng.integers(1, 8, (20, 50)), 0)
    network = compressed(
        {"a": codes, "b": np.eye(4, dtype=int)}, {"a": Representation(index_bits=4), "b": Representation()}
    )
    dchw.save(network, tmp_path / "net.dchw")
    return tmp_path / "net.dchw"


def test_json_adds_up_to_the_file(file: Path) -> None:
    result = CliRunner().invoke(group, ["inspect", str(file), "--json"])
    assert result.exit_code == 0
    found = json.loads(result.stdout)
    assert (found["schema"], found["kind"], found["network"]) == (1, "inspect", "small")
    assert [row["layer"] for row in found["rows"]] == ["a", "b", "(file)", "total"]
    parts = [f"{part}_bytes" for part in PARTS]
    assert sum(row[part] for row in found["rows"][:3] for part in parts) == file.stat().st_size == found["file_bytes"]
    assert found["representations"][0]["stored_as"] == "gaps: huffman codes, huffman 4-bit gaps"
    assert set(found["representations"][0]) == {"layer", "stored_as", "gaps", "escaped_gaps", "bitmask", "dense"}
    assert found["rows"][0]["gap_filler_bytes"] > 0


def test_table_names_bytes_and_reasons(file: Path) -> None:
    result = CliRunner().invoke(group, ["inspect", str(file)], env={"COLUMNS": "200"})
    assert result.exit_code == 0
    assert "the parts add up to the file's length" in result.stdout
    assert "gaps: huffman codes, huffman 4-bit gaps" in result.stdout
    for column in ("of these fillers", "code tables", "bits per weight", "bitmask"):
        assert column in result.stdout


def test_a_built_in_network_is_known_by_its_name(file: Path) -> None:
    result = CliRunner().invoke(group, ["inspect", "LeNet_300_100", "--json"], catch_exceptions=False)
    assert json.loads(result.stdout)["network"] == "lenet-300-100"
    assert "cannot be read" in str(CliRunner().invoke(group, ["inspect", "lenet-300"]).exception)


def test_damage_ends_with_one_sentence(
    file: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    file.write_bytes(file.read_bytes()[:-1])
    monkeypatch.setattr("sys.argv", ["dchw", "inspect", str(file)])
    with pytest.raises(SystemExit) as stopped:
        main()
    assert stopped.value.code == 1
    message = capsys.readouterr().err
    assert message.startswith(f"dchw: {file}: tensors: expected")
    assert message.count("\n") == 1


@pytest.mark.peers
def test_peers(file: Path) -> None:
    result = CliRunner().invoke(group, ["inspect", str(file), "--peers", "--json"])
    assert result.exit_code == 0
    rows = json.loads(result.stdout)["peers"]
    assert [row["layer"] for row in rows] == ["a", "b"]
    for row in rows:
        assert 0 < row["entropy"] <= row["dchw"]
        assert min(row["arm_mlw"], row["zstd_codes"], row["zstd_fp32"]) > 0
