"""Does the neutral network hold together: shapes, names, immutability, copies, memory?"""

from __future__ import annotations

import pickle

import numpy as np
import pytest

from dchw.graph.geometry import Geometry
from dchw.graph.network import Network, Operation, OperationKind, placeholder
from dchw.quantities import DchwError


def small() -> Network:
    """x [2,6,6] -> conv 4 @ 3x3, padded -> flatten -> linear 5, and a linear layer on three tokens."""
    rng = np.random.default_rng(0)
    kinds = OperationKind
    return Network(
        name="small",
        operations=(
            Operation(name="x", kind=kinds.INPUT, output_shape=(2, 6, 6)),
            Operation(
                name="conv",
                kind=kinds.CONV2D,
                inputs=("x",),
                attributes={"padding": (1, 1), "stride": (2, 2)},
                weight=rng.standard_normal((4, 2, 3, 3)),
                bias=np.zeros(4),
                output_shape=(4, 3, 3),
            ),
            Operation(name="flat", kind=kinds.FLATTEN, inputs=("conv",), output_shape=(36,)),
            Operation(
                name="fc", kind=kinds.LINEAR, inputs=("flat",), weight=rng.standard_normal((5, 36)), output_shape=(5,)
            ),
            Operation(name="tokens", kind=kinds.INPUT, output_shape=(3, 7)),
            Operation(name="each", kind=kinds.LINEAR, inputs=("tokens",), weight=np.ones((2, 7)), output_shape=(3, 2)),
        ),
        example_inputs={"x": np.ones((1, 2, 6, 6))},
    )


def test_layers_know_their_geometry():
    conv, fc, each = small().layers
    assert conv.geometry == Geometry(
        in_channels=2, out_channels=4, kernel=(3, 3), stride=(2, 2), padding=(1, 1), in_size=(6, 6)
    )
    assert (conv.geometry.out_size, conv.geometry.columns, conv.geometry.macs) == ((3, 3), 18, 4 * 18 * 9)
    assert conv.matrix.shape == (4, 18)
    assert fc.geometry == Geometry(in_channels=36, out_channels=5)
    assert each.geometry.output_pixels == 3
    assert [layer.input for layer in (conv, fc, each)] == ["x", "flat", "tokens"]


def test_arrays_cannot_be_changed_and_do_not_follow_their_source():
    source = np.ones((5, 36), np.float32)
    op = Operation(name="fc", kind=OperationKind.LINEAR, inputs=("x",), weight=source, attributes={"value": source})
    source[:] = 7
    assert op.weight.max() == op.attributes["value"].max() == 1
    with pytest.raises(ValueError, match="read-only"):
        op.weight[0, 0] = 2
    with pytest.raises(TypeError):
        op.attributes["value"] = 1


def test_read_only_arrays_and_placeholders_are_kept_without_a_copy():
    weight = placeholder((25_088, 409_600))  # 41 GB if it were copied
    assert weight.strides == (0, 0)
    source = Operation(name="x", kind=OperationKind.INPUT, output_shape=(409_600,))
    op = Operation(name="fc", kind=OperationKind.LINEAR, inputs=("x",), weight=weight, output_shape=(25_088,))
    network = Network(name="big", operations=(source, op))
    assert network.layers[0].weight is weight
    assert network.layers[0].matrix.strides == (0, 0)


def test_a_copy_by_pickle_is_equal():
    network = small()
    copy = pickle.loads(pickle.dumps(network))
    assert [op.name for op in copy.operations] == [op.name for op in network.operations]
    assert copy.layers[0].geometry == network.layers[0].geometry
    np.testing.assert_array_equal(copy.layer("fc").weight, network.layer("fc").weight)
    np.testing.assert_array_equal(copy.example_inputs["x"], network.example_inputs["x"])


def test_with_weights_replaces_only_what_is_named():
    network = small()
    changed = network.with_weights({"fc": np.full((5, 36), 2.0)}, {"conv": np.ones(4)})
    assert changed.layer("fc").weight.dtype == np.float32
    assert changed.layer("fc").weight.max() == 2
    assert changed.layer("conv").bias.tolist() == [1, 1, 1, 1]
    np.testing.assert_array_equal(changed.layer("conv").weight, network.layer("conv").weight)


def test_state_dict_uses_the_original_names():
    kind = OperationKind.LINEAR
    source = Operation(name="x", kind=OperationKind.INPUT, output_shape=(3,))
    plain = Operation(name="a", kind=kind, inputs=("x",), weight=np.ones((2, 3)), bias=np.zeros(2), output_shape=(2,))
    turned = Operation(
        name="b",
        kind=kind,
        inputs=("x",),
        weight=np.arange(6).reshape(2, 3),
        bias=np.zeros(2),
        parameter="block.matrix",
        attributes={"transposed": True, "bias_parameter": "block.offset"},
        output_shape=(2,),
    )
    state = Network(name="n", operations=(source, plain, turned)).state_dict()
    assert list(state) == ["a.weight", "a.bias", "block.matrix", "block.offset"]
    assert state["block.matrix"].tolist() == [[0, 3], [1, 4], [2, 5]]


def test_uncompressed_gives_names_and_reasons():
    kinds = OperationKind
    operations = (
        Operation(name="x", kind=kinds.INPUT, output_shape=(3,)),
        Operation(name="token", kind=kinds.CONSTANT, attributes={"value": np.ones(3)}, output_shape=(3,)),
        Operation(name="wte", kind=kinds.CONSTANT, attributes={"value": np.ones(3), "reason": "looked up"}),
        Operation(
            name="bn",
            kind=kinds.NORMALISATION,
            inputs=("x",),
            attributes={"form": "batch", "scale": np.ones(3), "shift": np.ones(3)},
        ),
        Operation(name="lrn", kind=kinds.NORMALISATION, inputs=("x",), attributes={"form": "local_response"}),
        Operation(
            name="rnn",
            kind=kinds.OTHER,
            inputs=("x",),
            attributes={"target": "lstm", "parameters": ("rnn.w", "rnn.b"), "parameter_0": np.ones(2)},
        ),
        Operation(name="roll", kind=kinds.OTHER, inputs=("x",), attributes={"target": "roll"}),
    )
    reason = "belongs to 'lstm', which is not computed here"
    assert list(Network(name="n", operations=operations).coverage.reasons.items()) == [
        ("token", "used directly, not as the weights of a layer"),
        ("wte", "looked up"),
        ("bn", "a scale and a shift per channel, too few values to share"),
        ("rnn.w", reason),
        ("rnn.b", reason),
    ]


def linear(name: str, source: str, weight: np.ndarray) -> Operation:
    return Operation(name=name, kind=OperationKind.LINEAR, inputs=(source,), weight=weight, output_shape=(1,))


SOURCE = Operation(name="x", kind=OperationKind.INPUT, output_shape=(2,))
FAULTS = {
    "twice": (
        lambda: Network(name="n", operations=(SOURCE, SOURCE)),
        "network n: operation 'x' occurs twice; give it another name",
    ),
    "unknown input": (
        lambda: Network(name="n", operations=(SOURCE, linear("fc", "xx", np.ones((1, 2))))),
        "network n: 'fc' reads 'xx', which no earlier operation gives; did you mean 'x'?",
    ),
    "not finite": (
        lambda: Network(name="n", operations=(SOURCE, linear("fc", "x", np.array([[np.nan, np.inf]])))),
        "network n, layer 'fc': weights must be finite; 2 of 2 are NaN or infinite; retrain or repair the checkpoint",
    ),
    "placeholder not finite": (
        lambda: Network(
            name="n",
            operations=(SOURCE, linear("fc", "x", np.broadcast_to(np.float32(np.nan), (1000, 2)))),
        ),
        "network n, layer 'fc': weights must be finite; 1 of 1 are NaN or infinite; retrain or repair the checkpoint",
    ),
    "example for no input": (
        lambda: Network(name="n", operations=(SOURCE,), example_inputs={"y": np.ones((1, 2))}),
        "network n: example input 'y' is not an input; use one of 'x'",
    ),
    "no such layer": (lambda: small().layer("convx"), "network small: no layer 'convx'; did you mean 'conv'?"),
    "no such operation": (
        lambda: small().operation("flatt"),
        "network small: no operation 'flatt'; did you mean 'flat'?",
    ),
    "weights for no layer": (
        lambda: small().with_weights({"fcc": np.ones(3)}),
        "network small: no layer 'fcc'; did you mean 'fc'?",
    ),
    "wrong shape": (
        lambda: small().with_weights({"fc": np.ones(3)}),
        "network small, layer 'fc': expected a weight of shape (5, 36); got (3,); correct the array",
    ),
    "bias where there is none": (
        lambda: small().with_weights({}, {"fc": np.ones(5)}),
        "network small, layer 'fc': expected a bias of shape None; got (5,); correct the array",
    ),
    "groups": (
        lambda: Geometry(in_channels=3, out_channels=4, groups=2),
        "geometry: groups must divide in_channels and out_channels; got 2 groups for 3 and 4; correct one of them",
    ),
    "kernel too large": (
        lambda: Geometry(in_channels=1, out_channels=1, kernel=(3, 3), in_size=(2, 8)),
        "geometry: the kernel (3, 3) does not fit the padded input (2, 8); enlarge the input",
    ),
    "negative padding": (
        lambda: Geometry(in_channels=1, out_channels=1, padding=(-1, 0)),
        "geometry: padding must not be negative; got (-1, 0); correct it",
    ),
    "no channels": (
        lambda: Geometry(in_channels=0, out_channels=1),
        "geometry: in_channels must be at least 1; got 0; correct it",
    ),
    "no stride": (
        lambda: Geometry(in_channels=1, out_channels=1, stride=(0, 1)),
        "geometry: stride must be at least 1 each way; got (0, 1); correct it",
    ),
}


@pytest.mark.parametrize("name", list(FAULTS))
def test_faults_are_one_sentence(name):
    action, message = FAULTS[name]
    with pytest.raises(DchwError) as caught:
        action()
    assert str(caught.value) == message


def test_unknown_shapes_are_named_when_they_are_needed():
    source = Operation(name="x", kind=OperationKind.INPUT)
    network = Network(name="n", operations=(source,))
    with pytest.raises(DchwError, match="the shape of its input is unknown; give an example input"):
        _ = network.input_shape
    with pytest.raises(DchwError, match="the output shape of 'x' is unknown; give an example input"):
        Network(name="n", operations=(source, linear("fc", "x", np.ones((1, 2)))))
