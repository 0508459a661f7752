"""Geometry of a checkpoint's layers from another file: an ONNX file of the same network, or JSON."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from dchw.graph.geometry import Geometry
from dchw.graph.operations import CONVOLUTIONS
from dchw.importers.onnx.file import network_from_onnx
from dchw.importers.onnx.inputs import InputShapes
from dchw.quantities import DchwError


def geometry_from_onnx(path: str | Path, *, input_shape: InputShapes = None) -> dict[str, Geometry]:
    """Geometry of every convolution of an ONNX file, by its parameter's name without ``.weight``.

    ``input_shape`` as in `dchw.importers.onnx.file.network_from_onnx`.
    """
    network = network_from_onnx(path, fold_normalisation=False, input_shape=input_shape)
    turned = {op.name for op in network.operations if "origin" in op.attributes or "computed" in op.attributes}
    return {
        layer.parameter.removesuffix(".weight"): layer.geometry
        for layer in network.layers
        if layer.kind in CONVOLUTIONS and layer.name not in turned
    }


def geometry_from_json(path: str | Path | None) -> dict[str, Any]:
    """The mapping of a JSON file: layer -> ``in_size`` and, where not 1 or 0, ``stride``, ``padding``, ``groups``."""
    try:
        found = json.loads(Path(str(path)).read_text(encoding="utf-8"))
    except OSError as error:
        raise DchwError(f"{path}: it cannot be read ({error.strerror or error}); check the path") from error
    except ValueError as error:
        raise DchwError(f"{path}: expected JSON, layer -> geometry; got otherwise ({error}); correct it") from error
    if not isinstance(found, dict) or not all(isinstance(value, dict) for value in found.values()):
        raise DchwError(f"{path}: expected JSON, layer -> geometry; got other JSON; correct it")
    return found
