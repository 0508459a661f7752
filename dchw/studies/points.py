"""The points of a study: every combination of what varies, numbered, made one at a time.

A point is a mapping from key to value. Its number is its place in the full product, in which the keys that change a
network or its bits turn slowest and a machine's fields fastest, so that neighbours share what is expensive.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from dchw.studies.expressions import Expression
from dchw.studies.settings import RECIPE_PREFIX, RUN_KEYS, TRAINING_PREFIX, Scalar, StudySettings

Values = dict[str, Scalar]
NETWORK, RECIPE, MACHINE, STORAGE = "network", "recipe", "machine", "storage"
WEIGHTS = "weights"
"""Column that is there where weights are not the networks' own."""


@dataclass(frozen=True, kw_only=True)
class Axis:
    """Keys that change together, and their values."""

    keys: tuple[str, ...]
    choices: tuple[tuple[Scalar, ...], ...]

    def __len__(self) -> int:
        return len(self.choices)

    @property
    def name(self) -> str:
        """Its keys in one word."""
        return "+".join(self.keys)

    @cached_property
    def place_of(self) -> Mapping[tuple[str, ...], int]:
        """Place of each choice, by its values as text: tables keep numbers as whole or broken as their column does."""
        return {tuple(map(_text, choice)): place for place, choice in enumerate(self.choices)}


@dataclass(frozen=True, kw_only=True)
class Space:
    """All points of a study."""

    axes: tuple[Axis, ...]
    """Slowest first."""
    slow: int
    """How many of them change more than the machine: points that agree in those are neighbours."""
    fixed: Mapping[str, Scalar]
    derive: Mapping[str, Expression]
    only: tuple[Expression, ...]
    """Conditions on keys; those on results are checked when a point has run."""

    @cached_property
    def count(self) -> int:
        """Points of the full product, those that ``only`` drops included."""
        return _product(self.axes)

    @cached_property
    def block(self) -> int:
        """Neighbours that differ in their machine's fields alone."""
        return _product(self.axes[self.slow :])

    @property
    def keys(self) -> tuple[str, ...]:
        """Every key that has a value at every point, in column order."""
        return (*self.fixed, *(key for axis in self.axes for key in axis.keys), *self.derive)

    def at(self, index: int) -> Values:
        """The values of one point, derived ones included."""
        values: Values = dict(self.fixed)
        for axis, place in zip(self.axes, self.places(index), strict=True):
            values.update(zip(axis.keys, axis.choices[place], strict=True))
        for key, formula in self.derive.items():
            value = formula.value(values)
            if isinstance(value, float) and value.is_integer():
                value = int(value)
            assert isinstance(value, (bool, int, float, str))
            values[key] = value
        return values

    def places(self, index: int) -> list[int]:
        """Which choice of each axis a point takes."""
        places = []
        for axis in reversed(self.axes):
            index, place = divmod(index, len(axis))
            places.append(place)
        return places[::-1]

    def turned(self, indices: npt.NDArray[np.int64], *faster: Collection[str]) -> npt.NDArray[np.int64]:
        """Points so that, within a block, the axes of these keys turn fastest and the others stay as long as can be;
        of several collections, each inside the one before, the axes of the last turn fastest of all."""
        slower = (self.without(indices, keys) for keys in reversed(faster))
        turned: npt.NDArray[np.int64] = indices[np.lexsort((indices, *slower))]
        return turned

    def without(self, indices: npt.NDArray[np.int64], keys: Collection[str]) -> npt.NDArray[np.int64]:
        """The points that differ from these in having the first value on the machine's axes of these keys."""
        out, rest, stride = indices.copy(), indices, 1
        for axis in reversed(self.axes[self.slow :]):
            rest, place = np.divmod(rest, len(axis))
            if all(key in keys for key in axis.keys):
                out -= place * stride
            stride *= len(axis)
        return out

    def index(self, places: Sequence[int]) -> int:
        """The point that takes these choices."""
        index = 0
        for axis, place in zip(self.axes, places, strict=True):
            index = index * len(axis) + place
        return index

    def find(self, values: Mapping[str, object]) -> int | None:
        """The point with these values, should there be one; what does not vary here is not looked at."""
        places = []
        for axis in self.axes:
            place = axis.place_of.get(tuple(_text(values.get(key)) for key in axis.keys))
            if place is None:
                return None
            places.append(place)
        return self.index(places)

    def holds(self, index: int) -> bool:
        """Whether a point meets the conditions on its keys."""
        if not self.only:
            return True
        values = self.at(index)
        return all(bool(condition.value(values)) for condition in self.only)

    def __iter__(self) -> Iterator[int]:
        return (index for index in range(self.count) if self.holds(index))


def _text(value: object) -> str:
    whole = isinstance(value, float) and value.is_integer()
    return str(int(value)) if whole else str(value)  # type: ignore[call-overload]


def _product(axes: Sequence[Axis]) -> int:
    out = 1
    for axis in axes:
        out *= len(axis)
    return out


def space_of(settings: StudySettings, results: frozenset[str]) -> Space:
    """The points a study asks for; ``results`` are the names that only a finished point knows."""
    named = [(NETWORK, settings.networks), (RECIPE, list(settings.recipes) or [""])]
    slow = [_axis(key, values) for key, values in named]
    vary = _grouped(settings)
    slow += sorted((axis for axis in vary if _is_slow(axis)), key=lambda axis: not _trains(axis))
    slow.append(_axis(STORAGE, settings.storages))
    fast = [_axis(MACHINE, settings.machines), *(axis for axis in vary if not _is_slow(axis))]
    conditions = tuple(Expression(text) for text in settings.only)
    return Space(
        axes=(*slow, *fast),
        slow=len(slow),
        fixed={**settings.set, **({WEIGHTS: "seeded, SYNTHETIC"} if settings.weights == "seeded" else {})},
        derive={key: Expression(text) for key, text in settings.derive.items()},
        only=tuple(condition for condition in conditions if not condition.names & results),
    )


def _grouped(settings: StudySettings) -> list[Axis]:
    group_of = {key: tuple(group) for group in settings.together for key in group}
    axes = []
    for keys in dict.fromkeys(group_of.get(key, (key,)) for key in settings.vary):
        choices = tuple(zip(*(settings.choices(key) for key in keys), strict=True))
        axes.append(Axis(keys=keys, choices=choices))
    return axes


def _axis(key: str, values: Sequence[Scalar]) -> Axis:
    return Axis(keys=(key,), choices=tuple((value,) for value in values))


def _is_slow(axis: Axis) -> bool:
    return _trains(axis) or any(key.startswith(RECIPE_PREFIX) or key in RUN_KEYS for key in axis.keys)


def _trains(axis: Axis) -> bool:
    return any(key.startswith(TRAINING_PREFIX) for key in axis.keys)
