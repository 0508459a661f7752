"""Is a network's forward pass computed once for all formats that decode to equal weights, and again for all others?"""

from __future__ import annotations

import pickle
from dataclasses import replace

import numpy as np
import pytest

import dchw
from dchw.compression.compressed import CompressedNetwork
from dchw.formats import STORAGE_FORMATS, CodedRows, PackShape, decodes_to, pack, unpack, weight_matrix
from dchw.mapping import layer as mapping
from dchw.mapping.passing import ForwardPass, KnownWeights
from dchw.mapping.workload import map_network
from tests.mapping.layers import convolution, fully_connected, small_machine
from tests.reports.runs import tiny_network


class Arrays:
    """Weights that are no layer's codes."""

    coded = None

    def __init__(self, *arrays: np.ndarray) -> None:
        self.arrays = arrays


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
    first = passing.value("op", (x,), lambda: weights * 2, Arrays(weights))
    assert passing.value("op", (x,), lambda: weights * 3, Arrays(weights.copy())) is first
    for other in (np.array([1.0, np.nextafter(np.float32(2), np.float32(3))]), np.array([1.0, -2.0])):
        changed = other.astype(np.float32)
        assert passing.value("op", (x,), lambda changed=changed: changed * 2, Arrays(changed)) is not first
    assert passing.value("op", (x.copy(),), lambda: weights * 5, Arrays(weights)) is not first


@pytest.mark.parametrize("other", [[0.0, 1.0, 0.0], [1.0, 0.0, -0.0], [1.0, 1.0, 0.0], [0.0, 0.0, 0.0]])
def test_weights_are_the_same_where_every_zero_is(other: list[float]) -> None:
    """Zeros are not held: a weight that moved, one more, one fewer, or a zero with a sign must show all the same."""
    passing, x = ForwardPass(), np.ones(3, np.float32)
    passing.value("op", (x,), lambda: x, Arrays(np.array([1.0, 0.0, 0.0], np.float32)))
    again = passing.value("op", (x,), lambda: 2 * x, Arrays(np.array(other, np.float32)))
    assert again[0] == 2


@pytest.mark.parametrize("changed", [None, 0, 64 * 3 + 1, 199 * 3 + 2])
def test_matrices_are_looked_at_a_few_rows_at_a_time(changed: int | None) -> None:
    """More rows than at a time, and a part; as an array or as rows of codes. Planted: one weight, wherever it is."""
    codes = np.random.default_rng(0).integers(0, 3, (200, 3), dtype=np.uint8)
    values = np.array([0.0, 1.5, -2.0], np.float32)
    known = KnownWeights.of(CodedRows(codes, values))
    assert known.at.tolist() == np.flatnonzero(codes).tolist()
    assert known.bits.tolist() == values[codes][codes != 0].view(np.uint32).tolist()
    other = codes.copy()
    if changed is not None:
        other.reshape(-1)[changed] = (other.reshape(-1)[changed] + 1) % 3
    assert known.equal(values[other]) == known.equal(CodedRows(other, values)) == (changed is None)


@pytest.mark.parametrize("storage", STORAGE_FORMATS)
@pytest.mark.parametrize("network", [fully_connected(37, 50), convolution()], ids=lambda n: n.name)
def test_what_is_decoded_is_the_layers_own_only_where_every_bit_is(network: CompressedNetwork, storage: str) -> None:
    """Planted: a value's last place, a bias's, a weight that moved, one too few, one too many."""
    (layer,) = network.layers
    unpacked = unpack(pack(layer, storage, PackShape(elements=8, decoders=4), value_bits=32))
    same = np.array_equal(weight_matrix(unpacked).view(np.uint32).ravel(), layer.weight.view(np.uint32).ravel())
    assert decodes_to(unpacked, layer) == same
    assert same == (storage not in (*ROUNDED, *INTEGERS))
    at = np.argwhere(layer.matrix_codes)
    for row, column, code in ((*at[0], 0), (*at[-1], 0), (*np.argwhere(layer.matrix_codes == 0)[0], 1)):
        codes = layer.matrix_codes.copy()
        codes[row, column] = code
        assert not decodes_to(unpacked, replace(layer, codes=codes.reshape(layer.codes.shape)))
    codes = layer.matrix_codes.copy()
    codes[tuple(at[0])], codes[tuple(np.argwhere(codes == 0)[-1])] = 0, codes[tuple(at[0])]
    assert not decodes_to(unpacked, replace(layer, codes=codes.reshape(layer.codes.shape)))
    codebook = layer.codebook.copy()
    codebook[layer.matrix_codes[tuple(at[-1])]] *= 1 + np.finfo(np.float32).eps
    assert not decodes_to(unpacked, replace(layer, codebook=codebook))
    other = np.zeros(layer.codes.shape[0], np.float32) if layer.bias is None else layer.bias.copy()
    other[-1] = np.nextafter(other[-1], np.float32(np.inf))
    assert not decodes_to(unpacked, replace(layer, bias=other))


def test_a_pass_that_was_put_away_is_the_same() -> None:
    """Pickled, a layer's own weights are what they were: the same network goes on from it, another does not."""
    passing, target, network = ForwardPass(), small_machine(), fully_connected(37, 50)
    outputs = map_network(network, target, "huffman", passing=passing).outputs
    again = ForwardPass(known=pickle.loads(pickle.dumps(passing.known)))
    for name, values in map_network(network, target, "csr", passing=again).outputs.items():
        np.testing.assert_array_equal(values, outputs[name])
    assert again.computed == 0
    (layer,) = network.layers
    other = replace(network, layers=(replace(layer, codebook=layer.codebook * 2),))
    map_network(other, target, "csr", passing=again)
    assert again.computed > 0


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
