"""Does a surface through a few points say where the front is?"""

from __future__ import annotations

import numpy as np
import pytest

from dchw.studies import surface as module
from dchw.studies.points import Axis, Space
from dchw.studies.reading import front, hypervolume
from dchw.studies.surface import Surface

AXES = (
    Axis(keys=("network",), choices=(("one",), ("two",))),
    Axis(keys=("a",), choices=tuple((value,) for value in range(12))),
    Axis(keys=("b",), choices=tuple((2**value,) for value in range(10))),
    Axis(keys=("kind",), choices=(("x",), ("y",), ("z",))),
)
SPACE = Space(axes=AXES, slow=1, fixed={}, derive={}, only=())
SIZE = 360


def figures(index: int) -> tuple[float, float]:
    """Two objectives that pull apart along both axes; the kinds differ by a factor."""
    _, a, b, kind = SPACE.places(index)
    return (1.0 + 10.0 / (1 + a) + 3.0 / (1 + b)) * (1.0 + 0.3 * kind), 1.0 + 0.4 * a + 0.2 * b


def searched(budget: int, generation: int, seed: int = 0, network: int = 1) -> dict[int, tuple[float, ...]]:
    proposer = Surface(SPACE, network, np.random.default_rng(seed))
    known: dict[int, tuple[float, ...]] = {}
    while len(known) < budget:
        asked = proposer.propose(
            min(generation, budget - len(known)), known, set(range(2 * SIZE)).difference(known).__contains__
        )
        assert len(set(asked)) == len(asked)
        assert not set(asked) & set(known)
        known |= {index: figures(index) for index in asked}
    return known


def volume(known: dict[int, tuple[float, ...]]) -> float:
    """Share of the exhaustive front's hypervolume."""
    everything = np.array([figures(index) for index in range(SIZE, 2 * SIZE)])
    worst = everything.max(axis=0)
    return hypervolume(np.array(list(known.values())), worst) / hypervolume(everything[front(everything)], worst)


@pytest.mark.parametrize("seed", range(3))
def test_a_tenth_of_the_points_finds_nearly_all_of_the_front(seed: int) -> None:
    known = searched(36, 8, seed)
    assert all(SIZE <= index < 2 * SIZE for index in known), "points of the network asked for"
    assert volume(known) > 0.98


def test_without_its_predictions_it_does_worse(monkeypatch: pytest.MonkeyPatch) -> None:
    found = volume(searched(36, 8))
    chance = np.random.default_rng(0)
    monkeypatch.setattr(module, "_predicted", lambda rows, column, at, axis: chance.random(len(at)))
    assert volume(searched(36, 8)) < found


def test_an_axis_that_does_nothing_gets_a_long_length() -> None:
    chance = np.random.default_rng(0)
    rows = chance.random((40, 4))  # the last two columns are one axis
    figures = np.sin(6.0 * rows[:, 1])
    one, other, third, fourth = module._lengths(
        rows, (figures - figures.mean()) / figures.std(), np.array([0, 1, 2, 2])
    )
    assert third == fourth
    assert min(one, third) >= 8 * other


def test_it_gives_every_point_in_the_end_and_the_same_for_a_seed() -> None:
    assert len(searched(SIZE, 60)) == SIZE
    assert list(searched(24, 8, 5)) == list(searched(24, 8, 5))
    assert list(searched(24, 8, 5)) != list(searched(24, 8, 6))
