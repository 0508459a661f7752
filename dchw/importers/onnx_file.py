"""Networks from ONNX files: weights and graph, by the package ``onnx`` alone, no runtime.

What depends on constants alone is computed with onnx's own reference implementation; every other node becomes an
operation by its rule in `dchw.importers.onnx_rules`, or OTHER with onnx's name of it.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import numpy as np

from dchw.graph.network import Array, Network, OperationKind
from dchw.importers.builder import GraphBuilder
from dchw.importers.fold import fold_batch_normalisation
from dchw.importers.onnx_rules import RULES
from dchw.quantities import DchwError, FileFormatError


def network_from_onnx(path: str | Path, *, name: str | None = None, fold_normalisation: bool = False) -> Network:
    """The network of an ONNX file (operator set 9 or later), the first axis of every input being the batch.

    Layers bear their weight's name without ``.weight``, or the node's name where the weight has none of its own.
    Raises FileFormatError for a damaged file, DchwError where the package is missing or a size is left open.
    """
    path = Path(path)
    try:
        import onnx
        import onnx.shape_inference
    except ImportError as error:
        raise DchwError(f"{path}: reading ONNX needs the package onnx; pip install dchw[onnx]") from error
    try:
        model = onnx.load(path)
        onnx.checker.check_model(model)
        model = onnx.shape_inference.infer_shapes(model)
    except OSError as error:
        raise DchwError(f"{path}: it cannot be read ({error.strerror or error}); check the path") from error
    except Exception as error:  # onnx, its checker and protobuf each raise errors of their own
        first = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
        raise FileFormatError(f"{path}: expected an ONNX model; it is damaged ({first}); export it again") from error
    graph = OnnxGraph(path, model)
    network = Network(
        name=name or model.graph.name or path.stem,
        operations=tuple(graph.builder.operations),
        notes=tuple(graph.notes),
    )
    return fold_batch_normalisation(network) if fold_normalisation else network


class OnnxGraph:
    """One pass over an ONNX graph: constants by name, operations by the name of the value they give."""

    def __init__(self, path: Path, model: Any) -> None:
        import onnx.numpy_helper

        self.builder = GraphBuilder(str(path))
        self.notes: list[str] = []
        self.constants: dict[str, Array] = {}
        for tensor in model.graph.initializer:
            with self._sound(f"array {tensor.name!r}"):
                self.constants[tensor.name] = onnx.numpy_helper.to_array(tensor)
        self.readers: dict[str, int] = {}
        for node in model.graph.node:
            for value in node.input:
                self.readers[value] = self.readers.get(value, 0) + 1
        self.version = max((s.version for s in model.opset_import if s.domain in ("", "ai.onnx")), default=1)
        self._values: dict[str, str] = {}
        self._shapes = {
            value.name: _sizes(value) for value in (*model.graph.value_info, *model.graph.output, *model.graph.input)
        }
        self._owners: dict[str, str] = {}
        for value in model.graph.input:
            if value.name not in self.constants:
                self._input(value.name)
        for node in model.graph.node:
            with self._sound(f"node {node.name!r} ({node.op_type})"):
                self._node(node)

    # What rules use -------------------------------------------------------------------------------------------

    def constant(self, value: str) -> Array | None:
        """The array of a value that does not depend on the inputs."""
        return self.constants.get(value)

    def operation(self, value: str) -> str:
        """The operation that gives a value; a constant becomes one."""
        if value in self._values:
            return self._values[value]
        array = self.constants[value]
        single = array[0] if array.ndim > 1 and array.shape[0] == 1 else array
        attributes: dict[str, Any] = {"value": single.astype(np.float32)}
        self._values[value] = self.builder.add(OperationKind.CONSTANT, value, (), single.shape, attributes)
        return self._values[value]

    def shape(self, value: str) -> tuple[int, ...]:
        """Shape of a value without its batch axis."""
        return self.builder.shape(self.operation(value))

    def name(self, node: Any) -> str:
        """A free name for a node's operation."""
        wanted = cast(str, (node.name or node.output[0]).strip("/") or node.op_type)
        name, count = wanted, 0
        while any(op.name == name for op in self.builder.operations):
            count += 1
            name = f"{wanted}_{count}"
        return name

    def layer_name(self, node: Any, weight: str) -> str:
        """A free name for a layer: its weight's, if that says whose it is."""
        if not weight.endswith(".weight"):
            return self.name(node)
        if weight in self._owners:
            self.notes.append(f"{self.name(node)} shares its weights with {self._owners[weight]}; both are counted")
            return self.name(node)
        self._owners[weight] = weight.removesuffix(".weight")
        return self._owners[weight]

    def own(self, weight: str, bias: str | None, **attributes: Any) -> None:
        """Record in the layer that was added last which initialisers its arrays came from."""
        last = self.builder.operations[-1]
        if bias is not None and bias != weight.removesuffix("weight") + "bias":
            attributes["bias_parameter"] = bias
        self.builder.operations[-1] = dataclasses.replace(
            last, parameter=weight, attributes={**last.attributes, **attributes}
        )

    # The pass itself ------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _sound(self, what: str) -> Iterator[None]:
        """Turn whatever a part that does not hold together raises into one sentence that names it."""
        try:
            yield
        except (ValueError, LookupError, TypeError, RuntimeError, ArithmeticError) as error:
            first = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
            raise FileFormatError(
                f"{self.builder.where}: {what} does not hold together ({first}); export the model again"
            ) from error

    def _input(self, name: str) -> None:
        sizes = self._shapes.get(name)
        if sizes is None or len(sizes) == 0 or any(size is None for size in sizes[1:]):
            raise DchwError(
                f"{self.builder.where}: the sizes of input {name!r} must be fixed except for the batch; got {sizes}; "
                "export the model with fixed sizes"
            )
        self._values[name] = self.builder.input(name, tuple(size for size in sizes[1:] if size is not None))

    def _node(self, node: Any) -> None:
        from onnx.reference import ReferenceEvaluator

        attributes = {a.name: _attribute(a) for a in node.attribute}
        inputs = [value for value in node.input if value]
        if all(value in self.constants for value in inputs) and (inputs or node.op_type.startswith("Constant")):
            results: Any = ReferenceEvaluator(node).run(None, {value: self.constants[value] for value in inputs})
            self.constants.update(zip(node.output, results, strict=False))
            return
        rule = RULES.get(node.op_type)
        result = rule(self, node, attributes) if rule is not None and node.domain in ("", "ai.onnx") else None
        names = result if isinstance(result, list) else [result if result is not None else self._other(node)]
        for value, name in zip(node.output, names, strict=False):
            self._values[value] = name

    def _other(self, node: Any) -> str:
        sizes = self._shapes.get(node.output[0])
        if sizes is None or any(size is None for size in sizes[1:]):
            raise DchwError(
                f"{self.builder.where}: node {node.name or node.output[0]!r} ({node.op_type}) is not known and its "
                "output size cannot be inferred; simplify the model before exporting it"
            )
        parameters = tuple(value for value in node.input if value in self.constants)
        attributes: dict[str, Any] = {"target": node.op_type} | ({"parameters": parameters} if parameters else {})
        sources = [self._values[value] for value in node.input if value in self._values]
        shape = tuple(size for size in sizes[1:] if size is not None)
        return self.builder.add(OperationKind.OTHER, self.name(node), sources, shape, attributes)


def _sizes(value: Any) -> tuple[int | None, ...] | None:
    """Sizes of a value, None where they are symbolic; None for all of it where even their number is unknown."""
    kind = value.type.tensor_type
    if not kind.HasField("shape"):
        return None
    return tuple(d.dim_value if d.HasField("dim_value") and d.dim_value > 0 else None for d in kind.shape.dim)


def _attribute(attribute: Any) -> Any:
    import onnx.helper

    value = onnx.helper.get_attribute_value(attribute)
    return value.decode() if isinstance(value, bytes) else value
