"""Names line up: what is listed is understood, however it is written."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

import dchw
from dchw.cli import group
from dchw.formats import storage_format
from dchw.importers.load import built_in_names
from dchw.importers.shipped import SHIPPED
from dchw.quantities import ConfigError, DchwError, forgiven
from dchw.training.recipe_file import load_recipe

ROOT = Path(__file__).parents[2]


def run(*words: str) -> str:
    result = CliRunner().invoke(group, words)
    assert result.exit_code == 0, result.output
    return result.output


def test_everything_that_is_listed_is_understood() -> None:
    found = json.loads(run("list", "--json"))
    for name in found["networks"]:
        assert name in built_in_names()
    for name in found["machines"]:
        assert dchw.machine(name).name == name
    for name in found["recipes"]:
        assert load_recipe(name).architecture == name
    for name in found["formats"]:
        assert storage_format(name).name == name
    for name in found["standards"]:
        assert dchw.replay.__name__ == "replay"
        assert run("list", "standards").count(name) == 1


@pytest.mark.parametrize("typed", ["lenet-300-100", "lenet_300_100", "LeNet-300-100", "LENET 300 100"])
def test_a_name_may_be_written_in_several_ways(typed: str) -> None:
    assert dchw.load_network(typed).name == "lenet-300-100"
    assert load_recipe(typed).architecture == "lenet-300-100"


@pytest.mark.parametrize("typed", ["Phone_LPDDR5X", "phone-lpddr5x"])
def test_presets_are_forgiven_too(typed: str) -> None:
    assert dchw.machine(typed).name == "phone-lpddr5x"


def test_a_file_goes_before_a_preset_of_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "PHONE-LPDDR5X").write_text("name: mine\n")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match="missing"):
        dchw.machine("PHONE-LPDDR5X")


def test_what_means_nothing_is_not_forgiven() -> None:
    assert forgiven("lenet-300-10", built_in_names()) is None


@pytest.mark.parametrize(("name", "file"), SHIPPED.items())
def test_shipped_networks_are_those_of_the_repository(name: str, file: str) -> None:
    assert (ROOT / "dchw/data/networks" / file).read_bytes() == (ROOT / "models" / file).read_bytes(), name


@pytest.mark.parametrize("name", ["alexnet", "vgg16", "squeezenet_v1_0"])
def test_geometry_without_weights_says_who_has_weights(name: str) -> None:
    with pytest.raises(DchwError, match=r"-synthetic' has weights|\.net file, has weights"):
        dchw.compress(dchw.load_network(name))  # type: ignore[arg-type]


def test_a_key_is_explained_and_a_schema_printed() -> None:
    assert "at most 16,384" in run("machines", "--explain", "huffman.units")
    assert json.loads(run("schema", "study"))["properties"]["vary"]["description"]


def test_the_version_is_that_of_the_citation() -> None:
    version = next(line for line in (ROOT / "pyproject.toml").read_text().splitlines() if line.startswith("version"))
    citation = next(line for line in (ROOT / "CITATION.cff").read_text().splitlines() if line.startswith("version"))
    assert version.split('"')[1] == citation.split()[1]
