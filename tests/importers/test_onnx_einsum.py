"""ONNX's Einsum: of a constant a linear layer, of two values a product, against onnx's reference implementation."""

from __future__ import annotations

import numpy as np
import pytest

from dchw.graph.forward import forward
from dchw.graph.network import OperationKind
from dchw.importers.einsum import equation_of
from dchw.importers.onnx.file import network_from_onnx
from tests.importers.onnx_models import agree, array, node, saved

pytest.importorskip("onnx", reason="needs the extra 'onnx'")

SIZES = {"b": 1, "h": 3, "q": 4, "k": 4, "d": 5, "c": 2, "o": 6}


def shape(letters: str) -> tuple[int, ...]:
    return tuple(SIZES[letter] for letter in letters)


@pytest.mark.parametrize(
    ("equation", "stored"),
    [
        ("bqd,od->bqo", (6, 5)),
        ("od,bqd->bqo", (6, 5)),
        ("bchd,odh->boc", (6, 15)),
        ("bqd,dhc->bhqc", (6, 5)),
        ("bqd , od", (6, 5)),  # no arrow: alphabetical
        ("bhd,hd->b", (1, 15)),
    ],
)
def test_a_constant_is_a_layer(tmp_path, equation, stored):
    left, right = equation.partition("->")[0].replace(" ", "").split(",")
    first = left.startswith("b")
    given, held = (left, right) if first else (right, left)
    weight = array(*shape(held))
    path = saved(
        tmp_path, [node("Einsum", "x w" if first else "w x", "y", equation=equation)], {"w": weight}, shape(given)[1:]
    )
    network = network_from_onnx(path)
    agree(path, array(*shape(given)), network)
    (layer,) = network.layers
    assert layer.weight.shape == stored
    assert network.coverage.share == 1
    np.testing.assert_array_equal(network.state_dict()["w"], weight)


@pytest.mark.parametrize("equation", ["bhqd,bhkd->bhqk", "bhqd,bhkd->bkq", "bhqd,bhkd->bhqdk"])
def test_two_values_are_a_product(tmp_path, equation):
    nodes = [node("Tanh", "x", "t"), node("Einsum", "x t", "y", equation=equation)]
    path = saved(tmp_path, nodes, {}, shape("hqd"))
    if equation.endswith("qdk"):  # d stays and is in both: one product for every place of it
        assert equation_of(equation).shared == ["b", "h", "d"]
    agree(path, array(*shape("bhqd")))


def test_a_constant_whose_axis_stays_is_a_product_of_values(tmp_path):
    path = saved(tmp_path, [node("Einsum", "x w", "y", equation="bhqd,hdk->bhqk")], {"w": array(3, 5, 4)}, shape("hqd"))
    network = network_from_onnx(path)
    agree(path, array(*shape("bhqd")), network)
    assert not network.layers
    assert network.coverage.stored_bytes == 4 * 60


def test_examples_do_not_mix(tmp_path):
    nodes = [node("Tanh", "x", "t"), node("Einsum", "x t", "y", equation="bqd,bkd->bqk")]
    network, x = network_from_onnx(saved(tmp_path, nodes, {}, (4, 5))), array(3, 4, 5)
    expected = np.einsum("bqd,bkd->bqk", x, np.tanh(x))
    got = forward(network, {"x": x})[network.operations[-1].name]
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("equation", ["bq...,b...k->bqk", "bqd,bqd,bqd->bq", "bqd->bdq", "bqq,bqd->bqd", "bqd,bqe->bq"])
def test_other_equations_are_not_guessed(equation):
    assert equation_of(equation) is None


def test_an_equation_that_is_not_computed_is_named(tmp_path):
    network = network_from_onnx(saved(tmp_path, [node("Einsum", "x", "y", equation="bqd->bdq")], {}, (4, 5)))
    assert network.operations[-1].kind is OperationKind.OTHER
    assert "Einsum" in str(network.operations[-1].attributes["target"])
