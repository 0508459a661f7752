"""Are a layer's inputs, some rows of the output at a time, those of all rows, and so what it gives?"""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from dchw.graph import sliding_windows
from dchw.graph.geometry import Geometry
from dchw.graph.sliding_windows import patches
from dchw.mapping import layer_columns
from dchw.mapping.passing import ForwardPass
from dchw.mapping.workload import map_network
from tests.mapping.layers import convolution, small_machine
from tests.planting import in_plain_python


def _geometry(size: int, kernel: int, stride: int, padding: int, dilation: int, groups: int) -> Geometry:
    return Geometry(
        in_channels=2 * groups, out_channels=2 * groups, groups=groups, kernel=(kernel, 1), stride=(stride, 1),
        padding=(padding, 0), dilation=(dilation, 1), in_size=(size, 3),
    )  # fmt: skip


def _expect_some(geometry: Geometry) -> None:
    for first, end in ((0, 1), (1, 3), (0, 3)):
        _expect_rows(geometry, first, end)


def _expect_rows(geometry: Geometry, first: int, end: int) -> None:
    x = np.random.default_rng(0).integers(1, 99, (2, geometry.in_channels, *geometry.in_size))
    whole = patches(x, geometry)
    # place by place: what each output pixel reads, zeros around the input
    padding = geometry.padding[0]
    around = np.pad(x, ((0, 0), (0, 0), (padding, padding), (0, 0)))
    for row in range(geometry.out_size[0]):
        for place in range(geometry.kernel[0]):
            read = around[:, :, row * geometry.stride[0] + place * geometry.dilation[0]]
            found = whole.reshape(2, geometry.in_channels, geometry.kernel[0], geometry.out_size[0], 3)
            np.testing.assert_array_equal(found[:, :, place, row], read)
    of_row = geometry.out_size[1]
    np.testing.assert_array_equal(patches(x, geometry, first, end), whole[..., first * of_row : end * of_row])


@example(4, 3, 2, 5, 1, 1, 0, 3)  # whole rows of zeros before and behind
@example(9, 1, 1, 0, 1, 2, 3, 2)
@given(
    st.integers(1, 9), st.integers(1, 4), st.integers(1, 3), st.integers(0, 5), st.integers(1, 2), st.integers(1, 2),
    st.integers(0, 9), st.integers(1, 9),
)  # fmt: skip
def test_some_rows_are_some_of_all(
    size: int, kernel: int, stride: int, padding: int, dilation: int, groups: int, first: int, count: int
) -> None:
    assume(size + 2 * padding > dilation * (kernel - 1))
    geometry = _geometry(size, kernel, stride, padding, dilation, groups)
    assume(first < geometry.out_size[0])
    _expect_rows(geometry, first, min(first + count, geometry.out_size[0]))


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("before = min(max(-low, 0), reach)", "before = max(-low, 0)"),
        ("reach - before - read.shape[2]", "reach - before - read.shape[2] - 1"),
        ("max(low + reach, 0)]", "max(low + reach - 1, 0)]"),
    ],
)
def test_planted_faults_are_caught(monkeypatch: pytest.MonkeyPatch, right: str, wrong: str) -> None:
    planted = in_plain_python(sliding_windows, right, wrong)["patches"]
    monkeypatch.setattr(f"{__name__}.patches", planted)
    with pytest.raises((AssertionError, ValueError)):
        _expect_some(_geometry(4, 3, 2, 5, 1, 1))


@pytest.mark.parametrize("storage", ["huffman", "dense-int8"])
@pytest.mark.parametrize("groups", [1, 2])
def test_what_a_layer_gives_does_not_depend_on_how_many_rows_are_multiplied_at_a_time(
    monkeypatch: pytest.MonkeyPatch, storage: str, groups: int
) -> None:
    network = convolution(channels=4, rows=8, groups=groups)
    whole = map_network(network, small_machine(), storage, passing=ForwardPass()).outputs["conv"]
    monkeypatch.setattr(layer_columns, "_BLOCK_BYTES", 200)
    parts = map_network(network, small_machine(), storage, passing=ForwardPass()).outputs["conv"]
    np.testing.assert_allclose(parts, whole, rtol=1e-6, atol=1e-6)
    monkeypatch.setattr(layer_columns, "patches", lambda x, geometry, first=0, end=None: patches(
        x, geometry, 0, None if end is None else end - first))  # planted: the first rows again  # fmt: skip
    wrong = map_network(network, small_machine(), storage, passing=ForwardPass()).outputs["conv"]
    assert not np.allclose(wrong, whole)
