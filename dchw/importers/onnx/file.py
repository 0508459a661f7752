"""Networks from ONNX files: weights and graph, by the package ``onnx`` alone, no runtime."""

from __future__ import annotations

from pathlib import Path

from dchw.graph.network import Network
from dchw.importers.fold import fold_batch_normalisation
from dchw.importers.onnx import rules, shape_rules  # noqa: F401  (they register themselves)
from dchw.importers.onnx.walk import OnnxWalk
from dchw.quantities import DchwError, FileFormatError


def network_from_onnx(path: str | Path, *, name: str | None = None, fold_normalisation: bool = True) -> Network:
    """The network of an ONNX file (operator set 9 or later), the first axis of every input being the batch.

    Layers bear their weight's name without ``.weight``, or the node's name where the weight has none of its own.
    Raises FileFormatError for a damaged file, DchwError where the package is missing or a size is left open.
    """
    path = Path(path)
    try:
        import onnx
        import onnx.shape_inference
    except ImportError as error:
        raise DchwError(f"{path}: reading ONNX needs the package onnx; pip install dchw[onnx]") from error
    try:
        model = onnx.load(path)
        onnx.checker.check_model(model)
        model = onnx.shape_inference.infer_shapes(model)
    except OSError as error:
        raise DchwError(f"{path}: it cannot be read ({error.strerror or error}); check the path") from error
    except Exception as error:  # onnx, its checker and protobuf each raise errors of their own
        first = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
        raise FileFormatError(f"{path}: expected an ONNX model; it is damaged ({first}); export it again") from error
    graph = OnnxWalk(path, model)
    network = Network(
        name=name or model.graph.name or path.stem,
        operations=tuple(graph.builder.operations),
        notes=tuple(graph.notes),
    )
    return fold_batch_normalisation(network) if fold_normalisation else network
