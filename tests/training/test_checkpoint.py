"""Does an interrupted training end with the bits of an undisturbed one, and is a wrong checkpoint refused?"""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional

import dchw
from dchw.config import build
from dchw.container.saving import to_bytes
from dchw.quantities import DchwError, FileFormatError
from dchw.training import checkpoint as checkpoints
from dchw.training.course import Trained
from dchw.training.recipe_file import Method
from tests.training.nets import Attentive, Nested, Normalised, Tied, plain_batches

STRETCH = {"epochs": 2, "learning_rate": 0.005, "warmup_steps": 0}
PAPERS = {
    "dense": STRETCH,
    "pruning": {"training": STRETCH, "retraining": STRETCH, "density": 0.3, "schedule": "iterative", "rounds": 2},
    "sharing": {"training": STRETCH, "shared_values": 7},
}
EVERYTHING = {
    "dense": STRETCH,
    "distillation": {"temperature": 2, "weight": 0.5},
    "pruning": {
        "training": STRETCH,
        "retraining": STRETCH,
        "density": 0.2,
        "start_density": 0.6,
        "score": "activation",
        "scope": "global",
        "update_steps": 3,
        "regrow": True,
        "remove_dead": True,
        "crowding": 0.5,
        "reuse": 0.25,
    },
    "sharing": {"training": STRETCH, "shared_values": 5, "reassign": True, "codebook_format": "float16"},
    "example_images": 2,
}
FOLDED = {**PAPERS, "fold_normalisation": True, "distillation": {"temperature": 2, "weight": 0.5}, "skip": ["scores"]}
EPOCHS = 8


class StopError(Exception):
    """What ends a training in the middle."""


def shuffled() -> torch.utils.data.DataLoader[Any]:
    images = torch.cat([batch[0] for batch in plain_batches()])
    labels = torch.cat([batch[1] for batch in plain_batches()])
    return torch.utils.data.DataLoader(torch.utils.data.TensorDataset(images, labels), 16, shuffle=True)


def run(kind: type[nn.Module], settings_: dict[str, Any], path: Path | None = None, **more: Any) -> Trained:
    torch.manual_seed(0)
    method = build(Method, settings_, where="method")
    arguments = {"loss": functional.cross_entropy, "evaluate": size, "checkpoint": path, **more}
    return dchw.train(kind(), shuffled(), method, **arguments)


def size(module: nn.Module) -> float:
    return float(sum(value.abs().sum() for value in module.parameters()))


def same(one: Trained, other: Trained) -> bool:
    states = one.module.state_dict(), other.module.state_dict()
    return (
        to_bytes(one.compressed) == to_bytes(other.compressed)
        and states[0].keys() == states[1].keys()
        and all(torch.equal(states[0][key], states[1][key]) for key in states[0])
        and one.history == other.history
        and one.values == other.values
    )


def stopping_after(epochs: int) -> Callable[[str, int, int], None]:
    count = 0

    def progress(task: str, done: int, total: int) -> None:
        nonlocal count
        count += 1
        if count == epochs:
            raise StopError

    return progress


def stopping_in_step(steps: int) -> Callable[[Any, Any], torch.Tensor]:
    count = 0

    def loss(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        nonlocal count
        count += 1
        if count == steps:
            raise StopError
        return functional.cross_entropy(outputs, targets)

    return loss


@pytest.mark.parametrize(
    ("kind", "settings_"),
    [
        (Normalised, PAPERS),
        *(
            pytest.param(*one, marks=pytest.mark.slow)
            for one in ((Normalised, EVERYTHING), (Normalised, FOLDED), (Attentive, PAPERS), (Tied, PAPERS))
        ),
    ],
    ids=["normalised", "everything", "folded", "attentive", "tied"],
)
def test_stopped_after_any_epoch_it_ends_with_the_same_bits(
    kind: type[nn.Module], settings_: dict[str, Any], tmp_path: Path
) -> None:
    whole = run(kind, settings_)
    assert len(whole.history) == EPOCHS
    for epochs in range(1, EPOCHS + 1):
        path = tmp_path / f"{epochs}.checkpoint"
        with pytest.raises(StopError):
            run(kind, settings_, path, on_progress=stopping_after(epochs))
        seen: list[str] = []
        resumed = run(kind, settings_, path, on_progress=lambda task, done, total, seen=seen: seen.append(task))
        assert len(seen) == EPOCHS - epochs  # nothing is trained twice
        assert same(resumed, whole), epochs


def test_an_emptied_channel_stays_away_after_an_interruption(tmp_path: Path) -> None:
    class Wide(Nested):
        """Takes the small images."""

        def __init__(self) -> None:
            super().__init__()
            self.features[0] = nn.Conv2d(1, 6, 5)
            self.classifier["hidden"] = nn.Linear(24, 20)

    settings_ = {**EVERYTHING, "pruning": {**EVERYTHING["pruning"], "density": 0.05, "start_density": 0.05}}
    whole = run(Wide, settings_)
    for epochs in (5, 6, 7):
        path = tmp_path / f"{epochs}.checkpoint"
        with pytest.raises(StopError):
            run(Wide, settings_, path, on_progress=stopping_after(epochs))
        small = checkpoints.read(path)["state"]["small"]
        assert len(small["rows"]["classifier.hidden"]) < 20
        assert same(run(Wide, settings_, path), whole)


def test_stopped_in_the_middle_of_epochs_again_and_again(tmp_path: Path) -> None:
    whole = run(Normalised, EVERYTHING)
    path = tmp_path / "x.checkpoint"
    for _ in range(EPOCHS + 1):
        # six steps: past one epoch of four, not past the next one
        try:
            resumed = run(Normalised, EVERYTHING, path, loss=stopping_in_step(6))
        except StopError:
            continue
        break
    else:
        resumed = run(Normalised, EVERYTHING, path)
    assert same(resumed, whole)


def test_a_finished_one_gives_its_result_at_once(tmp_path: Path) -> None:
    path = tmp_path / "x.checkpoint"
    whole = run(Normalised, PAPERS, path)

    def never(*_: Any) -> torch.Tensor:
        raise AssertionError("trained")

    assert same(run(Normalised, PAPERS, path, loss=never), whole)


@pytest.mark.parametrize("name", ["optimizer", "watched", "batches"])
def test_a_checkpoint_that_forgets_something_is_noticed_by_these_tests(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Planted faults: without any one part of the standing the bits differ."""
    generator = torch.Generator()
    whole = run_with(generator, None)
    path = tmp_path / "x.checkpoint"
    with pytest.raises(StopError):
        run_with(generator, path, on_progress=stopping_after(3))
    load = checkpoints.Checkpoint.load

    def forgetful(self: checkpoints.Checkpoint) -> dict[str, Any] | None:
        saved = load(self)
        assert saved is not None
        if name == "optimizer":
            saved["standing"]["optimizer"] = None
        elif name == "watched":
            saved["watched"] = {}
        else:
            saved["batches"] = {"generators": [torch.Generator().manual_seed(1).get_state()]}
        return saved

    standing = path.read_bytes()
    assert same(run_with(generator, path), whole)
    path.write_bytes(standing)
    monkeypatch.setattr(checkpoints.Checkpoint, "load", forgetful)
    assert not same(run_with(generator, path), whole)


def run_with(generator: torch.Generator, path: Path | None, **more: Any) -> Trained:
    """As `run`, with everything switched on and a loader that has a generator of its own."""
    torch.manual_seed(0)
    loader = shuffled()
    own = torch.utils.data.DataLoader(loader.dataset, 16, shuffle=True, generator=generator.manual_seed(3))
    pruning = {**EVERYTHING["pruning"], "update_steps": 7, "remove_dead": False}
    method = build(Method, {**EVERYTHING, "pruning": pruning}, where="method")
    return dchw.train(Normalised(), own, method, loss=functional.cross_entropy, checkpoint=path, **more)


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("saved") / "x.checkpoint"
    with pytest.raises(StopError):
        run(Normalised, PAPERS, path, on_progress=stopping_after(3))
    return path.read_bytes()


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_damaged_checkpoints_are_refused(
    data: st.DataObject, saved: bytes, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("damaged") / "x.checkpoint"
    place = data.draw(st.integers(0, len(saved) - 1))
    if data.draw(st.booleans()):
        damaged = saved[:place]
    else:
        damaged = saved[:place] + bytes([saved[place] ^ (1 << data.draw(st.integers(0, 7)))]) + saved[place + 1 :]
    path.write_bytes(damaged)
    with pytest.raises(FileFormatError, match="checkpoint"):
        checkpoints.read(path)


def test_other_files_and_other_trainings_are_refused(saved: bytes, tmp_path: Path) -> None:
    path = tmp_path / "x.checkpoint"
    path.write_bytes(saved.replace(b"dchw-training 1", b"dchw-training 2"))
    with pytest.raises(FileFormatError, match="expected version 1 of a training's checkpoint; got '2'"):
        run(Normalised, PAPERS, path)
    path.write_text("hello")
    with pytest.raises(FileFormatError, match="expected a checkpoint of a training; it is none"):
        run(Normalised, PAPERS, path)
    path.write_bytes(saved)
    with pytest.raises(DchwError, match=r"another training \(method.pruning.density: 0.3 there, 0.4 here\)"):
        run(Normalised, {**PAPERS, "pruning": {**PAPERS["pruning"], "density": 0.4}}, path)
    with pytest.raises(DchwError, match=r"another training \(seed: 0 there, 1 here\)"):
        run(Normalised, PAPERS, path, seed=1)
    with pytest.raises(DchwError, match=r"another training .module"):
        run(Attentive, PAPERS, path)


def test_nothing_in_a_checkpoint_is_run(tmp_path: Path) -> None:
    import hashlib
    import io
    import pickle

    class Planted:
        """Would make a file if it were unpickled."""

        def __reduce__(self) -> tuple[Any, ...]:
            return os.mkdir, (str(tmp_path / "planted"),)

    packed = io.BytesIO()
    torch.save({"plan": {}, "state": Planted()}, packed, pickle_module=pickle)
    data = packed.getvalue()
    path = tmp_path / "x.checkpoint"
    path.write_bytes(b"dchw-training 1 " + hashlib.sha256(data).hexdigest().encode() + b"\n" + data)
    with pytest.raises(FileFormatError, match="this torch cannot read the checkpoint"):
        run(Normalised, PAPERS, path)
    assert not (tmp_path / "planted").exists()


def test_a_full_disk_leaves_the_checkpoint_before_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = run(Normalised, PAPERS)
    path = tmp_path / "x.checkpoint"
    calls = 0
    fsync = os.fsync

    def full(handle: int) -> None:
        nonlocal calls
        calls += 1
        if calls == 4:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        fsync(handle)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(DchwError, match=r"No space left on device\); the one of an earlier epoch is still there"):
        run(Normalised, PAPERS, path)
    assert [file.name for file in tmp_path.iterdir()] == ["x.checkpoint"]
    assert same(run(Normalised, PAPERS, path), whole)


KILLED = """
import os, signal, sys
from dchw.cli import main

fsync, calls = os.fsync, 0

def deadly(handle):
    global calls
    calls += 1
    if calls == {moment}:
        os.kill(os.getpid(), signal.SIGKILL)
    fsync(handle)

os.fsync = deadly
sys.argv = ["dchw", "train", "lenet-300-100", "--out", sys.argv[1], "--epochs", "8", "--set", "dense.batch_size=512"]
main()
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL is of POSIX systems")
def test_killed_at_any_write_the_same_command_ends_with_the_same_bytes(tmp_path: Path) -> None:
    """A kill in the middle of each checkpoint's write, one after the other, until the training is through."""

    def train(place: Path, moment: int) -> int:
        script = KILLED.format(moment=moment)
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        return subprocess.run(
            [sys.executable, "-c", script, str(place)], capture_output=True, env=environment
        ).returncode

    (tmp_path / "whole").mkdir()
    assert train(tmp_path / "whole" / "net", 0) == 0
    (tmp_path / "killed").mkdir()
    kills = 0
    while (status := train(tmp_path / "killed" / "net", 3)) != 0:
        assert status == -signal.SIGKILL
        kills += 1
        assert kills < 12
    assert kills >= 3
    assert (tmp_path / "killed" / "net.dchw").read_bytes() == (tmp_path / "whole" / "net.dchw").read_bytes()
    assert not list((tmp_path / "killed").glob("*checkpoint"))
