"""Does a whole recipe give files that hold what the module computes, repeatably, and keep what was finished?"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner

import dchw
from dchw.cli.train import command
from dchw.config import build, dump_yaml, load_yaml
from dchw.quantities import ConfigError, DchwError
from dchw.training import datasets
from dchw.training.curves import draw, write_rows
from dchw.training.datasets import hold_out, mnist
from dchw.training.experiments import EXPERIMENTS, ExperimentPlan, Subject
from dchw.training.export import compressed_from_module
from dchw.training.loop import Training, error_percent
from dchw.training.material import built_in
from dchw.training.recipe_file import TrainingRecipe, load_recipe, with_changes
from dchw.training.session import left_behind, load_dense, train_compressed, train_dense, train_files
from tests.training.nets import SHORT, few_digits, nested

MODELS = Path(__file__).parents[2] / "models"
TINY = {"epochs": 2, "learning_rate": 0.003, "batch_size": 32, "warmup_steps": 5}


def tiny(**changes: object) -> TrainingRecipe:
    data = {
        "name": "tiny",
        "architecture": "lenet-300-100",
        "dataset": "digits",
        "dense": {**TINY, "epochs": 4},
        "distillation": {"temperature": 2, "weight": 0.5},
        "pruning": {
            "training": TINY,
            "retraining": TINY,
            "density": 0.05,
            "score": "activation",
            "scope": "global",
            "regrow": True,
            "remove_dead": True,
            "update_steps": 5,
        },
        "sharing": {"training": TINY, "shared_values": 7, "codebook_format": "float16", "bias_format": "int8"},
        **changes,
    }
    return build(TrainingRecipe, data, where="tiny")


def test_a_recipe_from_random_weights_to_a_file(tmp_path: Path) -> None:
    recipe, data = tiny(example_images=1), few_digits(640)
    material = built_in("lenet-300-100", data)
    dense = train_dense(recipe, material)
    trained = train_compressed(recipe, dense, material, seed=3)
    assert trained.values["shared"] < 60  # ten classes: chance is 90
    assert 0.02 < trained.density <= 0.05
    dchw.save(trained.compressed, tmp_path / "x.dchw")
    loaded = dchw.load(tmp_path / "x.dchw")
    assert loaded.results["seed"] == 3
    assert loaded.results["error_percent"] == pytest.approx(trained.values["shared"], abs=1e-4)
    # what the file decompresses to is, bit for bit, what the module was measured with
    module = load_module(loaded)
    for name, weight in module.state_dict().items():
        torch.testing.assert_close(weight, plain_state(trained.module)[name], rtol=0, atol=0)
    assert error_percent(module, data.test_images, data.test_labels) == pytest.approx(trained.values["shared"], abs=0.5)
    again = train_compressed(recipe, train_dense(recipe, material), material, seed=3)
    for one, other in zip(trained.compressed.layers, again.compressed.layers, strict=True):
        np.testing.assert_array_equal(one.codes, other.codes)
        np.testing.assert_array_equal(one.codebook, other.codebook)


def test_codes_that_change_while_training_reach_the_file() -> None:
    material = built_in("lenet-300-100", few_digits(640))
    sharing = {"training": {**TINY, "learning_rate": 0.01}, "shared_values": 3}
    dense = train_dense(tiny(), material)
    held, moved = (
        train_compressed(tiny(sharing={**sharing, "reassign": reassign}), dense, material, seed=0)
        for reassign in (False, True)
    )
    pairs = list(zip(held.compressed.layers, moved.compressed.layers, strict=True))
    assert all(((a.codes != 0) == (b.codes != 0)).all() for a, b in pairs)
    assert any((a.codes != b.codes).any() for a, b in pairs)
    assert all(b.codebook.size <= 4 for _, b in pairs)
    for name, weight in load_module(moved.compressed).state_dict().items():
        torch.testing.assert_close(weight, plain_state(moved.module)[name], rtol=0, atol=0)


def load_module(compressed: dchw.CompressedNetwork) -> torch.nn.Module:
    from dchw import architectures

    module = architectures.build(compressed.name)
    module.load_state_dict(compressed.decompress().state_dict())
    return module


def plain_state(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {
        f"{name}.{kind}": getattr(layer, kind).detach()
        for name, layer in module.named_children()
        for kind in ("weight", "bias")
    }


def test_a_module_that_is_not_shared_is_not_exported() -> None:
    with pytest.raises(DchwError, match=r"layer .features.0.: expected its weight to be shared; it is plain"):
        compressed_from_module(nested(), torch.zeros(1, 1, 28, 28), name="x")


def test_the_command_writes_dense_and_compressed_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets, "load_dataset", lambda name, folder: few_digits())
    dump_yaml(tiny(seeds=[0, 1]), tmp_path / "tiny.yaml")
    result = CliRunner().invoke(command, [str(tmp_path / "tiny.yaml"), "--out", str(tmp_path / "net"), "--json"])
    assert result.exit_code == 0, result.output
    rows = json.loads(result.stdout)["networks"]
    assert [row["seed"] for row in rows] == [0, 1]
    best = min(rows, key=lambda row: (row["error_percent"], row["file_bytes"]))
    for row in rows:
        assert row["file_bytes"] == Path(row["file"]).stat().st_size
        assert row["ratio"] == round(1_066_440 / row["file_bytes"], 2)
    assert (tmp_path / "net.dchw").read_bytes() == Path(best["file"]).read_bytes()
    # the dense checkpoint can be started from
    dense = load_dense(tmp_path / "net.safetensors", "lenet-300-100")
    again = train_files(
        tiny(),
        built_in("lenet-300-100", few_digits()),
        tmp_path / "again",
        dense_checkpoint=tmp_path / "net.safetensors",
        seeds=[best["seed"]],
    )
    assert again[0]["error_percent"] == best["error_percent"]
    assert not (tmp_path / "again.safetensors").exists()
    with pytest.raises(DchwError, match=r"expected a checkpoint of lenet-5 with conv1.weight"):
        load_dense(tmp_path / "net.safetensors", "lenet-5")
    assert isinstance(dense, torch.nn.Module)


def test_an_interrupted_training_keeps_what_it_finished_and_goes_on(tmp_path: Path) -> None:
    material = built_in("lenet-300-100", few_digits())

    def stop_in_second_seed(task: str, done: int, total: int) -> None:
        if "seed 1: retrain" in task:
            raise KeyboardInterrupt

    def session(out: Path, **more: Any) -> None:
        train_files(tiny(), material, out, dense_checkpoint=None, seeds=[0, 1], **more)

    with pytest.raises(KeyboardInterrupt):
        session(tmp_path / "net", progress=stop_in_second_seed)
    names = ["net-0.checkpoint", "net-0.dchw", "net-1.checkpoint", "net.dense.checkpoint", "net.safetensors"]
    assert sorted(path.name for path in tmp_path.iterdir()) == names
    assert "net-1.checkpoint (retrain, epoch 1); the same command goes on" in left_behind(tmp_path / "net", [0, 1])
    begun: list[str] = []
    session(tmp_path / "net", progress=lambda task, done, total: begun.append(f"{task} {done}"))
    assert begun[0] == "tiny, seed 1: retrain 2"
    session(tmp_path / "whole")
    for name in ("-0.dchw", "-1.dchw", ".dchw"):
        assert (tmp_path / f"net{name}").read_bytes() == (tmp_path / f"whole{name}").read_bytes()
    dense = [load_dense(tmp_path / f"{name}.safetensors", "lenet-300-100").state_dict() for name in ("net", "whole")]
    assert all(torch.equal(dense[0][name], dense[1][name]) for name in dense[0])
    assert not list(tmp_path.glob("*checkpoint*"))


def test_ctrl_c_says_what_is_on_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dump_yaml(tiny(), tmp_path / "tiny.yaml")
    arguments = [str(tmp_path / "tiny.yaml"), "--out", str(tmp_path / "net")]

    def stopped(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(datasets, "load_dataset", lambda name, folder: few_digits())
    with monkeypatch.context() as patched:
        patched.setattr("dchw.training.session.train_dense", stopped)
        result = CliRunner().invoke(command, arguments)
    assert result.exit_code == 130
    assert "stopped; no epoch was finished, so nothing of this training is on disk" in result.stderr
    with monkeypatch.context() as patched:
        patched.setattr("dchw.training.session.train_compressed", stopped)
        result = CliRunner().invoke(command, arguments)
    assert "net.dense.checkpoint (finished); the same command goes on from there" in result.stderr


def test_a_device_that_is_not_there_is_named(tmp_path: Path) -> None:
    material = built_in("lenet-300-100", few_digits())
    with pytest.raises(DchwError, match="device 'nowhere': expected one that torch can use here"):
        train_files(tiny(), material, tmp_path / "x", dense_checkpoint=None, seeds=[0], device="nowhere")


@pytest.mark.parametrize("path", sorted(MODELS.glob("*.yaml")), ids=lambda path: path.stem)
def test_committed_recipes_load_and_dump(path: Path, tmp_path: Path) -> None:
    recipe = load_recipe(str(path))
    assert recipe.name == path.stem
    assert len(recipe.seeds) >= 3
    dump_yaml(recipe, tmp_path / "copy.yaml")
    assert load_yaml(TrainingRecipe, tmp_path / "copy.yaml") == recipe


@pytest.mark.parametrize("name", ["lenet-300-100", "lenet-5"])
def test_built_in_recipes_need_no_download(name: str) -> None:
    recipe = load_recipe(name)
    assert (recipe.architecture, recipe.dataset) == (name, "digits")


def test_a_recipe_can_be_changed_from_the_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets, "load_dataset", lambda name, folder: few_digits())
    dump_yaml(tiny(), tmp_path / "tiny.yaml")
    given = ["--set", "pruning.density=0.03", "--set", "sharing.shared_values={ip1: 3, ip2: 5, ip3: 7}", "--held-out"]
    out = ["--out", str(tmp_path / "net")]
    monkeypatch.setattr(datasets, "hold_out", lambda data: hold_out(data, images=20))
    result = CliRunner().invoke(command, [str(tmp_path / "tiny.yaml"), *out, *given])
    assert result.exit_code == 0, result.output
    assert "tiny on few digits, 20 training images held out, dense seed 0" in result.output
    assert [layer.codebook.size - 1 for layer in dchw.load(tmp_path / "net.dchw").layers] == [3, 5, 7]
    assert dchw.load(tmp_path / "net.dchw").layers[0].nonzeros <= 0.03 * 266_200


def test_changes_that_cannot_be_made_are_named() -> None:
    with pytest.raises(ConfigError, match=r"change 'pruning.density': expected KEY=VALUE with a value in YAML"):
        with_changes(tiny(), ["pruning.density"])
    with pytest.raises(ConfigError, match=r"change 'seeds=\[1': expected KEY=VALUE with a value in YAML"):
        with_changes(tiny(), ["seeds=[1"])
    with pytest.raises(ConfigError, match=r"pruning.densty: no such key; did you mean 'density'"):
        with_changes(tiny(), ["pruning.densty=1"])


def test_misspelt_recipes_and_keys_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="expected a YAML file or a built-in name; did you mean 'lenet-5'"):
        load_recipe("lenet5")
    path = tmp_path / "recipe.yaml"
    path.write_text((MODELS / "lenet_300_100.yaml").read_text().replace("  schedule:", "  shedule:"))
    with pytest.raises(ConfigError, match=r"pruning.shedule: unknown key; did you mean 'schedule'"):
        load_recipe(str(path))


def test_experiments_give_rows_and_plots(tmp_path: Path) -> None:
    data = few_digits(160)
    dense = train_dense(tiny(), built_in("lenet-300-100", data))
    plan = ExperimentPlan(
        densities=(0.3, 0.1), codebook_bits=(1, 4), training=Training.model_validate({**TINY, "epochs": 1})
    )
    subject = Subject(dense=dense, data=data, plan=plan)
    sizes = {}
    lengths = {"sensitivity": 9, "size_against_error": 6, "codebook_bits": 8, "bits_by_kind": 2}
    for name, experiment in EXPERIMENTS.items():
        rows = experiment(subject)
        assert len(rows) == lengths[name]
        write_rows(rows, tmp_path / f"{name}.csv")
        draw(name, rows, tmp_path / f"{name}.svg", title="x")
        assert (tmp_path / f"{name}.svg").read_text().startswith("<?xml")
        if name == "size_against_error":
            sizes = {(row["method"], row["setting"]): row["size_bytes"] for row in rows}
    assert sizes["sharing", 4] == 266_200 // 2 + 3 * 15 * 4 + 410 * 4
    assert sizes["pruning", 0.1] > 26_620 * 37 / 8


def test_experiments_leave_the_dense_network_alone() -> None:
    data = few_digits()
    dense = train_dense(tiny(), built_in("lenet-300-100", data))
    before = {name: value.clone() for name, value in dense.state_dict().items()}
    EXPERIMENTS["sensitivity"](Subject(dense=dense, data=data, plan=ExperimentPlan(densities=(0.1,), training=SHORT)))
    assert all(torch.equal(before[name], value) for name, value in dense.state_dict().items())


@pytest.mark.slow
@pytest.mark.parametrize("path", sorted(MODELS.glob("*.dchw")), ids=lambda path: path.stem)
def test_committed_files_reach_their_recorded_error(path: Path) -> None:
    if "DCHW_DATA" not in os.environ:
        pytest.skip("needs MNIST: name its folder in DCHW_DATA")
    compressed = dchw.load(path)
    data = mnist(Path(os.environ["DCHW_DATA"]))
    error = error_percent(load_module(compressed), data.test_images, data.test_labels)
    # sums in another order may turn single images of the 10,000
    assert error == pytest.approx(compressed.results["error_percent"], abs=0.02)
    promise = load_recipe(str(path.with_suffix(".yaml"))).promise
    assert promise is not None
    assert error <= promise.error_percent
    assert path.stat().st_size <= promise.file_bytes


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_demo_trains_and_compresses_the_digits(seed: int) -> None:
    from dchw.training.demo_training import train_demo

    lines: list[str] = []
    dense, compressed, report = train_demo(seed=seed, on_stage=lines.append)
    assert report["error_percent"] < 6
    assert report["error_percent"] <= report["dense_error_percent"] + 1
    assert compressed.name == "lenet-300-100"
    assert [line.split(":")[0] for line in lines] == ["Trained", "Pruned and retrained", "Shared and fine-tuned"]
    assert f"{report['error_percent']:.2f} % of" in lines[-1]
    assert isinstance(dense, torch.nn.Module)


def test_the_demo_says_a_line_per_stage_without_a_terminal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from dchw.cli.demo import command as demo

    short = tiny(name="lenet-300-100")
    monkeypatch.setattr("dchw.training.demo_training.load_recipe", lambda name: short)
    monkeypatch.setattr("dchw.training.demo_training.load_dataset", lambda name: few_digits())
    result = CliRunner().invoke(demo, ["--out", str(tmp_path / "demo"), "--json"])
    assert result.exit_code == 0, result.output
    stages = [line.split(":")[0] for line in result.stderr.splitlines()]
    words = ["Trained", "Pruned and retrained", "Shared and fine-tuned", "Written", "Simulated", "Reported"]
    assert stages == words
    assert json.loads(result.stdout)["training"]["data_set"] == "few digits"
