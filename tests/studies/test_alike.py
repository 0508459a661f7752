"""Are two results taken for the same content exactly when they are?"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest

import dchw
from dchw.mapping.workload import map_network
from dchw.studies.alike import alike, same_stages
from tests.reports.runs import tiny_network


@dataclass(frozen=True, eq=False)
class Held:
    rows: np.ndarray
    named: dict[str, tuple[int, ...]]


ONE = Held(np.array([1.0, np.nan, 0.0]), {"a": (1, 2), "b": ()})


@pytest.mark.parametrize(
    ("other", "same"),
    [
        (Held(np.array([1.0, np.nan, 0.0]), {"a": (1, 2), "b": ()}), True),
        (Held(np.array([1.0, np.nan, -0.0]), {"a": (1, 2), "b": ()}), False),
        (Held(np.array([1.0, np.nan, 0.0], np.float32), {"a": (1, 2), "b": ()}), False),
        (Held(np.array([[1.0, np.nan, 0.0]]), {"a": (1, 2), "b": ()}), False),
        (Held(np.array([1.0, np.nan, 0.0]), {"b": (), "a": (1, 2)}), False),
        (Held(np.array([1.0, np.nan, 0.0]), {"a": (1, 2, 3), "b": ()}), False),
        (None, False),
    ],
)
def test_every_bit_counts(other: object, same: bool) -> None:
    assert alike(ONE, other) is same


def test_stages_of_two_mappings() -> None:
    base, network = dchw.machine("phone-lpddr5x"), tiny_network()
    one, same, other = (
        map_network(network, base.replace_all(changes)).stages
        for changes in ({}, {"dram.channels": 1}, {"huffman.units": 4})
    )
    assert same_stages(one, same)
    assert not same_stages(one, other)
    copied = replace(one[1], layer=replace(one[1].layer, packed=replace(one[0].layer.packed)))
    shared = replace(one[1], layer=replace(one[1].layer, packed=one[0].layer.packed))
    assert alike(copied, shared)
    assert not same_stages((one[0], copied), (one[0], shared))
