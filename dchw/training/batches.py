"""Where training takes its batches from: the images of a data set, or anything that gives (inputs, targets)."""

from __future__ import annotations

import random
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol, cast

import numpy as np
import torch
from torch import nn

from dchw.config import Config, NonNegative, Positive
from dchw.quantities import DchwError
from dchw.training.augmentation import Augmentation, augment
from dchw.training.datasets import Dataset

Inputs = torch.Tensor | tuple[torch.Tensor, ...]
_EVALUATION_BATCH = 1_000
_SAMPLE_BATCH = 500


class Batching(Config):
    """How the images of a data set become batches. Batches that are given come as they are."""

    batch_size: Positive = 128
    """Images of one update."""
    augmentation: Augmentation = Augmentation()
    """Random changes of the images, none by default."""
    augmented_copies: NonNegative = 0
    """0: every epoch draws new changes; n: n changed copies of the data set are made, one per epoch in turn, which
    saves resampling and the teacher's forward pass when there are more epochs than copies."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Batch:
    """What one update sees."""

    inputs: Inputs
    targets: Any
    scores: torch.Tensor | None = None
    """What the teacher says to the inputs."""


class Batches(Protocol):
    """Training data, epoch after epoch. Equal seeds give equal epochs, also after `restore`."""

    seed: int

    def steps(self, batching: Batching) -> int:
        """Updates in one epoch."""
        ...

    def epoch(self, number: int, batching: Batching, teacher: nn.Module | None) -> Iterator[Batch]:
        """The batches of an epoch, in the order in which they are trained."""
        ...

    def sample(self, count: int) -> Iterator[Batch]:
        """About ``count`` inputs as they are, the same ones every time."""
        ...

    def state(self) -> dict[str, Any]:
        """What `restore` needs after an epoch, as plain values and tensors."""
        ...

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from where `state` was taken."""
        ...


@dataclass(kw_only=True, eq=False)
class ImageBatches:
    """Training images and labels on a device, and the one generator that orders and changes them.

    Changed copies that a training uses more than once are kept here, so that the next training finds them. The last,
    incomplete batch of an epoch is left out. Images enter the module as float32 in 0..1.
    """

    images: torch.Tensor
    labels: torch.Tensor
    seed: int
    generator: torch.Generator = field(init=False)
    _copies: dict[str, tuple[torch.Tensor, torch.Tensor | None]] = field(default_factory=dict, init=False)
    _drawn_from: dict[str, torch.Tensor] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        self.generator = torch.Generator().manual_seed(self.seed)

    @classmethod
    def of(cls, data: Dataset, *, seed: int, device: str = "cpu") -> ImageBatches:
        """The training images of a data set; equal seeds give equal batches on every device."""
        return cls(
            images=torch.from_numpy(np.array(data.train_images)).to(device),
            labels=torch.from_numpy(np.array(data.train_labels)).to(device),
            seed=seed,
        )

    def steps(self, batching: Batching) -> int:
        if not len(self.labels):
            raise DchwError("training: expected training images; the data set has none; give another one")
        return len(self.labels) // self._size(batching)

    def epoch(self, number: int, batching: Batching, teacher: nn.Module | None) -> Iterator[Batch]:
        images, scores = self._changed(number, batching, teacher)
        count, size = len(self.labels), self._size(batching)
        order = torch.randperm(count, generator=self.generator).to(images.device)
        for start in range(0, count - size + 1, size):
            chosen = order[start : start + size]
            yield Batch(
                inputs=as_input(images[chosen]),
                targets=self.labels[chosen],
                scores=None if scores is None else scores[chosen],
            )

    def sample(self, count: int) -> Iterator[Batch]:
        for start in range(0, min(count, len(self.labels)), _SAMPLE_BATCH):
            part = slice(start, min(start + _SAMPLE_BATCH, count))
            yield Batch(inputs=as_input(self.images[part]), targets=self.labels[part])

    def state(self) -> dict[str, Any]:
        return {"generator": self.generator.get_state(), "drawn_from": dict(self._drawn_from)}

    def restore(self, state: dict[str, Any]) -> None:
        self.generator.set_state(state["generator"])
        self._drawn_from = dict(state["drawn_from"])

    def _size(self, batching: Batching) -> int:
        return min(batching.batch_size, len(self.labels))

    def _changed(
        self, number: int, batching: Batching, teacher: nn.Module | None
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """An epoch's images and the teacher's scores for them; a copy that comes again is as it was."""
        cycle = batching.augmented_copies if batching.augmentation.changes else 1
        if not cycle:
            images = augment(self.images, batching.augmentation, self.generator)
            return images, self._scores(images, teacher)
        key = f"{batching.augmentation.model_dump_json()} {teacher is not None} {number % cycle}"
        if key not in self._copies:
            generator = self.generator
            if key in self._drawn_from:  # made before an interruption: drawn again from where it was drawn
                generator = torch.Generator()
                generator.set_state(self._drawn_from[key])
            self._drawn_from[key] = generator.get_state()
            images = augment(self.images, batching.augmentation, generator)
            self._copies[key] = images, self._scores(images, teacher)
        return self._copies[key]

    def _scores(self, images: torch.Tensor, teacher: nn.Module | None) -> torch.Tensor | None:
        if teacher is None:
            return None
        teacher.eval()
        return torch.cat([*class_scores(teacher, images, str(images.device))])


class GivenBatches:
    """Batches from any iterable of (inputs, targets) that can be gone through once per epoch, on a device.

    Inputs are a tensor, or a tuple or list of tensors in the order of ``forward``'s arguments; numpy arrays become
    tensors. Order and random changes come from torch's, numpy's and Python's global generators, which every epoch
    seeds anew, or from a `torch.Generator` that the iterable or its sampler has as ``generator``.

    Raises DchwError for an iterator, which has one pass only, for one without a batch and for batches of another form.
    """

    def __init__(self, batches: Iterable[Any], *, seed: int, device: str = "cpu") -> None:
        if not isinstance(batches, Iterable):
            raise DchwError(
                f"batches: expected an iterable of (inputs, targets); got {type(batches).__name__}; give a DataLoader "
                "or a list"
            )
        if iter(batches) is batches:
            raise DchwError(
                f"batches: expected an iterable that every epoch goes through anew; got {type(batches).__name__}, "
                "which ends after one pass; give a DataLoader or a list"
            )
        self.seed = seed
        self._batches, self._device = batches, device
        with seeded(seed, "first batch", 0, device):
            first = next(iter(batches), None)
            if first is None:
                raise DchwError("batches: expected at least one batch; got none; check the data set behind them")
            self.first = self._placed(first)
        try:
            self._steps = len(cast(Any, batches))
        except TypeError:
            with seeded(seed, "counting", 0, device):
                self._steps = sum(1 for _ in batches)

    def steps(self, batching: Batching) -> int:
        return self._steps

    def epoch(self, number: int, batching: Batching, teacher: nn.Module | None) -> Iterator[Batch]:
        given = 0
        for raw in self._batches:
            given += 1
            if given > self._steps:
                break
            batch = self._placed(raw)
            if teacher is None:
                yield batch
                continue
            teacher.eval()
            with torch.no_grad():
                scores = call(teacher, batch.inputs)
            if not isinstance(scores, torch.Tensor) or scores.dim() < 2:
                raise DchwError(
                    f"distillation: expected the module to return a tensor of class scores; got {_kind(scores)}; wrap "
                    "the module so that it does, or train without distil"
                )
            yield Batch(inputs=batch.inputs, targets=batch.targets, scores=scores)
        if given != self._steps:
            raise DchwError(
                f"batches: expected {self._steps} in epoch {number + 1}, as many as at first (or as len() says); got "
                f"{'more' if given > self._steps else given}; give the same number in every epoch"
            )

    def sample(self, count: int) -> Iterator[Batch]:
        seen = 0
        with seeded(self.seed, "sample", 0, self._device), self._kept_generators():
            for raw in self._batches:
                batch = self._placed(raw)
                yield batch
                seen += len(batch.inputs if isinstance(batch.inputs, torch.Tensor) else batch.inputs[0])
                if seen >= count:
                    return

    def state(self) -> dict[str, Any]:
        return {"generators": [generator.get_state() for generator in self._generators()]}

    def restore(self, state: dict[str, Any]) -> None:
        for generator, saved in zip(self._generators(), state["generators"], strict=True):
            generator.set_state(saved)

    def _generators(self) -> list[torch.Generator]:
        """The generators of the iterable's own that decide on the order of batches, each once."""
        sampler = getattr(self._batches, "sampler", None)
        batch_sampler = getattr(self._batches, "batch_sampler", None)
        holders = (self._batches, sampler, batch_sampler, getattr(batch_sampler, "sampler", None))
        found = (getattr(holder, "generator", None) for holder in holders)
        return [*{id(g): g for g in found if isinstance(g, torch.Generator)}.values()]

    @contextmanager
    def _kept_generators(self) -> Iterator[None]:
        before = self.state()
        try:
            yield
        finally:
            self.restore(before)

    def _placed(self, raw: Any) -> Batch:
        if not isinstance(raw, tuple | list) or len(raw) != 2:
            raise DchwError(
                f"batches: expected pairs (inputs, targets); got {_kind(raw)}; wrap the iterable so that it gives pairs"
            )
        inputs, targets = raw
        many = isinstance(inputs, tuple | list)
        tensors = tuple(self._tensor(value) for value in (inputs if many else (inputs,)))
        if not tensors:
            raise DchwError("batches: expected inputs in every batch; got an empty tuple; give at least one tensor")
        return Batch(inputs=tensors if many else tensors[0], targets=_moved(targets, self._device))

    def _tensor(self, value: Any) -> torch.Tensor:
        if isinstance(value, np.ndarray):
            value = torch.from_numpy(value)
        if not isinstance(value, torch.Tensor) or not value.dim():
            raise DchwError(
                f"batches: expected inputs as tensors with a batch axis, or a tuple of them in the order of forward's "
                f"arguments; got {_kind(value)}; convert them"
            )
        return value.to(self._device)


@contextmanager
def seeded(seed: int, purpose: str, number: int, device: str = "cpu") -> Iterator[None]:
    """Global random generators that depend on the arguments alone; their states come back at the end."""
    words = np.random.SeedSequence([seed, zlib.crc32(purpose.encode()), number]).generate_state(2)
    python, old = random.getstate(), np.random.get_state()  # noqa: NPY002  a user's data set may use it
    with torch.random.fork_rng(devices=[device] if device.startswith("cuda") else []):
        torch.manual_seed(int(words[0]))
        random.seed(int(words[1]))
        np.random.seed(int(words[1]))  # noqa: NPY002
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(old)  # noqa: NPY002


def call(module: nn.Module, inputs: Inputs) -> Any:
    """What a module returns for the inputs of a batch."""
    return module(*inputs) if isinstance(inputs, tuple) else module(inputs)


def as_input(images: torch.Tensor) -> torch.Tensor:
    """uint8 grey levels as a network sees them: float32 in 0..1."""
    return images.float() / 255


def class_scores(module: nn.Module, images: torch.Tensor, device: str) -> Iterator[torch.Tensor]:
    """What a module says to uint8 images, without gradients, some at a time."""
    with torch.no_grad():
        for start in range(0, len(images), _EVALUATION_BATCH):
            yield module(as_input(images[start : start + _EVALUATION_BATCH].to(device)))


def _moved(value: Any, device: str) -> Any:
    if isinstance(value, np.ndarray):
        value = torch.from_numpy(value)
    if isinstance(value, torch.Tensor):
        return value.to(device)
    if isinstance(value, dict):
        return {key: _moved(item, device) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return type(value)(_moved(item, device) for item in value)
    return value


def _kind(value: Any) -> str:
    if isinstance(value, torch.Tensor):
        return f"a tensor of shape {tuple(value.shape)}"
    if isinstance(value, tuple | list):
        return f"a {type(value).__name__} of {len(value)}"
    return type(value).__name__
