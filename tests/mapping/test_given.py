"""What does a network get that asks for a larger batch than its recorded example has rows?"""

from __future__ import annotations

import numpy as np
import pytest

import dchw
from dchw.graph.network import Network
from dchw.mapping.given import moved_examples, network_inputs
from dchw.quantities import DchwError


def network(x: np.ndarray) -> Network:
    weights = np.ones((3, int(np.prod(x.shape[1:]))), np.float32)
    return Network.from_arrays("one", {"fc": weights}, inputs={"fc": x})


def inputs_of(x: np.ndarray, batch: int, seed: int = 0) -> np.ndarray:
    values, origin = network_inputs(network(x), None, batch, np.random.default_rng(seed))
    assert origin == "example input"
    (made,) = values.values()
    return made


def test_rows_that_were_recorded_come_first_and_others_have_their_values_elsewhere() -> None:
    x = (np.arange(40) % 3).reshape(2, 20).astype(np.float32)
    made = inputs_of(x, 7)
    assert made.shape == (7, 20)
    np.testing.assert_array_equal(made[:2], x)
    for index, row in enumerate(made):
        np.testing.assert_array_equal(np.sort(row), np.sort(x[index % 2]))
    assert len({row.tobytes() for row in made}) > 2
    np.testing.assert_array_equal(made, inputs_of(x, 7))
    np.testing.assert_array_equal(inputs_of(x, 1), x[:1])
    assert moved_examples(network(x), 2) == []
    assert moved_examples(network(x), 7) == [
        "assumed: 5 of the 7 inputs are like the recorded example, moved along its axes"
    ]


def test_a_batch_of_a_shipped_network_skips_less_than_equal_inputs_would() -> None:
    """Equal inputs have their zeros at equal places, so that a batch of them would skip what one of them skips."""
    lenet = dchw.load_network("lenet-300-100")
    (name, image), *_ = lenet.graph.example_inputs.items()
    moved = dchw.simulate(lenet, "phone-lpddr5x", batch=4)
    equal = dchw.simulate(lenet, "phone-lpddr5x", batch=4, inputs={name: np.repeat(image[:1], 4, axis=0)})
    assert any(note.startswith("assumed: 3 of the 4 inputs") for note in moved.notes)
    assert not any(note.startswith("assumed:") and "inputs" in note for note in equal.notes)
    assert moved.workload.stages[0].layer.activity.sum() > equal.workload.stages[0].layer.activity.sum()
    np.testing.assert_array_equal(moved.outputs["ip3"][0], equal.outputs["ip3"][0])


def test_too_few_given_inputs_are_refused() -> None:
    lenet = dchw.load_network("lenet-300-100")
    with pytest.raises(DchwError, match="expected at least 2 rows; got 1; lower the batch or give more inputs"):
        dchw.simulate(lenet, "phone-lpddr5x", batch=2, inputs=dict(lenet.graph.example_inputs))
