"""Is a network's forward pass computed once for all formats that decode to equal weights, and again for all others?"""

from __future__ import annotations

import numpy as np
import pytest

import dchw
from dchw.compression.compressed import CompressedNetwork
from dchw.formats import STORAGE_FORMATS
from dchw.mapping import layer as mapping
from dchw.mapping.passing import ForwardPass
from dchw.mapping.workload import map_network
from tests.mapping.layers import convolution, fully_connected, small_machine
from tests.reports.runs import tiny_network

ROUNDED = ("dense-fp16",)
INTEGERS = ("dense-int8", "huffman-int8")


@pytest.mark.parametrize("network", [fully_connected(37, 50), convolution(), tiny_network()], ids=lambda n: n.name)
def test_lossless_formats_share_a_pass_and_rounded_ones_do_not(network: CompressedNetwork) -> None:
    passing, target = ForwardPass(), small_machine()
    once = None
    for storage in STORAGE_FORMATS:
        before = passing.computed
        outputs = map_network(network, target, storage, passing=passing).outputs
        alone = map_network(network, target, storage).outputs
        for name, values in alone.items():
            np.testing.assert_array_equal(outputs[name], values)
        again = passing.computed - before
        if once is None:
            once = again
        if storage in INTEGERS:  # every layer's input is rounded to int8 as well
            assert again >= once, storage
        else:
            assert again == (once if storage in ROUNDED or before == 0 else 0), storage


def test_a_format_whose_weights_differ_by_a_bit_is_computed_for_itself() -> None:
    """Planted: the same network with one shared value's sign of zero changed, and one with a last place changed."""
    passing = ForwardPass()
    weights = np.array([1.0, 2.0], np.float32)
    x = np.ones(2, np.float32)
    first = passing.value("op", (x,), lambda: weights * 2, (weights,))
    assert passing.value("op", (x,), lambda: weights * 3, (weights.copy(),)) is first
    for other in (np.array([1.0, np.nextafter(np.float32(2), np.float32(3))]), np.array([1.0, -2.0])):
        changed = other.astype(np.float32)
        assert passing.value("op", (x,), lambda changed=changed: changed * 2, (changed,)) is not first
    assert passing.value("op", (x.copy(),), lambda: weights * 5, (weights,)) is not first


@pytest.mark.parametrize("other", [[0.0, 1.0, 0.0], [1.0, 0.0, -0.0], [1.0, 1.0, 0.0], [0.0, 0.0, 0.0]])
def test_weights_are_the_same_where_every_zero_is(other: list[float]) -> None:
    """Zeros are not held: a weight that moved, one more, one fewer, or a zero with a sign must show all the same."""
    passing, x = ForwardPass(), np.ones(3, np.float32)
    passing.value("op", (x,), lambda: x, (np.array([1.0, 0.0, 0.0], np.float32),))
    again = passing.value("op", (x,), lambda: 2 * x, (np.array(other, np.float32),))
    assert again[0] == 2


@pytest.mark.parametrize("tile", [8, 2])
def test_a_layer_is_packed_once_however_many_passes_it_takes(monkeypatch: pytest.MonkeyPatch, tile: int) -> None:
    calls = []
    original = mapping.lay_out

    def counted(*args: object, **options: object) -> object:
        calls.append(args)
        return original(*args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(mapping, "lay_out", counted)
    result = dchw.simulate(convolution(), small_machine(pe_array__tile=tile), "huffman")
    assert result.workload.stages[0].layer.tiling.passes > 1
    assert len(calls) == 1
