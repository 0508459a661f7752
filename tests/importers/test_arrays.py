"""Do plain arrays become independent layers with the inputs they were given?"""

from __future__ import annotations

import numpy as np
import pytest

from dchw.graph.forward import forward
from dchw.graph.geometry import Geometry
from dchw.graph.network import Network
from dchw.quantities import DchwError

GEOMETRY = Geometry(in_channels=4, out_channels=6, kernel=(3, 3), padding=(1, 1), groups=2, in_size=(5, 7))


def test_layers_read_their_own_inputs():
    rng = np.random.default_rng(0)
    fc, conv, x = rng.standard_normal((3, 8)), rng.standard_normal((6, 2, 3, 3)), rng.standard_normal(8)
    network = Network.from_arrays(
        "pair",
        {"fc": fc, "conv": conv},
        inputs={"fc": x, "conv": np.ones((2, 4, 5, 7))},
        biases={"fc": np.array([1.0, 2.0, 3.0])},
        geometry={"conv": GEOMETRY},
        activation="relu",
        notes=["made up"],
    )
    assert [op.name for op in network.operations] == [
        *("fc.input", "fc", "fc.activation", "conv.input", "conv", "conv.activation")
    ]
    assert network.layer("conv").geometry == GEOMETRY
    assert network.notes == ("made up",)
    outputs = forward(network)
    np.testing.assert_allclose(outputs["fc.activation"][0], np.maximum(fc @ x + [1, 2, 3], 0), rtol=1e-5)
    assert outputs["conv"].shape == (2, 6, 5, 7)


def test_inputs_are_optional_and_may_be_batches_or_tokens():
    tokens = Geometry(in_channels=8, out_channels=3, in_size=(5, 1))
    network = Network.from_arrays(
        "n", {"a": np.ones((3, 8)), "b": np.ones((3, 8)), "c": np.ones((3, 8))},
        inputs={"b": np.ones((4, 8)), "c": np.ones((5, 8))},
        geometry={"c": tokens},
    )  # fmt: skip
    assert {name: x.shape for name, x in network.example_inputs.items()} == {"b.input": (4, 8), "c.input": (1, 5, 8)}
    assert network.layer("c").geometry == tokens


W = np.ones((3, 8))
FAULTS = {
    "network n: expected the weights of at least one layer; got none; give some": ({}, {}),
    "network n: no weights for the input of 'fcc'; did you mean 'fc'?": ({"fc": W}, {"inputs": {"fcc": W}}),
    "network n: activation 'rleu' is unknown; did you mean 'relu'?": ({"fc": W}, {"activation": "rleu"}),
    "network n, layer 'fc': expected real numbers as weights; got <U1; convert them to float32": (
        {"fc": np.array([["a"]])},
        {},
    ),
    "network n, layer 'fc': expected at least one weight; got shape (0, 8); leave the layer out": (
        {"fc": np.ones((0, 8))},
        {},
    ),
    "network n, layer 'fc': expected weights [out, in] or [out, in/groups, kh, kw] "
    "(or one or three sizes of a kernel); got shape (3,); reshape them": (
        {"fc": np.ones(3)},
        {},
    ),
    "network n, layer 'c': a convolution (6, 2, 3, 3) needs its geometry; give geometry={layer: ...}": (
        {"c": np.ones((6, 2, 3, 3))},
        {},
    ),
    "network n, layer 'c': its geometry asks for weights (6, 2, 3, 3); got (6, 4, 3, 3); correct one of them": (
        {"c": np.ones((6, 4, 3, 3))},
        {"geometry": {"c": GEOMETRY}},
    ),
    "network n, layer 'fc': expected a bias of 3 values; got shape (8,); give one per output": (
        {"fc": W},
        {"biases": {"fc": np.ones(8)}},
    ),
    "network n, layer 'fc': expected an input of shape (8,), a batch axis before it or not; got (3,); reshape it": (
        {"fc": W},
        {"inputs": {"fc": np.ones(3)}},
    ),
    "network n, layer 'fc': expected finite inputs; got NaN or infinity among them; repair the recording": (
        {"fc": W},
        {"inputs": {"fc": np.full(8, np.nan)}},
    ),
}


@pytest.mark.parametrize("message", list(FAULTS))
def test_faults_are_one_sentence(message):
    weights, options = FAULTS[message]
    with pytest.raises(DchwError) as caught:
        Network.from_arrays("n", weights, **options)
    assert str(caught.value) == message
