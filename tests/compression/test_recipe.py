"""Recipes: what a user may write, what comes of it, and what is said when it cannot be."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import dchw
from dchw.compression.compressed import Coding, Positions, ValueFormat
from dchw.compression.recipe import Recipe
from dchw.config import dump_yaml, load_yaml
from dchw.container import parse, to_bytes
from dchw.graph.geometry import Geometry
from dchw.graph.network import Network
from dchw.quantities import ConfigError, DchwError


def network(seed: int = 0) -> Network:
    rng = np.random.default_rng(seed)
    return Network.from_arrays(
        "n",
        {"conv": rng.normal(size=(8, 4, 3, 3)).astype(np.float32), "fc": rng.normal(size=(30, 50)).astype(np.float32)},
        biases={"fc": rng.normal(size=30).astype(np.float32)},
        geometry={"conv": Geometry(in_channels=4, out_channels=8, kernel=(3, 3), in_size=(6, 6))},
    )


def test_defaults_by_kind_of_layer() -> None:
    packed = dchw.compress(network(), Recipe(density=0.3, positions="gaps"))
    conv, fc = packed.layers
    assert (conv.representation.codebook_bits, conv.representation.index_bits) == (8, 8)
    assert (fc.representation.codebook_bits, fc.representation.index_bits) == (5, 5)
    assert conv.nonzeros == round(0.3 * 288)
    assert fc.nonzeros == round(0.3 * 1500)
    assert fc.codebook.size <= 32
    assert {layer.representation.code_limit for layer in packed.layers} == {12}
    assert dict(packed.recipe) == {"density": 0.3, "positions": "gaps"}


def test_values_by_layer() -> None:
    recipe = Recipe(
        density={"fc": 0.1},
        codebook_bits={"conv": 4},
        positions={"fc": "bitmask", "conv": "dense"},
        coding="fixed",
        trim=False,
        code_limit={"fc": 9},
    )
    conv, fc = dchw.compress(network(), recipe).layers
    assert conv.density == 1
    assert fc.nonzeros == 150
    assert (conv.representation.codebook_bits, fc.representation.codebook_bits) == (4, 5)
    assert (conv.representation.positions, fc.representation.positions) == (Positions.DENSE, Positions.BITMASK)
    assert conv.representation.code_coding is Coding.FIXED
    assert (conv.representation.code_limit, fc.representation.code_limit) == (12, 9)


def test_a_threshold_keeps_what_reaches_it() -> None:
    packed = dchw.compress(network(), Recipe(threshold=1.0, codebook_bits=12))
    for layer, original in zip(packed.layers, network().layers, strict=True):
        assert np.array_equal(layer.codes != 0, np.abs(original.weight) >= 1)


def test_few_distinct_values_are_kept_exactly() -> None:
    rng = np.random.default_rng(1)
    shared = rng.normal(size=31).astype(np.float32)
    weight = np.where(rng.random((40, 60)) < 0.3, rng.choice(shared, (40, 60)), 0).astype(np.float32)
    packed = dchw.compress(Network.from_arrays("n", {"a": weight}), Recipe(codebook_bits=5))
    assert np.array_equal(packed.layer("a").weight, weight)
    again = dchw.compress(packed.decompress(), Recipe(codebook_bits=5))
    assert np.array_equal(again.layer("a").codes, packed.layer("a").codes)


@settings(max_examples=40, deadline=None)
@given(
    st.integers(1, 8), st.sampled_from(ValueFormat), st.sampled_from(ValueFormat), st.floats(0.01, 1), st.integers(0, 9)
)
def test_every_kept_weight_has_the_nearest_shared_value(
    bits: int, codebook_format: ValueFormat, bias_format: ValueFormat, density: float, seed: int
) -> None:
    recipe = Recipe(density=density, codebook_bits=bits, codebook_format=codebook_format, bias_format=bias_format)
    original = network(seed)
    packed = dchw.compress(original, recipe)
    for layer, source in zip(packed.layers, original.layers, strict=True):
        kept = layer.codes != 0
        shared = layer.codebook[1:].astype(np.float64)
        distance = np.abs(source.weight[kept][:, None].astype(np.float64) - shared)
        assert np.array_equal(np.abs(source.weight[kept] - layer.weight[kept].astype(np.float64)), distance.min(axis=1))
        assert (layer.weight[kept] != 0).all()
    loaded = parse(to_bytes(packed))
    assert all(np.array_equal(a.weight, b.weight) for a, b in zip(loaded.layers, packed.layers, strict=True))


def test_a_seed_decides_random_initialisation() -> None:
    def codebook(seed: int) -> list[float]:
        return dchw.compress(network(), Recipe(init="forgy", codebook_bits=4, seed=seed)).layer("fc").codebook.tolist()

    assert codebook(1) == codebook(1)
    assert codebook(1) != codebook(2)


def test_extremes_work() -> None:
    one = Network.from_arrays("n", {"a": np.array([[0, 0, 2.5]], np.float32), "b": np.ones((3, 3), np.float32)})
    packed = dchw.compress(one, Recipe(codebook_bits=1))
    loaded = parse(to_bytes(packed)).decompress()
    assert [layer.weight.tolist() for layer in loaded.layers] == [[[0, 0, 2.5]], [[1] * 3] * 3]


def test_wide_gaps_get_code_words_long_enough() -> None:
    rng = np.random.default_rng(2)
    weight = np.zeros((1, 40_000_00), np.float32)
    weight[0, np.cumsum(rng.permutation(np.arange(200, 2700)))] = 1.0
    packed = dchw.compress(
        Network.from_arrays("n", {"a": weight}), Recipe(index_bits=16, codebook_bits=1, positions="gaps", trim=False)
    )
    assert packed.layer("a").representation.code_limit == 12
    rare = dchw.compress(
        Network.from_arrays("n", {"a": np.diag(np.ones(130, np.float32))}),
        Recipe(index_bits=13, positions="gaps", codebook_bits=1, trim=False),
    )
    assert np.array_equal(parse(to_bytes(rare)).layer("a").codes, np.eye(130))


@pytest.mark.parametrize(
    ("weights", "recipe", "message"),
    [
        (
            {"a": np.ones((4, 4), np.float32)},
            {"density": 0.5, "threshold": 0.1},
            "layer 'a': pruning: expected a density or a threshold; got both; leave one out",
        ),
        (
            {"a": np.arange(1, 17, dtype=np.float32).reshape(4, 4)},
            {"codebook_bits": 5, "code_limit": 3},
            "layer 'a': code lengths: expected a limit of 4 to 16 bits for 16 symbols; got 3; change the limit",
        ),
        (
            {"a": np.full((2, 2), 1e-30, np.float32)},
            {"codebook_format": "float16"},
            "layer 'a': shared values: expected some that float16 can tell from zero; got 1e-30 at most; choose "
            "codebook_format float32",
        ),
    ],
)
def test_what_cannot_be_compressed(weights: dict[str, np.ndarray], recipe: dict[str, object], message: str) -> None:
    with pytest.raises(DchwError, match="^" + re.escape(message) + "$"):
        dchw.compress(Network.from_arrays("n", weights), Recipe(**recipe))


def test_nan_weights_are_refused() -> None:
    with pytest.raises(DchwError, match="layer 'a': weights must be finite; 1 of 4 are NaN or infinite"):
        Network.from_arrays("n", {"a": np.array([[1, np.nan], [2, 3]], np.float32)})


def test_a_network_without_layers_is_refused() -> None:
    with pytest.raises(DchwError, match="network n: expected at least one linear or convolutional layer; got none"):
        dchw.compress(Network(name="n", operations=()))


def test_a_misspelt_layer_names_the_nearest() -> None:
    message = (
        "recipe: density.fcc: no such layer; did you mean 'fc'?; recipe: init.comv: no such layer; did you mean 'conv'?"
    )
    with pytest.raises(ConfigError, match="^" + re.escape(message) + "$"):
        dchw.compress(network(), Recipe(density={"fcc": 0.1}, init={"comv": "linear"}))


def test_yaml_there_and_back(tmp_path: Path) -> None:
    recipe = Recipe(
        density={"fc": 0.1}, index_bits="smallest", trim=True, codebook_format=ValueFormat.INT8, init="optimal"
    )
    dump_yaml(recipe, tmp_path / "r.yaml")
    assert load_yaml(Recipe, tmp_path / "r.yaml") == recipe


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("densty: 0.1", "line 1: densty: unknown key; did you mean 'density'?"),
        ("density: 0", "line 1: density: input should be greater than 0; got 0"),
        ("seed: 1\ndensity: {a: 1.5}", "line 2: density.a: input should be less than or equal to 1; got 1.5"),
        ("codebook_bits: 17", "line 1: codebook_bits: input should be less than or equal to 16; got 17"),
        ("codebook_bits: 4.5", "line 1: codebook_bits: input should be a valid integer; got 4.5"),
        ("index_bits: 17", "line 1: index_bits: expected 1 to 16 or 'smallest'; got 17"),
        ("positions: gap", "line 1: positions: got 'gap'; did you mean 'gaps'?"),
        ("coding: {a: hufman}", "line 1: coding.a: got 'hufman'; did you mean 'huffman'?"),
        ("trim: maybe", "line 1: trim: expected true, false or 'smallest'; got 'maybe'"),
    ],
)
def test_faulty_yaml(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_text(text)
    with pytest.raises(ConfigError, match=re.escape(f"r.yaml, {message}") + "$"):
        load_yaml(Recipe, tmp_path / "r.yaml")
