"""Building a graph operation by operation: the one builder of all importers, which knows every shape on the way."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from dchw.graph.network import Array, Operation, OperationKind, placeholder
from dchw.graph.shapes import output_shape
from dchw.quantities import DchwError, nearest

Pair = tuple[int, int]


class GraphBuilder:
    """Operations in order. Every method appends one (or two) and gives the name of the one that holds the result.

    Layers without given weights get zero placeholders that take no memory. ``where`` opens every error message.
    """

    def __init__(self, where: str) -> None:
        self.where = where
        self.operations: list[Operation] = []
        self._shapes: dict[str, tuple[int, ...]] = {}
        self._places: dict[str, int] = {}
        self._tried: dict[str, int] = {}  # by wanted name: no name with a lower number is free
        self._weights: dict[str, tuple[int, ...]] = {}

    def shape(self, name: str) -> tuple[int, ...]:
        """Output shape of an operation, without batch axis."""
        if name not in self._shapes:
            raise DchwError(f"{self.where}: nothing gives {name!r}; {nearest(name, self._shapes)}")
        return self._shapes[name]

    def free_name(self, wanted: str) -> str:
        """``wanted``, or that with a number behind it where an operation has that name already."""
        count = self._tried.get(wanted, 0)
        name = f"{wanted}_{count}" if count else wanted
        while name in self._shapes:
            count += 1
            name = f"{wanted}_{count}"
        self._tried[wanted] = count
        return name

    def read_among(self, names: Iterable[str]) -> tuple[str, ...]:
        """Of some operations, each once and in order, those that others read."""
        read = {source for op in self.operations for source in op.inputs}.intersection(names)
        return tuple(op.name for op in self.operations if op.name in read)

    def operation(self, name: str) -> Operation:
        """An operation that was added."""
        return self.operations[self._places[name]]

    def add(
        self,
        kind: OperationKind,
        name: str,
        inputs: Sequence[str],
        attributes: Mapping[str, Any] | None = None,
        *,
        shape: tuple[int, ...] | None = None,
        **fields: Any,
    ) -> str:
        """Append an operation; its output shape follows from what it reads.

        Only an INPUT and an OTHER need a ``shape``. Where both are known, another ``shape`` than the one that follows
        raises DchwError: the source means something else by the operation than this package does.
        """
        if name in self._shapes:
            raise DchwError(f"{self.where}: {name!r} occurs twice; give one of them another name")
        weight = fields.get("weight")
        if weight is not None:
            self._weights[name] = weight.shape
        shared = self._weights.get((attributes or {}).get("shares", name))
        sources = [self.shape(source) for source in inputs]
        try:
            known = output_shape(kind, attributes or {}, shared, sources)
        except DchwError as error:
            raise DchwError(f"{self.where}: {'' if shared is None else 'layer '}{name!r}: {error}") from error
        given = known if shape is None else shape
        if given is None:
            raise DchwError(f"{self.where}: {name!r}: its output shape is not known; give it")
        if known is not None and given != known:
            raise DchwError(
                f"{self.where}: {name!r} ({kind.value}) gives {known} here; its source says {shape}; "
                "report it with the network"
            )
        self._shapes[name] = given
        self._places[name] = len(self.operations)
        self.operations.append(
            Operation(
                name=name,
                kind=kind,
                inputs=tuple(inputs),
                attributes=attributes or {},
                output_shape=given,
                **fields,
            )
        )
        return name

    def amend(self, name: str, **changes: Any) -> None:
        """Change fields of an operation that was added, other than its name, kind and inputs."""
        index = self._places[name]
        self.operations[index] = dataclasses.replace(self.operations[index], **changes)

    def input(self, name: str, shape: tuple[int, ...]) -> str:
        """An input of the network."""
        return self.add(OperationKind.INPUT, name, (), shape=shape)

    def conv(
        self,
        name: str,
        source: str,
        out_channels: int,
        kernel: Pair,
        *,
        stride: Pair = (1, 1),
        padding: Pair = (0, 0),
        dilation: Pair = (1, 1),
        groups: int = 1,
        weight: Array | None = None,
        bias: Array | bool | None = True,
    ) -> str:
        """A convolution; ``bias``: the values, True for placeholders, None or False for none."""
        expected = (out_channels, self.shape(source)[0] // max(1, groups), *kernel)
        return self.add(
            OperationKind.CONV2D,
            name,
            [source],
            {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups},
            weight=self._values(name, "weights", weight, expected),
            bias=self._bias(name, bias, out_channels),
        )

    def linear(
        self,
        name: str,
        source: str,
        out_channels: int,
        *,
        weight: Array | None = None,
        bias: Array | bool | None = True,
        flatten: bool = True,
    ) -> str:
        """A fully connected layer, with the flattening before it where the input has several axes and asks for it."""
        if flatten and len(self.shape(source)) > 1:
            source = self.flatten(f"{name}.flatten", source)
        return self.add(
            OperationKind.LINEAR,
            name,
            [source],
            weight=self._values(name, "weights", weight, (out_channels, self.shape(source)[-1])),
            bias=self._bias(name, bias, out_channels),
        )

    def pool(
        self,
        name: str,
        source: str,
        kind: OperationKind,
        kernel: Pair,
        stride: Pair,
        padding: Pair = (0, 0),
        *,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
    ) -> str:
        """Maximum or average pooling."""
        attributes: dict[str, Any] = {"kernel": kernel, "stride": stride, "padding": padding, "ceil_mode": ceil_mode}
        if kind is OperationKind.AVERAGE_POOL2D:
            attributes["count_include_pad"] = count_include_pad
        return self.add(kind, name, [source], attributes)

    def global_average_pool(self, name: str, source: str) -> str:
        """The mean of every channel, [channels, 1, 1]."""
        return self.add(OperationKind.GLOBAL_AVERAGE_POOL, name, [source], {"output": (1, 1)})

    def activation(self, name: str, source: str, function: str, **attributes: Any) -> str:
        """An activation function."""
        return self.add(OperationKind.ACTIVATION, name, [source], {"function": function, **attributes})

    def identity(self, name: str, source: str) -> str:
        """Something that does nothing in inference."""
        return self.add(OperationKind.IDENTITY, name, [source])

    def flatten(self, name: str, source: str) -> str:
        """All axes but the batch axis into one."""
        return self.add(OperationKind.FLATTEN, name, [source])

    def local_response(self, name: str, source: str, size: int, alpha: float, beta: float, k: float) -> str:
        """Local response normalisation across channels."""
        attributes = {"form": "local_response", "size": size, "alpha": alpha, "beta": beta, "k": k}
        return self.add(OperationKind.NORMALISATION, name, [source], attributes)

    def concat(self, name: str, sources: Sequence[str], axis: int = 1) -> str:
        """Concatenation along an axis, the batch axis being 0."""
        return self.add(OperationKind.CONCAT, name, sources, {"axis": axis})

    def elementwise(self, kind: OperationKind, name: str, sources: Sequence[str]) -> str:
        """ADD or MULTIPLY of inputs of equal shape, or whose shapes broadcast."""
        return self.add(kind, name, sources)

    def other(
        self,
        name: str,
        target: str,
        sources: Sequence[str],
        shape: tuple[int, ...],
        parameters: Mapping[str, Array] | None = None,
    ) -> str:
        """An operation that is not computed here; its parameters are kept as they are, so that nothing is lost."""
        attributes: dict[str, Any] = {"target": target}
        if parameters:
            attributes["parameters"] = tuple(parameters)
            attributes |= {f"parameter_{index}": values for index, values in enumerate(parameters.values())}
        return self.add(OperationKind.OTHER, name, sources, attributes, shape=shape)

    def _values(self, name: str, what: str, given: Array | None, expected: tuple[int, ...]) -> Array:
        if given is None:
            return placeholder(expected)
        if given.shape != expected:
            raise DchwError(
                f"{self.where}: layer {name!r} needs {what} of shape {expected}; got {given.shape}; correct the array"
            )
        return given

    def _bias(self, name: str, given: Array | bool | None, channels: int) -> Array | None:
        if given is None or given is False:
            return None
        return self._values(name, "biases", None if given is True else given, (channels,))
