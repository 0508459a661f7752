"""Which sizes does an ONNX graph get, what follows from them, and how far does a small file unfold?"""

from __future__ import annotations

import numpy as np
import pytest

import dchw
from dchw.graph.forward import forward
from dchw.graph.operations import OperationKind
from dchw.importers.onnx import control
from dchw.importers.onnx.file import network_from_onnx
from dchw.quantities import DchwError
from tests.importers.onnx_models import agree, array, helper, node, onnx, saved

FLOAT, INT64, BOOL = onnx.TensorProto.FLOAT, onnx.TensorProto.INT64, onnx.TensorProto.BOOL


def model(folder, nodes, inputs, outputs, constants=None, *, rank=2, sparse=(), version=17, functions=()):
    """A model with typed inputs (name, type, sizes), saved without a check."""
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info(*one) for one in inputs],
        [helper.make_tensor_value_info(name, FLOAT, [f"{name}{i}" for i in range(rank)]) for name in outputs],
        [onnx.numpy_helper.from_array(value, key) for key, value in (constants or {}).items()],
    )
    graph.sparse_initializer.extend(sparse)
    imports = [helper.make_opsetid("", version), *(helper.make_opsetid(f.domain, 1) for f in functions)]
    onnx.save(helper.make_model(graph, opset_imports=imports, ir_version=8, functions=functions), folder / "net.onnx")
    return folder / "net.onnx"


def refused(path, **options) -> str:
    with pytest.raises(DchwError) as caught:
        network_from_onnx(path, **options)
    assert "\n" not in str(caught.value)
    assert "export" not in str(caught.value)
    return str(caught.value).removeprefix(f"{path}: ")


# Sizes of inputs ----------------------------------------------------------------------------------------------


def test_open_sizes_are_asked_for_and_given(tmp_path):
    path = saved(tmp_path, [node("Conv", "x w", "y")], {"w": array(4, 3, 3, 3)}, (3, "height", 8))
    assert refused(path) == (
        "the file leaves sizes of input 'x' (?x3x?x8) open; give them, for instance --input x=1x3x224x8, "
        "or input_shape={NAME: SIZES} in load_network"
    )
    for given in ({"x": (1, 3, 6, 8)}, (1, 3, 6, 8)):
        network = dchw.load_network(path, input_shape=given)
        agree(path, array(2, 3, 6, 8), network)
    assert refused(path, input_shape={"x": (1, 3, 6, 9)}) == (
        "input 'x' is ?x3x?x8 in the file; got 1x3x6x9; give sizes for what is open in it"
    )
    assert refused(path, input_shape={"z": (1, 3, 6, 8)}) == "'z' is not one of its inputs; use one of 'x'"
    assert "at least 1; got 1x3x0x8" in refused(path, input_shape=(1, 3, 0, 8))
    assert "whole numbers" in refused(path, input_shape={"x": "large"})


def test_a_symbol_has_one_size_wherever_it_stands(tmp_path):
    inputs = [("x", FLOAT, ["n", "t", 4]), ("state", FLOAT, [2, "n", 4]), ("y", FLOAT, ["n", "t", 4])]
    nodes = [node("Add", "x y", "s"), node("ReduceSum", "state axes", "r", keepdims=0), node("Mul", "s r", "z")]
    path = model(tmp_path, nodes, inputs, ["z"], {"axes": np.array([0])}, rank=3)
    network = network_from_onnx(path, input_shape={"x": (1, 3, 4)})
    shapes = {op.name: op.output_shape for op in network.operations if op.kind is OperationKind.INPUT}
    assert shapes == {"x": (3, 4), "state": (2, 1, 4), "y": (3, 4)}
    x, y, state = array(1, 3, 4), array(1, 3, 4), array(2, 1, 4)
    got = forward(network, {"x": x, "y": y, "state": state})[network.operations[-1].name]
    np.testing.assert_allclose(got, (x + y) * state.sum(axis=0), rtol=1e-5)


def test_many_examples_that_are_fixed_stay_free(tmp_path):
    nodes = [node("Flatten", "x", "f"), node("Reshape", "f shape", "r"), node("Gemm", "r w", "y")]
    path = saved(tmp_path, nodes, {"w": array(6, 3), "shape": np.array([4, 6])}, (2, 3), batch=4)
    network = network_from_onnx(path)
    assert network.input_shape == (2, 3)
    agree(path, array(4, 2, 3), network)


@pytest.mark.parametrize("kind", ["mixed", "constant"])
def test_examples_that_depend_on_each_other_are_read_as_one(tmp_path, kind):
    if kind == "mixed":
        nodes, constants = [node("Transpose", "x", "t", perm=[1, 0]), node("MatMul", "x t", "y")], {}
    else:
        nodes, constants = [node("Gemm", "x w c", "y")], {"w": array(3, 5), "c": array(4, 5)}
    path = saved(tmp_path, nodes, constants, (3,), batch=4)
    network = network_from_onnx(path)
    assert network.input_shape == (4, 3)
    assert "its 4 examples, which depend on each other, are read as one" in network.notes
    agree(path, array(4, 3), network)


def test_time_first_values_and_convolutions_over_them(tmp_path):
    """The leading axis of a value need not be the batch: here it is time, given by the user."""
    nodes = [node("Unsqueeze", "x one", "u"), node("Conv", "u w b", "c", pads=[1, 1]), node("Relu", "c", "y")]
    constants = {"one": np.array([1]), "w": array(5, 1, 3), "b": array(5)}
    path = model(tmp_path, nodes, [("x", FLOAT, ["time", 7])], ["y"], constants, rank=3)
    network = network_from_onnx(path, input_shape=(6, 7))
    assert network.layers[0].kind is OperationKind.CONV2D
    agree(path, array(6, 7), network)


# What follows from sizes --------------------------------------------------------------------------------------


def test_chains_of_shapes_fold(tmp_path):
    """Shape, Gather, Unsqueeze, Concat, Reshape, with a dynamic batch: how ``x.view(x.size(0), -1)`` is exported."""
    nodes = [
        node("Conv", "x w", "c"),
        node("Shape", "c", "s"),
        node("Gather", "s zero", "n", axis=0),
        node("Unsqueeze", "n axis", "nu"),
        node("Concat", "nu rest", "shape", axis=0),
        node("Reshape", "c shape", "flat"),
        node("Gemm", "flat fc", "y", transB=1),
    ]
    constants = {"w": array(4, 2, 3, 3), "zero": np.array(0), "axis": np.array([0]), "rest": np.array([-1])}
    path = saved(tmp_path, nodes, {**constants, "fc": array(3, 4 * 3 * 4)}, (2, 5, 6))
    network = network_from_onnx(path)
    assert [op.kind.value for op in network.operations] == ["input", "conv2d", "flatten", "linear"]
    agree(path, array(3, 2, 5, 6), network)


def graph(nodes, outputs, inputs=(), constants=None):
    return helper.make_graph(
        nodes,
        "body",
        [helper.make_tensor_value_info(name, kind, shape) for name, kind, shape in inputs],
        [helper.make_tensor_value_info(name, FLOAT, None) for name in outputs],
        [onnx.numpy_helper.from_array(value, key) for key, value in (constants or {}).items()],
    )


@pytest.mark.parametrize(("rate", "weight"), [(16000, 0), (8000, 1)])
def test_a_branch_is_taken_by_the_value_of_a_scalar_input(tmp_path, rate, weight):
    weights = [array(3, 4), array(3, 4)]
    branches = [graph([node("MatMul", "x w", "out")], ["out"], constants={"w": w.T}) for w in weights]
    nodes = [
        node("Equal", "rate known", "same"),
        node("If", "same", "out", then_branch=branches[0], else_branch=branches[1]),
        node("Relu", "out", "y"),
    ]
    inputs = [("x", FLOAT, ["n", 4]), ("rate", INT64, [])]
    path = model(tmp_path, nodes, inputs, ["y"], {"known": np.array(16000)})
    network = network_from_onnx(path, input_shape={"rate": rate})
    x = array(2, 4)
    agree(path, x, network, expected=np.maximum(x @ weights[weight].T, 0))
    assert network.notes[0] == f"input 'rate' is fixed at {rate}"
    assert "12 in /out" in network.notes[1]
    assert refused(path) == (
        "node '/out' (If): its condition depends on the inputs, and only one that does not can be followed; give the "
        "value of a scalar input, --input rate=NUMBER"
    )


def loop(count, body_nodes, constants, tmp_path):
    body = graph(
        [node("Identity", "go", "going"), *body_nodes],
        ["going", "state_out", "row"],
        [("i", INT64, []), ("go", BOOL, []), ("state", FLOAT, None)],
        constants,
    )
    nodes = [node("Loop", "count true x", "last rows", body=body), node("Add", "last rows", "y")]
    constants = {"count": np.array(count), "true": np.array(True)}
    return model(tmp_path, nodes, [("x", FLOAT, [1, 4])], ["y"], constants, rank=3)


def test_a_loop_with_a_constant_count_is_unrolled(tmp_path):
    w = array(4, 4)
    body = [node("MatMul", "state w", "state_out"), node("Tanh", "state_out", "row")]
    network = network_from_onnx(loop(3, body, {"w": w}, tmp_path))
    x, rows = array(1, 4), []
    state = x
    for _ in range(3):
        state = state @ w
        rows.append(np.tanh(state))
    got = forward(network, {"x": x})[network.operations[-1].name]
    np.testing.assert_allclose(got[0], state + np.stack(rows), rtol=1e-4, atol=1e-5)
    assert [op.kind.value for op in network.operations].count("linear") == 3


def test_a_function_of_the_file_is_followed(tmp_path):
    inner = helper.make_node("LeakyRelu", ["a"], ["b"])
    reference = inner.attribute.add()
    reference.name, reference.ref_attr_name, reference.type = "alpha", "slope", onnx.AttributeProto.FLOAT
    steep = helper.make_function("own", "Steep", ["a"], ["b"], [inner], [helper.make_opsetid("", 17)], ["slope"])
    call = helper.make_node("Steep", ["x"], ["y"], domain="own", slope=0.5)
    path = model(tmp_path, [call], [("x", FLOAT, ["n", 4])], ["y"], functions=[steep])
    x = array(2, 4)
    agree(path, x, expected=np.where(x > 0, x, 0.5 * x))


@pytest.mark.parametrize("form", ["linear", "coordinates"])
def test_sparse_initialisers_become_layers(tmp_path, form):
    dense = np.zeros((5, 8), np.float32)
    dense.flat[[0, 9, 33]] = 1, 2, 3
    indices = np.array([0, 9, 33] if form == "linear" else [[0, 0], [1, 1], [4, 1]])
    sparse = helper.make_sparse_tensor(
        onnx.numpy_helper.from_array(np.float32([1, 2, 3]), "fc.weight"),
        onnx.numpy_helper.from_array(indices, "indices"),
        [5, 8],
    )
    nodes = [node("Gemm", "x fc.weight", "y", transB=1)]
    network = network_from_onnx(model(tmp_path, nodes, [("x", FLOAT, ["n", 8])], ["y"], sparse=[sparse]))
    np.testing.assert_array_equal(network.layer("fc").weight, dense)


def test_any_names_are_read(tmp_path):
    """An input called like a layer, nodes called like later ones, and no names at all."""
    nodes = [
        helper.make_node("Gemm", ["input", "input.weight"], ["a"], name="b", transB=1),
        helper.make_node("Relu", ["a"], ["b"], name="c"),
        helper.make_node("Gemm", ["b", "c.weight"], ["y"], transB=1),
        helper.make_node("Relu", ["y"], ["z"]),
    ]
    constants = {"input.weight": array(4, 4), "c.weight": array(3, 4)}
    path = model(tmp_path, nodes, [("input", FLOAT, ["n", 4])], ["z"], constants)
    network = network_from_onnx(path)
    assert [layer.parameter for layer in network.layers] == ["input.weight", "c.weight"]
    x = array(2, 4)
    got = forward(network, {"input": x})[network.operations[-1].name]
    hidden = np.maximum(x @ constants["input.weight"].T, 0)
    np.testing.assert_allclose(got, np.maximum(hidden @ constants["c.weight"].T, 0), rtol=1e-4, atol=1e-5)


# How far a small file unfolds ---------------------------------------------------------------------------------


def test_constants_that_would_be_huge_are_refused(tmp_path):
    fill = helper.make_node("ConstantOfShape", ["s"], ["w"], name="fill")
    gemm = node("Gemm", "x w", "y", transB=1)
    inputs = [("x", FLOAT, [1, 4])]
    path = model(tmp_path, [fill, gemm], inputs, ["y"], {"s": np.array([100000, 100000])})
    assert refused(path).startswith("node 'fill' (ConstantOfShape) makes a constant of 10,000,000,000 values")
    tile = node("Tile", "k t", "w")
    path = model(tmp_path, [tile, gemm], inputs, ["y"], {"k": array(3, 4), "t": np.array([10**6, 10**6])})
    assert "makes a constant of 12,000,000,000,000 values" in refused(path)
    many = [node("Tile", f"k{i} t", f"k{i + 1}") for i in range(12)]
    path = model(
        tmp_path,
        [*many, node("Gemm", "x k12", "y", transB=1)],
        inputs,
        ["y"],
        {"k0": array(1, 4), "t": np.array([8, 1])},
    )
    assert "in all are computed" in refused(path)


@pytest.mark.parametrize("count", [10**5, 2**62])
def test_loops_that_do_not_end_are_refused(tmp_path, count, monkeypatch):
    monkeypatch.setattr(control, "MOST_NODES", 2_000)
    body = [node("Identity", "state", "state_out"), node("Identity", "state", "row")]
    assert "it comes to over 2,000 nodes more" in refused(loop(count, body, {}, tmp_path))


def test_functions_that_double_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(control, "MOST_NODES", 2_000)
    imports = [helper.make_opsetid("", 17), helper.make_opsetid("own", 1)]
    functions = [helper.make_function("own", "f0", ["a"], ["b"], [helper.make_node("Relu", ["a"], ["b"])], imports)]
    for i in range(30):
        nodes = [helper.make_node(f"f{i}", [x], [y], domain="own") for x, y in (("a", "m"), ("m", "b"))]
        functions.append(helper.make_function("own", f"f{i + 1}", ["a"], ["b"], nodes, imports))
    call = helper.make_node("f30", ["x"], ["y"], domain="own")
    path = model(tmp_path, [call], [("x", FLOAT, [1, 4])], ["y"], functions=functions)
    assert "it comes to over 2,000 nodes more" in refused(path)


def test_what_depends_on_values_names_its_node(tmp_path):
    nodes = [node("NonZero", "x", "places"), node("Cast", "places", "y", to=FLOAT)]
    path = model(tmp_path, nodes, [("x", FLOAT, [1, 4])], ["y"])
    assert refused(path) == (
        "node '/places' (NonZero) is not known here and the size of its output 'places' cannot be told before it runs; "
        "cut the graph in front of it with onnx.utils.extract_model"
    )
