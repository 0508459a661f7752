"""What the walk knows of layers: their names, which parameter is stored where, and how later nodes change them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from dchw.graph.operations import Array, OperationKind
from dchw.importers.graph_builder import GraphBuilder
from dchw.importers.import_notes import Notes
from dchw.importers.onnx.registry import Attributes, Value


class LayerTable:
    """Names and layers of a graph that grows. ``where`` opens every error message."""

    def __init__(self, where: str) -> None:
        self.builder = GraphBuilder(where)
        self.notes = Notes()
        self.again: Counter[str] = Counter()
        """How often a stored layer is used beyond its first time."""
        self._holders: dict[tuple[Any, ...], str] = {}
        self._arrays: list[Array] = []  # keeps alive what `_holders` names by its place in memory

    def value(self, name: str) -> Value:
        """What stands under a name in the graph."""
        raise NotImplementedError

    def name(self, node: Any, suffix: str = "") -> str:
        """A free name for a node's operation."""
        own = (node.name or next((x for x in node.output if x), "")).strip("/") or node.op_type
        return self.builder.free_name(own + suffix)

    def add(
        self,
        node: Any,
        kind: OperationKind,
        sources: Sequence[str],
        attributes: Attributes | None = None,
        *,
        suffix: str = "",
    ) -> str:
        """Append an operation named after a node."""
        return self.builder.add(kind, self.name(node, suffix), sources, attributes)

    def stored(self, node: Any, array: Array | float, *, suffix: str = ".constant") -> str:
        """Append a constant that the importer made, in just this shape behind a batch axis."""
        attributes = {"value": np.asarray(array, np.float32), "reason": "a constant of the graph, not a parameter"}
        return self.builder.add(OperationKind.CONSTANT, self.name(node, suffix), (), attributes)

    def layer(
        self,
        node: Any,
        kind: OperationKind,
        sources: Sequence[str],
        weight: str,
        array: Array,
        bias: Array | None = None,
        attributes: Attributes | None = None,
        *,
        bias_name: str | None = None,
        layout: Attributes | None = None,
        suffix: str = "",
    ) -> str:
        """Append a layer, named after its weight if that says whose it is; used again, it is stored once."""
        attributes, origin = dict(attributes or {}), self.value(weight)
        assert origin.constant is not None
        name = self._layer_name(node, weight, suffix)
        held = (id(origin.constant), kind, array.shape, array.strides)
        key = (*held, None if bias is None else bias.tobytes())
        holder = self._holders.get(key) or (self._holders.get((*held, "any")) if bias is None else None)
        if holder is not None:
            self.again[holder] += 1
            more: Attributes = {} if bias is not None else {"bias": False}
            return self.builder.add(kind, name, sources, {**attributes, "shares": holder, **more})
        attributes |= {"computed": True} if origin.parameter is None else layout or {}
        usual = weight.removesuffix("weight") + "bias"
        if bias_name is not None and bias_name != usual and bias is not None:
            attributes["bias_parameter"] = bias_name
        self.builder.add(
            kind,
            name,
            sources,
            attributes,
            weight=np.asarray(array, np.float32),
            bias=None if bias is None else np.asarray(bias, np.float32),
            parameter=origin.parameter or weight,
        )
        self._arrays.append(origin.constant)
        self._holders[key] = name
        self._holders.setdefault((*held, "any"), name)
        return name

    def amend_layer(self, operation: str, *, factor: Array | None = None, bias: Array | None = None) -> bool:
        """Multiply what a layer gives by ``factor`` [out], or add ``bias`` [out]; False where that is not possible."""
        op = self.builder.operation(operation)
        if op.weight is None or self.again[operation] or (bias is not None and op.bias is not None):
            return False
        if op.kind in (OperationKind.RECURRENT, OperationKind.EMBEDDING):
            return False
        changes: Attributes = {}
        if factor is not None:
            changes["weight"] = op.weight * factor.reshape(-1, *(1,) * (op.weight.ndim - 1)).astype(np.float32)
            changes["attributes"] = {**op.attributes, "computed": True}
            if op.bias is not None:
                changes["bias"] = op.bias * factor.astype(np.float32)
        if bias is not None:
            changes["bias"] = np.broadcast_to(bias, op.weight.shape[:1]).astype(np.float32)
        self.builder.amend(operation, **changes)
        for key in [key for key, holder in self._holders.items() if holder == operation]:
            del self._holders[key]
        return True

    def _layer_name(self, node: Any, weight: str, suffix: str) -> str:
        if not weight.endswith(".weight") or len(weight) == len(".weight"):
            return self.name(node, suffix)
        return self.builder.free_name(weight.removesuffix(".weight") + suffix)
