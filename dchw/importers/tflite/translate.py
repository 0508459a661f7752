"""From TFLite's operators to ONNX's, one rule an operator, so that one walk knows what operators mean.

TFLite's images are [examples, height, width, channels], ONNX's [examples, channels, height, width]. A value that a
layer gives stays with its channels first as long as only operators read it that do not mind; it is turned where one
does. Weights are dequantised here and laid out as ONNX has them; where an operator's result is quantised, a pair of
QuantizeLinear and DequantizeLinear rounds it as the file says.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from dchw.graph.operations import Array
from dchw.importers.registry import Registry
from dchw.importers.tflite.flatbuffer import Graph, Operator, Tensor

_FIRST, _LAST = (0, 3, 1, 2), (0, 2, 3, 1)
_RANGES = {"INT8": np.int8, "UINT8": np.uint8, "INT16": np.int16}
_MOVING = frozenset(
    {"RESHAPE", "PAD", "PADV2", "MAX_POOL_2D", "TRANSPOSE", "SQUEEZE", "EXPAND_DIMS", "SLICE", "STRIDED_SLICE", "SPLIT"}
    | {"QUANTIZE", "DEQUANTIZE", "GATHER", "PACK", "UNPACK", "MIRROR_PAD", "TILE", "SPLIT_V", "RESIZE_NEAREST_NEIGHBOR"}
)
"""Operators that pick values and round none."""

Rule = Callable[["Translation", Operator], Any]
rule: Registry[Rule] = Registry()
"""TFLite operator -> rule; a rule adds nodes and names the result with `Translation.give`."""


class Translation:
    """ONNX nodes and constants that grow, and under which names the values of TFLite's tensors stand."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.nodes: list[Any] = []
        self.constants: dict[str, Array] = {}
        self.declared: dict[str, tuple[int, ...]] = {}
        self._names: dict[tuple[int, bool], str] = {}
        self._weights: dict[tuple[int, tuple[int, ...]], str] = {}
        self._computed: dict[int, Array] = {}
        self._count = 0
        for number in graph.inputs:
            self._names[number, False] = self.tensor(number).name
            self.rounded(number, first=False)
        for operator in graph.operators:
            self._operator(operator)

    def tensor(self, number: int) -> Tensor:
        """A tensor by its number; raises IndexError for one that is left out."""
        if number < 0:
            raise IndexError("it leaves out a tensor that it needs")
        return self.graph.tensors[number]

    def node(self, kind: str, inputs: Sequence[str], name: str, *, outputs: int = 1, **attributes: Any) -> list[str]:
        """Append a node; its outputs' names."""
        from onnx.helper import make_node

        self._count += 1
        made = [f"{name}#{self._count}.{i}" if outputs > 1 else f"{name}#{self._count}" for i in range(outputs)]
        domain = attributes.pop("domain", None)
        self.nodes.append(make_node(kind, list(inputs), made, name=name, domain=domain, **attributes))
        return made

    def constant(self, array: Array, name: str) -> str:
        """The name of a constant."""
        self._count += 1
        unique = name if name not in self.constants else f"{name}#{self._count}"
        self.constants[unique] = np.ascontiguousarray(array)
        return unique

    def weight(self, number: int, order: tuple[int, ...]) -> str:
        """The name of a layer's weight, its axes in ONNX's order: one for all layers that read it."""
        if (number, order) not in self._weights:
            self._weights[number, order] = self.constant(self.array(number).transpose(order), self.tensor(number).name)
        return self._weights[number, order]

    def get(self, number: int, *, first: bool = False) -> str:
        """The name of a tensor's value, with its channels last as TFLite has it, or first."""
        key = number, first and len(self.tensor(number).shape) == 4
        if key not in self._names:
            tensor, values = self.tensor(number), self.values(number)
            if values is not None:
                self._names[key] = self.constant(values.transpose(_FIRST) if key[1] else values, tensor.name)
            elif (number, not key[1]) in self._names:
                source = self._names[number, not key[1]]
                order = _FIRST if key[1] else _LAST
                self._names[key] = self.node("Transpose", [source], f"{tensor.name}.turned", perm=order)[0]
            else:
                raise LookupError(f"nothing gives tensor {tensor.name!r}")
        return self._names[key]

    def held_first(self, number: int) -> bool:
        """Whether a value stands with its channels first."""
        return (number, True) in self._names

    def values(self, number: int) -> Array | None:
        """The values of a constant, dequantised; None of what depends on the inputs."""
        held = self._computed.get(number)
        return self.tensor(number).values if held is None else held

    def array(self, number: int) -> Array:
        """The values of a tensor that must be constant."""
        values = self.values(number)
        if values is None:
            raise ValueError(f"{self.tensor(number).name!r} must be constant")
        return values

    def give(self, operator: Operator, name: str, *, first: bool = False, output: int = 0) -> None:
        """Name the value of an operator's output, after its fused activation, rounded where it is quantised."""
        number = operator.outputs[output]
        name = self._fused(operator, name)
        first = first and len(self.tensor(number).shape) == 4
        self._names[number, first] = name
        if operator.kind not in _MOVING:
            self.rounded(number, first=first)

    def rounded(self, number: int, *, first: bool) -> None:
        """Round a value to the steps of its tensor's quantisation."""
        tensor = self.tensor(number)
        if not tensor.quantised or tensor.kind not in _RANGES or tensor.scale.size != 1:
            return
        scale = self.constant(tensor.scale.reshape(()).astype(np.float32), f"{tensor.name}.scale")
        zero = self.constant(tensor.zero.reshape(()).astype(_RANGES[tensor.kind]), f"{tensor.name}.zero")
        numbers = self.node("QuantizeLinear", [self._names[number, first], scale, zero], f"{tensor.name}.rounded")
        self._names[number, first] = self.node("DequantizeLinear", [*numbers, scale, zero], f"{tensor.name}.real")[0]

    def name(self, operator: Operator) -> str:
        """What an operator's result is called."""
        return self.tensor(operator.outputs[0]).name

    def _fused(self, operator: Operator, name: str) -> str:
        function = operator.options.get("FusedActivationFunction", 0)
        own = self.name(operator)
        if function == 0:
            return name
        if function in (1, 4):
            return self.node("Relu" if function == 1 else "Tanh", [name], f"{own}.activation")[0]
        if function not in (2, 3):
            raise ValueError(f"fused activation {function} is not known")
        low, high = (-1.0, 1.0) if function == 2 else (0.0, 6.0)
        limits = [self.constant(np.float32(limit), f"{own}.limit") for limit in (low, high)]  # type: ignore[arg-type]
        return self.node("Clip", [name, *limits], f"{own}.activation")[0]

    def _operator(self, operator: Operator) -> None:
        if operator.kind in ("DEQUANTIZE", "DENSIFY") and self.values(operator.inputs[0]) is not None:
            values = self.array(operator.inputs[0])
            self._computed[operator.outputs[0]] = values.astype(np.float32) if values.dtype.kind == "f" else values
            return
        known = rule.get(operator.kind)
        try:
            if known is not None and known(self, operator) is not NotImplemented:
                return
        except (ValueError, LookupError, TypeError) as error:
            where = f"operator {self.name(operator)!r} ({operator.kind})"
            raise ValueError(f"{where} does not hold together: {str(error).strip()}") from error
        self._other(operator)

    def _other(self, operator: Operator) -> None:
        """A node that is not computed here, with the shapes that the file gives."""
        sources = [self.get(number) for number in operator.inputs if number >= 0 and self._reachable(number)]
        made = self.node(operator.kind, sources, self.name(operator), outputs=len(operator.outputs), domain="tflite")
        for number, name in zip(operator.outputs, made, strict=True):
            self._names[number, False] = name
            self.declared[name] = self.tensor(number).shape

    def _reachable(self, number: int) -> bool:
        return self.values(number) is not None or any((number, first) in self._names for first in (True, False))
