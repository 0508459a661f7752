"""The paper's tables: every layer is there, the limits hold, and a wrong size breaks them."""

from __future__ import annotations

import math

import numpy as np
import pytest

import dchw
from dchw.compression import layer_streams
from dchw.importers.synthetic import published_layers, synthetic_layers, synthetic_network
from dchw.quantities import DchwError
from dchw.validate import compression


def lenet_rows() -> list[dict[str, object]]:
    return [row for name in ("lenet-300-100-synthetic", "lenet-5-synthetic") for row in compression._network_rows(name)]


@pytest.mark.slow
def test_all_31_layers_within_limits() -> None:
    checks = compression.run()
    for check in checks:
        assert (check.table["layer"] != "total").sum() == 31
        assert check.passed is True, check.limits
        assert check.table["why"].str.len().min() > 0


def test_small_networks_within_limits() -> None:
    rows = lenet_rows()
    check = compression._pruned_and_shared(rows)
    assert check.passed is True
    assert len(check.table) == 9
    table = check.table.set_index(["network", "layer"])
    # LeNet-5 conv1: 330 of 500 weights of 13 bits, and 256 codebook entries of 32
    row = table.loc[("LeNet-5", "conv1")]
    assert row["without_fillers_pct"] == pytest.approx(100 * (330 * 13 + 256 * 32) / (500 * 32))
    assert row["codebook_pct"] == pytest.approx(51.2)
    misprints = compression._huffman(rows).table.set_index(["network", "layer"])["why"]
    assert misprints[("LeNet-5", "conv1")] == "printed P+Q+H rate 67.45 is below the sum of its printed parts, 69.1"


def test_an_index_of_too_many_bits_breaks_the_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    """A planted fault: gaps written with two bits more than they have."""
    sound = layer_streams.CodedStream.chunk_bytes.fget
    assert sound is not None

    def wider(self: layer_streams.CodedStream) -> np.ndarray:
        return sound(self) * (self.fixed_bits + 2) // self.fixed_bits if self.lengths is None else sound(self)

    monkeypatch.setattr(layer_streams.CodedStream, "chunk_bytes", property(wider))
    assert compression._pruned_and_shared(lenet_rows()).passed is False


def test_synthetic_layers_have_the_published_densities() -> None:
    published = published_layers("lenet-5-synthetic")
    layers = list(synthetic_layers("lenet-5-synthetic", seed=3))
    assert [layer.name for layer in layers] == list(published)
    for layer in layers:
        row = published[layer.name]
        assert layer.nonzeros == round(float(row["weights_pct"]) / 100 * layer.codes.size)
        assert layer.codebook.size <= 2 ** int(row["weight_bits_pq"])
        assert layer.representation.index_bits == int(row["index_bits_pq"])
        # beyond the threshold that the density leaves, either sign
        assert np.abs(layer.codebook[1:]).min() > 0
        assert 0.4 < (layer.weight > 0).sum() / layer.nonzeros < 0.6


def test_zeros_are_independent() -> None:
    layer = next(synthetic_layers("lenet-300-100-synthetic", seed=1))
    kept = (layer.codes != 0).reshape(-1)
    both = (kept[:-1] & kept[1:]).mean()
    assert both == pytest.approx(0.08**2, rel=0.05)


def test_a_seed_gives_the_same_network_and_another_seed_another() -> None:
    one, again, other = (synthetic_network("lenet-5-synthetic", seed=seed) for seed in (1, 1, 2))
    for a, b, c in zip(one.layers, again.layers, other.layers, strict=True):
        assert np.array_equal(a.codes, b.codes)
        assert np.array_equal(a.codebook, b.codebook)
        assert not np.array_equal(a.codes, c.codes)


def test_synthetic_networks_say_so() -> None:
    network = dchw.load_network("lenet-300-100-synthetic", seed=4)
    assert isinstance(network, dchw.CompressedNetwork)
    assert network.graph.notes[0].startswith("SYNTHETIC weights (seed 4)")
    assert math.prod(network.graph.input_shape) == 784
    with pytest.raises(DchwError, match="there is no such built-in network; did you mean 'alexnet-synthetic'"):
        dchw.load_network("alexnet-syntetic")
