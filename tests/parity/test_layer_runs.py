"""Do runs of layers say what a list with every firing's layer says?"""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from dchw.program.layer_runs import LayerRuns

layers = st.lists(st.integers(0, 4), max_size=40)


@given(layers, layers)
def test_runs_are_the_list(one: list[int], other: list[int]) -> None:
    runs = LayerRuns.of(one)
    assert runs.listed().tolist() == one
    assert len(runs) == len(one)
    assert runs.then(LayerRuns.of(other)) == LayerRuns.of(one + other)
    assert runs.by_layer(5).tolist() == np.bincount(one, minlength=5).tolist()
    assert [layer for layer, begin, end in runs.spans() for _ in range(begin, end)] == one


@given(layers, st.integers(0, 40), st.integers(0, 40))
def test_a_part_is_that_of_the_list(one: list[int], first: int, end: int) -> None:
    assert LayerRuns.of(one).part(first, max(first, end)).listed().tolist() == one[first : max(first, end)]
