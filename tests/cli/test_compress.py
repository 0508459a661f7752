"""``dchw compress``: files in, a file out, and the sentences in between."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

import dchw
from dchw.cli import group
from dchw.compression.compressed import Positions
from dchw.quantities import DchwError
from tests.importers.test_release import PROTOTXT, naive_release


def run(*arguments: object) -> Result:
    return CliRunner().invoke(group, ["compress", *map(str, arguments)])


def test_a_built_in_name(tmp_path: Path) -> None:
    result = run("lenet-300-100-synthetic", tmp_path / "a.dchw", "--json")
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert found["file_bytes"] == (tmp_path / "a.dchw").stat().st_size
    assert found["ratio"] == pytest.approx(1_066_440 / found["file_bytes"])
    assert dchw.load(tmp_path / "a.dchw").graph.notes[0].startswith("SYNTHETIC")


def test_a_release_becomes_a_dchw_file(tmp_path: Path) -> None:
    layers = [([0.0] * 256, [1.0] * 3, [1] * 54, 8), ([0.0] * 16, [1.0] * 5, [1] * 60, 4)]
    (tmp_path / "small.net").write_bytes(naive_release(layers))
    (tmp_path / "elsewhere.txt").write_text(PROTOTXT)
    result = run(tmp_path / "small.net", tmp_path / "a.dchw", "--prototxt", tmp_path / "elsewhere.txt")
    assert result.exit_code == 0, result.output
    assert dchw.load(tmp_path / "a.dchw").layer("fc6").nonzeros == 60


def test_options_go_before_the_recipe_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import numpy as np

    network = dchw.Network.from_arrays("n", {"a": np.random.default_rng(0).normal(size=(20, 30)).astype(np.float32)})
    monkeypatch.setattr(dchw, "load_network", lambda path: network)
    (tmp_path / "r.yaml").write_text("density: 0.5\nindex_bits: 4\npositions: gaps\n")
    result = run("x", tmp_path / "a.dchw", "--recipe", tmp_path / "r.yaml", "--density", 0.1, "--index-bits", 3)
    assert result.exit_code == 0, result.output
    layer = dchw.load(tmp_path / "a.dchw").layer("a")
    assert layer.nonzeros == 60
    assert layer.representation.positions is Positions.GAPS
    assert layer.representation.index_bits == 3


def test_what_is_compressed_takes_no_recipe(tmp_path: Path) -> None:
    run("lenet-300-100-synthetic", tmp_path / "a.dchw")
    result = run(tmp_path / "a.dchw", tmp_path / "b.dchw", "--density", 0.1)
    assert isinstance(result.exception, DchwError)
    assert str(result.exception).endswith("is compressed already; got a recipe for it; leave the recipe out")
    assert not (tmp_path / "b.dchw").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--positions", "bitmap"), "options: positions: got 'bitmap'; did you mean 'bitmask'?"),
        (("--density", "1.5"), "options: density: input should be less than or equal to 1; got 1.5"),
        (("--index-bits", "some"), "options: index_bits: expected 1 to 16 or 'smallest'; got 'some'"),
    ],
)
def test_wrong_options(options: tuple[str, ...], message: str, tmp_path: Path) -> None:
    result = run("alexnet", tmp_path / "a.dchw", *options)
    assert isinstance(result.exception, DchwError)
    assert str(result.exception) == message


def test_geometry_alone_cannot_be_compressed(tmp_path: Path) -> None:
    result = run("alexnet", tmp_path / "a.dchw")
    assert isinstance(result.exception, DchwError)
    assert str(result.exception).startswith("network alexnet: expected at least one weight that stays; got none in any")


def test_an_unknown_name(tmp_path: Path) -> None:
    result = run("alexnt", tmp_path / "a.dchw")
    assert str(result.exception) == "alexnt: there is no such built-in network; did you mean 'alexnet'?"
    result = run("model.pkl", tmp_path / "a.dchw")
    assert "expected a file ending in .dchw, .net, .onnx, .prototxt" in str(result.exception)


def test_sizes_that_an_onnx_file_leaves_open(tmp_path: Path) -> None:
    pytest.importorskip("onnx", reason="needs the extra 'onnx'")
    from tests.importers.onnx_models import array, node, saved

    path = saved(tmp_path, [node("Conv", "x w", "y")], {"w": array(4, 3, 3, 3)}, (3, "height", "width"))
    result = run(path, tmp_path / "a.dchw")
    assert "give them, for instance --input x=1x3x224x224" in str(result.exception or result.output)
    result = run(path, tmp_path / "a.dchw", "--input", "x=1x3x9x8")
    assert result.exit_code == 0, result.output
    assert dchw.load(tmp_path / "a.dchw").graph.input_shape == (3, 9, 8)
    for wrong in ("x", "x=", "=1x3", "x=1x-3", "x=1xthree"):
        result = run(path, tmp_path / "b.dchw", "--input", wrong)
        assert "--input: expected NAME=SIZES such as x=1x3x224x224" in str(result.exception or result.output)
