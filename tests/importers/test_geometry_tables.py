"""Are the built-in networks the published ones, and do they cost no memory?"""

from __future__ import annotations

import numpy as np
import pytest

from dchw.graph.forward import forward
from dchw.graph.network import OperationKind
from dchw.importers.geometry_tables import BUILT_IN, network_from_table
from dchw.quantities import DchwError

# parameters with biases, weights and multiply-accumulates as the tables' sources state them
TOTALS = {
    "alexnet": (60_965_224, 60_954_656, 724_406_816),
    "vgg16": (138_357_544, 138_344_128, 15_470_264_320),
    "squeezenet_v1_0": (1_248_424, 1_244_448, 861_339_936),
}


@pytest.mark.parametrize("name", list(BUILT_IN))
def test_totals(name):
    network = network_from_table(name)
    weights = sum(layer.weight.size for layer in network.layers)
    biases = sum(layer.bias.size for layer in network.layers)
    assert (weights + biases, weights, sum(layer.geometry.macs for layer in network.layers)) == TOTALS[name]
    (note,) = network.notes
    assert note.startswith("built-in geometry without real weights: those of all layers are zeros; ")
    assert ("has weights" in note) or (f"'{name}-synthetic'" in note)
    assert all(layer.weight.strides == (0,) * layer.weight.ndim for layer in network.layers)


def test_alexnet_has_groups_and_normalisation():
    network = network_from_table("alexnet")
    assert [layer.geometry.groups for layer in network.layers] == [1, 2, 1, 2, 2, 1, 1, 1]
    names = [op.name for op in network.operations]
    assert names[1:5] == ["conv1", "relu_conv1", "norm1", "pool1"]
    assert names[-3:] == ["drop7", "fc8", "prob"]


def test_squeezenet_fires_branch_and_join():
    network = network_from_table("squeezenet_v1_0")
    assert network.operation("fire2/expand1x1").inputs == network.operation("fire2/expand3x3").inputs
    joined = network.operation("fire2/concat")
    assert joined.inputs == ("fire2/expand1x1/relu", "fire2/expand3x3/relu")
    assert joined.output_shape == (128, 55, 55)
    assert network.operation("pool4").inputs == ("fire4/concat",)
    assert sum(op.kind is OperationKind.CONCAT for op in network.operations) == 8


def test_given_weights_are_kept_and_the_rest_is_noted():
    weight = np.ones((1000, 4096), np.float32)
    weight.flags.writeable = False
    network = network_from_table("alexnet", {"fc8": weight}, {"fc8": np.full(1000, 2.0)})
    assert network.layer("fc8").weight is weight
    assert network.layer("fc8").bias.max() == 2
    assert network.notes[0].startswith("built-in geometry without real weights: those of conv1, conv2,")


def test_forward_of_squeezenet():
    rng = np.random.default_rng(0)
    network = network_from_table("squeezenet_v1_0")
    scaled = {
        layer.name: rng.standard_normal(layer.weight.shape).astype(np.float32) * (2 / layer.geometry.columns) ** 0.5
        for layer in network.layers
    }
    outputs = forward(network.with_weights(scaled), {"data": rng.standard_normal((1, 3, 227, 227))})
    assert all(outputs[op.name].shape[1:] == op.output_shape for op in network.operations)
    np.testing.assert_allclose(outputs["prob"].sum(), 1, rtol=1e-5)


def test_faults_are_one_sentence():
    with pytest.raises(DchwError) as caught:
        network_from_table("alexnett")
    assert str(caught.value) == "there is no built-in network 'alexnett'; did you mean 'alexnet'?"
    with pytest.raises(DchwError) as caught:
        network_from_table("alexnet", {"fc9": np.ones(3)})
    assert str(caught.value) == "network alexnet: no layer 'fc9'; did you mean 'fc8'?"
    with pytest.raises(DchwError) as caught:
        network_from_table("alexnet", {"fc8": np.ones((3, 3))})
    assert str(caught.value) == (
        "network alexnet: layer 'fc8' needs weights of shape (1000, 4096); got (3, 3); correct the array"
    )
