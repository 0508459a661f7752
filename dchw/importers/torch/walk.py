"""From the ATen graph that `torch.export` gives to operations: one pass, one rule per ATen operation.

Whatever depends on parameters alone (a transposed weight, a mask times a weight) is computed on the way, so a layer's
weight is always an array. Shapes come from the exported program, with the batch axis taken out wherever it lies.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from typing import Any

import torch
from torch import fx, nn

from dchw.graph.coverage import LeftOut
from dchw.graph.operations import Operation, OperationKind
from dchw.importers.torch.aten import FILLED, arguments_of, changed_by, target_of, tensors_of
from dchw.importers.torch.batch import BatchSize, Free, Only, StandIn, split
from dchw.importers.torch.layers import ModuleLayers
from dchw.importers.torch.registry import Constant, Fixed, Result, rule
from dchw.quantities import DchwError


class GraphWalk(ModuleLayers):
    """State of one pass over an exported program. ``batch``: its batch size, None where that is a symbol in it."""

    def __init__(
        self, name: str, module: nn.Module, program: torch.export.ExportedProgram, batch: BatchSize | None
    ) -> None:
        super().__init__(name, module)
        self._program = program
        self._batch = batch
        self._values: dict[fx.Node, Any] = {}
        self._constants: dict[int, Result] = {}
        if isinstance(batch, Only):
            self.notes.say(f"captured at a batch size of {batch.size}, the only one the module allows")

    def run(self) -> tuple[tuple[Operation, ...], tuple[str, ...], tuple[LeftOut, ...]]:
        """All operations in order, what there is to note about them, and the parameters that none of them reads."""
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
                    held: Any = self.state.get(origin, tensors.get(origin))
                    self._values[node] = Constant(held.detach(), (origin,))
                elif node.name in signature.user_inputs and isinstance(node.meta.get("val"), torch.Tensor):
                    if self._batch is None:
                        self._batch = Free(node.meta["val"].shape[0])
                    self._values[node] = self.emit(
                        node, OperationKind.INPUT, [], name=str(node.target), shape=self.shape(node)
                    )
            elif node.op == "get_attr":
                self._values[node] = Constant(
                    getattr(self._program.graph_module, str(node.target)), (str(node.target),)
                )
            elif node.op == "call_function":
                self._values[node] = self._call(node)
                for changed in changed_by(node):
                    self._values[changed] = self._values[node]
        if not any(op.weight is not None for op in self.builder.operations):
            self.notes.say("no operation is a linear layer or a convolution with constant weights")
        self.notes.used_again(self.again)
        return tuple(self.builder.operations), self.notes.lines(), self._left_out(stored)

    def inner_outputs(self) -> tuple[str, ...]:
        """Of the operations that `run` gave, those whose values the module returns and that others read too."""
        returned = set(self._program.graph_signature.user_outputs)
        values = [value for node, value in self._values.items() if node.name in returned]
        flat = [one for value in values for one in (value if isinstance(value, list) else [value])]
        return self.builder.read_among(one for one in flat if isinstance(one, Result))

    def _left_out(self, stored: dict[str, str]) -> tuple[LeftOut, ...]:
        """Learned parameters that no operation of the program reads, each tensor once."""
        read = {
            self.state[stored[node.name]].data_ptr()
            for node in self._program.graph.nodes
            if node.op == "placeholder" and node.users and stored.get(node.name) in self.state
        }
        unread = {tensor.data_ptr(): name for name, tensor in self.learned.items() if tensor.numel()}
        return tuple(
            LeftOut(name=name, parameters=self.learned[name].numel(), reason="the forward pass does not read it")
            for place, name in unread.items()
            if place not in read
        )

    # What rules use -------------------------------------------------------------------------------------------

    def shape(self, node: fx.Node | torch.Tensor) -> tuple[int, ...]:
        """Shape of a node's value without its batch axis, wherever that lies."""
        return self._split(node)[0]

    def place(self, node: fx.Node) -> int | None:
        """Which axis of torch's value is the batch axis; None where it is merged with another or gone.

        Here it is always the first one: operations on the others do not mind, and `axis` says where those went.
        """
        held = self.batch(node)
        return held[0] if held is not None and held[1] == 1 else None

    def batch(self, node: fx.Node) -> tuple[int, int] | None:
        """See `dchw.importers.torch.registry.Walk`."""
        return self._split(node)[1]

    def axis(self, node: fx.Node, axis: int) -> int | None:
        """The axis of an operation's value that is one of torch's; 0 is the batch axis, None one it is merged with."""
        held, rank = self.batch(node), len(tensors_of(node.meta["val"])[0].shape)
        axis %= rank
        if held is None or (held[1] > 1 and axis == held[0]):
            return None
        if held[1] > 1:
            return axis + 1
        return 0 if axis == held[0] else axis + (axis < held[0])

    def aligned(self, node: fx.Node, arguments: Sequence[Any]) -> bool:
        """Whether operands can be combined element by element: same place of the batch axis, same rank.

        A constant has one value for all examples: its axes lie behind the batch axis, or its first has size 1.
        """
        held, rank = self.batch(node), len(node.meta["val"].shape)
        if held is None:
            return False
        place = held[0]
        for argument in arguments:
            value = self.value(argument)
            if isinstance(value, Result) and not isinstance(value, Fixed):
                if self.batch(argument) != held or len(argument.meta["val"].shape) != rank:
                    return False
            elif isinstance(value, Constant | Fixed):
                sizes = value.tensor.shape if isinstance(value, Constant) else argument.meta["val"].shape
                if len(sizes) >= rank - place and (place or sizes[0] != 1 or len(sizes) > rank):
                    return False
        return True

    def value(self, argument: Any) -> Any:
        """What an argument stands for: a Result, a Constant, a list of those, or a plain value."""
        if isinstance(argument, fx.Node):
            if isinstance(argument.meta.get("val"), torch.SymInt):
                self.notes.say(_FOR_ONE)
                assert self._batch is not None
                return self._batch.single(argument.meta["val"])
            held = self._values.get(argument)
            if isinstance(held, Constant) and self._per_example(argument):
                self._values[argument] = held = self._of_one_example(argument, held)
            return held
        if isinstance(argument, list | tuple):
            return [self.value(item) for item in argument]
        return argument

    def _raw(self, argument: Any) -> Any:
        """As `value`, but constants are there for as many examples as the program was exported for."""
        if isinstance(argument, list | tuple):
            return [self._raw(item) for item in argument]
        return self._values.get(argument) if isinstance(argument, fx.Node) else argument

    def _per_example(self, node: fx.Node) -> bool:
        shape = node.meta["val"].shape if isinstance(node.meta.get("val"), torch.Tensor) else ()
        held = self._values[node]
        return isinstance(self._batch, StandIn) and held.tensor.shape == shape and any(map(self._batch.depends, shape))

    def _of_one_example(self, node: fx.Node, constant: Constant) -> Constant | Result:
        """A constant that the program has for every example, once; where the examples' differ it is not computed."""
        held = self.batch(node)
        assert held is not None
        first = constant.tensor.narrow(held[0], 0, held[1])
        repeated = [size // part for size, part in zip(constant.tensor.shape, first.shape, strict=True)]
        if torch.equal(first.repeat(repeated), constant.tensor):
            return Constant(first, constant.origins)
        return self.other(node)

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
        wanted = constant.origins[0] if constant.origins else f"{self.path_name(node)}.constant"
        attributes: dict[str, Any] = {"value": tensor.float().numpy()}
        if not constant.origins:
            attributes["reason"] = "a constant of the graph, not a parameter"
        unique = Result(self.builder.add(OperationKind.CONSTANT, self.builder.free_name(wanted), (), attributes))
        if key is not None:
            self._constants[key] = unique
        return unique

    def other(self, node: fx.Node) -> Result:
        """Append an operation without a rule, under torch's name, with the parameters it uses."""
        arguments = [self.value(argument) for argument in (*node.args, *node.kwargs.values())]
        flat = [x for argument in arguments for x in (argument if isinstance(argument, list) else [argument])]
        held = [x for x in flat if isinstance(x, Constant) and x.tensor.is_floating_point()]
        parameters = {
            " and ".join(x.origins): x.tensor.float().numpy()
            for x in held
            if any(origin in self.state for origin in x.origins)
        }
        sources = [x for x in flat if isinstance(x, Result)]
        name = self.builder.free_name(self.path_name(node))
        return Result(self.builder.other(name, target_of(node), sources, self.shape(node), parameters))

    # The pass itself ------------------------------------------------------------------------------------------

    def _call(self, node: fx.Node) -> Any:
        if node.target is operator.getitem:
            collection, index = self.value(node.args[0]), node.args[1]
            if isinstance(collection, list) and isinstance(index, int):
                return collection[index]
            return collection if index == 0 else self.other(node)
        value = node.meta.get("val")
        arguments = [self._raw(argument) for argument in (*node.args, *node.kwargs.values())]
        flat = [x for argument in arguments for x in (argument if isinstance(argument, list) else [argument])]
        looked_up = target_of(node) == "embedding"  # with constant numbers: the whole table is still a parameter
        foldable = not looked_up and isinstance(value, torch.Tensor | list | tuple)
        filled = target_of(node) in FILLED  # of its first argument only type and sizes matter
        if foldable and (filled or not any(isinstance(x, Result) for x in flat)):
            folded = self._folded(node, flat)
            if folded is not None:
                return folded
        if not isinstance(value, torch.Tensor | list | tuple):
            return None  # sizes and assertions
        known = rule.get(target_of(node))
        result = None if known is None else known(self, node, arguments_of(node))
        if result is None:
            return self.other(node)
        self._check(node, result)
        return result

    def _check(self, node: fx.Node, result: Any) -> None:
        """Whether the shapes that follow from what a rule made of a node are those that torch gave it."""
        names = result if isinstance(result, list) else [result]
        for name, tensor in zip(names, tensors_of(node.meta["val"]), strict=False):
            known = isinstance(name, Result) and not isinstance(name, Fixed)
            if known and self.builder.shape(name) != self.shape(tensor):
                raise DchwError(
                    f"module {self.name}: {name!r} ({target_of(node)}) gives {self.builder.shape(name)} here and "
                    f"{self.shape(tensor)} in torch; report it with the module"
                )

    def _folded(self, node: fx.Node, flat: list[Any]) -> Any:
        """The value of a node that no input reaches, computed now; None where it cannot be.

        Where it depends on the batch size it is computed for all examples of a stand-in, and for one where the size is
        a symbol and nothing but it is filled in.
        """
        batch = self._batch
        assert batch is not None
        sizes = [dim for x in tensors_of(node.meta["val"]) for dim in x.shape]
        free = any(map(batch.depends, sizes))
        whole = isinstance(batch, StandIn)
        if free and (
            len(node.args) == 0 or (math.prod(sizes) > _MOST_VALUES if whole else target_of(node) not in FILLED)
        ):
            return None
        origins = tuple(dict.fromkeys(origin for x in flat if isinstance(x, Constant) for origin in x.origins))

        def plain(argument: Any) -> Any:
            value = self._raw(argument)
            if isinstance(argument, list | tuple):
                return [plain(item) for item in argument]
            if isinstance(argument, fx.Node) and isinstance(argument.meta.get("val"), torch.SymInt):
                return batch.single(argument.meta["val"])
            if isinstance(value, Result):
                like = argument.meta["val"]
                shape = [int(size) if whole else batch.single(size) for size in like.shape]
                return torch.empty(shape, dtype=like.dtype)
            return value.tensor if isinstance(value, Constant) else value

        with torch.no_grad():
            result = node.target(  # type: ignore[operator]
                *(plain(x) for x in node.args), **{k: plain(v) for k, v in node.kwargs.items()}
            )
        if isinstance(result, torch.Tensor):
            return Constant(result, origins)
        return [Constant(item, origins) for item in result]

    def _split(self, node: fx.Node | torch.Tensor) -> tuple[tuple[int, ...], tuple[int, int] | None]:
        """Shape without the batch axis, and (place, parts of an example in it) of that axis."""
        value = node.meta["val"] if isinstance(node, fx.Node) else node
        assert self._batch is not None
        return split(self._batch, tensors_of(value)[0].shape)


_FOR_ONE = "what it computes depends on the number of examples: it is captured for one"
_MOST_VALUES = 2**26
"""So many values of a constant that every example has its own of are computed at most."""
