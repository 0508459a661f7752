"""Are synthetic weights the very numbers that their description draws, from words of the generator as from floats?"""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from dchw.graph.network import Network
from dchw.importers import synthetic
from dchw.importers.graph_builder import GraphBuilder
from tests.oracles import synthetic as oracle
from tests.planting import in_plain_python


@example(0, 1.0, 9)
@example(0, 2.0**-24, 8)
@given(st.integers(0, 99), st.floats(2.0**-30, 1.0), st.integers(0, 300))
def test_draws_are_those_of_floats(seed: int, share: float, count: int) -> None:
    """Of any share, of odd numbers too; what is drawn next is the same."""
    one, other, found = np.random.default_rng(seed), np.random.default_rng(seed), np.empty(count, np.bool_)
    synthetic._draw(one, share, found)
    assert found.tolist() == (other.random(count, dtype=np.float32) < np.float32(share)).tolist()
    assert one.random() == other.random()
    assert one.integers(0, 1000, 5).tolist() == other.integers(0, 1000, 5).tolist()


def _layer_of(rows: int, columns: int) -> Network:
    build = GraphBuilder("network fc")
    build.linear("fc", build.input("x", (columns,)), rows)
    return Network(name="fc", operations=tuple(build.operations))


@pytest.mark.parametrize("block", [1 << 17, 64])
@pytest.mark.parametrize(("rows", "columns", "density"), [(37, 51, 4), (40, 48, 40), (3, 3, 90), (1, 8, 100)])
def test_a_layer_is_what_is_drawn_number_by_number(
    monkeypatch: pytest.MonkeyPatch, block: int, rows: int, columns: int, density: int
) -> None:
    monkeypatch.setattr(synthetic, "_BLOCK", block)
    row = {"weights_pct": str(density), "weight_bits_pq": "5", "index_bits_pq": "5"}
    (layer,) = _layer_of(rows, columns).layers
    for seed in range(3):
        found = synthetic._layer(layer, row, np.random.default_rng(seed))
        codes, codebook = oracle.layer(rows * columns, row, np.random.default_rng(seed))
        assert found.codes.reshape(-1).tolist() == codes.tolist()
        assert found.codebook.tobytes() == codebook.astype(np.float32).tobytes()


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("at += stays\n", "at += 1\n"),
        ("signs -= 0.5", "signs -= 0.25"),
        ("2**24) << 8)", "2**24) << 7)"),
        ("min(start + 8, codes.size)", "min(start + 7, codes.size)"),
    ],
)
def test_planted_faults_are_caught(monkeypatch: pytest.MonkeyPatch, right: str, wrong: str) -> None:
    for name, function in in_plain_python(synthetic, right, wrong).items():
        if name in ("_draw", "_tails", "_spread"):
            monkeypatch.setattr(synthetic, name, function)
    with pytest.raises(AssertionError):
        test_a_layer_is_what_is_drawn_number_by_number(monkeypatch, 64, 37, 51, 4)
