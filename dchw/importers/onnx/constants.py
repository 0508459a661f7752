"""Arrays that stand in an ONNX file: initialisers, sparse ones, constants and attributes, and how many values."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from dchw.graph.operations import Array
from dchw.importers.onnx.folding import Folding
from dchw.importers.onnx.registry import Attributes, Value

_FLOATS = (1, 10, 11)
"""ONNX's float, float16 and double."""


def held(array: Array) -> Value:
    """A constant that is no parameter of the file."""
    import onnx.helper

    return Value(shape=array.shape, dtype=onnx.helper.np_dtype_to_tensor_dtype(array.dtype), constant=array)


def initialiser(tensor: Any, folding: Folding) -> Value:
    """A tensor of the file, counted by ``folding``."""
    import onnx.numpy_helper

    folding.admit(f"array {tensor.name!r}", [tuple(tensor.dims)])
    array = onnx.numpy_helper.to_array(tensor)
    return Value(shape=array.shape, dtype=tensor.data_type, constant=array, parameter=tensor.name)


def sparse_initialiser(sparse: Any, folding: Folding) -> Value:
    """A sparse tensor with its zeros: values at places in C order, or at tuples of indices."""
    import onnx.numpy_helper

    values, indices = (onnx.numpy_helper.to_array(part) for part in (sparse.values, sparse.indices))
    shape = tuple(int(size) for size in sparse.dims)
    folding.admit(f"sparse array {sparse.values.name!r}", [shape])
    array = np.zeros(shape, values.dtype)
    if indices.size and indices.min() < 0:
        raise IndexError("an index is negative")
    if indices.ndim == 1:
        array.reshape(-1)[indices] = values
    else:
        array[tuple(indices.T)] = values
    return Value(shape=shape, dtype=sparse.values.data_type, constant=array, parameter=sparse.values.name)


def of_constant_node(attributes: Attributes) -> Value:
    """What a node ``Constant`` gives; raises TypeError for a form that is not read here."""
    import onnx.numpy_helper

    (kind, value), *_ = attributes.items()
    if kind == "value":
        return held(onnx.numpy_helper.to_array(value))
    dtype = np.float32 if kind.startswith("value_float") else np.int64
    if not kind.startswith(("value_float", "value_int")):
        raise TypeError(f"constants of the form {kind} are not read here")
    return held(np.asarray(value, dtype))


def attributes_of(node: Any) -> Attributes:
    """The attributes of a node by name, texts decoded."""
    import onnx.helper

    values = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
    return {name: value.decode() if isinstance(value, bytes) else value for name, value in values.items()}


def with_attributes(node: Any, given: Mapping[str, Any]) -> Any:
    """A node of a function with the attributes that it takes from where the function is used."""
    import onnx

    if not any(a.ref_attr_name for a in node.attribute):
        return node
    made = onnx.NodeProto()
    made.CopyFrom(node)
    del made.attribute[:]
    for attribute in node.attribute:
        if not attribute.ref_attr_name:
            made.attribute.append(attribute)
        elif attribute.ref_attr_name in given:
            copy = made.attribute.add()
            copy.CopyFrom(given[attribute.ref_attr_name])
            copy.name = attribute.name
    return made


def parameters_in(graph: Any) -> int:
    """How many float parameters a graph holds, its inner graphs included."""
    return _sizes(graph.initializer) + sum(parameters_of(node) for node in graph.node)


def parameters_of(node: Any) -> int:
    """How many float parameters a node holds itself: in its attributes and its bodies."""
    tensors = [a.t for a in node.attribute if a.HasField("t")]
    return _sizes(tensors) + sum(parameters_in(a.g) for a in node.attribute if a.HasField("g"))


def _sizes(tensors: Iterable[Any]) -> int:
    return sum(math.prod(map(int, tensor.dims)) for tensor in tensors if is_parameter(tensor))


def is_parameter(tensor: Any) -> bool:
    """Whether an array of a file holds real numbers along one axis or more."""
    return tensor.data_type in _FLOATS and len(tensor.dims) > 0
