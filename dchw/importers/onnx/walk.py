"""One pass over an ONNX graph: what depends on constants alone is computed, every other node becomes operations.

Every value has a plain shape, because sizes of inputs are known: so chains of Shape, Gather, Concat and Reshape fold on
the way, and what `If` and `Loop` depend on is decided. A node becomes what its rule makes of it, or OTHER with onnx's
name of it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from dchw.graph.operations import Array, OperationKind
from dchw.importers.onnx.constants import attributes_of, held, initialiser, of_constant_node, sparse_initialiser
from dchw.importers.onnx.control import ControlFlow
from dchw.importers.onnx.folding import Folding, inferred
from dchw.importers.onnx.inputs import GraphInput, Sizes
from dchw.importers.onnx.layers import LayerTable
from dchw.importers.onnx.liveness import left_out, needed_in
from dchw.importers.onnx.registry import Attributes, Quantised, Shape, Value, rule, without_batch
from dchw.importers.onnx.scopes import Scopes
from dchw.quantities import DchwError, FileFormatError

_FAULTS = (ValueError, LookupError, TypeError, RuntimeError, ArithmeticError, AttributeError, MemoryError, ImportError)
_KEEP_QUANTISATION = frozenset(
    {"Concat", "Flatten", "Gather", "Identity", "MaxPool", "Pad", "Reshape", "Slice", "Split", "Squeeze", "Transpose"}
    | {"GatherElements", "Unsqueeze", "Expand", "DepthToSpace", "SpaceToDepth", "Dropout", "Relu"}
)
_ROUNDING = frozenset({"Cast", "Ceil", "Floor", "Round"})
_FINER = (
    "constants that the file rounds to whole multiples of a step, which it computes from its input, are kept as they "
    "are, so that outputs differ by such steps"
)


class OnnxWalk(LayerTable):
    """The pass. ``sizes``: of every input, or a scalar one's value; ``batch``: the file's fixed number of examples,
    where one of them is read; ``declared``: shapes the file gives, for operators whose definition is not known."""

    def __init__(
        self,
        where: str,
        model: Any,
        inputs: list[GraphInput],
        sizes: Mapping[str, Sizes | int],
        batch: int | None = None,
        declared: Mapping[str, Shape] | None = None,
    ) -> None:
        super().__init__(where)
        self.batch = batch
        self._declared = declared or {}
        self.opsets = {("" if s.domain == "ai.onnx" else s.domain): s.version for s in model.opset_import}
        self.version = self.opsets.get("", 1)
        self.scopes = Scopes()
        self.folding = Folding(where, sum(math.prod(t.dims) for t in model.graph.initializer), self.opsets)
        functions = {(f.domain, f.name): f for f in model.functions}
        scalars = [one.name for one in inputs if one.sizes == ()]
        self._control = ControlFlow(self, functions, len(model.graph.node), scalars)
        self._present: tuple[Any, list[tuple[Shape | None, int | None]]] = (None, [])
        self._recorded: dict[str, tuple[Shape, int | None]] = {}
        self._quantised: Quantised | None = None
        for one in inputs:
            self._input(one, sizes[one.name])
        self.read_graph(model.graph)
        values = [self.scopes[one.name] for one in model.graph.output if one.name in self.scopes]
        self.inner_outputs = self.builder.read_among(x.operation for x in values if x.operation is not None)
        """Operations that give outputs of the graph and that others read too."""
        if self._control.skipped:
            text = ", ".join(f"{count:,} in {name}" for name, count in self._control.skipped.items())
            self.notes.say(f"parameters of branches that are never taken are not part of the network: {text}")
        self.left_out = tuple(left_out(model.graph))
        """Parameters that no output depends on."""

    # What rules use -------------------------------------------------------------------------------------------

    def value(self, name: str) -> Value:
        """What stands under a name in the graph."""
        return self.scopes[name]

    def constant(self, name: str) -> Array | None:
        """The array of a value that does not depend on the inputs."""
        return self.value(name).constant

    def shape(self, name: str) -> Shape:
        """ONNX's shape of a value, the batch axis included."""
        return self.value(name).shape

    def operation(self, name: str) -> str:
        """The operation that gives a value; a constant becomes one."""
        value = self.value(name)
        if value.operation is not None:
            return value.operation
        assert value.constant is not None
        if value.constant.dtype.kind not in "biuf" and value.constant.dtype.name != "bfloat16":
            raise TypeError(f"{name!r} holds {value.constant.dtype} values")
        attributes: Attributes = {"value": value.constant.astype(np.float32).reshape(without_batch(value.shape))}
        if value.parameter is None:
            attributes["reason"] = "a constant of the graph, not a parameter"
        wanted = self.builder.free_name(name or "constant")
        made = self.builder.add(OperationKind.CONSTANT, wanted, (), attributes)
        self.scopes.replace(name, dataclasses.replace(value, operation=made))
        return made

    def whole(self, name: str) -> str:
        """An operation that gives a value in ONNX's shape, behind a batch axis of its own."""
        operation, shape = self.operation(name), self.shape(name)
        if self.builder.shape(operation) == shape:
            return operation
        wanted = self.builder.free_name(f"{operation}.whole")
        return self.builder.add(OperationKind.RESHAPE, wanted, [operation], {"shape": shape})

    def along(self, name: str, *axes: int) -> tuple[str, int]:
        """An operation that gives a value, and what to add to ONNX's axes to get those of the operation."""
        if self.shape(name)[:1] == (1,) and 0 not in axes:
            return self.operation(name), 0
        return self.whole(name), 1

    def expected(self, index: int = 0) -> Shape | None:
        """ONNX's shape of an output of the present node; None where it cannot be inferred."""
        return self._present[1][index][0]

    def quantises(self, how: Quantised) -> None:
        """Record how the present node's first output is quantised."""
        self._quantised = how

    def shaped(self, operation: str, shape: Shape, dtype: int | None = None) -> str:
        """Record ONNX's shape of an operation, for operators whose definition does not tell."""
        self._recorded[operation] = (shape, dtype)
        return operation

    def read_once(self, name: str) -> bool:
        """Whether a value has one reader and is no output."""
        return self.scopes.read_once(name)

    def output_shapes(self, names: Iterable[str]) -> dict[str, Shape]:
        """ONNX's shapes of values of the outermost graph."""
        return {name: self.scopes[name].shape for name in names if name in self.scopes}

    # Graphs ---------------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _sound(self, what: str) -> Iterator[None]:
        """Turn whatever a part that does not hold together raises into one sentence that names it."""
        try:
            yield
        except DchwError:
            raise
        except _FAULTS as error:
            text = " ".join((str(error).strip() or type(error).__name__).split())
            raise FileFormatError(
                f"{self.builder.where}: {what} does not hold together ({text[:300].rstrip('.')}); check the file, "
                "or give other input sizes"
            ) from error

    def _input(self, one: GraphInput, sizes: Sizes | int) -> None:
        import onnx.helper

        with self._sound(f"input {one.name!r}"):
            dtype = one.dtype or 1
            if isinstance(sizes, int):
                array = np.asarray(sizes, onnx.helper.tensor_dtype_to_np_dtype(dtype))
                self.scopes.define([one.name], [Value(shape=(), dtype=dtype, constant=array)])
                self.notes.say(f"input {one.name!r} is fixed at {sizes}")
                return
            shape = (1, *sizes[1:]) if self.batch is not None and sizes else tuple(sizes)
            made = self.builder.input(self.builder.free_name(one.name), without_batch(shape))
            self.scopes.define([one.name], [Value(shape=shape, dtype=dtype, operation=made)])

    def read_graph(self, graph: Any) -> None:
        """Read the initialisers of a graph, and the nodes its outputs depend on, into the present scope."""
        for tensor in graph.initializer:
            with self._sound(f"array {tensor.name!r}"):
                self.scopes.define([tensor.name], [initialiser(tensor, self.folding)])
        for sparse in graph.sparse_initializer:
            with self._sound(f"sparse array {sparse.values.name!r}"):
                self.scopes.define([sparse.values.name], [sparse_initialiser(sparse, self.folding)])
        self.scopes.read_in(graph)
        for node in needed_in(graph):
            with (
                np.errstate(all="ignore"),
                self._sound(f"node {node.name or (node.output[0] if node.output else '')!r} ({node.op_type})"),
            ):
                self.read_node(node)

    # Nodes ----------------------------------------------------------------------------------------------------

    def read_node(self, node: Any) -> None:
        """Read one node into the present scope."""
        self._control.count(node)
        results = self._control.outputs(node)
        self.scopes.define(node.output, self._outputs(node) if results is None else results)

    def _outputs(self, node: Any) -> Iterable[Value | None]:
        """What a node without a body gives: constants where it reads only those, otherwise operations."""
        names = [name for name in node.input if name]
        values = {name: self.value(name) for name in names}
        attributes, plain = attributes_of(node), node.domain in ("", "ai.onnx")
        if plain and node.op_type == "Shape":
            part = slice(attributes.get("start", 0), attributes.get("end"))
            return [held(np.asarray(self.shape(names[0])[part], np.int64))]
        if plain and node.op_type == "Constant":
            return [dataclasses.replace(of_constant_node(attributes), parameter=node.output[0])]
        outputs = [
            (self._declared.get(name) if shape is None else shape, dtype)
            for name, (shape, dtype) in zip(node.output, inferred(node, values, self.opsets), strict=True)
        ]
        if all(value.constant is not None for value in values.values()):
            if node.op_type == "Identity":
                return [values[names[0]]]
            folded = self.folding.outputs(node, values, outputs)
            if folded is not None:
                return self._folded(node, list(values.values()), folded)
        return self._operations(node, attributes, values, outputs)

    def _folded(self, node: Any, sources: list[Value], arrays: list[Array]) -> list[Value]:
        """Computed outputs; what is rounded to a step that the file computes from its input is noted."""
        stands_in = any(value.stands_in for value in sources)
        before = sources[0].constant if sources else None
        if stands_in and node.op_type in _ROUNDING and before is not None and not np.array_equal(arrays[0], before):
            self.notes.about(_FINER, node.output[0])
        return [dataclasses.replace(held(array), stands_in=stands_in) for array in arrays]

    def _operations(
        self,
        node: Any,
        attributes: Attributes,
        values: Mapping[str, Value],
        outputs: list[tuple[Shape | None, int | None]],
    ) -> list[Value | None]:
        """What the rule of a node makes of it, or OTHER."""
        self._present, self._quantised = (node, outputs), None
        known = rule.get(node.op_type) if node.domain in ("", "ai.onnx", "com.microsoft") else None
        result = None if known is None else known(self, node, attributes)
        made = self._others(node, values) if result is None else result if isinstance(result, list) else [result]
        if self._quantised is None and node.op_type in _KEEP_QUANTISATION and values:
            self._quantised = next(iter(values.values())).quantised
        return [
            operation
            if isinstance(operation, Value)
            else self.settled(operation, *described)
            if name and operation is not None
            else None
            for name, operation, described in zip(node.output, made, outputs, strict=False)
        ]

    def settled(self, operation: str, shape: Shape | None, dtype: int | None) -> Value:
        """The value an operation gives, in the shape that belongs to ONNX's."""
        found = self.builder.shape(operation)
        recorded = self._recorded.pop(operation, None)
        full = recorded[0] if recorded else (1, *found) if shape is None else shape
        dtype = dtype or (recorded[1] if recorded else None) or 1
        wanted = without_batch(full)
        if found != wanted:
            if math.prod(found) != math.prod(wanted):
                raise ValueError(f"it gives {found} here and {full} by its definition")
            name = self.builder.free_name(f"{operation}.shape")
            operation = self.builder.add(OperationKind.RESHAPE, name, [operation], {"shape": wanted})
        return Value(shape=full, dtype=dtype, operation=operation, quantised=self._quantised)

    def _others(self, node: Any, values: Mapping[str, Value]) -> list[str | None]:
        """An OTHER for every output; the parameters are the first one's."""
        held = {
            name: value.constant.astype(np.float32)
            for name, value in values.items()
            if value.constant is not None and value.constant.dtype.kind == "f"
        }
        target = ".".join(part for part in (node.domain, node.op_type) if part)
        sources = [value.operation for value in values.values() if value.operation is not None]
        made: list[str | None] = []
        for name, (shape, _) in zip(node.output, self._present[1], strict=True):
            if name and shape is None:
                raise DchwError(
                    f"{self.builder.where}: node {node.name or name!r} ({node.op_type}) is not known here and the "
                    f"size of its output {name!r} cannot be told before it runs; cut the graph in front of it with "
                    "onnx.utils.extract_model"
                )
            parameters = held if not made else None
            made.append(
                self.builder.other(self.name(node), target, sources, without_batch(shape), parameters)
                if name and shape is not None
                else None
            )
        return made
