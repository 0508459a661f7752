"""Variables of a TFLite graph, as streaming networks have them, made inputs and outputs."""

from __future__ import annotations

import dataclasses

from dchw.importers.tflite.flatbuffer import Graph, Operator

_HANDLE, _READ, _WRITTEN, _START = "VAR_HANDLE", "READ_VARIABLE", "ASSIGN_VARIABLE", "CALL_ONCE"


def stateless(graph: Graph) -> Graph:
    """The same graph with what it reads of its variables as further inputs and what it leaves in them as outputs.

    One inference then reads and writes its state as the file's does; that a runtime sets it to begin with is left out.
    """
    if not any(operator.kind == _HANDLE for operator in graph.operators):
        return graph
    variables: dict[int, str] = {}
    present: dict[str, int] = {}
    written: set[str] = set()
    renamed: dict[int, int] = {}
    inputs, kept = [*graph.inputs], []
    for operator in graph.operators:
        if operator.kind == _HANDLE:
            variables[operator.outputs[0]] = repr(operator.options.get("SharedName") or operator.outputs[0])
        elif operator.kind == _READ and operator.inputs[0] in variables:
            variable, number = variables[operator.inputs[0]], operator.outputs[0]
            if variable not in present:
                present[variable] = number
                inputs.append(number)
            renamed[number] = present[variable]
        elif operator.kind == _WRITTEN and operator.inputs[0] in variables:
            variable = variables[operator.inputs[0]]
            present[variable] = renamed.get(operator.inputs[1], operator.inputs[1])
            written.add(variable)
        elif operator.kind != _START:
            kept.append(_reading(operator, renamed))
    outputs = [renamed.get(number, number) for number in graph.outputs]
    left = [number for variable, number in present.items() if variable in written]
    return dataclasses.replace(
        graph,
        operators=tuple(kept),
        inputs=tuple(inputs),
        outputs=(*outputs, *left),
        variables=len(set(variables.values())),
    )


def _reading(operator: Operator, renamed: dict[int, int]) -> Operator:
    return dataclasses.replace(operator, inputs=tuple(renamed.get(number, number) for number in operator.inputs))
