"""One pass over an ONNX graph: what depends on constants alone is computed, every other node becomes operations.

Every value has a plain shape, because sizes of inputs are known: so chains of Shape, Gather, Concat and Reshape fold on
the way, conditions of `If` and counts of `Loop` that follow from them are decided, and their bodies join the graph. A
node becomes what its rule makes of it, or OTHER with onnx's name of it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
from collections import ChainMap, Counter
from collections.abc import Iterable, Iterator, Mapping, MutableMapping
from typing import Any

import numpy as np

from dchw.graph.operations import Array, OperationKind
from dchw.importers.onnx.folding import Folding, inferred
from dchw.importers.onnx.inputs import GraphInput, Sizes
from dchw.importers.onnx.layers import LayerTable
from dchw.importers.onnx.registry import Attributes, Quantised, Shape, Value, rule, without_batch
from dchw.quantities import DchwError, FileFormatError

MOST_NODES = 20_000
"""Nodes that one file may come to beyond its own, with the bodies of loops and functions as often as they run."""
_FAULTS = (ValueError, LookupError, TypeError, RuntimeError, ArithmeticError, AttributeError, MemoryError, ImportError)
_KEEP_QUANTISATION = frozenset(
    {"Concat", "Flatten", "Gather", "Identity", "MaxPool", "Pad", "Reshape", "Slice", "Split", "Squeeze", "Transpose"}
    | {"Unsqueeze", "Expand", "DepthToSpace", "SpaceToDepth", "Dropout", "Relu"}
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
        self._functions = {(f.domain, f.name): f for f in model.functions}
        held = sum(math.prod(t.dims) for t in model.graph.initializer)
        self._folding = Folding(where, held, self.opsets)
        self._values: MutableMapping[str, Value] = ChainMap()
        self._readers: Counter[str] = Counter()
        self._nodes = -len(model.graph.node)
        self._depth = 0
        self._present: tuple[Any, list[tuple[Shape | None, int | None]]] = (None, [])
        self._recorded: dict[str, tuple[Shape, int | None]] = {}
        self._quantised: Quantised | None = None
        self._skipped: Counter[str] = Counter()
        self._scalars = [one.name for one in inputs if one.sizes == ()]
        for one in inputs:
            self._input(one, sizes[one.name])
        self._graph(model.graph)
        if self._skipped:
            text = ", ".join(f"{count:,} in {name}" for name, count in self._skipped.items())
            self.notes.append(f"parameters of branches that are never taken are not part of the network: {text}")

    # What rules use -------------------------------------------------------------------------------------------

    def value(self, name: str) -> Value:
        """What stands under a name in the graph."""
        if name not in self._values:
            raise LookupError(f"it reads {name!r}, which nothing gives")
        return self._values[name]

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
        self._replace(name, dataclasses.replace(value, operation=made))
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
        own = self._values.maps[0] if isinstance(self._values, ChainMap) else self._values
        return self._readers[name] == 1 and name in own

    def output_shapes(self, names: Iterable[str]) -> dict[str, Shape]:
        """ONNX's shapes of values of the outermost graph."""
        return {name: self._values[name].shape for name in names if name in self._values}

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
                self._values[one.name] = Value(shape=(), dtype=dtype, constant=array)
                self.notes.append(f"input {one.name!r} is fixed at {sizes}")
                return
            shape = (1, *sizes[1:]) if self.batch is not None and sizes else tuple(sizes)
            made = self.builder.input(self.builder.free_name(one.name), without_batch(shape))
            self._values[one.name] = Value(shape=shape, dtype=dtype, operation=made)

    def _graph(self, graph: Any) -> None:
        """The initialisers and nodes of a graph, into the present values."""
        import onnx.numpy_helper

        for tensor in graph.initializer:
            with self._sound(f"array {tensor.name!r}"):
                self._folding.admit(f"array {tensor.name!r}", [tuple(tensor.dims)])
                array = onnx.numpy_helper.to_array(tensor)
                self._values[tensor.name] = Value(
                    shape=array.shape, dtype=tensor.data_type, constant=array, parameter=tensor.name
                )
        for sparse in graph.sparse_initializer:
            with self._sound(f"sparse array {sparse.values.name!r}"):
                self._values[sparse.values.name] = self._dense(sparse)
        for name in _read_names(graph):
            self._readers[name] += 1
        for node in graph.node:
            with (
                np.errstate(all="ignore"),
                self._sound(f"node {node.name or (node.output[0] if node.output else '')!r} ({node.op_type})"),
            ):
                self._node(node)

    def _dense(self, sparse: Any) -> Value:
        import onnx.numpy_helper

        values, indices = (onnx.numpy_helper.to_array(part) for part in (sparse.values, sparse.indices))
        shape = tuple(int(size) for size in sparse.dims)
        self._folding.admit(f"sparse array {sparse.values.name!r}", [shape])
        array = np.zeros(shape, values.dtype)
        if indices.size and indices.min() < 0:
            raise IndexError("an index is negative")
        if indices.ndim == 1:
            array.reshape(-1)[indices] = values
        else:
            array[tuple(indices.T)] = values
        dtype = sparse.values.data_type
        return Value(shape=shape, dtype=dtype, constant=array, parameter=sparse.values.name)

    # Nodes ----------------------------------------------------------------------------------------------------

    def _node(self, node: Any) -> None:
        self._nodes += 1
        if self._nodes > MOST_NODES:
            raise DchwError(
                f"{self.builder.where}: it comes to over {MOST_NODES:,} nodes more when its loops and functions are "
                f"unrolled, the last of them {node.name or node.op_type!r}; give smaller input sizes"
            )
        if node.op_type in ("If", "Loop") and node.domain in ("", "ai.onnx"):
            self._controlled(node)
        elif (node.domain, node.op_type) in self._functions:
            self._function(node, self._functions[node.domain, node.op_type])
        else:
            self._plain(node)

    def _plain(self, node: Any) -> None:
        names = [name for name in node.input if name]
        values = {name: self.value(name) for name in names}
        attributes = {a.name: _attribute(a) for a in node.attribute}
        if node.op_type == "Shape" and node.domain in ("", "ai.onnx"):
            shape = self.shape(names[0])
            part = np.asarray(shape[slice(attributes.get("start", 0), attributes.get("end"))], np.int64)
            self._values[node.output[0]] = _held(part)
            return
        if node.op_type == "Constant" and node.domain in ("", "ai.onnx"):
            self._values[node.output[0]] = dataclasses.replace(_constant(attributes), parameter=node.output[0])
            return
        outputs = [
            (self._declared.get(name) if shape is None else shape, dtype)
            for name, (shape, dtype) in zip(node.output, inferred(node, values, self.opsets), strict=True)
        ]
        if all(value.constant is not None for value in values.values()):
            if node.op_type == "Identity":
                self._values[node.output[0]] = values[names[0]]
                return
            folded = self._folding.outputs(node, values, outputs)
            if folded is not None:
                self._values.update(zip(node.output, map(_held, folded), strict=True))
                return
        self._present, self._quantised = (node, outputs), None
        known = rule.get(node.op_type) if node.domain in ("", "ai.onnx", "com.microsoft") else None
        result = None if known is None else known(self, node, attributes)
        made = self._others(node, values) if result is None else result if isinstance(result, list) else [result]
        if self._quantised is None and node.op_type in _KEEP_QUANTISATION and names:
            self._quantised = values[names[0]].quantised
        for name, operation, described in zip(node.output, made, outputs, strict=False):
            if isinstance(operation, Value):
                self._values[name] = operation
            elif name and operation is not None:
                self._values[name] = self._settled(operation, *described)

    def _settled(self, operation: str, shape: Shape | None, dtype: int | None) -> Value:
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

    def _replace(self, name: str, value: Value) -> None:
        """Set a value where it is defined, however deep the present graph lies in others."""
        maps = self._values.maps if isinstance(self._values, ChainMap) else [self._values]
        next(held for held in maps if name in held)[name] = value

    # Bodies ---------------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _inside(self, values: dict[str, Value]) -> Iterator[None]:
        """Values of a graph within the present one, which sees those around it."""
        outer, self._values = self._values, ChainMap(values, *getattr(self._values, "maps", [self._values]))
        readers, self._readers = self._readers, Counter()
        self._depth += 1
        try:
            if self._depth > 64:
                raise RecursionError("graphs lie deeper than 64 in each other")
            yield
        finally:
            self._values, self._readers, self._depth = outer, readers, self._depth - 1

    def _body(self, graph: Any, values: dict[str, Value]) -> list[Value]:
        with self._inside(values):
            self._graph(graph)
            return [self.value(one.name) for one in graph.output]

    def _controlled(self, node: Any) -> None:
        attributes = {a.name: a.g for a in node.attribute if a.HasField("g")}
        if node.op_type == "If":
            condition = self._decided(node, node.input[0], "condition")
            taken, left = ("then_branch", "else_branch") if condition else ("else_branch", "then_branch")
            held = _parameters(attributes[left])
            if held:
                self._skipped[node.name or node.output[0]] += held
            results = self._body(attributes[taken], {})
        else:
            results = self._loop(node, attributes["body"])
        self._values.update({name: value for name, value in zip(node.output, results, strict=True) if name})

    def _loop(self, node: Any, body: Any) -> list[Value]:
        count = int(self._decided(node, node.input[0], "count")) if node.input[0] else None
        going = bool(self._decided(node, node.input[1], "condition")) if node.input[1] else True
        if count is None and not node.input[1]:
            raise ValueError("it has neither a count nor a condition, so it never ends")
        state = [self.value(name) for name in node.input[2:]]
        names = [one.name for one in body.input]
        if len(names) != len(state) + 2:
            raise ValueError(f"its body has {len(names)} inputs for {len(state)} states")
        rows: list[list[Value]] = [[] for _ in body.output[1 + len(state) :]]
        step = 0
        while going and (count is None or step < count):
            self._nodes += 1  # an empty body too must come to an end
            values = dict(zip(names, [_held(np.asarray(step)), _held(np.asarray(going)), *state], strict=True))
            went_on, *results = self._body(body, values)
            if went_on.constant is None:
                raise ValueError("whether it goes on depends on the input; only loops that do not are unrolled")
            going, state = bool(went_on.constant), results[: len(state)]
            for row, result in zip(rows, results[len(state) :], strict=True):
                row.append(result)
            step += 1
            if self._nodes > MOST_NODES:
                raise DchwError(
                    f"{self.builder.where}: loop {node.name or node.output[0]!r} runs for more than {step:,} steps, "
                    f"which come to over {MOST_NODES:,} nodes; give smaller input sizes"
                )
        return [*state, *(self._stacked(node, row) for row in rows)]

    def _stacked(self, node: Any, row: list[Value]) -> Value:
        """The outputs of all steps of a loop along a new first axis."""
        if not row:
            raise ValueError("it runs for no step, so an output is empty")
        shape = (len(row), *row[0].shape)
        if all(value.constant is not None for value in row):
            self._folding.admit(f"loop {node.name!r}", [shape])
            return _held(np.stack([value.constant for value in row if value.constant is not None]))
        parts = []
        with self._inside({str(i): value for i, value in enumerate(row)}):
            for i in range(len(row)):
                made = self.operation(str(i))
                parts.append(self.add(node, OperationKind.RESHAPE, [made], {"shape": (1, *row[0].shape)}))
        made = parts[0] if len(parts) == 1 else self.add(node, OperationKind.CONCAT, parts, {"axis": 1})
        return self._settled(made, shape, row[0].dtype)

    def _function(self, node: Any, function: Any) -> None:
        given = {a.name: a for a in node.attribute}
        defaults = {a.name: a for a in function.attribute_proto}
        values = {name: self.value(source) for name, source in zip(function.input, node.input, strict=False) if source}
        with self._inside(values):
            for inner in function.node:
                self._node(_with_attributes(inner, {**defaults, **given}))
            results = [self.value(name) for name in function.output]
        self._values.update({name: value for name, value in zip(node.output, results, strict=False) if name})

    def _decided(self, node: Any, name: str, what: str) -> Any:
        array = self.constant(name)
        if array is None:
            hint = f"give the value of a scalar input, --input {self._scalars[0]}=NUMBER" if self._scalars else ""
            raise DchwError(
                f"{self.builder.where}: node {node.name or node.output[0]!r} ({node.op_type}): its {what} depends on "
                f"the inputs, and only one that does not can be followed; "
                + (hint or "cut the graph in front of it with onnx.utils.extract_model")
            )
        return array.reshape(-1)[0]


def _held(array: Array) -> Value:
    import onnx.helper

    return Value(shape=array.shape, dtype=onnx.helper.np_dtype_to_tensor_dtype(array.dtype), constant=array)


def _constant(attributes: Attributes) -> Value:
    import onnx.numpy_helper

    (kind, value), *_ = attributes.items()
    if kind == "value":
        return _held(onnx.numpy_helper.to_array(value))
    dtype = np.float32 if kind.startswith("value_float") else np.int64
    if not kind.startswith(("value_float", "value_int")):
        raise TypeError(f"constants of the form {kind} are not read here")
    return _held(np.asarray(value, dtype))


def _attribute(attribute: Any) -> Any:
    import onnx.helper

    value = onnx.helper.get_attribute_value(attribute)
    return value.decode() if isinstance(value, bytes) else value


def _read_names(graph: Any) -> Iterator[str]:
    """Names that the nodes of a graph read, also within their bodies, and its outputs (twice: they are always kept)."""
    for one in graph.output:
        yield one.name
        yield one.name
    pending = [graph]
    while pending:
        present = pending.pop()
        for node in present.node:
            yield from node.input
            pending += [a.g for a in node.attribute if a.HasField("g")]
            if present is not graph:
                yield from node.input


def _parameters(graph: Any) -> int:
    """How many float parameters a graph holds, its inner graphs included."""
    total, pending = 0, [graph]
    while pending:
        present = pending.pop()
        tensors = list(present.initializer)
        for node in present.node:
            pending += [a.g for a in node.attribute if a.HasField("g")]
            tensors += [a.t for a in node.attribute if a.HasField("t")]
        total += sum(math.prod(t.dims) for t in tensors if t.data_type in (1, 10, 11) and len(t.dims) > 0)
    return total


def _with_attributes(node: Any, given: Mapping[str, Any]) -> Any:
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
