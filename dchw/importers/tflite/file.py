"""Networks from TFLite files: float ones and quantised ones, by the schema alone, no runtime."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from dchw.extras import extras_named
from dchw.graph.network import Network
from dchw.importers.onnx import file as onnx_file  # noqa: F401  (registers the rules of ONNX operators)
from dchw.importers.onnx.inputs import GraphInput
from dchw.importers.onnx.liveness import needed
from dchw.importers.onnx.walk import OnnxWalk
from dchw.importers.tflite import rules  # noqa: F401  (they register themselves)
from dchw.importers.tflite.flatbuffer import FAULTS, Graph, read_graph
from dchw.importers.tflite.state import stateless
from dchw.importers.tflite.translate import Translation
from dchw.quantities import FileFormatError

_OPERATOR_SET = 18
_ELEMENTS = {"FLOAT32": 1, "UINT8": 2, "INT8": 3, "INT16": 5, "INT32": 6, "INT64": 7, "BOOL": 9}


def network_from_tflite(path: str | Path, *, name: str | None = None) -> Network:
    """The network of a TFLite file, of its first graph, with the sizes that the file holds.

    Quantised weights are dequantised, which the network's notes say. Activations are real values, rounded to the steps
    of the file's scales; quantised inputs are given as real values too. Channels come first, as everywhere here.

    Raises
    ------
    FileFormatError
        For a damaged file.
    DchwError
        Where the packages ``tflite`` or ``onnx`` are missing, or the graph cannot be read.
    """
    path = Path(path)
    graph = read_graph(path)
    with extras_named(str(path), "tflite"):
        import onnx  # noqa: F401
    try:
        graph = stateless(graph)
        translation = Translation(graph)
        model = _model(graph, translation)
    except FAULTS as error:
        text = " ".join(str(error).split())[:300] or type(error).__name__
        raise FileFormatError(f"{path}: {text}; check the file") from error
    tensors = [graph.tensors[number] for number in graph.inputs]
    inputs = [
        GraphInput(name=tensor.name, dtype=1 if tensor.quantised else _ELEMENTS[tensor.kind], sizes=tensor.shape)
        for tensor in tensors
    ]
    sizes = {one.name: tuple(size for size in one.sizes or () if isinstance(size, int)) for one in inputs}
    walk = OnnxWalk(str(path), model, inputs, dict(sizes), declared=translation.declared)
    notes = walk.notes
    if any(tensor.quantised and tensor.data is not None for tensor in graph.tensors):
        notes.say("quantised weights are dequantised")
    if graph.variables:
        notes.say(f"{graph.variables} variables, which it keeps from one inference to the next, are inputs and outputs")
    if any(tensor.quantised for tensor in tensors):
        notes.say("inputs are real values, which the file's scales round")
    return Network(
        name=name or graph.name,
        operations=tuple(walk.builder.operations),
        notes=notes.lines(),
        left_out=walk.left_out,
        inner_outputs=walk.inner_outputs,
    )


def _model(graph: Graph, translation: Translation) -> Any:
    from onnx import ValueInfoProto
    from onnx.helper import make_graph, make_model, make_opsetid
    from onnx.numpy_helper import from_array

    ends = [ValueInfoProto(name=translation.get(number)) for number in graph.outputs]
    constants = [from_array(array, key) for key, array in translation.constants.items()]
    body = make_graph(needed(translation.nodes, [end.name for end in ends]), graph.name, [], ends, constants)
    imports = [make_opsetid("", _OPERATOR_SET), make_opsetid("tflite", 1)]
    return make_model(body, opset_imports=imports)
