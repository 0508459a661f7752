"""Does the numpy forward pass give what torch gives, operation by operation?"""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch.nn import functional

from dchw.graph.forward import ACTIVATIONS, apply, forward, patches
from dchw.graph.geometry import Geometry
from dchw.graph.network import Network, Operation, OperationKind
from dchw.graph.shapes import pooled_size
from dchw.quantities import DchwError


def agree(got: np.ndarray, expected: torch.Tensor) -> None:
    """Equal within 1e-5 of the largest magnitude, the rounding of float32 sums."""
    wanted = expected.detach().numpy()
    assert got.shape == wanted.shape
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, wanted, rtol=1e-5, atol=1e-5 * np.abs(wanted[np.isfinite(wanted)]).max(initial=0))


def operation(kind: OperationKind, inputs: int = 1, *, weight=None, bias=None, **attributes) -> Operation:
    names = tuple(f"x{i}" for i in range(inputs))
    return Operation(name="op", kind=kind, inputs=names, attributes=attributes, weight=weight, bias=bias)


def values(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32) * 2


convolutions = st.fixed_dictionaries(
    {
        "groups": st.integers(1, 3),
        "per_group": st.tuples(st.integers(1, 3), st.integers(1, 3)),
        "kernel": st.tuples(st.integers(1, 4), st.integers(1, 4)),
        "stride": st.tuples(st.integers(1, 3), st.integers(1, 3)),
        "padding": st.tuples(st.integers(0, 2), st.integers(0, 2)),
        "dilation": st.tuples(st.integers(1, 2), st.integers(1, 2)),
        "size": st.tuples(st.integers(1, 9), st.integers(1, 9)),
        "batch": st.integers(1, 3),
        "bias": st.booleans(),
    }
)


@settings(max_examples=60, deadline=None)
@given(convolutions)
def test_convolution_of_any_geometry(c):
    reach = [c["dilation"][i] * (c["kernel"][i] - 1) + 1 for i in (0, 1)]
    assume(all(c["size"][i] + 2 * c["padding"][i] >= reach[i] for i in (0, 1)))
    inputs, outputs = c["groups"] * c["per_group"][0], c["groups"] * c["per_group"][1]
    x, weight = values(c["batch"], inputs, *c["size"]), values(outputs, c["per_group"][0], *c["kernel"], seed=1)
    bias = values(outputs, seed=2) if c["bias"] else None
    options = {key: c[key] for key in ("stride", "padding", "dilation", "groups")}
    got = apply(operation(OperationKind.CONV2D, weight=weight, bias=bias, **options), [x])
    tensors = [torch.from_numpy(a) if a is not None else None for a in (x, weight, bias)]
    agree(got, functional.conv2d(*tensors, **options))


@settings(max_examples=40, deadline=None)
@given(convolutions)
def test_patches_are_what_torch_unfolds(c):
    reach = [c["dilation"][i] * (c["kernel"][i] - 1) + 1 for i in (0, 1)]
    assume(all(c["size"][i] + 2 * c["padding"][i] >= reach[i] for i in (0, 1)))
    channels = c["groups"] * c["per_group"][0]
    x = values(c["batch"], channels, *c["size"])
    options = {key: c[key] for key in ("stride", "padding", "dilation")}
    geometry = Geometry(
        in_channels=channels,
        out_channels=channels,
        kernel=c["kernel"],
        groups=c["groups"],
        in_size=c["size"],
        **options,
    )
    got = patches(x, geometry)
    assert got.shape == (c["batch"], c["groups"], geometry.columns, geometry.output_pixels)
    unfolded = functional.unfold(torch.from_numpy(x), c["kernel"], **options)
    np.testing.assert_array_equal(got.reshape(unfolded.shape), unfolded.numpy())


def test_patches_run_over_channel_then_row_then_column():
    """Two channels of 2x3, a 2x2 kernel: two output pixels, eight values each."""
    x = np.arange(12, dtype=np.float32).reshape(1, 2, 2, 3)
    geometry = Geometry(in_channels=2, out_channels=1, kernel=(2, 2), in_size=(2, 3))
    columns = patches(x, geometry)[0, 0].T
    assert columns.tolist() == [[0, 1, 3, 4, 6, 7, 9, 10], [1, 2, 4, 5, 7, 8, 10, 11]]


pools = st.fixed_dictionaries(
    {
        "kernel": st.tuples(st.integers(1, 4), st.integers(1, 4)),
        "stride": st.tuples(st.integers(1, 4), st.integers(1, 4)),
        "size": st.tuples(st.integers(1, 9), st.integers(1, 9)),
        "ceil_mode": st.booleans(),
        "pad": st.floats(0, 1),
        "flag": st.booleans(),
    }
)


@settings(max_examples=120, deadline=None)
@given(pools)
def test_pooling_of_any_geometry(p):
    padding = tuple(int(p["pad"] * (k // 2)) for k in p["kernel"])
    assume(all(p["size"][i] + 2 * padding[i] >= p["kernel"][i] for i in (0, 1)))
    x = values(2, 3, *p["size"])
    options = {"stride": p["stride"], "padding": padding, "ceil_mode": p["ceil_mode"]}
    tensor = torch.from_numpy(x)
    got = apply(operation(OperationKind.MAX_POOL2D, kernel=p["kernel"], **options), [x])
    expected = functional.max_pool2d(tensor, p["kernel"], **options)
    agree(got, expected)
    assert pooled_size(p["size"], p["kernel"], p["stride"], padding, ceil_mode=p["ceil_mode"]) == expected.shape[2:]
    got = apply(
        operation(OperationKind.AVERAGE_POOL2D, kernel=p["kernel"], count_include_pad=p["flag"], **options), [x]
    )
    agree(got, functional.avg_pool2d(tensor, p["kernel"], count_include_pad=p["flag"], **options))


def test_dilated_max_pooling():
    x = values(1, 2, 9, 8)
    options = {"stride": (2, 1), "padding": (1, 0), "dilation": (2, 3), "ceil_mode": True}
    got = apply(operation(OperationKind.MAX_POOL2D, kernel=(3, 2), **options), [x])
    agree(got, functional.max_pool2d(torch.from_numpy(x), (3, 2), **options))


@pytest.mark.parametrize("output", [(1, 1), (2, 3), (5, 4), (7, 7)])
def test_adaptive_average_pooling(output):
    x = values(2, 3, 7, 5)
    got = apply(operation(OperationKind.GLOBAL_AVERAGE_POOL, output=output), [x])
    agree(got, functional.adaptive_avg_pool2d(torch.from_numpy(x), output))


def _dynamic(x: torch.Tensor) -> torch.Tensor:
    """Each example rounded to 256 steps over its own range, which holds 0."""
    rows = []
    for row in x:
        low, high = torch.clamp(row.min(), max=0), torch.clamp(row.max(), min=0)
        step = (high - low) / 255
        zero = torch.clamp(torch.round(-low / step), 0, 255)
        rows.append((torch.clamp(torch.round(row / step) + zero, 0, 255) - zero) * step)
    return torch.stack(rows)


TORCH_ACTIVATIONS = {
    "relu": functional.relu,
    "relu6": functional.relu6,
    "leaky_relu": lambda x: functional.leaky_relu(x, 0.2),
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
    "gelu": functional.gelu,
    "gelu_tanh": lambda x: functional.gelu(x, approximate="tanh"),
    "silu": functional.silu,
    "hardswish": functional.hardswish,
    "hardsigmoid": functional.hardsigmoid,
    "softmax": lambda x: functional.softmax(x, 1),
    "log_softmax": lambda x: functional.log_softmax(x, 1),
    "elu": lambda x: functional.elu(x, 0.7),
    "clip": lambda x: torch.clamp(x, -1.5),
    "selu": functional.selu,
    "softplus": functional.softplus,
    "mish": functional.mish,
    "exp": torch.exp,
    "log": torch.log,
    "sqrt": torch.sqrt,
    "rsqrt": torch.rsqrt,
    "reciprocal": torch.reciprocal,
    "square": torch.square,
    "neg": torch.neg,
    "floor": torch.floor,
    "ceil": torch.ceil,
    "round": torch.round,
    "trunc": torch.trunc,
    "sign": torch.sign,
    "softsign": functional.softsign,
    "quantise": lambda x: torch.clamp(torch.round(x / 0.25), -8, 7) * 0.25,
    "quantise_dynamic": lambda x: _dynamic(x),
    "abs": torch.abs,
    "sin": torch.sin,
    "cos": torch.cos,
    "erf": torch.erf,
}
POSITIVE = ("log", "sqrt", "rsqrt")  # what they are defined for


@pytest.mark.parametrize("function", list(ACTIVATIONS))
def test_activation(function):
    x = np.concatenate([values(4, 5, 3) * 3, np.full((1, 5, 3), 200.0), np.full((1, 5, 3), -200.0)]).astype(np.float32)
    if function in POSITIVE:
        x = np.abs(x) + np.float32(1e-3)
    if function == "exp":
        x = np.minimum(x, 50)
    attributes = {"axis": 1, "slope": 0.2, "alpha": 0.7, "low": -1.5, "high": None}
    if function == "quantise":
        attributes = {"step": 0.25, "low": -8, "high": 7}
    got = apply(operation(OperationKind.ACTIVATION, function=function, **attributes), [x])
    agree(got, TORCH_ACTIVATIONS[function](torch.from_numpy(x)))


def test_every_activation_of_torch_is_compared():
    assert set(TORCH_ACTIVATIONS) == set(ACTIVATIONS)


def test_linear_on_vectors_and_on_tokens():
    weight, bias = values(4, 6), values(4, seed=1)
    for x in (values(3, 6, seed=2), values(3, 5, 6, seed=2)):
        got = apply(operation(OperationKind.LINEAR, weight=weight, bias=bias), [x])
        agree(got, functional.linear(torch.from_numpy(x), torch.from_numpy(weight), torch.from_numpy(bias)))


def test_normalisations():
    x, scale, shift = values(2, 6, 3, 4), values(6, seed=1), values(6, seed=2)
    tensor = torch.from_numpy(x)
    got = apply(operation(OperationKind.NORMALISATION, form="batch", scale=scale, shift=shift), [x])
    agree(got, tensor * torch.from_numpy(scale)[:, None, None] + torch.from_numpy(shift)[:, None, None])
    scale, shift = values(3, 4, seed=1), values(3, 4, seed=2)
    layer = operation(OperationKind.NORMALISATION, form="layer", scale=scale, shift=shift, axes=(-2, -1), epsilon=1e-5)
    agree(
        apply(layer, [x]), functional.layer_norm(tensor, (3, 4), torch.from_numpy(scale), torch.from_numpy(shift), 1e-5)
    )


@pytest.mark.parametrize("size", [1, 3, 4, 5, 9])
def test_local_response_normalisation(size):
    x = values(2, 6, 3, 4)
    lrn = operation(OperationKind.NORMALISATION, form="local_response", size=size, alpha=0.5, beta=0.75, k=2.0)
    agree(apply(lrn, [x]), functional.local_response_norm(torch.from_numpy(x), size, 0.5, 0.75, 2.0))


def test_combinations_and_shapes():
    x, y = values(2, 3, 4), values(2, 3, 4, seed=1)
    a, b = torch.from_numpy(x), torch.from_numpy(y)
    one = values(1, 3, 1, seed=2)  # a constant: one for all examples
    kinds = OperationKind
    agree(apply(operation(kinds.ADD, 3), [x, y, one]), a + b + torch.from_numpy(one))
    agree(apply(operation(kinds.MULTIPLY, 2), [x, one]), a * torch.from_numpy(one))
    agree(apply(operation(kinds.CONCAT, 2, axis=2), [x, y]), torch.cat([a, b], 2))
    expanded = torch.from_numpy(one).expand(2, -1, -1)
    agree(apply(operation(kinds.CONCAT, 2, axis=2), [x, one]), torch.cat([a, expanded], 2))
    agree(apply(operation(kinds.MATMUL, 2, transpose=True, scale=0.5), [x, y]), 0.5 * a @ b.transpose(1, 2))
    agree(apply(operation(kinds.MATMUL, 2), [x, np.swapaxes(y, 1, 2)]), a @ b.transpose(1, 2))
    agree(apply(operation(kinds.SLICE, axis=2, start=1, stop=4, step=2), [x]), a[:, :, 1:4:2])
    agree(
        apply(operation(kinds.PAD, padding=((0, 1), (2, 0)), value=1.5), [x]),
        functional.pad(a, (2, 0, 0, 1), value=1.5),
    )
    agree(apply(operation(kinds.MEAN, axes=(1,), keep=False), [x]), a.mean(1))
    agree(apply(operation(kinds.MEAN, axes=(1, 2), keep=True), [x]), a.mean((1, 2), keepdim=True))
    agree(apply(operation(kinds.FLATTEN), [x]), a.flatten(1))
    agree(apply(operation(kinds.RESHAPE, shape=(2, 6)), [x]), a.reshape(2, 2, 6))
    agree(apply(operation(kinds.RESHAPE, shape=(4, 3), permutation=(0, 2, 1)), [x]), a.transpose(1, 2))
    agree(apply(operation(kinds.IDENTITY), [x]), a)
    agree(apply(operation(kinds.CONSTANT, 0, value=x), []), a[None])


def test_every_kind_but_input_and_other_has_a_rule():
    from dchw.graph.forward import _RULES

    assert set(OperationKind) - set(_RULES) == {OperationKind.INPUT, OperationKind.OTHER}


def test_masked_scores_give_zero_shares():
    scores = values(1, 3, 3)
    mask = np.triu(np.full((3, 3), -np.inf, np.float32), 1)
    masked = apply(operation(OperationKind.ADD, 2), [scores, mask[None]])
    shares = apply(operation(OperationKind.ACTIVATION, function="softmax", axis=2), [masked])
    assert shares[0][np.triu_indices(3, 1)].tolist() == [0, 0, 0]
    np.testing.assert_allclose(shares.sum(axis=2), 1, rtol=1e-6)


def chain(*operations: Operation) -> Network:
    source = Operation(name="x", kind=OperationKind.INPUT, output_shape=(4,))
    return Network(name="chain", operations=(source, *operations))


def test_forward_gives_every_output_and_takes_the_example_by_default():
    op = Operation(name="act", kind=OperationKind.ACTIVATION, inputs=("x",), attributes={"function": "relu"})
    network = Network(name="n", operations=chain(op).operations, example_inputs={"x": [[-1, 2, -3, 4]]})
    outputs = forward(network)
    assert list(outputs) == ["x", "act"]
    assert outputs["act"].tolist() == [[0, 2, 0, 4]]
    assert forward(network, {"x": [[1, -2, 3, -4]]})["act"].tolist() == [[1, 0, 3, 0]]


def test_errors_are_one_sentence():
    network = chain()
    with pytest.raises(DchwError) as caught:
        forward(network)
    assert str(caught.value) == ("network chain: input 'x' has no values; give them, or record an example input")
    with pytest.raises(DchwError) as caught:
        forward(network, {"x": np.zeros((1, 5))})
    assert str(caught.value) == (
        "network chain: input 'x' must have shape (4,) behind a batch axis; got (1, 5); reshape it"
    )
    with pytest.raises(DchwError) as caught:
        forward(network, {"y": np.zeros((1, 4))})
    assert str(caught.value) == "network chain: 'y' is not one of its inputs; use one of 'x'"
    other = Operation(name="odd", kind=OperationKind.OTHER, inputs=("x",), attributes={"target": "roll"})
    with pytest.raises(DchwError) as caught:
        forward(chain(other), {"x": np.zeros((1, 4))})
    assert str(caught.value) == (
        "operation 'odd' (roll) has no forward pass here; replace it in the module by operations that have one, or "
        "give the inputs of the layers behind it yourself"
    )
    unknown = Operation(name="act", kind=OperationKind.ACTIVATION, inputs=("x",), attributes={"function": "rleu"})
    with pytest.raises(DchwError, match=r"activation 'rleu' is unknown; did you mean 'relu'\?"):
        forward(chain(unknown), {"x": np.zeros((1, 4))})


@pytest.mark.parametrize(("fault", "caught"), [("stride", True), ("order", True), ("none", False)])
def test_a_planted_fault_in_the_patches_is_seen(fault, caught):
    """The comparison with torch notices a wrong stride and a wrong order of rows."""
    x, weight = values(1, 2, 6, 6), values(3, 2, 2, 2, seed=1)
    geometry = Geometry(in_channels=2, out_channels=3, kernel=(2, 2), stride=(2, 2), in_size=(6, 6))
    columns = patches(x, geometry)
    if fault == "stride":
        columns = patches(x, Geometry(in_channels=2, out_channels=3, kernel=(2, 2), stride=(1, 1), in_size=(6, 6)))
        columns = columns[..., : geometry.output_pixels]
    if fault == "order":
        columns = columns.reshape(1, 1, 2, 2, 2, -1).swapaxes(3, 4).reshape(columns.shape)
    product = np.matmul(weight.reshape(1, 3, -1), columns).reshape(1, 3, *geometry.out_size)
    expected = functional.conv2d(torch.from_numpy(x), torch.from_numpy(weight), stride=2).numpy()
    assert (not np.allclose(product, expected, rtol=1e-5, atol=1e-5)) is caught


def test_gelu_is_exact_to_float32():
    x = np.linspace(-6, 6, 101, dtype=np.float32)[None]
    exact = [0.5 * v * (1 + math.erf(v / math.sqrt(2))) for v in x[0].astype(float)]
    np.testing.assert_allclose(apply(operation(OperationKind.ACTIVATION, function="gelu"), [x])[0], exact, rtol=1e-6)
