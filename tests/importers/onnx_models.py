"""Small ONNX models for tests, and a comparison with onnx's own reference implementation."""

from __future__ import annotations

import numpy as np
import pytest

from dchw.graph.forward import forward
from dchw.importers.onnx.file import network_from_onnx

onnx = pytest.importorskip("onnx", reason="needs the extra 'onnx'")
helper = pytest.importorskip("onnx.helper")

RNG = np.random.default_rng(0)


def array(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape).astype(np.float32)


def saved(folder, nodes, constants, shape, *, version=17, batch="batch", name="net"):
    """A model with one input x and the last node's first output, saved and checked."""
    source = helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [batch, *shape])
    result = helper.make_tensor_value_info(nodes[-1].output[0], onnx.TensorProto.FLOAT, None)
    initializers = [onnx.numpy_helper.from_array(value, key) for key, value in constants.items()]
    graph = helper.make_graph(nodes, name, [source], [result], initializers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", version)], ir_version=8)
    model = onnx.shape_inference.infer_shapes(model)  # the output's shape
    onnx.save(model, folder / "net.onnx")
    return folder / "net.onnx"


def agree(path, x: np.ndarray, network=None, *, expected=None) -> None:
    """Whether the network gives what onnx's reference implementation does, or what is expected, for inputs x."""
    from onnx.reference import ReferenceEvaluator

    if expected is None:
        expected = ReferenceEvaluator(str(path)).run(None, {"x": x})[0]
    network = network or network_from_onnx(path)
    outputs = forward(network, {"x": x})
    got = outputs[network.operations[-1].name]
    if got.shape == (1, *expected.shape):  # a value without a batch axis
        got = got[0]
    np.testing.assert_allclose(got, expected, rtol=2e-5, atol=2e-5 * np.abs(expected).max())
    assert all(outputs[op.name].shape[1:] == op.output_shape for op in network.operations)


def node(kind: str, inputs: str, output: str, **attributes):
    return helper.make_node(kind, inputs.split(), output.split(), name=f"/{output.split()[0]}", **attributes)
