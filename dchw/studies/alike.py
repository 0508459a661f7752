"""Whether two results of a stage are the same content, so that what follows from one follows from the other."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from dchw.mapping.stages import Stage


def same_stages(one: Sequence[Stage], other: Sequence[Stage]) -> bool:
    """Whether workloads of these stages lead to the same program: equal content, and the same stages share weights."""
    return _sharing(one) == _sharing(other) and alike(one, other)


def _sharing(stages: Sequence[Stage]) -> list[int]:
    """Of each stage, the first one that has its very weights."""
    first: dict[int, int] = {}
    return [first.setdefault(id(stage.layer.packed), place) for place, stage in enumerate(stages)]


def alike(one: object, other: object) -> bool:
    """Whether two values of one make are equal in every bit of their arrays and in all of their fields."""
    if one is other:
        return True
    if type(one) is not type(other):
        return False
    if isinstance(one, np.ndarray):
        assert isinstance(other, np.ndarray)
        return one.dtype == other.dtype and one.shape == other.shape and np.array_equal(_bits(one), _bits(other))
    if dataclasses.is_dataclass(one):
        names = [field.name for field in dataclasses.fields(one)]
        return all(alike(getattr(one, name), getattr(other, name)) for name in names)
    if isinstance(one, Mapping):
        assert isinstance(other, Mapping)
        # in order: what is laid out one behind the other follows it
        return list(one) == list(other) and all(alike(value, other[key]) for key, value in one.items())
    if isinstance(one, (tuple, list)):
        assert isinstance(other, (tuple, list))
        return len(one) == len(other) and all(map(alike, one, other))
    return bool(one == other)


def _bits(array: np.ndarray) -> np.ndarray:
    """Floats as whole numbers: NaN is NaN, and -0.0 another value than +0.0."""
    return array.view(f"u{array.itemsize}") if array.dtype.kind == "f" and array.ndim else array
