"""Which nodes of a graph its outputs depend on, and which parameters none of those reads."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from dchw.graph.coverage import LeftOut
from dchw.importers.onnx.constants import is_parameter, parameters_of


def needed(nodes: Sequence[Any], wanted: Iterable[str]) -> list[Any]:
    """Of nodes in their order, those that the wanted names depend on."""
    names, kept = set(wanted), []
    for node in reversed(nodes):
        if any(name and name in names for name in node.output):
            kept.append(node)
            names.update(_read_by(node))
    return kept[::-1]


def needed_in(graph: Any) -> list[Any]:
    """The nodes that the outputs of a graph, or of a body, depend on."""
    return needed(graph.node, [one.name for one in graph.output])


def left_out(graph: Any) -> list[LeftOut]:
    """Parameters of a graph that its outputs do not depend on: arrays that nothing reads, and those of idle nodes."""
    read = {one.name for one in graph.output}.union(*map(_read_by, needed_in(graph)))
    arrays = [tensor for tensor in graph.initializer if is_parameter(tensor)]
    found = {tensor.name: math.prod(tensor.dims) for tensor in arrays if tensor.name not in read}
    sparse = [one for one in graph.sparse_initializer if is_parameter(one.values)]
    found |= {one.values.name: math.prod(one.dims) for one in sparse if one.values.name not in read}
    idle = [node for node in graph.node if not read.intersection(filter(None, node.output))]
    found |= {next(filter(None, node.output), node.op_type): parameters_of(node) for node in idle}
    why = "no output of the graph depends on it"
    return [LeftOut(name=name, parameters=size, reason=why) for name, size in found.items() if size]


def _read_by(node: Any) -> Iterator[str]:
    """Names that a node reads, those included that its bodies take from around it."""
    yield from node.input
    for body in (attribute.g for attribute in node.attribute if attribute.HasField("g")):
        yield from (one.name for one in body.output)
        for inner in needed_in(body):
            yield from _read_by(inner)
