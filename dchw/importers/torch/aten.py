"""ATen operations as an exported program has them: names, arguments, what they change or may be a view of."""

from __future__ import annotations

from typing import Any

import torch
from torch import fx

from dchw.quantities import DchwError


def target_of(node: fx.Node) -> str:
    """torch's name of an operation, without name space, overload and in-place mark: ``conv2d``."""
    schema = getattr(node.target, "_schema", None)
    if schema is None:
        return getattr(node.target, "__name__", str(node.target))
    return str(schema.name).split("::")[-1].rstrip("_")


def arguments_of(node: fx.Node) -> dict[str, Any]:
    """A node's arguments by name, defaults included."""
    schema = getattr(node.target, "_schema", None)
    if schema is None:
        raise DchwError(f"operation {node.name}: no schema for {node.target}; report it with the module")
    given = dict(zip((a.name for a in schema.arguments), node.args, strict=False)) | dict(node.kwargs)
    return {a.name: given.get(a.name, a.default_value if a.has_default_value() else None) for a in schema.arguments}


def tensors_of(value: Any) -> list[torch.Tensor]:
    """The tensors that a node gives, of the value recorded for it."""
    return [value] if isinstance(value, torch.Tensor) else [x for x in value if isinstance(x, torch.Tensor)]


def changed_by(node: fx.Node) -> list[fx.Node]:
    """The nodes whose value an operation changes in place: its argument, and what that changed in place before."""
    schema, changed = getattr(node.target, "_schema", None), []
    while schema is not None and schema.arguments and node.args and isinstance(node.args[0], fx.Node):
        info = schema.arguments[0].alias_info
        if info is None or not info.is_write or _leaves_alone(node):
            break
        node = node.args[0]
        changed.append(node)
        schema = getattr(node.target, "_schema", None)
    return changed


def _leaves_alone(node: fx.Node) -> bool:
    """Whether it is dropout in inference, which writes what is there already."""
    return target_of(node) in _DROPOUT and not arguments_of(node).get("train", True)


_DROPOUT = ("dropout", "feature_dropout", "alpha_dropout", "feature_alpha_dropout")


def aliases(node: fx.Node) -> bool:
    """Whether an operation may give another view of its argument's memory."""
    schema = getattr(node.target, "_schema", None)
    if schema is None:
        return True
    if any(argument.alias_info is not None and argument.alias_info.is_write for argument in schema.arguments):
        return _leaves_alone(node)
    return target_of(node) in _MAY_ALIAS or any(value.alias_info is not None for value in schema.returns)


_MAY_ALIAS = ("reshape", "flatten", "contiguous", "to", "dropout", "feature_dropout", "unflatten", "squeeze", "type_as")
"""Operations that give a view or a copy, as they see fit, or their argument itself."""


def identity_of(tensor: torch.Tensor) -> tuple[Any, ...]:
    """Equal for tensors that are the same values in the same place."""
    return tensor.data_ptr(), tuple(tensor.shape), tensor.stride()


FILLED = ("zeros", "ones", "full", "new_zeros", "new_ones", "new_full", "zeros_like", "ones_like", "full_like")
"""Operations that give one value, whose batch axis can be made 1; what they are called on gives only type and sizes."""


def depends_on_inputs(program: torch.export.ExportedProgram) -> set[fx.Node]:
    """The nodes whose value differs with the values of the program's inputs."""
    inputs, found = set(program.graph_signature.user_inputs), set()
    for node in program.graph.nodes:
        given = node.op == "placeholder" and node.name in inputs
        if given or (any(x in found for x in node.all_input_nodes) and target_of(node) not in FILLED):
            found.add(node)
    return found
