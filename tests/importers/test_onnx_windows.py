"""Do pools and matrix products with odd padding, rounding and constants give what ONNX's definition says?"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import dchw
from dchw.importers.onnx.file import network_from_onnx
from dchw.quantities import DchwError
from tests.importers.onnx_models import agree, array, node, saved
from tests.oracles.onnx_operators import gemm, pool

_PAIR = st.tuples(st.integers(1, 3), st.integers(1, 3))


@settings(max_examples=120, deadline=None)
@given(
    size=st.tuples(st.integers(2, 7), st.integers(2, 7)),
    kernel=_PAIR,
    stride=_PAIR,
    pads=st.tuples(*[st.integers(0, 2)] * 4),
    dilation=_PAIR,
    ceil_mode=st.booleans(),
    average=st.booleans(),
    count_padding=st.booleans(),
)
def test_pools(tmp_path_factory, size, kernel, stride, pads, dilation, ceil_mode, average, count_padding):
    dilation = (1, 1) if average else dilation
    reach = [d * (k - 1) + 1 for d, k in zip(dilation, kernel, strict=True)]
    assume(all(p < k for p, k in zip(pads, kernel * 2, strict=True)))
    assume(all(s + a + b >= r for s, a, b, r in zip(size, pads[:2], pads[2:], reach, strict=True)))
    x = array(2, 2, *size)
    try:
        expected = pool(
            x, kernel, stride, pads, dilation, ceil_mode=ceil_mode, average=average, count_padding=count_padding
        )
    except ValueError:  # a window that sees no value at all has no maximum
        assume(False)
    attributes = {"count_include_pad": int(count_padding)} if average else {"dilations": dilation}
    kind = "AveragePool" if average else "MaxPool"
    window = {"kernel_shape": kernel, "strides": stride, "pads": pads, "ceil_mode": int(ceil_mode)}
    path = saved(tmp_path_factory.mktemp("pool"), [node(kind, "x", "y", **window, **attributes)], {}, (2, *size))
    agree(path, x, expected=expected.astype(np.float32))


@pytest.mark.parametrize("kind", ["MaxPool", "AveragePool"])
def test_pools_over_one_axis_and_many_examples(tmp_path, kind):
    x = array(2, 3, 9)
    path = saved(tmp_path, [node(kind, "x", "y", kernel_shape=[3], strides=[2], pads=[0, 1])], {}, (3, 9))
    expected = pool(
        x[:, :, None], (1, 3), (1, 2), (0, 0, 0, 1), (1, 1), ceil_mode=False, average=kind == "AveragePool"
    )[:, :, 0]
    agree(path, x, expected=expected.astype(np.float32))


def test_same_padding_of_an_even_kernel_is_saved_and_simulated(tmp_path):
    nodes = [
        node("Conv", "x w", "c", pads=[1] * 4),
        node("MaxPool", "c", "y", kernel_shape=[2, 2], strides=[1, 1], auto_pad="SAME_UPPER"),
    ]
    network = network_from_onnx(saved(tmp_path, nodes, {"w": array(4, 3, 3, 3)}, (3, 6, 6)))
    compressed = dchw.compress(network, dchw.Recipe(density=0.5))
    dchw.save(compressed, tmp_path / "net.dchw")
    result = dchw.simulate(dchw.load(tmp_path / "net.dchw"), "phone-lpddr5x")
    assert all(np.isfinite(values).all() for values in result.outputs.values())


@settings(max_examples=60, deadline=None)
@given(
    rows=st.integers(1, 3),
    columns=st.integers(1, 4),
    added=st.sampled_from(["none", "scalar", "one", "columns", "row", "column", "whole"]),
    alpha=st.sampled_from([1.0, 0.5]),
    beta=st.sampled_from([1.0, -2.0]),
    turned=st.tuples(st.booleans(), st.booleans()),
)
def test_gemm(tmp_path_factory, rows, columns, added, alpha, beta, turned):
    x, w = array(rows, 3), array(3, columns)
    shapes = {"scalar": (), "one": (1,), "columns": (columns,), "row": (1, columns), "column": (rows, 1)}
    c = None if added == "none" else np.asarray(array(*shapes.get(added, (rows, columns))))
    constants = {"w": w.T.copy() if turned[1] else w} | ({} if c is None else {"c": c})
    inputs = "x w" if c is None else "x w c"
    nodes = [node("Gemm", inputs, "y", alpha=alpha, beta=beta, transA=int(turned[0]), transB=int(turned[1]))]
    given_x = x.T.copy() if turned[0] else x
    path = saved(tmp_path_factory.mktemp("gemm"), nodes, constants, given_x.shape[1:], batch=given_x.shape[0])
    expected = gemm(given_x, constants["w"], c, alpha, beta, *turned)
    agree(path, given_x, expected=expected.astype(np.float32))


def test_a_constant_that_does_not_fit_is_refused(tmp_path):
    path = saved(tmp_path, [node("Gemm", "x w c", "y")], {"w": array(3, 4), "c": array(3)}, (3,))
    with pytest.raises(DchwError, match=r"node '/y' \(Gemm\) does not hold together \(.*; check the file"):
        network_from_onnx(path)


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("axes", [1, 2])
@pytest.mark.parametrize("form", [{}, {"pads": 1, "output_padding": 1}, {"auto_pad": "SAME_UPPER"}])
def test_transposed_convolutions(tmp_path, groups, axes, form):
    """Against torch: onnx's reference implementation fails for groups."""
    form = {k: [v] * (2 * axes if k == "pads" else axes) if isinstance(v, int) else v for k, v in form.items()}
    nodes = [node("ConvTranspose", "x up.weight b", "y", strides=[2] * axes, group=groups, **form)]
    constants = {"up.weight": array(4, 3, *[3] * axes), "b": array(3 * groups)}
    path = saved(tmp_path, nodes, constants, (4, *[5] * axes))
    network = network_from_onnx(path)
    x = array(2, 4, *[5] * axes)
    tensors = [torch.from_numpy(values) for values in (x, constants["up.weight"], constants["b"])]
    options = {"padding": 1, "output_padding": 1} if "pads" in form else {}
    expected = getattr(torch, f"conv_transpose{axes}d")(*tensors, stride=2, groups=groups, **options).numpy()
    agree(path, x, network, expected=expected[(..., *[slice(0, 10)] * axes)] if "auto_pad" in form else expected)
    np.testing.assert_array_equal(network.state_dict()["up.weight"].numpy(), constants["up.weight"])


@pytest.mark.parametrize("places", ["half_pixel", "asymmetric", "align_corners"])
@pytest.mark.parametrize("rounding", ["round_prefer_floor", "floor", "ceil"])
def test_nearest_resizing(tmp_path, places, rounding):
    form = {"coordinate_transformation_mode": places, "nearest_mode": rounding, "mode": "nearest"}
    nodes = [node("Resize", "x none none sizes", "y", **form)]
    nodes[0].input[1] = nodes[0].input[2] = ""
    path = saved(tmp_path, nodes, {"sizes": np.array([1, 2, 9, 3])}, (2, 4, 5), batch=1)
    agree(path, array(1, 2, 4, 5))


@pytest.mark.parametrize("places", ["half_pixel", "align_corners"])
def test_linear_resizing(tmp_path, places):
    nodes = [node("Resize", "x none scales", "y", mode="linear", coordinate_transformation_mode=places)]
    nodes[0].input[1] = ""
    path = saved(tmp_path, nodes, {"scales": np.float32([1, 1, 2, 3])}, (2, 4, 5), batch=1)
    agree(path, array(1, 2, 4, 5))
