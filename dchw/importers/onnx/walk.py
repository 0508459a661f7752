"""One pass over an ONNX graph: what depends on constants alone is computed, every other node becomes operations.

Constants are computed with onnx's own reference implementation. A node becomes what its rule makes of it, or OTHER with
onnx's name of it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import numpy as np

from dchw.graph.network import Array, OperationKind
from dchw.importers.builder import GraphBuilder
from dchw.importers.onnx.registry import rule
from dchw.quantities import DchwError, FileFormatError


class OnnxWalk:
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
        self._values[value] = self.builder.add(OperationKind.CONSTANT, value, (), attributes)
        return self._values[value]

    def shape(self, value: str) -> tuple[int, ...]:
        """Shape of a value without its batch axis."""
        return self.builder.shape(self.operation(value))

    def name(self, node: Any) -> str:
        """A free name for a node's operation."""
        return self.builder.free_name(cast(str, (node.name or node.output[0]).strip("/") or node.op_type))

    def layer_name(self, node: Any, weight: str) -> str:
        """A free name for a layer: its weight's, if that says whose it is."""
        if not weight.endswith(".weight"):
            return self.name(node)
        if weight in self._owners:
            self.notes.append(f"{self.name(node)} shares its weights with {self._owners[weight]}; both are counted")
            return self.name(node)
        self._owners[weight] = weight.removesuffix(".weight")
        return self._owners[weight]

    def own(self, layer: str, weight: str, bias: str | None, **attributes: Any) -> None:
        """Record which initialisers a layer's arrays came from."""
        if bias is not None and bias != weight.removesuffix("weight") + "bias":
            attributes["bias_parameter"] = bias
        before = next(op for op in reversed(self.builder.operations) if op.name == layer).attributes
        self.builder.amend(layer, parameter=weight, attributes={**before, **attributes})

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
        known = rule.get(node.op_type) if node.domain in ("", "ai.onnx") else None
        result = None if known is None else known(self, node, attributes)
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
        parameters = {value: self.constants[value] for value in node.input if value in self.constants}
        sources = [self._values[value] for value in node.input if value in self._values]
        shape = tuple(size for size in sizes[1:] if size is not None)
        return self.builder.other(self.name(node), node.op_type, sources, shape, parameters)


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
