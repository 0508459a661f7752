"""Does a study train each network once, whoever asks for it, and is it the one that ``dchw train`` gives?"""

from __future__ import annotations

import contextlib
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner

pytest.importorskip("torch", reason="needs the extra 'torch'")
pytest.importorskip("sklearn", reason="needs the extra 'demo', for its images")

import dchw
from dchw.cli import group
from dchw.container.saving import to_bytes
from dchw.quantities import ConfigError
from dchw.studies import trained as module
from dchw.studies.study import Study
from dchw.studies.trained import trained
from dchw.training import session
from dchw.training.checkpoint import Checkpoint
from dchw.training.datasets import load_dataset
from dchw.training.material import built_in
from dchw.training.recipe_file import load_recipe

RECIPE = """\
name: small
architecture: lenet-300-100
dataset: digits
dense: {epochs: 2, learning_rate: 0.002}
pruning:
  density: 0.1
  training: {epochs: 1, learning_rate: 0.002}
  retraining: {epochs: 1, learning_rate: 0.002}
sharing:
  shared_values: 15
  training: {epochs: 1, learning_rate: 0.001}
example_images: 1
"""
VARY = {"training.pruning.density": [0.1, 0.3], "huffman.units": [8, 16]}


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    path = tmp_path / "small.yaml"
    path.write_text(RECIPE)
    return path


@pytest.fixture
def trainings(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Counts trainings as they begin."""
    found: Counter[str] = Counter()
    for name in ("train_dense", "train_compressed"):
        original = getattr(session, name)

        def counted(*given: object, _name: str = name, _original: object = original, **named: object) -> object:
            found[_name] += 1
            return _original(*given, **named)  # type: ignore[operator]

        monkeypatch.setattr(session, name, counted)
    return found


def study(recipe: Path, **settings: object) -> Study:
    return dchw.study({"networks": str(recipe), "vary": VARY, **settings})


def test_each_network_is_trained_once_and_is_that_of_dchw_train(
    recipe: Path, tmp_path: Path, trainings: Counter[str]
) -> None:
    frame = study(recipe).run(tmp_path / "out")
    assert frame["error"].isna().all()
    assert trainings == {"train_dense": 1, "train_compressed": 2}
    assert frame["network_sha256"].nunique() == 2
    asked = load_recipe(str(recipe)).replace("pruning.density", 0.3)
    material = built_in("lenet-300-100", load_dataset("digits"))
    with module._one_thread():
        rows = session.train_files(asked, material, tmp_path / "same", dense_checkpoint=None, seeds=[0])
    row = frame[(frame["training.pruning.density"] == 0.3) & (frame["huffman.units"] == 16)].iloc[0]
    assert row["error_pct"] == rows[0]["error_percent"]
    target = dchw.machine("phone-lpddr5x").replace("huffman.units", 16)
    assert row["cycles"] == dchw.simulate(dchw.load(tmp_path / "same.dchw"), target).cycles
    # a later start, in a process that holds nothing, reads what is there
    (tmp_path / "out" / "results.parquet").unlink()
    again = study(recipe).run(tmp_path / "out")
    pd.testing.assert_frame_equal(again, frame, check_exact=True)
    assert trainings == {"train_dense": 2, "train_compressed": 3}  # one of each for train_files, none for the study
    assert not list((tmp_path / "out" / "cache").glob("*.checkpoint"))


@pytest.mark.slow
def test_two_workers_give_the_same_table(recipe: Path, tmp_path: Path) -> None:
    one = study(recipe).run(tmp_path / "one")
    assert study(recipe).run(tmp_path / "two", workers=2).equals(one)


def test_several_workers_begin_with_one_point_of_each_training(recipe: Path) -> None:
    points = study(recipe).points
    assert points.leading(np.arange(4)).tolist() == [0, 2]
    assert points.leading(np.array([1, 3])).tolist() == [1, 3]
    other = study(recipe, vary={"huffman.units": [8, 16], "training.seed": [0, 1], "recipe.index_bits": [4, 5]})
    assert other.points.leading(np.arange(8)).tolist() == [0, 4]


def at_once(recipe: Path, folder: Path) -> list[bytes]:
    """The network that two who know nothing of one another get of one training at the same time."""
    got: list[bytes] = []

    def want() -> None:
        points = study(recipe).points
        training = points.networks.training(points.at(0))
        assert training is not None
        got.append(to_bytes(trained(training, None, folder)))

    threads = [threading.Thread(target=want) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return got


def test_who_wants_a_network_that_another_trains_waits_for_it(
    recipe: Path, tmp_path: Path, trainings: Counter[str]
) -> None:
    one, other = at_once(recipe, tmp_path / "cache")
    assert one == other
    assert trainings == {"train_dense": 1, "train_compressed": 1}


def test_without_the_lock_both_would_train(recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    points = study(recipe).points
    training = points.networks.training(points.at(0))
    assert training is not None
    network = trained(training, None, tmp_path / "cache")
    (tmp_path / "cache" / f"{training.key}.dchw").unlink()
    began: list[int] = []
    both = threading.Barrier(2)

    def compressed(*given: object) -> object:
        began.append(1)
        with contextlib.suppress(threading.BrokenBarrierError):
            both.wait(timeout=1)
        return network

    @contextlib.contextmanager
    def open_to_all(path: Path) -> Iterator[None]:
        yield

    monkeypatch.setattr(module, "_compressed", compressed)
    at_once(recipe, tmp_path / "cache")
    assert len(began) == 1
    (tmp_path / "cache" / f"{training.key}.dchw").unlink()
    monkeypatch.setattr(module, "alone", open_to_all)
    both.reset()
    at_once(recipe, tmp_path / "cache")
    assert len(began) == 3


def test_an_interrupted_training_goes_on(recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    points = study(recipe).points
    training = points.networks.training(points.at(0))
    assert training is not None
    undisturbed = to_bytes(trained(training, None, tmp_path / "undisturbed"))
    saved, original = [], Checkpoint.save

    def save(self: Checkpoint, state: dict[str, object]) -> None:
        original(self, state)
        saved.append(state["stage"])
        if len(saved) == 5:
            raise KeyboardInterrupt

    monkeypatch.setattr(Checkpoint, "save", save)
    with pytest.raises(KeyboardInterrupt):
        trained(training, None, tmp_path / "cache")
    assert list((tmp_path / "cache").glob("*.checkpoint"))
    before = len(saved)
    assert to_bytes(trained(training, None, tmp_path / "cache")) == undisturbed
    whole = [stage for stage in saved[:before] if stage != "dense"]
    assert "prune" in whole  # it was past the dense network, which is not trained again
    assert "dense" not in saved[before:]
    assert not list((tmp_path / "cache").glob("*.checkpoint"))


@pytest.mark.parametrize(("kind", "dense", "compressed"), [("dchw", 1, 2), ("safetensors", 2, 2), ("checkpoint", 1, 3)])
def test_a_damaged_file_is_made_again(
    recipe: Path, tmp_path: Path, kind: str, dense: int, compressed: int, trainings: Counter[str]
) -> None:
    points = study(recipe).points
    training = points.networks.training(points.at(0))
    assert training is not None
    first = to_bytes(trained(training, None, tmp_path))
    places = {"dchw": training.key, "safetensors": training.dense_key, "checkpoint": training.key}
    damaged = tmp_path / f"{places[kind]}.{kind}"
    if kind != "dchw":
        (tmp_path / f"{training.key}.dchw").unlink()
    damaged.write_bytes(b"dchw-training 1 torn" if kind == "checkpoint" else damaged.read_bytes()[:50])
    assert to_bytes(trained(training, None, tmp_path)) == first
    assert trainings == {"train_dense": dense, "train_compressed": compressed}


def test_what_makes_another_training(recipe: Path) -> None:
    networks = study(recipe).points.networks
    name = str(recipe)

    def keys(**changes: object) -> tuple[str, str]:
        found = networks._training(name, {key.replace("__", "."): value for key, value in changes.items()})
        return found.dense_key, found.key

    dense, whole = keys()
    assert keys(pruning__density=0.1) == (dense, whole)
    assert keys(name="other") == (dense, whole)
    assert keys(pruning__density=0.2)[0] == dense
    assert keys(pruning__density=0.2)[1] != whole
    assert keys(seed=1)[0] == dense
    assert keys(seed=1)[1] != whole
    assert keys(dense_seed=1)[0] != dense
    assert keys(dense_seed=1)[1] != whole
    networks.data_shas["digits"] = "other images"
    networks._trainings.clear()
    assert keys()[0] != dense


def test_faults_are_named(recipe: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        study(recipe, vary={"training.pruning.densty": [0.1], "training.sharing.shared_values": ["many"]})
    text = str(caught.value)
    assert "vary.training.pruning.densty = 0.1: pruning.densty: no such key; did you mean 'density'?" in text
    assert "vary.training.sharing.shared_values = many" in text
    with pytest.raises(ConfigError, match="lenet-5 is trained already; name a training recipe"):
        dchw.study({"networks": ["lenet-5"], "vary": {"training.seed": [0, 1]}})
    bare = tmp_path / "bare.yaml"
    bare.write_text(RECIPE.replace("dataset: digits\n", ""))
    with pytest.raises(ConfigError, match=r"bare.yaml: expected a training recipe with .* it lacks dataset"):
        dchw.study({"networks": str(bare)})
    mnist = tmp_path / "mnist.yaml"
    mnist.write_text(RECIPE.replace("dataset: digits", "dataset: mnist"))
    with pytest.raises(ConfigError, match=r"data set mnist: expected the files.*DCHW_DATA"):
        dchw.study({"networks": str(mnist)})


def test_a_dry_run_trains_nothing(recipe: Path, tmp_path: Path, trainings: Counter[str]) -> None:
    file = tmp_path / "study.yaml"
    file.write_text("networks: small.yaml\nvary: {training.pruning.density: [0.1, 0.3], huffman.units: [8, 16]}\n")
    done = CliRunner().invoke(group, ["sweep", str(file), "--dry-run"], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    assert "4 points" in done.stdout
    assert "2 networks are trained before, once each" in done.stdout
    assert not trainings
