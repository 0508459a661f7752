"""From the ATen graph that `torch.export` gives to operations: one pass, one rule per ATen operation.

Whatever depends on parameters alone (a transposed weight, a mask times a weight) is computed on the way, so a layer's
weight is always an array. Shapes come from the exported program, with the batch axis taken out wherever it lies.
"""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any

import torch
from torch import fx, nn

from dchw.graph.network import Operation, OperationKind
from dchw.importers.builder import GraphBuilder
from dchw.importers.torch.registry import Constant, Result, rule
from dchw.quantities import DchwError


class GraphWalk:
    """State of one pass over an exported program. ``batch``: its fixed batch size, None where that is free."""

    def __init__(self, name: str, module: nn.Module, program: torch.export.ExportedProgram, batch: int | None) -> None:
        self.name = name
        self.builder = GraphBuilder(f"module {name}")
        self.notes: list[str] = []
        self._program = program
        self._modules = dict(module.named_modules(remove_duplicate=False))
        self._learned = dict(module.named_parameters(remove_duplicate=False))
        self._parameters = {**self._learned, **dict(module.named_buffers(remove_duplicate=False))}
        self._batch: Any = batch
        self._values: dict[fx.Node, Any] = {}
        self._constants: dict[int, Result] = {}
        self._owners: dict[tuple[int, tuple[int, ...]], str] = {}
        if batch is not None:
            self.notes.append(f"captured at a batch size of {batch}, the only one the module allows")

    def run(self) -> tuple[tuple[Operation, ...], tuple[str, ...]]:
        """All operations in order, and what there is to note about them."""
        signature = self._program.graph_signature
        stored = {
            **signature.inputs_to_parameters,
            **signature.inputs_to_buffers,
            **signature.inputs_to_lifted_tensor_constants,
        }
        tensors = {**self._program.constants, **self._program.state_dict}
        for node in self._program.graph.nodes:
            if node.op == "placeholder":
                if node.name in stored:
                    origin = stored[node.name]
                    held: Any = self._parameters.get(origin, tensors.get(origin))
                    self._values[node] = Constant(held.detach(), (origin,))
                elif node.name in signature.user_inputs and isinstance(node.meta.get("val"), torch.Tensor):
                    if self._batch is None:
                        self._batch = node.meta["val"].shape[0]
                    self._values[node] = self.emit(
                        node, OperationKind.INPUT, [], name=str(node.target), shape=self.shape(node)
                    )
            elif node.op == "get_attr":
                self._values[node] = Constant(
                    getattr(self._program.graph_module, str(node.target)), (str(node.target),)
                )
            elif node.op == "call_function":
                self._values[node] = self._call(node)
        if not any(op.weight is not None for op in self.builder.operations):
            self.notes.append("no operation is a linear layer or a 2-D convolution with constant weights")
        return tuple(self.builder.operations), tuple(self.notes)

    # What rules use -------------------------------------------------------------------------------------------

    def shape(self, node: fx.Node | torch.Tensor) -> tuple[int, ...]:
        """Shape of a node's value without its batch axis, wherever that lies."""
        return self._split(node)[0]

    def place(self, node: fx.Node) -> int | None:
        """Which axis of torch's value is the batch axis; None where it is merged with another or gone.

        Here it is always the first one: operations on the others do not mind, and `axis` says where those went.
        """
        return self._split(node)[1]

    def axis(self, node: fx.Node, axis: int) -> int | None:
        """The axis of an operation's value that corresponds to an axis of torch's; 0 is the batch axis."""
        place, rank = self.place(node), len(_tensors(node.meta["val"])[0].shape)
        if place is None:
            return None
        axis %= rank
        return 0 if axis == place else axis + (axis < place)

    def aligned(self, node: fx.Node, arguments: Sequence[Any]) -> bool:
        """Whether operands can be combined element by element: same place of the batch axis, same rank.

        A constant has one value for all examples: its axes lie behind the batch axis, or its first has size 1.
        """
        place, rank = self.place(node), len(node.meta["val"].shape)
        if place is None:
            return False
        for argument in arguments:
            value = self.value(argument)
            if isinstance(value, Result):
                if self.place(argument) != place or len(argument.meta["val"].shape) != rank:
                    return False
            elif isinstance(value, Constant) and value.tensor.ndim >= rank - place:
                sizes = value.tensor.shape
                if place or sizes[0] != 1 or len(sizes) > rank:
                    return False
        return True

    def emit(
        self,
        node: fx.Node,
        kind: OperationKind,
        inputs: Sequence[str],
        attributes: dict[str, Any] | None = None,
        *,
        name: str | None = None,
        suffix: str = "",
        **fields: Any,
    ) -> Result:
        """Append an operation, named after the node's module, and give its name."""
        unique = self.builder.free_name((name or self._path_name(node)) + suffix)
        return Result(self.builder.add(kind, unique, inputs, attributes, **fields))

    def value(self, argument: Any) -> Any:
        """What an argument stands for: a Result, a Constant, a list of those, or a plain value."""
        if isinstance(argument, fx.Node):
            return self._values.get(argument)
        if isinstance(argument, list | tuple):
            return [self.value(item) for item in argument]
        return argument

    def operand(self, node: fx.Node, argument: Any) -> Result:
        """The name of an operation that gives an argument's value; constants become operations of their own."""
        value = self.value(argument)
        if isinstance(value, Result):
            return value
        constant = value if isinstance(value, Constant) else Constant(torch.as_tensor(value))
        key = id(argument) if isinstance(argument, fx.Node) else None
        if key is not None and key in self._constants:
            return self._constants[key]
        tensor = constant.tensor.detach()
        if tensor.ndim >= 2 and tensor.shape[0] == 1:
            tensor = tensor[0]
        wanted = constant.origins[0] if constant.origins else f"{self._path_name(node)}.constant"
        attributes: dict[str, Any] = {"value": tensor.float().numpy()}
        if not constant.origins:
            attributes["reason"] = "a constant of the graph, not a parameter"
        unique = Result(self.builder.add(OperationKind.CONSTANT, self.builder.free_name(wanted), (), attributes))
        if key is not None:
            self._constants[key] = unique
        return unique

    def layer(
        self,
        node: fx.Node,
        kind: OperationKind,
        source: str,
        weight: Constant,
        bias: Constant | None,
        attributes: dict[str, Any] | None = None,
    ) -> Result:
        """Append a layer, named after the module or parameter that owns its weight, noting shared weights."""
        attributes = dict(attributes or {})
        name, parameter = self._owner(node, weight)
        tensor = weight.tensor
        placed = self._place_in_parameter(kind, tensor, self._parameters.get(parameter or ""))
        attributes |= placed
        if "computed" in placed:
            origins = " and ".join(weight.origins) or "constants"
            self.notes.append(f"weights of {name} are computed from {origins}; state_dict leaves them out")
        elif bias is not None and len(bias.origins) == 1:
            usual = str(parameter).removesuffix("weight") + "bias"
            if usual not in self._parameters:
                attributes["bias_parameter"] = bias.origins[0]
        unique = self.emit(
            node,
            kind,
            [source],
            attributes,
            name=name,
            weight=tensor.float().numpy(),
            bias=None if bias is None else bias.tensor.float().reshape(-1).numpy(),
            parameter=parameter,
        )
        key = (tensor.data_ptr(), tuple(tensor.shape))
        if key in self._owners:
            self.notes.append(f"{unique} shares its weights with {self._owners[key]}; both are counted")
        else:
            self._owners[key] = unique
        return unique

    def other(self, node: fx.Node) -> Result:
        """Append an operation without a rule, under torch's name, with the parameters it uses."""
        arguments = [self.value(argument) for argument in (*node.args, *node.kwargs.values())]
        flat = [x for argument in arguments for x in (argument if isinstance(argument, list) else [argument])]
        parameters = tuple(origin for x in flat if isinstance(x, Constant) for origin in x.origins)
        attributes: dict[str, Any] = {"target": _target(node)}
        if parameters:
            attributes["parameters"] = parameters
        sources = [x for x in flat if isinstance(x, Result)]
        return self.emit(node, OperationKind.OTHER, sources, attributes, shape=self.shape(node))

    def _place_in_parameter(
        self, kind: OperationKind, tensor: torch.Tensor, original: torch.Tensor | None
    ) -> dict[str, Any]:
        """How a layer's weight lies in its parameter: as it is, transposed, some of its rows, or computed from it."""
        if original is None:
            return {"computed": True}
        if _same(tensor, original):
            return {}
        if kind is OperationKind.LINEAR and _same(tensor.T, original):
            return {"transposed": True}
        row_bytes = original.stride(0) * original.element_size() if original.ndim else 1
        start, rest = divmod(tensor.data_ptr() - original.data_ptr(), row_bytes)
        view = tensor.shape[1:] == original.shape[1:] and tensor.stride() == original.stride()
        if view and rest == 0 and 0 <= start <= original.shape[0] - tensor.shape[0]:
            return {"rows": (start, start + tensor.shape[0])}
        return {"computed": True}

    # The pass itself ------------------------------------------------------------------------------------------

    def _call(self, node: fx.Node) -> Any:
        if node.target is operator.getitem:
            collection, index = self.value(node.args[0]), node.args[1]
            if isinstance(collection, list) and isinstance(index, int):
                return collection[index]
            return collection if index == 0 else self.other(node)
        value = node.meta.get("val")
        arguments = [self.value(argument) for argument in (*node.args, *node.kwargs.values())]
        flat = [x for argument in arguments for x in (argument if isinstance(argument, list) else [argument])]
        if not any(isinstance(x, Result) for x in flat) and isinstance(value, torch.Tensor | list | tuple):
            folded = self._folded(node, flat)
            if folded is not None:
                return folded
        if not isinstance(value, torch.Tensor | list | tuple):
            return None  # sizes and assertions
        known = rule.get(_target(node))
        result = None if known is None else known(self, node, _arguments(node))
        if result is None:
            return self.other(node)
        self._check(node, result)
        return result

    def _check(self, node: fx.Node, result: Any) -> None:
        """Whether the shapes that follow from what a rule made of a node are those that torch gave it."""
        names = result if isinstance(result, list) else [result]
        for name, tensor in zip(names, _tensors(node.meta["val"]), strict=False):
            if isinstance(name, Result) and self.builder.shape(name) != self.shape(tensor):
                raise DchwError(
                    f"module {self.name}: {name!r} ({_target(node)}) gives {self.builder.shape(name)} here and "
                    f"{self.shape(tensor)} in torch; report it with the module"
                )

    def _folded(self, node: fx.Node, flat: list[Any]) -> Any:
        """The value of a node that no input reaches, computed now; None where it depends on the batch size."""
        sizes = [dim for x in _tensors(node.meta["val"]) for dim in x.shape]
        if any(isinstance(dim, torch.SymInt) for dim in sizes):
            return None
        origins = tuple(dict.fromkeys(origin for x in flat if isinstance(x, Constant) for origin in x.origins))

        def plain(argument: Any) -> Any:
            value = self.value(argument)
            if isinstance(value, list):
                return [plain(item) for item in argument]
            return value.tensor if isinstance(value, Constant) else value

        with torch.no_grad():
            result = node.target(  # type: ignore[operator]
                *(plain(x) for x in node.args), **{k: plain(v) for k, v in node.kwargs.items()}
            )
        if isinstance(result, torch.Tensor):
            return Constant(result, origins)
        return [Constant(item, origins) for item in result]

    def _split(self, node: fx.Node | torch.Tensor) -> tuple[tuple[int, ...], int | None]:
        value = node.meta["val"] if isinstance(node, fx.Node) else node
        sizes: list[Any] = list(_tensors(value)[0].shape)
        if isinstance(self._batch, torch.SymInt):
            symbol = self._batch.node.expr
            expressions = [d.node.expr if isinstance(d, torch.SymInt) else d for d in sizes]
            place = next((i for i, e in enumerate(expressions) if e == symbol), None)
            # a batch merged with another axis leaves that axis as it is for one example
            single = [int(e.subs(symbol, 1)) if not isinstance(e, int) else e for e in expressions]
        else:
            single = [int(d) for d in sizes]
            place = next((i for i, d in enumerate(single) if d == self._batch), None)
        if place is not None:
            del single[place]
        return tuple(single), place

    def _owner(self, node: fx.Node, weight: Constant) -> tuple[str, str | None]:
        """Name of a layer, and the parameter its weight is (None: computed from several)."""
        path = self._path(node)
        own = getattr(self._modules.get(path), "weight", None)
        if isinstance(own, torch.Tensor) and own.data_ptr() == weight.tensor.data_ptr():
            return path or "weight", f"{path}.weight" if path else "weight"
        learned = [origin for origin in weight.origins if origin in self._learned] or list(weight.origins)
        if len(learned) == 1:
            return learned[0].removesuffix(".weight"), learned[0]
        return self._path_name(node), None

    def _path(self, node: fx.Node) -> str:
        stack = [v for k, v in node.meta.get("nn_module_stack", {}).items() if not k.startswith("_empty")]
        return str(stack[-1][0]).split("@")[0] if stack else ""

    def _path_name(self, node: fx.Node) -> str:
        """The module's path if it is a leaf, otherwise the path with the operation's name behind it."""
        path = self._path(node)
        module = self._modules.get(path)
        if path and module is not None and not list(module.children()):
            return path
        return ".".join(part for part in (path, _target(node)) if part)


def _target(node: fx.Node) -> str:
    """torch's name of an operation, without name space, overload and in-place mark: ``conv2d``."""
    schema = getattr(node.target, "_schema", None)
    if schema is None:
        return getattr(node.target, "__name__", str(node.target))
    return str(schema.name).split("::")[-1].rstrip("_")


def _arguments(node: fx.Node) -> dict[str, Any]:
    """A node's arguments by name, defaults included."""
    schema = getattr(node.target, "_schema", None)
    if schema is None:
        raise DchwError(f"operation {node.name}: no schema for {node.target}; report it with the module")
    given = dict(zip((a.name for a in schema.arguments), node.args, strict=False)) | dict(node.kwargs)
    return {a.name: given.get(a.name, a.default_value if a.has_default_value() else None) for a in schema.arguments}


def _tensors(value: Any) -> list[torch.Tensor]:
    return [value] if isinstance(value, torch.Tensor) else [x for x in value if isinstance(x, torch.Tensor)]


def _same(a: torch.Tensor, b: torch.Tensor) -> bool:
    return a.data_ptr() == b.data_ptr() and a.shape == b.shape and a.stride() == b.stride()
