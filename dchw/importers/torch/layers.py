"""What the walk knows of layers: their names, which parameter is stored where, and how a weight lies in it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import torch
from torch import fx, nn

from dchw.graph.operations import OperationKind
from dchw.importers.graph_builder import GraphBuilder
from dchw.importers.import_notes import Notes
from dchw.importers.torch.aten import identity_of, target_of
from dchw.importers.torch.registry import Constant, Layout, Result

_COMPUTED = "weights that are computed from others, which state_dict leaves out"


class ModuleLayers:
    """Names and layers of a graph that grows out of a module."""

    def __init__(self, name: str, module: nn.Module) -> None:
        self.name = name
        self.builder = GraphBuilder(f"module {name}")
        self.notes = Notes()
        self.again: Counter[str] = Counter()
        """How often a stored layer is used beyond its first time."""
        self.learned = dict(module.named_parameters(remove_duplicate=False))
        """The module's parameters by name."""
        self.state = {**self.learned, **dict(module.named_buffers(remove_duplicate=False))}
        """Its parameters and buffers by name."""
        self._modules = dict(module.named_modules(remove_duplicate=False))
        self._holders: dict[tuple[Any, ...], tuple[str | None, Any]] = {}
        self._tables: dict[tuple[Any, ...], str] = {}

    def operand(self, node: fx.Node, argument: Any) -> Result:
        """The name of an operation that gives an argument's value; constants become operations of their own."""
        raise NotImplementedError

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
        unique = self.builder.free_name((name or self.path_name(node)) + suffix)
        return Result(self.builder.add(kind, unique, inputs, attributes, **fields))

    def layer(
        self,
        node: fx.Node,
        kind: OperationKind,
        source: str | Sequence[str],
        weight: Constant,
        bias: Constant | None,
        attributes: dict[str, Any] | None = None,
        *,
        layout: Layout | None = None,
    ) -> Result:
        """Append a layer, named after the module or parameter that owns its weight; used again, it is stored once."""
        attributes = dict(attributes or {})
        sources = [source] if isinstance(source, str) else list(source)
        name, parameter = self._owner(node, weight)
        key = (kind, identity_of(weight.tensor), layout)
        holder, held_bias = self._holders.get(key, (None, None))
        added = None if bias is None else identity_of(bias.tensor)
        if holder is not None and (bias is None or held_bias == added or kind is not OperationKind.RECURRENT):
            self.again[holder] += 1
            attributes |= {"shares": holder} | ({} if held_bias == added else {"bias": False})
            made = self.emit(node, kind, sources, attributes, name=name, parameter=parameter)
            if bias is None or held_bias == added:
                return made
            axes = len(self.builder.shape(made)) - 1 if kind is not OperationKind.LINEAR else 0
            offset = Constant(bias.tensor.reshape(-1, *(1,) * axes), bias.origins)
            return self.emit(node, OperationKind.ADD, [made, self.operand(node, offset)], suffix=".add")
        tensor = weight.tensor if layout is None else layout.of(weight.tensor)
        original = self.state.get(parameter or "")
        placed = self._place_in_parameter(kind, tensor, original) if layout is None else {}
        if layout is not None:
            whole = original is not None and identity_of(weight.tensor) == identity_of(original)
            placed = {"origin": layout.back(weight.tensor)} if whole else {"computed": True}
        attributes |= placed
        if "computed" in placed:
            origins = " and ".join(weight.origins) or "constants"
            self.notes.about(_COMPUTED, f"{name} from {origins}")
        elif bias is not None and len(bias.origins) == 1:
            usual = str(parameter).removesuffix("weight") + "bias"
            if usual not in self.state:
                attributes["bias_parameter"] = bias.origins[0]
        unique = self.emit(
            node,
            kind,
            sources,
            attributes,
            name=name,
            weight=tensor.float().numpy(),
            bias=None if bias is None else bias.tensor.float().reshape(-1).numpy(),
            parameter=parameter,
        )
        self._holders[key] = (unique, added)
        table = self._tables.pop(key[1], None) if layout is None else None
        if table is not None:  # an embedding that was looked up before this layer, with the same parameter
            self.builder.amend(table, attributes={"shares": unique}, parameter=None)
            self.again[unique] += 1
        return unique

    def table(self, node: fx.Node, source: str, weight: Constant) -> Result:
        """Append an embedding, or a second use of a table or of a layer's weights."""
        name, parameter = self._owner(node, weight)
        key = identity_of(weight.tensor)
        holder = self._holders.get((OperationKind.LINEAR, key, None), (None, None))[0]
        if holder is not None:
            self.again[holder] += 1
            return self.emit(node, OperationKind.EMBEDDING, [source], {"shares": holder}, name=name)
        values = weight.tensor.float().numpy()
        unique = self.emit(node, OperationKind.EMBEDDING, [source], {"table": values}, name=name, parameter=parameter)
        self._tables[key] = unique
        return unique

    def path_name(self, node: fx.Node) -> str:
        """The module's path if it is a leaf, otherwise the path with the operation's name behind it."""
        path = self._path(node)
        module = self._modules.get(path)
        if path and module is not None and not list(module.children()):
            return path
        return ".".join(part for part in (path, target_of(node)) if part)

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

    def _owner(self, node: fx.Node, weight: Constant) -> tuple[str, str | None]:
        """Name of a layer, and the parameter its weight is (None: computed from several)."""
        path = self._path(node)
        own = getattr(self._modules.get(path), "weight", None)
        if isinstance(own, torch.Tensor) and own.data_ptr() == weight.tensor.data_ptr():
            return path or "weight", f"{path}.weight" if path else "weight"
        learned = [origin for origin in weight.origins if origin in self.learned] or list(weight.origins)
        if len(learned) == 1:
            return learned[0].removesuffix(".weight"), learned[0]
        return self.path_name(node), None

    def _path(self, node: fx.Node) -> str:
        stack = [v for k, v in node.meta.get("nn_module_stack", {}).items() if not k.startswith("_empty")]
        return str(stack[-1][0]).split("@")[0] if stack else ""


def _same(a: torch.Tensor, b: torch.Tensor) -> bool:
    return a.data_ptr() == b.data_ptr() and a.shape == b.shape and a.stride() == b.stride()
